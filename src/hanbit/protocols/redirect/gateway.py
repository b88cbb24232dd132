"""The gateway's role in the redirect checkout: what it signs, what it verifies and what it compares. No socket, no clock, no database."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import envelopes
from hanbit.crypto.certificates import kid
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.kernel.money import Money, parse_money
from hanbit.protocols.line import ACKNOWLEDGED_MAX, Acknowledgement
from hanbit.protocols.redirect.messages import (
    Closed,
    Confirmation,
    Consent,
    Inquiry,
    Keys,
    Notice,
    Order,
    Receipt,
    Refusal,
    Settled,
    Status,
    Voided,
    plain_order_hash,
)
from hanbit.protocols.sealed import CommonCore, Core, Instruction
from hanbit.protocols.signed import SignedMessage, Signer, Trust, decode_chain, encode_der, head, peek_typ, sign, verify

OPENING_LIFE_S = 30 * 60
"""How long one opening (ctx, n) may be used; never beyond the order's `pay_by`."""
HOLD_LIFE_S = 10 * 60
"""A hold ends so long after the notice was stored."""
ORDER_LIFE_MAX_S = 24 * 3600

Answer = SignedMessage[Confirmation] | SignedMessage[Refusal]


@dataclass(frozen=True, slots=True)
class SealKey:
    """The current gateway-seal key with its certificate."""

    kid: str
    certificate: bytes
    private: EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Clear:
    """What the browser brought in clear (R3): whose order, which, how much."""

    merchant: str
    tid: str
    money: Money


@dataclass(frozen=True, slots=True)
class Offer:
    """An order as the gateway may take payment for it; `order` is None in the document's plain form."""

    merchant: str
    merchant_urn: str
    tid: str
    money: Money
    order_hash: str
    order: SignedMessage[Order] | None
    text: str
    return_url: str
    pay_by: int | None


def read_clear(mid: str, tid: str, amount: str, currency: str) -> Clear:
    """The grammar of R3's address; BadInput names the first field that does not meet it."""
    ids.check(ids.PARTY_ID, mid, "MID")
    ids.check(ids.TID, tid, "TID")
    return Clear(mid, tid, parse_money(amount, currency))


def verify_order(unverified: str, *, trust: Trust, gateway: str, at: int) -> SignedMessage[Order]:
    """R4: the merchant's signed order; whose it is and what it says is compared by `signed_offer`."""
    return verify(unverified, Order, trust=trust, audience=gateway, at=at)


def signed_offer(order: SignedMessage[Order], *, merchant: str, merchant_urn: str, at: int) -> Offer:
    """R4: an order of this merchant as something that may be paid; raises ProtocolViolation."""
    claims = order.claims
    if claims.iss != merchant_urn:
        raise ProtocolViolation("sender", claims.iss)
    try:
        money = parse_money(claims.amount, claims.currency)
    except BadInput as error:
        raise ProtocolViolation("amount", claims.amount) from error
    if claims.pay_by > at + ORDER_LIFE_MAX_S:
        raise ProtocolViolation("pay_by", "more than a day ahead")
    return Offer(merchant, merchant_urn, claims.tid, money, order.hash, order, claims.text, claims.return_url, claims.pay_by)


def plain_offer(clear: Clear, *, merchant_urn: str, return_url: str) -> Offer:
    """R3 in the document's own form: nothing is signed, the chain begins at the hash of what was received."""
    order_hash = plain_order_hash(clear.merchant, clear.tid, clear.money.text, clear.money.currency)
    return Offer(clear.merchant, merchant_urn, clear.tid, clear.money, order_hash, None, "", return_url, None)


def compare(clear: Clear, offer: Offer) -> None:
    """R4: TID and AMOUNT in clear against the signed order; unequal stops before the login, and the shop is asked nothing."""
    if (clear.merchant, clear.tid, clear.money) != (offer.merchant, offer.tid, offer.money):
        raise ProtocolViolation("amount_mismatch", "the address and the signed order differ")


