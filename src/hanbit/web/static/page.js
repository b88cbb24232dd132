/* The page around the payment program: forms, progress, time. What is typed goes through `payment-program.js` or nowhere.
 *
 *   R4  verify the opening, compare it with what is shown    R6  put the payment screen into this document
 *   R5  log in                                               R7  pay; a decline stays here, every other outcome has its own page
 *
 * One act at a time, secrets are cleared as soon as they are sealed, and everything that changes is announced.
 */

import {
  Untrusted,
  consentChallenge,
  loginChallenge,
  makeCore,
  must,
  newSession,
  sealLogin,
  sealPay,
  verifyOpening,
} from "./payment-program.js";

const POLL_MS = 2_000;
const ANSWER_MS = 20_000;
const RETRY_MS = [1_000, 3_000];
const REPEATABLE = ["/pay/submit", "/pay/cancel"];
const WARN_S = 120;
const html = globalThis.trustedTypes?.createPolicy("hanbit", { createHTML: (text) => text }) ?? { createHTML: (text) => text };
const page = { words: {}, opening: null, claims: null, session: null, busy: false, submitted: false, openedAt: 0, extended: false, timers: [] };

const byId = (id) => document.getElementById(id);
const say = (key, values = {}) => Object.entries(values).reduce((text, [name, value]) => text.replaceAll(`{${name}}`, value), page.words[key]);
const localised = (path) => `${path}?lang=${document.documentElement.lang}`;
const hasPasskeys = () => typeof globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON === "function";

function embedded(id) {
  const element = byId(id);
  return element === null ? null : JSON.parse(element.textContent);
}

function tell(text) {
  const line = byId("progress");
  line.textContent = text;
  line.hidden = text === "";
  line.classList.toggle("turning", page.busy);
}

/** The summary on top: focused, announced, each line leads to its field. */
function complain(title, lines) {
  const box = document.createElement("div");
  box.className = "summary";
  box.setAttribute("role", "alert");
  box.tabIndex = -1;
  box.append(Object.assign(document.createElement("h2"), { textContent: title }));
  for (const { text, field } of lines) {
    const line = document.createElement("p");
    if (field === undefined) line.textContent = text;
    else {
      const link = Object.assign(document.createElement("a"), { href: `#${field.id}`, textContent: text });
      link.addEventListener("click", (event) => {
        event.preventDefault();
        field.focus();
      });
      line.append(link);
      markField(field, text);
    }
    box.append(line);
  }
  byId("notice").replaceChildren(box);
  tell("");
  box.focus();
}

function markField(field, text) {
  field.setAttribute("aria-invalid", "true");
  const hint = byId(`${field.id}-error`);
  if (hint !== null) {
    hint.textContent = text;
    hint.hidden = false;
  }
}

function quiet() {
  byId("notice").replaceChildren();
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const hint of document.querySelectorAll(".field-error")) hint.hidden = true;
}

function clearSecrets() {
  for (const field of document.querySelectorAll("input[type=password], #account-number")) field.value = "";
}

/** What stands on the page must be what was signed: digits of the amount, name of the payee. */
function compareWithPage({ amount, payee }) {
  for (const element of document.querySelectorAll("[data-shown]")) {
    const text = element.textContent.trim();
    if (element.dataset.shown === "amount") must(text.replace(/[^0-9]/g, "").replace(/^0+/, "") === amount, "shown_amount");
    else must(text === payee, "shown_payee");
  }
}

async function open(opening) {
  const verified = await verifyOpening(opening);
  compareWithPage(verified.claims);
  page.opening = opening;
  page.claims = verified.claims;
  page.session = await newSession(verified);
  byId("clock-note").hidden = !verified.clockDiffers;
  startClock(opening.expires_at - verified.claims.iat);
}

