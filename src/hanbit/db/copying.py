"""Copies the book while it is written to, one consistent snapshot, in the process that holds it.

In that process and by the same SQLite library, because two libraries on one file, or two connections that write or checkpoint, are how a
WAL is corrupted (see `sqlite_file`). The copying connection only reads: it begins a read transaction, which fixes the snapshot, and hands
its pages to SQLite's backup API; commits go on beside it and do not make it begin again. Until it ends, what is committed stays in the WAL.
Without WAL a reader keeps the writer waiting: the copy is then made in one go, and is a matter for quiet hours.
"""

import logging
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from hanbit.db import sqlite_file
from hanbit.db.place import Place
from hanbit.kernel.errors import Conflict, HanbitError, Unavailable

FOLDER = "copying"
"""In the data folder: what a copy lies in until it is packed."""
PAGES_A_STEP = 256
PAUSE_S = 0.002
"""Between two steps: payments have the disk first."""
RESERVE_BYTES = 256 << 20
"""What must stay free beside a copy: a full disk stops every payment."""

_log = logging.getLogger("hanbit.book")


@dataclass(slots=True)
class Progress:
    """How far the copy is."""

    pages: int = 0
    left: int = 0
    done: bool = False
    error: str = ""


class Copier:
    """One copy at a time, in a thread of its own."""

    def __init__(self, book: Place) -> None:
        self._place = book
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.progress = Progress()

    @property
    def _book(self) -> Path:
        if not isinstance(self._place, Path):
            raise Conflict("the book is in a database, which has backups of its own: see docs/operating.md")
        return self._place

    @property
    def target(self) -> Path:
        """Where the copy is made."""
        return self._book.parent / FOLDER / self._book.name

    def start(self) -> None:
        """Begin a copy; Conflict while another is made or where the book is no file, Unavailable if the disk has no room for it."""
        if self._thread is not None and self._thread.is_alive():
            raise Conflict("a copy of the book is being made already")
        need_room(self._book.parent, size_of(self._book))
        clear(self.target.parent)
        self.target.parent.mkdir(mode=0o700)
        self.progress = Progress()
        self._thread = threading.Thread(target=self._run, name="copy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up what is being copied."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        progress = self.progress
        try:
            copy(self._book, self.target, progress, self._stop)
        except (HanbitError, sqlite_file.DatabaseError, OSError) as error:
            progress.error = str(error) or type(error).__name__
            _log.warning("book_not_copied", extra={"reason": progress.error})
            clear(self.target.parent)
        finally:
            progress.done = True


def copy(book: Path, target: Path, progress: Progress, stop: threading.Event) -> None:
    """Copy the book as it stands now to a new file, and make that durable."""
    source = sqlite_file.open_for_reading(book)
    made = sqlite_file.DRIVER.connect(str(target), isolation_level=None)
    try:
        target.chmod(0o600)
        made.execute("PRAGMA journal_mode = OFF")  # nobody needs half a copy back
        made.execute("PRAGMA synchronous = OFF")  # it is made durable once, at its end
        source.execute("BEGIN")
        source.execute("SELECT 1 FROM book").fetchone()

        def step(_status: int, left: int, pages: int) -> None:
            progress.left, progress.pages = left, pages
            if stop.wait(PAUSE_S):
                raise Unavailable("the server is stopping")

        source.backup(made, pages=PAGES_A_STEP if sqlite_file.wal_is_safe() else -1, progress=step)
    finally:
        made.close()
        source.close()
    with target.open("rb") as file:
        os.fsync(file.fileno())


def clear(folder: Path) -> None:
    """Remove what a copy that nobody fetched has left."""
    shutil.rmtree(folder, ignore_errors=True)


def size_of(book: Path) -> int:
    """Bytes that a copy may take: the file and what its log will add."""
    log = book.with_name(f"{book.name}-wal")
    return book.stat().st_size + (log.stat().st_size if log.exists() else 0)


def need_room(folder: Path, size: int) -> None:
    """Unavailable if so many bytes would leave the disk too full for payments."""
    free = shutil.disk_usage(folder).free
    if free < size + RESERVE_BYTES:
        raise Unavailable(f"{folder} has {free >> 20} MiB free, {(size + RESERVE_BYTES) >> 20} are needed")
