"""Clocks that jump an hour, forth or back, at every durable step: the payment still ends, and both sides still agree."""

import contextlib
import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from hanbit.kernel import fail_points
from hanbit.kernel.errors import HanbitError
from tests import engine
from tests.flows.crash_child import in_child
from tests.flows.crash_proof import agreed, pays_again, proven
from tests.flows.crash_scenarios import let_it_end
from tests.flows.crash_world import Memo, make_folder_now, parties

HOUR_S = 3600
COMMITS = 4
"""As many as either side makes for one payment."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of which each jump gets a copy."""
    folder = tmp_path_factory.mktemp("prepared")
    make_folder_now(folder)
    return folder


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("whose", ["both", "shop"])
@pytest.mark.parametrize("point", ["gateway.commit.before", "merchant.commit.before"])
def test_a_clock_that_jumps_an_hour_leaves_no_payment_open_and_no_side_with_another_word(
    point: str, whose: str, jump_s: int, prepared: Path, tmp_path: Path
) -> None:
    for count in range(1, COMMITS + 1):
        folder = tmp_path / str(count)
        shutil.copytree(prepared, folder)
        with engine.copied(folder / "gateway"):
            assert in_child(folder, partial(_jump, folder, point, count, whose, jump_s)) == 0
        shutil.rmtree(folder)


async def _jump(folder: Path, point: str, count: int, whose: str, jump_s: int) -> None:
    async with parties(folder, Memo(folder / "memo")) as p:
        left = [count]

        def reach(name: str) -> None:
            if name == point:
                left[0] -= 1
                if left[0] == 0:
                    # In one step: a shop's commit stands in a thread of its own, and its loop reads the clock meanwhile.
                    if whose == "both":
                        p.clock.advance(jump_s)
                    else:
                        p.shop_clock.ahead_s = jump_s

        fail_points.reach = reach
        with contextlib.suppress(HanbitError):  # keys or order seem too old or too new: a clear no
            await p.order()
            await p.submit(await p.open())
        tid = p.memo.last("order")[0]
        await let_it_end(p, tid, at_the_gateway_only=True)
        left[0] = 0  # a payment with fewer commits has seen no jump; the next one is to see none either
        p.shop_clock.ahead_s = 0  # somebody sets the shop's clock right
        await p.until_line()
        # An acknowledgement that the shop dated an hour ahead is believed in an hour, and until then the outcome is told again.
        await let_it_end(p, tid, longer_s=HOUR_S)
        payment = await agreed(p, tid)
        assert payment is None or payment.is_final
        await pays_again(p)
        await proven(p)
        os._exit(0)