/** The answer's object, or throws the problem that the server described; no answer at all is {code: "no_answer"}. */
async function post(path, body) {
  const content = JSON.stringify(body);
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = await fetch(localised(path), {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: content, // the same bytes again: the server answers a repeat with the same outcome
        credentials: "same-origin",
        redirect: "error",
        cache: "no-store",
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      const value = await answer.json();
      if (answer.ok) return value;
      throw { problem: { ...value, status: answer.status, wait: answer.headers.get("Retry-After") } };
    } catch (failure) {
      const again = REPEATABLE.includes(path) && (failure.problem === undefined || failure.problem.status === 503);
      if (!again || attempt >= RETRY_MS.length) throw failure.problem ?? { code: "no_answer" };
      await new Promise((done) => setTimeout(done, RETRY_MS[attempt]));
    }
  }
}

const common = () => {
  const { merchant, order, keys, tid, amount } = page.opening;
  return { mid: merchant.id, order, keys, tid, amount };
};

/** One act at a time: a second click, Enter or tap does nothing while the first is under way. */
async function act(text, work) {
  if (page.busy) return;
  page.busy = true;
  quiet();
  tell(text);
  const buttons = [...document.querySelectorAll("button")].filter((button) => !button.disabled);
  for (const button of buttons) button.disabled = true;
  document.body.setAttribute("aria-busy", "true");
  let leaving = false;
  try {
    leaving = (await work()) === "leaving";
  } catch (problem) {
    await refuse(problem);
  } finally {
    if (!leaving) {
      page.busy = false;
      document.body.removeAttribute("aria-busy");
      for (const button of buttons) button.disabled = false;
    }
  }
}

function refuse(problem) {
  if (problem instanceof Untrusted) return distrust(problem);
  if (problem instanceof DOMException) return complain(say("program.error_heading"), [{ text: say("program.passkey_failed") }]);
  const { submitted } = page;
  page.submitted = false;
  if (problem.code === "no_answer") {
    complain(say("program.no_answer"), [{ text: say(submitted ? "program.no_answer_paying" : "program.no_answer_text") }]);
    return submitted ? linkToState() : undefined;
  }
  if (problem.code === "not_signed_in") return loginAgain();
  if (problem.code === "wrong_state") return location.reload();
  if (problem.code === undefined || problem.title === undefined) return distrust(problem); // our own bug: nothing more is typed here
  const lines = [{ text: problem.advice }];
  if (problem.wait !== null && Number(problem.wait) > 0) lines.push({ text: say("program.wait_seconds", { seconds: problem.wait }) });
  if (problem.reference && problem.code !== "login_failed") lines.push({ text: say("program.reference", { reference: problem.reference }) });
  return complain(problem.title, lines);
}

/** Nothing can be typed any more. */
function distrust(problem) {
  if (!(problem instanceof Untrusted)) console.error(problem);
  clearSecrets();
  page.session = null;
  byId("login").replaceChildren();
  byId("stage").replaceChildren();
  byId("sealed-note").hidden = true;
  complain(say("program.check_failed"), [{ text: say("program.check_failed_text", { rule: problem.rule ?? problem.name ?? "?" }) }]);
}

function linkToState() {
  const link = Object.assign(document.createElement("a"), { className: "button", textContent: say("program.see_state") });
  link.href = location.href;
  byId("notice").firstElementChild.append(link);
}

/** The session has ended. One opening logs in once, so the same address is opened again, inside this document. */
async function loginAgain() {
  clearSecrets();
  byId("stage").replaceChildren();
  const answer = await fetch(location.href, { headers: { Accept: "application/json" }, cache: "no-store" }).catch(() => null);
  if (answer === null || !answer.ok || answer.redirected) return location.reload();
  try {
    await open(await answer.json());
  } catch (problem) {
    return distrust(problem);
  }
  showLogin();
  return complain(say("program.error_heading"), [{ text: say("program.login_again") }]);
}

function go(path) {
  page.session = null;
  clearSecrets();
  location.replace(path.startsWith("/") ? localised(path) : path); // an order that nobody opened has no page here: back to the shop
  return "leaving";
}

