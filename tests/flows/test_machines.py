"""Two machines with a folder each on one PostgreSQL book: keys find their way, and work that both do at once is done once."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hanbit import background
from hanbit.crypto import envelopes
from hanbit.folder import close_gateway, create, open_gateway
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import BadInput
from hanbit.line.presence import FORGOTTEN_S, SILENT_MAX_S, Presence
from hanbit.parties.keyring import DAY_S, SEAL_KEPT_S
from hanbit.payments import own_keys, recovery
from hanbit.payments.gateway import Gateway
from hanbit.payments.turns import Turns
from hanbit.settings import Settings

NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment for which a new key waits until the other machines have looked is the test's."""
    monkeypatch.setattr(own_keys, "OTHERS_LOOK_S", 0.0)


@asynccontextmanager
async def machines(folder: Path, database: str, clock: ManualClock) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """The first, and a second with a copy of its settings and keys."""
    settings = Settings(database=database, several_machines=True)
    await create(folder / "a", settings, clock, root_key=None, root_passphrase=None)
    shutil.copytree(folder / "a", folder / "b")
    one, other = open_gateway(folder / "a", clock), open_gateway(folder / "b", clock)
    try:
        yield one, other
    finally:
        await close_gateway(one)
        await close_gateway(other)


async def test_a_key_that_one_machine_makes_is_in_use_at_the_other_and_its_row_is_sealed(database: str, tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    async with machines(tmp_path, database, clock) as (one, other):
        before = one.keyring.seal.kid
        clock.advance(DAY_S)
        await own_keys.renew_due(one)
        assert one.keyring.seal.kid != before == other.keyring.seal.kid
        await own_keys.exchange(other)
        assert other.keyring.seal.kid == one.keyring.seal.kid
        assert other.keyring.seal_by_kid(before) is not None, "what was sealed to the key before still opens"
        (row,) = one.reader.all("SELECT * FROM shared_keys")
        assert "PRIVATE" not in str(tuple(row))
        assert envelopes.peek_header(row["sealed"])["alg"] == "dir"
        assert not list((tmp_path / "b/keys").glob("*.pending"))

        clock.advance(54 * DAY_S)  # signing and line keys too; the other machine makes them this time
        await own_keys.renew_due(other)
        await own_keys.exchange(one)
        for purpose in ("signer", "line", "seal"):
            assert getattr(one.keyring, purpose).kid == getattr(other.keyring, purpose).kid
        assert [path.name for path in (tmp_path / "a/keys").glob("gateway-sign*.key")] == [
            path.name for path in (tmp_path / "b/keys").glob("gateway-sign*.key")
        ]
        await own_keys.exchange(other)
        await own_keys.exchange(one)  # nothing more to take

        clock.advance(SEAL_KEPT_S + 1)
        await own_keys.renew_due(one)
        kept = [row["stem"] for row in one.reader.all("SELECT stem FROM shared_keys WHERE purpose = 'gateway-seal'")]
        assert len(kept) == 1, "a sealing key's row goes when the key is destroyed"


async def test_a_machine_with_another_secret_takes_no_key(database: str, tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    async with machines(tmp_path, database, clock) as (one, other):
        stranger = replace(other, keyring=other.keyring)
        object.__setattr__(stranger.keyring, "server_key", b"another secret, of 32 bytes, too")
        clock.advance(DAY_S)
        await own_keys.renew_due(one)
        before = sorted(path.name for path in (tmp_path / "b/keys").iterdir())
        await own_keys.exchange(stranger)
        assert sorted(path.name for path in (tmp_path / "b/keys").iterdir()) == before


async def test_work_that_both_do_at_the_same_moment_is_done_once(database: str, tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    async with machines(tmp_path, database, clock) as (one, other):
        for _ in range(5):
            clock.advance(3_601)
            await asyncio.gather(recovery.tick(one), recovery.tick(other))
        for gateway in (one, other):
            await own_keys.exchange(gateway)
        lists = one.reader.all("SELECT iss, jti FROM messages WHERE typ = 'hanbit-crl'")
        assert len(lists) == len({tuple(row) for row in lists}) <= 2 * 5
        sizes = [row["size"] for row in one.reader.all("SELECT size FROM checkpoints ORDER BY size")]
        assert len(sizes) == len(set(sizes)) <= 5 + 1
        assert one.keyring.signer.kid == other.keyring.signer.kid


async def test_each_job_has_one_holder_and_that_of_the_dead_is_taken_over(database: str, tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    async with machines(tmp_path, database, clock) as (one, other):
        jobs = tuple(job.__name__ for job in background.JOBS)
        sides = []
        for number, gateway in enumerate((one, other), 1):
            presence = Presence(gateway.book, gateway.reader, clock, number=number, machine=f"m{number}")
            await presence.start(f"127.0.0.1:{number}", lambda: frozenset({"shop"}), lambda _process: None)
            sides.append((presence, Turns(gateway.book, gateway.reader, presence, jobs)))
        (first, first_turns), (second, second_turns) = sides

        async def beat() -> None:
            for presence, turns in sides:
                await presence.beat()
                await turns.take()

        for _ in range(2 * len(jobs)):
            await beat()
            assert not first_turns.mine & second_turns.mine
        assert first_turns.mine | second_turns.mine == set(jobs)
        assert abs(len(first_turns.mine) - len(second_turns.mine)) <= 1
        assert [process.id for process in first.holders("shop")] == [second.id]
        assert [process.id for process in second.others()] == [first.id]

        sides.pop(0)  # the first one dies
        clock.advance(int(SILENT_MAX_S) + 1)
        for _ in range(2):
            await beat()
        assert second_turns.mine == set(jobs)
        assert second.holders("shop") == []
        assert second.others() == []
        clock.advance(int(FORGOTTEN_S))
        await beat()
        assert [row["id"] for row in other.reader.all("SELECT id FROM processes")] == [second.id]
        assert [row["process"] for row in other.reader.all("SELECT process FROM lines")] == [second.id]
        await second.leave()
        for table in ("processes", "lines", "jobs"):
            assert other.reader.all(f"SELECT * FROM {table}") == []  # noqa: S608 - the test's own names


def test_several_machines_need_a_database() -> None:
    with pytest.raises(BadInput, match="PostgreSQL"):
        Settings(several_machines=True)
