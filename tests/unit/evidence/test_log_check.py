"""Whoever can write to the book's file can alter, remove, put in, exchange, cut or put back any row of any table: each is named."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Integer

from hanbit.crypto.leaves import digest
from hanbit.crypto.merkle import Frontier, leaf_hash
from hanbit.db import ddl, schema, sqlite_file
from hanbit.db.change import Append, Change, Put
from hanbit.db.covered import COLUMNS, COVERED, KEYS, dump_frontier, fill_log
from hanbit.db.guards import GUARDS
from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE, create_book
from hanbit.evidence import log_check, store
from hanbit.evidence.check import check as check_messages
from hanbit.evidence.log_check import KnownRoot, Report
from hanbit.kernel import ids
from hanbit.ledger.check import check as check_ledger
from hanbit.parties.registry import Registry
from hanbit.payments import operations, settlement
from tests import engine
from tests.world import NOW, OPERATOR, World, enrolled, open_world, sqlite_store

pytestmark = pytest.mark.skipif(engine.is_postgresql(), reason="forges a file; tables altered in a database are in test_postgres_shape")

CHECKED = [name for name in schema.metadata.tables if name not in schema.VOLATILE]
ORDER = {name: ", ".join(KEYS[name]) for name in CHECKED}

_PERSON = {"id": "first", "face": "operator", "merchant": None, "login": "first", "name": "First", "role": "admin", "password": "hash"}
_OURS = {"handed_by": None, "confirmed_by": None}
_DECIDED = {"decided_by": "second", "decided_reason": None, "decided_at": NOW}
PEOPLE = (
    Put("people", {**_PERSON, **_OURS, "language": "ko", "webauthn_user": "u", "state": "active", "created_at": NOW}, 0),
    Put(
        "people_factors",
        {"id": "f", "person": "first", "kind": "totp", "name": "n", "state": "active", "public": "{}", "counter": 1, "created_at": NOW},
        0,
    ),
    Put(
        "console_requests",
        {
            **dict.fromkeys(("tid", "turn", "amount", "currency", "delivery", "result", "cancellation", "answer_hash", "decided_at")),
            **dict.fromkeys(("merchant", "id", "person", "reason", "request_hash"), "x"),
            "act": "test",
            "state": "waiting",
            "asked_at": NOW,
            "next_at": NOW,
            "tries": 0,
        },
        0,
    ),
    Put(
        "proposals",
        {
            "id": "p",
            "act": "x",
            "content": "{}",
            "reason": "r",
            "state": "approved",
            "proposed_by": "first",
            "hands": "first",
            "proposed_at": NOW,
            **_DECIDED,
        },
        0,
    ),
)
"""Rows of who works at the operator; what they mean does not matter to the log."""
_EXCHANGE = {"merchant": "garam", "tid": "t", "payment": None, "result": "declined", "reason": "declined", "oimd": "o", "pimd": "p"}
EXCHANGES = tuple(
    Append("exchanges", {**_EXCHANGE, "sid": sid, "thumbprint": sid, "request_hash": sid, "answer_hash": sid, "at": NOW}) for sid in "ab"
)
"""Rows of sessions that a merchant asked for; likewise."""
NIGHT_S = 8 * 3_600
"""From the afternoon in which the world begins to the next day."""


@asynccontextmanager
async def lived(folder: Path) -> AsyncIterator[World]:
    """A book in which something has happened in every table: payments, refusals, outcomes, refunds, checkpoints, more than one tile."""
    async with open_world(folder) as world:
        for amount in (1_000, 2_000, 3_000):
            await (await world.visit(amount=amount)).pay()
            await world.tick(61)
        await (await world.visit(amount=900_000_000)).pay()
        await world.suspend("customer", "kim")
        await operations.revoke(world.gateway, kid=world.kim.device.kid)
        shop = world.shop.shop
        cancelled = await shop.cancel((await shop.book.listed(None, None, 10, None))[0][-1].tid, amount=None, reason="came back")
        assert cancelled.state == "confirmed", cancelled
        for number in range(300):
            await operations.set_state(world.gateway, what="customer", id="kim", state=("active", "suspended")[number % 2])
        await world.gateway.book.commit(Change(puts=PEOPLE, appends=EXCHANGES))
        await settlement.set_fees(world.gateway, merchant="shop", basis_points="100")
        await settlement.set_payout_account(world.gateway, merchant="shop", bank="bank", number="110123456789")
        world.clock.advance(NIGHT_S)
        assert (await settlement.close_days(world.gateway))["closed"]
        await world.tick(61)
        yield world


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book's file after all that."""
    folder = tmp_path_factory.mktemp("whole")
    copy = folder / BOOK_FILE

    async def live() -> None:
        async with lived(folder) as world:
            await world.prove()
            sqlite_store(world.gateway)._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy(world.folder / BOOK_FILE, copy)

    asyncio.run(live())
    return copy


