"""The forged outcomes (R11): whoever believes one delivers what nobody paid, or takes back what somebody did."""

from typing import Final

from hanbit.crypto import keys
from hanbit.kernel import ids
from hanbit.merchant.probe.case import FORGER, Case, forged_outcome
from hanbit.merchant.probe.forge import draft
from hanbit.merchant.probe.shop_side import PlacedOrder
from hanbit.merchant.probe.stage import Exchange, Stage, figures
from hanbit.protocols.cancellation.messages import CancelConfirmation
from hanbit.protocols.redirect.messages import Keys, Receipt, Refusal, Status
from hanbit.protocols.signed import encode_der, peek_typ

_UNPAID: Final = "goods that nobody paid are delivered"
_OTHER: Final = "one payment delivers another order"
_RELEASED: Final = "goods that were paid are released, and sold again"


async def _unasked(stage: Stage) -> None:
    order = await stage.order()
    await stage.offer(stage.unconfirmed(order, prev=order.hash).compact(), order=order)


async def _refused(stage: Stage) -> None:
    order = await stage.order()
    wrong = stage.notice(order).but(amount=f"{order.amount}0")
    answer = await stage.honest(wrong.compact())
    prev = ids.digest((answer if peek_typ(answer) == Refusal.TYP else wrong.compact()).encode("ascii"))
    settled = stage.unconfirmed(order, prev=prev, payment=str(wrong.claims["payment"])).but(amount=wrong.claims["amount"])
    await stage.offer(settled.compact(), order=order)


async def _other_tid(stage: Stage) -> None:
    exchange, order = await stage.confirmed(), await stage.order()
    await stage.offer(stage.settled(exchange).but(tid=order.tid).compact(), order=order)


async def _other_order(stage: Stage) -> None:
    exchange, order = await stage.confirmed(), await stage.order()
    await stage.offer(stage.settled(exchange).but(tid=order.tid, order=order.hash).compact(), order=order)


async def _prev_of_another(stage: Stage) -> None:
    exchange, other = await stage.confirmed(), await stage.confirmed()
    await stage.offer(stage.settled(exchange).but(prev=other.confirmation.hash).compact(), order=exchange.order)


async def _early(stage: Stage) -> None:
    """Out of order: settled, then its notice, then settled once more."""
    order = await stage.order()
    early = stage.unconfirmed(order, prev=order.hash).compact()
    await stage.offer(early, order=order)
    exchange = await stage.confirmed(order)
    await stage.offer(early, order=exchange.order)


async def _number_again(stage: Stage) -> None:
    first, second = await stage.confirmed(), await stage.confirmed()
    settled = stage.settled(first)
    await stage.acknowledged(settled.compact())
    await stage.offer(stage.settled(second).but(jti=settled.claims["jti"]).compact(), order=second.order)


async def _settled(stage: Stage) -> Exchange:
    exchange = await stage.confirmed()
    await stage.acknowledged(stage.settled(exchange).compact())
    return exchange


async def _settled_again(stage: Stage) -> None:
    exchange = await _settled(stage)
    await stage.offer(stage.settled(exchange).compact(), order=exchange.order)


async def _voided_after_settled(stage: Stage) -> None:
    exchange = await _settled(stage)
    await stage.offer(stage.voided(exchange).compact(), order=exchange.order)


async def _settled_after_voided(stage: Stage) -> None:
    exchange = await stage.confirmed()
    await stage.acknowledged(stage.voided(exchange).compact())
    await stage.offer(stage.settled(exchange).compact(), order=exchange.order)


async def _settled_after_closed(stage: Stage) -> None:
    order = await stage.order()
    await stage.acknowledged(stage.closed(order).compact())
    await stage.offer(stage.unconfirmed(order, prev=order.hash).compact(), order=order)


async def _closed_after_settled(stage: Stage) -> None:
    exchange = await _settled(stage)
    await stage.offer(stage.closed(exchange.order).compact(), order=exchange.order)


async def _closed_foreign(stage: Stage) -> None:
    order = await stage.order()
    foreign = ids.digest(b"an order of somebody else")
    await stage.offer(stage.closed(order).but(order=foreign, prev=foreign).compact(), order=order)


async def _closed_unknown(stage: Stage) -> None:
    order = await stage.order()
    await stage.offer(stage.closed(order).but(tid=ids.new_token()).compact(), order=order)


async def _voided_foreign(stage: Stage) -> None:
    order = await stage.order()
    foreign = ids.digest(b"an order of somebody else")
    voided = stage.unconfirmed(order, prev=foreign).headed(typ="hanbit-voided").but(order=foreign, reason="hold_expired")
    await stage.offer(voided.compact(), order=order)


