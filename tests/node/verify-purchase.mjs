// Reads one purchase of the dual-signature checkout with panva's jose. JSON on standard input: {thumbprint: JWK, keyed: {compact, key},
// signed: [{compact, certificate (PEM)}…], envelope, seal: private JWK}; on standard output what it found, or an exit that is not 0.

import { readFileSync } from "node:fs";
import { calculateJwkThumbprint, compactDecrypt, compactVerify, importJWK, importX509 } from "jose";

const { thumbprint, keyed, signed, envelope, seal } = JSON.parse(readFileSync(0, "utf8"));
const text = (bytes) => new TextDecoder().decode(bytes);
const payload = async (compact, key) => JSON.parse(text((await compactVerify(compact, key, { algorithms: ["ES256"] })).payload));

const verified = [await payload(keyed.compact, await importJWK(keyed.key, "ES256"))];
for (const { compact, certificate } of signed) verified.push(await payload(compact, await importX509(certificate, "ES256")));
const opened = await compactDecrypt(envelope, await importJWK(seal, "ECDH-ES+A256KW"));
process.stdout.write(
  JSON.stringify({
    thumbprint: await calculateJwkThumbprint(thumbprint, "sha256"),
    verified,
    header: opened.protectedHeader,
    plain: JSON.parse(text(opened.plaintext)),
  }),
);
