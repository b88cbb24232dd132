"""A disk that is full, fails at a commit or takes no writes, at each durable step: a clear no, and then the same bytes pay."""

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from hanbit.db import sqlite_file
from hanbit.kernel import fail_points, ids
from hanbit.kernel.errors import Unavailable, WrongState
from hanbit.merchant import book_file
from hanbit.wallet.client import GatewayRefused
from tests import engine
from tests.flows.crash_child import in_child
from tests.flows.crash_proof import agreed, is_final, pays_again, proven, same_bytes_same_answer
from tests.flows.crash_scenarios import let_it_end
from tests.flows.crash_world import Memo, Parties, make_folder_now, parties
from tests.world import sqlite_store

pytestmark = pytest.mark.skipif(engine.is_postgresql(), reason="SQLite's own disk; what happens to a database is in test_database_faults")
COMMITS = 6
"""More than either side makes for one payment; a run in which the trouble never comes is simply a payment."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of which each accident gets a copy."""
    folder = tmp_path_factory.mktemp("prepared")
    make_folder_now(folder)
    return folder


class Trouble:
    """Something that is wrong with the disk for a while."""

    def begin(self, p: Parties) -> None:
        raise NotImplementedError

    def end(self, p: Parties) -> None:
        raise NotImplementedError


class Full(Trouble):
    """No file may grow: what SQLite sees is a write that fails."""

    def begin(self, p: Parties) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def end(self, p: Parties) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class ReadOnly(Trouble):
    """Both books take no writes, as on a file system that was mounted anew, read-only, after an error."""

    def begin(self, p: Parties) -> None:
        self._set(p, "ON")

    def end(self, p: Parties) -> None:
        self._set(p, "OFF")

    def _set(self, p: Parties, value: str) -> None:
        for connection in (sqlite_store(p.gateway)._connection, p.shop.book._connection):
            connection.execute(f"PRAGMA query_only = {value}")


class FailingCommit(Trouble):
    """The next COMMIT of each book reports an I/O error: before it was written (a failed fsync), or although it was (a lost answer)."""

    def __init__(self, *, written: bool) -> None:
        self._written = written
        self._failing: tuple[_FailsOnce, ...] = ()

    def begin(self, p: Parties) -> None:
        store, book = sqlite_store(p.gateway), p.shop.book
        store._connection = _FailsOnce(store._connection, sqlite_file.DatabaseError("disk I/O error"), written=self._written)
        self._failing = (store._connection, _FailsOnce(book._connection, sqlite3.OperationalError("disk I/O error"), written=self._written))
        book._opened = cast("sqlite3.Connection", self._failing[1])

    def end(self, p: Parties) -> None:
        for connection in self._failing:
            connection.failed = True


class _FailsOnce:
    """A connection, but for one COMMIT."""

    def __init__(self, connection: Any, error: Exception, *, written: bool) -> None:
        self._connection, self._error, self._written = connection, error, written
        self.failed = False

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT" and not self.failed:
            self.failed = True
            if self._written:
                self._connection.execute(sql)
            raise self._error
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


TROUBLES: dict[str, Callable[[], Trouble]] = {
    "full": Full,
    "read_only": ReadOnly,
    "commit_fails": lambda: FailingCommit(written=False),
    "commit_is_written_but_reported_as_failed": lambda: FailingCommit(written=True),
}


@pytest.mark.parametrize("place", ["gateway", "merchant"])
@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_with_the_disk_is_a_clear_no_and_afterwards_the_payment_is_made(
    name: str, place: str, prepared: Path, tmp_path: Path
) -> None:
    for count in range(1, COMMITS + 1):
        folder = tmp_path / str(count)
        shutil.copytree(prepared, folder)
        assert in_child(folder, partial(_through, folder, TROUBLES[name](), f"{place}.commit.{_when(name)}", count), _say_nothing) == 0
        shutil.rmtree(folder)


def _when(name: str) -> str:
    """A COMMIT can only be made to fail ahead of time, at the end of the one before; the first of all meets no trouble then."""
    return "after" if name.startswith("commit") else "before"


def _say_nothing() -> None:
    """The test's own output goes to a file, which could not grow either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


async def _through(folder: Path, trouble: Trouble, point: str, count: int) -> None:
    async with parties(folder, Memo(folder / "memo")) as p:
        left = [count]
        usual = fail_points.reach

        def reach(name: str) -> None:
            if name == point:
                left[0] -= 1
                if left[0] == 0:
                    trouble.begin(p)

        fail_points.reach = reach
        before = _messages(p)
        try:
            await p.order()
            await p.submit(await p.open())
        except (Unavailable, OSError):
            pass  # 503: the outcome is unknown, the same bytes may be sent again (or the customer's own notes find no room on this disk)
        assert _messages(p) >= before  # what is there can still be read
        fail_points.reach = usual
        trouble.end(p)
        if p.memo.last("order") is not None:
            tid = p.memo.last("order")[0]
            await _customer_goes_on(p)
            await let_it_end(p, tid)
            payment = await agreed(p, tid)
            assert payment is not None
            assert payment.state == "captured"
            await same_bytes_same_answer(p, payment)
        await pays_again(p)
        await proven(p)
        os._exit(0)


def _messages(p: Parties) -> int:
    row = p.gateway.reader.one("SELECT count(*) AS messages FROM messages")
    assert row is not None
    return int(row["messages"])


async def _customer_goes_on(p: Parties) -> None:
    """His program sends the same bytes until there is an answer; if he had sealed nothing yet, he loads the page again."""
    body = p.memo.last("submit")
    if body is None:
        try:
            await p.submit(await p.open())
        except GatewayRefused as refusal:  # logged in before and not told so: that page is used up
            if refusal.problem != WrongState.code:
                raise
            await p.submit(await p.open())
        return
    while True:
        with contextlib.suppress(Unavailable):  # a connection that died with the request before
            if is_final((await p.wallet.send(body)).state):
                return
        p.clock.advance(1)
        await asyncio.sleep(0.02)


async def test_an_order_book_that_cannot_even_be_opened_again_answers_and_goes_on_when_it_can(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed write the shop's book is read anew; should that fail too, nobody may be left waiting for ever."""
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    async with parties(folder, Memo(folder / "memo")) as p:
        real = book_file.connect

        def gone(_path: Path) -> sqlite3.Connection:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(book_file, "connect", gone)
        trouble = FailingCommit(written=False)
        trouble.begin(p)
        for _ in range(2):
            with pytest.raises(Unavailable):
                async with asyncio.timeout(5):
                    await p.order()
        with pytest.raises(Unavailable):
            await p.shop.order(ids.new_token())
        monkeypatch.setattr(book_file, "connect", real)
        trouble.end(p)
        await pays_again(p)
        await proven(p)
