"""Figure 4 from top to bottom: C1 to C3 as the gateway lives them. The flow decides; what it calls computes.

C1   the merchant asks: only for its own tids, each cancellation id once and for ever
C2   not opened, or open      closed: no payment can begin any more
     held, merchant asked     in progress: nothing is stored, the merchant asks again with the same bytes until it is decided
     captured                 the money, or the part that is asked, goes back to the account that it came from
     ended without money      confirmed: there is nothing left to cancel
C3   a signed confirmation or refusal; the same C1 gets the same bytes, whatever the time
"""

from hanbit.db.change import Append, Change, Stale
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel import ids
from hanbit.kernel.errors import Conflict, Declined, ProtocolViolation, Unavailable
from hanbit.kernel.money import parse_money
from hanbit.parties.merchants import Merchant
from hanbit.payments import outbox
from hanbit.payments import payment as payments
from hanbit.payments.apply import Step, apply, still_trusted
from hanbit.payments.close import close
from hanbit.payments.gateway import Gateway, spend_unasked
from hanbit.payments.halt import still_taken
from hanbit.payments.payment import Payment
from hanbit.payments.refund import refund_by, source_of
from hanbit.payments.states import Event, InProgress, State
from hanbit.protocols.cancellation import gateway as role
from hanbit.protocols.cancellation.gateway import NOTHING, Facts, Figures
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.redirect.messages import plain_order_hash
from hanbit.protocols.signed import SignedMessage, peek_token

DECIDE_TRIES = 5
"""How often a cancellation is computed again because the payment or a balance moved on meanwhile."""

CANCELLATIONS_MAX = 400
"""Cancellations of one tid that are answered for ever, refused ones too; then only all that is left can still go back."""

_KEPT = "SELECT tid, request_hash, answer_hash FROM cancellations WHERE id = ? AND merchant = ?"
Request = SignedMessage[Cancel]
Answer = SignedMessage[CancelConfirmation | CancelRefusal]


async def cancel(gateway: Gateway, merchant_id: str, unverified: str) -> str:
    """C1 to C3: the answer's bytes. ProtocolViolation or InProgress where there is none, and then nothing has changed."""
    # C1: these very bytes were answered before.
    known = _answer_to_these_bytes(gateway, merchant_id, unverified)
    if known is not None:
        return known
    urn, at = gateway.settings.merchant_urn(merchant_id), gateway.clock.now()
    request = role.verify_cancel(unverified, trust=gateway.registry, gateway=gateway.urn, merchant_urn=urn, at=at)
    role.check_fresh(request, at)
    spend_unasked(gateway, merchant_id)

    # C2, C3: computed from what the book shows, decided under its lock; whatever moved on meanwhile is looked at again.
    for _ in range(DECIDE_TRIES):
        known = _answer_under_this_id(gateway, merchant_id, request)
        if known is not None:  # the same bytes came twice at once: one answer for both
            return known
        found = payments.find_with_merchant(gateway.reader, merchant_id, request.claims.tid)
        if found is None:
            raise ProtocolViolation("sender", "no such merchant")
        _check_number(gateway, merchant_id, found[1], request)
        try:
            answer = await _decide(gateway, *found, request)
        except (Stale, Conflict, Declined):
            continue
        gateway.observe("cancellation", answer.claims.reason if isinstance(answer.claims, CancelRefusal) else "confirmed")
        return answer.compact
    raise Unavailable("this payment is being changed at this moment")


def _check_number(gateway: Gateway, merchant_id: str, payment: Payment | None, request: Request) -> None:
    """An evidence file holds every cancellation, so there is an end to them; the customer's money can go back all the same."""
    asked = request.claims
    if payment is not None and payment.captured and int(asked.amount) == payment.captured - payment.refunded:
        return
    if evidence.are_kept(gateway.reader, merchant_id, asked.tid, Cancel.TYP, CANCELLATIONS_MAX):
        raise ProtocolViolation("used_up", "no more cancellations of this order, but of all that is left")


async def _decide(gateway: Gateway, merchant: Merchant, payment: Payment | None, request: Request) -> Answer:
    """C2: what a cancellation means in the state in which the payment is."""
    if payment is None:
        return await _cancel_unopened(gateway, merchant, request)
    role.compare(request, _facts(merchant, payment, request.claims))
    match State(payment.state):
        case State.NEW | State.OPEN:
            return await _cancel_open(gateway, merchant, payment, request)
        case State.AUTHORIZED:
            raise InProgress("the merchant has not answered yet")
        case State.CAPTURED:
            return await _refund(gateway, merchant, payment, request)
        case State.REFUSED | State.VOIDED | State.CLOSED:
            answer = _confirm(gateway, request, NOTHING)
            step = Step(Event.MERCHANT_CANCELLED, messages=(request, answer))
            await apply(
                gateway, payment, step, appends=(_row(request, answer, "nothing_left", merchant=payment.merchant, payment=payment),)
            )
            return answer


async def _cancel_unopened(gateway: Gateway, merchant: Merchant, request: Request) -> Answer:
    """No customer has opened it: it is closed before anybody can, and whoever comes later finds it so."""
    asked = request.claims
    order_hash = plain_order_hash(merchant.id, asked.tid, asked.remaining, asked.currency) if merchant.orders == "plain" else asked.prev
    role.compare(request, Facts(tid=asked.tid, payment=None, currency=merchant.currency, links=frozenset({order_hash})))
    reason = role.whole_is_asked(request, None)
    if reason is not None:
        answer = _refuse(gateway, request, NOTHING, reason)
        kept = tuple(record(message, merchant=merchant.id, tid=asked.tid) for message in (request, answer))
        requires = tuple(still_trusted(gateway, request, answer))
        row = _row(request, answer, reason, merchant=merchant.id, payment=None)
        await gateway.book.commit(Change(requires=requires, messages=kept, appends=(row,)))
        return answer
    at = gateway.clock.now()
    payment = payments.unopened(
        merchant,
        asked.tid,
        order_hash=order_hash,
        money=parse_money(asked.amount, asked.currency),
        payment_id=ids.new_token_of(at),
        at=at,
    )
    return await _close(gateway, payment, request)


