"""Picks the SQLite driver and opens files with it: one library a file, WAL only where it cannot corrupt.

SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when two connections write or checkpoint at once (fixed in 3.51.3); with such a
library the book falls back to a rollback journal, slower and safe.
"""

import logging
from pathlib import Path
from typing import Any

try:
    import pysqlite3 as driver
except ImportError:  # no wheel for this machine: the interpreter's own library, behind the same gate
    import sqlite3 as driver

WAL_SAFE_FROM = (3, 51, 3)
BUSY_TIMEOUT_MS = 5_000
WAL_PAGES = 16_000
"""Pages (64 MiB of them) after which the log is moved into the file: a page that changes in every batch is moved once."""
WAL_PAGES_MAX = 4 * WAL_PAGES
"""Where nobody has moved it by then (`log_mover.py`), the commit does."""
CACHE_KIB = 65_536
"""Memory for the writer's pages: with SQLite's usual 2 MiB a batch of a large book reads its own indexes again and again."""
_STATEMENTS_KEPT = 512

DRIVER: Any = driver
"""The module itself, for whoever opens its connections through SQLAlchemy."""
Connection = Any
"""A DB-API connection of whichever driver was picked (two packages, one interface)."""
IntegrityError: type[Exception] = driver.IntegrityError
DatabaseError: type[Exception] = driver.DatabaseError


def library_version() -> tuple[int, ...]:
    """The version of the SQLite library in use."""
    return tuple(int(part) for part in driver.sqlite_version.split("."))


def wal_is_safe() -> bool:
    """Whether this library may keep the book in WAL mode."""
    return library_version() >= WAL_SAFE_FROM


def open_for_writing(path: Path) -> Connection:
    """The one connection that writes and checkpoints; every commit is on the disk when it returns (synchronous=FULL)."""
    connection = driver.connect(
        str(path), isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS_KEPT, timeout=BUSY_TIMEOUT_MS / 1000
    )
    if wal_is_safe():
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
    else:
        logging.getLogger("hanbit").warning("SQLite %s: WAL is not safe below 3.51.3, using a rollback journal", driver.sqlite_version)
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")  # else REPLACE would remove a row of history unseen by its trigger
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def open_for_reading(path: Path) -> Connection:
    """A connection that cannot write; each statement sees the last commit."""
    connection = driver.connect(
        f"file:{path}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_KEPT,
        timeout=BUSY_TIMEOUT_MS / 1000,
    )
    connection.row_factory = driver.Row
    connection.execute("PRAGMA query_only = ON")
    return connection


def open_scratch() -> Connection:
    """A database of one's own for sorting more than memory holds; a nameless file that is gone when it is closed."""
    connection = driver.connect("", isolation_level=None, cached_statements=_STATEMENTS_KEPT)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    return connection
