"""A whole payment is killed at every durable step and every send, then both servers wake up on what is left on the disk.

What must be true then, whatever was cut: the payment ends by itself, book and evidence hold, shop and gateway hold the same signed words,
goods leave only for money, the customer's same bytes get the same answer, and the next payment succeeds.
"""

import os
import shutil
import signal
from collections import Counter
from functools import cache, partial
from pathlib import Path

import pytest

from hanbit.kernel import fail_points
from tests import engine
from tests.flows.crash_child import in_child
from tests.flows.crash_proof import agreed, insist, is_final, pays_again, proven, same_bytes_same_answer
from tests.flows.crash_scenarios import SCENARIOS, let_it_end
from tests.flows.crash_world import Memo, make_folder_now, parties

POINTS = tuple(f"{place}.commit.{when}" for place in ("gateway", "merchant") for when in ("before", "after")) + tuple(
    f"line.{place}.{what}" for place in ("gateway", "merchant") for what in ("sent", "received")
)

LONG = {"declined_five_times", "cancelled_as_it_was_confirmed", "withdrawn_before_anybody_opened"}
"""Five times the same step, or steps that are all met by the others."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of which each crash gets a copy."""
    folder = tmp_path_factory.mktemp("prepared")
    make_folder_now(folder)
    return folder


async def _play(folder: Path, name: str) -> None:
    async with parties(folder, Memo(folder / "memo")) as p:
        await SCENARIOS[name].play(p)
        os._exit(0)  # nothing is stopped in order, so that a stop repairs nothing


@cache
def reached(prepared: Path, name: str) -> Counter[str]:
    """How often a run without any crash comes by each point."""
    folder = prepared.with_name(f"{prepared.name}-{name}")  # a worker that comes back to this file prepares a second folder
    shutil.copytree(prepared, folder)
    trace = folder / "trace"

    def watch() -> None:
        fail_points.reach = lambda name: Memo(trace).note("point", name)

    with engine.copied(folder / "gateway"):
        assert in_child(folder, lambda: _play(folder, name), watch) == 0
    return Counter(Memo(trace).all("point"))


@pytest.mark.parametrize("all_times", [pytest.param(False, id="some"), pytest.param(True, id="all", marks=pytest.mark.long)])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in SCENARIOS])
def test_killed_at_every_step_the_payment_ends_by_itself_and_both_sides_agree(
    name: str, point: str, prepared: Path, tmp_path: Path, *, all_times: bool
) -> None:
    """The first, the middle and the last time that the run comes by; `make test-long` takes each."""
    times = reached(prepared, name)[point]
    counts = range(1, times + 1) if all_times else sorted({1, times // 2 + 1, times}) if times else []
    killed = 0
    for count in counts:
        folder = tmp_path / str(count)
        shutil.copytree(prepared, folder)
        with engine.copied(folder / "gateway"):
            status = in_child(folder, partial(_play, folder, name), partial(fail_points.arm, point, count))
            assert status in {0, signal.SIGKILL}, f"{point}:{count} ended with {status}"
            killed += status == signal.SIGKILL
            # Every other time the customer has not gone away: he sends his same bytes again before anything was recovered.
            assert in_child(folder, partial(_after, folder, name, customer_insists=count % 2 == 0)) == 0
        shutil.rmtree(folder)
    assert killed * 2 >= len(counts)  # how often an outcome is told again while time passes is not the same in each run


async def _after(folder: Path, name: str, *, customer_insists: bool) -> None:
    memo = Memo(folder / "memo")
    async with parties(folder, memo) as p:
        if memo.last("order") is None:
            await pays_again(p)  # killed before the shop had answered the customer: for him there is no order
        else:
            tid = memo.last("order")[0]
            first = await insist(p) if customer_insists else None
            await let_it_end(p, tid)
            payment = await agreed(p, tid)
            if payment is not None:
                assert payment.state in SCENARIOS[name].ends
                assert first is None or not is_final(first) or first == payment.state
            await pays_again(p)
            if payment is not None:
                await same_bytes_same_answer(p, payment)
                assert await agreed(p, tid) == payment
        await proven(p)
        os._exit(0)
