"""A header segment is written once, and never taken for written before it is on the disk."""

from pathlib import Path

import pytest

from hanbit.db import sqlite, sqlite_file
from hanbit.db.change import Change, StoredMessage
from hanbit.kernel import fail_points
from tests.unit.db.books import open_book, rows, write

KEPT = "SELECT m.hash, h.segment FROM messages m JOIN headers h ON h.id = m.header ORDER BY m.leaf"


def kept(number: str, header: str = "header", jti: str = "") -> Change:
    return Change(messages=(StoredMessage(number, "hanbit-order", header, "{}", "sig", "urn:a", jti or number, "shop", "tid"),))


def test_a_header_of_a_batch_that_was_rolled_back_is_written_with_the_next(tmp_path: Path) -> None:
    store = open_book(tmp_path)
    assert write(store, kept("first", "old", jti="used")) == [""]
    assert write(store, kept("second", "new", jti="used")) == ["jti"]  # turned away by the database, after its header was written
    assert write(store, kept("third", "new")) == [""]
    assert rows(store, KEPT) == [("first", "old"), ("third", "new")]


def test_a_header_of_a_commit_that_failed_is_written_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_book(tmp_path)

    def no_space(_name: str) -> None:
        raise sqlite_file.DatabaseError("disk full")

    with monkeypatch.context() as full:
        full.setattr(fail_points, "reach", no_space)
        assert write(store, kept("first")) == ["unavailable"]
    assert write(store, kept("first"), kept("second")) == ["", ""]
    assert write(store, kept("third")) == [""]
    assert rows(store, KEPT) == [("first", "header"), ("second", "header"), ("third", "header")]


def test_headers_that_were_forgotten_are_offered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_HEADERS_KNOWN_MAX", 1)
    store = open_book(tmp_path)
    for number, header in enumerate(("a", "b", "a", "b", "c", "a")):
        assert write(store, kept(str(number), header)) == [""]
    assert [segment for _, segment in rows(store, KEPT)] == ["a", "b", "a", "b", "c", "a"]
