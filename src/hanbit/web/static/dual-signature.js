/* The dual-signature checkout in the customer's computer: D2 to D5 and D8, beside `payment-program.js` and on the same WebCrypto.
 *
 *   D1  the order's lines are those of which the signed order holds the salted hash
 *   D2  a fresh key kc asks the shop for a temporary certificate
 *   D3  the shop's session and that certificate, checked up to the pinned root
 *   D5  OI for the shop, PI = {core, auth} for the gateway, and one signature over both digests
 *   D8  the gateway's own word: receipt, or what it answers to a request signed by kc
 *
 * kc lives in this document's memory and cannot be read back by any script. It proves the session; only auth proves the person.
 */

import {
  PIN,
  Untrusted,
  ascii,
  base64url,
  certificates,
  claimsOf,
  consentChallenge,
  decode,
  json,
  join,
  makeAuth,
  must,
  nameAccount,
  random,
  sealToKey,
  sha256,
  takeApart,
  verifyChain,
  verifyGateway,
} from "./payment-program.js";

const TOKEN = /^[A-Za-z0-9_-]{22}$/;
const DIGEST = /^[A-Za-z0-9_-]{43}$/;
const LINES_MAX = 48 * 1024;
const SEALED_MAX = 16 * 1024;
const PADDED_TO = 4096;
const SESSION_LIFE_S = 10 * 60;
const CERTIFICATE_LIFE_S = 15 * 60;
const BEFORE_S = 120;
const ASK_LIFE_S = 120;
const ECDSA = { name: "ECDSA", namedCurve: "P-256" };

const digest = async (...parts) => base64url(await sha256(join(...parts)));
const hashOf = async (compact) => digest(ascii(compact));
const token = () => base64url(random(16));
const salt = () => base64url(random(32));

/* ---- D1 ---------------------------------------------------------------------------------------------------------------- */

/** What the shop says was ordered is what it signed; returns the lines to be shown: [{item, quantity, price_minor}]. */
export async function verifyLines({ lines, lines_salt }, order) {
  must(typeof lines === "string" && lines.length <= LINES_MAX, "lines_size");
  const salted = decode(lines_salt, "lines_salt");
  must(salted.length === 32, "lines_salt");
  must((await digest(ascii("hanbit1 OI-lines\0"), salted, ascii(lines))) === order.oi, "lines_hash");
  let shown;
  try {
    shown = JSON.parse(lines);
  } catch {
    throw new Untrusted("lines_shape");
  }
  must(Array.isArray(shown) && shown.length > 0 && shown.every(isLine), "lines_shape");
  const total = shown.reduce((sum, { quantity, price_minor: price }) => sum + BigInt(quantity) * BigInt(price), 0n);
  must(String(total) === order.amount, "lines_total");
  return shown;
}

const isLine = (line) => typeof line?.item === "string" && Number.isSafeInteger(line.quantity) && Number.isSafeInteger(line.price_minor);

/* ---- D2 ---------------------------------------------------------------------------------------------------------------- */

async function sign(key, header, claims) {
  const signed = [header, claims].map((part) => base64url(json(part))).join(".");
  const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key, ascii(signed));
  return `${signed}.${base64url(new Uint8Array(signature))}`;
}

const head = (iss, aud, at) => ({ v: 1, iss, aud, jti: token(), iat: at });

