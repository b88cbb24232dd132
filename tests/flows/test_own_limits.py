"""A customer's own limits hold in both checkouts and under the book lock; lowering counts at once, raising a day later."""

import asyncio

import pytest

from hanbit.db.change import Change
from hanbit.parties import limits
from hanbit.parties.limits import DAY_S, RAISE_DELAY_S, Limits, OwnLimits
from tests.purchases import buying
from tests.world import PRICE, Visit, World

NONE = OwnLimits(None, None, None, None, None)
NOW = 1_800_000_000


async def wish(world: World, wanted: Limits, account: str = "bank") -> None:
    """As the customer's home does it."""
    gateway, number = world.gateway, world.hong.accounts[account].id
    own = limits.of_account(gateway.reader, number).wish(wanted, gateway.clock.now())
    await gateway.book.commit(Change(puts=(limits.put(gateway.reader, number, own),)))


def left(world: World) -> int:
    return world.available(world.hong.accounts["bank"].id)


async def test_a_payment_above_the_limit_is_declined_and_takes_nothing(world: World) -> None:
    await wish(world, Limits(payment=PRICE - 1))
    visit, before = await world.visit(), left(world)
    declined = await visit.pay()
    assert (declined.state, declined.reason, left(world), world.shop.asked) == ("open", "limit", before, [])


async def test_a_payment_of_exactly_the_limit_is_taken(world: World) -> None:
    await wish(world, Limits(payment=PRICE, day=PRICE))
    assert (await (await world.visit()).pay()).state == "captured"


async def test_another_account_is_not_limited(world: World) -> None:
    await wish(world, Limits(payment=1))
    assert (await (await world.visit()).pay("card")).state == "captured"


async def test_a_day_takes_no_more_than_its_limit_and_the_next_begins_anew(world: World) -> None:
    await wish(world, Limits(day=2 * PRICE))
    states = [(await (await world.visit()).pay()).state for _ in range(3)]
    assert states == ["captured", "captured", "open"]
    world.clock.advance(DAY_S + 1)
    assert (await (await world.visit()).pay()).state == "captured"


async def test_payments_at_once_do_not_exceed_the_day_together(world: World) -> None:
    await wish(world, Limits(day=PRICE))
    visits: list[Visit] = [await world.visit() for _ in range(3)]
    before = left(world)
    payments = await asyncio.gather(*(visit.pay() for visit in visits))
    assert sorted((payment.state, payment.reason) for payment in payments) == [("captured", None), ("open", "limit"), ("open", "limit")]
    assert left(world) == before - PRICE


async def test_a_limit_that_was_raised_counts_after_a_day_and_not_before(world: World) -> None:
    await wish(world, Limits(payment=1))
    await wish(world, Limits(payment=PRICE))
    assert (await (await world.visit()).pay()).reason == "limit"
    world.clock.advance(RAISE_DELAY_S)
    assert (await (await world.visit()).pay()).state == "captured"


@pytest.mark.parametrize("wanted", [Limits(payment=PRICE - 1), Limits(day=PRICE - 1)])
async def test_a_purchase_on_the_shops_page_is_held_to_the_same_limits(world: World, wanted: Limits) -> None:
    await wish(world, wanted)
    session, before = await buying(world), left(world)
    assert (await session.buy()).told == "declined"
    assert (session.visit.stored.state, session.visit.stored.reason, left(world)) == ("open", "limit", before)


async def test_a_day_counts_the_payments_of_both_checkouts(world: World) -> None:
    await wish(world, Limits(day=PRICE))
    assert (await (await buying(world)).buy()).told == "approved"
    assert (await (await world.visit()).pay()).reason == "limit"


@pytest.mark.parametrize(
    ("before", "wanted", "now", "later"),
    [
        (Limits(), Limits(100, 500), Limits(100, 500), None),
        (Limits(100, 500), Limits(50, 500), Limits(50, 500), None),
        (Limits(100, 500), Limits(), Limits(100, 500), Limits()),
        (Limits(100, 500), Limits(200, 400), Limits(100, 400), Limits(200, 400)),
        (Limits(100, 500), Limits(100, 500), Limits(100, 500), None),
        (Limits(100, None), Limits(None, 10), Limits(100, 10), Limits(None, 10)),
    ],
)
def test_what_is_lower_counts_now_and_what_is_higher_in_a_day(before: Limits, wanted: Limits, now: Limits, later: Limits | None) -> None:
    own = NONE.wish(before, NOW).wish(wanted, NOW)
    assert own.at(NOW) == now
    assert own.at(NOW + RAISE_DELAY_S - 1) == now
    assert own.at(NOW + RAISE_DELAY_S) == wanted
    assert own.waiting(NOW) == (None if later is None else (later, NOW + RAISE_DELAY_S))
    assert own.waiting(NOW + RAISE_DELAY_S) is None
    assert NONE.wish(before, NOW).raises(wanted, NOW) == (later is not None)


def test_a_later_wish_takes_the_place_of_one_that_waits() -> None:
    own = NONE.wish(Limits(payment=100), NOW).wish(Limits(payment=900), NOW).wish(Limits(payment=80), NOW + 1)
    assert (own.at(NOW + 1), own.at(NOW + RAISE_DELAY_S + 5)) == (Limits(payment=80), Limits(payment=80))


def test_of_the_banks_limit_and_the_customers_the_lower_counts() -> None:
    own = NONE.wish(Limits(500, None), 0).with_banks(Limits(800, 2_000))
    assert own.at(1) == Limits(500, 2_000)
    raised = own.wish(Limits(5_000, None), 10)
    assert raised.at(11) == Limits(500, 2_000)
    assert raised.at(10 + limits.RAISE_DELAY_S) == Limits(800, 2_000), "the customer raises his own, never the bank's"
    assert raised.with_banks(Limits()).at(10 + limits.RAISE_DELAY_S) == Limits(5_000, None)
    assert NONE.with_banks(Limits(100, None)).at(0) == Limits(100, None)


def test_a_banks_lower_limit_never_becomes_the_customers_own() -> None:
    own = NONE.wish(Limits(500, 900), NOW).with_banks(Limits(300, None))
    assert not own.raises(Limits(500, 800), NOW), "his own are lowered, whatever the bank allows"
    lowered = own.wish(Limits(500, 800), NOW)
    assert lowered.at(NOW) == Limits(300, 800)
    assert lowered.waiting(NOW) is None
    assert lowered.with_banks(Limits()).at(NOW) == Limits(500, 800)
