"""An order ends unpaid before any notice: cancelled by the customer, or its `pay_by` has passed; the shop releases the stock."""

from hanbit.payments.apply import Step, apply
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.states import Event
from hanbit.protocols.redirect import gateway as role

OUTCOMES = {Event.CUSTOMER_CANCELLED: "cancelled_by_customer", Event.PAY_BY_PASSED: "expired"}


async def close(gateway: Gateway, payment: Payment, event: Event, *first: Step) -> tuple[Payment, str]:
    """Close the payment; returns it and the closed message to be told. Stale or WrongState if it has moved on."""
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
    return await apply(gateway, payment, *first, Step(event, messages=(closed,), columns=columns, tell=closed)), closed.compact
