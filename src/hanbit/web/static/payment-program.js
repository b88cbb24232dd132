/* The payment program: what the customer's computer does in both documents, in one module on WebCrypto and nothing else.
 *
 *   1  bytes            base64url, strict JSON
 *   2  certificates     a certificate is accepted only if it is, byte for byte, the one that the operator's authority would have written
 *   3  signed messages  JWS compact, ES256
 *   4  the opening      R4: who speaks, and whether tid, amount, currency, payee and order are those that are shown
 *   5  sealing          R5, R7: PBkb(SK), SK(ID, password), SK(PI, TID, AMOUNT)
 *   6  the receipt      R12, D8: that it is signed for this payment
 *
 * `dual-signature.js` beside it adds D2 to D8. It touches no page; `page.js` and `window.js` do. R4 to R7 happen in one document, because SK lives in that document's memory only.
 * The pin (the root's public key and the gateway's name) is the module beside this one, so that these bytes are the same for every
 * operator and can be compared with the release. The program keeps passwords from logs and from whoever ends TLS in the middle; it
 * cannot protect against a server that serves another program. The installed one, `hanbit wallet`, can.
 */

import { GATEWAY, ROOT } from "./pin.js";

export const PIN = { gateway: GATEWAY, root: ROOT };
const DAY_S = 86_400;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Something is not what it must be; `rule` names the check. Nothing has been sealed or sent. */
export class Untrusted extends Error {
  constructor(rule) {
    super(rule);
    this.rule = rule;
  }
}

export function must(condition, rule) {
  if (!condition) throw new Untrusted(rule);
}

/* ---- 1  bytes ---------------------------------------------------------------------------------------------------------- */

export const ascii = (text) => encoder.encode(text);
export const random = (length) => crypto.getRandomValues(new Uint8Array(length));
export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

export function join(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

function base64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

export const base64url = (bytes) => base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** Bytes from the one canonical spelling; padded for certificates, unpadded everywhere else. */
export function decode(text, rule, spell = base64url) {
  must(typeof text === "string" && /^[A-Za-z0-9+/_=-]*$/.test(text), rule);
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
  } catch {
    throw new Untrusted(rule);
  }
  must(spell(bytes) === text, rule);
  return bytes;
}

/** A flat JSON object with exactly these members; JSON.parse alone would let the last of two equal names win. */
function strictObject(bytes, required, optional, rule) {
  let text, value;
  try {
    text = decoder.decode(bytes);
    value = JSON.parse(text);
  } catch {
    throw new Untrusted(rule);
  }
  must(value !== null && typeof value === "object" && !Array.isArray(value), rule);
  const names = Object.keys(value);
  const written = [...text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)].filter((found) => found[1] !== undefined).length;
  must(written === names.length, rule);
  must(required.every((name) => names.includes(name)), rule);
  must(names.every((name) => required.includes(name) || optional.includes(name)), rule);
  return value;
}

/* ---- 2  certificates --------------------------------------------------------------------------------------------------- */

const ARC = "2.25.164987809663316292603361604156215208465";
const PURPOSES = { "gateway-sign": 1, "gateway-seal": 2, "merchant-sign": 3, temporary: 6 };
const PATH_LENGTHS = { gateway: 0, merchant: 1, session: 0 };
const CERTIFICATE_BYTES_MAX = 2_048;

function der(tag, ...parts) {
  const body = join(...parts);
  const size = body.length;
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return join([tag, ...length], body);
}

const sequence = (...parts) => der(0x30, ...parts);

function number(bytes) {
  const start = bytes.findIndex((byte) => byte !== 0);
  const short = start < 0 ? [0] : bytes.slice(start);
  return der(0x02, short[0] & 0x80 ? [0] : [], short);
}

function oid(text) {
  const [first, second, ...rest] = text.split(".").map(BigInt);
  const octets = [first * 40n + second, ...rest].flatMap((arc) => {
    const groups = [Number(arc & 0x7fn)];
    for (let left = arc >> 7n; left > 0n; left >>= 7n) groups.unshift(Number(left & 0x7fn) | 0x80);
    return groups;
  });
  return der(0x06, octets);
}

const ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"));
const P256 = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"));

/** The members of a DER value; lengths beyond two octets do not occur in certificates of at most 2,048 bytes. */
function members(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    must(at + 2 <= bytes.length, "certificate_der");
    let start = at + 2;
    let length = bytes[at + 1];
    if (length >= 0x80) {
      const octets = length & 0x7f;
      must((octets === 1 || octets === 2) && start + octets <= bytes.length, "certificate_der");
      length = octets === 1 ? bytes[start] : bytes[start] * 0x100 + bytes[start + 1];
      start += octets;
    }
    must(start + length <= bytes.length, "certificate_der");
    found.push({ tag: bytes[at], body: bytes.subarray(start, start + length), whole: bytes.subarray(at, start + length) });
    at = start + length;
  }
  return found;
}

