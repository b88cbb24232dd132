"""Brings an order book to the version that this program knows: whole in one transaction, and never without a copy of the old file."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from hanbit.kernel.errors import Unavailable
from hanbit.merchant import book_schema


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new book, or migrate an old one; Unavailable, with the file untouched, where it is newer than this program.

    The caller holds the book's lock and has not switched foreign keys on: a table that others refer to is made anew.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        book_schema.create(connection)
        return
    if version > book_schema.VERSION or version not in (*_STEPS, book_schema.VERSION):
        raise Unavailable(
            f"the order book {path} has schema {version}, this program knows {book_schema.VERSION}; "
            "install the release that wrote it, or a newer one"
        )
    if version < book_schema.VERSION:
        _copy(connection, kept_copy(path, version))
        _migrate(connection, version)


def kept_copy(path: Path, version: int) -> Path:
    """Where the book as it was before its migration from this version is kept."""
    return path.with_name(f"{path.name}.version-{version}")


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    """A whole and durable copy, or none: what an interrupted one left is written over."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    for leftover in (unfinished, unfinished.with_name(f"{unfinished.name}-journal")):
        leftover.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with closing(sqlite3.connect(unfinished)) as copy:
            connection.backup(copy)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(version, book_schema.VERSION):
            _STEPS[step](connection)
        _check_references(connection)
        connection.execute(f"PRAGMA user_version = {book_schema.VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _check_references(connection: sqlite3.Connection) -> None:
    broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        raise Unavailable(f"the order book was not migrated: a row of {broken[0]} refers to nothing; keep the file and ask for help")


def _to_2(connection: sqlite3.Connection) -> None:
    """Cancellations: orders know what was refunded and that they were struck. A CHECK cannot be altered, so the table is made anew."""
    columns = ", ".join(row[1] for row in connection.execute("PRAGMA table_info(orders)"))
    # Its name stays free for the new table, and what refers to `orders` refers to the new one: no reference is rewritten.
    connection.execute("PRAGMA legacy_alter_table = ON")
    for kind, name in connection.execute(
        "SELECT type, name FROM sqlite_master WHERE tbl_name = 'orders' AND type IN ('trigger', 'index') AND sql IS NOT NULL"
    ).fetchall():
        connection.execute(f"DROP {kind} {name}")
    connection.execute("ALTER TABLE orders RENAME TO orders_of_version_1")
    _run(connection, book_schema.ORDERS)
    connection.execute(f"INSERT INTO orders ({columns}) SELECT {columns} FROM orders_of_version_1 ORDER BY rowid")  # noqa: S608 - the book's own column names
    connection.execute("DROP TABLE orders_of_version_1")
    connection.execute("PRAGMA legacy_alter_table = OFF")
    _run(connection, book_schema.ADDED_IN_2)
    _run(connection, book_schema.TRIGGERS)
    book_schema.write_steps(connection)


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Statement by statement: `executescript` would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


_STEPS: Final[dict[int, Callable[[sqlite3.Connection], None]]] = {1: _to_2}
"""From each version to the next."""
