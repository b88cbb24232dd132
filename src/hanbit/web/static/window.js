/* The payment window: the dual-signature checkout beside a shop's page, which carries messages and sees nothing of what is typed.
 *
 *   D1      the order comes from the page that opened this window; it is believed when its origin is one that the payee has registered
 *   D2, D3  a fresh key is certified by the shop before any password is typed
 *   D4      log in, choose, approve: as in the redirect checkout (`screen.js`); the gateway gives its leave to try once
 *   D5      both halves go back by the shop's page
 *   D8      the receipt, or what the gateway itself says when the shop says something else or nothing
 *
 * Every wait for the shop has a limit and a message of its own. Nothing is kept but in this document: after a reload the shop's page sends
 * the order again, and the gateway says how it stands.
 */

import { must, verifyReceipt } from "./payment-program.js";
import {
  askResult,
  makePurchase,
  preparePurchase,
  purchaseChallenge,
  requestSession,
  verifyLines,
  verifyResult,
  verifySession,
} from "./dual-signature.js";
import {
  act,
  begin,
  byId,
  canSeal,
  close,
  common,
  complain,
  conduct,
  embedded,
  factorValue,
  guardPage,
  html,
  open,
  page,
  post,
  quiet,
  say,
  tell,
} from "./screen.js";

const ORDER_WAIT_MS = 20_000;
const SESSION_WAIT_MS = 20_000;
const PURCHASE_WAIT_MS = 30_000;
const RESULT_WAIT_MS = 60_000;
const RESENDS_MAX = 2;
const POLL_MS = 2_000;
const LOOK_MS = 1_000;
const CLOSE_MS = 4_000;
const SESSION_LEFT_S = 60;
const RESULT_MAX_MS = 20_000;
const TROUBLES = {
  shop_silent: ["program.shop_silent", "program.shop_silent_text"],
  shop_unreachable: ["program.shop_unreachable", "program.shop_unreachable_text"],
  shop_refused: ["program.shop_refused", "program.shop_refused_text"],
  shop_gone: ["program.shop_gone", "program.shop_gone_text"],
  window_stranger: ["program.window_stranger", "program.window_stranger_text"],
  window_alone: ["program.window_alone", "program.window_alone_text"],
};
const PAID = "captured";
const UNDECIDED = "authorized";
const UNKNOWN = "unknown";
const SHOPS_WORDS = /^[^\p{C}]{1,200}$/u;

/** The page that opened this window. Its origin is known once its order has been believed; until then it is told nothing but that we are here. */
const shop = { page: globalThis.opener, origin: null, checkout: null, exponent: 0, questions: new Map(), asked: 0, waiting: 0, stranger: false, gone: false };
/** The session with the shop that is not yet used, and the IDs and nonces of all. */
const kept = { session: null, used: new Set(), verifiedAt: 0, told: false, pending: null, retry: null };

/** The gateway's time: the customer's clock decides nothing. */
const gatewayNow = () => page.verified.claims.iat + Math.floor((performance.now() - kept.verifiedAt) / 1000);
const pause = (length) => new Promise((done) => setTimeout(done, length));
const trouble = (code) => ({ code, title: say(TROUBLES[code][0]), advice: say(TROUBLES[code][1]) });

/* ---- between the two pages ----------------------------------------------------------------------------------------------- */

const send = (kind, body = {}, to = shop.origin) => shop.page.postMessage({ hanbit: 1, kind, ...body }, to);

/** Ask the shop's server by way of its page; what does not come in time, or is refused, is a trouble with words. */
function ask(kind, body, length) {
  if (shop.page.closed) return Promise.reject(trouble("shop_gone"));
  shop.asked += 1;
  const id = shop.asked;
  return new Promise((answered, failed) => {
    const timer = setTimeout(() => {
      shop.questions.delete(id);
      failed(trouble("shop_silent"));
    }, length);
    shop.questions.set(id, { answered, failed, timer });
    send(kind, { id, ...body });
  });
}

