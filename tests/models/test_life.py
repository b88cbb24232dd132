"""models/life.maude is the life of payments/states.py and merchant/states.py: the same states, events and movements of money."""

import re
from dataclasses import dataclass
from typing import Final

import pytest
from models.search import Graph, expectations

from hanbit.merchant import states as shop
from hanbit.payments import states as gateway

LIFE: Final = expectations()["life"]
SHOPS: Final = "shop-"
PURCHASED: Final = f"{gateway.Event.AUTHORIZED}-and-{gateway.Event.MERCHANT_CONFIRMED}"
MOVES: Final = {
    (0, 0, 0): None,
    (-1, 1, 0): "hold",
    (0, -1, 1): "capture",
    (1, -1, 0): "void",
    (1, 0, -1): "refund",
    (-1, 0, 1): "hold-and-capture",
}
"""How an event moves money between the customer, what is held and the shop → the journal rule that does so."""


@dataclass(frozen=True, slots=True)
class Books:
    """What both books say in one state of the model."""

    payment: str
    order: str
    money: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Happening:
    """One step of the model."""

    before: Books
    label: str
    after: Books

    @property
    def rule(self) -> str | None:
        """The journal rule that moved the money."""
        signs = [(after > before) - (after < before) for before, after in zip(self.before.money, self.after.money, strict=True)]
        return MOVES[signs[0], signs[1], signs[2]]


@pytest.fixture(scope="module")
def happenings() -> frozenset[Happening]:
    """Every step that any run of the model takes, with all defences on."""
    graph = Graph(LIFE, LIFE.modes["both"])
    books = {state: _books(str(graph.term(state))) for state in graph.states()}
    return frozenset(Happening(books[step.before], step.label, books[step.after]) for step in graph.steps())


def _books(state: str) -> Books:
    payment = re.search(r"payment\((\w+), ", state)
    order = re.search(r"order\((\w+)\)", state)
    money = re.search(r"money\((\d+), (\d+), (\d+)\)", state)
    assert payment is not None, state
    assert order is not None, state
    assert money is not None, state
    return Books(payment[1], order[1], (int(money[1]), int(money[2]), int(money[3])))


def test_the_gateways_table_is_what_happens_in_the_model(happenings: frozenset[Happening]) -> None:
    rows = {(str(state), str(event), str(row.to), row.rule) for state, rows in gateway.TABLE.items() for event, row in rows.items()}
    events = {str(event) for event in gateway.Event}
    assert {(one.before.payment, one.label, one.after.payment, one.rule) for one in happenings if one.label in events} == rows


def test_a_purchase_is_two_rows_of_the_gateways_table_in_one_commit(happenings: frozenset[Happening]) -> None:
    held = gateway.TABLE[gateway.State.OPEN][gateway.Event.AUTHORIZED]
    captured = gateway.TABLE[held.to][gateway.Event.MERCHANT_CONFIRMED]
    found = {(one.before.payment, one.after.payment, one.rule) for one in happenings if one.label == PURCHASED}
    assert found == {(str(gateway.State.OPEN), str(captured.to), f"{held.rule}-and-{captured.rule}")}


def test_nothing_else_changes_a_payment_or_moves_money(happenings: frozenset[Happening]) -> None:
    events = {PURCHASED, *(str(event) for event in gateway.Event)}
    others = [one for one in happenings if one.label not in events]
    assert others
    assert [one for one in others if (one.before.payment, one.before.money) != (one.after.payment, one.after.money)] == []


def test_the_shops_table_is_what_happens_in_the_model(happenings: frozenset[Happening]) -> None:
    rows = {(str(state), str(event), str(to)) for state, rows in shop.TRANSITIONS.items() for event, to in rows.items()}
    events = {SHOPS + event for event in shop.Event}
    happened = {(one.before.order, one.label.removeprefix(SHOPS), one.after.order) for one in happenings if one.label in events}
    assert happened == rows


def test_nothing_else_changes_an_order(happenings: frozenset[Happening]) -> None:
    events = {SHOPS + event for event in shop.Event}
    assert [one for one in happenings if one.label not in events and one.before.order != one.after.order] == []


def test_the_model_is_final_where_the_code_is(happenings: frozenset[Happening]) -> None:
    graph = Graph(LIFE, LIFE.modes["both"])
    assert LIFE.final is not None
    goal = graph.parsed(LIFE.final)
    ends = {_books(str(graph.term(state))) for state in graph.states() if graph.is_goal(state, goal)}
    assert {one.payment for one in ends} == {str(state) for state in gateway.FINAL} | {str(gateway.State.NEW)}
    assert {one.order for one in ends} >= {str(state) for state in shop.FINAL}
