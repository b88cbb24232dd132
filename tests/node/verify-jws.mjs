// Verifies signed messages of ours with panva's jose. JSON on standard input: [{compact, certificate (PEM)}…]; on standard output:
// [{header, payload}…], or {refused: code} for one that does not verify.

import { readFileSync } from "node:fs";
import { compactVerify, importX509 } from "jose";

const answers = [];
for (const { compact, certificate } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    const key = await importX509(certificate, "ES256");
    const { payload, protectedHeader } = await compactVerify(compact, key, { algorithms: ["ES256"] });
    answers.push({ header: protectedHeader, payload: JSON.parse(new TextDecoder().decode(payload)) });
  } catch (error) {
    answers.push({ refused: error.code ?? String(error) });
  }
}
process.stdout.write(JSON.stringify(answers));
