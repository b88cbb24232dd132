"""A copy of the book is one moment of it, whatever is written meanwhile; one at a time, and never so large that no room is left."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hanbit.db import copying, sqlite, sqlite_file
from hanbit.db.copying import Copier, Progress
from hanbit.kernel.errors import Conflict, Unavailable

ROWS = 3_000


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Some hundred pages: more than one step of a copy."""
    path = tmp_path / "book.sqlite"
    sqlite.create_book(path, "bank", 1)
    with closing(sqlite_file.open_for_writing(path)) as connection:
        connection.execute("BEGIN")
        for number in range(ROWS):
            connection.execute("INSERT INTO audit VALUES (?, 1, 'a', ?, 'r', NULL, NULL)", (f"row-{number:06}", "x" * 500))
        connection.execute("COMMIT")
    return path


@pytest.fixture
def copier(book: Path) -> Iterator[Copier]:
    made = Copier(book)
    yield made
    made.stop()


def count(path: Path) -> int:
    with closing(sqlite_file.open_for_reading(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return int(connection.execute("SELECT count(*) FROM audit").fetchone()[0])


def test_a_copy_is_the_moment_at_which_it_began(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is committed at each step: none of them is in the copy, all of them are in the book, and the copy never begins again."""
    monkeypatch.setattr(copying, "PAGES_A_STEP", 16)
    left: list[int] = []
    with closing(sqlite_file.open_for_writing(book)) as writer:

        class Writing(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                writer.execute("INSERT INTO audit VALUES (?, 1, 'a', 'b', 'r', NULL, NULL)", (f"new-{len(left)}",))
                left.append(progress.left)
                return False

        progress = Progress()
        copying.copy(book, tmp_path / "copy", progress, Writing())
    assert left == sorted(left, reverse=True)
    assert len(left) > 10
    assert (count(tmp_path / "copy"), count(book)) == (ROWS, ROWS + len(left))
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_one_copy_at_a_time_and_none_is_left_when_the_server_stops(copier: Copier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGES_A_STEP", 1)
    monkeypatch.setattr(copying, "PAUSE_S", 0.01)
    copier.start()
    with pytest.raises(Conflict):
        copier.start()
    copier.stop()
    assert copier.progress.done
    assert "stopping" in copier.progress.error
    assert not copier.target.parent.exists()


def test_a_copy_that_would_fill_the_disk_is_not_begun(copier: Copier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(Unavailable, match="MiB free"):
        copier.start()
    assert not copier.target.parent.exists()


def test_a_copy_of_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "book.sqlite").write_bytes(b"no book" * 999)
    copier = Copier(tmp_path / "book.sqlite")
    copier.start()
    assert copier._thread is not None
    copier._thread.join()
    assert "not a database" in copier.progress.error
    assert not copier.target.parent.exists()
