"""New rows stand beside one another: a payment writes hardly more pages in a large book than in a small one; lookups have their index."""

import re
import struct
from pathlib import Path

import pytest

import hanbit
from hanbit.bench.ledger_deals import Deals
from hanbit.db.change import Change
from hanbit.db.schema import OF_KEYS
from hanbit.db.sqlite import BOOK_FILE, SqliteStore, create_book
from hanbit.kernel import ids
from hanbit.protocols.keys import Certificates, Crl, KeyRecord, KeyRecordConfirmation, Renewal

AT = 1_795_000_000
BATCH = 128
PAGE = 4096
FRAME_HEAD, LOG_HEAD = 24, 32


class Filled:
    """A book that is filled with whole payments."""

    def __init__(self, path: Path) -> None:
        create_book(path, "bank", AT)
        self.store, self.deals = SqliteStore(path), Deals("hot", with_evidence=True, at=AT)
        self.store._connection.execute("PRAGMA synchronous = OFF")
        self._log = path.with_name(f"{path.name}-wal")
        for change in self.deals.openings():
            self._write([change])

    def pay(self, count: int) -> None:
        for _ in range(count // BATCH):
            pairs = [self.deals.pair() for _ in range(BATCH)]
            self._write([pair.hold for pair in pairs])
            self._write([pair.capture for pair in pairs])
            self.deals.at += 1

    def pages_of(self, count: int) -> float:
        """Pages that so many payments write, each."""
        self.store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.pay(count)
        log = self._log.read_bytes()
        assert struct.unpack(">I", log[8:12]) == (PAGE,)
        return (len(log) - LOG_HEAD) / (PAGE + FRAME_HEAD) / count

    def _write(self, changes: list[Change]) -> None:
        assert set(self.store.write_batch(changes, self.deals.at)) == {None}


def test_a_payment_writes_hardly_more_pages_in_a_book_of_eight_times_the_size(tmp_path: Path) -> None:
    book = Filled(tmp_path / BOOK_FILE)
    book.pay(4 * BATCH)
    small = book.pages_of(4 * BATCH)
    book.pay(32 * BATCH)
    large = book.pages_of(4 * BATCH)
    book.store.close()
    # Customers' own pages (a thousand of them here) fill up meanwhile; trees of no order would add eight pages and more.
    assert large < small + 3, (small, large)


LOOKUPS = {
    "a message of a payment": "SELECT 1 FROM messages WHERE tid = ? AND merchant = ? AND hash = ?",
    "all messages of a payment": "SELECT 1 FROM messages WHERE merchant = ? AND tid = ? ORDER BY leaf, place",
    "a message by its number": "SELECT 1 FROM messages WHERE jti = ? AND iss = ?",
    "messages about keys": f"SELECT 1 FROM messages m WHERE {OF_KEYS} AND m.merchant = ? AND m.leaf < ?",  # noqa: S608 - our own words
    "a payment": "SELECT 1 FROM payments WHERE merchant = ? AND tid = ?",
    "a payment of whichever shop": "SELECT 1 FROM payments WHERE tid = ?",
    "an account's legs": "SELECT 1 FROM postings WHERE account = ? AND entry < ? AND posted > 0 ORDER BY entry DESC LIMIT 1",
    "outcomes that wait": "SELECT 1 FROM outbox WHERE next_at IS NOT NULL AND merchant = ? AND hash IN (?, ?)",
    "a session": "SELECT 1 FROM exchanges WHERE merchant = ? AND sid = ?",
    "a cancellation": "SELECT 1 FROM cancellations WHERE id = ? AND merchant = ?",
}


@pytest.mark.parametrize("sql", LOOKUPS.values(), ids=LOOKUPS)
def test_a_lookup_is_served_by_an_index(tmp_path: Path, sql: str) -> None:
    create_book(tmp_path / BOOK_FILE, "bank", AT)
    store = SqliteStore(tmp_path / BOOK_FILE)
    steps = [row[3] for row in store._connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("",) * sql.count("?"))]
    store.close()
    assert steps[0].startswith("SEARCH"), steps


def test_no_statement_asks_for_a_message_by_its_hash_alone() -> None:
    asked = re.compile(r"messages( \w)?\s+(WHERE|ON)\s+(\w\.)?hash")
    assert [path.name for path in Path(hanbit.__file__).parent.rglob("*.py") if asked.search(path.read_text("utf-8"))] == ["check.py"], (
        "the ledger's check, which says the payment behind it"
    )


def test_the_messages_about_keys_are_those_that_the_protocol_calls_so() -> None:
    for kind in (Certificates, Crl, KeyRecord, KeyRecordConfirmation, Renewal):
        assert f"'{kind.TYP}'" in OF_KEYS
    assert OF_KEYS.count("'hanbit-") == 5


def test_tids_are_in_the_order_of_their_seconds_and_cannot_be_guessed() -> None:
    made = [ids.new_tid_of(AT + second) for second in range(0, 100_000, 64) for _ in range(2)]
    assert all(ids.TID.fullmatch(tid) and len(tid) == 27 for tid in made)
    assert len({tid[:5] for tid in made}) == len(made) // 2, "each second has a beginning of its own"
    assert len({tid[5:] for tid in made}) == len(made), "the other 130 bits are nobody's"
    assert not any(tid.startswith("-") for tid in made)
