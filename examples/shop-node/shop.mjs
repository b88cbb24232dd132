// A whole shop on the merchant's agent, with Node 20 alone: order page, payment, delivery, call-backs, stock, staff.
//   HANBIT_KEYS=./shop-keys node shop.mjs          then open http://shop.localhost:3000; docs/guide/merchant.md sets it up
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'

const { HANBIT_KEYS = 'shop-keys', HANBIT_AGENT = 'http://127.0.0.1:8405', SHOP_URL = 'http://shop.localhost:3000' } = process.env
const { SHOP_PORT = '3000', SHOP_BOOK = 'shop-book.json', SHOP_STAFF = 'staff.token', SHOP_STOCK = '20' } = process.env
const PRICE = 1200, WAIT_S = 10, BODY_MAX = 256 * 1024
const read = path => readFileSync(path, 'utf8').trim(), code = () => randomBytes(16).toString('base64url')
const sha256 = text => createHash('sha256').update(text).digest()
const equal = (one, other) => timingSafeEqual(sha256(one), sha256(other)) // takes the same time whatever the two are
const near = name => read(new URL(name, import.meta.url)), STYLE = near('../shop.css'), WORDS = JSON.parse(near('../words.json'))
const POLICY = `default-src 'none'; style-src 'sha256-${sha256(STYLE).toString('base64')}'; base-uri 'none'; frame-ancestors 'none'`
const PAGE = { 'Content-Type': 'text/html; charset=utf-8', 'Content-Security-Policy': POLICY }
const HEADERS = { ...PAGE, 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store' }
const refuse = (status, why, problem = '') => Object.assign(new Error(why), { status, problem })

// The agent's API. A write carries a key of its own, so that sending it once more after a lost answer does nothing twice.
async function agent(method, path, body, key = '', tries = 3) {
  const token = read(`${HANBIT_KEYS}/agent.token`), signal = AbortSignal.timeout((WAIT_S + 5) * 1000)
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', 'Idempotency-Key': key }
  const answer = await fetch(HANBIT_AGENT + path, { method, headers, body: body && JSON.stringify(body), signal }).catch(() => null)
  if (answer?.ok) return answer.json()
  if (tries === 1 || answer?.headers.has('Retry-After') === false) throw refuse(answer?.status ?? 503, 'unavailable', await answer?.text())
  await new Promise(done => setTimeout(done, 1000))
  return agent(method, path, body, key, tries - 1)
}
const escaped = text => String(text).replace(/[&<>"']/g, sign => `&#${sign.charCodeAt()};`)
const html = (parts, ...values) => ({ html: parts.reduce((all, part, i) => all + (values[i - 1].html ?? escaped(values[i - 1])) + part) })
const won = (say, amount) => say.won.replace('{}', Number(amount).toLocaleString('en'))
const page = (say, title, content) => html`<!doctype html><html lang="${say.lang}"><meta charset="utf-8"><title>${title}</title>
  <meta name="viewport" content="width=device-width"><style>${{ html: STYLE }}</style>
  <header><a href="/">${say.shop}</a> <a href="/?lang=${say.other}" lang="${say.other}">${say.otherName}</a></header>
  <main><h1>${title}</h1>${content}</main></html>`.html
function orderPage({ say, customer = code() }) {
  const cookies = Object.entries({ customer, lang: say.lang }).map(([name, value]) => `${name}=${value}; Path=/; HttpOnly; SameSite=Lax`)
  const form = html`<form method="post" action="/orders"><input type="hidden" name="key" value="${code()}">
    <dl><dt>${say.itemLabel}<dd>${say.item}<dt><label for="quantity">${say.quantity}</label>
    <dd><select id="quantity" name="quantity"><option>1<option>2<option>3</select><dt>${say.price}<dd>${won(say, PRICE)}</dl>
    <p>${say.note}<p><button>${say.ok}</button> <a href="/">${say.cancel}</a></form>`
  return { headers: { 'Set-Cookie': cookies }, body: page(say, say.order, form) }
}

// A second way to pay begins here: the order stays the same, only what the browser is told to do next is another.
async function placeOrder({ say, customer, body }) {
  const { quantity, key } = Object.fromEntries(new URLSearchParams(body))
  if (!customer || !/^[1-3]$/.test(quantity) || !/^[\w-]{22}$/.test(key)) throw refuse(400, 'unreadable')
  const lines = [{ item: 'arirang', quantity: Number(quantity), price_minor: PRICE }], amount = String(quantity * PRICE)
  const order = { lines, amount, currency: 'KRW', text: say.item, language: say.lang, owner: customer, return_url: `${SHOP_URL}/return` }
  const placed = await agent('POST', '/orders', order, `${customer}.${key}.${quantity}.${say.lang}`)
  return { status: 303, headers: { Location: placed.redirect } }
}

// An address proves nothing: the order must be this browser's own, and the agent alone knows what became of it.
async function ownOrder({ customer, query }, wait = 0) {
  const { orders } = customer ? await agent('GET', `/orders?limit=100&owner=${customer}`) : { orders: [] }
  if (!orders.some(order => order.tid === query.get('TID'))) throw refuse(404, 'unknown')
  return agent('GET', `/orders/${query.get('TID')}?wait=${wait}`)
}
async function orderState(visit) {
  const order = await ownOrder(visit, WAIT_S), { say } = visit
  const [path, text] = order.can.includes('deliver') ? ['/download', say.download] : order.final ? ['/', say.again] : ['/return', say.look]
  return { body: page(say, say.states[order.state], html`<p id="state" data-state="${order.state}">${say.texts[order.state]}
    <dl><dt>${say.itemLabel}<dd>${order.text} × ${order.lines[0].quantity}<dt>${say.price}<dd>${won(say, order.amount)}
    <dt>${say.number}<dd>${order.tid}</dl><p><a class="button" href="${path}?TID=${order.tid}">${text}</a>`) }
}
async function download(visit) {
  if (!(await ownOrder(visit)).can.includes('deliver')) throw refuse(403, 'unpaid')
  const headers = { 'Content-Type': 'text/plain; charset=utf-8', 'Content-Disposition': 'attachment; filename="arirang.txt"' }
  return { headers, body: visit.say.goods }
}

// Standard Webhooks: the signature is over id, time and body; what is older than five minutes is somebody's copy.
function signed({ 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signatures = '' }, body) {
  const keys = read(`${HANBIT_KEYS}/callbacks/shop.secret`).split(/\s+/).map(text => Buffer.from(text.slice('whsec_'.length), 'base64'))
  const right = keys.map(key => 'v1,' + createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64'))
  return Math.abs(Date.now() / 1000 - at) <= 300 && signatures.split(' ').some(one => right.some(mac => equal(one, mac)))
}

// The stock is what no order holds. The book has each order once, with the last event about it: what comes twice changes nothing.
function callBack({ headers, body }) {
  if (!signed(headers, body)) throw refuse(401, 'unreadable')
  const { type, sequence = 0, data: { tid, state, lines } } = JSON.parse(body), units = lines?.[0].quantity
  const book = existsSync(SHOP_BOOK) ? JSON.parse(read(SHOP_BOOK)) : {}
  const held = Object.values(book).reduce((sum, one) => sum + (['held', 'settled'].includes(one.state) && one.units), 0)
  const asks = type === 'order.confirm'
  const news = asks ? !book[tid] && held + units <= SHOP_STOCK : tid && !(sequence <= book[tid]?.sequence)
  if (news) book[tid] = { units, state: asks ? 'held' : state, sequence }
  if (news) writeFileSync(`${SHOP_BOOK}.new`, JSON.stringify(book)), renameSync(`${SHOP_BOOK}.new`, SHOP_BOOK)
  const confirm = book[tid]?.state === 'held', message = { ko: WORDS.ko.soldOut, en: WORDS.en.soldOut }
  return asks ? { body: JSON.stringify(confirm ? { confirm } : { confirm, message }) } : { status: 204 }
}

// Staff cancel with their token: before the payment nothing is taken, after it the money goes back. Only `confirmed` is a fact.
async function cancel({ headers: { authorization = '' }, query }) {
  if (!existsSync(SHOP_STAFF) || !equal(authorization, `Bearer ${read(SHOP_STAFF)}`)) throw refuse(401, 'unreadable')
  const tid = encodeURIComponent(query.get('TID')), wish = { reason: 'cancelled by the shop', goods: false }
  const { cancellation } = await agent('POST', `/orders/${tid}/cancellations`, wish, `cancel.${tid}`)
  return { body: `${cancellation.state}\n` }
}

const ROUTES = { 'GET /': orderPage, 'POST /orders': placeOrder, 'GET /return': orderState, 'GET /download': download,
  'POST /hanbit': callBack, 'POST /staff/cancel': cancel }
createServer(async (request, response) => {
  const { method, url, headers } = request, [path, search] = url.split('?'), query = new URLSearchParams(search)
  const cookie = name => new RegExp(`(?:^|; )${name}=([\\w-]{2,22})(?:;|$)`).exec(headers.cookie)?.[1]
  const language = [query.get('lang'), cookie('lang'), headers['accept-language']?.slice(0, 2)].find(one => Object.hasOwn(WORDS, one))
  const say = WORDS[language ?? 'ko'], visit = { say, query, headers, body: '', customer: cookie('customer') }
  try {
    for await (const part of request.setEncoding('utf8')) if ((visit.body += part).length > BODY_MAX) throw refuse(413, 'unreadable')
    if (!ROUTES[`${method} ${path}`]) throw refuse(404, 'unknown')
    const answer = await ROUTES[`${method} ${path}`](visit)
    response.writeHead(answer.status ?? 200, { ...HEADERS, ...answer.headers }).end(answer.body)
  } catch ({ message, status = 500, problem }) {
    if (status >= 500 || problem) console.error(message, problem)
    response.writeHead(status, HEADERS).end(page(say, say.errors.title, html`<p>${say.errors[message] ?? say.errors.unavailable}`))
  }
}).listen(SHOP_PORT, '127.0.0.1', () => console.log(`the shop is at ${SHOP_URL}`))