/* R5: log in. */

function showLogin() {
  byId("login").hidden = false;
  byId("login-passkey").hidden = !hasPasskeys();
  tell("");
}

function logIn(event) {
  event.preventDefault();
  const id = byId("login-id");
  const password = byId("login-password");
  quiet();
  const missing = [];
  if (id.value.trim() === "") missing.push({ text: say("program.need_id"), field: id });
  if (password.value === "") missing.push({ text: say("program.need_password"), field: password });
  if (missing.length > 0) return complain(say("program.error_heading"), missing);
  return act(say("program.sealing"), async () => {
    const login = await sealLogin(page.session, { method: "password", id: id.value.trim(), password: password.value });
    password.value = "";
    await enter(login);
  });
}

function logInByPasskey() {
  return act(say("program.passkey_wait"), async () => {
    const assertion = await askPasskey(await loginChallenge(page.session));
    await enter(await sealLogin(page.session, { method: "passkey", assertion }));
  });
}

async function enter(login) {
  tell(say("program.logging_in"));
  const { screen } = await post("/pay/login", { ...common(), key: page.session.key, login });
  byId("login-id").value = "";
  showScreen(screen);
}

async function askPasskey(challenge) {
  const options = { challenge, rpId: location.hostname, allowCredentials: [], userVerification: "required", timeout: 120_000 };
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return (await navigator.credentials.get({ publicKey })).toJSON();
}

/* R6: the payment screen. */

function loadScreen() {
  return act(say("program.loading_screen"), async () => {
    const { screen } = await post("/pay/screen", common());
    showScreen(screen);
  });
}

function showScreen(screen) {
  byId("login").hidden = true;
  const stage = byId("stage");
  stage.innerHTML = html.createHTML(screen.html);
  compareWithPage(page.claims);
  byId("pay-form").addEventListener("submit", pay);
  byId("pay-form").addEventListener("change", arrange);
  byId("pay-cancel").addEventListener("click", cancel);
  for (const option of stage.querySelectorAll("[data-needs-passkey]")) option.hidden = !hasPasskeys();
  arrange();
  tell("");
  stage.querySelector("h1").focus();
}

const chosen = (group) => document.querySelector(`input[name=${group}]:checked`)?.value;

/** Only what belongs to the choice is shown. */
function arrange() {
  byId("number-field").hidden = chosen("account") !== "other";
  byId("password-field").hidden = chosen("factor") === "passkey";
}

function typedNumber() {
  const digits = byId("account-number").value.replace(/[\s-]/g, "");
  return /^([0-9]{10,14}|[0-9]{16})$/.test(digits) ? digits : null;
}

/* R7: pay. */

function pay(event) {
  event.preventDefault();
  quiet();
  const account = chosen("account");
  const factor = chosen("factor") ?? "password";
  const password = byId("account-password");
  const missing = [];
  if (account === undefined) missing.push({ text: say("program.need_account"), field: document.querySelector("input[name=account]") });
  if (account === "other" && typedNumber() === null) missing.push({ text: say("program.need_number"), field: byId("account-number") });
  if (factor === "password" && password.value === "") missing.push({ text: say("program.need_account_password"), field: password });
  if (missing.length > 0) return complain(say("program.error_heading"), missing);
  return act(say(factor === "passkey" ? "program.passkey_wait" : "program.sealing"), async () => {
    const core = await makeCore(page.session, account === "other" ? { number: typedNumber() } : { id: account });
    const value = factor === "passkey" ? JSON.stringify(await askPasskey(await consentChallenge(core.core))) : password.value;
    const instruction = await sealPay(page.session, core, factor, value);
    password.value = "";
    tell(say("program.paying"));
    page.submitted = true;
    const answer = await post("/pay/submit", { ...common(), key: page.session.key, pay: instruction });
    page.submitted = false;
    return follow(answer);
  });
}

function cancel() {
  return act(say("program.cancelling"), async () => follow(await post("/pay/cancel", { ...common(), key: page.session.key })));
}