def make_keys(offer: Offer, *, signer: Signer, seal: SealKey, server_key: bytes, customer: str, payee: str, at: int) -> SignedMessage[Keys]:
    """R4: fresh ctx and n for one opening. Nothing is stored: n can be computed again from the message."""
    ctx = ids.new_token()
    exp = at + OPENING_LIFE_S if offer.pay_by is None else min(offer.pay_by, at + OPENING_LIFE_S)
    claims = Keys(
        **head(signer, customer, at),
        ctx=ctx,
        n=_number(server_key, ctx, offer.order_hash, exp),
        seal=encode_der(seal.certificate),
        order=offer.order_hash,
        tid=offer.tid,
        amount=offer.money.text,
        currency=offer.money.currency,
        payee=payee,
        exp=exp,
    )
    return sign(claims, signer)


def verify_keys(unverified: str, *, trust: Trust, gateway: str, customer: str, at: int) -> SignedMessage[Keys]:
    """R5, R7: our own `keys` come back in clear; what they are for is compared by `check_keys`."""
    return verify(unverified, Keys, trust=trust, audience=customer, at=at, sender=gateway)


def check_keys(keys: SignedMessage[Keys], offer: Offer, *, server_key: bytes, at: int) -> None:
    """R5, R7: keys for this very order, n computed again, not beyond their life."""
    claims = keys.claims
    if (claims.order, claims.tid, claims.amount, claims.currency) != (offer.order_hash, offer.tid, offer.money.text, offer.money.currency):
        raise ProtocolViolation("link", "keys of another order")
    expected = _number(server_key, claims.ctx, claims.order, claims.exp)
    if not envelopes.equal(expected.encode("ascii"), claims.n.encode("ascii")):
        raise ProtocolViolation("n")
    if at > claims.exp:
        raise ProtocolViolation("expired", "this opening has ended")


def seal_kid(claims: Keys) -> str:
    """Which gateway-seal certificate the opening was made under."""
    return kid(decode_chain([claims.seal])[0])


def compare_instruction(instruction: Instruction[Core], offer: Offer, *, gateway: str) -> None:
    """R7: every name and figure that the customer approved, against the order."""
    core = instruction.core
    said = (core.gateway, core.merchant, core.tid, core.order, core.amount, core.currency)
    known = (gateway, offer.merchant_urn, offer.tid, offer.order_hash, offer.money.text, offer.money.currency)
    if said != known:
        raise ProtocolViolation("core_mismatch", "the approval is for something else")


def verify_consent(
    instruction: Instruction[CommonCore], *, trust: Trust, gateway: str, customer_urn: str, at: int
) -> SignedMessage[Consent]:
    """R7 with a device key: the customer's own signature over the hash of the core and the order."""
    consent = verify(instruction.auth.value, Consent, trust=trust, audience=gateway, at=at, sender=customer_urn)
    if (consent.claims.core, consent.claims.order) != (instruction.core_hash, instruction.core.order):
        raise ProtocolViolation("link", "consent to something else")
    return consent


def make_notice(offer: Offer, *, signer: Signer, payment: str, at: int) -> SignedMessage[Notice]:
    """R8: OS(TID, AMOUNT); `exp` is the hold's deadline."""
    claims = Notice(
        **head(signer, offer.merchant_urn, at),
        payment=payment,
        tid=offer.tid,
        amount=offer.money.text,
        currency=offer.money.currency,
        order=offer.order_hash,
        prev=offer.order_hash,
        exp=at + HOLD_LIFE_S,
    )
    return sign(claims, signer)


def verify_answer(unverified: str, *, trust: Trust, gateway: str, merchant_urn: str, at: int) -> Answer:
    """R9: a confirmation or refusal that this merchant signed; compare it with the notice before anything is done."""
    typ = peek_typ(unverified)
    if typ == Confirmation.TYP:
        return verify(unverified, Confirmation, trust=trust, audience=gateway, at=at, sender=merchant_urn)
    if typ == Refusal.TYP:
        return verify(unverified, Refusal, trust=trust, audience=gateway, at=at, sender=merchant_urn)
    raise ProtocolViolation("typ", f"{typ!r} is no answer to a notice")


