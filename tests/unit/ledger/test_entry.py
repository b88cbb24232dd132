"""Entries are balanced or impossible; the rules make what they say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import AMOUNT_MAX, Money
from hanbit.ledger import rules
from hanbit.ledger.chart import KINDS, merchant_account, normal_balance
from hanbit.ledger.entry import CAPTURE, ENTRY_KINDS, HOLD, TRANSFER, VOID, Entry, Posting

WON = Money(1000, "KRW")
amounts = st.integers(min_value=1, max_value=AMOUNT_MAX)
legs = st.lists(
    st.builds(
        Posting,
        account=st.sampled_from(["a", "b", "c"]),
        side=st.sampled_from(["D", "C"]),
        pending=st.integers(-5, 5),
        posted=st.integers(-5, 5),
    ),
    max_size=5,
)


@given(legs, st.sampled_from(ENTRY_KINDS))
def test_an_entry_that_does_not_balance_cannot_be_made(postings: list[Posting], kind: str) -> None:
    ends = "hold:x:1" if kind in (CAPTURE, VOID) else None
    sums = [sum((1 if leg.side == "D" else -1) * getattr(leg, what) for leg in postings) for what in ("pending", "posted")]
    good = len(postings) >= 2 and sums == [0, 0] and all(leg.pending or leg.posted for leg in postings)
    if good:
        assert Entry("x", kind, WON, tuple(postings), ends=ends).postings
    else:
        with pytest.raises(AssertionError):
            Entry("x", kind, WON, tuple(postings), ends=ends)


@given(amounts)
def test_hold_and_capture_move_the_amount_and_hold_and_void_move_nothing(amount: int) -> None:
    what: dict[str, Any] = {"payment": "p", "attempt": 1, "source": "customer", "target": "merchant", "money": Money(amount, "KRW")}
    hold, capture, void = rules.hold(**what), rules.capture(**what), rules.void(**what)
    assert (hold.kind, capture.kind, void.kind) == (HOLD, CAPTURE, VOID)
    assert capture.ends == void.ends == hold.id
    assert _sum(hold, capture) == {("customer", "D"): (0, amount), ("merchant", "C"): (0, amount)}
    assert _sum(hold, void) == {("customer", "D"): (0, 0), ("merchant", "C"): (0, 0)}


def _sum(*entries: Entry) -> dict[tuple[str, str], tuple[int, int]]:
    total: dict[tuple[str, str], tuple[int, int]] = {}
    for leg in (leg for entry in entries for leg in entry.postings):
        pending, posted = total.get((leg.account, leg.side), (0, 0))
        total[leg.account, leg.side] = (pending + leg.pending, posted + leg.posted)
    return total


@given(amounts)
def test_a_transfer_debits_one_and_credits_the_other(amount: int) -> None:
    entry = rules.transfer(id="x", debit="cash", credit="customer", money=Money(amount, "KRW"))
    assert (entry.kind, entry.ends, entry.payment) == (TRANSFER, None, None)
    assert _sum(entry) == {("cash", "D"): (0, amount), ("customer", "C"): (0, amount)}


def test_an_entry_of_nothing_or_of_an_unknown_kind_cannot_be_made() -> None:
    entry = rules.transfer(id="x", debit="a", credit="b", money=WON)
    wrong: tuple[dict[str, Any], ...] = ({"money": Money(0, "KRW")}, {"kind": "gift"}, {"ends": "hold:p:1"}, {"kind": CAPTURE})
    for changes in wrong:
        with pytest.raises(AssertionError):
            replace(entry, **changes)
    with pytest.raises(BadInput):
        Money(-1, "KRW")


def test_a_leg_is_on_one_of_two_sides() -> None:
    with pytest.raises(AssertionError):
        Entry("x", TRANSFER, WON, (Posting("a", "X", 0, 1), Posting("b", "C", 0, 1)))


def test_balances_stand_on_the_normal_side() -> None:
    for kind in KINDS.values():
        assert normal_balance(kind.name, 5, 8) == (3 if kind.normal == "C" else -3)
    assert {kind.name for kind in KINDS.values() if not kind.limited} == {"operator_cash", "operator_equity"}


def test_a_merchant_account_has_a_merchants_name() -> None:
    assert merchant_account("shop", "KRW") == "merchant:shop:KRW"
    with pytest.raises(AssertionError):
        merchant_account("shop:x", "KRW")
