"""The order book's file, which one process owns, and the shapes in which its rows are read."""

import fcntl
import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from hanbit.kernel.errors import Unavailable
from hanbit.merchant import book_migration
from hanbit.merchant.order import Order
from hanbit.merchant.states import State
from hanbit.protocols.redirect.merchant import Exchange

_WAL_PAGES: Final = 4_000
"""Pages (16 MiB of them) after which a commit also moves the log into the file."""
_HOLDER_MAX: Final = 200
_PROGRAM_MAX: Final = 100


class BookHeld(Unavailable):
    """Another process has the order book open; its name stands in the detail."""

    advice = "Stop that process, or let it do the work: a running shop takes commands through `control` in its folder."


@dataclass(frozen=True, slots=True)
class Known:
    """What the book holds about bytes that just came in."""

    answer: str | None
    """The stored answer to these very bytes."""
    order: Order | None
    exchange: Exchange | None


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A stored message with its exact bytes."""

    number: int
    at: int
    tid: str | None
    direction: str
    typ: str
    hash: str
    compact: str


@dataclass(frozen=True, slots=True)
class Held:
    """What the shop holds under a name, the latest of its kind."""

    name: str
    at: int
    content: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an order and, where a message made it, that message's hash."""

    version: int
    event: str
    state: State
    message: str | None
    at: int


def take_lock(path: Path) -> TextIO:
    """The lock beside the book; Unavailable, naming the process that has it, while another one holds it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = path.with_suffix(".lock").open("a+", encoding="utf-8", errors="replace")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        descriptor.seek(0)
        holder = descriptor.read(_HOLDER_MAX).strip() or "unknown"
        descriptor.close()
        raise BookHeld(f"another process ({holder}) has the order book {path} open") from error
    # For whoever is turned away; only the lock itself means anything.
    descriptor.truncate(0)
    descriptor.write(f"pid {os.getpid()}, {Path(sys.argv[0] or sys.executable).name[:_PROGRAM_MAX]}\n")
    descriptor.flush()
    return descriptor


def connect(path: Path) -> sqlite3.Connection:
    """The one connection to the book, made or migrated as it needs."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its journal the same mode
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5, cached_statements=256)
    # A log costs a commit one fdatasync, a rollback journal four. Libraries before 3.51.3 can spoil a log that two connections write or
    # checkpoint at once: this file has one connection, by its lock and by this one, in whichever process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -65536")  # 64 MiB: the hot leaves of five indexes
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA secure_delete = ON")  # an envelope that was dropped is gone from the file too
    try:
        book_migration.prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def forget(connection: sqlite3.Connection) -> None:
    """Move the log into the file and cut it: until then it holds pages as they were, with what has been dropped from them since."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
