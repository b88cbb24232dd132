/* Hanbit's button for a shop's page: <script src="https://the.gateway/button.js" defer></script>
 *
 *   <button data-hanbit-relay="/hanbit/TID">Pay</button>       or       await hanbit.pay({ relay: "/hanbit/TID" })
 *
 * It opens the payment window of the gateway whose script this is and carries messages between that window and the shop's own server:
 * GET relay (the checkout), POST relay/sessions, POST relay/purchases. It sees neither account nor password, and what it says to the page
 * is for the customer's eyes: a shop delivers when its own server holds the gateway's signed word. All of it is docs/button.md.
 */
(() => {
  "use strict";
  if (globalThis.hanbit) return;
  const GATEWAY = new URL(document.currentScript.src).origin;
  const WIDTH = 420;
  const HEIGHT = 780;
  const READY_MS = 20_000;
  const SHOP_MS = 60_000;
  const LOOK_MS = 300;
  let current = null;
  let last = null;

  const tell = (purchase, name, detail = {}, cancelable = false) => {
    const { target } = purchase;
    if (target instanceof Element) target.setAttribute("data-hanbit-state", name === "result" ? detail.result : name);
    const at = target instanceof Node && !target.isConnected ? document : target; // a page may have put another button in its place
    return at.dispatchEvent(new CustomEvent(`hanbit:${name}`, { detail: { tid: purchase.tid, ...detail }, bubbles: true, cancelable }));
  };

  const tidOf = (order) => JSON.parse(atob(order.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).tid;

  async function call(purchase, path, body) {
    let answer, value;
    try {
      answer = await fetch((await purchase.relay) + path, {
        method: body === undefined ? "GET" : "POST",
        headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...purchase.headers },
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        redirect: "error",
        signal: AbortSignal.timeout(SHOP_MS),
      });
      value = answer.ok ? await answer.json() : null;
    } catch {
      throw { code: answer === undefined ? "unreachable" : "unreadable" };
    }
    if (!answer.ok) throw { code: answer.status < 500 ? "refused" : "unreachable", status: answer.status };
    return value;
  }

  const say = ({ view }, kind, body) => view?.postMessage({ hanbit: 1, kind, ...body }, GATEWAY);

  /** Carry one question of the window to the shop's server and the answer back. */
  async function carry(purchase, id, kind, work) {
    try {
      say(purchase, kind, { id, answer: await work() });
    } catch ({ code = "unreadable", status }) {
      tell(purchase, "error", { code, status });
      say(purchase, "error", { id, code, status });
    }
  }

  const questions = {
    ready(purchase) {
      purchase.ready = true;
      carry(purchase, 0, "order", async () => {
        const checkout = await purchase.checkout();
        const { order, merchant_chain, lines, lines_salt } = checkout;
        return { order, merchant_chain, lines, lines_salt };
      });
    },
    "session-request"(purchase, { id, session_request }) {
      carry(purchase, id, "session", () => call(purchase, "/sessions", { session_request }));
    },
    purchase(purchase, { id, purchase: body }) {
      purchase.asking = carry(purchase, id, "result", async () => {
        const answer = await call(purchase, "/purchases", body);
        purchase.answer = answer;
        return answer;
      });
    },
    close(purchase, { result, payment, receipt }) {
      end(purchase, result === "cancelled" ? null : { result, payment, receipt });
    },
  };

  addEventListener("message", ({ source, origin, data }) => {
    if (source === null || origin !== GATEWAY || data?.hanbit !== 1 || !Object.hasOwn(questions, data.kind)) return;
    if (source === current?.view) questions[data.kind](current, data);
    else if (source === last?.view && data.kind === "ready") questions.ready(last); // a reload after the end: it shows the end again
  });

  function end(purchase, outcome) {
    if (current !== purchase) return;
    current = null;
    last = purchase;
    clearInterval(purchase.looking);
    clearTimeout(purchase.waiting);
    tell(purchase, outcome === null ? "closed" : "result", outcome ?? {});
    purchase.done(outcome ?? { result: "closed" });
  }

  /** The window is gone: what the shop was told last is the result, and what it was asked last is waited for. */
  async function look(purchase) {
    if (!purchase.view.closed) return;
    clearInterval(purchase.looking);
    await purchase.asking;
    const { result, reason, receipt } = purchase.answer ?? {};
    end(purchase, result === "approved" || result === "pending" ? { result, reason, receipt } : null);
  }

  /** No window: the same order at the payment page, unless the page prevents it. */
  async function blocked(purchase) {
    try {
      const { redirect } = await purchase.checkout();
      if (new URL(redirect).origin !== GATEWAY) throw { code: "unreadable" };
      if (tell(purchase, "blocked", { redirect }, true)) location.assign(redirect);
      purchase.done({ result: "blocked", redirect });
    } catch ({ code = "unreadable", status }) {
      tell(purchase, "error", { code, status });
      purchase.done({ result: "error", code });
    }
    current = null;
  }

  /** Pay an order; call it from a click. `relay` is an address, or a function that makes the order and promises its address. */
  function pay({ relay, checkout, target = document, language = document.documentElement.lang, headers = {} }) {
    if (current !== null) {
      current.view?.focus();
      return current.promise;
    }
    const purchase = { target, headers, ready: false };
    purchase.promise = new Promise((done) => Object.assign(purchase, { done }));
    const speaks = language.slice(0, 2).toLowerCase();
    const query = speaks === "ko" || speaks === "en" ? `?lang=${speaks}` : "";
    const left = Math.max(0, Math.round(screenX + (outerWidth - WIDTH) / 2));
    const top = Math.max(0, Math.round(screenY + (outerHeight - HEIGHT) / 2));
    current = purchase;
    // Opened before anything is asked of the shop: a browser lets a click open a window, and nothing else.
    purchase.view = open(`${GATEWAY}/window${query}`, "hanbit", `popup,width=${WIDTH},height=${HEIGHT},left=${left},top=${top}`);
    const address = async () => new URL(typeof relay === "function" ? await relay() : relay, document.baseURI).href.replace(/\/$/, "");
    purchase.relay = address();
    purchase.relay.catch(() => {}); // told when it is asked for
    let known = checkout;
    purchase.checkout = async () => {
      known ??= await call(purchase, "");
      purchase.tid ??= tidOf(known.order);
      return known;
    };
    if (purchase.view === null || purchase.view.closed) {
      blocked(purchase);
      return purchase.promise;
    }
    purchase.looking = setInterval(look, LOOK_MS, purchase);
    purchase.waiting = setTimeout(() => purchase.ready || tell(purchase, "error", { code: "gateway_silent" }), READY_MS);
    tell(purchase, "open");
    return purchase.promise;
  }

  addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-hanbit-relay]") : null;
    if (button === null || event.defaultPrevented || event.button !== 0) return;
    event.preventDefault();
    pay({ relay: button.dataset.hanbitRelay, target: button, language: button.dataset.hanbitLanguage });
  });

  globalThis.hanbit = Object.freeze({ version: 1, gateway: GATEWAY, pay });
})();