async def _cancelled(stage: Stage) -> None:
    exchange = await _settled(stage)
    order = exchange.order
    claims = {
        "cancellation": ids.new_token(),
        "payment": exchange.payment,
        **figures(order),
        "refunded": order.amount,
        "remaining": "0",
        "req": ids.digest(b"a cancellation that nobody asked for"),
    }
    forged = draft(CancelConfirmation, stage.operator.gateway, stage.operator.merchant, stage.at, **claims)
    await stage.offer(forged.compact(), order=order)


def _receipt(stage: Stage, exchange: Exchange) -> str:
    order = exchange.order
    claims = {"payment": exchange.payment, **figures(order), "payee": "shop", "order": order.hash, "time": stage.at}
    audience = ids.urn(stage.operator.registration.operator, "customer")
    return draft(Receipt, stage.operator.gateway, audience, stage.at, **claims, prev=exchange.confirmation.hash).compact()


def _keys(stage: Stage, exchange: Exchange) -> str:
    order = exchange.order
    claims = {
        "ctx": ids.new_token(),
        "n": ids.digest(b"n"),
        "seal": encode_der(stage.party("gateway-seal").chain[0]),
        "order": order.hash,
        **figures(order),
        "payee": "shop",
        "exp": stage.at + 600,
    }
    audience = ids.urn(stage.operator.registration.operator, "customer")
    return draft(Keys, stage.operator.gateway, audience, stage.at, **claims).compact()


async def _status(stage: Stage) -> None:
    """Nobody asked: the state in plain words, and a settled message inside that continues no confirmation."""
    order = await stage.order()
    settled = stage.unconfirmed(order, prev=order.hash).compact()
    claims = {"tid": order.tid, "req": ids.digest(b"an inquiry that nobody made"), "state": "settled", "outcome": settled}
    status = draft(Status, stage.operator.gateway, stage.operator.merchant, stage.at, **claims)
    await stage.offer(status.compact(), order=order, within=settled)


async def _reflected_refusal(stage: Stage) -> None:
    order: PlacedOrder = await stage.order()
    answer = await stage.honest(stage.notice(order).but(amount=f"{order.amount}0").compact())
    await stage.offer(answer, order=order)


