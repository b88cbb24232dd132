"""R3, R4, R5: from what the browser brought to an opening that the gateway stands by; nothing is stored here."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec.structs import replace

from hanbit.crypto import certificates
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound, ProtocolViolation, Unavailable
from hanbit.parties.merchants import Merchant
from hanbit.payments import payment as payments
from hanbit.payments.apply import Step
from hanbit.payments.gateway import FAILED, Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.states import Event
from hanbit.protocols import sealed
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.redirect.gateway import Clear, Offer
from hanbit.protocols.redirect.messages import Keys, Order
from hanbit.protocols.sealed import SessionKey
from hanbit.protocols.signed import SignedMessage, check_usable

PLAIN_PAY_BY_S = 30 * 60


class Opening(msgspec.Struct, frozen=True):
    """One opening of one order: verified order (or plain form), fresh keys, and the payment if the book has it already."""

    merchant: Merchant
    offer: Offer
    keys: SignedMessage[Keys]
    payment: Payment | None

    @property
    def pay_by(self) -> int:
        """When the order ends; in plain form half an hour from the first sealed message that opened."""
        if self.payment is not None:
            return self.payment.pay_by
        return self.offer.pay_by or self.keys.claims.iat + PLAIN_PAY_BY_S


class NotOpened(ProtocolViolation):
    """Stopped before the login: the address and the signed order do not fit; the page says so and the shop was asked nothing (62)."""

    code = "not_opened"
    status = 409
    advice = "Order again at the shop, or ask the shop."

    def __init__(self, merchant: Merchant, rule: str, detail: str, second_order: SignedMessage[Order] | None = None) -> None:
        super().__init__(rule, detail)
        self.merchant = merchant
        self.second_order = second_order  # signed by the merchant for a tid that has another order already


def open_order(gateway: Gateway, *, mid: str, tid: str, amount: str, currency: str, order: str) -> Opening:
    """R4: check what came in the address against the signed order and make fresh keys; the registration chooses the form."""
    at = gateway.clock.now()
    clear = role.read_clear(mid, tid, amount, currency)
    merchant, payment = _registered(gateway, mid, tid)
    offer = _offer(gateway, merchant, clear, order, at)
    if at > certificates.validity(gateway.keyring.seal.certificate)[1]:  # a machine that slept: nobody may be asked to seal to an old key
        raise Unavailable("the payment server is renewing its keys")
    keys = role.make_keys(
        offer,
        signer=gateway.signer,
        seal=gateway.keyring.seal,
        server_key=gateway.keyring.server_key,
        customer=gateway.settings.customer_urn,
        payee=merchant.name,
        at=at,
    )
    gateway.openings.keep(keys)
    return Opening(merchant, offer, keys, _of_this_order(payment, merchant, offer))


def reopen(gateway: Gateway, *, mid: str, tid: str, amount: str, order: str, keys: str) -> Opening:
    """R5, R7: order and keys come back in clear beside a sealed message; both are verified, n is computed again."""
    at = gateway.clock.now()
    merchant, payment = _registered(gateway, mid, tid)
    offer = _offer(gateway, merchant, role.read_clear(mid, tid, amount, merchant.currency), order, at)
    known = gateway.openings.get(keys, Keys)
    if known is None:
        known = role.verify_keys(keys, trust=gateway.registry, gateway=gateway.urn, customer=gateway.settings.customer_urn, at=at)
        gateway.openings.keep(known)
    role.check_keys(known, offer, server_key=gateway.keyring.server_key, at=at)
    return Opening(merchant, offer, known, _of_this_order(payment, merchant, offer))


def refreshed(gateway: Gateway, opening: Opening) -> Opening:
    """The same opening after somebody else moved the payment on: with payment and merchant as the book holds them now."""
    merchant, payment = _registered(gateway, opening.merchant.id, opening.offer.tid)
    return replace(opening, merchant=merchant, payment=_of_this_order(payment, merchant, opening.offer))


@contextmanager
def unsealing(gateway: Gateway, opening: Opening, unverified_key: str) -> Iterator[SessionKey]:
    """R5, R7: SK, for what is opened in this block. What does not open gets one answer, and the third failure burns the opening."""
    ctx = opening.keys.claims.ctx
    if gateway.openings.is_burnt(ctx):
        raise ProtocolViolation("sealed")
    try:
        yield _open_key(gateway, opening, unverified_key)
    except ProtocolViolation as error:
        if error.rule == "sealed":
            gateway.openings.fail(ctx)
            gateway.announce(FAILED, ctx, "")
        raise


def _open_key(gateway: Gateway, opening: Opening, unverified_key: str) -> SessionKey:
    """Recover SK with the sealing key that this opening was made under."""
    claims = opening.keys.claims
    seal = gateway.keyring.seal_by_kid(role.seal_kid(claims))
    if seal is None:
        raise ProtocolViolation("sealed")
    return sealed.open_key(unverified_key, seal.private, seal.kid, ctx=claims.ctx, n=claims.n, tid=claims.tid)


def first_step(gateway: Gateway, opening: Opening) -> tuple[Payment, tuple[Step, ...]]:
    """The payment of this opening; when the book has none yet, a new one and the step that opens it."""
    if opening.payment is not None:
        return opening.payment, ()
    at = gateway.clock.now()
    pay_by = opening.offer.pay_by or at + PLAIN_PAY_BY_S
    payment = payments.new_payment(opening.offer, payment_id=ids.new_token_of(at), payee=opening.merchant.name, pay_by=pay_by, at=at)
    order = () if opening.offer.order is None else (opening.offer.order,)
    return payment, (Step(Event.OPENED, messages=(*order, opening.keys), columns={"next_at": pay_by + 1}),)


def _registered(gateway: Gateway, mid: str, tid: str) -> tuple[Merchant, Payment | None]:
    """The merchant, and what the book has under its tid already."""
    found = payments.find_with_merchant(gateway.reader, ids.check(ids.PARTY_ID, mid, "MID"), ids.check(ids.TID, tid, "TID"))
    if found is None:
        raise NotFound("no such shop")
    return found


def _of_this_order(payment: Payment | None, merchant: Merchant, offer: Offer) -> Payment | None:
    """The payment that the book has for the tid. One tid has one order for ever: a second with other bytes is refused."""
    if payment is not None and payment.order_hash != offer.order_hash:
        raise NotOpened(merchant, "tid_reused", "this transaction number has another order", offer.order)
    return payment


def _offer(gateway: Gateway, merchant: Merchant, clear: Clear, order: str, at: int) -> Offer:
    if merchant.currency != clear.money.currency:
        raise NotFound("no such shop")
    try:
        offer = (
            _signed_offer(gateway, merchant, order, at) if merchant.orders == "signed" else _plain_offer(gateway, merchant, clear, order)
        )
        role.compare(clear, offer)
    except ProtocolViolation as error:
        raise NotOpened(merchant, error.rule, error.detail) from error
    return offer


def _signed_offer(gateway: Gateway, merchant: Merchant, order: str, at: int) -> Offer:
    signed = gateway.openings.get(order, Order)
    if signed is None:
        signed = role.verify_order(order, trust=gateway.registry, gateway=gateway.urn, at=at)
        gateway.openings.keep(signed)
    else:
        check_usable(gateway.registry.key(signed.kid, (), at), at)
    offer = role.signed_offer(signed, merchant=merchant.id, merchant_urn=gateway.settings.merchant_urn(merchant.id), at=at)
    if not merchant.allows_return(offer.return_url):
        raise ProtocolViolation("return_url", "not a registered return address")
    return offer


def _plain_offer(gateway: Gateway, merchant: Merchant, clear: Clear, order: str) -> Offer:
    if order:
        raise ProtocolViolation("order", "this shop is registered for plain orders")
    return role.plain_offer(clear, merchant_urn=gateway.settings.merchant_urn(merchant.id), return_url=merchant.return_url)