async def _cancel_open(gateway: Gateway, merchant: Merchant, payment: Payment, request: Request) -> Answer:
    """No money is held: the order ends, whole or not at all. In plain form the amount in the book is what a browser named."""
    reason = role.whole_is_asked(request, None if merchant.orders == "plain" else payment.amount)
    if reason is None:
        return await _close(gateway, payment, request)
    return await _keep_refusal(gateway, payment, request, Figures(0, payment.amount), reason)


async def _close(gateway: Gateway, payment: Payment, request: Request) -> Answer:
    answer = _confirm(gateway, request, NOTHING)
    row = _row(request, answer, "closed", merchant=payment.merchant, payment=payment)
    closed, outcome = await close(gateway, payment, Event.MERCHANT_CANCELLED, why=(request, answer), appends=(row,))
    await outbox.tell(gateway, closed.merchant, outcome)
    return answer


async def _refund(gateway: Gateway, merchant: Merchant, payment: Payment, request: Request) -> Answer:
    """The capture's way back: state, money and both signed messages in one Change, or a signed no."""
    asked = request.claims
    if asked.payment is None:
        raise ProtocolViolation("payment", "a refund names its payment")
    left = Figures(payment.refunded, payment.captured - payment.refunded)
    reason = role.refund_is_possible(request, left, refund_by=refund_by(gateway, payment), at=gateway.clock.now())
    if reason is not None:
        return await _keep_refusal(gateway, payment, request, left, reason)
    money = parse_money(asked.amount, asked.currency)
    source = source_of(gateway, payment, merchant, asked.cancellation, money)
    if source is None:
        return await _keep_refusal(gateway, payment, request, left, "merchant_funds")
    amount = money.amount_minor
    answer = _confirm(gateway, request, Figures(left.refunded + amount, left.remaining - amount))
    step = Step(Event.REFUNDED, messages=(request, answer), columns={"refunded": payment.refunded + amount}, entries=source.entries)
    row = _row(request, answer, "refunded", merchant=payment.merchant, payment=payment, refunded=amount)
    await apply(gateway, payment, step, requires=(still_taken(), *source.requires), appends=(row,))
    return answer


async def _keep_refusal(gateway: Gateway, payment: Payment, request: Request, left: Figures, reason: str) -> Answer:
    answer = _refuse(gateway, request, left, reason)
    step = Step(Event.CANCELLATION_REFUSED, messages=(request, answer))
    await apply(gateway, payment, step, appends=(_row(request, answer, reason, merchant=payment.merchant, payment=payment),))
    return answer


def _answer_to_these_bytes(gateway: Gateway, merchant_id: str, unverified: str) -> str | None:
    """The stored answer, if these very bytes of this merchant were verified and answered before."""
    row = gateway.reader.one(_KEPT, peek_token(unverified, "cancellation"), merchant_id)
    if row is None or row["request_hash"] != ids.digest(unverified.encode("ascii", "replace")):
        return None
    return evidence.compact(gateway.reader, merchant_id, row["tid"], row["answer_hash"])


def _answer_under_this_id(gateway: Gateway, merchant_id: str, request: Request) -> str | None:
    """The stored answer under this cancellation id, None where it is new; one id has one request for ever."""
    row = gateway.reader.one(_KEPT, request.claims.cancellation, merchant_id)
    if row is None:
        return None
    if row["request_hash"] != request.hash:
        raise ProtocolViolation("cancellation_reused", "this cancellation id has another request")
    return evidence.compact(gateway.reader, merchant_id, row["tid"], row["answer_hash"])


def _facts(merchant: Merchant, payment: Payment, asked: Cancel) -> Facts:
    """What a cancellation of this payment must repeat. A shop in plain form continues its own order, whatever a browser named."""
    links = {payment.order_hash} | ({payment.outcome_hash} if payment.outcome_hash is not None else set())
    if merchant.orders == "plain":
        links.add(plain_order_hash(merchant.id, asked.tid, asked.remaining, asked.currency))
    return Facts(tid=payment.tid, payment=payment.id, currency=payment.currency, links=frozenset(links))


def _confirm(gateway: Gateway, request: Request, figures: Figures) -> SignedMessage[CancelConfirmation]:
    return role.make_confirmation(request, figures, signer=gateway.signer, at=gateway.clock.now())


def _refuse(gateway: Gateway, request: Request, figures: Figures, reason: str) -> SignedMessage[CancelRefusal]:
    return role.make_refusal(request, figures, reason, signer=gateway.signer, at=gateway.clock.now())


def _row(request: Request, answer: Answer, result: str, *, merchant: str, payment: Payment | None, refunded: int = 0) -> Append:
    """The cancellation as it is kept: `result` says what became of it, `refunded` how much went back under it."""
    asked = request.claims
    return Append(
        "cancellations",
        {
            "merchant": merchant,
            "id": asked.cancellation,
            "tid": asked.tid,
            "payment": None if payment is None else payment.id,
            "amount": int(asked.amount),
            "currency": asked.currency,
            "reason": asked.reason,
            "result": result,
            "request_hash": request.hash,
            "answer_hash": answer.hash,
            "refunded": refunded,
            "at": answer.claims.iat,
        },
    )
