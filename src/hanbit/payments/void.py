"""R10, R11: no capture follows: the hold is released and the merchant is told `voided`."""

import msgspec

from hanbit.payments.apply import Step, apply
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.states import Event
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.redirect.messages import Notice, Refusal
from hanbit.protocols.signed import SignedMessage


async def void_refused(
    gateway: Gateway, payment: Payment, notice: SignedMessage[Notice], refusal: SignedMessage[Refusal]
) -> tuple[Payment, str]:
    """The merchant refused (60): page 62 with its message; returns the payment and the voided message to be told."""
    at = gateway.clock.now()
    voided = role.make_voided(notice, signer=gateway.signer, prev=refusal.hash, reason="refused", at=at)
    columns = {
        "answer_hash": refusal.hash,
        "outcome_hash": voided.hash,
        "reason": refusal.claims.reason,
        "refusal_message": msgspec.json.encode(refusal.claims.message).decode("utf-8"),
        "next_at": None,
    }
    step = Step(Event.MERCHANT_REFUSED, messages=(refusal, voided), columns=columns, tell=voided)
    return await apply(gateway, payment, step), voided.compact


async def void_expired(gateway: Gateway, payment: Payment, notice: SignedMessage[Notice]) -> tuple[Payment, str]:
    """The merchant did not answer within the hold's life; a later confirmation is answered with this voided message."""
    at = gateway.clock.now()
    voided = role.make_voided(notice, signer=gateway.signer, prev=notice.hash, reason="expired", at=at)
    columns = {"outcome_hash": voided.hash, "reason": "no_answer", "next_at": None}
    return await apply(gateway, payment, Step(Event.HOLD_EXPIRED, messages=(voided,), columns=columns, tell=voided)), voided.compact
