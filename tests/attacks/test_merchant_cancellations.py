"""Every forgery of the gateway's answer to a cancellation is refused, by whatever way it comes, and order and cancellation stand as before.

Altered, of another request, cancellation, tid, payment or amount, of another signer, a refusal made into a confirmation, a second answer.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.merchant.cancellation import CANCELLATIONS_MAX, CancellationState
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.protocols import signed
from hanbit.protocols.cancellation.merchant import Merchant
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation
from hanbit.protocols.signed import SignedMessage
from tests.unit.merchant.support import GATEWAY, OPERATOR, PHONE, GatewayLine, Operator, Parties, confirmed, serial, settled

PART = Money(20_000, "KRW")
LEFT = PHONE.amount_minor - PART.amount_minor


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop(parties: Parties, tmp_path: Path) -> AsyncIterator[Shop]:
    async with parties.open_shop(tmp_path) as opened:
        opened.line = GatewayLine(parties)
        yield opened


def altered(compact: str, **changes: Any) -> str:
    header, payload, signature = compact.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return ".".join((header, ids.encode_base64url(json.dumps(claims | changes, separators=(",", ":")).encode()), signature))


def retyped(compact: str, typ: str) -> str:
    header, _, rest = compact.partition(".")
    fields = json.loads(base64.urlsafe_b64decode(header + "=="))
    return ids.encode_base64url(json.dumps(fields | {"typ": typ}, separators=(",", ":")).encode()) + "." + rest


def by(parties: Parties, cancel: SignedMessage[Cancel], signer: signed.Signer, **changes: Any) -> str:
    honest = parties.cancelled(cancel, PART.amount_minor, LEFT).claims
    fields = {name: getattr(honest, name) for name in honest.__struct_fields__} | {"iss": signer.urn} | changes
    return signed.sign(CancelConfirmation(**fields), signer).compact


def stranger(parties: Parties, cancel: SignedMessage[Cancel]) -> str:
    return by(parties, cancel, Operator.make("demo").signer(GATEWAY, "gateway-sign"))


def another_gateway(parties: Parties, cancel: SignedMessage[Cancel]) -> str:
    return by(parties, cancel, Operator.make("other").signer(ids.urn("other", "gateway"), "gateway-sign"))


def revoked_key(parties: Parties, cancel: SignedMessage[Cancel]) -> str:
    signer = parties.operator.signer(GATEWAY, "gateway-sign")
    parties.revoked.add(serial(signer))
    return by(parties, cancel, signer)


def claims(**changes: Any) -> Callable[[Parties, SignedMessage[Cancel]], str]:
    """The gateway's own signature under other claims: a gateway that errs or lies."""
    return lambda parties, cancel: parties.cancelled(cancel, PART.amount_minor, LEFT, **changes).compact


def edited(**changes: Any) -> Callable[[Parties, SignedMessage[Cancel]], str]:
    """Other claims under a signature that was made for the honest ones."""
    return lambda parties, cancel: altered(parties.cancelled(cancel, PART.amount_minor, LEFT).compact, **changes)


Forgery = Callable[[Parties, SignedMessage[Cancel]], str]
OTHER = ids.new_token()
FORGERIES: dict[str, Forgery] = {
    "altered amount": edited(amount="200000"),
    "altered figures": edited(refunded="0", remaining="0"),
    "another request": claims(req=ids.digest(b"another")),
    "another cancellation": claims(cancellation=OTHER),
    "another tid": claims(tid=OTHER),
    "another payment": claims(payment=OTHER),
    "no payment": claims(payment=None),
    "another amount": claims(amount="20001"),
    "another currency": claims(currency="USD"),
    "for another shop": claims(aud=ids.urn(OPERATOR, "merchant", "other")),
    "nothing was captured": claims(refunded="0", remaining="0"),
    "less than was asked": claims(refunded="19999"),
    "figures that do not follow": claims(remaining="0"),
    "a stranger's root": stranger,
    "another operator's gateway": another_gateway,
    "a revoked key": revoked_key,
    "a refusal made into a confirmation": lambda parties, cancel: retyped(
        parties.not_cancelled(cancel, "merchant_funds", 0, PHONE.amount_minor).compact, CancelConfirmation.TYP
    ),
    "a refusal whose reason does not follow": lambda parties, cancel: parties.not_cancelled(cancel, "too_much", 0, 220_000).compact,
    "cut": lambda parties, cancel: parties.cancelled(cancel, PART.amount_minor, LEFT).compact[:-1],
    "turned away for good, for another request": lambda parties, _: parties.turned_away(ids.digest(b"another"), "expired").compact,
    "turned away for good, altered": lambda parties, cancel: altered(
        parties.turned_away(cancel.hash, "in_progress").compact, code="expired"
    ),
    "our own request, reflected": lambda _, cancel: cancel.compact,
}


def line(shop: Shop) -> GatewayLine:
    assert isinstance(shop.line, GatewayLine)
    return shop.line


async def unmoved(shop: Shop, order: Order, cancellation_id: str) -> None:
    assert await shop.order(order.tid) == order
    assert (await shop.cancellation(cancellation_id)).state is CancellationState.ASKED
    assert [kept.typ for kept in await shop.book.messages(order.tid)][-1] == Cancel.TYP


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_answer_changes_nothing_and_the_honest_one_still_counts(parties: Parties, shop: Shop, forgery: str) -> None:
    order = await settled(parties, shop)
    forge = FORGERIES[forgery]
    line(shop).judge = lambda cancel: forge(parties, cancel)
    asked = await shop.cancel(order.tid, amount=PART, reason="does not fit")
    await unmoved(shop, order, asked.id)
    assert shop.book._connection.execute("SELECT count(*) FROM rejected").fetchone()[0] >= 1, "the bad bytes are kept for the operator"
    (cancel,) = line(shop).cancels
    # The same by itself, as an answer that came late.
    unverified = forge(parties, cancel)
    if "turned away" not in forgery:
        with pytest.raises(ProtocolViolation):
            await shop.receive(unverified)
        await unmoved(shop, order, asked.id)
    assert await shop.receive(parties.cancelled(cancel, PART.amount_minor, LEFT).compact) is None
    after = await shop.order(order.tid)
    assert (after.state, after.refunded_minor) == (State.SETTLED, PART.amount_minor)