OUTCOMES: Final = (
    Case(
        "settled_unasked",
        "outcome",
        "settled for an order of which there was no notice",
        "R11: settled continues my own confirmation",
        _UNPAID,
        _unasked,
    ),
    Case(
        "settled_refused",
        "outcome",
        "settled for a payment that the merchant has refused",
        "R11: settled continues my own confirmation",
        _UNPAID,
        _refused,
    ),
    Case(
        "settled_prev_notice",
        "outcome",
        "settled that continues the notice, not the confirmation",
        "R11: prev = my confirmation",
        "the payment server moves money on its own word alone",
        forged_outcome(lambda stage, exchange: stage.settled(exchange).but(prev=exchange.notice_hash).compact()),
    ),
    Case(
        "settled_prev_other",
        "outcome",
        "settled that continues the confirmation of another order",
        "R11: prev = my confirmation",
        _OTHER,
        _prev_of_another,
    ),
    Case(
        "settled_amount",
        "outcome",
        "settled over one unit less",
        "R11: amount as confirmed",
        "less is paid than was confirmed",
        forged_outcome(lambda stage, exchange: stage.settled(exchange).but(amount=str(int(exchange.order.amount) - 1)).compact()),
    ),
    Case(
        "settled_currency",
        "outcome",
        "settled in another currency",
        "R11: currency as confirmed",
        "less is paid than was confirmed",
        forged_outcome(lambda stage, exchange: stage.settled(exchange).but(currency="XXX").compact()),
    ),
    Case(
        "settled_payment",
        "outcome",
        "settled for another payment than the one that was confirmed",
        "R11: payment as confirmed",
        _OTHER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange).but(payment=ids.new_token()).compact()),
    ),
    Case(
        "settled_order",
        "outcome",
        "settled with the hash of another order",
        "R11: order as confirmed",
        _OTHER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange).but(order=ids.digest(b"another order")).compact()),
    ),
    Case(
        "settled_tid",
        "outcome",
        "settled whose tid is that of an order that nobody has paid",
        "R11: tid as confirmed",
        _OTHER,
        _other_tid,
    ),
    Case(
        "settled_tid_and_order",
        "outcome",
        "settled for an unpaid order, with payment and confirmation of a paid one",
        "R11: tid and order as confirmed",
        _OTHER,
        _other_order,
    ),
    Case(
        "settled_too_early",
        "outcome",
        "settled comes before its notice, and again after it",
        "R11: settled continues my own confirmation",
        "an early forgery waits until it fits",
        _early,
    ),
    Case(
        "settled_aud",
        "outcome",
        "settled that is addressed to another merchant",
        "aud = me",
        "what another shop was told counts here",
        forged_outcome(lambda stage, exchange: stage.settled(exchange).but(aud=stage.party("other-merchant").urn).compact()),
    ),
    Case(
        "settled_false_root",
        "outcome",
        "settled under a second root with the very same names",
        "path to the pinned root",
        FORGER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange, "false-gateway").compact()),
    ),
    Case(
        "settled_stranger",
        "outcome",
        "settled by another operator's gateway",
        "pinned gateway",
        FORGER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange, "stranger").compact()),
    ),
    Case(
        "settled_by_merchant",
        "outcome",
        "settled that another merchant has signed, in its own name",
        "purpose: gateway-sign; sender",
        FORGER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange, "other-merchant").compact()),
    ),
    Case(
        "settled_expired_key",
        "outcome",
        "settled under a certificate that has expired",
        "dates of every certificate",
        FORGER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange, "expired").compact()),
    ),
    Case(
        "settled_revoked_key",
        "outcome",
        "settled under a certificate that has been revoked",
        "the list of revoked certificates",
        FORGER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange, "revoked").compact()),
    ),
    Case(
        "settled_other_key",
        "outcome",
        "settled with the gateway's certificates, signed with another key",
        "signature under the selected key",
        FORGER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange).by(keys.new_key()).compact()),
    ),
    Case(
        "settled_alg_none",
        "outcome",
        'settled with alg "none" and 64 bytes where the signature stands',
        "alg pinned to ES256",
        FORGER,
        forged_outcome(lambda stage, exchange: stage.settled(exchange).headed(alg="none").compact(signature=lambda _: bytes(range(64)))),
    ),
    Case(
        "settled_jti_again",
        "outcome",
        "settled with the number `jti` of an earlier one",
        "(iss, jti) never seen with other bytes",
        "one number stands for two acts",
        _number_again,
    ),
    Case(
        "settled_twice",
        "outcome",
        "a settled order is settled again with other bytes",
        "R11: final is final",
        "the goods are delivered twice",
        _settled_again,
    ),
    Case("voided_after_settled", "outcome", "voided after settled", "R11: final is final", _RELEASED, _voided_after_settled),
    Case("settled_after_voided", "outcome", "settled after voided", "R11: final is final", _UNPAID, _settled_after_voided),
    Case("settled_after_closed", "outcome", "settled after closed", "R11: final is final", _UNPAID, _settled_after_closed),
    Case(
        "voided_foreign",
        "outcome",
        "voided for a payment that was never asked, with the hash of a foreign order",
        "R11: order = my order",
        _RELEASED,
        _voided_foreign,
    ),
    Case(
        "closed_after_confirmed",
        "outcome",
        "closed for an order that is confirmed",
        "R11: closed only before any notice",
        _RELEASED,
        forged_outcome(lambda stage, exchange: stage.closed(exchange.order).compact()),
    ),
    Case(
        "closed_after_settled",
        "outcome",
        "closed for an order that is settled",
        "R11: final is final",
        _RELEASED,
        _closed_after_settled,
    ),
    Case("closed_foreign", "outcome", "closed with the hash of a foreign order", "R11: order = my order", _RELEASED, _closed_foreign),
    Case("closed_unknown", "outcome", "closed for a tid that the merchant never gave", "R11: tid = my order", _RELEASED, _closed_unknown),
    Case(
        "status_as_settled",
        "outcome",
        "a status that nobody asked for says settled, with a settled message in it that continues nothing",
        "RQ: req = my inquiry; R11: prev = my confirmation",
        _UNPAID,
        _status,
    ),
    Case(
        "receipt_as_settled",
        "outcome",
        "the customer's receipt in place of a settled message",
        "typ fits the place; aud = me",
        "any customer holds a receipt, and shows it to the shop",
        forged_outcome(_receipt),
    ),
    Case(
        "keys_as_settled",
        "outcome",
        "the login page's `keys` in place of a settled message",
        "typ fits the place; aud = me",
        "anybody who opens a payment page has one",
        forged_outcome(_keys),
    ),
    Case(
        "receipt_retitled",
        "outcome",
        "a settled message's claims under the typ of a receipt",
        "typ fits the place",
        "one kind of message passes for another",
        forged_outcome(lambda stage, exchange: stage.settled(exchange).headed(typ="hanbit-receipt").compact()),
    ),
    Case(
        "notice_as_settled",
        "outcome",
        "a notice under the typ of a settled message, after the confirmation",
        "typ fits the place; claims exactly those of the typ",
        _UNPAID,
        forged_outcome(lambda stage, exchange: stage.notice(exchange.order).headed(typ="hanbit-settled").compact()),
    ),
    Case(
        "reflected_refusal",
        "outcome",
        "the merchant's own refusal comes back to it",
        "typ fits the place; sender",
        "the shop's own words count as the payment server's",
        _reflected_refusal,
    ),
    Case(
        "cancellation_unasked",
        "outcome",
        "a confirmed cancellation that the merchant never asked for",
        "C3: req = my own cancellation",
        "a paid order is struck, and the goods taken back",
        _cancelled,
    ),
)
"""In the order in which they are played."""