/** The answer's state decides: a decline stays here, an open question is watched, everything else has its own page. */
function follow(answer) {
  if (answer.state === "open" && answer.html) {
    tell("");
    byId("notice").innerHTML = html.createHTML(answer.html);
    byId("notice").firstElementChild.focus();
    return undefined;
  }
  if (answer.state === "authorized") {
    stopClock();
    clearSecrets();
    page.session = null;
    byId("sealed-note").hidden = true;
    if (answer.html) byId("stage").innerHTML = html.createHTML(answer.html);
    watch(answer.next);
    return "leaving";
  }
  tell(say(answer.state === "captured" ? "program.paid" : "program.moving"));
  return go(answer.next);
}

/** R12 is near: ask every two seconds; whatever is final has its page. */
function watch(path) {
  tell(say("program.waiting_for_shop"));
  const ask = async () => {
    try {
      const answer = await fetch(`${path}/state`, { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
      if (answer.ok && (await answer.json()).final) return go(path);
    } catch {
      // No answer this time; the next question comes anyway.
    }
    page.timers.push(setTimeout(ask, POLL_MS));
    return undefined;
  };
  page.timers.push(setTimeout(ask, POLL_MS));
}

/* Time. The server's two instants give a length; the customer's clock is not asked. */

function stopClock() {
  page.timers.splice(0).forEach(clearTimeout);
  byId("time-warning").hidden = true;
}

function startClock(seconds, from = performance.now()) {
  stopClock();
  page.openedAt = from;
  const left = (reserve) => Math.max(0, from + (seconds - reserve) * 1000 - performance.now());
  page.timers.push(setTimeout(warn, left(WARN_S)), setTimeout(timeOver, left(0)));
}

function warn() {
  byId("time-warning").hidden = false;
  byId("more-time").hidden = page.extended;
}

/** Once: the rest of the time for which the keys were made. */
function moreTime() {
  page.extended = true;
  startClock(page.claims.exp - page.claims.iat, page.openedAt);
  tell(say("program.more_time_done"));
}

function timeOver() {
  if (page.busy) return;
  stopClock();
  clearSecrets();
  page.session = null;
  byId("login").hidden = true;
  byId("stage").replaceChildren();
  byId("sealed-note").hidden = true;
  complain(say("program.time_over"), [{ text: say("program.time_over_text") }]);
  linkToState();
}

/* Pages that only tell. */

function enrolPasskey() {
  return act(say("program.passkey_wait"), async () => {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(await post("/passkeys/options", {}));
    const credential = await navigator.credentials.create({ publicKey });
    await post("/passkeys", credential.toJSON());
    byId("passkey-offer").hidden = true;
    tell(say("program.passkey_saved"));
  });
}

function tellingPage() {
  const offer = byId("passkey-offer");
  if (offer !== null && hasPasskeys()) {
    offer.hidden = false;
    byId("enrol-passkey").addEventListener("click", enrolPasskey);
  }
  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => globalThis.print());
  }
  const watched = document.body.dataset.watch;
  if (watched) watch(watched);
}

async function start() {
  page.words = embedded("words");
  addEventListener("pagehide", () => {
    page.session = null;
    clearSecrets();
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // the back button shows the true state, not a remembered page
  });
  const opening = embedded("opening");
  if (opening === null) return tellingPage();
  if (!globalThis.isSecureContext || globalThis.crypto?.subtle === undefined) {
    byId("cannot-seal").hidden = false;
    return tell("");
  }
  try {
    await open(opening);
  } catch (problem) {
    return distrust(problem);
  }
  byId("login-form").addEventListener("submit", logIn);
  byId("login-passkey").addEventListener("click", logInByPasskey);
  byId("login-cancel").addEventListener("click", cancel);
  byId("more-time").addEventListener("click", moreTime);
  byId("sealed-note").hidden = false;
  return opening.signed_in ? loadScreen() : showLogin();
}

start();