function hear({ source, origin, data }) {
  if (source !== shop.page || data?.hanbit !== 1) return;
  if (shop.checkout === null) {
    if (data.kind === "order" && typeof data.answer?.order === "string" && !page.busy) receive(origin, data.answer);
    else if (data.kind === "error" && !page.busy) stop(trouble(data.code === "refused" ? "shop_refused" : "shop_unreachable"), call);
    return;
  }
  const question = shop.questions.get(data.id);
  if (origin !== shop.origin || question === undefined) return;
  shop.questions.delete(data.id);
  clearTimeout(question.timer);
  if (data.kind === "error") question.failed(trouble(data.code === "refused" ? "shop_refused" : "shop_unreachable"));
  else question.answered(data.answer);
}

/** Say that this window is here. It is told to whoever opened it, because it says nothing else. */
function call() {
  tell(say("program.window_connecting"));
  byId("progress").classList.add("turning");
  clearTimeout(shop.waiting);
  shop.waiting = setTimeout(() => stop(trouble("shop_silent"), call), ORDER_WAIT_MS);
  send("ready", {}, "*");
}

/* ---- D1 to D3 ------------------------------------------------------------------------------------------------------------- */

async function receive(origin, checkout) {
  clearTimeout(shop.waiting);
  byId("leave").hidden = true;
  shop.checkout = checkout;
  let ended = null;
  await act(say("program.window_opening"), async () => {
    ended = await openOrder(origin);
    if (ended !== null) return;
    await openSession();
  });
  if (ended !== null) return showEnded(ended);
  if (kept.session !== null) return begin();
  return page.broken || shop.stranger ? undefined : offer(() => receive(origin, checkout));
}

/** R4 for the order that the shop's page sent; the address does not carry it. */
async function askOrder() {
  const { order } = shop.checkout;
  const { iss, tid, amount, currency } = claimsOf(order);
  const mid = String(iss).split(":").at(-1);
  try {
    return await post("/window/open", { mid, tid, amount, currency, order });
  } catch (problem) {
    throw problem.code === "wrong_state" ? { ...problem, code: "order_over" } : problem; // it has not moved on, it is over
  }
}

/** Believe it, if this origin may send it: null, or how a payment that can be tried no more has ended. */
async function openOrder(origin) {
  const opened = await askOrder();
  if (!opened.origins.includes(origin)) {
    shop.stranger = true;
    offer(null);
    throw trouble("window_stranger");
  }
  shop.origin = origin;
  shop.exponent = opened.exponent;
  byId("order").innerHTML = html.createHTML(opened.html);
  kept.verifiedAt = performance.now();
  await open(opened.opening);
  must(opened.opening.order === shop.checkout.order, "order");
  showLines(await verifyLines(shop.checkout, page.verified.order));
  return opened.ended;
}

/** What an order says of itself, before anything is verified: only good for asking the gateway about it. */
function claimsOf(order) {
  try {
    const payload = order.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (character) => character.charCodeAt(0))));
  } catch {
    throw trouble("shop_refused");
  }
}

async function openSession() {
  tell(say("program.window_session"));
  const asked = await requestSession(page.verified, undefined, gatewayNow());
  const answer = await ask("session-request", { session_request: asked.compact }, SESSION_WAIT_MS);
  kept.session = await verifySession(answer, asked, page.verified, kept.used, undefined, gatewayNow());
}

const usable = (session) => session !== null && session.claims.exp - gatewayNow() > SESSION_LEFT_S;

function showLines(lines) {
  const language = document.documentElement.lang;
  const { currency } = page.verified.claims;
  const digits = { minimumFractionDigits: shop.exponent, maximumFractionDigits: shop.exponent };
  const money = new Intl.NumberFormat(language, { style: "currency", currency, ...digits });
  const plain = new Intl.NumberFormat(language, digits);
  const amount = (minor) => {
    const value = minor / 10 ** shop.exponent;
    return language === "ko" && currency === "KRW" ? `${plain.format(value)}원` : money.format(value);
  };
  const list = Object.assign(document.createElement("ul"), { className: "order-lines" });
  list.setAttribute("aria-label", say("program.window_lines"));
  for (const { item, quantity, price_minor: price } of lines) {
    const line = document.createElement("li");
    const what = Object.assign(document.createElement("span"), { textContent: quantity === 1 ? item : `${item} × ${quantity}` });
    line.append(what, Object.assign(document.createElement("span"), { className: "figures", textContent: amount(price * quantity) }));
    list.append(line);
  }
  byId("order").querySelector(".stub-total").after(list);
}

