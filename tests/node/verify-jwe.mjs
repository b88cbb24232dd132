// Opens sealed messages of ours with panva's jose and makes some of its own, deriving the keys from SK as docs/protocol says, with Node's
// own HKDF. JSON on standard input: {seal: private JWK, kid, ctx, n, tid, key, login, pay, plain: {key, login, pay}}.

import { createHash, hkdfSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { CompactEncrypt, compactDecrypt, importJWK } from "jose";

const { seal, kid, ctx, n, tid, key, login, pay, plain } = JSON.parse(readFileSync(0, "utf8"));
const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (value) => new TextEncoder().encode(JSON.stringify(value));
const salt = createHash("sha256").update(ctx + n, "ascii").digest();
const derived = (sk, name) => new Uint8Array(hkdfSync("sha256", sk, salt, `hanbit1 ${name}`, 32));

const own = await importJWK(seal, "ECDH-ES+A256KW");
const { d, ...publicJwk } = seal;
const theirs = await importJWK(publicJwk, "ECDH-ES+A256KW");

const opened = {};
const outer = await compactDecrypt(key, own);
opened.key = { header: outer.protectedHeader, plain: JSON.parse(text(outer.plaintext)) };
const sk = Buffer.from(opened.key.plain.sk, "base64url");
for (const [name, sealed] of Object.entries({ login, pay })) {
  const inner = await compactDecrypt(sealed, derived(sk, name));
  opened[name] = { header: inner.protectedHeader, plain: JSON.parse(text(inner.plaintext)) };
}

const made = {};
made.key = await new CompactEncrypt(bytes(plain.key))
  .setProtectedHeader({ alg: "ECDH-ES+A256KW", enc: "A256GCM", typ: "hanbit-key", kid })
  .encrypt(theirs);
const ownSk = Buffer.from(plain.key.sk, "base64url");
for (const name of ["login", "pay"]) {
  made[name] = await new CompactEncrypt(bytes(plain[name]))
    .setProtectedHeader({ alg: "dir", enc: "A256GCM", typ: `hanbit-${name}`, ctx, sequence: 1, tid })
    .encrypt(derived(ownSk, name));
}
process.stdout.write(JSON.stringify({ opened, made }));
