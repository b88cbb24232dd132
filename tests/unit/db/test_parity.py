"""Whatever the schema forbids is forbidden by both engines, for the same reason: each constraint and trigger is broken once by raw SQL.

Nothing here goes through the program: what a batch decides in memory is not asked, only what the database itself lets in.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import CheckConstraint, Table, Text, UniqueConstraint

from hanbit.db import guards, schema, sqlite_file
from hanbit.db import place as places
from hanbit.db.place import Place
from hanbit.db.sqlite import BOOK_FILE
from tests.cluster import Cluster

Row = dict[str, Any]
TABLES = schema.metadata.tables
BEYOND = schema.MONEY_MAX + 1

GOOD: dict[str, Row] = {
    "entries": {"kind": "hold", "amount": 100},
    "postings": {"side": "D", "posted": 1},
    "ledger_accounts": {"limited": 1, "credits_posted": 100},
    "payments": {"state": "captured", "amount": 100, "captured": 100},
    "exchanges": {"result": "approved"},
    "cancellations": {"amount": 100},
    "tiles": {"level": 1},
    "customers": {"state": "active"},
    "accounts": {"kind": "bank", "state": "active"},
    "devices": {"kind": "device", "state": "active"},
    "merchants": {"state": "active", "orders": "signed", "line_mode": "vpn"},
    "people": {"face": "operator", "state": "invited"},
    "people_factors": {"kind": "totp", "state": "active"},
    "proposals": {"state": "open"},
    "console_requests": {"act": "cancel", "turn": 1, "state": "waiting", "next_at": 1},
    "mails": {"state": "waiting", "next_at": 1},
    "console_sessions": {"face": "operator"},
    "days": {"state": "closing"},
    "payouts": {"amount": 100, "state": "instructed"},
}
"""What a row must say beside a 1 in each number and a word in each text; columns that may be empty are."""

FORBIDDEN: dict[str, list[tuple[str, Row]]] = {
    "id = 1": [("book", {"id": 2})],
    "counters": [
        ("ledger_accounts", {"limited": 0, name: -1}) for name in ("debits_pending", "credits_pending", "debits_posted", "credits_posted")
    ],
    "bounds": [
        ("ledger_accounts", {"limited": 0, "debits_posted": BEYOND}),
        ("ledger_accounts", {"limited": 0, "credits_posted": BEYOND}),
        ("ledger_accounts", {"credit_limit": BEYOND}),
        ("ledger_accounts", {"credit_limit": -1}),
    ],
    "limited_flag": [("ledger_accounts", {"limited": 2}), ("ledger_accounts", {"limited": -1})],
    "never_below_zero": [
        ("ledger_accounts", {"debits_pending": 101}),
        ("ledger_accounts", {"debits_posted": 101}),
        ("ledger_accounts", {"credits_posted": 0, "credit_limit": 5, "debits_pending": 6}),
        ("ledger_accounts", {"debits_posted": 1, "debits_pending": 101}),
    ],
    "amount": [("entries", {"amount": 0}), ("entries", {"amount": -1}), ("entries", {"amount": BEYOND})],
    "ends": [("entries", {"kind": "capture"}), ("entries", {"kind": "void"}), ("entries", {"kind": "hold", "ends": 7})],
    "kind": [("entries", {"kind": "gift"})],
    "side": [("postings", {"side": "X"})],
    "moves": [("postings", {"posted": -1}), ("postings", {"posted": 0, "pending": 0})],
    "refunds_within_captured": [
        ("payments", {"captured": 101}),
        ("payments", {"captured": -1, "refunded": -1}),
        ("payments", {"refunded": 101}),
        ("payments", {"refunded": -1}),
    ],
    "state": [("payments", {"state": "paid"})],
    "exchange_result": [("exchanges", {"result": "perhaps"})],
    "cancellation_amounts": [("cancellations", {"amount": 0, "refunded": 0}), ("cancellations", {"refunded": 101})],
    "tile": [("tiles", {"level": 0}), ("tiles", {"level": 7}), ("tiles", {"number": -1})],
    "customer_state": [("customers", {"state": "king"})],
    "account_kind": [("accounts", {"kind": "gold"})],
    "account_state": [("accounts", {"state": "king"})],
    "device_kind": [("devices", {"kind": "ring"})],
    "device_state": [("devices", {"state": "lost"})],
    "merchant_state": [("merchants", {"state": "king"})],
    "merchant_orders": [("merchants", {"orders": "any"})],
    "merchant_line_mode": [("merchants", {"line_mode": "post", "line_address": "10.0.0.1"})],
    "merchant_limits": [("merchants", {"limit_payment": 0}), ("merchants", {"limit_day": 0, "day_from": 1, "day_until": 1})],
    "a_limited_day_is_counted": [
        ("merchants", {"limit_day": 1, "day_from": 1}),
        ("merchants", {"limit_day": 1, "day_until": 1}),
        ("merchants", {"day_from": 1, "day_until": 1}),
    ],
    "leased_lines_are_pinned": [("merchants", {"line_mode": "leased"})],
    "person_face": [("people", {"face": "shop", "merchant": "m"}), ("people", {"face": "merchant"}), ("people", {"merchant": "m"})],
    "person_state": [("people", {"state": "king"})],
    "nobody_works_without_a_password": [("people", {"state": "active"})],
    "factor_kind": [("people_factors", {"kind": "ring"})],
    "factor_state": [("people_factors", {"state": "lost"})],
    "proposal_state": [("proposals", {"state": "perhaps", "decided_by": "b", "decided_at": 1})],
    "proposal_decision": [
        ("proposals", {"state": "refused"}),
        ("proposals", {"decided_by": "b"}),
        ("proposals", {"state": "refused", "decided_at": 1}),
    ],
    "a_second_person_approves": [("proposals", {"state": "approved", "decided_by": "x", "decided_at": 1})],
    "console_act": [("console_requests", {"act": "pay"})],
    "console_request_state": [
        ("console_requests", {"state": "perhaps"}),
        ("console_requests", {"state": "done"}),
        ("console_requests", {"decided_at": 1, "next_at": None}),
    ],
    "wish_has_a_turn": [("console_requests", {"turn": None}), ("console_requests", {"act": "test"})],
    "what_waits_is_asked_again": [("console_requests", {"next_at": None}), ("console_requests", {"state": "done", "decided_at": 1})],
    "mail_state": [
        ("mails", {"state": "perhaps", "next_at": None, "ended_at": 1}),
        ("mails", {"state": "sent", "ended_at": 1}),
        ("mails", {"next_at": None}),
    ],
    "mail_ended": [("mails", {"ended_at": 1}), ("mails", {"state": "sent", "next_at": None})],
    "session_face": [("console_sessions", {"face": "shop"})],
    "fees": [("terms", {"fee_basis_points": 1_001}), ("terms", {"fee_basis_points": -1}), ("terms", {"fee_fixed_minor": -1})],
    "payout_account": [("terms", {"payout_masked": "m"}), ("terms", {"payout_sealed": "s"})],
    "day_state": [("days", {"state": "open"}), ("days", {"state": "closed"}), ("days", {"closed_at": 1})],
    "day_entries": [("days", {"first_entry": 3, "last_entry": 1})],
    "settled_sums": [("settlements", {name: -1}) for name in ("captured", "refunded", "fees", "fees_taken", "fees_owed")],
    "settled_out": [("settlements", {"repaid": -1}), ("settlements", {"paid_out": -1})],
    "payout_amount": [("payouts", {"amount": 0}), ("payouts", {"amount": BEYOND})],
    "payout_state": [("payouts", {"state": "lost", "decided_by": "b", "decided_at": 1})],
    "payout_decision": [
        ("payouts", {"state": "confirmed"}),
        ("payouts", {"state": "failed", "decided_at": 1}),
        ("payouts", {"decided_by": "b"}),
    ],
}
"""Each CHECK → rows that it turns away, and no other does."""


@dataclass(frozen=True)
class Refusal:
    """Why a row did not get in: which kind of rule, and the rule's name, its columns, or what it says."""

    kind: str
    what: str = ""


