"""Document A from top to bottom: R4 to R12 as the gateway lives them. The flow decides; what it calls computes."""

from contextlib import suppress

import msgspec

from hanbit.db.change import Change, Stale
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel.errors import Declined, NotSignedIn, ProtocolViolation, Unavailable, WrongState
from hanbit.parties import sessions
from hanbit.parties.customers import Customer
from hanbit.parties.sessions import WebSession
from hanbit.payments import factors, outbox, views
from hanbit.payments import payment as payments
from hanbit.payments.authorize import authorize, decline, was_tried
from hanbit.payments.capture import capture
from hanbit.payments.close import close
from hanbit.payments.gateway import Gateway
from hanbit.payments.halt import check_taken
from hanbit.payments.open_order import NotOpened, Opening, first_step, refreshed, unsealing
from hanbit.payments.payment import Payment
from hanbit.payments.sign_in import act
from hanbit.payments.states import Event, State
from hanbit.payments.void import void_expired, void_refused
from hanbit.protocols import sealed
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.redirect.messages import Confirmation, Notice
from hanbit.protocols.signed import SignedMessage, verify

ANSWER_TRIES = 3
SECOND_ORDERS_KEPT_MAX = 20
"""Other orders that a merchant signs under one tid; more of them show nothing new, and an evidence file must hold them all."""


class SignedIn(msgspec.Struct, frozen=True):
    """A live web session with its customer."""

    session: WebSession
    customer: Customer


class Shown(msgspec.Struct, frozen=True):
    """A payment in its true state; `receipt` are the bytes that were stored a moment ago, None where the book is to be asked for them."""

    payment: Payment
    receipt: str | None = None


def signed_in(gateway: Gateway, token: str | None) -> SignedIn:
    """The live session of a cookie, or NotSignedIn."""
    found = sessions.find(gateway.reader, token, at=gateway.clock.now(), idle_s=gateway.settings.session_idle_s)
    if found is None:
        raise NotSignedIn
    return SignedIn(*found)


async def pay(gateway: Gateway, opening: Opening, who: SignedIn, *, unverified_key: str, unverified_pay: str) -> Shown:
    """R7 to R12. Returns the payment in its true state, declined attempts included (`open` with a reason)."""
    # R7: open SK(PI, TID, AMOUNT). The same sealed bytes again (a double click) are not tried twice.
    with unsealing(gateway, opening, unverified_key) as session_key:
        instruction = sealed.open_pay(unverified_pay, session_key)
    if opening.payment is not None and was_tried(gateway, opening.payment, instruction):
        return Shown(opening.payment)
    if opening.payment is not None and opening.payment.state != State.OPEN:
        return Shown(opening.payment)
    check_taken(gateway)
    role.compare_instruction(instruction, opening.offer, gateway=gateway.urn)

    # Right factor? Only then: payable? Otherwise the page would tell a stranger what is in the account.
    approval, session = None, who.session.token_hash
    try:
        approval = await factors.check(gateway, who.customer, instruction)
        payment, notice = await authorize(gateway, opening, who.customer, instruction, approval, session=session)
    except Declined as declined:
        return Shown(await decline(gateway, opening, who.customer, instruction, approval, declined.reason, session=session))
    if notice is None:
        return Shown(payment)

    # R8, R9: nothing is open while the merchant thinks. If we stop here, recovery asks again: same notice, same answer.
    try:
        unverified_answer = await gateway.line.ask(payment.merchant, notice.compact)
        # R10, R11, R12
        return await take_answer(gateway, payment.merchant, unverified_answer, payment=payment, notice=notice)
    except Unavailable as error:
        gateway.observe("answer", error.code)
    except ProtocolViolation as error:
        await note_refused(gateway, payment.merchant, error, tid=payment.tid)
    return Shown(payments.find(gateway.reader, payment.merchant, payment.tid) or payment)


