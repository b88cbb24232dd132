"""The shop cancels at a real gateway: before, during and after the payment, in parts, with lost answers, twice; both books agree."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hanbit.kernel.errors import Unavailable, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant.cancellation import Cancellation, CancellationState
from hanbit.merchant.handlers import No
from hanbit.merchant.line import LineToGateway
from hanbit.merchant.order import Order as ShopOrder
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State as ShopState
from hanbit.payments.states import State
from tests.world import PRICE, Link, Visit, World, open_world

ASKED, CONFIRMED, REFUSED = CancellationState
BANK = 1_000_000


def won(amount: int) -> Money:
    return Money(amount, "KRW")


async def answered(shop: Shop, cancellation_id: str) -> Cancellation:
    """The cancellation once it has its answer; the desk looks every second, by the machine's clock."""
    for _ in range(500):
        cancellation = await shop.cancellation(cancellation_id)
        if cancellation.final:
            return cancellation
        shop._on_connected()
        await asyncio.sleep(0.02)
    raise AssertionError("no answer came")


async def order_of(world: World, visit: Visit) -> ShopOrder:
    return await world.shop_order(visit)


@dataclass
class Losing:
    """The gateway hears everything, the shop nothing."""

    real: LineToGateway
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        await self.real.ask(message, timeout_s=timeout_s)
        raise Unavailable("cut")

    async def tell(self, message: str) -> None:
        await self.real.tell(message)


def balance(world: World) -> int:
    return world.available(world.hong.accounts["bank"].id)


