/* The customer's home around the payment program: every form leaves this page sealed to the pinned gateway, or not at all.
 *
 * A blank (ctx, n, exp and the sealing certificate) stands in the page; the certificate is verified up to the pinned root before anything
 * is sealed to it. What only tells needs none of this.
 */

import { PIN, Untrusted, loginChallenge, now, sealForm } from "./payment-program.js";
import { askPasskey, byId, clearSecrets, complain, embedded, hasPasskeys, page, quiet, say, tell, waiting } from "./screen.js";

const ANSWER_MS = 20_000;
const here = () => document.documentElement.lang;

async function post(path, body) {
  const answer = await fetch(`${path}?lang=${here()}`, {
    method: "POST",
    headers: { "Content-Type": "application/jose", Accept: "application/json" },
    body,
    credentials: "same-origin",
    redirect: "error",
    cache: "no-store",
    signal: AbortSignal.timeout(ANSWER_MS),
  }).catch(() => null);
  if (answer === null) throw { code: "no_answer" };
  const value = await answer.json();
  if (!answer.ok) throw { ...value, wait: answer.headers.get("Retry-After") };
  return value;
}

/** The field that the server could not take, and the words for it. */
function wrong(problem, form) {
  const field = form.querySelector(`[data-field="${CSS.escape(problem.detail)}"]`);
  if (field === null || field.id === "") return { text: say("home.say.reload") };
  return { text: say(`home.say.wrong_${field.dataset.field}`, { example: field.dataset.example ?? "" }), field };
}

function refuse(problem, form) {
  if (problem instanceof Untrusted) return complain(say("home.say.untrusted"), [{ text: say("home.say.untrusted_text", { rule: problem.rule }) }]);
  if (problem instanceof DOMException) return complain(say("home.say.heading"), [{ text: say("home.say.passkey_failed") }]);
  if (problem.code === "no_answer" || problem.title === undefined) return complain(say("home.say.heading"), [{ text: say("home.say.no_answer") }]);
  if (problem.code === "bad_input") return complain(say("home.say.heading"), [wrong(problem, form)]);
  const lines = [{ text: problem.advice }];
  if (Number(problem.wait) > 0) lines.push({ text: waiting(problem.wait, "home.say.wait", "home.say.wait_minutes") });
  if (problem.code === "wrong_state" || problem.code === "not_signed_in") lines.push({ text: say("home.say.reload") });
  return complain(problem.title, lines);
}

/** Where the page goes on: the same language, and a word about what was done where there is one. */
function go(path, done, language = here()) {
  const address = new URL(path, location.origin);
  address.searchParams.set("lang", language);
  if (done !== "logged_in") address.searchParams.set("done", done);
  location.replace(address.href);
}

/** One act at a time; a page that is left stays busy. */
async function act(form, fields) {
  if (page.busy) return;
  page.busy = true;
  quiet();
  tell(say("home.say.sending"));
  try {
    const blank = embedded(form.dataset.blank);
    const { done, language } = await post(form.dataset.act, await sealForm(blank, await fields(blank), PIN, now()));
    clearSecrets();
    go(form.dataset.then, done, language);
  } catch (problem) {
    page.busy = false;
    clearSecrets();
    refuse(problem, form);
  }
}

function typed(form, button) {
  const fields = Object.fromEntries([...form.querySelectorAll("[data-field]")].map((input) => [input.dataset.field, input.value]));
  if (typeof fields.id === "string") fields.id = fields.id.trim();
  if (button?.dataset.session !== undefined) fields.session = button.dataset.session;
  if (button?.dataset.mine !== undefined) fields.mine = button.dataset.mine;
  return fields;
}

function missing(form) {
  const empty = [...form.querySelectorAll("[data-needed]")].filter((input) => input.value.trim() === "");
  const lines = empty.map((field) => ({ text: say(field.dataset.needed), field }));
  const again = form.querySelector("[data-field=again]");
  if (again !== null && lines.length === 0 && again.value !== form.querySelector("[data-field=new]").value) {
    lines.push({ text: say("home.say.not_the_same"), field: again });
  }
  return lines;
}

function start() {
  page.words = embedded("home-words");
  for (const form of document.querySelectorAll("form[data-act]")) {
    form.hidden = false;
    for (const button of form.elements) if (button.dataset.session !== undefined) button.hidden = false; // those that stand in its table
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      quiet();
      const lines = missing(form);
      if (lines.length > 0) return complain(say("home.say.heading"), lines);
      return act(form, () => typed(form, event.submitter));
    });
  }
  if (hasPasskeys()) document.querySelectorAll("[data-approve]").forEach(approve);
  const passkey = byId("login-passkey");
  if (passkey !== null && hasPasskeys()) {
    passkey.hidden = false;
    passkey.addEventListener("click", () =>
      act(passkey.form, async (blank) => ({ method: "passkey", assertion: await askPasskey(await loginChallenge(blank)) })));
  }
}

/** A passkey approves in the place of the password: it signs the form's own challenge. */
function approve(button) {
  const { form } = button;
  button.hidden = false;
  button.addEventListener("click", () =>
    act(form, async (blank) => ({ ...typed(form), password: "", assertion: await askPasskey(await loginChallenge(blank)) })));
}

start();