function only(bytes, tag, count) {
  const [outer, ...more] = members(bytes);
  must(outer !== undefined && more.length === 0 && outer.tag === tag, "certificate_der");
  const inner = members(outer.body);
  must(inner.length === count, "certificate_der");
  return inner;
}

/** Seconds since 1970 from UTCTime or GeneralizedTime. */
function instant({ tag, body }) {
  const match = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(String.fromCharCode(...body));
  must(match !== null && match[1].length === (tag === 0x17 ? 2 : 4), "certificate_dates");
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number);
  const whole = tag === 0x17 ? (year < 50 ? 2000 : 1900) + year : year;
  return Date.UTC(whole, month - 1, day, hour, minute, second) / 1000;
}

function date(seconds) {
  const digits = new Date(seconds * 1000).toISOString().replace(/\.\d+Z$/, "Z").replace(/[-:T]/g, "");
  return digits < "2050" ? der(0x17, ascii(digits.slice(2))) : der(0x18, ascii(digits));
}

function name(urn) {
  const [, , operator, role, ...rest] = urn.split(":");
  const attribute = (kind, text) => der(0x31, sequence(oid(`2.5.4.${kind}`), der(0x0c, ascii(text))));
  return sequence(attribute(10, operator), attribute(11, role), attribute(3, rest.join(":") || role));
}

const extension = (kind, critical, value) => sequence(oid(`2.5.29.${kind}`), critical ? [0x01, 0x01, 0xff] : [], der(0x04, value));
const keyIdentifier = async (point) => (await sha256(point)).subarray(0, 20);

/** What is signed in the certificate of `subject` {urn, purpose} or authority {urn, pathLength} under `issuer` {urn, point}. */
async function certificateContent(subject, values, issuer) {
  const usage = subject.purpose === undefined ? [1, 0x06] : subject.purpose === "gateway-seal" ? [3, 0x08] : [7, 0x80];
  const constraints = subject.purpose === undefined ? [[0x01, 0x01, 0xff], number([subject.pathLength])] : [];
  return sequence(
    der(0xa0, number([2])),
    number(values.serial),
    ECDSA_SHA256,
    name(issuer.urn),
    sequence(date(values.notBefore), date(values.notAfter)),
    name(subject.urn),
    sequence(P256, der(0x03, [0], values.point)),
    der(0xa3, sequence(
      extension(19, true, sequence(...constraints)),
      extension(15, true, der(0x03, usage)),
      ...(subject.purpose === undefined ? [] : [extension(37, true, sequence(oid(`${ARC}.${PURPOSES[subject.purpose]}`)))]),
      extension(17, false, sequence(der(0x86, ascii(subject.urn)))),
      extension(14, false, der(0x04, await keyIdentifier(values.point))),
      extension(35, false, sequence(der(0x80, await keyIdentifier(issuer.point)))),
    )),
  );
}

const verifyKey = async (point) => crypto.subtle.importKey("raw", point, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
const verifies = async (key, signature, data) => crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, signature, data);

/** 32 octets from a DER integer's; the comparison of the whole certificate settles its spelling. */
function coordinate({ tag, body }) {
  const short = body[0] === 0 ? body.subarray(1) : body;
  must(tag === 0x02 && short.length <= 32, "certificate_signature");
  return join(new Uint8Array(32 - short.length), short);
}

/** Serial, dates and key are read, all else is known beforehand; then the certificate is written anew and compared. */
async function readCertificate(bytes, subject, issuer, at) {
  must(bytes.length <= CERTIFICATE_BYTES_MAX, "certificate_size");
  const [content, , seal] = only(bytes, 0x30, 3);
  const [, serial, , , validity, , spki] = only(content.whole, 0x30, 8);
  const [from, to] = only(validity.whole, 0x30, 2);
  const [, bits] = only(spki.whole, 0x30, 2);
  must(serial.body.length <= 20 && serial.body[0] < 0x80 && serial.body.some((byte) => byte !== 0), "certificate_profile");
  must(bits.body.length === 66, "certificate_profile");
  must(seal.tag === 0x03 && seal.body[0] === 0, "certificate_signature");
  const [r, s] = only(seal.body.subarray(1), 0x30, 2);
  const values = { serial: serial.body, point: bits.body.subarray(1), notBefore: instant(from), notAfter: instant(to) };
  must(Number.isFinite(values.notBefore) && Number.isFinite(values.notAfter), "certificate_dates");
  const expected = await certificateContent(subject, values, issuer);
  const signature = der(0x03, [0], sequence(number(r.body), number(s.body)));
  must(same(bytes, sequence(expected, ECDSA_SHA256, signature)), "certificate_profile");
  let key;
  try {
    key = await verifyKey(issuer.point);
    await verifyKey(values.point);
  } catch {
    throw new Untrusted("certificate_key");
  }
  must(await verifies(key, join(coordinate(r), coordinate(s)), expected), "certificate_signature");
  // The customer's clock decides nothing by itself: a day either way is forgiven, and noted.
  must(at >= values.notBefore - DAY_S && at <= values.notAfter + DAY_S, "certificate_dates");
  return { ...values, urn: subject.urn, clockDiffers: issuer.clockDiffers || at < values.notBefore || at > values.notAfter };
}