async def test_a_paid_order_is_cancelled_whole_and_the_money_is_back(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        visit = await world.visit()
        await visit.pay()
        assert (balance(world), world.earned()) == (BANK - PRICE, PRICE)
        done = await world.shop.shop.cancel(visit.redirect.tid, reason="does not fit")
        assert (done.state, done.look) == (CONFIRMED, None)
        order = await order_of(world, visit)
        assert (order.state, order.refunded_minor, order.may_deliver) == (ShopState.CANCELLED, PRICE, False)
        assert balance(world) == BANK
        assert [typ for typ in visit.kinds() if typ.startswith("cancel")] == ["cancel", "cancel-confirmation"]
        await world.prove()


async def test_parts_are_refunded_until_nothing_is_left(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        shop, visit = world.shop.shop, await world.visit()
        await visit.pay()
        for part in (20_000, 100_000):
            assert (await shop.cancel(visit.redirect.tid, amount=won(part), reason="a part")).state is CONFIRMED
        order = await order_of(world, visit)
        assert (order.state, order.remaining, order.may_deliver) == (ShopState.SETTLED, won(PRICE - 120_000), True)
        with pytest.raises(WrongState):
            await shop.cancel(visit.redirect.tid, amount=won(PRICE), reason="too much")
        assert balance(world) == BANK - PRICE + 120_000
        await shop.cancel(visit.redirect.tid, reason="the rest")
        assert (balance(world), (await order_of(world, visit)).state) == (BANK, ShopState.CANCELLED)
        await world.prove()


async def test_an_order_that_nobody_opened_can_be_paid_no_more(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        visit = await world.visit()
        assert (await world.shop.shop.cancel(visit.redirect.tid, reason="sold out")).state is CONFIRMED
        assert (await order_of(world, visit)).state is ShopState.CANCELLED
        assert (await visit.pay()).state == State.CLOSED
        assert balance(world) == BANK
        await world.prove()


async def test_the_gateway_is_deciding_when_the_shop_cancels(tmp_path: Path) -> None:
    """R8 is with the shop and R9 is lost: in progress, until recovery has the answer; then the money goes back."""
    async with open_world(tmp_path) as world:
        shop, visit = world.shop.shop, await world.visit()

        async def lost(link: Link, message: str) -> str | None:
            await link.to_shop(message)
            raise Unavailable("cut")

        world.shop.plan.append(lost)
        await visit.pay()
        assert visit.stored.state == State.AUTHORIZED
        asked = await shop.cancel(visit.redirect.tid, reason="changed his mind")
        assert (asked.state, asked.early) == (ASKED, True)
        await world.tick(2)
        assert visit.stored.state == State.CAPTURED
        done = await answered(shop, asked.id)
        assert (done.state, done.id) == (CONFIRMED, asked.id)
        assert (await order_of(world, visit)).state is ShopState.CANCELLED
        assert balance(world) == BANK
        await world.prove()


async def test_a_notice_that_comes_after_the_wish_to_cancel_is_refused(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        shop, visit = world.shop.shop, await world.visit()
        world.shop.up = False
        asked = await shop.cancel(visit.redirect.tid, reason="sold out")
        assert asked.state is ASKED
        world.shop.up = True
        await visit.pay()
        assert (visit.stored.state, visit.stored.reason) == (State.REFUSED, "withdrawn")
        assert (await answered(shop, asked.id)).state is CONFIRMED
        assert (await order_of(world, visit)).state is ShopState.CANCELLED
        assert balance(world) == BANK
        await world.prove()


async def test_a_lost_answer_is_the_same_answer_when_it_is_asked_for_again(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        shop, visit = world.shop.shop, await world.visit()
        await visit.pay()
        real = shop.line
        assert real is not None
        shop.line = Losing(real)
        asked = await shop.cancel(visit.redirect.tid, amount=won(1_000), reason="a part")
        assert asked.state is ASKED
        assert balance(world) == BANK - PRICE + 1_000
        for _ in range(3):
            shop._on_connected()
            await asyncio.sleep(0.02)
        shop.line = real
        assert (await answered(shop, asked.id)).state is CONFIRMED
        assert (balance(world), (await order_of(world, visit)).refunded_minor) == (BANK - PRICE + 1_000, 1_000)
        await world.prove()


async def test_a_suspended_merchant_still_gives_its_customers_their_money_back(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        visit = await world.visit()
        await visit.pay()
        await world.suspend("merchant", "shop")
        assert (await world.shop.shop.cancel(visit.redirect.tid, reason="does not fit")).state is CONFIRMED
        assert balance(world) == BANK
        await world.prove()


@pytest.mark.parametrize("key", ["the same wish", None])
async def test_two_staff_at_once_refund_once(tmp_path: Path, key: str | None) -> None:
    async with open_world(tmp_path) as world:
        shop, visit = world.shop.shop, await world.visit()
        await visit.pay()
        wishes = [shop.cancel(visit.redirect.tid, amount=won(PRICE), reason="both", request_key=key) for _ in range(4)]
        results = await asyncio.gather(*wishes, return_exceptions=True)
        assert balance(world) == BANK
        assert {type(result) for result in results} <= {Cancellation, WrongState}
        assert len({result.id for result in results if isinstance(result, Cancellation)}) == 1
        await world.prove()


async def test_after_an_outage_the_shop_asks_and_settles_by_itself(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        shop = world.shop.shop
        paid, voided, never, open_ = [await world.visit() for _ in range(4)]
        seen: list[tuple[int, int]] = []

        async def lost(_link: Link, _message: str) -> None:
            raise Unavailable("cut")

        # Outcomes are lost on their way, and the gateway will not tell them again for a while.
        world.shop.tell_plan.extend([lost] * 2)
        await paid.pay()
        world.confirm["shop"] = No(ko="품절", en="sold out")
        await voided.pay()
        assert [(await order_of(world, visit)).state for visit in (paid, voided)] == [ShopState.CONFIRMED, ShopState.REFUSED]
        assert shop.line is not None
        shop.line.connected.set()
        report = await shop.reconcile(lambda done, total: seen.append((done, total)))
        assert report.asked == 4
        assert dict(report.ended) == {paid.redirect.tid: "settled", voided.redirect.tid: "voided"}
        assert {finding.reason for finding in report.waiting} == {"unknown"}
        assert report.unresolved == ()
        assert seen == [(number, 4) for number in range(1, 5)]
        # When nobody can pay the others any more, the gateway's signed word on that closes them.
        world.clock.advance(3_600)
        report = await shop.reconcile()
        assert dict(report.ended) == {never.redirect.tid: "closed", open_.redirect.tid: "closed"}
        assert (await order_of(world, never)).reason == "never_opened"
        assert (await shop.reconcile()).asked == 0
        await world.prove()
