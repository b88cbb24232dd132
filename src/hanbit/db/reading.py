"""Reads for pages and decisions' first looks: indexed point reads inline, on a connection that cannot write.

A statement is written once for both engines: `?` for a value, words that both know, rows by name, index and iteration.
"""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from hanbit.db import place, rows, sqlite_file
from hanbit.db.rows import Connection
from hanbit.kernel.errors import Unavailable

Row = rows.Row
"""A row by column name, by index and in order."""
_log = logging.getLogger("hanbit.book")


def columns(table: str, kind: type[msgspec.Struct]) -> str:
    """The columns of a table that this kind of value is made of, in its order: a row is then its arguments."""
    return ", ".join(f"{table}.{name}" for name in kind.__struct_fields__)


class Reader:
    """Committed rows of the book; what decides is checked again under the book lock."""

    def __init__(self, book: place.Place, *, patient: bool = False) -> None:
        self._book = book
        self._connection: Connection = place.open_for_reading(book, patient=patient)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scan")
        self._scanning: Connection = None

    def one(self, sql: str, *values: str | int | None) -> Row | None:
        """The first row of an indexed point read, or None."""
        try:
            return self._connection.execute(sql, values).fetchone()
        except sqlite_file.DatabaseError as error:
            raise _unreadable(error) from error

    def all(self, sql: str, *values: str | int | None) -> list[Row]:
        """All rows of a read that an index and a LIMIT keep short."""
        try:
            return list(self._connection.execute(sql, values))
        except sqlite_file.DatabaseError as error:
            raise _unreadable(error) from error

    async def scan(self, sql: str, *values: str | int | None) -> list[Row]:
        """All rows of a long read, in a thread with a connection of its own."""

        def run() -> list[Row]:
            if self._scanning is None:
                self._scanning = place.open_for_reading(self._book, patient=True)
            try:
                return list(self._scanning.execute(sql, values))
            except sqlite_file.DatabaseError as error:
                raise _unreadable(error) from error
            except Unavailable:
                self._scanning.close()
                self._scanning = None
                raise

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    @property
    def connection(self) -> Connection:
        """The connection itself; each statement sees the last commit, or what `snapshot` holds still."""
        return self._connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Hold the book still, for whoever holds one row against another: a server may be writing meanwhile.

        Nothing may give the loop back in between: the pages' reads go over the same connection.
        """
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        finally:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close both connections."""
        self._thread.shutdown()
        if self._scanning is not None:
            self._scanning.close()
        self._connection.close()


def _unreadable(error: Exception) -> Unavailable:
    """The disk or the file is broken; whoever asks may come again, and the background goes on trying."""
    _log.error("the book cannot be read: %s", error)
    return Unavailable("the book cannot be read")
