"""The write-ahead log goes into the file beside the writer, and is begun anew however many commits follow one another."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanbit.db import log_mover, sqlite_file
from hanbit.db.change import Change, Put
from hanbit.db.sqlite import BOOK_FILE, SqliteStore
from tests.unit.db.books import NOW, Desk, note, notes, open_book, prove, write

PAGES = 100
COMMITS = 1500
pytestmark = pytest.mark.skipif(not sqlite_file.wal_is_safe(), reason="this SQLite keeps the book without a write-ahead log")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(log_mover, "LOOK_EVERY", 16)
    monkeypatch.setattr(sqlite_file, "WAL_PAGES", PAGES)
    desk = open_book(tmp_path)
    yield desk
    desk.close()


def commit(store: Desk, number: int) -> None:
    assert write(store, Change(puts=(Put("settings", {"name": f"{number}", "value": "x" * 4000}, 0),), appends=(note(f"{number}"),))) == [
        ""
    ]


def log_pages(store: Desk) -> tuple[int, int]:
    assert isinstance(store.store, SqliteStore)
    _, pages, moved = store.store._connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    return pages, moved


def test_the_log_does_not_grow_under_commits_that_never_pause(store: Desk, tmp_path: Path) -> None:
    changes = [Change(puts=(Put("settings", {"name": f"{number}", "value": "x" * 4000}, 0),)) for number in range(COMMITS)]
    for change in changes:
        assert store.write_batch([change], NOW) == [None]
    log, book = tmp_path / f"{BOOK_FILE}-wal", tmp_path / BOOK_FILE
    assert book.stat().st_size > 4096 * COMMITS // 2, "most of it stands in the file itself"
    assert log.stat().st_size < book.stat().st_size, "and the log was begun anew"
    prove(store)


def test_the_writer_moves_what_came_while_the_log_was_moved(store: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a writer whose next transaction is always open already would never find a log that may be begun anew."""
    monkeypatch.setattr(sqlite_file, "WAL_PAGES", 1)
    monkeypatch.setattr(log_mover, "LOOK_EVERY", 1)
    commit(store, 1)
    assert isinstance(store.store, SqliteStore)
    assert store.store._mover is not None
    assert store.store._mover._moving is not None
    assert store.store._mover._moving.result()
    commit(store, 2)
    pages, moved = log_pages(store)
    assert pages == moved > 0


def test_commits_are_good_while_the_log_cannot_be_moved(
    store: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Path) -> None:
        raise sqlite_file.DatabaseError("disk I/O error")

    with monkeypatch.context() as trouble:
        trouble.setattr(sqlite_file, "open_for_writing", broken)
        for number in range(COMMITS):
            commit(store, number)
    assert "could not be moved" in caplog.text
    for number in range(COMMITS, 2 * COMMITS):
        commit(store, number)
    assert log_pages(store)[0] < COMMITS, "moved as soon as it can be"
    assert len(notes(store)) == 2 * COMMITS
    prove(store)


ENDLESS = """
import sys
from pathlib import Path
from hanbit.db import log_mover, sqlite_file
from tests.unit.db import test_log_mover as here
sqlite_file.WAL_PAGES, log_mover.LOOK_EVERY = 50, 16
desk = here.open_book(Path(sys.argv[1]))
for number in range(1_000_000):
    here.commit(desk, number)
    print(number, flush=True)
"""


@pytest.mark.processes
@pytest.mark.parametrize("commits", [97, 311, 523])
def test_killed_while_the_log_is_moved_the_book_has_every_commit_that_was_acknowledged(tmp_path: Path, commits: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        acknowledged = {str(int(child.stdout.readline())) for _ in range(commits)}
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    store = Desk(tmp_path / BOOK_FILE, SqliteStore(tmp_path / BOOK_FILE))
    try:
        assert acknowledged <= notes(store)
        commit(store, -1)
        prove(store)
    finally:
        store.close()