class Engine:
    """The owner's connection to an empty book."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._connection: Any = sqlite_file.open_for_writing(place) if isinstance(place, Path) else psycopg.connect(place, autocommit=True)

    def refused(self, *statements: str) -> Refusal | None:
        """What becomes of the last of these statements; the others must be carried out, and nothing of any of them stays."""
        self._connection.execute("BEGIN")
        try:
            for statement in statements[:-1]:
                self._connection.execute(statement)
            self._connection.execute(statements[-1])
        except sqlite_file.DatabaseError as error:
            return _by_sqlite(str(error))
        except psycopg.Error as error:
            return _by_postgresql(error)
        finally:
            self._connection.execute("ROLLBACK")
        return None

    def close(self) -> None:
        self._connection.close()


def _by_sqlite(text: str) -> Refusal:
    kind, _, what = text.partition(" constraint failed: ")
    if kind == "NOT NULL":
        return Refusal("empty", what.partition(".")[2])
    if kind == "UNIQUE":
        return Refusal("twice", ", ".join(sorted(column.partition(".")[2] for column in what.split(", "))))
    if kind == "CHECK":
        return Refusal("check", what)
    if text == "datatype mismatch" or re.match(r"cannot store \w+ value in \w+ column", text):
        return Refusal("type")
    return Refusal("trigger", text)


def _by_postgresql(error: psycopg.Error) -> Refusal:
    said = error.diag
    match error:
        case errors.NotNullViolation():
            return Refusal("empty", said.column_name or "")
        case errors.UniqueViolation():
            found = re.match(r"Key \((.+?)\)=", said.message_detail or "")
            assert found is not None, said.message_detail
            return Refusal("twice", ", ".join(sorted(found[1].split(", "))))
        case errors.CheckViolation():
            return Refusal("check", "id = 1" if said.constraint_name == "book_id_check" else said.constraint_name or "")
        case errors.InvalidTextRepresentation() | errors.NumericValueOutOfRange():
            return Refusal("type")
    return Refusal("trigger", said.message_primary or "")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A book on each engine; every attempt is rolled back."""
    place: Place = tmp_path_factory.mktemp("parity") / BOOK_FILE
    cluster: Cluster | None = request.getfixturevalue("cluster") if request.param == "postgresql" else None
    name = ""
    if cluster is not None:
        name = cluster.create()
        place = cluster.url(name)
    places.create(place, "bank", 1)
    with closing(Engine(place)) as opened:
        yield opened
    if cluster is not None:
        cluster.drop(name)


