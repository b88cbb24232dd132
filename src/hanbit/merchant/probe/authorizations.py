"""The forged authorizations (D7): whoever believes one that answers no request of his own delivers what nobody paid.

They need nothing of the dual-signature checkout at the other end: whoever has no part in it refuses them all, as whoever has one does.
"""

from typing import Any, Final

from hanbit.kernel import ids
from hanbit.merchant.probe.case import FORGER, Case, Play, forged_outcome
from hanbit.merchant.probe.forge import Draft, draft
from hanbit.merchant.probe.shop_side import PlacedOrder
from hanbit.merchant.probe.stage import Stage, figures
from hanbit.protocols.dual_signature.messages import Authorization

_ASKED: Final = "D7: req = my own request, in a session of mine"
_UNPAID: Final = "goods that nobody paid are delivered"


def _approved(stage: Stage, order: PlacedOrder, signer: str = "gateway", **changes: Any) -> Draft:
    """D7 for this order, as an honest gateway would answer a request for it; the merchant has made none."""
    claims = {"payment": ids.new_token(), "sid": ids.new_token(), **figures(order), "order": order.hash, "req": order.hash}
    made = draft(Authorization, stage.party(signer), stage.operator.merchant, stage.at, **claims, result="approved")
    return made.but(**changes)


def _unasked(signer: str = "gateway", **changes: Any) -> Play:
    async def play(stage: Stage) -> None:
        order = await stage.order()
        await stage.offer(_approved(stage, order, signer, **changes).compact(), order=order)

    return play


async def _other_merchant(stage: Stage) -> None:
    order = await stage.order()
    await stage.offer(_approved(stage, order, aud=stage.party("other-merchant").urn).compact(), order=order)


async def _declined_then_approved(stage: Stage) -> None:
    """In one and the same session that the merchant has never opened."""
    order, sid = await stage.order(), ids.new_token()
    declined = _approved(stage, order, sid=sid, payment=None, result="declined", reason="declined")
    await stage.offer(declined.compact(), order=order)
    await stage.offer(_approved(stage, order, sid=sid).compact(), order=order)


AUTHORIZATIONS: Final = (
    Case(
        "authorization_unasked",
        "outcome",
        "an approved authorization for a fresh order, for which the merchant has asked nothing",
        _ASKED,
        _UNPAID,
        _unasked(),
    ),
    Case(
        "authorization_for_confirmation",
        "outcome",
        "an approved authorization that answers the merchant's confirmation of a redirect payment",
        _ASKED,
        "a confirmation that may still be voided counts as paid",
        forged_outcome(
            lambda stage, exchange: _approved(stage, exchange.order, payment=exchange.payment, req=exchange.confirmation.hash).compact()
        ),
    ),
    Case(
        "authorization_with_receipt",
        "outcome",
        "the same for a fresh order, with a second line beside it, as a receipt stands there",
        _ASKED,
        _UNPAID,
        forged_outcome(lambda stage, exchange: f"{_approved(stage, exchange.order).compact()}\n{stage.settled(exchange).compact()}"),
    ),
    Case(
        "authorization_amount",
        "outcome",
        "an approved authorization for another amount than the order's",
        "D7: amount, currency and order = the order's",
        "a cheaper payment delivers a dearer order",
        _unasked(amount="1"),
    ),
    Case(
        "authorization_tid",
        "outcome",
        "an approved authorization for a tid that the merchant never made",
        "D7: tid = the one of my request",
        _UNPAID,
        _unasked(tid=ids.new_token()),
    ),
    Case(
        "authorization_aud",
        "outcome",
        "an approved authorization to another merchant",
        "aud = me",
        "another shop's payment delivers here",
        _other_merchant,
    ),
    Case(
        "authorization_false_root",
        "outcome",
        "an approved authorization under a second root with the very same names",
        "path to the pinned root",
        FORGER,
        _unasked("false-gateway"),
    ),
    Case(
        "authorization_by_customer",
        "outcome",
        "an approved authorization that a customer's key has signed",
        "role and purpose fit the message",
        FORGER,
        _unasked("customer"),
    ),
    Case(
        "authorization_after_decline",
        "outcome",
        "declined, and then approved, in one session",
        "D7: one answer counts",
        _UNPAID,
        _declined_then_approved,
    ),
)
"""In the order in which they are played."""
