"""Moves SQLite's write-ahead log into the file beside the writer, so that no commit waits for some tens of megabytes of other commits.

SQLite moves the log within the commit that makes it long enough, and everybody who queues behind that commit waits too. Here another
connection moves it in a thread of its own; whatever was committed meanwhile, a few pages, the writer moves itself between two batches.
Only then is the log begun anew: it does not grow for ever under load that never pauses.
"""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from hanbit.db import sqlite_file

LOOK_EVERY = 256
"""Changes between two looks at the log's length; each writes some ten pages, one that is committed alone some forty."""
_log = logging.getLogger("hanbit.book")


class LogMover:
    """One thread and one connection, opened when there is something to look at; told of each commit by the writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite_file.Connection = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log")
        self._moving: Future[bool] | None = None
        self._changes = 0

    def committed(self, changes: int) -> bool:
        """So many more Changes are durable; whether the log has been moved since the last one, so that the writer is to move the rest."""
        if self._moving is not None:
            if not self._moving.done():
                return False
            moved, self._moving = self._moving.result(), None
            return moved
        self._changes += changes
        if self._changes >= LOOK_EVERY:
            self._changes = 0
            self._moving = self._thread.submit(self._move)
        return False

    def _move(self) -> bool:
        """Move what is in the log by now, if it is long enough; nobody waits for it but the disk."""
        try:
            if self._connection is None:
                self._connection = sqlite_file.open_for_writing(self._path)
            _, pages, moved = self._connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
            if pages - moved < sqlite_file.WAL_PAGES:
                return False
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite_file.DatabaseError as error:  # the commits go on; SQLite itself moves the log where it grows too long
            _log.warning("the book's log could not be moved into its file: %s", error)
            return False
        return True

    def close(self) -> None:
        """Wait for what is being moved, and close."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()
