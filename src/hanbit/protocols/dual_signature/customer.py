"""The customer's role in the dual-signature checkout: a fresh key, the shop's answer to it, OI and PI under one signature; no I/O.

Whoever opened the order (`redirect.customer.verify_opening`, checks 1 to 12) already knows payee, amount and order under the pinned root.

    D1   verify_lines              the lines are those that the shop's signed order stands for
    D2   make_session_request      a fresh key kc and a nonce nc; the shop is asked to certify kc for one session
    D3   verify_session            the ten checks below
    D5   make_order_information    OI, what the shop may know
         make_core                 the first half of PI, what the customer approves; the second is `redirect.customer.auth_…` or `auth_code`
         make_purchase             the dual signature by kc, and PI sealed to the gateway
    D8   verify_receipt            the gateway's receipt, whoever hands it over
         make_result_request, verify_result    the same asked of the gateway itself, by kc

`verify_session` checks, in this order:

 1. the session is signed by a merchant-sign key of the payee, certified up to the pinned root, and addressed to customers
 2. it answers my request
 3. it echoes my nonce
 4. it names my key kc by its thumbprint
 5. its gateway is the one that is pinned here, by which the customer is about to approve
 6. tid, amount, currency and order hash are those that are shown
 7. it has not ended, and lasts no longer than a session may
 8. the temporary certificate leads to the pinned root through the session authority of this very merchant
 9. it is for this merchant and this session, and for no longer than a temporary certificate may be
10. it is of my key kc

kc lives for one attempt and is never written down. It proves that one customer did all this, and not who he is: that is `auth` in PI.
"""

import secrets
from dataclasses import dataclass, field
from typing import Final, NoReturn

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import certificates
from hanbit.crypto.keys import new_key, thumbprint
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols import sealed, signed
from hanbit.protocols.dual_signature.digests import joint_digest, oi_digest, pi_digest
from hanbit.protocols.dual_signature.messages import (
    LINES_MAX,
    SESSION_LIFE_S,
    Dual,
    OrderInformation,
    Purchase,
    Result,
    ResultRequest,
    Session,
    SessionAnswer,
    SessionRequest,
)
from hanbit.protocols.dual_signature.temporary import PURPOSE, TEMPORARY_LIFE_MAX_S, temporary_urn
from hanbit.protocols.fields import VERSION
from hanbit.protocols.redirect import customer as redirect
from hanbit.protocols.redirect.customer import Opening, Pin
from hanbit.protocols.redirect.merchant import hash_lines
from hanbit.protocols.redirect.messages import Receipt
from hanbit.protocols.sealed import PurchaseCore
from hanbit.protocols.signed import SignedMessage, Signer

RESULT_REQUEST_LIFE_S: Final = 120
_RANDOM_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Asking:
    """D2: kc, and the request that asks a shop to certify it."""

    opening: Opening
    request: SignedMessage[SessionRequest]
    key: EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """D3 as this customer may believe it; only `verify_session` makes one. `signer` is kc with its temporary certificate."""

    opening: Opening
    session: SignedMessage[Session]
    signer: Signer


def verify_lines(opening: Opening, lines: str, lines_salt: str) -> str:
    """D1: the lines that the shop's page shows are those that its signed order stands for."""
    try:
        salt = ids.decode_base64url(lines_salt)
    except BadInput as error:
        raise ProtocolViolation("lines", "no salt") from error
    if len(salt) != _RANDOM_BYTES or len(lines) > LINES_MAX:
        _violation("lines", "too long, or no salt")
    try:
        text = lines.encode("utf-8")
    except UnicodeError as error:
        raise ProtocolViolation("lines", "no text") from error
    if hash_lines(salt, text) != opening.oi:
        _violation("lines", "not those of the signed order")
    return lines


def make_session_request(opening: Opening, *, at: int) -> Asking:
    """D2 (B1): a fresh key and nonce for one attempt."""
    key = new_key()
    claims = SessionRequest(
        v=VERSION,
        iss=ids.urn(_operator(opening), "customer"),
        aud=opening.merchant,
        jti=ids.new_token(),
        iat=at + opening.clock_offset_s,
        key=signed.public_key(key.public_key()),
        nc=_random(),
        order=opening.order_hash,
    )
    return Asking(opening, signed.sign_keyed(claims, key), key)


def verify_session(unverified: SessionAnswer, asking: Asking, *, pin: Pin, at: int) -> OpenSession:
    """D3: checks 1 to 10; raises ProtocolViolation naming the broken rule."""
    opening, request = asking.opening, asking.request
    session = redirect.verify_pinned(unverified.session, Session, pin=pin, urn=opening.merchant, audience=pin.audience, at=at)
    claims, chain = session.claims, signed.decode_chain(unverified.certificate)
    _same(claims.req, request.hash, "req")
    _same(claims.nc, request.claims.nc, "nc")
    _same(claims.thumbprint, request.kid, "thumbprint")
    _same(claims.gateway, pin.gateway, "gateway")
    _same(claims.tid, opening.redirect.tid, "tid")
    _same((claims.amount, claims.currency), (opening.money.text, opening.money.currency), "amount")
    _same(claims.order, opening.order_hash, "order")
    if not at + opening.clock_offset_s <= claims.exp <= claims.iat + SESSION_LIFE_S:
        _violation("expired", "session")
    certificate = pin.certificate(chain, at)
    if certificate.urn != temporary_urn(pin.operator, opening.redirect.merchant_id, claims.sid):
        _violation("temporary", "certified for another merchant or another session")
    if certificate.not_after > claims.iat + TEMPORARY_LIFE_MAX_S:
        _violation("certificate_dates", "a temporary certificate lives for a quarter of an hour")
    _same(thumbprint(certificate.public), request.kid, "thumbprint")
    signer = Signer(urn=certificate.urn, purpose=PURPOSE, kid=certificates.kid(chain[0]), chain=chain, key=asking.key)
    return OpenSession(opening, session, signer)


