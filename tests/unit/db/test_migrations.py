"""Every way to today's schema ends in the same book, and a migration happens whole or not at all."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hanbit.db import migrations, schema, sqlite
from hanbit.db.covered import PORTION
from hanbit.kernel.errors import BadInput
from tests.data.release import unpack


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The book of the previous release."""
    return unpack(1, tmp_path / "release").gateway / "book.sqlite"


def shape(book: Path) -> tuple[Any, ...]:
    """Every statement that made the book, and what SQLite makes of them."""
    with closing(sqlite3.connect(book)) as connection:
        texts = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
        tables = sorted(connection.execute("PRAGMA table_list").fetchall())
        return (*texts, *tables, *(connection.execute(f"PRAGMA table_xinfo('{table[1]}')").fetchall() for table in tables))


def rows(book: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(book)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608 - our own names


def test_every_way_ends_in_the_same_tables_to_the_letter(old: Path, tmp_path: Path) -> None:
    """STRICT, WITHOUT ROWID, bounds, indexes and triggers: of a fresh book, of one made from nothing by the revisions, of an old one."""
    sqlite.create_book(tmp_path / "fresh", "bank", 1)
    migrations.migrate(tmp_path / "nothing")
    migrations.migrate(old)
    assert shape(old) == shape(tmp_path / "fresh") == shape(tmp_path / "nothing")
    assert migrations.version(old) == schema.SCHEMA_VERSION


def test_what_was_there_is_there_unchanged(old: Path) -> None:
    before = {table: rows(old, table) for table in ("entries", "postings", "payments", "attempts", "merchants", "certificates", "messages")}
    ((operator, next_entry, time),) = [(row["operator"], row["next_entry"], row["time"]) for row in rows(old, "book")]
    migrations.migrate(old)
    for table, known in before.items():
        now = rows(old, table)
        assert len(now) == len(known) > 0
        for one, other in zip(known, now, strict=True):
            assert {name: value for name, value in other.items() if name in one and name != "leaf"} == {
                name: value for name, value in one.items() if name != "leaf"
            }
    assert [row["leaf"] * PORTION + row["place"] for row in rows(old, "messages")] == [row["leaf"] for row in before["messages"]]
    (book,) = rows(old, "book")
    assert (book["operator"], book["next_entry"], book["time"]) == (operator, next_entry, time)
    assert {row["line_mode"] for row in rows(old, "merchants")} == {"vpn"}


def test_every_old_row_gets_its_leaf(old: Path) -> None:
    """The log of a migrated book names every row that it covers, so that an edit of the past is found like one of today."""
    migrations.migrate(old)
    (book,) = rows(old, "book")
    assert book["next_leaf"] == len(rows(old, "log")) > 0
    assert book["frontier"]


def test_a_book_with_many_messages_finds_each_where_its_leaf_names_it(old: Path) -> None:
    """More than one leaf holds: the last of one, the first of the next."""
    with closing(sqlite3.connect(old)) as connection, connection:
        (known,) = connection.execute("SELECT count(*) FROM messages").fetchone()
        more = PORTION * 2 + 1 - known
        connection.execute(
            "WITH RECURSIVE n(x) AS (SELECT ? UNION ALL SELECT x + 1 FROM n WHERE x + 1 < ?) "
            "INSERT INTO messages SELECT x, 'hash' || x, 'typ', 'header', 'payload', 'signature', 'iss', 'jti' || x, '', '', 1 FROM n",
            (known, known + more),
        )
        connection.execute("UPDATE book SET next_leaf = ?", (known + more,))
    migrations.migrate(old)
    messages = rows(old, "messages")
    assert [(row["leaf"], row["place"]) for row in messages] == [divmod(number, PORTION) for number in range(PORTION * 2 + 1)]
    leaves = [json.loads(row["data"]) for row in rows(old, "log")]
    named = [tuple(item[1]) for leaf in leaves for item in leaf[2] if item[0] == "messages"]
    assert named == [(row["leaf"], row["place"]) for row in messages]
    assert [sum(item[0] == "messages" for item in leaf[2]) for leaf in leaves[:4]] == [PORTION, PORTION, 1, 0]


def test_a_migration_that_fails_leaves_the_old_book(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step of all fails; of the first nothing is there."""
    before, was = shape(old), rows(old, "messages")

    def broken(_connection: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(migrations, "fill_log", broken)
    with pytest.raises(OSError, match="disk full"):
        migrations.migrate(old)
    assert (shape(old), rows(old, "messages"), migrations.version(old)) == (before, was, 1)


def test_a_migrated_book_is_left_alone(old: Path, tmp_path: Path) -> None:
    migrations.migrate(old)
    shutil.copy(old, tmp_path / "copy")
    migrations.migrate(old)
    assert shape(old) == shape(tmp_path / "copy")
    assert rows(old, "log") == rows(tmp_path / "copy", "log")


@pytest.mark.parametrize("content", [b"", b"no book" * 999])
def test_a_file_that_is_no_book_has_no_version(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "book").write_bytes(content)
    with pytest.raises(BadInput):
        migrations.version(tmp_path / "book")
