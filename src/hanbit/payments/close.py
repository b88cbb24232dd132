"""An order ends unpaid before any notice: cancelled by customer or merchant, or its `pay_by` has passed; the shop releases the stock."""

from hanbit.db.change import Append
from hanbit.payments.apply import Step, apply
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.states import Event
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.signed import SignedMessage

OUTCOMES = {
    Event.CUSTOMER_CANCELLED: "cancelled_by_customer",
    Event.MERCHANT_CANCELLED: "cancelled_by_merchant",
    Event.PAY_BY_PASSED: "expired",
}


async def close(
    gateway: Gateway,
    payment: Payment,
    event: Event,
    *first: Step,
    why: tuple[SignedMessage[Message], ...] = (),
    appends: tuple[Append, ...] = (),
) -> tuple[Payment, str]:
    """Close the payment; returns it and the closed message to be told. Stale or WrongState if it has moved on.

    `why` are the messages that stand before it in the evidence.
    """
    outcome = OUTCOMES[event]
    closed = role.make_closed(
        signer=gateway.signer,
        merchant_urn=gateway.settings.merchant_urn(payment.merchant),
        tid=payment.tid,
        order_hash=payment.order_hash,
        outcome=outcome,
        at=gateway.clock.now(),
    )
    columns = {"outcome_hash": closed.hash, "reason": outcome, "next_at": None}
    step = Step(event, messages=(*why, closed), columns=columns, tell=closed)
    return await apply(gateway, payment, *first, step, appends=appends), closed.compact