const PARTIES = /^urn:hanbit:[a-z0-9-]{1,32}:(gateway|merchant:[a-z0-9-]{1,32}|temporary:[a-z0-9-]{1,32}:[A-Za-z0-9_-]{22})$/;

/** The names of the authorities above a leaf, nearest first: one below the root, two where a merchant's session authority issues. */
function pathOf(authority, urn) {
  return authority === "session" ? [`session:${urn.split(":")[4]}`, "merchant"] : [authority];
}

/** Leaf and its authorities (DER) of `urn` for `purpose`, verified up to the pinned root: {point, kid, notBefore, notAfter, clockDiffers}. */
export async function verifyChain(chain, { urn, purpose, authority }, pin, at) {
  must(PARTIES.test(urn) && Object.hasOwn(PURPOSES, purpose), "certificate_urn");
  const path = pathOf(authority, urn);
  must(Array.isArray(chain) && chain.length === path.length + 1, "certificate_chain");
  const [, , operator] = pin.gateway.split(":");
  must(urn.startsWith(`urn:hanbit:${operator}:`), "certificate_operator");
  let issuer = { urn: `urn:hanbit:${operator}:authority:root`, point: decode(pin.root, "pin"), clockDiffers: false };
  for (let depth = path.length; depth > 0; depth -= 1) {
    const kind = path[depth - 1].split(":")[0];
    const subject = { urn: `urn:hanbit:${operator}:authority:${path[depth - 1]}`, pathLength: PATH_LENGTHS[kind] };
    issuer = await readCertificate(chain[depth], subject, issuer, at);
  }
  const { point, notBefore, notAfter, clockDiffers } = await readCertificate(chain[0], { urn, purpose }, issuer, at);
  return { point, kid: base64url(await sha256(chain[0])), notBefore, notAfter, clockDiffers };
}

/* ---- 3  signed messages ------------------------------------------------------------------------------------------------ */

const MESSAGE_MAX = 32 * 1024;
const COMMON = ["v", "iss", "aud", "jti", "iat"];

export function takeApart(compact, typ, headerMembers) {
  must(typeof compact === "string" && compact.length <= MESSAGE_MAX, `${typ}_size`);
  const segments = compact.split(".");
  must(segments.length === 3, `${typ}_shape`);
  const [head, payload, signature] = segments.map((segment) => decode(segment, `${typ}_shape`));
  const header = strictObject(head, headerMembers, [], `${typ}_header`);
  must(header.alg === "ES256" && header.typ === `hanbit-${typ}` && signature.length === 64, `${typ}_header`);
  return { header, payload, signature, signed: ascii(`${segments[0]}.${segments[1]}`) };
}

export async function claimsOf({ header, payload, signature, signed }, leaf, typ, required, optional) {
  must(header.kid === leaf.kid, `${typ}_kid`);
  must(await verifies(await verifyKey(leaf.point), signature, signed), `${typ}_signature`);
  const claims = strictObject(payload, [...COMMON, ...required], optional, `${typ}_claims`);
  must(claims.v === 1, `${typ}_claims`);
  return claims;
}

/* ---- 4  the opening ---------------------------------------------------------------------------------------------------- */

export const certificates = (texts) => texts.map((text) => decode(text, "certificate_base64", base64));

async function orderHash(opening) {
  if (opening.order !== "") return base64url(await sha256(ascii(opening.order)));
  const { merchant, tid, amount, currency } = opening; // the document's own form: nothing but what the address said
  return base64url(await sha256(ascii(["hanbit1 plain", merchant.id, tid, amount, currency].join("\0"))));
}

