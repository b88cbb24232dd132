"""The table of an order's life, every pair, against a copy written by hand."""

import re

import pytest

from hanbit.kernel.errors import WrongState
from hanbit.merchant.book_schema import SCHEMA
from hanbit.merchant.states import FINAL, TRANSITIONS, Event, State, step

LEGAL = {
    ("placed", "notice_confirmed"): "confirmed",
    ("placed", "notice_refused"): "refused",
    ("placed", "withdrawn"): "withdrawn",
    ("placed", "voided"): "voided",
    ("placed", "closed"): "closed",
    ("placed", "authorization_requested"): "requested",
    ("requested", "authorized"): "settled",
    ("requested", "declined"): "placed",
    ("requested", "notice_confirmed"): "confirmed",
    ("requested", "voided"): "voided",
    ("requested", "closed"): "closed",
    ("withdrawn", "notice_refused"): "withdrawn",
    ("withdrawn", "voided"): "voided",
    ("withdrawn", "closed"): "closed",
    ("confirmed", "settled"): "settled",
    ("confirmed", "voided"): "voided",
    ("refused", "voided"): "voided",
    ("withdrawn", "cancelled"): "cancelled",
    ("confirmed", "refunded"): "confirmed",
    ("confirmed", "cancelled"): "cancelled",
    ("settled", "refunded"): "settled",
    ("settled", "cancelled"): "cancelled",
    ("voided", "cancelled"): "cancelled",
    ("closed", "cancelled"): "cancelled",
    ("cancelled", "settled"): "cancelled",
    ("cancelled", "voided"): "cancelled",
    ("cancelled", "closed"): "cancelled",
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_an_order_moves_only_as_the_table_says(state: State, event: Event) -> None:
    following = LEGAL.get((state, event))
    if following is None:
        with pytest.raises(WrongState):
            step(state, event)
    else:
        assert step(state, event) == following


def test_goods_are_released_or_delivered_only_at_the_end() -> None:
    assert {State.SETTLED, State.VOIDED, State.CLOSED, State.CANCELLED} == FINAL


def test_only_an_order_that_the_shop_confirmed_or_asked_for_can_be_settled() -> None:
    assert [state for state, events in TRANSITIONS.items() if events.get(Event.SETTLED) is State.SETTLED] == [State.CONFIRMED]
    assert [state for state, events in TRANSITIONS.items() if Event.AUTHORIZED in events] == [State.REQUESTED]


def test_a_struck_order_stays_struck() -> None:
    assert set(TRANSITIONS[State.CANCELLED].values()) == {State.CANCELLED}


def test_the_schema_names_the_same_states() -> None:
    listed = re.search(r"CHECK \(state IN\s+\(([^)]*)\)", SCHEMA)
    assert listed is not None
    assert {name.strip(" '") for name in listed.group(1).split(",")} == set(State)
