"""Days are closed and merchants are paid: every statement adds up to the ledger, nothing is paid twice, whatever crashes in between."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hanbit.db.change import Change
from hanbit.kernel.errors import BadInput, Conflict, NotFound, WrongState
from hanbit.ledger.check import check as check_ledger
from hanbit.parties import terms as agreed
from hanbit.payments import operations, payouts, settlement
from hanbit.payments.payouts import Payout
from hanbit.payments.settlement import Statement
from tests.flows.cancelling import Canceller
from tests.world import Visit, World, open_world

DAY_S = 86_400
TODAY, TOMORROW, THIRD = "2027-01-15", "2027-01-16", "2027-01-17"
"""The world begins at five in the afternoon of this day in Seoul."""
SHOP = "merchant:shop:KRW"


async def paid(world: World, amount: int, merchant: str = "shop") -> Visit:
    visit = await world.visit(amount=amount, merchant=merchant)
    assert (await visit.pay()).state == "captured"
    return visit


async def agree(world: World, *, basis_points: int = 250, fixed: int = 100, account: bool = True, merchant: str = "shop") -> None:
    """Two and a half percent and a hundred won."""
    await settlement.set_fees(world.gateway, merchant=merchant, basis_points=str(basis_points), fixed=str(fixed))
    if account:
        await settlement.set_payout_account(world.gateway, merchant=merchant, bank="한빛은행", number="110-123-456789")


def of_day(world: World, day: str, merchant: str = "shop") -> Statement:
    found = settlement.statement(world.gateway.reader, merchant, "KRW", day)
    assert found is not None
    return found


def payout_of(world: World, merchant: str = "shop") -> Payout:
    return payouts.of_merchant(world.gateway.reader, merchant, "KRW")[0]


def balance(world: World, account: str) -> int:
    row = world.gateway.reader.one("SELECT credits_posted - debits_posted FROM ledger_accounts WHERE id = ?", account)
    return 0 if row is None else int(row[0])


async def close(world: World, days: int = 1) -> list[dict[str, Any]]:
    """Let days pass, and close what has ended."""
    for _ in range(days):
        await world.tick(DAY_S)
    done = await settlement.close_days(world.gateway)
    closed: list[dict[str, Any]] = done["closed"]
    return closed


# --- what a day comes to -----------------------------------------------------------------------------------------------------------------


async def test_a_day_is_settled_with_fees_refunds_and_a_payout(world: World) -> None:
    await agree(world)
    visit = await paid(world, 10_001)
    await paid(world, 20)
    assert (await Canceller(world).cancel(visit, 1_000))[0] == "confirmed"
    (closed,) = await close(world)
    found = of_day(world, TODAY)
    # 2.5 % of 10,001 is 250.025, and of 20 half a won, which is rounded up; the fixed part never takes more than was captured.
    assert (found.captures, found.captured, found.refunds, found.refunded) == (2, 10_021, 1, 1_000)
    assert (found.fees, found.fees_taken, found.fees_owed) == (350 + 20, 370, 0)
    assert (found.opening, found.closing, found.net, found.paid_out) == (0, 9_021, 8_651, 8_651)
    assert closed["day"] == TODAY
    assert closed["paid_out"] == 8_651
    assert balance(world, SHOP) == 0
    assert (balance(world, "operator:fees:KRW"), balance(world, "operator:payouts:KRW")) == (370, 8_651)
    payout = payout_of(world)
    assert (payout.amount, payout.state, payout.account_masked) == (8_651, "instructed", "한빛은행 ********6789")
    await world.prove()


async def test_what_is_captured_after_the_day_is_the_next_days(world: World) -> None:
    await agree(world)
    await paid(world, 10_000)
    world.clock.advance(DAY_S)
    await paid(world, 5_000)
    await settlement.close_days(world.gateway)
    assert of_day(world, TODAY).captured == 10_000
    assert (of_day(world, TODAY).paid_out, balance(world, SHOP)) == (9_650, 5_000)
    await close(world)
    assert (of_day(world, TOMORROW).captured, of_day(world, TOMORROW).paid_out) == (5_000, 4_775)
    await world.prove()


async def test_a_day_that_has_not_ended_is_not_closed(world: World) -> None:
    await paid(world, 10_000)
    before = world.dump()
    assert await settlement.close_days(world.gateway) == {"closed": []}
    for day in (TODAY, TOMORROW):
        with pytest.raises(WrongState, match="has not ended"):
            await settlement.close_days(world.gateway, through=day)
    with pytest.raises(BadInput):
        await settlement.close_days(world.gateway, through="yesterday")
    assert world.dump() == before


async def test_a_closed_day_is_closed_once(world: World) -> None:
    await agree(world)
    await paid(world, 10_000)
    await close(world)
    before = world.dump()
    assert await settlement.close_days(world.gateway) == {"closed": []}
    assert await settlement.close_days(world.gateway, through=TODAY) == {"closed": []}
    assert world.dump() == before


async def test_days_without_business_are_closed_too(world: World) -> None:
    await paid(world, 10_000)
    closed = await close(world, days=3)
    assert [row["day"] for row in closed] == [TODAY, TOMORROW, THIRD]
    shown = await settlement.show_statements(world.gateway, merchant="shop")
    assert [row["day"] for row in shown["statements"]] == [THIRD, TOMORROW, TODAY]
    assert [row["captured"] for row in shown["statements"]] == [0, 0, 10_000]
    await world.prove()


@pytest.mark.parametrize("why", ["no account", "suspended"])
async def test_a_merchant_that_cannot_be_paid_keeps_its_money(world: World, why: str) -> None:
    await agree(world, account=why != "no account")
    await paid(world, 10_000)
    if why == "suspended":
        await world.suspend("merchant", "shop")
    await close(world)
    assert (of_day(world, TODAY).paid_out, balance(world, SHOP)) == (0, 9_650)
    if why == "suspended":
        await world.suspend("merchant", "shop", "active")
    await agree(world)
    await close(world)
    assert (of_day(world, TOMORROW).opening, of_day(world, TOMORROW).paid_out) == (10_000, 9_650)
    await world.prove()


async def test_fees_that_cannot_be_taken_are_owed_and_taken_later(world: World) -> None:
    await agree(world)
    visit = await paid(world, 10_000)
    assert (await Canceller(world).cancel(visit, 10_000))[0] == "confirmed"
    await close(world)
    assert (of_day(world, TODAY).fees_taken, of_day(world, TODAY).fees_owed, of_day(world, TODAY).net) == (0, 350, -350)
    await paid(world, 10_000)
    await close(world)
    found = of_day(world, TOMORROW)
    assert (found.fees, found.fees_taken, found.fees_owed, found.paid_out) == (350, 700, 0, 9_300)
    await world.prove()


async def test_the_reserve_is_repaid_before_anything_else(tmp_path: Path) -> None:
    async with open_world(tmp_path, refund_shortfall='"reserve"') as world:
        await agree(world)
        await operations.fund_reserve(world.gateway, amount="50000")
        visit = await paid(world, 10_000)
        await close(world)
        assert (await Canceller(world).cancel(visit, 10_000))[0] == "confirmed"
        assert (await operations.reserve(world.gateway))["lent"] == [{"account": SHOP, "owes": 10_000}]
        await paid(world, 10_200)
        await close(world)
        found = of_day(world, TOMORROW)
        assert (found.repaid, found.fees, found.fees_taken, found.fees_owed, found.paid_out) == (10_000, 355, 200, 155, 0)
        assert await operations.reserve(world.gateway) == {"reserve": [{"currency": "KRW", "available": 50_000}], "lent": []}
        await world.prove()


# --- payouts -----------------------------------------------------------------------------------------------------------------------------


async def test_a_payout_is_confirmed_once(world: World) -> None:
    await agree(world)
    await paid(world, 10_000)
    await close(world)
    reference = payout_of(world).reference
    cash = balance(world, "operator:cash:KRW")
    first = await payouts.confirm_payout(world.gateway, reference=reference, reason="statement 12")
    assert await payouts.confirm_payout(world.gateway, reference=reference) == first
    assert (balance(world, "operator:payouts:KRW"), balance(world, "operator:cash:KRW") - cash) == (0, 9_650)
    await world.prove()


@pytest.mark.parametrize("after", ["instructed", "confirmed"])
async def test_a_payout_that_fails_or_comes_back_is_paid_with_the_next(world: World, after: str) -> None:
    await agree(world)
    await paid(world, 10_000)
    await close(world)
    reference = payout_of(world).reference
    cash = balance(world, "operator:cash:KRW")
    if after == "confirmed":
        await payouts.confirm_payout(world.gateway, reference=reference)
    first = await payouts.fail_payout(world.gateway, reference=reference, reason="account closed")
    assert first["state"] == ("returned" if after == "confirmed" else "failed")
    assert await payouts.fail_payout(world.gateway, reference=reference, reason="again") == first
    with pytest.raises(WrongState):
        await payouts.confirm_payout(world.gateway, reference=reference)
    assert (balance(world, SHOP), balance(world, "operator:cash:KRW")) == (9_650, cash)
    await close(world)
    assert of_day(world, TOMORROW).paid_out + of_day(world, TODAY).paid_out in (9_650, 2 * 9_650)
    await close(world)
    assert balance(world, SHOP) == 0
    assert balance(world, "operator:payouts:KRW") == 9_650
    await world.prove()


async def test_a_banks_file_confirms_what_agrees_and_names_what_differs(world: World) -> None:
    for merchant in ("shop", "other"):
        await agree(world, merchant=merchant)
        await paid(world, 10_000, merchant)
    await close(world)
    right, wrong = payout_of(world, "shop").reference, payout_of(world, "other").reference
    lines = [
        {"reference": right, "amount": "9650", "currency": "KRW"},
        {"reference": right, "amount": "9650", "currency": "KRW"},
        {"reference": wrong, "amount": "9651", "currency": "KRW"},
        {"reference": "0000-0000", "amount": "1", "currency": "KRW"},
    ]
    report = await payouts.reconcile_payouts(world.gateway, lines=json.dumps(lines), source="january.csv")
    assert report["confirmed"] == [right]
    why = {(line["reference"], line["why"]) for line in report["differs"]}
    assert why == {
        (right, "twice in the file"),
        (wrong, "we have instructed 9650 KRW"),
        ("0000-0000", "no payout of ours has this reference"),
    }
    assert (await payouts.reconcile_payouts(world.gateway, lines=json.dumps(lines[:1])))["confirmed_before"] == [right]
    assert payout_of(world, "other").state == "instructed"
    for bad in (
        "",
        "{}",
        "[1]",
        '[{"reference": "x", "amount": "1.5", "currency": "KRW"}]',
        '[{"reference": "x", "amount": "1", "currency": "X"}]',
    ):
        with pytest.raises(BadInput):
            await payouts.reconcile_payouts(world.gateway, lines=bad)
    await world.prove()


async def test_the_bank_is_told_the_number_and_nobody_else(world: World) -> None:
    await agree(world)
    await paid(world, 10_000)
    await close(world)
    told = await payouts.instructions(world.gateway, reason="bank file")
    assert [(row["bank"], row["number"], row["amount"]) for row in told["instructions"]] == [("한빛은행", "110123456789", 9_650)]
    assert "110123456789" not in json.dumps([world.dump(()), await payouts.list_payouts(world.gateway)], ensure_ascii=False)
    terms = agreed.of_merchant(world.gateway.reader, "shop")
    assert terms.payout_sealed is not None
    for merchant, pepper in (("other", world.gateway.keyring.pepper), ("shop", b"another pepper")):
        with pytest.raises(BadInput, match="does not open"):
            agreed.open_account(terms.payout_sealed, merchant, pepper)


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ({"merchant": "nobody", "basis_points": "1"}, NotFound),
        ({"merchant": "shop", "basis_points": "1001"}, BadInput),
        ({"merchant": "shop", "basis_points": "-1"}, BadInput),
        ({"merchant": "shop", "basis_points": "1.5"}, BadInput),
        ({"merchant": "shop", "basis_points": "1", "fixed": "9" * 16}, BadInput),
        ({"merchant": "shop", "bank": "", "number": "110123456789"}, BadInput),
        ({"merchant": "shop", "bank": "한빛\n", "number": "110123456789"}, BadInput),
        ({"merchant": "shop", "bank": "한빛", "number": "12345"}, BadInput),
        ({"merchant": "shop", "bank": "한빛", "number": "110-123-가"}, BadInput),
        ({"reference": "0000-0000"}, NotFound),
    ],
)
async def test_what_is_refused_changes_nothing(world: World, what: dict[str, str], error: type[Exception]) -> None:
    before = world.dump(())
    act = settlement.set_fees if "basis_points" in what else settlement.set_payout_account if "bank" in what else payouts.confirm_payout
    with pytest.raises(error):
        await act(world.gateway, **what)
    assert world.dump(()) == before


async def test_the_trial_balance_is_even_in_every_currency(world: World) -> None:
    await agree(world)
    await paid(world, 10_000)
    await close(world)
    found = await settlement.trial_balance(world.gateway)
    (won,) = [row for row in found["sums"] if row["currency"] == "KRW"]
    assert won["balanced"]
    assert won["debits"] == won["credits"] > 0
    kinds = {row["kind"]: row["credits"] - row["debits"] for row in found["kinds"] if row["currency"] == "KRW"}
    assert (kinds["operator_fees"], kinds["operator_payouts"], kinds["merchant"]) == (350, 9_650, 0)


# --- crashes and races -------------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


def kill_at(world: World, number: int) -> None:
    """The book takes so many more Changes; then the process is gone, before the next one or right behind it."""
    book, left = world.gateway.book, [number]
    commit = book.commit

    async def until_killed(change: Change) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        await commit(change)
        if left[0] == 0 and number % 2:
            raise Killed

    book.commit = until_killed  # type: ignore[method-assign]  # a process cannot be killed by half in a test of one process


@pytest.mark.parametrize("number", range(9))
async def test_a_day_whose_closing_was_cut_short_goes_on_where_it_stopped(world: World, number: int) -> None:
    for merchant in ("shop", "other"):
        await agree(world, merchant=merchant)
        await paid(world, 10_000, merchant)
    await world.tick(DAY_S)
    kill_at(world, number)
    with suppress(Killed):
        await settlement.close_days(world.gateway)
    await world.restart()
    with world.gateway.reader.snapshot() as connection:
        assert check_ledger(connection).balanced, "also while the day is half closed"
    await paid(world, 3_000)
    await settlement.close_days(world.gateway)
    for merchant in ("shop", "other"):
        found = of_day(world, TODAY, merchant)
        assert (found.captured, found.fees_taken, found.paid_out) == (10_000, 350, 9_650)
    assert len(world.rows("payouts")) == 2
    assert balance(world, SHOP) == 3_000
    await world.prove()


async def test_two_that_close_at_once_close_once(world: World) -> None:
    await agree(world)
    await paid(world, 10_000)
    await world.tick(DAY_S)
    world.gateway.deciding.add("closing a day")
    before = world.dump()
    with pytest.raises(Conflict, match="being closed"):
        await settlement.close_days(world.gateway)
    assert world.dump() == before
    world.gateway.deciding.clear()
    day = await _begun(world)
    await asyncio.gather(*(settlement._settle(world.gateway, day, "shop", "KRW", SHOP) for _ in range(2)))
    assert len(world.rows("payouts")) == 1
    await settlement.close_days(world.gateway)
    await world.prove()


async def _begun(world: World) -> settlement.Day:
    """A day that another gateway has begun to close."""
    day = settlement.next_day(world.gateway)
    assert day is not None
    await settlement.open_accounts(world.gateway)
    return await settlement._begin(world.gateway, day, "another", "-")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.integers(1, 40_000)),
        st.tuples(st.just("refund"), st.integers(1, 40_000)),
        st.tuples(st.just("night"), st.just(0)),
        st.tuples(st.just("close"), st.integers(0, 12)),
        st.tuples(st.just("fail"), st.just(0)),
        st.tuples(st.just("confirm"), st.just(0)),
    ),
    min_size=4,
    max_size=14,
)


@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, basis_points=st.integers(0, 1_000), fixed=st.integers(0, 500))
async def test_whatever_happens_statements_add_up_and_nothing_is_paid_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], basis_points: int, fixed: int
) -> None:
    async with open_world(tmp_path_factory.mktemp("any"), refund_shortfall='"reserve"') as world:
        await operations.fund_reserve(world.gateway, amount="100000")
        await agree(world, basis_points=basis_points, fixed=fixed)
        visits: list[Visit] = []
        for what, number in steps:
            if what == "pay":
                visits.append(await paid(world, number))
            elif what == "refund" and visits:
                visit = visits[number % len(visits)]
                left = visit.stored.captured - visit.stored.refunded
                if left:
                    await Canceller(world).cancel(visit, min(number, left))
            elif what == "night":
                await world.tick(DAY_S)
            elif what == "close":
                kill_at(world, number)
                with suppress(Killed):
                    await settlement.close_days(world.gateway)
                await world.restart()
            elif what in ("fail", "confirm"):
                for payout in payouts.of_state(world.gateway.reader, "instructed", limit=1):
                    act = payouts.fail_payout if what == "fail" else payouts.confirm_payout
                    await act(world.gateway, reference=payout.reference, reason="said the bank")
        await close(world)
        await world.prove()  # the ledger's check holds every statement against the entries
        sums = (await settlement.trial_balance(world.gateway))["sums"]
        assert all(row["balanced"] for row in sums)
        statements = settlement.statements_of_merchant(world.gateway.reader, "shop", "KRW", limit=400)
        captured = sum(row["captured"] for row in world.rows("payments"))
        refunded = sum(row["refunded"] for row in world.rows("payments"))
        assert (sum(one.captured for one in statements), sum(one.refunded for one in statements)) == (captured, refunded)
        kept = captured - refunded - sum(one.fees_taken for one in statements)
        paid_out = sum(row["amount"] for row in world.rows("payouts") if row["state"] in ("instructed", "confirmed"))
        lent = sum(row["owes"] for row in (await operations.reserve(world.gateway))["lent"])
        assert paid_out + balance(world, SHOP) == kept + lent
