"""A cancellation against everything else that can happen at the same time: every interleaving ends in one legal state with its proof.

`beside` starts the second act so many turns of the loop after the first; the book decides both, often in one batch. After each test the
world proves ledger, evidence, and that the shop holds the same signed words.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from hanbit.db.change import Change
from hanbit.ledger.entry import REFUND
from hanbit.payments import operations
from hanbit.protocols.cancellation.merchant import Answer
from hanbit.protocols.redirect.gateway import HOLD_LIFE_S
from tests.flows.cancelling import Canceller
from tests.flows.test_cancellation import drain, paid
from tests.world import PRICE, Link, Visit, World, delay_answer, lose_answer, lose_request, open_world

TURNS = range(0, 24, 2)
"""From the same turn of the loop to after the first act's commit."""


@pytest.fixture
def shop(world: World) -> Canceller:
    return Canceller(world)


async def beside(turns: int, first: Awaitable[Any], second: Awaitable[Any]) -> tuple[Any, Any]:
    async def later() -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await second

    one, other = await asyncio.gather(first, later())
    return one, other


async def whole(world: World, visit: Visit) -> None:
    """Everything that this payment ever moved and gave back fits its state."""
    payment, account = visit.stored, world.hong.accounts["bank"].id
    assert world.available(account) == 1_000_000 - (payment.captured - payment.refunded)
    assert world.available("merchant:shop:KRW") == payment.captured - payment.refunded


@pytest.mark.parametrize("turns", TURNS)
async def test_against_the_customers_payment(world: World, shop: Canceller, turns: int) -> None:
    visit = await world.visit()
    await visit.login()
    request = shop.request(visit)
    _, answer = await beside(turns, visit.pay(), shop.ask(request))
    state = visit.stored.state
    assert state in ("captured", "closed")
    if state == "closed":
        assert not isinstance(answer, str)
    else:
        # Before the notice was stored the shop knew no payment: a refund must name it, so this request is refused, and another is made.
        assert answer in ("in_progress", "payment")
        assert await shop.cancel(visit) == ("confirmed", PRICE, 0)
    await whole(world, visit)


async def test_against_the_capture_while_the_shop_is_being_asked(world: World, shop: Canceller) -> None:
    visit = await world.visit()
    seen: list[Answer | str] = []

    async def cancelled_meanwhile(link: Link, message: str) -> str | None:
        seen.append(await shop.ask(shop.request(visit)))
        return await link.to_shop(message)

    world.shop.plan.append(cancelled_meanwhile)
    await visit.pay()
    assert seen == ["in_progress"]
    assert visit.stored.state == "captured"
    assert await shop.cancel(visit) == ("confirmed", PRICE, 0)


@pytest.mark.parametrize("turns", TURNS)
async def test_against_the_confirmation_that_captures(world: World, shop: Canceller, turns: int) -> None:
    visit = await world.visit()
    world.shop.plan.append(delay_answer)
    await visit.pay()
    request = shop.request(visit)
    _, answer = await beside(turns, world.shop.deliver_late(), shop.ask(request))
    assert visit.stored.state == "captured"
    if answer == "in_progress":
        answer = await shop.ask(request)
    assert (answer.claims.refunded, visit.stored.refunded) == (str(PRICE), PRICE)
    await whole(world, visit)


@pytest.mark.parametrize("turns", TURNS)
async def test_against_the_end_of_the_hold(world: World, shop: Canceller, turns: int) -> None:
    visit = await world.visit()
    world.shop.plan.append(lose_answer)
    await visit.pay()
    request = shop.request(visit)
    world.clock.advance(HOLD_LIFE_S + 1)
    _, answer = await beside(turns, world.tick(), shop.ask(request))
    assert visit.stored.state == "voided"
    if answer == "in_progress":
        answer = await shop.ask(request)
    assert (answer.claims.refunded, answer.claims.remaining) == ("0", "0")
    await whole(world, visit)


@pytest.mark.parametrize("turns", TURNS)
async def test_against_the_end_of_the_order(world: World, shop: Canceller, turns: int) -> None:
    visit = await world.visit()
    await visit.login()
    request = shop.request(visit)
    world.clock.advance(31 * 60)
    _, answer = await beside(turns, world.tick(), shop.result(request))
    assert answer == ("confirmed", 0, 0)
    assert (visit.stored.state, visit.stored.reason) in {("closed", "expired"), ("closed", "cancelled_by_merchant")}
    assert visit.kinds().count("closed") == 1


@pytest.mark.parametrize("turns", TURNS)
async def test_against_the_customers_own_cancel(world: World, shop: Canceller, turns: int) -> None:
    visit = await world.visit()
    await visit.login()
    _, answer = await beside(turns, visit.cancel(), shop.result(shop.request(visit)))
    assert answer == ("confirmed", 0, 0)
    assert visit.stored.state == "closed"
    assert visit.kinds().count("closed") == 1


@pytest.mark.parametrize("turns", TURNS)
async def test_against_the_first_login_of_an_order_that_nobody_had_opened(world: World, shop: Canceller, turns: int) -> None:
    visit = await world.visit()
    results = await asyncio.gather(beside(turns, shop.result(shop.request(visit)), asyncio.sleep(0)), visit.login(), return_exceptions=True)
    assert not isinstance(results[0], BaseException)
    assert visit.stored.state == "closed"
    assert (await visit.pay()).state == "closed"


