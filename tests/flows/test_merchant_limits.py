"""What the operator lets a merchant take holds in both checkouts and under the book lock, and nobody loses a won by it."""

import asyncio

import pytest

from hanbit.db.change import Change, Value
from hanbit.kernel.errors import BadInput, Declined, NotFound
from hanbit.kernel.money import Money
from hanbit.ledger import rules
from hanbit.ledger.chart import merchant_account, operator_account
from hanbit.parties import merchants
from hanbit.parties.merchants import Merchant
from hanbit.payments import merchant_limits, operations
from hanbit.payments.gateway import Gateway
from hanbit.payments.merchant_limits import NONE, REASON
from tests.flows.cancelling import Canceller
from tests.purchases import buying
from tests.world import PRICE, World

DAY_S = 24 * 3600
WHY = "as agreed"


async def limit(world: World, **wanted: str) -> None:
    await merchant_limits.set_merchant_limits(world.gateway, merchant="shop", reason=WHY, **wanted)


def shop(world: World) -> Merchant:
    found = merchants.by_id(world.gateway.reader, "shop")
    assert found is not None
    return found


def taken(world: World) -> int:
    counted = merchant_limits.counted(world.gateway, shop(world), world.clock.now()).taken
    assert counted is not None
    return counted.amount_minor


def left(world: World) -> int:
    return world.available(world.hong.accounts["bank"].id)


async def test_a_payment_above_the_merchants_limit_is_declined_and_the_customer_loses_nothing(world: World) -> None:
    visit, before = await world.visit(), left(world)
    await limit(world, payment=str(PRICE - 1))
    declined = await visit.pay()
    assert (declined.state, declined.reason, left(world), world.shop.asked) == ("open", REASON, before, [])
    await limit(world, payment=str(PRICE))
    assert (await visit.pay()).state == "captured"


async def test_another_merchant_is_not_limited(world: World) -> None:
    await limit(world, payment="1", day="1")
    assert (await (await world.visit(merchant="other")).pay()).state == "captured"


async def test_a_day_takes_no_more_than_its_limit_and_the_next_begins_anew(world: World) -> None:
    won = 1_000
    assert (await (await world.visit(amount=won)).pay()).state == "captured"
    await limit(world, day=str(3 * won))
    assert taken(world) == won, "what was paid today counts too"
    payments = [await (await world.visit(amount=won)).pay() for _ in range(3)]
    assert [payment.reason for payment in payments] == [None, None, REASON]
    assert (payments[1].state, payments[2].state, taken(world)) == ("captured", "open", 3 * won)
    world.clock.advance(DAY_S)
    assert taken(world) == 0
    payments = [await (await world.visit(amount=won)).pay() for _ in range(4)]
    assert ([payment.reason for payment in payments], taken(world)) == ([None, None, None, REASON], 3 * won)


async def test_payments_at_once_do_not_exceed_the_day_together_and_none_waits_for_another(world: World) -> None:
    await limit(world, day=str(2 * PRICE))
    visits = [await world.visit() for _ in range(3)]
    before = left(world)
    payments = await asyncio.gather(*(visit.pay(method="password") for visit in visits))
    assert sorted((payment.state, payment.reason) for payment in payments) == [("captured", None)] * 2 + [("open", REASON)]
    assert (left(world), taken(world)) == (before - 2 * PRICE, 2 * PRICE)


async def test_what_is_voided_gives_its_part_of_the_day_back(world: World) -> None:
    await limit(world, day=str(PRICE))
    visit = await world.visit()
    world.shop.up = False
    held = await visit.pay()
    assert (held.state, taken(world)) == ("authorized", PRICE)
    assert (await (await world.visit()).pay()).reason == REASON
    world.shop.up = True
    await world.tick(11 * 60)
    assert visit.stored.is_final
    assert taken(world) == (PRICE if visit.stored.state == "captured" else 0)


async def test_money_that_comes_without_a_payment_is_no_part_of_the_day(world: World) -> None:
    """A payout that the bank sent back, say: whoever would be turned away is counted anew, from payments alone."""
    await limit(world, day=str(2 * PRICE))
    money = Money(5 * PRICE, "KRW")
    entry = rules.transfer(id="back", debit=operator_account("cash", "KRW"), credit=merchant_account("shop", "KRW"), money=money)
    await world.gateway.book.commit(Change(entries=(entry,)))
    states = [(await (await world.visit()).pay()).state for _ in range(3)]
    assert (states, taken(world)) == (["captured", "captured", "open"], 2 * PRICE)


