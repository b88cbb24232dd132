"""The table of states against a golden copy: every pair is tried, and what is not on the page is refused."""

import itertools

import pytest

from hanbit.kernel.errors import WrongState
from hanbit.payments.apply import BROUGHT, RULES
from hanbit.payments.states import FINAL, IN_MERCHANT_WORDS, TABLE, Event, State, step
from hanbit.protocols.cancellation import messages as cancellation
from hanbit.protocols.dual_signature import messages as dual_signature
from hanbit.protocols.redirect import messages as redirect

GOLDEN = {
    ("new", "opened"): ("open", None, "order keys"),
    ("open", "declined"): ("open", None, "keys authorization-request authorization"),
    ("open", "attempts_exhausted"): ("closed", None, "keys authorization-request authorization closed"),
    ("open", "customer_cancelled"): ("closed", None, "closed"),
    ("open", "pay_by_passed"): ("closed", None, "closed"),
    ("open", "authorized"): ("authorized", "hold", "keys consent notice"),
    ("authorized", "merchant_confirmed"): ("captured", "capture", "confirmation settled authorization-request authorization receipt"),
    ("authorized", "merchant_refused"): ("refused", "void", "refusal voided"),
    ("authorized", "hold_expired"): ("voided", "void", "voided"),
    ("new", "merchant_cancelled"): ("closed", None, "cancel cancel-confirmation closed"),
    ("open", "merchant_cancelled"): ("closed", None, "cancel cancel-confirmation closed"),
    ("open", "cancellation_refused"): ("open", None, "cancel cancel-refusal"),
    ("captured", "refunded"): ("captured", "refund", "cancel cancel-confirmation"),
    ("captured", "cancellation_refused"): ("captured", None, "cancel cancel-refusal"),
    ("refused", "merchant_cancelled"): ("refused", None, "cancel cancel-confirmation"),
    ("voided", "merchant_cancelled"): ("voided", None, "cancel cancel-confirmation"),
    ("closed", "merchant_cancelled"): ("closed", None, "cancel cancel-confirmation"),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)), ids=str)
def test_every_pair_is_on_the_page_or_refused(state: State, event: Event) -> None:
    expected = GOLDEN.get((state, event))
    if expected is None:
        with pytest.raises(WrongState):
            step(state, event)
    else:
        row = step(state, event)
        assert (row.to, row.rule, " ".join(row.evidence)) == expected


def test_nothing_leaves_a_final_state_and_every_other_state_can_end() -> None:
    assert {state for state in State if {row.to for row in TABLE[state].values()} <= {state}} == FINAL
    for start in set(State) - FINAL:
        reached = {start}
        for _ in State:
            reached |= {row.to for state in reached for row in TABLE[state].values()}
        assert reached & FINAL, start


def test_money_is_held_once_and_every_hold_is_ended_once() -> None:
    for state, rows in TABLE.items():
        for row in rows.values():
            if row.rule == "hold":
                assert (state, row.to) == (State.OPEN, State.AUTHORIZED)
            if row.rule in ("capture", "void"):
                assert state is State.AUTHORIZED
                assert row.to in FINAL
            if row.rule == "refund":
                assert (state, row.to) == (State.CAPTURED, State.CAPTURED)
    assert {row.rule for rows in TABLE.values() for row in rows.values() if row.rule} == set(RULES) | BROUGHT


def test_nothing_is_taken_back_without_the_merchants_cancellation_in_the_same_step() -> None:
    for rows in TABLE.values():
        for event, row in rows.items():
            asked = event in (Event.MERCHANT_CANCELLED, Event.REFUNDED, Event.CANCELLATION_REFUSED)
            assert asked == ("cancel" in row.evidence) == bool({"cancel-confirmation", "cancel-refusal"} & set(row.evidence))
            assert (row.rule == "refund") == (event == Event.REFUNDED)


def test_no_money_moves_without_the_confirmation_in_the_same_step() -> None:
    for state, rows in TABLE.items():
        for row in rows.values():
            assert (row.rule == "capture") == (row.to == State.CAPTURED != state)
            assert (row.rule == "capture") == ("confirmation" in row.evidence) == ("receipt" in row.evidence)
            assert (row.rule == "capture") <= ("authorization-request" in row.evidence), "a shop's request is its confirmation"


def test_every_kind_of_evidence_is_a_message_and_every_state_has_words() -> None:
    typs = {kind.TYP.removeprefix("hanbit-") for kind in (*redirect.MESSAGES, *cancellation.MESSAGES, *dual_signature.MESSAGES)}
    assert {kind for rows in TABLE.values() for row in rows.values() for kind in row.evidence} <= typs
    assert set(IN_MERCHANT_WORDS) == set(State) == set(TABLE)