/* ---- D4, D5 ---------------------------------------------------------------------------------------------------------------- */

async function pay(account, factor, password) {
  if (!usable(kept.session)) await openSession();
  const { session } = kept;
  const { verified } = page;
  const { grant } = await post("/pay/grant", { ...common(), key: page.session.key });
  const prepared = await preparePurchase(session, verified, { lines: shop.checkout.lines, account, grant });
  const value = await factorValue(factor, password, () => purchaseChallenge(prepared));
  const purchase = await makePurchase(session, verified, prepared, { method: factor, value }, undefined, gatewayNow());
  password.value = "";
  kept.session = null; // one session, one attempt
  tell(say("program.paying"));
  page.submitted = true;
  return settle(session, purchase);
}

/* ---- D8 -------------------------------------------------------------------------------------------------------------------- */

/** The shop's answer counts when the gateway's receipt is in it; whatever else it says, or not, is asked of the gateway. */
async function settle(session, purchase) {
  const latest = performance.now() + RESULT_WAIT_MS;
  let heard = await pass(purchase);
  if (heard?.result === "approved" && (await isReceipt(heard.receipt))) return showPaid(heard.receipt);
  for (let resends = 0; ; ) {
    const result = await askGateway(session);
    if (result?.state === "approved" && (await isReceipt(result.receipt))) return showPaid(result.receipt);
    if (result?.state === "declined") return showDeclined(result.reason);
    if (result?.state === UNKNOWN && heard?.result === "declined") return showUnwanted(heard.message);
    if (performance.now() > latest) return showPending(() => settle(session, purchase));
    if (heard === null && resends < RESENDS_MAX && !shop.page.closed) {
      resends += 1;
      heard = await pass(purchase); // the same bytes: the shop answers a repeat with the same outcome
    } else {
      tell(say("program.window_asking"));
      await pause(POLL_MS);
    }
  }
}

/** D5 to the shop; null where no answer came. */
const pass = (purchase) => ask("purchase", { purchase }, PURCHASE_WAIT_MS).catch(() => null);

async function isReceipt(compact) {
  try {
    await verifyReceipt(compact, page.verified.claims, undefined, undefined, gatewayNow());
    return true;
  } catch {
    return false; // what is no receipt of the gateway says nothing: it is asked itself
  }
}

async function askGateway(session) {
  const asked = await askResult(session, undefined, gatewayNow());
  try {
    const answer = await fetch("/purchase/result", {
      method: "POST",
      headers: { "Content-Type": "application/jose", Accept: "application/jose" },
      body: asked.compact,
      cache: "no-store",
      signal: AbortSignal.timeout(RESULT_MAX_MS),
    });
    return answer.ok ? await verifyResult(await answer.text(), asked, session, undefined, gatewayNow()) : null;
  } catch {
    return null; // no answer this time
  }
}

/** Why not, as only the customer is told it; the last attempt ends the payment. */
async function showDeclined(reason) {
  page.submitted = false;
  kept.pending = null;
  const { ended } = await askOrder().catch(() => ({ ended: null }));
  if (ended !== null) return showEnded(ended);
  byId("stage").hidden = false;
  byId("leave").hidden = true;
  const place = `decline.${reason}`;
  const lines = [page.words[place] === undefined ? "decline.other" : place, "decline.money"];
  return complain(say("decline.heading"), lines.map((words) => ({ text: say(words) })));
}

/** The shop itself does not want this order, and the gateway has not been asked: the shop's own words, marked as its own. */
function showUnwanted(message) {
  page.submitted = false;
  kept.pending = null;
  byId("stage").hidden = false;
  byId("leave").hidden = true;
  const words = message?.[document.documentElement.lang];
  const said = typeof words === "string" && SHOPS_WORDS.test(words) ? [{ text: `“${words}”` }] : [];
  return complain(say("program.window_unwanted", { merchant: page.verified.claims.payee }), [...said, { text: say("program.window_unwanted_text") }]);
}

/** The payment has moved on, here or elsewhere: the page of its true state, in this window. */
async function showTruth() {
  page.submitted = false;
  const ended = await openOrder(shop.origin);
  return ended === null ? offer(() => receive(shop.origin, shop.checkout)) : showEnded(ended);
}

