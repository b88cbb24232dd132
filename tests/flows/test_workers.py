"""Several workers on one book: any of them may be killed at any moment, and the others carry on with nothing lost and nothing doubled."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from hanbit import background
from hanbit.demo.world import Ports
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput
from hanbit.settings import Settings
from hanbit.workers import parent
from tests.flows.crash_processes import Child, Site, site
from tests.flows.crash_world import make_folder
from tests.flows.workers import end, holders, job_holders, rows, workers
from tests.unit.cli.world import installed
from tests.waiting import until

WORKERS = 3


@pytest.fixture
def place(database: str, tmp_path: Path) -> tuple[Path, Ports]:
    """A folder whose book is in a database of its own."""
    ports = Ports.free()
    asyncio.run(make_folder(tmp_path / "site", SystemClock(), ports, database=database, metrics_port=ports.metrics))
    return tmp_path / "site", ports


def test_a_sqlite_book_is_not_shared(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="one process"):
        parent.check(Settings(), tmp_path)


async def test_each_worker_is_killed_in_turn_and_payments_go_on(place: tuple[Path, Ports]) -> None:
    async with site(*place, workers=WORKERS) as s:
        await until(lambda: is_split(s))
        (holder,) = holders(s)  # asked for all by the others
        for number in (holder, *(number for number in workers(s) if number != holder)):
            before = workers(s)[number]
            paying = [asyncio.create_task(s.new_payment()) for _ in range(4)]
            os.kill(before, signal.SIGKILL)
            await asyncio.gather(*paying)
            await until(lambda number=number, old=before: workers(s).get(number, old) != old)  # type: ignore[misc]  # defaults bind them
        for tid in s.tids:
            assert await s.final(tid) == "captured"
        await until(lambda: is_split(s))  # the work of the background was taken over and shared out again
        report = await s.proven()
        assert report["evidence"]["payments"] == len(s.tids)
        captures = rows(s, "SELECT count(*), count(DISTINCT payment) FROM entries WHERE kind = 'capture'")
        assert captures == [(len(s.tids), len(s.tids))], "one capture a payment, however often it was asked for"


async def test_a_worker_that_is_told_to_stop_answers_first_and_is_replaced(place: tuple[Path, Ports]) -> None:
    async with site(*place, workers=WORKERS) as s:
        for number in range(1, WORKERS + 1):  # a rolling restart
            paying = [asyncio.create_task(s.new_payment()) for _ in range(3)]
            await end(s, number, signal.SIGTERM)
            await asyncio.gather(*paying)
        assert "worker_hangs" not in s.gateway.log_end()
        assert await s.gateway.stop() == 0, s.gateway.log_end()
        assert rows(s, "SELECT id FROM processes") == [], "who stops in order leaves no row behind"
        await s.gateway.start()
        await s.new_payment()
        await s.proven()


async def test_a_hanging_worker_is_replaced_and_none_outlives_its_parent(place: tuple[Path, Ports]) -> None:
    async with site(*place, workers=WORKERS) as s:
        await until(lambda: len(holders(s)) == 1)
        idle = next(number for number in workers(s) if number not in holders(s))
        before = workers(s)[idle]
        os.kill(before, signal.SIGSTOP)
        await until(lambda: workers(s).get(idle, before) != before)
        await s.new_payment()
        second = Child("second", s.gateway._arguments, s.gateway.url, s.folder / "second.log")
        await second.start()
        assert await asyncio.wait_for(second.process.wait(), 60) not in {0, -signal.SIGKILL}
        assert "held by process" in second.log_end()
        pids = workers(s).values()
        await s.gateway.kill()
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        await s.gateway.start()
        await s.new_payment()
        await s.proven()


async def test_the_doctor_is_told_the_same_by_whichever_worker_takes_its_question(place: tuple[Path, Ports]) -> None:
    async with site(*place, workers=WORKERS) as s:
        await until(lambda: is_split(s))
        await s.new_payment()
        asked = ("doctor", "--data", s.folder / "gateway", "--json")
        for done in await asyncio.gather(*(asyncio.to_thread(installed, *asked) for _ in range(WORKERS + 1))):
            found = {finding["code"]: finding for finding in json.loads(done.stdout)["findings"]}
            assert found["server"]["severity"] == "ok", found
            assert "1 of 1 merchants" in found["line"]["found"], found
            assert [code for code, finding in found.items() if finding["severity"] == "wrong"] == []


def is_split(s: Site) -> bool:
    """Each job of the background has a holder, and every worker has some."""
    found = job_holders(s)
    return found.keys() == {job.__name__ for job in background.JOBS} and len(set(found.values())) == WORKERS
