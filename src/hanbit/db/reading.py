"""Reads for pages and decisions' first looks: indexed point reads inline, on a connection that cannot write."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hanbit.db import sqlite_file
from hanbit.kernel.errors import Unavailable

Row = Any
"""A row by column name."""
_log = logging.getLogger("hanbit.book")


def columns(table: str, kind: type[msgspec.Struct]) -> str:
    """The columns of a table that this kind of value is made of, in its order: a row is then its arguments."""
    return ", ".join(f"{table}.{name}" for name in kind.__struct_fields__)


class Reader:
    """Committed rows of the book; what decides is checked again under the book lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite_file.open_for_reading(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scan")
        self._scanning: sqlite_file.Connection = None

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
                self._scanning = sqlite_file.open_for_reading(self._path)
            try:
                return list(self._scanning.execute(sql, values))
            except sqlite_file.DatabaseError as error:
                raise _unreadable(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    @property
    def connection(self) -> sqlite_file.Connection:
        """The connection itself; each statement sees the last commit, or what `snapshot` holds still."""
        return self._connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite_file.Connection]:
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
