"""R10, R11: the merchant's confirmation turns the hold into money moved; settled message and receipt are signed in the same Change."""

from hanbit.db.change import Value
from hanbit.payments.apply import Step, apply
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.states import Event
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.redirect.messages import Confirmation
from hanbit.protocols.signed import SignedMessage


async def capture(gateway: Gateway, payment: Payment, confirmation: SignedMessage[Confirmation]) -> tuple[Payment, str, str]:
    """Move the held money to the merchant; returns payment, settled message to be told, receipt. Stale if it was decided meanwhile."""
    at = gateway.clock.now()
    settled = role.make_settled(confirmation, signer=gateway.signer, at=at)
    receipt = role.make_receipt(settled, signer=gateway.signer, customer=gateway.settings.customer_urn, payee=payment.payee, at=at)
    columns: dict[str, Value] = {
        "answer_hash": confirmation.hash,
        "outcome_hash": settled.hash,
        "receipt_hash": receipt.hash,
        "captured": payment.amount,
        "next_at": None,
    }
    step = Step(Event.MERCHANT_CONFIRMED, messages=(confirmation, settled, receipt), columns=columns, tell=settled)
    return await apply(gateway, payment, step), settled.compact, receipt.compact
