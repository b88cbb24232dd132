"""What raw SQL cannot do to a book: history stays, limits hold, types are strict, ids have one effect."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hanbit.db import place as places
from hanbit.db import schema, sqlite_file
from hanbit.db.change import Change, StoredMessage
from hanbit.db.place import Place
from hanbit.db.sqlite import BOOK_FILE, SqliteStore, create_book
from hanbit.kernel.errors import BadInput, Conflict, Unavailable
from tests.unit.db.books import HONG, NOW, REFUSALS, Desk, capture, hold, note, open_book, prove, rows, write


@pytest.fixture
def store(empty_place: Place) -> Iterator[Desk]:
    """A book with a hold, a captured payment, a message and a note."""
    made = open_book(empty_place)
    write(made, Change(entries=(hold("p1", HONG, 100), hold("p2", HONG, 200)), appends=(note("n"),)))
    write(made, Change(entries=(capture("p2", HONG, 200),)))
    write(made, Change(messages=(StoredMessage("h", "hanbit-order", "e30", "{}", "s", "urn:a", "j", "shop", "t"),)))
    yield made
    prove(made)
    made.close()


ONLY_SQLITE = {
    "replace_an_entry": "INSERT OR REPLACE INTO entries SELECT number, id || 'x', kind, payment, ends, 1, currency, at FROM entries",
    "replace_a_leg": "INSERT OR REPLACE INTO postings SELECT entry, leg, 'kim', side, pending, posted, balance FROM postings",
}
ONLY_POSTGRESQL = {
    "replace_an_entry": "INSERT INTO entries SELECT * FROM entries ON CONFLICT (number) DO UPDATE SET amount = 1",
    "replace_a_leg": "INSERT INTO postings SELECT * FROM postings ON CONFLICT (entry, leg) DO UPDATE SET account = 'kim'",
    "empty_the_history": "TRUNCATE postings",
    "empty_the_accounts": "TRUNCATE ledger_accounts",
}
"""Each engine has its own ways round a plain UPDATE."""
BREAKS = {
    "edit_an_entry": "UPDATE entries SET amount = 1",
    "remove_an_entry": "DELETE FROM entries WHERE number = 3",
    "edit_a_leg": "UPDATE postings SET posted = posted + 1",
    "remove_a_leg": "DELETE FROM postings",
    "edit_a_message": "UPDATE messages SET payload = '[]'",
    "remove_a_message": "DELETE FROM messages",
    "edit_a_header": "UPDATE headers SET segment = 'e31'",
    "edit_the_audit": "UPDATE audit SET reason = 'never'",
    "remove_the_audit": "DELETE FROM audit",
    "remove_an_account": "DELETE FROM ledger_accounts",
    "remove_the_book": "DELETE FROM book",
    "second_book": "INSERT INTO book SELECT 2, operator, schema_version, next_entry, next_leaf, frontier, time FROM book",
    "below_zero_posted": "UPDATE ledger_accounts SET debits_posted = 901 WHERE id = 'hong'",
    "below_zero_held": "UPDATE ledger_accounts SET debits_pending = 801 WHERE id = 'hong'",
    "negative_counter": "UPDATE ledger_accounts SET debits_pending = -1 WHERE kind = 'merchant'",
    "beyond_all_bounds": "UPDATE ledger_accounts SET credits_posted = 1000000000000000000",
    "negative_credit_line": "UPDATE ledger_accounts SET credit_limit = -1",
    "half_limited": "UPDATE ledger_accounts SET limited = 2",
    "text_as_money": "UPDATE ledger_accounts SET credits_posted = 'much'",
    "fraction_as_money": "UPDATE ledger_accounts SET credits_posted = 0.5",
    "nothing_as_money": "UPDATE ledger_accounts SET credits_posted = NULL",
    "entry_of_nothing": "INSERT INTO entries VALUES (99, 'x', 'transfer', NULL, NULL, 0, 'KRW', 0)",
    "entry_below_zero": "INSERT INTO entries VALUES (99, 'x', 'transfer', NULL, NULL, -5, 'KRW', 0)",
    "entry_of_an_unknown_kind": "INSERT INTO entries VALUES (99, 'x', 'gift', NULL, NULL, 1, 'KRW', 0)",
    "second_entry_of_an_id": "INSERT INTO entries VALUES (99, 'hold:p1:1', 'hold', 'p1', NULL, 1, 'KRW', 0)",
    "second_end_of_a_hold": "INSERT INTO entries SELECT 99, 'x', 'void', payment, ends, 1, 'KRW', 0 FROM entries WHERE kind = 'capture'",
    "capture_that_ends_nothing": "INSERT INTO entries VALUES (99, 'x', 'capture', 'p1', NULL, 1, 'KRW', 0)",
    "transfer_that_ends_a_hold": "INSERT INTO entries VALUES (99, 'x', 'transfer', 'p1', 3, 1, 'KRW', 0)",
    "leg_on_no_side": "INSERT INTO postings VALUES (99, 0, 'hong', 'X', 0, 1, 0)",
    "leg_of_nothing": "INSERT INTO postings VALUES (99, 0, 'hong', 'D', 0, 0, 0)",
    "leg_that_takes_back": "INSERT INTO postings VALUES (99, 0, 'hong', 'D', 0, -1, 0)",
    "text_as_a_time": "UPDATE book SET time = 'noon'",
    "unknown_customer_state": "INSERT INTO customers VALUES ('c', 1, 'l', 'n', 'king', 'p', 'ko', 'w', 0)",
    "unknown_orders": "INSERT INTO merchants (id, version, name, telephone, state, orders, currency, return_url, return_origins, "
    "line_mode, created_at) "
    "VALUES ('m', 1, 'n', 't', 'active', 'any', 'KRW', 'u', '[]', 'vpn', 0)",
}


@pytest.mark.parametrize("attempt", sorted({*BREAKS, *ONLY_SQLITE, *ONLY_POSTGRESQL}))
def test_the_database_itself_refuses(store: Desk, attempt: str) -> None:
    own = BREAKS | (ONLY_SQLITE if isinstance(store.place, Path) else ONLY_POSTGRESQL)
    before = everything(store)
    for statement in [own[attempt]] if attempt in own else []:
        with pytest.raises(REFUSALS):
            store.sql(statement)
    assert everything(store) == before


def everything(store: Desk) -> dict[str, list[str]]:
    return {table: sorted(map(repr, rows(store, f"SELECT * FROM {table}"))) for table in schema.metadata.tables}  # noqa: S608 - our own names


PAYMENT = (
    "INSERT INTO payments (merchant, tid, version, id, state, order_hash, amount, currency, payee, text, return_url, pay_by, opened_at, "
    "attempts, tries, captured, refunded) "
    "VALUES ('shop', 't', 1, 'p', '{state}', 'o', 100, 'KRW', 'n', '', 'u', 0, 0, 0, 0, {captured}, {refunded})"
)


@pytest.mark.parametrize(
    ("state", "captured", "refunded"),
    [
        ("captured", 101, 0),
        ("captured", 100, 101),
        ("captured", 50, 51),
        ("captured", 100, -1),
        ("open", -1, 0),
        ("paid", 0, 0),
        ("new", 0, 0),
    ],
)
def test_refunds_stay_within_what_was_captured_and_captures_within_the_amount(
    store: Desk, state: str, captured: int, refunded: int
) -> None:
    with pytest.raises(REFUSALS):
        store.sql(PAYMENT.format(state=state, captured=captured, refunded=refunded))


def test_a_payment_is_never_deleted(store: Desk) -> None:
    with pytest.raises(REFUSALS, match="never deleted"):
        store.sql(PAYMENT.format(state="open", captured=0, refunded=0), "DELETE FROM payments")
    assert rows(store, "SELECT 1 FROM payments") == []


def test_the_readers_connection_cannot_write(store: Desk) -> None:
    for patient in (False, True):
        with closing(places.open_for_reading(store.place, patient=patient)) as reader, pytest.raises((*REFUSALS, Unavailable)):
            reader.execute("UPDATE book SET time = 0")


def test_every_table_is_strict_and_every_history_has_its_triggers(tmp_path: Path) -> None:
    create_book(tmp_path / BOOK_FILE, "bank", NOW)
    connection = sqlite_file.open_for_reading(tmp_path / BOOK_FILE)
    tables = connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'").fetchall()
    assert {row[1] for row in tables} == {1}
    triggers = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    connection.close()
    for table in schema.HISTORY:
        assert {f"{table}_no_update", f"{table}_no_delete"} <= triggers


def test_a_book_is_private_made_once_and_of_one_schema(tmp_path: Path) -> None:
    path = tmp_path / BOOK_FILE
    create_book(path, "bank", NOW)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        create_book(path, "bank", NOW)
    connection = sqlite_file.open_for_writing(path)
    connection.execute("UPDATE book SET schema_version = 99")
    connection.close()
    with pytest.raises(BadInput):
        SqliteStore(path)