async function verifyOrder(opening, pin, at) {
  must(Array.isArray(opening.merchant_chain), "order_certificate");
  const taken = takeApart(opening.order, "order", ["alg", "typ", "kid"]);
  const urn = opening.merchant.urn;
  const leaf = await verifyChain(certificates(opening.merchant_chain), { urn, purpose: "merchant-sign", authority: "merchant" }, pin, at);
  const required = ["tid", "amount", "currency", "oi", "text", "return_url", "pay_by"];
  const claims = await claimsOf(taken, leaf, "order", required, ["refund_by"]);
  must(claims.iss === urn && claims.aud === pin.gateway, "order_parties");
  for (const field of ["tid", "amount", "currency", "text"]) must(claims[field] === opening[field], `order_${field}`);
  return { claims, clockDiffers: leaf.clockDiffers };
}

/** What the pinned gateway signed for customers: its claims and its leaf. */
export async function verifyGateway(compact, typ, required, optional, pin, at) {
  const taken = takeApart(compact, typ, ["alg", "typ", "kid", "x5c"]);
  must(Array.isArray(taken.header.x5c), `${typ}_header`);
  const chain = certificates(taken.header.x5c);
  const leaf = await verifyChain(chain, { urn: pin.gateway, purpose: "gateway-sign", authority: "gateway" }, pin, at);
  const claims = await claimsOf(taken, leaf, typ, required, optional);
  must(claims.iss === pin.gateway && claims.aud === pin.gateway.replace(/:gateway$/, ":customer"), `${typ}_parties`);
  return { claims, leaf, chain };
}

export const now = () => Math.floor(Date.now() / 1000);

/** Verify everything that the gateway sent at R4 against the pin and against itself; returns what sealing needs. */
export async function verifyOpening(opening, pin = PIN, at = now()) {
  must(opening.gateway === pin.gateway, "gateway");
  const required = ["ctx", "n", "seal", "order", "tid", "amount", "currency", "payee", "exp"];
  const { claims, leaf, chain } = await verifyGateway(opening.keys, "keys", required, [], pin, at);
  for (const field of ["tid", "amount", "currency"]) must(claims[field] === opening[field], `keys_${field}`);
  must(/^[1-9][0-9]{0,14}$/.test(claims.amount), "keys_amount");
  must(/^[A-Za-z0-9_-]{22}$/.test(claims.ctx) && /^[A-Za-z0-9_-]{43}$/.test(claims.n), "keys_claims");
  must(claims.payee === opening.merchant.name, "keys_payee");
  must(claims.order === opening.order_hash && claims.order === (await orderHash(opening)), "keys_order");
  const sealer = { urn: pin.gateway, purpose: "gateway-seal", authority: "gateway" };
  const seal = await verifyChain([...certificates([claims.seal]), chain[1]], sealer, pin, at);
  const order = opening.order === "" ? null : await verifyOrder(opening, pin, at);
  const clockDiffers = leaf.clockDiffers || seal.clockDiffers || (order?.clockDiffers ?? false);
  return { claims, seal, order: order?.claims ?? null, merchant: opening.merchant.urn, clockDiffers };
}

/* ---- 5  sealing -------------------------------------------------------------------------------------------------------- */

export const json = (value) => encoder.encode(JSON.stringify(value));

async function encrypt(key, header, wrapped, plaintext) {
  const protectedHeader = base64url(json(header));
  const iv = random(12);
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: ascii(protectedHeader) }, key, plaintext);
  const bytes = new Uint8Array(sealed);
  return [protectedHeader, ...[wrapped, iv, bytes.subarray(0, -16), bytes.subarray(-16)].map(base64url)].join(".");
}

/** JWE, ECDH-ES+A256KW and A256GCM (RFC 7518 section 4.6), to a P-256 point; `beside` stands in its header, for all to see. */
export async function sealToKey({ point, kid }, typ, plaintext, beside = {}) {
  const ecdh = { name: "ECDH", namedCurve: "P-256" };
  const receiver = await crypto.subtle.importKey("raw", point, ecdh, false, []);
  const ephemeral = await crypto.subtle.generateKey(ecdh, false, ["deriveBits"]);
  const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", ephemeral.publicKey);
  const agreed = new Uint8Array(await crypto.subtle.deriveBits({ name: "ECDH", public: receiver }, ephemeral.privateKey, 256));
  const algorithm = ascii("ECDH-ES+A256KW");
  const wrapping = await sha256(join([0, 0, 0, 1], agreed, [0, 0, 0, algorithm.length], algorithm, new Uint8Array(8), [0, 0, 1, 0]));
  const wrappingKey = await crypto.subtle.importKey("raw", wrapping, "AES-KW", false, ["wrapKey"]);
  const contentKey = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
  const wrapped = new Uint8Array(await crypto.subtle.wrapKey("raw", contentKey, wrappingKey, "AES-KW"));
  agreed.fill(0);
  wrapping.fill(0);
  return encrypt(contentKey, { alg: "ECDH-ES+A256KW", enc: "A256GCM", typ, kid, epk: { kty, crv, x, y }, ...beside }, wrapped, plaintext);
}

