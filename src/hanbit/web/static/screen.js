/* What the page of both checkouts has in common: forms, progress, login, the payment screen, time. It belongs to one document.
 *
 * What is typed goes through `payment-program.js` or nowhere. One act at a time, secrets are cleared as soon as they are sealed, and
 * everything that changes is announced. `page.js` conducts the redirect checkout with it, `window.js` the dual-signature checkout.
 */

import { Untrusted, loginChallenge, must, newSession, sealLogin, verifyOpening } from "./payment-program.js";

const ANSWER_MS = 20_000;
const RETRY_MS = [1_000, 3_000];
const LONG_WAIT_S = 120;
const REPEATABLE = ["/pay/submit", "/pay/cancel"];
const WARN_S = 120;
export const html = globalThis.trustedTypes?.createPolicy("hanbit", { createHTML: (text) => text }) ?? { createHTML: (text) => text };
/** What this document knows; SK and what was verified live here and nowhere else. */
export const page = {
  words: {}, opening: null, verified: null, session: null, busy: false, submitted: false, broken: false, openedAt: 0, extended: false, timers: [],
};
/** What differs between the checkouts: pay, cancel, reopen (a new opening), moved (the payment has gone on), trueState, stopped. */
const steps = {};

export const conduct = (given) => Object.assign(steps, given);

export const byId = (id) => document.getElementById(id);
export const say = (key, values = {}) => Object.entries(values).reduce((text, [name, value]) => text.replaceAll(`{${name}}`, value), page.words[key]);
export const localised = (path) => `${path}?lang=${document.documentElement.lang}`;
export const hasPasskeys = () => typeof globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON === "function";

/** JSON of the page; only a script is it, for a field of a form may have the same name. */
export function embedded(id) {
  const element = document.querySelector(`script[id="${id}"]`);
  return element === null ? null : JSON.parse(element.textContent);
}

export function tell(text) {
  const line = byId("progress");
  line.textContent = text;
  line.hidden = text === "";
  line.classList.toggle("turning", page.busy);
}

/** The summary on top: focused, announced, each line leads to its field. */
export function complain(title, lines) {
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

export function quiet() {
  byId("notice").replaceChildren();
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const hint of document.querySelectorAll(".field-error")) hint.hidden = true;
}

export function clearSecrets() {
  for (const field of document.querySelectorAll("input[type=password], #account-number")) field.value = "";
}

/** What stands on the page must be what was signed: digits of the amount, name of the payee. */
export function compareWithPage({ amount, payee }) {
  for (const element of document.querySelectorAll("[data-shown]")) {
    const text = element.textContent.trim();
    if (element.dataset.shown === "amount") must(text.replace(/[^0-9]/g, "").replace(/^0+/, "") === amount, "shown_amount");
    else must(text === payee, "shown_payee");
  }
}

/** R4: believe an opening only when it is verified and says what stands on the page. */
export async function open(opening) {
  const verified = await verifyOpening(opening);
  compareWithPage(verified.claims);
  page.opening = opening;
  page.verified = verified;
  page.session = await newSession(verified);
  byId("clock-note").hidden = !verified.clockDiffers;
  startClock(opening.expires_at - verified.claims.iat);
}