async function showEnded({ state, receipt, html: text }) {
  if (state === PAID && receipt !== null && (await isReceipt(receipt))) return showPaid(receipt);
  close();
  quiet();
  tell("");
  byId("stage").innerHTML = html.createHTML(text);
  byId("ended-heading").focus();
  outcome({ result: state === PAID || state === UNDECIDED ? "pending" : "declined" });
  return offer(null);
}

function showPaid(receipt) {
  const { payment } = claimsOf(receipt);
  const amount = byId("order").querySelector("[data-shown=amount]").textContent.trim();
  close();
  quiet();
  tell("");
  const heading = Object.assign(document.createElement("h1"), { id: "paid", tabIndex: -1, textContent: say("program.window_paid") });
  const text = { merchant: page.verified.claims.payee, amount };
  const lead = Object.assign(document.createElement("p"), { className: "lead", textContent: say("program.window_paid_text", text) });
  const link = Object.assign(document.createElement("a"), { className: "button quiet", textContent: say("program.window_receipt") });
  link.href = `/payments/${payment}?lang=${document.documentElement.lang}`;
  const box = Object.assign(document.createElement("section"), { className: "approve paid" });
  box.append(heading, lead, link);
  byId("stage").replaceChildren(box);
  heading.focus();
  outcome({ result: "approved", payment, receipt });
  offer(null);
  const closing = setTimeout(leave, CLOSE_MS);
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => clearTimeout(closing), { once: true });
}

function showPending(again) {
  page.submitted = false;
  byId("stage").hidden = true;
  complain(say("program.window_pending"), [{ text: say("program.window_pending_text") }]);
  outcome({ result: "pending" }, false);
  offer(() => act(say("program.window_asking"), again));
}

/* ---- leaving --------------------------------------------------------------------------------------------------------------- */

/** Tell the shop's page how it ended; `last` unless the customer may still go on here. */
function outcome(body, last = true) {
  kept.pending = last ? null : body;
  if (!last || shop.page === null || shop.page.closed || shop.origin === null || kept.told) return;
  kept.told = true;
  send("close", body);
}

function leave() {
  outcome(kept.pending ?? { result: "cancelled" });
  globalThis.close();
  tell(say("program.window_closable"));
}

/** What can be done when the way on is blocked: try again, go to the payment page with the same order, close. */
function offer(retry) {
  kept.retry = retry;
  byId("leave").hidden = false;
  byId("again").hidden = retry === null;
  const instead = byId("instead");
  instead.hidden = retry === null || page.opening === null || kept.pending !== null;
  if (!instead.hidden) {
    const { merchant, tid, amount, currency, order } = page.opening;
    const language = document.documentElement.lang;
    instead.href = `/pay?${new URLSearchParams({ MID: merchant.id, TID: tid, AMOUNT: amount, CUR: currency, ORDER: order, lang: language })}`;
  }
}

function stop({ title, advice }, retry) {
  complain(title, [{ text: advice }]);
  offer(retry);
}

/** The page that opened us is gone: nothing can be paid from here, and what was sent is asked of the gateway by whoever waits for it. */
function look() {
  if (!shop.page.closed || page.submitted || kept.told || shop.gone) return;
  shop.gone = true;
  close();
  stop(trouble("shop_gone"), null);
}

function start() {
  page.words = embedded("words");
  guardPage();
  if (!canSeal()) {
    byId("cannot-seal").hidden = false;
    return tell("");
  }
  byId("close").addEventListener("click", leave);
  byId("again").addEventListener("click", () => {
    quiet();
    byId("leave").hidden = true;
    kept.retry();
  });
  if (shop.page === null) return stop(trouble("window_alone"), null);
  const moved = () => setTimeout(() => act(say("program.window_opening"), showTruth)); // when the act that met it is over
  conduct({ pay, cancel: leave, reopen, moved, trueState: () => offer(null), stopped: () => offer(null) });
  addEventListener("message", hear);
  setInterval(look, LOOK_MS);
  return call();
}

/** The login has ended: the same order is opened again. */
async function reopen() {
  try {
    return (await askOrder()).opening;
  } catch (problem) {
    stop({ title: problem.title ?? say("program.no_answer"), advice: problem.advice ?? say("program.no_answer_text") }, () => location.reload());
    return null;
  }
}

start();