def make_order_information(session: OpenSession, lines: str) -> str:
    """D5: OI's text. Its digest is over these very bytes; the salt keeps the gateway from guessing the lines."""
    claims = session.session.claims
    oi = OrderInformation(
        v=VERSION,
        tid=claims.tid,
        sid=claims.sid,
        nc=claims.nc,
        nm=claims.nm,
        merchant=session.opening.merchant,
        gateway=claims.gateway,
        amount=claims.amount,
        currency=claims.currency,
        lines=lines,
        salt=_random(),
    )
    return msgspec.json.encode(oi).decode("utf-8")


def make_core(session: OpenSession, *, account: str, grant: str, oi: str) -> str:
    """D5: the text of what the customer approves: this amount, payee and order, from this account, in this session, beside this OI."""
    claims = session.session.claims
    core = PurchaseCore(
        v=VERSION,
        gateway=claims.gateway,
        merchant=session.opening.merchant,
        tid=claims.tid,
        order=claims.order,
        amount=claims.amount,
        currency=claims.currency,
        account=account,
        salt=_random(),
        exp=claims.exp,
        grant=grant,
        sid=claims.sid,
        nc=claims.nc,
        nm=claims.nm,
        oimd=oi_digest(oi),
        thumbprint=claims.thumbprint,
    )
    return msgspec.json.encode(core).decode("utf-8")


def auth_code(core: str, secret: bytes) -> str:
    """The one-time code: good for this grant, this session and this core only."""
    return redirect.auth_code(msgspec.json.decode(core, type=PurchaseCore).code_binding, core, secret)


def make_purchase(
    session: OpenSession, *, oi: str, core: str, auth: str, at: int, number: str | None = None, number_salt: bytes | None = None
) -> Purchase:
    """D5 (B3): one signature over both halves; the shop gets OI and the hash of PI, and PI itself only as sealed to the gateway."""
    opening, answered = session.opening, session.session
    pimd, oimd = pi_digest(ids.digest(core.encode("utf-8")), ids.digest(auth.encode("utf-8"))), oi_digest(oi)
    claims = answered.claims
    dual = Dual(
        **signed.head(session.signer, claims.gateway, at + opening.clock_offset_s),
        pimd=pimd,
        oimd=oimd,
        pomd=joint_digest(pimd, oimd),
        merchant=opening.merchant,
        gateway=claims.gateway,
        sid=claims.sid,
        nc=claims.nc,
        nm=claims.nm,
        tid=claims.tid,
        order=claims.order,
        prev=answered.hash,
        exp=claims.exp,
    )
    plain = sealed.pay_plain(core, auth, number=number, number_salt=number_salt)
    envelope = sealed.seal_purchase(opening.seal.public, opening.seal.kid, sid=claims.sid, plain=plain)
    return Purchase(oi=oi, pimd=pimd, dual=signed.sign(dual, session.signer).compact, envelope=envelope)


def verify_receipt(unverified: str | bytes, session: OpenSession, *, pin: Pin, at: int) -> SignedMessage[Receipt]:
    """D8: the same checks 13 and 14 as after a redirect, whoever hands the receipt over; its payment's number is new to the customer."""
    return redirect.verify_receipt(unverified, opening=session.opening, payment=None, pin=pin, at=at)


def make_result_request(session: OpenSession, *, at: int) -> SignedMessage[ResultRequest]:
    """D8: the gateway is asked directly, by the key that bought."""
    now, claims = at + session.opening.clock_offset_s, session.session.claims
    request = ResultRequest(
        **signed.head(session.signer, claims.gateway, now), sid=claims.sid, tid=claims.tid, exp=now + RESULT_REQUEST_LIFE_S
    )
    return signed.sign(request, session.signer)


def verify_result(
    unverified: str | bytes, request: SignedMessage[ResultRequest], session: OpenSession, *, pin: Pin, at: int
) -> SignedMessage[Result]:
    """D8: the gateway's answer to this very request; a receipt in it passes the checks of any other."""
    result = redirect.verify_pinned(unverified, Result, pin=pin, urn=pin.gateway, audience=pin.audience, at=at)
    _same(result.claims.req, request.hash, "req")
    _same((result.claims.sid, result.claims.tid), (request.claims.sid, request.claims.tid), "sid")
    if result.claims.receipt is not None:
        verify_receipt(result.claims.receipt, session, pin=pin, at=at)
    return result


def _operator(opening: Opening) -> str:
    return opening.gateway.split(":")[2]


def _random() -> str:
    return ids.encode_base64url(secrets.token_bytes(_RANDOM_BYTES))


def _same(received: object, known: object, what: str) -> None:
    if received != known:
        _violation(what, "not what was asked for or shown")


def _violation(rule: str, detail: str) -> NoReturn:
    raise ProtocolViolation(rule, detail)
