// A whole shop on the merchant's agent, with Node 20 alone: order page, payment, delivery, signed call-backs, a say about stock.
//   HANBIT_KEYS=./shop-keys node shop.mjs          then open http://shop.localhost:3000; docs/guide/merchant.md sets it up
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'

const { HANBIT_KEYS = 'shop-keys', HANBIT_AGENT = 'http://127.0.0.1:8405' } = process.env
const { SHOP_URL = 'http://shop.localhost:3000', SHOP_PORT = '3000', SHOP_BOOK = 'shop-book.json', SHOP_STOCK = '20' } = process.env
const PRICE = 1200, WAIT_S = 10, BODY_MAX = 256 * 1024
const [STYLE, TEXTS] = ['../shop.css', '../words.json'].map(name => readFileSync(new URL(name, import.meta.url), 'utf8'))
const WORDS = JSON.parse(TEXTS), STYLE_HASH = createHash('sha256').update(STYLE).digest('base64')
const HEADERS = {
  'Content-Security-Policy': `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'`,
  'Content-Type': 'text/html; charset=utf-8', 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store',
}
const secret = name => readFileSync(`${HANBIT_KEYS}/${name}`, 'utf8').trim()
const code = () => randomBytes(16).toString('base64url')
const refuse = (status, why, problem = '') => Object.assign(new Error(why), { status, problem })

// The agent's API. A write carries a key of its own, so that sending it once more after a lost answer does nothing twice.
async function agent(method, path, body, key) {
  const headers = { Authorization: `Bearer ${secret('agent.token')}`, ...(body && { 'Content-Type': 'application/json', 'Idempotency-Key': key }) }
  for (let tries = 1; ; tries++) {
    const options = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout((WAIT_S + 5) * 1000) }
    const answer = await fetch(HANBIT_AGENT + path, options).catch(() => null)
    if (answer?.ok) return answer.json()
    if (tries === 3 || (answer && !answer.headers.has('Retry-After'))) throw refuse(503, 'unavailable', await answer?.text())
    await pause(1000)
  }
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
  const { redirect } = await agent('POST', '/orders', order, `${customer}.${key}.${quantity}.${say.lang}`)
  return { status: 303, headers: { Location: redirect } }
}

// An address proves nothing: the order must be this browser's own, and the agent alone knows what became of it.
async function ownOrder({ customer, query }, wait = 0) {
  const { orders } = customer ? await agent('GET', `/orders?limit=100&owner=${customer}`) : { orders: [] }
  const own = orders.find(order => order.tid === query.get('TID'))
  if (!own) throw refuse(404, 'unknown')
  return agent('GET', `/orders/${own.tid}?wait=${wait}`)
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
  return { headers: { 'Content-Type': 'text/plain; charset=utf-8', 'Content-Disposition': 'attachment; filename="arirang.txt"' }, body: visit.say.goods }
}

// Standard Webhooks: the signature is over id, time and body; what is older than five minutes is somebody's copy.
function signed({ 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signatures = '' }, body) {
  const keys = secret('callbacks/shop.secret').split(/\s+/).map(text => Buffer.from(text.slice('whsec_'.length), 'base64'))
  const right = keys.map(key => createHmac('sha256', key).update(`${id}.${at}.${body}`).digest())
  const given = signatures.split(' ').filter(one => one.startsWith('v1,')).map(one => Buffer.from(one.slice(3), 'base64'))
  const equal = given.some(one => right.some(mac => one.length === mac.length && timingSafeEqual(one, mac)))
  return equal && Math.abs(Date.now() / 1000 - at) <= 300
}

// The stock is what no order holds. The book has each order once, with the last event about it: what comes twice changes nothing.
function callBack({ headers, body }) {
  if (!signed(headers, body)) throw refuse(401, 'unreadable')
  const { type, sequence = 0, data: { tid, state, lines } } = JSON.parse(body), units = lines?.[0].quantity
  const book = existsSync(SHOP_BOOK) ? JSON.parse(readFileSync(SHOP_BOOK, 'utf8')) : {}
  const held = Object.values(book).reduce((sum, one) => sum + (['held', 'settled'].includes(one.state) && one.units), 0)
  const asks = type === 'order.confirm', news = asks ? !book[tid] && held + units <= SHOP_STOCK : tid && !(sequence <= book[tid]?.sequence)
  if (news) book[tid] = { units, state: asks ? 'held' : state, sequence }
  if (news) writeFileSync(`${SHOP_BOOK}.new`, JSON.stringify(book)), renameSync(`${SHOP_BOOK}.new`, SHOP_BOOK)
  const yes = { confirm: true }, no = { confirm: false, message: { ko: WORDS.ko.soldOut, en: WORDS.en.soldOut } }
  return asks ? { body: JSON.stringify(book[tid]?.state === 'held' ? yes : no) } : { status: 204 }
}

const ROUTES = { 'GET /': orderPage, 'POST /orders': placeOrder, 'GET /return': orderState, 'GET /download': download, 'POST /hanbit': callBack }
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
    if (status >= 500) console.error(message, problem)
    const content = html`<p>${say.errors[message] ?? say.errors.unavailable}<p><a href="/">${say.again}</a>`
    response.writeHead(status, HEADERS).end(page(say, say.errors.title, content))
  }
}).listen(SHOP_PORT, '127.0.0.1', () => console.log(`the shop is at ${SHOP_URL}`))
