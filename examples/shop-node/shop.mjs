// A whole shop on the merchant's agent, with Node 20 alone: order page, payment both ways, delivery, call-backs, stock, staff.
//   HANBIT_KEYS=./shop-keys node shop.mjs          then open http://shop.localhost:3000; docs/guide/merchant.md sets it up
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'

const { HANBIT_KEYS = 'shop-keys', HANBIT_AGENT = 'http://127.0.0.1:8405', SHOP_URL = 'http://shop.localhost:3000' } = process.env
const { SHOP_PORT = '3000', SHOP_BOOK = 'shop-book.json', SHOP_STAFF = 'staff.token', SHOP_STOCK = '20' } = process.env
const PRICE = 1200, WAIT_S = 10, BODY_MAX = 512 * 1024
const read = path => readFileSync(path, 'utf8').trim(), code = () => randomBytes(16).toString('base64url')
const sha256 = text => createHash('sha256').update(text).digest()
const equal = (one, other) => timingSafeEqual(sha256(one), sha256(other)) // takes the same time whatever the two are
const near = name => read(new URL(name, import.meta.url)), hash = text => `'sha256-${sha256(text).toString('base64')}'`
const STYLE = near('../shop.css'), PROGRAM = near('../order.js'), WORDS = JSON.parse(near('../words.json'))
const POLICY = `default-src 'none'; style-src ${hash(STYLE)}; base-uri 'none'; frame-ancestors 'none'`
const HEADERS = { 'Content-Type': 'text/html; charset=utf-8', 'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-store' }
const refuse = (status, why, problem = '') => Object.assign(new Error(why), { status, problem })