async def take_answer(
    gateway: Gateway,
    merchant_id: str,
    unverified_answer: str,
    *,
    payment: Payment | None = None,
    notice: SignedMessage[Notice] | None = None,
) -> Shown:
    """R9 to R11: a confirmation captures, a refusal voids; once decided, the stored outcome is told again and nothing changes.

    Comes from the page that waits, from recovery, or late and unasked over the line.
    """
    urn = gateway.settings.merchant_urn(merchant_id)
    at = gateway.clock.now()
    answer = role.verify_answer(unverified_answer, trust=gateway.registry, gateway=gateway.urn, merchant_urn=urn, at=at)
    for _ in range(ANSWER_TRIES):
        known = payment or payments.find(gateway.reader, merchant_id, answer.claims.tid)
        if known is None:
            raise ProtocolViolation("unknown_payment", "no notice was sent for this tid")
        asked = notice or stored_notice(gateway, known)
        role.compare_answer(answer, asked)
        try:
            if known.is_final:
                await outbox.tell_again(gateway, known)
                return Shown(known)
            receipt = None
            if at > asked.claims.exp:
                decided, outcome = await void_expired(gateway, known, asked)
            elif isinstance(answer.claims, Confirmation):
                decided, outcome, receipt = await capture(gateway, known, answer)
            else:
                decided, outcome = await void_refused(gateway, known, asked, answer)
        except Stale:
            payment = None
            continue
        await outbox.tell(gateway, decided.merchant, outcome)
        return Shown(decided, receipt)
    raise Unavailable("this payment is being decided at this moment")


async def ask_again(gateway: Gateway, payment: Payment) -> None:
    """R8 once more, the same bytes; what the merchant answers is taken as if it had come the first time."""
    notice = stored_notice(gateway, payment)
    unverified_answer = await gateway.line.ask(payment.merchant, notice.compact)
    await take_answer(gateway, payment.merchant, unverified_answer, notice=notice)


async def cancel(gateway: Gateway, opening: Opening, *, unverified_key: str, is_signed_in: bool = False) -> Payment:
    """The customer's Cancel: before R8 it closes the payment, after it the true state is shown.

    In plain form anybody can name any tid. One that no customer has opened with a login is then nobody's, and stays out of the book.
    """
    with unsealing(gateway, opening, unverified_key):
        pass  # somebody really runs the payment program on this opening
    for _ in range(ANSWER_TRIES):
        payment, first = first_step(gateway, opening)
        if payment.state not in (State.NEW, State.OPEN) or (first and opening.offer.order is None and not is_signed_in):
            return payment
        try:
            closed, outcome = await close(gateway, payment, Event.CUSTOMER_CANCELLED, *first)
        except (Stale, WrongState):
            opening = refreshed(gateway, opening)
            continue
        await outbox.tell(gateway, closed.merchant, outcome)
        return closed
    raise Unavailable("this payment is being changed at this moment")


async def note_refused(gateway: Gateway, merchant_id: str, error: ProtocolViolation, *, tid: str) -> None:
    """A message of a known party was refused: a row with the broken rule, and a counter; the payment stays as it was."""
    gateway.observe("answer", "refused")
    row = act(gateway.clock.now(), gateway.settings.merchant_urn(merchant_id), "answer to a notice", error.rule, merchant_id, tid)
    await gateway.book.commit(Change(appends=(row,)))


async def keep_second_order(gateway: Gateway, error: NotOpened) -> None:
    """One tid has one order: that the merchant signed a second with other bytes is kept as evidence."""
    order, merchant_id = error.second_order, error.merchant.id
    if order is None or evidence.is_known(gateway.reader, merchant_id, order.claims.tid, order.hash):
        return
    if evidence.are_kept(gateway.reader, merchant_id, order.claims.tid, order.claims.TYP, SECOND_ORDERS_KEPT_MAX + 1):
        return
    row = act(gateway.clock.now(), order.claims.iss, "order", error.rule, merchant_id, order.claims.tid)
    kept = record(order, merchant=merchant_id, tid=order.claims.tid)
    with suppress(Stale, ProtocolViolation):  # kept by another request meanwhile, or it repeats the number of another message
        await gateway.book.commit(Change(messages=(kept,), appends=(row,)))


def stored_notice(gateway: Gateway, payment: Payment) -> SignedMessage[Notice]:
    """The notice of an authorized payment as it was stored and sent."""
    compact = views.kept(gateway, payment, payment.notice_hash)
    if compact is None:
        raise ProtocolViolation("unknown_payment", "no notice was sent for this tid")
    urn = gateway.settings.merchant_urn(payment.merchant)
    # Our own bytes, verified as of when they were signed: a renewed key does not make an old notice unreadable.
    at = (payment.hold_until or 0) - role.HOLD_LIFE_S
    return verify(compact, Notice, trust=gateway.registry, audience=urn, at=at, sender=gateway.urn)
