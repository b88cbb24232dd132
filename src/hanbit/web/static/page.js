/* The page of the redirect checkout around the payment program, and the pages that only tell. What both checkouts share is `screen.js`.
 *
 *   R4  verify the opening, compare it with what is shown    R6  put the payment screen into this document
 *   R5  log in                                               R7  pay; a decline stays here, every other outcome has its own page
 */

import { consentChallenge, makeCore, sealPay } from "./payment-program.js";
import {
  act,
  begin,
  byId,
  canSeal,
  clearSecrets,
  common,
  conduct,
  distrust,
  embedded,
  factorValue,
  guardPage,
  hasPasskeys,
  html,
  localised,
  open,
  page,
  post,
  say,
  showDecline,
  stopClock,
  tell,
} from "./screen.js";

const POLL_MS = 2_000;
const ANSWER_MS = 20_000;

/* R4 again, after the session has ended. */

async function reopen() {
  const answer = await fetch(location.href, { headers: { Accept: "application/json" }, cache: "no-store" }).catch(() => null);
  if (answer !== null && answer.ok && !answer.redirected) return answer.json();
  location.reload();
  return null;
}

function linkToState() {
  const link = Object.assign(document.createElement("a"), { className: "button", textContent: say("program.see_state") });
  link.href = location.href;
  byId("notice").firstElementChild.append(link);
}

function go(path) {
  page.session = null;
  clearSecrets();
  location.replace(path.startsWith("/") ? localised(path) : path); // an order that nobody opened has no page here: back to the shop
  return "leaving";
}

/* R7: pay. */

async function pay(account, factor, password) {
  const core = await makeCore(page.session, account);
  const value = await factorValue(factor, password, () => consentChallenge(core.core));
  const instruction = await sealPay(page.session, core, factor, value);
  password.value = "";
  tell(say("program.paying"));
  page.submitted = true;
  const answer = await post("/pay/submit", { ...common(), key: page.session.key, pay: instruction });
  page.submitted = false;
  return follow(answer);
}

function cancel() {
  return act(say("program.cancelling"), async () => follow(await post("/pay/cancel", { ...common(), key: page.session.key })));
}

/** The answer's state decides: a decline stays here, an open question is watched, everything else has its own page. */
function follow(answer) {
  if (answer.state === "open" && answer.html) {
    showDecline(answer.html);
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
  guardPage();
  const opening = embedded("opening");
  if (opening === null) return tellingPage();
  if (!canSeal()) {
    byId("cannot-seal").hidden = false;
    return tell("");
  }
  conduct({ pay, cancel, reopen, moved: () => location.reload(), trueState: linkToState });
  try {
    await open(opening);
  } catch (problem) {
    return distrust(problem);
  }
  return begin();
}

start();