async def test_a_flood_above_the_day_counts_the_day_no_more_than_every_half_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[str] = []
    count = merchant_limits._count

    async def counted(gateway: Gateway, merchant: Merchant, at: int) -> dict[str, Value]:
        counts.append(merchant.id)
        return await count(gateway, merchant, at)

    await limit(world, day=str(PRICE))
    assert (await (await world.visit()).pay()).state == "captured"
    monkeypatch.setattr(merchant_limits, "_count", counted)
    visits = [await world.visit() for _ in range(4)]
    reasons = {payment.reason for payment in await asyncio.gather(*(visit.pay(method="password") for visit in visits))}
    assert (reasons, counts) == ({REASON}, ["shop"])
    world.clock.advance(merchant_limits.RECOUNTED_EVERY_S)
    assert (await (await world.visit()).pay()).reason == REASON
    assert counts == ["shop"] * 2
    await limit(world, day=str(2 * PRICE))
    assert (await (await world.visit()).pay()).state == "captured", "what the staff sets counts at once"


async def test_a_refund_gives_nothing_back_to_the_day(world: World) -> None:
    await limit(world, day=str(PRICE))
    visit = await world.visit()
    await visit.pay()
    assert (await Canceller(world).cancel(visit))[0] == "confirmed"
    assert visit.stored.refunded == PRICE
    assert (await (await world.visit()).pay()).reason == REASON


@pytest.mark.parametrize("wanted", [{"payment": str(PRICE - 1)}, {"day": str(PRICE - 1)}])
async def test_a_purchase_on_the_shops_page_is_held_to_the_same_limits(world: World, wanted: dict[str, str]) -> None:
    session, before = await buying(world), left(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    await limit(world, **wanted)
    assert (await session.send(frame)).told == "declined"
    assert (session.visit.stored.state, session.visit.stored.reason, left(world)) == ("open", REASON, before)


async def test_above_the_limit_of_one_payment_no_grant_is_given(world: World) -> None:
    session = await buying(world)
    await limit(world, payment=str(PRICE - 1))
    before = world.dump()
    with pytest.raises(Declined) as refused:
        await session.visit.grant()
    assert (refused.value.reason, world.dump()) == (REASON, before)


async def test_a_day_counts_the_payments_of_both_checkouts(world: World) -> None:
    await limit(world, day=str(2 * PRICE))
    assert (await (await buying(world)).buy()).told == "approved"
    assert (await (await world.visit()).pay()).state == "captured"
    assert (await (await buying(world)).buy()).told == "declined"
    assert taken(world) == 2 * PRICE


async def test_a_limit_that_changes_while_the_factor_is_checked_counts(world: World) -> None:
    visit, before = await world.visit(), left(world)
    opening = visit.reopened()
    await limit(world, payment=str(PRICE - 1))
    assert opening.merchant.version < shop(world).version
    assert ((await visit.pay()).reason, left(world)) == (REASON, before)


async def test_limits_are_taken_away_and_each_act_says_who_and_why(world: World) -> None:
    await operations.COMMANDS["set_merchant_limits"](world.gateway, "lee", merchant="shop", payment="5", day="7", reason=WHY)
    assert (shop(world).limit_payment, shop(world).limit_day) == (5, 7)
    await limit(world, day=NONE)
    assert (shop(world).limit_payment, shop(world).limit_day, shop(world).day_from, shop(world).day_until) == (5, None, None, None)
    await limit(world, payment=NONE)
    assert (await (await world.visit()).pay()).state == "captured"
    acts = [(row["actor"], row["act"], row["reason"]) for row in world.rows("audit") if row["act"].startswith("limits of")]
    assert ("lee", "limits of merchant shop: 5 a payment, 7 a day", WHY) in acts


@pytest.mark.parametrize("wrong", [{"payment": "0"}, {"payment": "1.5"}, {"day": "-1"}, {"day": "x"}, {}])
async def test_what_is_no_limit_is_refused_and_nothing_changes(world: World, wrong: dict[str, str]) -> None:
    before = world.dump(())
    with pytest.raises(BadInput):
        await limit(world, **wrong)
    with pytest.raises(NotFound):
        await merchant_limits.set_merchant_limits(world.gateway, merchant="nobody", payment="1", reason=WHY)
    assert world.dump(()) == before
