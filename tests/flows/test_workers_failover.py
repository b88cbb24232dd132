"""Several workers whose database loses answers to COMMIT, or dies and is replaced by its standby: nothing is lost, nothing is doubled."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanbit.demo.world import Ports
from hanbit.kernel.clock import SystemClock
from tests import cluster as clusters
from tests.cluster import OWNER, PASSWORD, Cluster
from tests.flows.crash_processes import PATIENCE_S, Site, site
from tests.flows.crash_world import make_folder
from tests.flows.workers import rows
from tests.waiting import until
from tests.wire import Wire

WORKERS = 2
AT_ONCE = 4
LOST = 6
"""Answers to COMMIT that are lost while payments are made."""


@pytest.fixture
def pair(postgresql_bin: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """A primary and the standby without which it acknowledges nothing."""
    with contextlib.ExitStack() as stack:
        primary = clusters.start(postgresql_bin)
        stack.callback(primary.stop)
        follower = clusters.standby(primary)
        stack.callback(follower.stop)
        yield primary, follower


async def each_once(s: Site) -> None:
    """Every order was paid once, on both sides, and everything proves."""
    for tid in s.tids:
        assert await s.final(tid) == "captured"
    captures = rows(s, "SELECT count(*), count(DISTINCT payment) FROM entries WHERE kind = 'capture'")
    assert captures == [(len(s.tids), len(s.tids))]
    report = await s.proven()
    assert report["evidence"]["payments"] == len(s.tids)


async def test_answers_to_commits_that_are_lost_under_several_workers_lose_and_double_nothing(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    """The server has committed and the wire is cut before it says so; whose worker it was looks up what became of it."""
    ports = Ports.free()
    with contextlib.closing(Wire(cluster)) as wire:
        await make_folder(tmp_path / "site", SystemClock(), ports, database=wire.to(database))
        async with site(tmp_path / "site", ports, workers=WORKERS) as s:
            lost = wire.lost
            while wire.lost < lost + LOST:
                wire.lose_answer_to = b"commit_"
                await asyncio.gather(*(s.new_payment() for _ in range(AT_ONCE)))
            wire.lose_answer_to = b""
            await s.new_payment()
            await each_once(s)


async def test_workers_whose_primary_dies_go_on_with_the_standby_that_takes_its_place(
    pair: tuple[Cluster, Cluster], tmp_path: Path
) -> None:
    """Two hosts in the address: the first takes no writes until the second is gone."""
    primary, follower = pair
    ports, name = Ports.free(), primary.create()
    hosts = f"127.0.0.1:{follower.port},127.0.0.1:{primary.port}"
    address = f"postgresql://{OWNER}:{PASSWORD.replace(' ', '%20')}@{hosts}/{name}?sslmode=disable"
    await make_folder(tmp_path / "site", SystemClock(), ports, database=address)
    async with site(tmp_path / "site", ports, workers=WORKERS) as s:
        await s.new_payment()
        paying = [asyncio.create_task(s.new_payment()) for _ in range(AT_ONCE)]
        await until(lambda: len(s.tids) > AT_ONCE // 2)  # orders are made, and at different steps
        await asyncio.to_thread(primary.crash)
        async with s.http.get(s.gateway.url.replace("/readyz", "/healthz")) as alive:
            assert alive.status == 200, "the workers outlive their database"
        assert await asyncio.to_thread(follower.sql, f"SELECT pg_promote(true, {PATIENCE_S:.0f})") == "t"
        await asyncio.gather(*paying)
        await asyncio.gather(*(s.new_payment() for _ in range(AT_ONCE)))
        await each_once(s)