def compare_answer(answer: Answer, notice: SignedMessage[Notice]) -> None:
    """R9: the answer is to this very notice and repeats its figures."""
    said, asked = answer.claims, notice.claims
    if said.req != notice.hash:
        raise ProtocolViolation("req", "an answer to another notice")
    if (said.payment, said.tid, said.amount, said.currency, said.order) != (
        asked.payment,
        asked.tid,
        asked.amount,
        asked.currency,
        asked.order,
    ):
        raise ProtocolViolation("answer_mismatch", "the answer's figures are not the notice's")


def make_settled(confirmation: SignedMessage[Confirmation], *, signer: Signer, at: int) -> SignedMessage[Settled]:
    """R11: the money has moved; these bytes authorise delivery."""
    said = confirmation.claims
    claims = Settled(
        **head(signer, said.iss, at),
        payment=said.payment,
        tid=said.tid,
        amount=said.amount,
        currency=said.currency,
        order=said.order,
        prev=confirmation.hash,
    )
    return sign(claims, signer)


def make_receipt(settled: SignedMessage[Settled], *, signer: Signer, customer: str, payee: str, at: int) -> SignedMessage[Receipt]:
    """R12: the customer's proof; it names no account and no person."""
    said = settled.claims
    claims = Receipt(
        **head(signer, customer, at),
        payment=said.payment,
        tid=said.tid,
        amount=said.amount,
        currency=said.currency,
        payee=payee,
        order=said.order,
        time=at,
        prev=settled.hash,
    )
    return sign(claims, signer)


def make_voided(notice: SignedMessage[Notice], *, signer: Signer, prev: str, reason: str, at: int) -> SignedMessage[Voided]:
    """R11: a notice left and no capture follows; `prev` is the refusal where there is one, else the notice."""
    asked = notice.claims
    claims = Voided(
        **head(signer, asked.aud, at),
        payment=asked.payment,
        tid=asked.tid,
        amount=asked.amount,
        currency=asked.currency,
        order=asked.order,
        prev=prev,
        reason=reason,
    )
    return sign(claims, signer)


def make_closed(*, signer: Signer, merchant_urn: str, tid: str, order_hash: str, outcome: str, at: int) -> SignedMessage[Closed]:
    """R11: ended unpaid before any notice; the shop releases the stock."""
    return sign(Closed(**head(signer, merchant_urn, at), tid=tid, order=order_hash, prev=order_hash, outcome=outcome), signer)


def verify_inquiry(unverified: str, *, trust: Trust, gateway: str, merchant_urn: str, at: int) -> SignedMessage[Inquiry]:
    """RQ: a merchant asks what became of its own tid."""
    return verify(unverified, Inquiry, trust=trust, audience=gateway, at=at, sender=merchant_urn)


def check_fresh(inquiry: SignedMessage[Inquiry], at: int) -> None:
    """RQ: `exp` bounds the first acceptance; bytes that were answered before get the stored answer without this check."""
    if at > inquiry.claims.exp:
        raise ProtocolViolation("expired", "inquiry")


def make_status(inquiry: SignedMessage[Inquiry], *, signer: Signer, state: str, outcome: str | None, at: int) -> SignedMessage[Status]:
    """RQ: the state, with the stored outcome where there is one."""
    claims = Status(**head(signer, inquiry.claims.iss, at), tid=inquiry.claims.tid, req=inquiry.hash, state=state, outcome=outcome)
    return sign(claims, signer)


def verify_acknowledgement(unverified: str, *, trust: Trust, gateway: str, merchant_urn: str, at: int) -> SignedMessage[Acknowledgement]:
    """R11: the merchant has stored up to 100 outcomes."""
    acknowledgement = verify(unverified, Acknowledgement, trust=trust, audience=gateway, at=at, sender=merchant_urn)
    if not 1 <= len(acknowledgement.claims.req) <= ACKNOWLEDGED_MAX:
        raise ProtocolViolation("req", "1 to 100 outcomes")
    return acknowledgement


def _number(server_key: bytes, ctx: str, order_hash: str, exp: int) -> str:
    return ids.encode_base64url(envelopes.mac(server_key, f"hanbit1 n\0{ctx}\0{order_hash}\0{exp}".encode("ascii")))