// The agent's API. A write carries a key of its own, so that sending it once more after a lost answer does nothing twice.
async function agent(method, path, body, key = '', tries = 3) {
  const headers = { Authorization: `Bearer ${read(`${HANBIT_KEYS}/agent.token`)}`, 'Content-Type': 'application/json', 'Idempotency-Key': key }
  const signal = AbortSignal.timeout((WAIT_S + 5) * 1000), answer = await fetch(HANBIT_AGENT + path, { method, headers, body, signal }).catch(() => null)
  if (answer?.ok) return answer.json()
  if (tries === 1 || answer?.headers.has('Retry-After') === false) throw refuse(answer?.status ?? 503, 'unavailable', await answer?.text())
  await new Promise(done => setTimeout(done, 1000))
  return agent(method, path, body, key, tries - 1)
}
const escaped = text => String(text).replace(/[&<>"']/g, sign => `&#${sign.charCodeAt()};`)
const fill = (name, values) => near(`../pages/${name}.html`).replace(/{(=?)(\w+)}/g, (_, raw, key) => raw ? values[key] : escaped(values[key]))
const page = (say, title, content) => fill('page', { ...say, style: STYLE, title, content }) // in a template {name} is escaped, {=name} is not
const won = (say, amount) => say.won.replace('{}', Number(amount).toLocaleString('en'))
function orderPage({ say, customer = code() }) {
  const cookies = Object.entries({ customer, lang: say.lang }).map(([name, value]) => `${name}=${value}; Path=/; HttpOnly; SameSite=Lax`)
  return { headers: { 'Set-Cookie': cookies }, body: page(say, say.order, fill('order', { ...say, key: code(), amount: won(say, PRICE) })) }
}

// Both ways to pay begin with the same order: the browser goes to the bank's page, or to the order's own, which has the button.
async function placeOrder({ say, customer, body }) {
  const { quantity, key, way } = Object.fromEntries(new URLSearchParams(body))
  if (!customer || !/^[1-3]$/.test(quantity) || !/^[\w-]{22}$/.test(key)) throw refuse(400, 'unreadable')
  const lines = [{ item: 'arirang', quantity: Number(quantity), price_minor: PRICE }], amount = String(quantity * PRICE)
  const order = { lines, amount, currency: 'KRW', text: say.item, language: say.lang, owner: customer, return_url: `${SHOP_URL}/return` }
  const { tid, redirect } = await agent('POST', '/orders', JSON.stringify(order), `${customer}.${key}.${quantity}.${say.lang}`)
  return { status: 303, headers: { Location: way === 'here' ? `/order?TID=${tid}` : redirect } }
}

// An address proves nothing: the order must be this browser's own, and the agent alone knows what became of it.
async function ownOrder({ customer, query }, wait = 0) {
  const { orders } = customer ? await agent('GET', `/orders?limit=100&owner=${customer}`) : { orders: [] }
  if (!orders.some(order => order.tid === query.get('TID'))) throw refuse(404, 'unknown')
  return agent('GET', `/orders/${query.get('TID')}?wait=${wait}`)
}
// While the order can be paid, its page has the button, and a policy for the bank's script; /return waits for what became of it.
async function orderState(visit) {
  const order = await ownOrder(visit, visit.path === '/return' ? WAIT_S : 0), { say } = visit, { script, redirect } = order.checkout ?? {}
  const [path, next] = order.can.includes('deliver') ? ['/download', say.download] : order.final ? ['/', say.again] : ['/return', say.look]
  const ways = script ? fill('pay', { ...say, ...order, script, redirect, program: PROGRAM }) : ''
  const what = `${order.text} × ${order.lines[0].quantity}`, values = { ...say, ...order, text: say.texts[order.state], what, ways, path, next }
  const body = page(say, say.states[order.state], fill('state', { ...values, paid: won(say, order.amount) }))
  return { headers: script && { 'Content-Security-Policy': `${POLICY}; script-src ${hash(PROGRAM)} ${script}; connect-src 'self'` }, body }
}
// The button's relay: what the payment window says goes to the agent as it is, and the answer back as it is.
async function relay(visit) {
  const { tid, checkout } = await ownOrder(visit), what = visit.path.slice('/relay'.length)
  const answer = what ? await agent('POST', `/orders/${tid}${what}`, visit.body) : checkout
  if (!answer) throw refuse(409, 'over')
  return { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(answer) }
}
async function download(visit) {
  if (!(await ownOrder(visit)).can.includes('deliver')) throw refuse(403, 'unpaid')
  return { headers: { 'Content-Type': 'text/plain; charset=utf-8', 'Content-Disposition': 'attachment; filename="arirang.txt"' }, body: visit.say.goods }
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
  const { type, sequence = 0, data: { tid, state, lines } } = JSON.parse(body), units = lines?.[0].quantity, asks = type === 'order.confirm'
  const book = existsSync(SHOP_BOOK) ? JSON.parse(read(SHOP_BOOK)) : {}
  const held = Object.values(book).reduce((sum, one) => sum + (['held', 'settled'].includes(one.state) && one.units), 0)
  const news = asks ? !book[tid] && held + units <= SHOP_STOCK : tid && !(sequence <= book[tid]?.sequence)
  if (news) book[tid] = { units, state: asks ? 'held' : state, sequence }
  if (news) writeFileSync(`${SHOP_BOOK}.new`, JSON.stringify(book)), renameSync(`${SHOP_BOOK}.new`, SHOP_BOOK)
  const confirm = book[tid]?.state === 'held', message = { ko: WORDS.ko.soldOut, en: WORDS.en.soldOut }
  return asks ? { body: JSON.stringify(confirm ? { confirm } : { confirm, message }) } : { status: 204 }
}

// Staff cancel with their token: before the payment nothing is taken, after it the money goes back. Only `confirmed` is a fact.
async function cancel({ headers: { authorization = '' }, query }) {
  if (!existsSync(SHOP_STAFF) || !equal(authorization, `Bearer ${read(SHOP_STAFF)}`)) throw refuse(401, 'unreadable')
  const tid = encodeURIComponent(query.get('TID')), wish = JSON.stringify({ reason: 'cancelled by the shop', goods: false })
  const { cancellation } = await agent('POST', `/orders/${tid}/cancellations`, wish, `cancel.${tid}`)
  return { body: `${cancellation.state}\n` }
}

const ROUTES = { 'GET /': orderPage, 'POST /orders': placeOrder, 'GET /order': orderState, 'GET /return': orderState, 'GET /download': download,
  'GET /relay': relay, 'POST /relay/sessions': relay, 'POST /relay/purchases': relay, 'POST /hanbit': callBack, 'POST /staff/cancel': cancel }
createServer(async (request, response) => {
  const { method, url, headers } = request, [path, search] = url.replace(/^\/hanbit\/([\w-]+)([^?]*)/, '/relay$2?TID=$1').split('?')
  const query = new URLSearchParams(search), cookie = name => new RegExp(`(?:^|; )${name}=([\\w-]{2,22})(?:;|$)`).exec(headers.cookie)?.[1]
  const language = [query.get('lang'), cookie('lang'), headers['accept-language']?.slice(0, 2)].find(one => Object.hasOwn(WORDS, one))
  const say = WORDS[language ?? 'ko'], visit = { say, path, query, headers, body: '', customer: cookie('customer') }
  try {
    for await (const part of request.setEncoding('utf8')) if ((visit.body += part).length > BODY_MAX) throw refuse(413, 'unreadable')
    if (!ROUTES[`${method} ${path}`]) throw refuse(404, 'unknown')
    const answer = await ROUTES[`${method} ${path}`](visit)
    response.writeHead(answer.status ?? 200, { ...HEADERS, ...answer.headers }).end(answer.body)
  } catch ({ message, status = 500, problem }) {
    if (status >= 500 || problem) console.error(message, problem)
    response.writeHead(status, HEADERS).end(page(say, say.errors.title, `<p>${say.errors[message] ?? say.errors.unavailable}`))
  }
}).listen(SHOP_PORT, '127.0.0.1', () => console.log(`the shop is at ${SHOP_URL}`))
