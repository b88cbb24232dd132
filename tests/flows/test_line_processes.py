"""Several processes hold one merchant's line, as while a shop is restarted: one that dies in a question costs that question alone."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hanbit.kernel.errors import Unavailable
from hanbit.protocols.line import read_frame
from tests.unit.line.parties import QUICK, World, listening, merchant_urn, request
from tests.waiting import LOOK_EVERY_S, PATIENCE_S, until

ROOT = Path(__file__).parent.parent.parent
PATIENT = replace(QUICK, ping_s=10.0, answer_s=20.0)


class Child:
    """One connection in its own process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def heard(self, word: str) -> None:
        """Wait until it says so."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while (line := await self.process.stdout.readline()).decode().strip() != word:
                assert line, "it ended"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def child(world: World, mode: str, name: str = "shop") -> AsyncIterator[Child]:
    """Started and connected; killed in the end if it still lives."""
    line, sign = world.operator.files(merchant_urn(name)), world.operator.files(merchant_urn(name), "merchant-sign")
    paths = [[str(line.chain), str(line.key), str(line.root)], [str(sign.chain), str(sign.key)]]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "tests/flows/line_child.py"), name, str(world.port), mode, json.dumps(paths)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    try:
        made = Child(process)
        await made.heard("connected")
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with listening(tmp_path, PATIENT) as made:
        yield made


async def test_a_process_killed_in_the_middle_of_a_question_is_found_out_at_once_and_another_answers(world: World) -> None:
    async with child(world, "answer") as older, child(world, "hang") as newest:
        notice = request()
        ask = asyncio.create_task(world.line.ask("shop", notice))
        await newest.heard("asked")
        newest.signal(signal.SIGKILL)
        with pytest.raises(Unavailable, match="went down"):
            await ask
        assert world.line.connected("shop"), "the older connection is still there"
        assert read_frame(await world.line.ask("shop", notice)).typ == "hanbit-from-answer"
        await older.heard("asked")
        await until(lambda: world.line.figures("shop").connections == 1)


async def test_four_processes_hold_the_line_and_a_fifth_pushes_out_the_oldest_which_comes_back(world: World) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(child(world, "answer"))
        await until(lambda: world.line.figures("shop").connections == 4)
        async with child(world, "newest"):
            await until(lambda: world.line.stats().closed["replaced"] >= 1)
            assert world.line.figures("shop").connections <= 4
            answers = await asyncio.gather(*(world.line.ask("shop", request()) for _ in range(20)))
            assert len(answers) == 20


async def test_a_stopped_process_is_not_asked_once_it_misses_a_ping(tmp_path: Path) -> None:
    """SIGSTOP: the connection is up and nobody is there. Another takes over at the first missed ping, long before the dead one is cut."""
    limits = replace(PATIENT, ping_s=0.4, pings_missed=20)
    async with listening(tmp_path, limits) as world, child(world, "answer"), child(world, "stopped") as newest:
        await until_answered(world, "hanbit-from-stopped")
        newest.signal(signal.SIGSTOP)
        await until(lambda: any(connection.missed for connection in world.line._merchants["shop"]))
        assert read_frame(await world.line.ask("shop", request())).typ == "hanbit-from-answer"
        assert world.line.figures("shop").connections == 2
        newest.signal(signal.SIGCONT)
        await until_answered(world, "hanbit-from-stopped")


async def until_answered(world: World, typ: str) -> None:
    """Ask until this one answers: on a busy machine either may miss a ping at any moment, and then the other is asked."""
    async with asyncio.timeout(PATIENCE_S):
        while read_frame(await world.line.ask("shop", request())).typ != typ:  # noqa: ASYNC110 - which of them is well rings no bell here
            await asyncio.sleep(LOOK_EVERY_S)