/** Make SK, seal it, derive the two keys (which no script can read back) and forget SK. */
export async function newSession({ claims, seal, merchant }, gateway = PIN.gateway) {
  const { ctx, n, tid, order, amount, currency } = claims;
  const secret = random(32);
  const payload = json({ sk: base64url(secret), ctx, n, tid });
  const key = await sealToKey(seal, "hanbit-key", payload);
  const base = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  secret.fill(0);
  payload.fill(0);
  const salt = await sha256(ascii(ctx + n));
  const derived = (info) =>
    crypto.subtle.deriveKey({ name: "HKDF", hash: "SHA-256", salt, info: ascii(info) }, base, { name: "AES-GCM", length: 256 }, false, ["encrypt"]);
  const keys = { login: await derived("hanbit1 login"), pay: await derived("hanbit1 pay") };
  return { key, keys, ctx, n, tid, order, amount, currency, merchant, gateway, sequence: 0 };
}

async function sealed(session, kind, value) {
  session.sequence += 1;
  const header = { alg: "dir", enc: "A256GCM", typ: `hanbit-${kind}`, ctx: session.ctx, sequence: session.sequence, tid: session.tid };
  const plaintext = json(value);
  const compact = await encrypt(session.keys[kind], header, new Uint8Array(0), plaintext);
  plaintext.fill(0);
  return compact;
}

/** R5, SK(ID, password): `login` is {method: "password", id, password} or {method: "passkey", assertion}. */
export const sealLogin = (session, login) => sealed(session, "login", login);

export const loginChallenge = async ({ ctx, n }) => base64url(await sha256(join(ascii("hanbit1 login\0"), ascii(ctx + n))));
export const consentChallenge = async (core) => base64url(await sha256(join(ascii("hanbit1 consent\0"), await sha256(encoder.encode(core)))));

/** How the core names an account, {id} from the screen or {number} as typed, for which only its salted hash stands; and what goes beside it. */
export async function nameAccount(account) {
  if (account.number === undefined) return { name: account.id, beside: {} };
  const salt = random(32);
  const name = `typed:${base64url(await sha256(join(ascii("hanbit1 account\0"), salt, ascii(account.number))))}`;
  return { name, beside: { number: account.number, number_salt: base64url(salt) } };
}

/** What the customer approves. */
export async function makeCore(session, account) {
  const { gateway, merchant, tid, order, amount, currency, ctx } = session;
  const { name, beside } = await nameAccount(account);
  const core = { v: 1, gateway, merchant, tid, order, amount, currency, account: name, salt: base64url(random(32)), ctx };
  return { core: JSON.stringify(core), beside };
}

/** How he proves it is he: `method` is password (the account's) or passkey (the assertion's JSON text). */
export const makeAuth = (method, value) => JSON.stringify({ method, value, salt: base64url(random(32)) });

/** R7, SK(PI, TID, AMOUNT). */
export function sealPay(session, { core, beside }, method, value) {
  return sealed(session, "pay", { core, auth: makeAuth(method, value), ...beside });
}

/** A form of the customer's home, to the sealing key whose certificate came with its blank {ctx, n, exp, seal}. */
export async function sealForm({ ctx, n, exp, seal }, fields, pin, at) {
  const sealer = { urn: pin.gateway, purpose: "gateway-seal", authority: "gateway" };
  const { point, kid } = await verifyChain(certificates(seal), sealer, pin, at);
  const plaintext = json({ ctx, n, exp, fields });
  const compact = await sealToKey({ point, kid }, "hanbit-form", plaintext);
  plaintext.fill(0);
  return compact;
}

/* ---- 6  the receipt ---------------------------------------------------------------------------------------------------- */

/** 28: signed by the pinned gateway, for the order that was approved; `payment` where an answer named it. */
export async function verifyReceipt(compact, { tid, amount, currency, order, payee }, payment, pin = PIN, at = now()) {
  const required = ["payment", "tid", "amount", "currency", "payee", "order", "time", "prev"];
  const { claims } = await verifyGateway(compact, "receipt", required, [], pin, at);
  for (const [field, value] of Object.entries({ tid, amount, currency, order, payee })) must(claims[field] === value, `receipt_${field}`);
  must(payment === undefined || claims.payment === payment, "receipt_payment");
  return claims;
}