@pytest.fixture
def forge(whole: Path, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A copy in the hands of somebody with the file, a library of his own, and no respect for triggers."""
    shutil.copy(whole, tmp_path / BOOK_FILE)
    with closing(sqlite3.connect(tmp_path / BOOK_FILE, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        yield connection


def checked(folder: Path, *known: KnownRoot) -> Report:
    reader = Reader(folder / BOOK_FILE)
    try:
        return log_check.check(reader.connection, known)
    finally:
        reader.close()


def everything_said(folder: Path) -> list[str]:
    """What `hanbit evidence check` says of rows, in its order; that the triggers were taken away has tests of its own."""
    reader = Reader(folder / BOOK_FILE)
    try:
        said = [str(finding) for finding in log_check.check(reader.connection).findings if finding.table != "sqlite_schema"]
        said += [f"ledger: {promise}: {rows}" for promise, rows in check_ledger(reader.connection).broken.items()]
        registry = Registry(reader, enrolled().root, OPERATOR)
        return said + check_messages(store.share(reader, 0, 1), registry, lambda _merchant, _tid: None).broken
    finally:
        reader.close()


def key_text(table: str, row: dict[str, Any]) -> str:
    """How a finding names this row: an altered leg is its entry's, and what only the book's row counts is the book's."""
    if table == "postings":
        return f"entries {msgspec.json.encode([row['entry']]).decode()}"
    return f"{table} {msgspec.json.encode([row[name] for name in KEYS[table]]).decode()}"


def rows_of(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    columns = COLUMNS[table]
    sql = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {ORDER[table]}"  # noqa: S608 - names from our own schema
    found = connection.execute(sql)
    return [dict(zip(columns, row, strict=True)) for row in found]


def where(table: str) -> str:
    return " AND ".join(f"{name} = ?" for name in KEYS[table])


def key_of(table: str, row: dict[str, Any]) -> list[Any]:
    return [row[name] for name in KEYS[table]]


def remove(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    connection.execute(f"DELETE FROM {table} WHERE {where(table)}", key_of(table, row))  # noqa: S608 - names from our own schema


def put_in(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    columns = COLUMNS[table]
    sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - names from our own schema
    connection.execute(sql, list(row.values()))


def clear(connection: sqlite3.Connection, table: str) -> None:
    connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from our own schema


def other_value(value: Any, table: str, column: str) -> Any:
    if isinstance(value, int):
        return value + 1
    if value is None:
        return 1 if isinstance(schema.metadata.tables[table].columns[column].type, Integer) else "x"
    swapped = {"A": "B"}.get(value[:1], "A")
    return swapped + value[1:] if value else "x"


def test_what_nobody_touched_is_whole(whole: Path) -> None:
    report = checked(whole.parent)
    assert report.whole, report.findings
    assert (report.leaves > 300, report.checkpoints) == (True, 4)
    assert everything_said(whole.parent) == []
    with closing(sqlite3.connect(whole)) as connection:
        assert [name for name in CHECKED if not rows_of(connection, name)] == [], "a table untested"


EDITS = [(table, column) for table in CHECKED for column in COLUMNS[table] if (table, column) != ("book", "id")]


@pytest.mark.parametrize(("table", "column"), EDITS, ids=lambda value: value)
def test_every_column_of_every_table_that_is_edited_is_named(forge: sqlite3.Connection, tmp_path: Path, table: str, column: str) -> None:
    rows = rows_of(forge, table)
    row = rows[len(rows) // 2]
    value = row[column] + 1_000_000 if column in KEYS[table] and isinstance(row[column], int) else other_value(row[column], table, column)
    sql = f"UPDATE {table} SET {column} = ? WHERE {where(table)}"  # noqa: S608 - names from our own schema
    forge.execute(sql, [value, *key_of(table, row)])
    said = everything_said(tmp_path)
    assert said, (table, column, row[column], value)
    names = {key_text(table, row), key_text(table, row | {column: value})}
    if table in {"tiles", "book"}:
        names |= {"book [1]", "tiles"}
    if (table, column) == ("ledger_accounts", column) and column not in COLUMNS[table][: COVERED[table]]:
        assert any(row["id"] in line for line in said), said  # counters are held against the legs
    elif (table, column) == ("book", "next_entry"):
        assert "next_entry" in said[0]
    elif (table, column) == ("book", "next_leaf"):
        assert said[0].startswith("log [")
    elif (table, column) == ("checkpoints", "size"):
        assert said[0].startswith("checkpoints [")
    else:
        assert any(said[0].startswith(name) for name in names), (names, said[:3])


@pytest.mark.parametrize("table", [name for name in CHECKED if name != "book"])
def test_every_row_that_is_removed_is_named(forge: sqlite3.Connection, tmp_path: Path, table: str) -> None:
    rows = rows_of(forge, table)
    for row in (rows[0], rows[len(rows) // 2]):
        remove(forge, table, row)
        said = everything_said(tmp_path)
        assert said[0].startswith(key_text(table, row)), said[:3]
        put_in(forge, table, row)
    assert everything_said(tmp_path) == [], "put back as it was, everything fits again"


@pytest.mark.parametrize("table", [name for name in CHECKED if name != "book"])
def test_every_row_that_is_put_in_is_named(forge: sqlite3.Connection, tmp_path: Path, table: str) -> None:
    row = rows_of(forge, table)[-1]
    for name in {c.name for c in schema.metadata.tables[table].columns if c.primary_key or not c.nullable} & set(row):
        unique = any(name in {c.name for c in one.columns} for one in schema.metadata.tables[table].constraints if hasattr(one, "columns"))
        if unique and (name not in {"merchant", "leg", "level"} or KEYS[table] == (name,)):
            row[name] = row[name] + 1_000 if isinstance(row[name], int) else f"forged-{row[name]}"
    if table == "entries":
        row["ends"] = None if row["ends"] is None else 999_999
    if "line_address" in row:
        row["line_address"] = None
    put_in(forge, table, row)
    said = everything_said(tmp_path)
    expected = f"postings [{row['entry']},{row['leg']}]" if table == "postings" else key_text(table, row)
    if table == "log":
        expected = "log ["
    assert said[0].startswith(expected), said[:3]


@pytest.mark.parametrize("table", [name for name in CHECKED if name != "book"])
def test_two_rows_that_are_exchanged_are_named(forge: sqlite3.Connection, tmp_path: Path, table: str) -> None:
    """Each stands under the other's key: nothing is missing, nothing is new, only the order is another."""
    rows = rows_of(forge, table)
    rest = [name for name in COLUMNS[table] if name not in KEYS[table]]
    one, others = rows[0], [row for row in rows[1:] if any(row[name] != rows[0][name] for name in rest)]
    if not others:
        pytest.skip("one row has no order, and rows that say the same have none either")
    other = others[-1]
    for row in (one, other):
        remove(forge, table, row)
    for row, key in ((one, other), (other, one)):
        put_in(forge, table, row | {name: key[name] for name in KEYS[table]})
    said = everything_said(tmp_path)
    if table == "ledger_accounts":  # two accounts of one kind differ in their counters only, which are the sums of their legs
        assert one["id"] in said[0] or other["id"] in said[0], said[:3]
    else:
        assert said[0].startswith((key_text(table, one), key_text(table, other))), said[:3]


@pytest.mark.parametrize("table", [name for name in CHECKED if name != "book"])
def test_a_table_whose_end_is_cut_off_is_named(forge: sqlite3.Connection, tmp_path: Path, table: str) -> None:
    rows = rows_of(forge, table)
    cut = rows[-3:]
    for row in cut:
        remove(forge, table, row)
    said = everything_said(tmp_path)
    assert any(said[0].startswith(key_text(table, row)) for row in cut), said[:3]


def test_an_older_version_of_a_row_is_named_with_the_leaf_that_it_comes_from(forge: sqlite3.Connection, tmp_path: Path) -> None:
    (row,) = [row for row in rows_of(forge, "customers") if row["login"] == "kim"]
    forge.execute(
        "UPDATE customers SET version = version - 2, state = ? WHERE id = ?", (row["state"], row["id"])
    )  # as it was two acts before
    (finding, *_) = checked(tmp_path).findings
    assert finding.table == "customers"
    assert finding.what.startswith("as leaf ")


def test_a_volatile_row_may_go(forge: sqlite3.Connection, tmp_path: Path) -> None:
    for table in schema.VOLATILE:
        clear(forge, table)
    assert everything_said(tmp_path) == []


# --- somebody who leaves something behind that acts later -------------------------------------------------------------------------------

LEFT_BEHIND = {
    "halted_never": "CREATE TRIGGER halted_never AFTER UPDATE ON settings WHEN NEW.name = 'halted' AND NEW.value <> '' "
    "BEGIN UPDATE settings SET value = '' WHERE name = 'halted'; END",
    "gift": "CREATE TRIGGER gift AFTER INSERT ON entries BEGIN UPDATE ledger_accounts SET credits_posted = credits_posted + 1; END",
    "customers_too": "CREATE VIEW customers_too AS SELECT * FROM customers",
    "notes": "CREATE TABLE notes (text TEXT)",
    "slow": "CREATE INDEX slow ON messages (payload)",
    "audit_no_update": "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT 1; END",
}


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_somebody_has_put_into_the_book_to_act_later_is_named(whole: Path, tmp_path: Path, name: str) -> None:
    """No row is touched yet: a backup with such a trigger would pass every look at its rows and act once it is restored."""
    shutil.copy(whole, tmp_path / BOOK_FILE)
    with closing(sqlite3.connect(tmp_path / BOOK_FILE, isolation_level=None)) as connection:
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        connection.execute(LEFT_BEHIND[name])
    report = checked(tmp_path)
    assert {finding.key for finding in report.findings} == {name}
    assert report.findings[0].table == "sqlite_schema"


def test_a_guard_that_was_taken_away_is_missed(forge: sqlite3.Connection, tmp_path: Path) -> None:
    assert forge.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (0,)
    with closing(Reader(tmp_path / BOOK_FILE)) as reader:
        missed = {finding.key for finding in log_check.check(reader.connection).findings}
    assert missed == set(ddl.trigger_texts(history=schema.HISTORY, kept=schema.KEPT, guards=GUARDS))


# --- somebody who rewrites the log as well ----------------------------------------------------------------------------------------------


def rewritten(connection: sqlite3.Connection, leaves: list[str]) -> None:
    """The whole log, tiles and frontier, as they would be had these been the leaves from the start."""
    frontier = Frontier()
    for table in ("log", "tiles"):
        clear(connection, table)
    for number, data in enumerate(leaves):
        hashed = leaf_hash(data.encode())
        connection.execute("INSERT INTO log VALUES (?, ?, ?)", (number, ids.encode_base64url(hashed), data))
        for tile in frontier.append(hashed):
            connection.execute("INSERT INTO tiles VALUES (?, ?, ?)", (tile.level, tile.number, ids.encode_base64url(tile.root)))
    connection.execute("UPDATE book SET next_leaf = ?, frontier = ?", (frontier.size, dump_frontier(frontier)))


def _altered_leaf(connection: sqlite3.Connection, *, tree: bool) -> int:
    """Somebody pays himself: the row, its leaf and the leaf's hash are altered; `tree`: and everything above them."""
    leaves = [row["data"] for row in rows_of(connection, "log")]
    (row,) = [row for row in rows_of(connection, "customers") if row["login"] == "kim"]
    altered = row | {"name": "kim the rich"}
    old = ids.encode_base64url(digest("customers", tuple(row.values())))
    new = ids.encode_base64url(digest("customers", tuple(altered.values())))

    def standard(text: str) -> str:
        return text.replace("-", "+").replace("_", "/") + "="

    number = max(number for number, data in enumerate(leaves) if standard(old) in data)
    leaves[number] = leaves[number].replace(standard(old), standard(new))
    connection.execute("UPDATE customers SET name = ? WHERE id = ?", (altered["name"], altered["id"]))
    hashed = ids.encode_base64url(leaf_hash(leaves[number].encode()))
    if tree:
        rewritten(connection, leaves)
    else:
        connection.execute("UPDATE log SET data = ?, hash = ? WHERE leaf = ?", (leaves[number], hashed, number))
    return number


def test_a_leaf_that_was_rewritten_with_its_row_is_found_by_the_tree(forge: sqlite3.Connection, tmp_path: Path) -> None:
    number = _altered_leaf(forge, tree=False)
    report = checked(tmp_path)
    assert not report.whole
    assert f"leaves {number >> 8 << 8} to" in report.findings[0].what or "frontier" in report.findings[0].what


def test_a_tree_that_was_rewritten_is_found_by_what_was_signed_of_it(forge: sqlite3.Connection, tmp_path: Path) -> None:
    _altered_leaf(forge, tree=True)
    report = checked(tmp_path)
    assert {finding.table for finding in report.findings} == {"checkpoints", "sqlite_schema"}, report.findings[:3]


def test_a_restored_old_copy_is_whole_and_found_against_a_newer_checkpoint(whole: Path, tmp_path: Path) -> None:
    old = tmp_path / BOOK_FILE
    create_book(old, "bank", NOW)
    assert checked(tmp_path).whole
    with closing(sqlite3.connect(whole)) as connection:
        newest = rows_of(connection, "checkpoints")[-1]
    report = checked(tmp_path, KnownRoot(newest["size"], newest["root"], "shop.checkpoint"))
    expected = f"shop.checkpoint [{newest['size']}]: signed for {newest['size']} leaves, of which this book has 1"
    assert str(report.findings[0]).startswith(expected)


async def test_an_old_copy_that_went_on_is_found(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await (await world.visit()).pay()
        old = tmp_path / "old.sqlite"
        connection = sqlite3.connect(world.folder / BOOK_FILE)
        connection.execute("VACUUM INTO ?", (str(old),))
        connection.close()
        for _ in range(3):
            await (await world.visit()).pay()
        await world.tick(61)
        held = world.rows("checkpoints")[-1]

        def put_back() -> None:
            for path in world.folder.glob(f"{BOOK_FILE}*"):
                path.unlink()
            shutil.copy(old, world.folder / BOOK_FILE)

        await world.restart(put_back)
        for number in range(20):
            await operations.fund(world.gateway, account=world.hong.accounts["bank"].id, amount=str(100 + number))
        report = checked(world.folder, KnownRoot(held["size"], held["root"], "shop.checkpoint"))
        assert [str(finding) for finding in report.findings] == [
            f"shop.checkpoint [{held['size']}]: signed for other first {held['size']} leaves than this book has"
        ]


# --- a book that is older than its log ------------------------------------------------------------------------------------------------


async def test_a_log_that_was_filled_in_one_go_names_every_row(tmp_path: Path) -> None:
    async with lived(tmp_path) as world:

        def fill() -> None:
            connection = sqlite_file.open_for_writing(world.folder / BOOK_FILE)
            connection.execute("BEGIN IMMEDIATE")
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute("DELETE FROM log")
            connection.execute("DELETE FROM tiles")
            connection.execute("DELETE FROM checkpoints")  # what was signed of the other log
            connection.execute("DELETE FROM settings")
            connection.execute("UPDATE book SET next_leaf = 0, frontier = ''")
            messages = connection.execute("SELECT rowid FROM messages ORDER BY leaf, place").fetchall()
            connection.execute("UPDATE messages SET leaf = -1 - leaf")
            for number, (row,) in enumerate(messages):
                connection.execute("UPDATE messages SET leaf = ?, place = ? WHERE rowid = ?", (number // 500, number % 500, row))
            fill_log(connection)
            for text in ddl.trigger_texts(history=schema.HISTORY, kept=schema.KEPT, guards=GUARDS).values():
                connection.execute(text)
            connection.execute("COMMIT")
            connection.close()

        await world.restart(fill)
        assert (report := checked(world.folder)).whole, report.findings[:3]
        await (await world.visit()).pay()
        assert (report := checked(world.folder)).whole, report.findings[:3]


def test_so_many_findings_are_kept_and_all_are_counted(forge: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_check, "FINDINGS_MAX", 5)
    forge.execute("UPDATE audit SET reason = 'never'")
    report = checked(tmp_path)
    assert len(report.findings) == 5
    assert report.found > 300