@pytest.mark.parametrize("turns", TURNS)
async def test_two_parts_that_together_exceed_the_payment_do_not_both_go_back(world: World, shop: Canceller, turns: int) -> None:
    visit = await paid(world)
    first, second = shop.request(visit, 150_000), shop.request(visit, 100_000)
    results = await beside(turns, shop.result(first), shop.result(second))
    assert Counter(result[0] for result in results) == {"confirmed": 1, "remaining_differs": 1}
    assert visit.stored.refunded in (150_000, 100_000)
    await whole(world, visit)


async def test_many_parts_at_once_add_up_to_no_more_than_was_captured(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    for _ in range(12):
        if visit.stored.refunded == PRICE:
            break
        await asyncio.gather(*(shop.ask(shop.request(visit, min(30_000, PRICE - visit.stored.refunded))) for _ in range(6)))
    assert visit.stored.refunded == PRICE
    results = Counter(row["result"] for row in world.rows("cancellations"))
    assert results["refunded"] == 8
    assert set(results) == {"refunded", "remaining_differs"}
    await whole(world, visit)


@pytest.mark.parametrize("how", ["unopened", "open", "captured", "refused"])
async def test_the_same_request_many_times_at_once_has_one_answer(world: World, shop: Canceller, how: str) -> None:
    visit = await (paid(world) if how == "captured" else world.visit())
    if how == "open":
        await visit.login()
    request = shop.request(visit, 20_000) if how in ("captured", "refused") else shop.request(visit)
    replies = await asyncio.gather(*(shop.send(request.compact) for _ in range(8)))
    assert len(set(replies)) == 1
    assert len(world.rows("cancellations")) == 1
    assert (await shop.send(request.compact)) == replies[0]


async def test_one_id_with_two_requests_at_once_takes_one(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    first = shop.request(visit, 20_000)
    second = shop.request(visit, 30_000, cancellation=first.claims.cancellation)
    results = await asyncio.gather(shop.result(first), shop.result(second))
    assert Counter(result[0] for result in results) == {"confirmed": 1, "cancellation_reused": 1}
    assert visit.stored.refunded in (20_000, 30_000)


async def test_the_reserve_lends_no_more_than_is_short_where_money_comes_in_meanwhile(tmp_path: Path) -> None:
    """The shop is paid between the look at its account and the commit: what was to be lent is reckoned anew."""
    async with open_world(tmp_path, refund_shortfall='"reserve"') as world:
        visit = await paid(world)
        await drain(world)
        await operations.fund_reserve(world.gateway, amount="500000")
        book, commit = world.gateway.book, world.gateway.book.commit

        async def paid_just_before(change: Change) -> None:
            if any(entry.kind == REFUND for entry in change.entries) and book.commit is not commit:
                book.commit = commit  # type: ignore[method-assign]  # once
                await paid(world, amount=50_000)
            await commit(change)

        book.commit = paid_just_before  # type: ignore[method-assign]  # the moment in between
        assert await Canceller(world).cancel(visit) == ("confirmed", PRICE, 0)
        assert world.available("operator:reserve:KRW") == 500_000 - (PRICE - 50_000)
        assert world.available("merchant:shop:KRW") == 0


@pytest.mark.parametrize("reserve", ["refuse", "reserve"])
async def test_refunds_of_many_payments_at_once_spend_a_short_account_once(tmp_path: Path, reserve: str) -> None:
    async with open_world(tmp_path, refund_shortfall=f'"{reserve}"') as world:
        shop = Canceller(world)
        visits = [await paid(world, 100_000) for _ in range(6)]
        await drain(world)
        await paid(world, 150_000)
        await operations.fund_reserve(world.gateway, amount="200000")
        results = await asyncio.gather(*(shop.cancel(visit, 100_000) for visit in visits))
        lent = reserve == "reserve"
        assert Counter(result[0] for result in results) == {"confirmed": 3 if lent else 1, "merchant_funds": 3 if lent else 5}
        assert world.available("merchant:shop:KRW") + world.available("operator:reserve:KRW") == (50_000 if lent else 250_000)
        await world.prove()


async def test_a_payment_and_a_refund_at_once_keep_one_balance(world: World, shop: Canceller) -> None:
    visits = [await paid(world, 1_000) for _ in range(4)]
    more = [await world.visit(amount=1_000) for _ in range(4)]
    await asyncio.gather(*(shop.cancel(visit, 1_000) for visit in visits), *(visit.pay() for visit in more))
    assert {visit.stored.refunded for visit in visits} == {1_000}
    assert {visit.stored.state for visit in more} == {"captured"}
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000 - 4_000


@pytest.mark.parametrize("fault", [lose_request, lose_answer])
async def test_a_lost_answer_and_a_restart_change_no_answer(world: World, shop: Canceller, fault: Any) -> None:
    visit = await world.visit()
    world.shop.plan.append(fault)
    await visit.pay()
    request = shop.request(visit)
    assert await shop.ask(request) == "in_progress"
    await world.restart()
    await world.tick(2)
    first = await shop.send(request.compact)
    await world.restart()
    assert await shop.send(request.compact) == first
    assert visit.stored.refunded == PRICE
