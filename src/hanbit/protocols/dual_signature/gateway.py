"""The gateway's role in the dual-signature checkout: what it verifies, opens, compares and signs. No socket, no clock, no database.

D7 in numbered order; what is asked of the book (1, 3, 7, 8, 9) is `payments/dual_signature_flow.py`:

    1   these very bytes are known: the stored answer, whatever the time
    2   verify_authorization_request  the merchant's own signature; straight from this peer
    3   a live grant for this merchant, tid and order; else one uniform decline
    4   open_envelope                 its hash, its sid, PI opens; the core names that grant (else the same decline)
    5   verify_dual                   by the temporary key of this session with this merchant; it is the one that the request asks about
        check_halves                  pimd from the gateway's own PI, oimd from PI and request, pomd from both
    6   compare_purchase              every name, nonce, thumbprint, amount, currency and order hash, wherever it is carried
    7   the session was never used
    8   the customer's factor (`payments/factors.py`)
    9   payable: hold and capture
        make_authorization            approved or declined
        make_receipt                  where it is approved, for the customer

D8, by which no shop can hide what happened:

        verify_result_request         the customer of this session asks for himself
        make_result                   state, reason, receipt
"""

from dataclasses import dataclass

from hanbit.crypto.certificates import validity
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import sealed
from hanbit.protocols.dual_signature.digests import join_frame, joint_digest, pi_digest
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest, Dual, Result, ResultRequest
from hanbit.protocols.dual_signature.temporary import AsTaken, Authorities, TemporaryTrust, thumbprint_of
from hanbit.protocols.redirect.gateway import Offer, SealKey
from hanbit.protocols.redirect.messages import Receipt
from hanbit.protocols.sealed import Instruction, PurchaseCore
from hanbit.protocols.signed import SignedMessage, Signer, Trust, head, peek_chain, sign, verify

RESULT_REQUEST_LIFE_MAX_S = 10 * 60


@dataclass(frozen=True, slots=True)
class VerifiedDual:
    """A dual signature with the name (RFC 7638) of the temporary key that made it; only `verify_dual` makes one.

    It is good from the second in which it was verified to the last one of its certificates.
    """

    message: SignedMessage[Dual]
    thumbprint: str
    verified_at: int
    good_until: int


def verify_authorization_request(
    unverified: str, *, trust: Trust, gateway: str, merchant_urn: str, at: int
) -> SignedMessage[AuthorizationRequest]:
    """2: the merchant's own request, straight from this merchant."""
    return verify(unverified, AuthorizationRequest, trust=trust, audience=gateway, at=at, sender=merchant_urn)


def peek_seal_kid(envelope: str) -> str:
    """4: the gateway-seal key that an envelope says it is sealed to; ProtocolViolation("sealed") if it is no envelope."""
    return sealed.peek_purchase(envelope)[0]


def open_envelope(envelope: str, request: SignedMessage[AuthorizationRequest], seal: SealKey) -> Instruction[PurchaseCore]:
    """4: PI of the session that the request names, from the very envelope that it names; else ProtocolViolation("sealed")."""
    if not envelope.isascii() or ids.digest(envelope.encode("ascii")) != request.claims.envelope_hash:
        raise ProtocolViolation("sealed")
    return sealed.open_purchase(envelope, seal.private, seal.kid, sid=request.claims.sid)


def verify_dual(
    request: SignedMessage[AuthorizationRequest], *, root: bytes, authorities: Authorities, gateway: str, at: int
) -> VerifiedDual:
    """5: signed by the temporary key that this merchant certified for this session, for this gateway, and in time at its first receipt."""
    claims = request.claims
    trust = TemporaryTrust(root, claims.iss, claims.sid, authorities)
    dual = verify(claims.dual, Dual, trust=trust, audience=gateway, at=at)
    _same(claims.prev, dual.hash, "prev")
    if at > dual.claims.exp:
        raise ProtocolViolation("expired", "session")
    chain = peek_chain(claims.dual)
    return VerifiedDual(dual, thumbprint_of(chain), at, min(validity(der)[1] for der in chain))


def check_halves(request: AuthorizationRequest, dual: Dual, instruction: Instruction[PurchaseCore]) -> None:
    """5: the customer signed this PI, which I hold, beside that OI, which the merchant holds; and PI says the same."""
    _same(dual.pimd, pi_digest(instruction.core_hash, instruction.auth_hash), "pimd")
    _same(request.pimd, dual.pimd, "pimd")
    _same(request.oimd, dual.oimd, "oimd")
    _same(instruction.core.oimd, dual.oimd, "oimd")
    _same(dual.pomd, joint_digest(dual.pimd, dual.oimd), "pomd")


