"""An order book of release 1 becomes one of today: every row stays, a copy is kept, and what fails leaves the old file as it was."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel.errors import Unavailable
from hanbit.merchant import book_migration, book_schema
from hanbit.merchant.states import State
from tests.data.release import HERE, load
from tests.unit.merchant.support import Parties

VERSION_1 = HERE / "release-1" / "shop" / "orders.sql"
"""A book that release 1 wrote: orders in each of its states, with their messages."""
UNFINISHED = 9


def old_book(folder: Path) -> Path:
    path = folder / "orders.db"
    load(VERSION_1, path)
    return path


def rows(path: Path, table: str, chosen: str = "*") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {chosen} FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608 - names of this test


def schema(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())


def columns(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA table_info(orders)").fetchall()


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


async def test_every_row_of_a_version_1_book_is_there_after_the_migration(tmp_path: Path) -> None:
    path = old_book(tmp_path)
    kept = ("orders", "journal", "answers", "notices", "headers", "rejected")
    names = ", ".join(str(row[1]) for row in columns(path))
    before = {table: rows(path, table, names if table == "orders" else "*") for table in kept}
    parties = Parties()
    async with parties.open_shop(tmp_path) as shop:
        assert len(await shop.book.unfinished(50)) == UNFINISHED
        with pytest.raises(sqlite3.IntegrityError):
            shop.book._connection.execute("DELETE FROM orders")
    assert {table: rows(path, table, names if table == "orders" else "*") for table in kept} == before
    assert {row[0] for row in rows(path, "orders", "refunded_minor, tid")} == {0}
    assert {row[0] for row in rows(path, "orders", "state, tid")} == set(State) - {State.CANCELLED, State.REQUESTED}


async def test_a_migrated_book_has_the_very_schema_of_a_new_one(tmp_path: Path) -> None:
    parties = Parties()
    new = tmp_path / "new"
    new.mkdir()
    path = old_book(tmp_path)
    for folder in (tmp_path, new):
        async with parties.open_shop(folder):
            pass
    assert schema(path) == schema(new / "orders.db")
    assert rows(path, "legal_steps") == rows(new / "orders.db", "legal_steps")


async def test_the_old_file_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = old_book(tmp_path)
    before = dump(path)
    async with Parties().open_shop(tmp_path):
        pass
    copy = book_migration.kept_copy(path, 1)
    assert dump(copy) == before
    assert copy.stat().st_mode & 0o077 == 0
    assert rows(copy, "pragma_user_version", "*, 1") == [(1, 1)]


@pytest.mark.parametrize("statement", ["CREATE TABLE held", "INSERT INTO orders", "PRAGMA user_version = 2", "COMMIT"])
async def test_a_migration_that_stops_half_way_leaves_the_old_book_and_can_be_done_again(
    tmp_path: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_book(tmp_path)
    before = dump(path)
    migrate = book_migration._migrate

    class Failing:
        """The connection up to one statement."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if statement in sql:
                raise sqlite3.OperationalError("disk I/O error")
            return self._connection.execute(sql, *parameters)

        def __getattr__(self, name: str) -> object:
            return getattr(self._connection, name)

    monkeypatch.setattr(book_migration, "_migrate", lambda connection, version: migrate(Failing(connection), version))  # type: ignore[arg-type]  # what a migration asks of a connection
    with pytest.raises(Unavailable):
        async with Parties().open_shop(tmp_path):
            pass
    assert dump(path) == before
    monkeypatch.undo()
    async with Parties().open_shop(tmp_path) as shop:
        assert len(await shop.book.unfinished(50)) == UNFINISHED


async def test_a_newer_book_is_refused_with_advice_and_left_untouched(tmp_path: Path) -> None:
    path = old_book(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {book_schema.VERSION + 1}")
    before = dump(path)
    with pytest.raises(Unavailable, match="install the release that wrote it"):
        async with Parties().open_shop(tmp_path):
            pass
    assert dump(path) == before
    assert not book_migration.kept_copy(path, book_schema.VERSION + 1).exists()


async def test_what_is_held_is_the_latest_under_its_name(tmp_path: Path) -> None:
    parties = Parties()
    async with parties.open_shop(tmp_path) as shop:
        assert await shop.book.held("checkpoint") is None
        for at in (1, 2):
            await shop.book.hold("checkpoint", f"content {at}", at)
    async with parties.open_shop(tmp_path) as shop:
        held = await shop.book.held("checkpoint")
        assert held is not None
        assert (held.name, held.at, held.content) == ("checkpoint", 2, "content 2")
