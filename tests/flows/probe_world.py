"""A shop of ours, or one with a check taken out, and the conformance kit at the other end of a real line."""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError
from hanbit.kernel.money import Money
from hanbit.line.connection import Limits
from hanbit.merchant import enrolment, files
from hanbit.merchant import shop as shop_module
from hanbit.merchant.line_parts import LineParts
from hanbit.merchant.order import Line
from hanbit.merchant.probe import parties
from hanbit.merchant.probe.case import Case
from hanbit.merchant.probe.chores import Chores
from hanbit.merchant.probe.enrolment_desk import EnrolmentDesk
from hanbit.merchant.probe.parties import Operator
from hanbit.merchant.probe.run import Outcome, Run
from hanbit.merchant.probe.shop_side import ShopSide, ShopState
from hanbit.merchant.probe.stage import Waits
from hanbit.merchant.probe.ways import Listening
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State

CLOCK = SystemClock()
QUICK = Limits(backoff_first_s=0.01, backoff_max_s=0.03, answer_s=20.0, close_s=0.5)
PATIENT = Waits(answer_s=60.0, forged_s=5.0, guise_s=20.0, dial_s=60.0, case_s=240.0, first_s=120.0)
"""What surely comes is waited for until it is there, however busy the machine: these limits only turn a hang into a failure."""
HASTY = replace(PATIENT, forged_s=0.25, guise_s=0.5)
"""What a right shop does not do is not waited for long: only a shop with a check taken out may answer, and `PATIENT` is for that one."""


async def enrol(folder: Path, line: files.LineAddress) -> None:
    """A throw-away operator in `probe`, and a shop that has enrolled there in `shop`."""
    code = parties.create(folder / "probe", merchant="shop", line=line, at=CLOCK.now())
    operator = parties.load(folder / "probe")
    async with EnrolmentDesk(operator, CLOCK).listening("127.0.0.1", 0) as port:
        await enrolment.enrol(folder / "shop", f"http://127.0.0.1:{port}", code, pin=operator.pin, clock=CLOCK)


@asynccontextmanager
async def dialling_shop(folder: Path, port: int) -> AsyncIterator[Shop]:
    """A Shop on this folder that dials the probe, with short pauses."""
    path = folder / files.REGISTRATION
    registration = json.loads(path.read_text("utf-8")) | {"line": {"host": "127.0.0.1", "port": port}}
    path.write_text(json.dumps(registration), "utf-8")
    with patch.object(shop_module, "LineParts", partial(LineParts, limits=QUICK)):
        async with Shop.open(folder) as shop:
            yield shop


async def play(folder: Path, cases: Sequence[Case], *, believes_status: bool = False, waits: Waits = HASTY) -> Outcome:
    """Play these cases against a Shop on this folder, in one process over a real line.

    With `believes_status` the shop's pages deliver on the word of a status alone.
    """
    believed: set[str] = set()
    operator: Operator = parties.load(folder / "probe")
    chores = Chores(operator, CLOCK)
    listening = Listening(operator, CLOCK, chores, limits=QUICK).listening("127.0.0.1", 0)
    async with listening as way, dialling_shop(folder / "shop", way.port) as shop:

        async def place() -> str:
            made = await shop.create_order(
                lines=[Line("phone", 1, 220_000)],
                total=Money(220_000, "KRW"),
                text="phone",
                return_url="https://shop.localhost/orders",
            )
            return made.location

        async def state(tid: str) -> ShopState:
            if (await shop.order(tid)).state is State.PLACED:
                with contextlib.suppress(HanbitError):
                    status = await shop.inquire(tid)
                    if believes_status and status.state == State.SETTLED:
                        believed.add(tid)
            order = await shop.order(tid)
            return ShopState(order.state, order.may_deliver or tid in believed)

        run = Run(operator, way, chores, ShopSide(place, state), CLOCK, waits, dials=True)
        return await run.play(cases)