def compare_purchase(
    request: AuthorizationRequest, dual: VerifiedDual, instruction: Instruction[PurchaseCore], offer: Offer, *, gateway: str, at: int
) -> None:
    """6: what the customer approved, what he signed, what the merchant asks for and what it once signed as its order are one thing."""
    core, signed = instruction.core, dual.message.claims
    _same(core.gateway, gateway, "gateway")
    _same(signed.gateway, gateway, "gateway")
    _same(request.iss, offer.merchant_urn, "merchant")
    _same(core.merchant, offer.merchant_urn, "merchant")
    _same(signed.merchant, offer.merchant_urn, "merchant")
    _same(request.tid, offer.tid, "tid")
    _same(core.tid, offer.tid, "tid")
    _same(signed.tid, offer.tid, "tid")
    _same(request.order, offer.order_hash, "order")
    _same(core.order, offer.order_hash, "order")
    _same(signed.order, offer.order_hash, "order")
    _same((request.amount, request.currency), (offer.money.text, offer.money.currency), "amount")
    _same((core.amount, core.currency), (offer.money.text, offer.money.currency), "amount")
    _same(core.sid, request.sid, "sid")
    _same(signed.sid, request.sid, "sid")
    _same(core.nc, signed.nc, "nc")
    _same(core.nm, signed.nm, "nm")
    _same(core.thumbprint, dual.thumbprint, "thumbprint")
    _same(core.exp, signed.exp, "exp")
    if at > core.exp:
        raise ProtocolViolation("expired", "session")


def make_authorization(
    request: SignedMessage[AuthorizationRequest], *, signer: Signer, payment: str | None, reason: str | None, at: int
) -> SignedMessage[Authorization]:
    """D7: approved where `payment` is given (the money has moved), else declined with a reason that the merchant may know."""
    if (payment is None) is (reason is None):
        raise AssertionError("an authorization is approved or declined")
    asked = request.claims
    claims = Authorization(
        **head(signer, asked.iss, at),
        sid=asked.sid,
        tid=asked.tid,
        amount=asked.amount,
        currency=asked.currency,
        order=asked.order,
        req=request.hash,
        result="declined" if payment is None else "approved",
        payment=payment,
        reason=reason,
    )
    return sign(claims, signer)


def make_receipt(
    authorization: SignedMessage[Authorization], *, signer: Signer, customer: str, payee: str, at: int
) -> SignedMessage[Receipt]:
    """D7: the customer's proof, the same as after a redirect; it continues the authorization."""
    said = authorization.claims
    if said.payment is None:
        raise AssertionError("a receipt is for a payment that was approved")
    claims = Receipt(
        **head(signer, customer, at),
        payment=said.payment,
        tid=said.tid,
        amount=said.amount,
        currency=said.currency,
        payee=payee,
        order=said.order,
        time=at,
        prev=authorization.hash,
    )
    return sign(claims, signer)


def frame(authorization: str, receipt: str | None) -> str:
    """D7: what goes back over the line: the receipt stands beside an approval."""
    return authorization if receipt is None else join_frame(authorization, receipt)


def verify_result_request(
    unverified: str, *, root: bytes, merchant_urn: str, sid: str, gateway: str, at: int, certified_at: int | None = None
) -> SignedMessage[ResultRequest]:
    """D8: the customer of this session, by its key; `certified_at` is when its dual signature was taken, if it was.

    He may ask for longer than his certificate lives, as that key is known since then; how long the request itself is good it says itself.
    """
    trust = TemporaryTrust(root, merchant_urn, sid)
    known = trust if certified_at is None else AsTaken(trust, certified_at)
    request = verify(unverified, ResultRequest, trust=known, audience=gateway, at=at)
    _same(request.claims.sid, sid, "sid")
    if not at <= request.claims.exp <= at + RESULT_REQUEST_LIFE_MAX_S:
        raise ProtocolViolation("expired", "result-request")
    return request


def make_result(
    request: SignedMessage[ResultRequest],
    *,
    signer: Signer,
    customer: str,
    state: str,
    reason: str | None,
    message: str,
    receipt: str | None,
    at: int,
) -> SignedMessage[Result]:
    """D8: the state of the payment, why the last attempt was declined in the customer's own words, the receipt where there is one."""
    claims = Result(
        **head(signer, customer, at),
        sid=request.claims.sid,
        tid=request.claims.tid,
        req=request.hash,
        state=state,
        reason=reason,
        message=message,
        receipt=receipt,
    )
    return sign(claims, signer)


def _same(received: object, known: object, what: str) -> None:
    if received != known:
        raise ProtocolViolation(what, "the parts of this purchase differ")