/** A fresh kc and the request for its temporary certificate: what stays here, and `compact` for the shop. */
export async function requestSession({ claims, merchant }, pin = PIN, at = claims.iat) {
  const pair = await crypto.subtle.generateKey(ECDSA, false, ["sign", "verify"]);
  const { x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  const point = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const thumbprint = await digest(ascii(JSON.stringify({ crv: "P-256", kty: "EC", x, y }))); // RFC 7638: these members in this order
  const nc = salt();
  const key = { kty: "EC", crv: "P-256", x, y };
  const customer = pin.gateway.replace(/:gateway$/, ":customer");
  const asked = { ...head(customer, merchant, at), nc, key, order: claims.order };
  const compact = await sign(pair.privateKey, { alg: "ES256", typ: "hanbit-session-request" }, asked);
  return { key: pair.privateKey, point, thumbprint, nc, compact, hash: await hashOf(compact) };
}

/* ---- D3 ---------------------------------------------------------------------------------------------------------------- */

/** The shop's answer to `asked`, for the order of `opened`; `used` are the session IDs and nonces of earlier attempts. */
export async function verifySession(answer, asked, { claims: shown, merchant }, used = new Set(), pin = PIN, at = shown.iat) {
  must(answer !== null && typeof answer === "object", "session_shape");
  const taken = takeApart(answer.session, "session", ["alg", "typ", "kid", "x5c"]);
  must(Array.isArray(taken.header.x5c) && Array.isArray(answer.certificate), "session_header");
  const payee = { urn: merchant, purpose: "merchant-sign", authority: "merchant" };
  const leaf = await verifyChain(certificates(taken.header.x5c), payee, pin, at);
  const required = ["nc", "nm", "sid", "gateway", "thumbprint", "tid", "amount", "currency", "order", "req", "exp"];
  const claims = await claimsOf(taken, leaf, "session", required, []);
  must(claims.iss === merchant && claims.aud === pin.gateway.replace(/:gateway$/, ":customer"), "session_parties");
  must(claims.req === asked.hash, "session_req");
  must(claims.nc === asked.nc, "session_nc");
  must(claims.thumbprint === asked.thumbprint, "session_thumbprint");
  must(claims.gateway === pin.gateway, "session_gateway");
  for (const field of ["tid", "amount", "currency", "order"]) must(claims[field] === shown[field], `session_${field}`);
  must(TOKEN.test(claims.sid) && DIGEST.test(claims.nm), "session_claims");
  must(!used.has(claims.sid), "session_sid");
  must(!used.has(claims.nm), "session_nm");
  must(Number.isSafeInteger(claims.exp) && claims.exp > at && claims.exp <= at + SESSION_LIFE_S + BEFORE_S, "session_exp");
  const temporary = merchant.replace(":merchant:", ":temporary:") + `:${claims.sid}`;
  const chain = certificates(answer.certificate);
  const certified = await verifyChain(chain, { urn: temporary, purpose: "temporary", authority: "session" }, pin, at);
  must(base64url(certified.point) === base64url(asked.point), "session_certificate_key");
  must(certified.notAfter <= claims.iat + CERTIFICATE_LIFE_S, "session_certificate_life"); // a sandbox's certificates begin long before
  used.add(claims.sid).add(claims.nm);
  const x5c = [...answer.certificate];
  return { claims, urn: temporary, kid: certified.kid, x5c, key: asked.key, thumbprint: asked.thumbprint, hash: await hashOf(answer.session) };
}

/* ---- D5 ---------------------------------------------------------------------------------------------------------------- */

/** OI, and PI's core: `account` is {id} or {number}, `grant` the gateway's leave to try once. The consent is given over `core`. */
export async function preparePurchase(session, { claims: shown, merchant }, { lines, account, grant }, pin = PIN) {
  const { sid, nc, nm, exp } = session.claims;
  const { tid, order, amount, currency } = shown;
  const gateway = pin.gateway;
  const oi = JSON.stringify({ v: 1, tid, sid, nc, nm, merchant, gateway, amount, currency, lines, salt: salt() });
  const oimd = await digest(ascii("hanbit1 OI\0"), ascii(oi));
  const { name, beside } = await nameAccount(account);
  const { thumbprint } = session;
  const core = { v: 1, gateway, merchant, tid, order, amount, currency, account: name, exp, salt: salt(), grant, sid, nc, nm, oimd, thumbprint };
  return { oi, oimd, core: JSON.stringify(core), beside };
}

/** What a passkey signs for this purchase. */
export const purchaseChallenge = ({ core }) => consentChallenge(core);

/** Spaces after PI: its length would tell the shop how long a password is, and by what the customer pays. */
function padded(text) {
  const whole = join(text, new Uint8Array(-text.length & (PADDED_TO - 1)).fill(0x20));
  text.fill(0);
  return whole;
}

/** The purchase request: OI in clear for the shop, PI sealed for the gateway, and the dual signature over both. */
export async function makePurchase(session, { claims: shown, merchant, seal }, prepared, { method, value }, pin = PIN, at = shown.iat) {
  const { oi, oimd, core, beside } = prepared;
  const auth = makeAuth(method, value);
  const { sid, nc, nm, tid, order, exp } = session.claims;
  const pimd = await digest(ascii("hanbit1 PI\0"), await sha256(ascii(core)), await sha256(ascii(auth)));
  const pomd = await digest(decode(pimd, "pimd"), decode(oimd, "oimd"));
  const digests = { pimd, oimd, pomd, merchant, gateway: pin.gateway };
  const claims = { ...head(session.urn, pin.gateway, at), ...digests, sid, nc, nm, tid, order, prev: session.hash, exp };
  const dual = await sign(session.key, { alg: "ES256", typ: "hanbit-dual", kid: session.kid, x5c: session.x5c }, claims);
  const plaintext = padded(json({ core, auth, ...beside }));
  const envelope = await sealToKey(seal, "hanbit-purchase", plaintext, { sid });
  plaintext.fill(0);
  must(envelope.length <= SEALED_MAX, "purchase_size");
  return { oi, pimd, dual, envelope };
}

/* ---- D8 ---------------------------------------------------------------------------------------------------------------- */

/** The question to the gateway itself what became of this session, which no shop can hide. */
export async function askResult(session, pin = PIN, at) {
  const { sid, tid } = session.claims;
  const header = { alg: "ES256", typ: "hanbit-result-request", kid: session.kid, x5c: session.x5c };
  const compact = await sign(session.key, header, { ...head(session.urn, pin.gateway, at), sid, tid, exp: at + ASK_LIFE_S });
  return { compact, hash: await hashOf(compact) };
}

/** The gateway's answer to that question: {state, reason, message, receipt}. */
export async function verifyResult(compact, asked, session, pin = PIN, at) {
  const required = ["sid", "tid", "req", "state"];
  const { claims } = await verifyGateway(compact, "result", required, ["reason", "message", "receipt"], pin, at);
  must(claims.req === asked.hash, "result_req");
  must(claims.sid === session.claims.sid && claims.tid === session.claims.tid, "result_session");
  return claims;
}
