// Runs D1 to D8 of the browser's payment program outside a browser, in a dialogue of one JSON line each: an act comes in, its answer goes out.
// The folder named first holds the program as the server serves it, with its pin beside it.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const module = (name) => import(pathToFileURL(`${process.argv[2]}/${name}`).href);
const program = await module("payment-program.js");
const dual = await module("dual-signature.js");
const known = { verified: null, asked: null, session: null, question: null };

const acts = {
  /** R4, for this dialogue. */
  async open({ opening, pin, at }) {
    known.verified = await program.verifyOpening(opening, pin, at);
    return { order: known.verified.order };
  },

  /** D1 */
  async lines({ checkout }) {
    return dual.verifyLines(checkout, known.verified.order);
  },

  /** D2 */
  async ask({ pin, at }) {
    known.asked = await dual.requestSession(known.verified, pin, at);
    return { compact: known.asked.compact, extractable: known.asked.key.extractable };
  },

  /** D3 */
  async session({ answer, used, pin, at }) {
    known.session = await dual.verifySession(answer, known.asked, known.verified, new Set(used), pin, at);
    return { sid: known.session.claims.sid };
  },

  /** D5 */
  async buy({ lines, account, grant, method, value, pin, at }) {
    const prepared = await dual.preparePurchase(known.session, known.verified, { lines, account, grant }, pin);
    const purchase = await dual.makePurchase(known.session, known.verified, prepared, { method, value }, pin, at);
    return { purchase, core: prepared.core, challenge: await dual.purchaseChallenge(prepared) };
  },

  /** D8, asked of the gateway. */
  async question({ pin, at }) {
    known.question = await dual.askResult(known.session, pin, at);
    return { compact: known.question.compact };
  },

  async result({ result, pin, at }) {
    return dual.verifyResult(result, known.question, known.session, pin, at);
  },

  /** D8, the receipt as the shop passes it on. */
  async receipt({ receipt, payment, pin, at }) {
    return program.verifyReceipt(receipt, known.verified.claims, payment, pin, at);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { act, ...call } = JSON.parse(line);
  let answer;
  try {
    answer = { value: await acts[act](call) };
  } catch (error) {
    answer = error instanceof program.Untrusted ? { untrusted: error.rule } : { bug: String(error.stack) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
