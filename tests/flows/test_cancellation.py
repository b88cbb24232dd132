"""C1 to C3: what a cancellation means in every state of a payment, where the money goes, and that one request has one answer for ever."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psycopg
import pytest

from hanbit.db import sqlite_file
from hanbit.db.change import Change
from hanbit.kernel.errors import BadInput, Conflict, HanbitError, NotFound, WrongState
from hanbit.kernel.money import Money
from hanbit.ledger import rules
from hanbit.ledger.check import check as check_ledger
from hanbit.merchant.handlers import No
from hanbit.payments import operations
from hanbit.payments.open_order import NotOpened
from hanbit.protocols import signed
from hanbit.protocols.redirect.gateway import HOLD_LIFE_S
from tests import engine
from tests.flows.cancelling import Canceller
from tests.world import PRICE, Visit, World, lose_answer, lose_request, open_world

DAY_S = 86_400


@pytest.fixture
def shop(world: World) -> Canceller:
    return Canceller(world)


async def paid(world: World, amount: int = PRICE) -> Visit:
    visit = await world.visit(amount=amount)
    assert (await visit.pay()).state == "captured"
    return visit


def cancelled(world: World) -> list[str]:
    return [row["result"] for row in world.rows("cancellations")]


async def drain(world: World, merchant: str = "shop") -> None:
    """The merchant is paid out, as a settlement will do one day."""
    account = f"merchant:{merchant}:KRW"
    amount = world.available(account)
    entry = rules.transfer(id=f"payout:{amount}", debit=account, credit="operator:cash:KRW", money=Money(amount, "KRW"))
    await world.gateway.book.commit(Change(entries=(entry,)))


# --- before any money is held -----------------------------------------------------------------------------------------------------


async def test_an_order_that_nobody_opened_is_closed_before_anybody_can(world: World, shop: Canceller) -> None:
    visit = await world.visit()
    assert await shop.cancel(visit) == ("confirmed", 0, 0)
    assert (visit.stored.state, visit.stored.reason) == ("closed", "cancelled_by_merchant")
    assert visit.kinds() == ["cancel", "cancel-confirmation", "closed"]
    assert (await world.shop_order(visit)).final
    assert (await visit.pay()).state == "closed"
    again = world.offered(visit.redirect)
    assert again.payment is not None
    assert again.payment.state == "closed"
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000


async def test_an_open_order_is_closed_and_nothing_can_be_paid_any_more(world: World, shop: Canceller) -> None:
    visit = await world.visit()
    await visit.login()
    assert await shop.cancel(visit) == ("confirmed", 0, 0)
    assert visit.stored.state == "closed"
    assert visit.kinds() == ["order", "keys", "cancel", "cancel-confirmation", "closed"]
    assert (await visit.pay()).state == "closed"
    assert (await visit.cancel()).state == "closed"


@pytest.mark.parametrize("opened", [False, True])
async def test_before_the_capture_no_part_of_an_order_can_be_cancelled(world: World, shop: Canceller, opened: bool) -> None:
    visit = await world.visit()
    if opened:
        await visit.login()
    assert (await shop.cancel(visit, 20_000))[0] == "amount_differs"
    assert cancelled(world) == ["amount_differs"]
    assert (await visit.pay()).state == "captured"


async def test_a_plain_order_is_cancelled_whatever_a_browser_named(world: World) -> None:
    plain = Canceller(world, "plain")
    unopened, opened = await world.visit(merchant="plain"), await world.visit(merchant="plain")
    await opened.login()
    other_amount = await world.visit(merchant="plain")
    wrong = world.open(f"?MID=plain&TID={other_amount.redirect.tid}&AMOUNT=1&CUR=KRW&ORDER=")
    await wrong.login()
    for visit in (unopened, opened, other_amount):
        assert await plain.cancel(visit) == ("confirmed", 0, 0)
        assert visit.stored.state == "closed"
    with pytest.raises(NotOpened):
        world.open(f"?MID=plain&TID={unopened.redirect.tid}&AMOUNT=1&CUR=KRW&ORDER=")


# --- while the merchant is asked --------------------------------------------------------------------------------------------------


async def test_while_the_merchant_is_asked_a_cancellation_waits_and_writes_nothing(world: World, shop: Canceller) -> None:
    visit = await world.visit()
    world.shop.plan.append(lose_request)
    await visit.pay()
    request, before = shop.request(visit), world.dump(leave_out=())
    for _ in range(3):
        assert await shop.ask(request) == "in_progress"
    assert world.dump(leave_out=()) == before
    await world.tick(2)
    assert visit.stored.state == "captured"
    assert await shop.result(request) == ("confirmed", PRICE, 0)


async def test_a_network_cancel_ends_in_voided_and_a_late_confirmation_gets_the_stored_voided(world: World, shop: Canceller) -> None:
    visit = await world.visit()
    world.shop.plan.append(lose_answer)
    await visit.pay()
    world.shop.up = False
    request = shop.request(visit)
    assert await shop.ask(request) == "in_progress"
    await world.tick(HOLD_LIFE_S + 1)
    assert visit.stored.state == "voided"
    assert await shop.result(request) == ("confirmed", 0, 0)
    world.shop.up = True
    told = len(world.shop.told)
    await world.shop.to_gateway(world.shop.answers[0])  # the confirmation that was lost
    assert visit.stored.state == "voided"
    assert world.shop.told[told:] == [world.shop.told[told]]
    assert await shop.result(request) == ("confirmed", 0, 0)
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000


@pytest.mark.parametrize("how", ["refused", "closed"])
async def test_where_nothing_was_paid_there_is_nothing_left_to_cancel(world: World, shop: Canceller, how: str) -> None:
    visit = await world.visit()
    if how == "refused":
        world.confirm["shop"] = No(ko="품절", en="Sold out")
        await visit.pay()
    else:
        await visit.login()
        await visit.cancel()
    before = visit.stored
    assert await shop.cancel(visit) == ("confirmed", 0, 0)
    assert cancelled(world) == ["nothing_left"]
    assert (visit.stored.state, visit.stored.reason, visit.stored.ended_at) == (how, before.reason, before.ended_at)


# --- after the capture ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["bank", "card"])
async def test_the_whole_goes_back_to_the_account_that_it_came_from(world: World, shop: Canceller, account: str) -> None:
    before = world.available(world.hong.accounts[account].id)
    visit = await world.visit()
    await visit.pay(account)
    settled = visit.stored
    world.clock.advance(60)
    assert await shop.cancel(visit) == ("confirmed", PRICE, 0)
    assert world.available(world.hong.accounts[account].id) == before
    assert world.available("merchant:shop:KRW") == 0
    assert (visit.stored.state, visit.stored.refunded, visit.stored.ended_at) == ("captured", PRICE, settled.ended_at)
    assert visit.kinds()[-2:] == ["cancel", "cancel-confirmation"]


async def test_several_parts_go_back_until_nothing_is_left(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    assert await shop.cancel(visit, 20_000) == ("confirmed", 20_000, 200_000)
    assert await shop.cancel(visit, 50_000) == ("confirmed", 70_000, 150_000)
    assert await shop.cancel(visit, 150_001, remaining=150_001) == ("remaining_differs", 70_000, 150_000)
    assert await shop.cancel(visit, 150_000) == ("confirmed", 220_000, 0)
    assert await shop.cancel(visit, 1, remaining=1) == ("remaining_differs", 220_000, 0)
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000
    assert [row["refunded"] for row in world.rows("cancellations")] == [20_000, 50_000, 0, 150_000, 0]


async def test_more_than_is_left_is_refused_with_what_is_left(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    too_much = signed.sign(msgspec.structs.replace(shop.request(visit).claims, amount="220001"), shop.signer)
    assert await shop.result(too_much) == ("too_much", 0, 220_000)
    assert visit.stored.refunded == 0


@pytest.mark.parametrize("what", ["customer", "account", "merchant"])
async def test_money_goes_back_also_where_somebody_is_suspended(world: World, shop: Canceller, what: str) -> None:
    visit = await paid(world)
    await world.suspend(what, {"customer": "hong", "account": world.hong.accounts["bank"].id, "merchant": "shop"}[what])
    assert await shop.cancel(visit, 20_000) == ("confirmed", 20_000, 200_000)


async def test_a_refused_cancellation_stays_refused_and_a_new_id_may_succeed(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    await drain(world)
    request = shop.request(visit, 20_000)
    assert await shop.result(request) == ("merchant_funds", 0, PRICE)
    await paid(world)
    assert await shop.result(request) == ("merchant_funds", 0, PRICE)
    assert await shop.cancel(visit, 20_000) == ("confirmed", 20_000, 200_000)


# --- one request, one answer ------------------------------------------------------------------------------------------------------


async def test_the_same_request_gets_the_same_bytes_for_ever(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    request = shop.request(visit, 20_000)
    first = await shop.send(request.compact)
    await shop.cancel(visit, 30_000)
    await operations.revoke(world.gateway, kid=shop.signer.kid, reason="a renewed key")
    world.clock.advance(400 * DAY_S)  # the request and the shop's certificate are long out of date
    before = world.dump(leave_out=())
    assert await shop.send(request.compact) == first
    assert world.dump(leave_out=()) == before


async def test_the_same_bytes_from_another_merchant_get_no_answer(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    request = shop.request(visit, 20_000)
    await shop.ask(request)
    before = world.dump()
    assert await Canceller(world, "other").ask(request) == "sender"
    assert world.dump() == before


# --- the order's deadline ---------------------------------------------------------------------------------------------------------


async def test_after_the_orders_deadline_only_the_operator_can_allow_a_refund(world: World, shop: Canceller) -> None:
    visit = await refundable_until(world, DAY_S)
    assert (await shop.cancel(visit, 1_000))[0] == "confirmed"
    world.clock.advance(DAY_S + 1)
    assert await shop.cancel(visit, 1_000) == ("too_late", 1_000, PRICE - 1_000)
    until = str(world.clock.now() + DAY_S)
    tid = visit.redirect.tid
    await operations.allow_refund(world.gateway, merchant="shop", tid=tid, until=until, reason="the parcel was late")
    assert await shop.cancel(visit, 1_000) == ("confirmed", 2_000, PRICE - 2_000)
    world.clock.advance(DAY_S + 1)
    assert (await shop.cancel(visit, 1_000))[0] == "too_late"
    (audit,) = [row for row in world.rows("audit") if row["act"].startswith("allow refund")]
    assert (audit["actor"], audit["reason"], audit["tid"]) == ("operator", "the parcel was late", tid)


async def test_what_the_operator_may_allow_is_bounded(world: World, shop: Canceller) -> None:
    visit, open_visit, without = await refundable_until(world, DAY_S), await world.visit(), await paid(world)
    await open_visit.login()
    now = world.clock.now()
    good = {"merchant": "shop", "tid": visit.redirect.tid, "until": str(now + DAY_S), "reason": "late"}
    cases: list[tuple[dict[str, str], type[HanbitError]]] = [
        ({"tid": "T" * 22}, NotFound),
        ({"merchant": "other"}, NotFound),
        ({"tid": open_visit.redirect.tid}, WrongState),
        ({"tid": without.redirect.tid}, BadInput),
        ({"until": str(now)}, BadInput),
        ({"until": str(now + 367 * DAY_S)}, BadInput),
        ({"until": "tomorrow"}, BadInput),
        ({"reason": " "}, BadInput),
        ({"reason": "a\nb"}, BadInput),
    ]
    before = world.dump(leave_out=())
    for change, error in cases:
        with pytest.raises(error):
            await operations.allow_refund(world.gateway, **(good | change))
    assert world.dump(leave_out=()) == before


async def refundable_until(world: World, seconds: int) -> Visit:
    location = await world.order(refund_by=world.clock.now() + seconds)
    visit = world.open(location)
    assert (await visit.pay()).state == "captured"
    return visit


# --- a merchant whose account is short --------------------------------------------------------------------------------------------


@pytest.fixture
async def lending(tmp_path: Path) -> AsyncIterator[World]:
    """An operator who lends from his reserve."""
    async with open_world(tmp_path, refund_shortfall='"reserve"') as opened:
        yield opened
        await opened.prove()


async def test_without_a_reserve_a_refund_that_the_merchant_cannot_cover_is_refused(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    await operations.fund_reserve(world.gateway, amount="500000")
    await drain(world)
    assert await shop.cancel(visit) == ("merchant_funds", 0, PRICE)
    assert world.available("operator:reserve:KRW") == 500_000


async def test_the_reserve_lends_what_is_missing_and_no_more(lending: World) -> None:
    shop, world = Canceller(lending), lending
    visit = await paid(world)
    await drain(world)
    await paid(world, amount=50_000)
    await operations.fund_reserve(world.gateway, amount="500000", id="first")
    await operations.fund_reserve(world.gateway, amount="500000", id="first")
    assert await shop.cancel(visit) == ("confirmed", PRICE, 0)
    assert world.available("operator:reserve:KRW") == 500_000 - 170_000
    assert world.available("merchant:shop:KRW") == 0
    shown = await operations.reserve(world.gateway)
    assert shown["reserve"] == [{"currency": "KRW", "available": 330_000}]
    assert shown["lent"] == [{"account": "merchant:shop:KRW", "owes": 170_000}]


async def test_an_empty_reserve_makes_no_money(lending: World) -> None:
    shop, world = Canceller(lending), lending
    visit = await paid(world)
    await drain(world)
    assert await shop.cancel(visit) == ("merchant_funds", 0, PRICE)
    await operations.fund_reserve(world.gateway, amount="100000")
    assert await shop.cancel(visit) == ("merchant_funds", 0, PRICE)
    assert await shop.cancel(visit, 100_000) == ("confirmed", 100_000, 120_000)
    assert world.available("operator:reserve:KRW") == 0


async def test_a_suspended_merchant_gives_back_its_own_money_and_borrows_none(lending: World) -> None:
    shop, world = Canceller(lending), lending
    visit = await paid(world)
    await operations.fund_reserve(world.gateway, amount="500000")
    await world.suspend("merchant", "shop")
    assert await shop.cancel(visit, 20_000) == ("confirmed", 20_000, 200_000)
    await drain(world)
    assert (await shop.cancel(visit, 20_000))[0] == "merchant_funds"
    assert world.available("operator:reserve:KRW") == 500_000


async def test_the_operators_accounts_are_opened_once_however_often_the_server_starts(world: World) -> None:
    before = world.rows("ledger_accounts")
    await operations.open_operator_accounts(world.gateway)
    await operations.open_operator_accounts(world.gateway)
    assert world.rows("ledger_accounts") == before
    kinds = {row["id"]: row["limited"] for row in before if row["id"].endswith(":KRW") and row["id"].startswith("operator")}
    limited = {"cash": 0, "equity": 0, "reserve": 1, "fees": 1, "payouts": 1}
    assert kinds == {f"operator:{name}:KRW": flag for name, flag in limited.items()}


# --- the database says it too -----------------------------------------------------------------------------------------------------


async def test_the_database_takes_no_refund_beyond_what_was_captured_whoever_writes(world: World, shop: Canceller) -> None:
    visit = await paid(world)
    await shop.cancel(visit, 20_000)
    payment = visit.stored
    entry = rules.refund(
        payment=payment.id,
        merchant="shop",
        cancellation="X" * 22,
        source=payment.target,
        target=str(payment.account),
        money=Money(1, "KRW"),
    )
    before = world.dump()
    with pytest.raises(Conflict):  # an entry that the payment says nothing of
        await world.gateway.book.commit(Change(entries=(entry,)))
    assert world.dump() == before
    for sql in (
        "INSERT INTO entries SELECT next_entry, 'refund:shop:Y', 'refund', ?, NULL, 1, 'KRW', 0 FROM book",
        "UPDATE payments SET refunded = 19999 WHERE id = ?",
        "UPDATE payments SET captured = 20000 WHERE id = ?",
        "UPDATE payments SET refunded = 220001 WHERE id = ?",
    ):
        with pytest.raises((sqlite_file.IntegrityError, psycopg.IntegrityError)), engine.owner(world.folder) as other:
            other.execute(sql, (payment.id,))
    assert world.dump() == before


@pytest.mark.parametrize(
    ("promise", "sql"),
    [
        ("refunded_is_what_went_back", "UPDATE payments SET refunded = 30000"),
        ("every_refund_was_asked_for_and_confirmed", "UPDATE cancellations SET id = 'Z'"),
        ("every_refund_was_asked_for_and_confirmed", "UPDATE cancellations SET answer_hash = request_hash"),
        ("every_confirmed_refund_moved_its_money", "UPDATE cancellations SET refunded = 1"),
        (
            "payments_move_between_their_own_accounts",
            "UPDATE postings SET account = 'operator:cash:KRW' WHERE entry IN (SELECT number FROM entries WHERE kind = 'refund')",
        ),
    ],
)
async def test_the_check_names_each_edit_of_a_refund(world: World, shop: Canceller, promise: str, sql: str) -> None:
    visit = await paid(world)
    await shop.cancel(visit, 20_000)
    with engine.owner(world.folder, unguarded=True, lasting=False) as other:
        other.execute(sql)
        assert promise in check_ledger(other).broken
