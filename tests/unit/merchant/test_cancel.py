"""The shop cancels: stored before it is sent, the same bytes until it is answered, and an order changes only on the signed answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel.errors import BadInput, Conflict, HanbitError, NotFound, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant import handlers, sending
from hanbit.merchant.cancellation import REFUND, CancellationState, Goods
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.protocols.cancellation.messages import Cancel
from hanbit.protocols.signed import SignedMessage
from tests.unit.merchant.support import PHONE, GatewayLine, Parties, confirmed, kinds, place, settled
from tests.waiting import PATIENCE_S

WHOLE = PHONE.amount_minor
ASKED, CONFIRMED, REFUSED = CancellationState


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop(parties: Parties, tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened(parties, tmp_path) as shop:
        yield shop


@asynccontextmanager
async def opened(parties: Parties, folder: Path, **arguments: Any) -> AsyncIterator[Shop]:
    async with parties.open_shop(folder, **arguments) as shop:
        shop.line = GatewayLine(parties)
        yield shop


def line(shop: Shop) -> GatewayLine:
    assert isinstance(shop.line, GatewayLine)
    return shop.line


def obliges(parties: Parties, shop: Shop, before: int = 0) -> None:
    """The gateway refunds what is asked; it keeps its own sum."""
    refunded: dict[str, int] = {}

    def judge(cancel: SignedMessage[Cancel]) -> str:
        asked = cancel.claims
        sum_ = refunded[asked.tid] = refunded.get(asked.tid, before) + int(asked.amount)
        return parties.cancelled(cancel, sum_, WHOLE - sum_).compact

    line(shop).judge = judge


async def until(shop: Shop, cancellation_id: str, state: CancellationState) -> None:
    for _ in range(1_000):
        if (await shop.cancellation(cancellation_id)).state is state:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"the cancellation is not {state}")


async def test_a_paid_order_is_struck_on_the_signed_confirmation(parties: Parties, shop: Shop) -> None:
    order = await settled(parties, shop)
    obliges(parties, shop)
    cancellation = await shop.cancel(order.tid, reason="does not fit")
    (cancel,) = line(shop).cancels
    claims = cancel.claims
    assert (claims.tid, claims.payment, claims.prev) == (order.tid, order.payment, order.outcome)
    assert (claims.amount, claims.remaining, claims.reason) == ("220000", "220000", "does not fit")
    assert (cancellation.state, cancellation.goods, cancellation.look) == (CONFIRMED, Goods.AWAITED, None)
    struck = await shop.order(order.tid)
    assert (struck.state, struck.refunded, struck.remaining) == (State.CANCELLED, PHONE, Money(0, "KRW"))
    assert not struck.may_deliver
    assert struck.outcome == order.outcome, "the proof that it was paid stays"
    assert kinds(await shop.book.messages(order.tid))[-2:] == ["cancel", "cancel-confirmation"]
    with pytest.raises(WrongState, match="not settled"):
        await shop.deliverable(order.tid)
    with pytest.raises(WrongState, match="nothing is left"):
        await shop.cancel(order.tid, reason="again")


async def test_parts_go_back_until_nothing_is_left(parties: Parties, shop: Shop) -> None:
    order = await settled(parties, shop)
    obliges(parties, shop)
    for number, part in enumerate((20_000, 50_000), start=1):
        assert (await shop.cancel(order.tid, amount=Money(part, "KRW"), reason=f"part {number}")).state is CONFIRMED
    partly = await shop.order(order.tid)
    assert (partly.state, partly.may_deliver, partly.refunded_minor) == (State.SETTLED, True, 70_000)
    with pytest.raises(WrongState, match="more than what is left"):
        await shop.cancel(order.tid, amount=Money(150_001, "KRW"), reason="too much")
    await shop.cancel(order.tid, reason="the rest")
    assert [cancel.claims.remaining for cancel in line(shop).cancels] == ["220000", "200000", "150000"]
    assert [cancellation.amount.amount_minor for cancellation in await shop.cancellations(order.tid)] == [20_000, 50_000, 150_000]
    assert (await shop.order(order.tid)).state is State.CANCELLED
    assert [step.event for step in await shop.book.history(order.tid)][-3:] == ["refunded", "refunded", "cancelled"]


async def test_an_order_that_nobody_has_paid_is_withdrawn_first_so_that_a_late_notice_is_refused(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    asked = await shop.cancel(order.tid, reason="sold out")
    assert (asked.state, (await shop.order(order.tid)).state) == (ASKED, State.WITHDRAWN)
    refusal = parties.read_refusal(await shop.receive(parties.notice(order).compact))
    assert refusal.claims.reason == "withdrawn"
    line(shop).judge = lambda cancel: parties.cancelled(cancel, 0, 0).compact
    shop._on_connected()
    await until(shop, asked.id, CONFIRMED)
    struck = await shop.order(order.tid)
    assert (struck.state, struck.refunded_minor, struck.remaining.amount_minor) == (State.CANCELLED, 0, 0)
    assert (await shop.cancellation(asked.id)).goods is Goods.NONE
    (first, second) = line(shop).cancels
    assert first.compact == second.compact
    # The outcome that the confirmation has overtaken is kept and acknowledged, and moves nothing.
    voided = parties.voided(refusal.claims, refusal.hash)
    parties.read_acknowledgement(await shop.receive(voided.compact))
    after = await shop.order(order.tid)
    assert (after.state, after.outcome) == (State.CANCELLED, voided.hash)


async def test_closed_by_the_gateway_before_its_confirmation_comes(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    asked = await shop.cancel(order.tid, reason="sold out")
    await shop.receive(parties.closed(order, outcome="cancelled_by_merchant").compact)
    assert (await shop.order(order.tid)).state is State.CLOSED
    line(shop).judge = lambda cancel: parties.cancelled(cancel, 0, 0).compact
    await until(shop, asked.id, CONFIRMED)
    assert (await shop.order(order.tid)).state is State.CANCELLED


@pytest.mark.parametrize("amount", [None, Money(20_000, "KRW")])
async def test_while_the_payment_is_being_decided_the_same_bytes_are_sent_again(parties: Parties, shop: Shop, amount: Money | None) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    line(shop).judge = lambda cancel: parties.turned_away(cancel.hash, "in_progress").compact
    asked = await shop.cancel(order.tid, amount=amount, reason="changed his mind")
    assert (asked.state, asked.early, (await shop.order(order.tid)).state) == (ASKED, True, State.CONFIRMED)
    obliges(parties, shop)
    await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    await until(shop, asked.id, CONFIRMED)
    assert len({cancel.compact for cancel in line(shop).cancels}) == 1
    after = await shop.order(order.tid)
    assert after.state is (State.CANCELLED if amount is None else State.SETTLED)
    assert after.refunded == (amount or PHONE)


async def test_a_confirmation_that_overtakes_the_settled_message(parties: Parties, shop: Shop) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    obliges(parties, shop)
    assert (await shop.cancel(order.tid, reason="changed his mind")).state is CONFIRMED
    assert (await shop.order(order.tid)).state is State.CANCELLED
    settled_message = parties.settled(confirmation.claims, confirmation.hash)
    parties.read_acknowledgement(await shop.receive(settled_message.compact))
    after = await shop.order(order.tid)
    assert (after.state, after.outcome, after.may_deliver) == (State.CANCELLED, settled_message.hash, False)


@pytest.mark.parametrize("reason", ["amount_differs", "remaining_differs"])
async def test_figures_refused_before_the_payment_was_settled_are_asked_anew_after_it(parties: Parties, shop: Shop, reason: str) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    line(shop).judge = lambda cancel: parties.not_cancelled(cancel, reason, 0, 0).compact
    asked = await shop.cancel(order.tid, amount=Money(20_000, "KRW"), reason="changed his mind", request_key="k")
    assert (asked.state, asked.refusal) == (REFUSED, reason)
    obliges(parties, shop)
    await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    await until(shop, asked.id, CONFIRMED)
    anew = await shop.cancellation(asked.id)
    assert anew.id != asked.id
    assert (await shop.cancel(order.tid, reason="changed his mind", request_key="k")).id == anew.id
    assert (await shop.order(order.tid)).refunded_minor == 20_000


async def test_what_the_gateway_had_not_taken_within_its_day_is_asked_anew(parties: Parties, shop: Shop) -> None:
    order = await settled(parties, shop)
    first = await shop.cancel(order.tid, reason="does not fit", request_key="k")
    obliging: list[str] = []

    def judge(cancel: SignedMessage[Cancel]) -> str:
        obliging.append(cancel.claims.cancellation)
        if cancel.claims.cancellation == first.id:
            return parties.turned_away(cancel.hash, "expired").compact
        return parties.cancelled(cancel, WHOLE, 0).compact

    line(shop).judge = judge
    shop._on_connected()
    await until(shop, first.id, CONFIRMED)
    old, new = await shop.cancellations(order.tid)
    assert (old.state, old.refusal, old.replaced_by) == (REFUSED, "expired", new.id)
    assert obliging == [old.id, new.id]
    assert (await shop.cancel(order.tid, reason="does not fit", request_key="k")).id == new.id


@pytest.mark.parametrize("code", ["revoked", "currency", "unknown_key"])
async def test_a_code_that_can_never_succeed_ends_the_cancellation(parties: Parties, shop: Shop, code: str) -> None:
    order = await settled(parties, shop)
    line(shop).judge = lambda cancel: parties.turned_away(cancel.hash, code).compact
    refused = await shop.cancel(order.tid, reason="does not fit")
    assert (refused.state, refused.refusal) == (REFUSED, code)
    assert (await shop.order(order.tid)).state is State.SETTLED


@pytest.mark.parametrize("code", ["unavailable", "in_progress", "too_many", "typ", "wrong_state", "certificate_dates"])
async def test_every_other_code_is_asked_again(parties: Parties, shop: Shop, code: str) -> None:
    order = await settled(parties, shop)
    line(shop).judge = lambda cancel: parties.turned_away(cancel.hash, code).compact
    asked = await shop.cancel(order.tid, reason="does not fit")
    assert asked.state is ASKED
    obliges(parties, shop)
    shop._on_connected()
    await until(shop, asked.id, CONFIRMED)


@pytest.mark.parametrize("reason", ["too_late", "merchant_funds"])
async def test_a_refusal_changes_nothing_and_another_may_be_asked(parties: Parties, shop: Shop, reason: str) -> None:
    order = await settled(parties, shop)
    line(shop).judge = lambda cancel: parties.not_cancelled(cancel, reason, 0, WHOLE).compact
    refused = await shop.cancel(order.tid, reason="does not fit")
    assert (refused.state, refused.refusal, refused.look) == (REFUSED, reason, None)
    after = await shop.order(order.tid)
    assert (after.state, after.refunded_minor, after.version) == (State.SETTLED, 0, order.version)
    obliges(parties, shop)
    assert (await shop.cancel(order.tid, reason="once more")).state is CONFIRMED


async def test_figures_that_are_not_ours_are_kept_for_somebody_to_look_at(parties: Parties, shop: Shop) -> None:
    order = await settled(parties, shop)
    line(shop).judge = lambda cancel: parties.not_cancelled(cancel, "remaining_differs", 100_000, WHOLE - 100_000).compact
    refused = await shop.cancel(order.tid, amount=Money(1_000, "KRW"), reason="does not fit")
    assert refused.look is not None
    assert "100000 refunded, 120000 left" in refused.look
    # A true confirmation of ours, with a sum that this book does not know: ours is counted, theirs is not taken over.
    line(shop).judge = lambda cancel: parties.cancelled(cancel, 101_000, WHOLE - 1_000).compact
    confirmed_ = await shop.cancel(order.tid, amount=Money(1_000, "KRW"), reason="does not fit")
    assert (confirmed_.state, (await shop.order(order.tid)).refunded_minor) == (CONFIRMED, 1_000)
    assert confirmed_.look is not None
    line(shop).answer = lambda inquiry: parties.status(inquiry, "settled", None).compact
    report = await shop.reconcile()
    assert {finding.kind for finding in report.unresolved} == {"cancellation"}
    assert len(report.unresolved) == 2


async def test_two_at_once_cannot_take_back_more_than_there_is(parties: Parties, shop: Shop) -> None:
    order = await settled(parties, shop)
    obliges(parties, shop)
    wishes = [shop.cancel(order.tid, amount=Money(150_000, "KRW"), reason="twice") for _ in range(5)]
    results = await asyncio.gather(*wishes, return_exceptions=True)
    assert sum(not isinstance(result, WrongState) for result in results) == 1
    assert len(line(shop).cancels) == 1
    assert (await shop.order(order.tid)).refunded_minor == 150_000


async def test_the_same_request_key_gives_the_same_cancellation(parties: Parties, shop: Shop) -> None:
    order, other = [await settled(parties, shop) for _ in range(2)]
    obliges(parties, shop)
    wishes = [shop.cancel(order.tid, amount=Money(1_000, "KRW"), reason="twice", request_key="k") for _ in range(4)]
    assert len({cancellation.id for cancellation in await asyncio.gather(*wishes)}) == 1
    assert (await shop.order(order.tid)).refunded_minor == 1_000
    for tid, amount in ((other.tid, 1_000), (order.tid, 2_000)):
        with pytest.raises(Conflict):
            await shop.cancel(tid, amount=Money(amount, "KRW"), reason="twice", request_key="k")


async def test_while_one_is_open_another_is_refused(parties: Parties, shop: Shop) -> None:
    order = await settled(parties, shop)
    asked = await shop.cancel(order.tid, amount=Money(1, "KRW"), reason="one")
    assert asked.state is ASKED
    with pytest.raises(WrongState, match="waits for its answer"):
        await shop.cancel(order.tid, amount=Money(1, "KRW"), reason="two")
    assert [cancellation.id for cancellation in await shop.cancellations(order.tid)] == [asked.id]


async def test_nothing_is_asked_where_nothing_was_paid(parties: Parties, shop: Shop) -> None:
    closed = await shop.order((await place(shop)).tid)
    await shop.receive(parties.closed(closed).compact)
    refused = await shop.order((await place(shop)).tid)
    await shop.receive(parties.notice(refused, amount="1").compact)
    voided, notice, confirmation = await confirmed(parties, shop)
    await shop.receive(parties.voided(confirmation.claims, notice.hash).compact)
    for order in (closed, refused, voided):
        with pytest.raises(WrongState, match="nothing was paid"):
            await shop.cancel(order.tid, reason="does not fit")
    with pytest.raises(NotFound):
        await shop.cancel("A" * 22, reason="does not fit")
    assert line(shop).cancels == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reason": ""}, BadInput),
        ({"reason": "x" * 201}, BadInput),
        ({"reason": "a\nb"}, BadInput),
        ({"amount": Money(0, "KRW")}, BadInput),
        ({"amount": Money(1, "USD")}, BadInput),
        ({"amount": Money(WHOLE + 1, "KRW")}, WrongState),
        ({"request_key": ""}, BadInput),
        ({"request_key": "k" * 201}, BadInput),
    ],
)
async def test_a_bad_wish_is_refused_and_leaves_no_trace(
    parties: Parties, shop: Shop, arguments: dict[str, Any], error: type[HanbitError]
) -> None:
    order = await settled(parties, shop)
    before = list(shop.book._connection.iterdump())
    with pytest.raises(error):
        await shop.cancel(order.tid, **{"reason": "does not fit", **arguments})
    assert list(shop.book._connection.iterdump()) == before


async def test_a_part_of_what_nobody_has_paid_cannot_be_cancelled(shop: Shop) -> None:
    tid = (await place(shop)).tid
    with pytest.raises(WrongState, match="only the whole order"):
        await shop.cancel(tid, amount=Money(1, "KRW"), reason="does not fit")
    assert (await shop.order(tid)).state is State.PLACED


async def test_goods_are_awaited_until_they_have_come_back(parties: Parties, shop: Shop) -> None:
    order, song = [await settled(parties, shop) for _ in range(2)]
    obliges(parties, shop)
    with pytest.raises(WrongState, match="nothing is awaited"):
        await shop.mark_goods_returned(order.tid)
    await shop.cancel(order.tid, reason="does not fit")
    for _ in range(2):
        (returned,) = await shop.mark_goods_returned(order.tid)
        assert returned.goods is Goods.RETURNED
    assert (await shop.cancel(song.tid, reason="does not play", goods=False)).goods is Goods.NONE
    with pytest.raises(WrongState, match="nothing is awaited"):
        await shop.mark_goods_returned(song.tid)


async def test_the_handler_hears_once_more_of_an_order_that_is_struck(parties: Parties, tmp_path: Path) -> None:
    heard: list[tuple[State, int]] = []

    async def on_outcome(order: Order) -> None:
        heard.append((order.state, order.refunded_minor))

    async with opened(parties, tmp_path, on_outcome=on_outcome) as shop:
        order = await settled(parties, shop)
        obliges(parties, shop)
        await shop.cancel(order.tid, amount=Money(1_000, "KRW"), reason="a part")
        await shop.cancel(order.tid, reason="the rest")
        for _ in range(1_000):
            if len(heard) == 2 and not await shop.book.unhandled(1):
                break
            await asyncio.sleep(0.01)
    assert [state for state, _ in heard] == [State.SETTLED, State.CANCELLED]


async def told(shop: Shop, heard: list[tuple[str, int]], count: int) -> None:
    """Until so much was heard and nothing waits to be told."""
    await all_told(shop)
    assert len(heard) == count


async def all_told(shop: Shop) -> None:
    for _ in range(int(PATIENCE_S / 0.01)):
        if not await shop.book.untold_refunds(1) and not await shop.book.unhandled(1):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("something still waits to be told")


def hears(heard: list[tuple[str, int]]) -> dict[str, Any]:
    """Handlers that write down what they hear."""

    async def on_outcome(order: Order) -> None:
        heard.append((order.state, order.refunded_minor))

    async def on_refund(order: Order) -> None:
        heard.append(("part", order.refunded_minor))

    return {"on_outcome": on_outcome, "on_refund": on_refund}


async def test_the_handler_hears_of_each_part_that_went_back(parties: Parties, tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []
    async with opened(parties, tmp_path, **hears(heard)) as shop:
        order = await settled(parties, shop)
        obliges(parties, shop)
        await told(shop, heard, 1)
        for count in (2, 3):
            await shop.cancel(order.tid, amount=Money(1_000, "KRW"), reason="a part")
            await told(shop, heard, count)
        await shop.cancel(order.tid, reason="the rest")
        await told(shop, heard, 4)
    assert heard == [("settled", 0), ("part", 1_000), ("part", 2_000), ("cancelled", PHONE.amount_minor)]
    async with opened(parties, tmp_path, **hears(heard)) as again:
        await told(again, heard, 4)
        assert await again.book.held(f"{REFUND}{order.tid}") is None, "nothing is kept of what was told"


async def test_a_part_is_told_again_until_the_handler_has_taken_it_and_after_a_stop(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "RETRY_FIRST_S", 0.01)
    heard: list[tuple[str, int]] = []
    tries = asyncio.Event()

    async def fails(_: Order) -> None:
        tries.set()
        raise OSError("the shop's database is away")

    async with opened(parties, tmp_path, **(hears(heard) | {"on_refund": fails})) as shop:
        order = await settled(parties, shop)
        obliges(parties, shop)
        await shop.cancel(order.tid, amount=Money(1_000, "KRW"), reason="a part")
        async with asyncio.timeout(PATIENCE_S):
            await tries.wait()
    assert heard == [("settled", 0)]
    async with opened(parties, tmp_path, **hears(heard)) as again:
        await told(again, heard, 2)
        obliges(parties, again, 1_000)
        await again.cancel(order.tid, amount=Money(500, "KRW"), reason="another part")
        await told(again, heard, 3)
    assert heard[1:] == [("part", 1_000), ("part", 1_500)]


async def test_a_part_of_an_order_that_was_struck_since_is_told_as_struck(parties: Parties, tmp_path: Path) -> None:
    async with opened(parties, tmp_path, on_outcome=hears([])["on_outcome"], on_refund=_never) as shop:
        order = await settled(parties, shop)
        obliges(parties, shop)
        await shop.cancel(order.tid, amount=Money(1_000, "KRW"), reason="a part")
        await shop.cancel(order.tid, reason="the rest")
    heard: list[tuple[str, int]] = []
    async with opened(parties, tmp_path, **hears(heard)) as again:
        await all_told(again)
    assert "part" not in [kind for kind, _ in heard]


async def _never(_: Order) -> None:
    raise OSError("the shop's database is away")


async def test_nothing_waits_to_be_told_where_nobody_hears_of_refunds(parties: Parties, tmp_path: Path) -> None:
    async with opened(parties, tmp_path, on_outcome=hears([])["on_outcome"]) as shop:
        order = await settled(parties, shop)
        obliges(parties, shop)
        await shop.cancel(order.tid, amount=Money(1_000, "KRW"), reason="a part")
        assert await shop.book.held(f"{REFUND}{order.tid}") is None


async def test_what_was_asked_before_a_stop_is_sent_with_the_same_bytes_after_it(parties: Parties, tmp_path: Path) -> None:
    async with opened(parties, tmp_path) as shop:
        order = await settled(parties, shop)
        asked = await shop.cancel(order.tid, reason="does not fit")
        (first,) = line(shop).cancels
    async with opened(parties, tmp_path) as again:
        obliges(parties, again)
        await until(again, asked.id, CONFIRMED)
        assert [cancel.compact for cancel in line(again).cancels] == [first.compact]
        assert (await again.order(order.tid)).state is State.CANCELLED


async def test_pauses_grow_to_half_a_minute(parties: Parties, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    order = await settled(parties, shop)
    monkeypatch.setattr(sending, "LOOK_S", 0.005)
    asked = await shop.cancel(order.tid, reason="does not fit")
    tries = []
    for pause in (2, 4, 8, 16, 30, 30):
        tries.append(len(line(shop).cancels))
        parties.clock.advance(pause - 1)
        await asyncio.sleep(0.03)
        assert len(line(shop).cancels) == tries[-1]
        parties.clock.advance(1)
        for _ in range(1_000):
            if len(line(shop).cancels) > tries[-1]:
                break
            await asyncio.sleep(0.002)
        assert len(line(shop).cancels) == tries[-1] + 1
    assert (await shop.cancellation(asked.id)).state is ASKED
    assert len({cancel.compact for cancel in line(shop).cancels}) == 1
