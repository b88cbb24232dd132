"""Every payment becomes final by itself: cancelled, expired, voided; and what the clock does to openings and holds."""

import pytest

from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.redirect.messages import Closed
from hanbit.protocols.signed import peek_claims, peek_typ
from tests.world import PRICE, World, lose_request


async def test_cancel_before_r8_closes_the_payment_and_the_shop_hears_of_it(world: World) -> None:
    visit = await world.visit()
    payment = await visit.cancel()
    assert (payment.state, payment.reason) == ("closed", "cancelled_by_customer")
    assert visit.kinds() == ["order", "keys", "closed"]
    assert (await world.shop_order(visit)).state == "closed"
    assert (await visit.pay()).state == "closed"
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000


async def test_cancel_after_a_decline_closes_too(world: World) -> None:
    visit = await world.visit()
    await visit.pay("emoney")
    assert (await visit.cancel()).state == "closed"


async def test_cancel_after_r8_is_answered_with_the_true_state(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(lose_request)
    await visit.pay()
    assert (await visit.cancel()).state == "authorized"
    await world.tick(2)
    assert (await visit.cancel()).state == "captured"
    assert world.earned() == PRICE


async def test_cancel_twice_is_the_same(world: World) -> None:
    visit = await world.visit()
    first = await visit.cancel()
    assert await visit.cancel() == first
    assert len(world.shop.told) == 1


async def test_an_unpaid_order_expires_after_its_pay_by(world: World) -> None:
    visit = await world.visit()
    await visit.pay("emoney")
    await world.tick(30 * 60)
    assert visit.stored.state == "open"
    await world.tick(1)
    assert (visit.stored.state, visit.stored.reason) == ("closed", "expired")
    (told,) = world.shop.told
    assert (peek_typ(told), peek_claims(told)["outcome"]) == (Closed.TYP, "expired")
    assert (await world.shop_order(visit)).state == "closed"


async def test_after_its_pay_by_nothing_is_held(world: World) -> None:
    visit = await world.visit()
    await visit.pay("emoney")
    sealed = visit.sealed_pay()
    world.clock.advance(30 * 60 + 1)
    with pytest.raises(ProtocolViolation) as refused:
        await visit.submit(sealed)
    assert refused.value.rule == "expired"


async def test_a_plain_order_expires_half_an_hour_after_the_first_sealed_message(world: World) -> None:
    visit = await world.visit(merchant="plain")
    world.clock.advance(29 * 60)
    again = world.open(f"?MID=plain&TID={visit.redirect.tid}&AMOUNT={PRICE}&CUR=KRW")
    await again.pay("emoney")
    await world.tick(30 * 60)
    assert again.stored.state == "open"
    await world.tick(1)
    assert again.stored.state == "closed"


async def test_a_payment_begun_in_the_last_second_is_final_within_a_quarter_of_an_hour(world: World) -> None:
    visit = await world.visit()
    world.clock.advance(30 * 60)
    world.shop.plan.extend([lose_request] * 100)
    assert (await visit.pay()).state == "authorized"
    for _ in range(15):
        await world.tick(60)
    assert visit.stored.state == "voided"
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000


async def test_opening_a_page_writes_nothing(world: World) -> None:
    location = await world.order()
    before = world.dump(leave_out=())
    world.open(location)
    assert world.dump(leave_out=()) == before


async def test_a_clock_that_jumps_back_neither_loses_money_nor_moves_the_book_back(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(lose_request)
    await visit.pay()
    (stood,) = world.rows("book")
    world.clock.advance(-60)
    await world.tick()
    (later,) = world.rows("book")
    assert later["time"] >= stood["time"]
    await world.tick(62)
    assert visit.stored.state == "captured"
    ats = [row["at"] for row in world.rows("messages")]
    assert ats == sorted(ats)


async def test_a_clock_that_jumps_ahead_voids_what_it_must_and_nothing_twice(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(lose_request)
    await visit.pay()
    await world.tick(86_400)
    assert visit.stored.state == "voided"
    await world.tick(-86_400)
    assert (await (await world.visit()).pay()).state == "captured"