@pytest.mark.parametrize("whole", [True, False])
async def test_an_answer_is_taken_once_and_a_second_other_one_is_a_contradiction(parties: Parties, shop: Shop, whole: bool) -> None:
    order = await settled(parties, shop)
    asked = await shop.cancel(order.tid, amount=None if whole else PART, reason="does not fit")
    (cancel,) = line(shop).cancels
    amount = int(cancel.claims.amount)
    confirmation = parties.cancelled(cancel, amount, PHONE.amount_minor - amount)
    for _ in range(3):
        assert await shop.receive(confirmation.compact) is None
    after = await shop.order(order.tid)
    assert after.refunded_minor == amount
    second = (
        parties.cancelled(cancel, amount, PHONE.amount_minor - amount)
        if whole
        else parties.not_cancelled(cancel, "merchant_funds", 0, PHONE.amount_minor)
    )
    with pytest.raises(ProtocolViolation):
        await shop.receive(second.compact)
    assert await shop.order(order.tid) == after
    assert (await shop.cancellation(asked.id)).state is CancellationState.CONFIRMED


async def test_a_confirmation_for_what_this_shop_never_asked(parties: Parties, shop: Shop) -> None:
    order = await settled(parties, shop)
    cancel = _never_sent(parties, order)
    with pytest.raises(ProtocolViolation, match="has not asked"):
        await shop.receive(parties.cancelled(cancel, PHONE.amount_minor, 0).compact)
    assert await shop.order(order.tid) == order
    assert await shop.cancellations(order.tid) == []


async def test_a_refund_of_what_this_shop_has_never_confirmed(parties: Parties, shop: Shop) -> None:
    order, _, _ = await confirmed(parties, shop)
    cancel = _never_sent(parties, order)
    for body in ({"cancellation": 7}, {"cancellation": "x"}, {}):
        with pytest.raises(ProtocolViolation):
            await shop.receive(altered(parties.cancelled(cancel, 1, 1).compact, **body))
    assert await shop.order(order.tid) == order


def _never_sent(parties: Parties, order: Order) -> SignedMessage[Cancel]:
    role = Merchant(parties.shop, GATEWAY, parties.trust)
    return role.make_cancel(
        cancellation=ids.new_token(),
        payment=order.payment,
        tid=order.tid,
        amount=PHONE,
        remaining=PHONE,
        reason="r",
        prev=order.order_hash,
        at=parties.clock.now(),
    )


async def test_a_gateway_that_finds_everything_too_old_stops_no_wish_and_fills_no_book(parties: Parties, shop: Shop) -> None:
    order = await settled(parties, shop)
    line(shop).judge = lambda cancel: parties.turned_away(cancel.hash, "expired").compact
    asked = await shop.cancel(order.tid, amount=PART, reason="does not fit", request_key="basket-1")
    async with asyncio.timeout(20):
        while not (newest := await shop.cancellation(asked.id)).final:  # noqa: ASYNC110 - the desk goes on by itself
            await asyncio.sleep(0.02)
    assert (newest.state, newest.refusal, newest.request_key) == (CancellationState.REFUSED, "expired", "basket-1")
    assert await shop.order(order.tid) == order
    found = await shop.cancellations(order.tid)
    assert len(found) == len(line(shop).cancels) == CANCELLATIONS_MAX
    assert [one.replaced_by for one in found] == [*(one.id for one in found[1:]), None]
    await asyncio.sleep(0.1)
    assert len(line(shop).cancels) == CANCELLATIONS_MAX, "what is answered is not sent again"


@pytest.mark.parametrize("refunded", ["nothing", "part", "all"])
async def test_an_outcome_that_contradicts_what_the_gateway_signed_of_the_refund(parties: Parties, shop: Shop, refunded: str) -> None:
    """Settled where nothing was captured, or voided where money went back: one of the two words is a lie, and the shop keeps both."""
    order, _, confirmation = await confirmed(parties, shop)
    amount = {"nothing": 0, "part": PART.amount_minor, "all": PHONE.amount_minor}[refunded]
    line(shop).judge = lambda cancel: parties.cancelled(cancel, amount, PHONE.amount_minor - amount if amount else 0).compact
    await shop.cancel(order.tid, amount=PART if refunded == "part" else None, reason="does not fit")
    before = await shop.order(order.tid)
    assert before.refunded_minor == amount
    paid, unpaid = (make(confirmation.claims, confirmation.hash).compact for make in (parties.settled, parties.voided))
    honest, lie = (paid, unpaid) if amount else (unpaid, paid)
    with pytest.raises(ProtocolViolation, match="refund"):
        await shop.receive(lie)
    assert await shop.order(order.tid) == before
    assert shop.book._connection.execute("SELECT rule FROM rejected").fetchall() == [("state",)]
    assert await shop.receive(honest)
    after = await shop.order(order.tid)
    assert (after.state, after.refunded_minor) == (State.SETTLED if refunded == "part" else State.CANCELLED, amount)
