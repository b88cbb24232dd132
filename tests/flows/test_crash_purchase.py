"""The gateway is killed at every durable step of a purchase; the shop sends its same bytes again and finds one effect and one answer."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel import fail_points
from hanbit.payments import payment as payments
from hanbit.payments.states import State
from tests import engine
from tests.flows.crash_child import in_child
from tests.purchases import Answered, buying, send
from tests.world import NOW, PRICE, World, enrolled, open_world, opened

POINTS = ("gateway.commit.before", "gateway.commit.after", "payment.authorized", "payment.merchant_confirmed", "payment.declined")
ENDS: dict[str, dict[str, Any]] = {
    "approved by device": {"method": "device"},
    "approved by password": {"method": "password"},
    "declined for its funds": {"account": "emoney", "method": "device"},
    "declined for its password": {"method": "password", "password": "0000"},
}


@asynccontextmanager
async def again(folder: Path) -> AsyncIterator[World]:
    """The same files, opened by a new gateway."""
    async with opened(folder / "gateway", enrolled(), {"shop": folder / "shop.db"}, at=NOW) as world:
        yield world


async def prepare(folder: Path, how: dict[str, Any]) -> tuple[str, str]:
    """A purchase that stands before D6: its frame and its tid."""
    async with open_world(folder) as world:
        session = await buying(world)
        return await session.frame(session.purchase(await session.visit.grant(), **how)), session.visit.redirect.tid


async def ask(folder: Path, frame: str) -> None:
    """D6, and out without closing anything."""
    async with again(folder) as world:
        await send(world, "shop", frame)
        os._exit(0)


async def insist(folder: Path, frame: str, tid: str) -> tuple[Answered, str]:
    """After the crash: the same bytes, twice; every promise is proved."""
    async with again(folder) as world:
        answered = await send(world, "shop", frame)
        assert (await send(world, "shop", frame)).frame == answered.frame
        payment = payments.find(world.gateway.reader, "shop", tid)
        assert payment is not None
        assert world.earned() == payment.captured == (PRICE if answered.told == "approved" else 0)
        assert [row["result"] for row in world.rows("exchanges")] == [answered.told]
        assert len(world.rows("attempts")) == payment.attempts == 1
        await world.prove()
        await world.tick(payment.pay_by + 1 - NOW)
        ended = payments.find(world.gateway.reader, "shop", tid)
        assert ended is not None
        await world.prove()
        return answered, ended.state


@pytest.mark.parametrize("name", list(ENDS))
def test_killed_at_any_step_the_same_bytes_find_one_effect_and_one_answer(tmp_path: Path, name: str) -> None:
    start = tmp_path / "start"
    start.mkdir()
    frame, tid = asyncio.run(prepare(start, ENDS[name]))
    expected = ("approved", State.CAPTURED) if name.startswith("approved") else ("declined", State.CLOSED)
    killed = 0
    with engine.copied(start / "gateway"):
        for point in POINTS:
            for count in range(1, 8):
                folder = tmp_path / f"{point}-{count}"
                shutil.copytree(start, folder)
                with engine.copied(folder / "gateway"):
                    status = in_child(folder, partial(ask, folder, frame), partial(fail_points.arm, point, count))
                    answered, state = asyncio.run(insist(folder, frame, tid))
                assert (answered.told, state) == expected, (point, count)
                shutil.rmtree(folder)
                if status == 0:
                    break  # the whole purchase comes by this point fewer times
                assert status == signal.SIGKILL
                killed += 1
    assert killed >= 3