def good(table: Table) -> Row:
    usual: Row = {
        column.name: None if column.nullable else ("x" if isinstance(column.type, Text) else 0 if table.name in GOOD else 1)
        for column in table.columns
    }
    return usual | GOOD.get(table.name, {})


def insert(table: Table, row: Row) -> str:
    columns = ", ".join(row)
    values = ", ".join("NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value) for value in row.values())
    return f"INSERT INTO {table.name} ({columns}) VALUES ({values})"  # noqa: S608 - our own names and values


def other(table: Table) -> Row:
    """A second good row that shares nothing with the first that need not be shared."""
    row = good(table)
    return row | {
        column.name: ("y" if isinstance(column.type, Text) else 7)
        for column in table.columns
        if column.name not in GOOD.get(table.name, {}) and _tells_apart(table, column.name)
    }


def _tells_apart(table: Table, column: str) -> bool:
    return any(column in names for names in unique(table))


def unique(table: Table) -> list[tuple[str, ...]]:
    """The columns of the primary key and of every other key of a table."""
    keys = [tuple(column.name for column in table.primary_key.columns)]
    keys += [tuple(c.name for c in constraint.columns) for constraint in table.constraints if isinstance(constraint, UniqueConstraint)]
    return keys + [tuple(column.name for column in index.columns) for index in table.indexes if index.unique]


def taken_alone(name: str) -> bool:
    """The book's own table takes one row, which is there."""
    return name != "book"


@pytest.mark.parametrize("name", sorted(filter(taken_alone, TABLES)))
def test_a_good_row_gets_in_and_one_with_a_hole_or_a_word_for_a_number_does_not(engine: Engine, name: str) -> None:
    table = TABLES[name]
    row = good(table)
    assert engine.refused(insert(table, row)) is None
    for column in table.columns:
        whole = not isinstance(column.type, Text)
        counted_by_sqlite = whole and column.primary_key and len(table.primary_key.columns) == 1 and isinstance(engine.place, Path)
        if not column.nullable and not (counted_by_sqlite and table.dialect_options["sqlite"]["with_rowid"]):
            assert engine.refused(insert(table, row | {column.name: None})) == Refusal("empty", column.name)
        if whole:
            for wrong in ("much", "", "9223372036854775808"):
                assert engine.refused(insert(table, row | {column.name: wrong})) == Refusal("type"), column.name


@pytest.mark.parametrize("name", sorted(filter(taken_alone, TABLES)))
def test_no_key_is_taken_twice(engine: Engine, name: str) -> None:
    table = TABLES[name]
    first, second = good(table), other(table)
    ends: Row = {"kind": "capture", "ends": 3} if name == "entries" else {}
    first, second = first | ends, second | ends | ({"ends": 4} if ends else {})
    for key in unique(table):
        first |= {column: "x" if isinstance(table.columns[column].type, Text) else 3 for column in key if first[column] is None}
    assert engine.refused(insert(table, first), insert(table, second)) is None
    for key in unique(table):
        same = second | {column: first[column] for column in key}
        assert engine.refused(insert(table, first), insert(table, same)) == Refusal("twice", ", ".join(sorted(key)))


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_each_check_turns_away_what_it_names(engine: Engine, name: str) -> None:
    for table, wrong in FORBIDDEN[name]:
        row = good(TABLES[table]) | wrong
        assert engine.refused(insert(TABLES[table], row)) == Refusal("check", name), (table, wrong)


def test_no_check_of_the_schema_is_left_out() -> None:
    checks = [c for table in TABLES.values() for c in table.constraints if isinstance(c, CheckConstraint)]
    assert {str(check.name or check.sqltext) for check in checks} == set(FORBIDDEN)


@pytest.mark.parametrize("name", [*schema.HISTORY, *schema.KEPT])
def test_history_is_neither_edited_nor_removed_and_what_is_kept_is_never_removed(engine: Engine, name: str) -> None:
    table = TABLES[name]
    there = [insert(table, good(table))] if taken_alone(name) else []
    column = next(iter(table.columns)).name
    says = f"history is never edited: {name}" if name in schema.HISTORY else f"never deleted: {name}"
    edited = engine.refused(*there, f"UPDATE {name} SET {column} = {column}")  # noqa: S608 - our own names
    assert edited == (Refusal("trigger", says) if name in schema.HISTORY else None)
    assert engine.refused(*there, f"DELETE FROM {name}") == Refusal("trigger", says)  # noqa: S608 - our own names
    if not isinstance(engine.place, Path):
        assert engine.refused(*there, f"TRUNCATE {name}") == Refusal("trigger", says), "PostgreSQL's other way to remove a row"


def test_every_guard_refuses_what_it_guards_against(engine: Engine) -> None:
    payment = insert(TABLES["payments"], good(TABLES["payments"]) | {"id": "p", "refunded": 30})
    refund = {"kind": "refund", "payment": "p"}
    entries = [insert(TABLES["entries"], good(TABLES["entries"]) | refund | {"number": n, "id": f"r{n}", "amount": 30}) for n in (1, 2)]
    refused: dict[str, list[tuple[str, ...]]] = {
        "refunds_stay_within_the_capture": [
            (payment, *entries),
            (payment, insert(TABLES["entries"], good(TABLES["entries"]) | refund | {"amount": 31})),
            (insert(TABLES["entries"], good(TABLES["entries"]) | refund),),
        ],
        "what_moved_is_never_unsaid": [
            (payment, "UPDATE payments SET refunded = 29"),
            (payment, "UPDATE payments SET captured = 99"),
        ],
    }
    assert refused.keys() == guards.GUARDS.keys()
    assert engine.refused(payment, entries[0]) is None
    assert engine.refused(payment, "UPDATE payments SET refunded = 31, captured = 100") is None
    for name, attempts in refused.items():
        for attempt in attempts:
            assert engine.refused(*attempt) == Refusal("trigger", guards.GUARDS[name].says), attempt