/** The answer's object, or throws the problem that the server described; no answer at all is {code: "no_answer"}. */
export async function post(path, body) {
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

export const common = () => {
  const { merchant, order, keys, tid, amount } = page.opening;
  return { mid: merchant.id, order, keys, tid, amount };
};

/** One act at a time: a second click, Enter or tap does nothing while the first is under way. */
export async function act(text, work) {
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

/** When it may be tried again: a long wait in minutes. `shortly` and `long` are the places of the words. */
export function waiting(seconds, shortly, long) {
  return Number(seconds) < LONG_WAIT_S ? say(shortly, { seconds }) : say(long, { minutes: Math.ceil(Number(seconds) / 60) });
}

function refuse(problem) {
  if (problem instanceof Untrusted) return distrust(problem);
  if (problem instanceof DOMException) return complain(say("program.error_heading"), [{ text: say("program.passkey_failed") }]);
  const { submitted } = page;
  page.submitted = false;
  if (problem.code === "no_answer") {
    complain(say("program.no_answer"), [{ text: say(submitted ? "program.no_answer_paying" : "program.no_answer_text") }]);
    return submitted ? steps.trueState() : undefined;
  }
  if (problem.code === "not_signed_in") return loginAgain();
  if (problem.code === "wrong_state") return steps.moved(problem);
  if (problem.code === undefined || problem.title === undefined) return distrust(problem); // our own bug: nothing more is typed here
  const lines = [{ text: problem.advice }];
  if (problem.wait && Number(problem.wait) > 0) lines.push({ text: waiting(problem.wait, "program.wait_seconds", "program.wait_minutes") });
  if (problem.reference && problem.code !== "login_failed") lines.push({ text: say("program.reference", { reference: problem.reference }) });
  return complain(problem.title, lines);
}

/** Nothing can be typed any more. */
export function close() {
  stopClock();
  clearSecrets();
  page.session = null;
  byId("login").hidden = true;
  byId("stage").replaceChildren();
  byId("sealed-note").hidden = true;
  steps.stopped?.();
}

export function distrust(problem) {
  if (!(problem instanceof Untrusted)) console.error(problem);
  page.broken = true;
  close();
  byId("login").replaceChildren();
  complain(say("program.check_failed"), [{ text: say("program.check_failed_text", { rule: problem.rule ?? problem.name ?? "?" }) }]);
}

/** The session has ended. One opening logs in once, so the order is opened again, inside this document. */
async function loginAgain() {
  clearSecrets();
  byId("stage").replaceChildren();
  const opening = await steps.reopen();
  if (opening === null) return undefined;
  try {
    await open(opening);
  } catch (problem) {
    return distrust(problem);
  }
  showLogin();
  return complain(say("program.error_heading"), [{ text: say("program.login_again") }]);
}

/* R5: log in. */

export function showLogin() {
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

export async function askPasskey(challenge) {
  const options = { challenge, rpId: location.hostname, allowCredentials: [], userVerification: "required", timeout: 120_000 };
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return (await navigator.credentials.get({ publicKey })).toJSON();
}

/* R6: the payment screen. */

export function loadScreen() {
  return act(say("program.loading_screen"), async () => {
    const { screen } = await post("/pay/screen", common());
    showScreen(screen);
  });
}

function showScreen(screen) {
  byId("login").hidden = true;
  const stage = byId("stage");
  stage.innerHTML = html.createHTML(screen.html);
  compareWithPage(page.verified.claims);
  byId("pay-form").addEventListener("submit", approve);
  byId("pay-form").addEventListener("change", arrange);
  byId("pay-cancel").addEventListener("click", () => steps.cancel());
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

/** R7: what was chosen and typed, or a complaint that names the field. `pay` gets the account, the factor and the password's field. */
function approve(event) {
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
  const chosenAccount = account === "other" ? { number: typedNumber() } : { id: account };
  return act(say(factor === "passkey" ? "program.passkey_wait" : "program.sealing"), () => steps.pay(chosenAccount, factor, password));
}

/** The value that stands for a factor: the password as typed, or what the passkey signs over `challenge`. */
export const factorValue = async (factor, password, challenge) =>
  factor === "passkey" ? JSON.stringify(await askPasskey(await challenge())) : password.value;

/** A decline stays in this document, on top. */
export function showDecline(text) {
  tell("");
  byId("notice").innerHTML = html.createHTML(text);
  byId("notice").firstElementChild.focus();
}

/* Time. The server's two instants give a length; the customer's clock is not asked. */

export function stopClock() {
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
  startClock(page.verified.claims.exp - page.verified.claims.iat, page.openedAt);
  tell(say("program.more_time_done"));
}

function timeOver() {
  if (page.busy) return;
  close();
  complain(say("program.time_over"), [{ text: say("program.time_over_text") }]);
  steps.trueState();
}

/** What stands in every page that opens an order. */
export function begin() {
  byId("login-form").addEventListener("submit", logIn);
  byId("login-passkey").addEventListener("click", logInByPasskey);
  byId("login-cancel").addEventListener("click", () => steps.cancel());
  byId("more-time").addEventListener("click", moreTime);
  byId("sealed-note").hidden = false;
  return page.opening.signed_in ? loadScreen() : showLogin();
}

export const canSeal = () => globalThis.isSecureContext && globalThis.crypto?.subtle !== undefined;

/** Secrets end with the page, and the back button shows the true state, not a remembered page. */
export function guardPage() {
  addEventListener("pagehide", () => {
    page.session = null;
    clearSecrets();
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
}
