// Runs the browser's payment program outside a browser: a list of calls as JSON on standard input, a list of answers on standard output.
// The folder named first holds the program as the server serves it, with its pin beside it.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const program = await import(pathToFileURL(`${process.argv[2]}/payment-program.js`).href);
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));

const acts = {
  /** verifyOpening */
  async open({ opening, pin, at }) {
    const { claims, seal, merchant, clockDiffers } = await program.verifyOpening(opening, pin, at);
    return { claims, merchant, clockDiffers, sealKid: seal.kid };
  },

  /** verifyChain */
  async chain({ chain, expected, pin, at }) {
    const { point, kid, clockDiffers } = await program.verifyChain(chain.map(bytes), expected, pin, at);
    return { point: Buffer.from(point).toString("base64"), kid, clockDiffers };
  },

  /** sealForm */
  async form({ blank, fields, pin, at }) {
    return program.sealForm(blank, fields, pin, at);
  },

  /** R4, R5, R7 in one session: everything that the program seals. */
  async seal({ opening, pin, at, login, pay, account, method, value }) {
    const verified = await program.verifyOpening(opening, pin, at);
    const session = await program.newSession(verified, pin.gateway);
    const core = await program.makeCore(session, account);
    return {
      key: session.key,
      login: await program.sealLogin(session, login),
      pay: await program.sealPay(session, core, method, value),
      again: pay ? await program.sealPay(session, core, method, value) : null,
      core: core.core,
      loginChallenge: await program.loginChallenge(session),
      consentChallenge: await program.consentChallenge(core.core),
      kept: Object.keys(session).sort(),
      extractable: Object.values(session.keys).map((key) => key.extractable),
    };
  },
};

const answers = [];
for (const { act, ...call } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    answers.push({ value: await acts[act](call) });
  } catch (error) {
    answers.push(error instanceof program.Untrusted ? { untrusted: error.rule } : { bug: String(error.stack) });
  }
}
process.stdout.write(JSON.stringify(answers));
