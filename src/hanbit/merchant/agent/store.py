"""The agent's own file, agent.db: which request was answered how, and which call-back went where; apart from the order book.

What queued while the last commit was on its way goes into the next transaction; each piece of work stands or falls by itself
(a savepoint). As in the order book, statements run where the loop runs and only COMMIT, which waits for the disk, in a thread.
"""

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from hanbit.kernel.errors import HanbitError, Unavailable

FILE: Final = "agent.db"
VERSION: Final = 1
QUEUE_MAX: Final = 10_000
"""Pieces of work that may wait for a commit; one more is told to come again."""
BATCH_MAX: Final = 256

SCHEMA: Final = """
-- A write of the shop: first that it runs, then what was answered. `work` names the act itself (the order book's request key).
CREATE TABLE requests (
    key         TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL CHECK (length(fingerprint) = 43),
    work        TEXT NOT NULL CHECK (length(work) = 22),
    at          INTEGER NOT NULL,
    status      INTEGER,
    location    TEXT,
    body        BLOB,
    CHECK ((status IS NULL) = (body IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (at);

CREATE TABLE endpoints (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL CHECK (sequence >= 0)) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    number     INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    endpoint   TEXT NOT NULL REFERENCES endpoints (name),
    sequence   INTEGER NOT NULL,
    type       TEXT NOT NULL,
    subject    TEXT NOT NULL,            -- what happened once: a tid, a cancellation, a test
    tid        TEXT,
    body       BLOB NOT NULL,            -- these bytes go out each time
    created_at INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'given_up')),
    tries      INTEGER NOT NULL,         -- since it was put or resent
    next_at    INTEGER,
    CHECK ((state = 'waiting') = (next_at IS NOT NULL)),
    UNIQUE (endpoint, type, subject),
    UNIQUE (endpoint, sequence)
) STRICT;
CREATE INDEX deliveries_waiting ON deliveries (endpoint, next_at) WHERE state = 'waiting';
CREATE INDEX deliveries_before ON deliveries (endpoint, tid, sequence) WHERE state = 'waiting';
CREATE INDEX deliveries_of_a_tid ON deliveries (tid) WHERE tid IS NOT NULL;
CREATE INDEX deliveries_by_age ON deliveries (created_at) WHERE state <> 'waiting';

CREATE TABLE attempts (
    number      INTEGER PRIMARY KEY,
    delivery    INTEGER NOT NULL REFERENCES deliveries (number) ON DELETE CASCADE,
    at          INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status      INTEGER,
    error       TEXT,
    CHECK ((status IS NULL) <> (error IS NULL))
) STRICT;
CREATE INDEX attempts_of_a_delivery ON attempts (delivery, number);
"""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Store:
    """One connection; the order book's lock keeps a second agent away from the folder. All methods belong to one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = _connect(path)
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="hanbit-agent")
        self._waiting: deque[tuple[Work[Any], asyncio.Future[Any]]] = deque()
        self._turn = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        """Finish what is queued, then let go of the file."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            await self._writer
        async with self._turn:
            if self._opened is not None:
                self._opened.close()
        self._committer.shutdown()

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction; durable when this returns. A HanbitError of its own takes back what it did and nothing else."""
        if self._closed:
            raise Unavailable("the agent stops")
        if len(self._waiting) >= QUEUE_MAX:
            raise Unavailable("too many changes wait for the agent's file")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await done

    async def read(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query, as of the last commit."""
        async with self._turn:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise Unavailable("the agent's file could not be read") from error

    async def _write(self) -> None:
        while self._waiting:
            async with self._turn:
                entries = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
                try:
                    results = self._run([work for work, _ in entries])
                    await asyncio.get_running_loop().run_in_executor(self._committer, self._commit_now)
                except Exception as error:  # noqa: BLE001 - whatever broke, every waiting caller is answered and the file is read anew
                    results = [_unavailable(error)] * len(entries)
                    self._start_over()
            for (_, done), result in zip(entries, results, strict=True):
                if done.cancelled():
                    continue
                if isinstance(result, Exception):
                    done.set_exception(result)
                else:
                    done.set_result(result)

    def _run(self, batch: list[Work[Any]]) -> list[Any]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        results: list[Any] = []
        for work in batch:
            connection.execute("SAVEPOINT piece")
            try:
                results.append(work(connection))
            except (HanbitError, sqlite3.IntegrityError) as turned_away:
                connection.execute("ROLLBACK TO piece")
                results.append(turned_away)
            connection.execute("RELEASE piece")
        return results

    def _commit_now(self) -> None:
        self._connection.execute("COMMIT")

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = _connect(self._path)
        return self._opened

    def _start_over(self) -> None:
        """After a failed write or fsync what SQLite's memory says is worth nothing."""
        broken, self._opened = self._opened, None
        if broken is not None:
            for last in (broken.rollback, broken.close):
                with suppress(sqlite3.Error):
                    last()


def _unavailable(error: Exception) -> Unavailable:
    unavailable = error if isinstance(error, Unavailable) else Unavailable("the agent's file could not be written")
    if unavailable is not error:
        unavailable.__cause__ = error
    return unavailable


def _connect(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its journal the same mode
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE;\n{SCHEMA}\nPRAGMA user_version = {VERSION};\nCOMMIT;")
        elif version != VERSION:
            connection.close()
            raise Unavailable(f"{path} has schema {version}, this program knows {VERSION}")
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"{path} could not be opened") from error
    return connection
