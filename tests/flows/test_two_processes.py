"""The same bytes decided by two processes at once: each knows only what it decides itself, so throttle and book must be enough.

A second process is a second Gateway here, with memory of its own, on the same book.
"""

import asyncio
import dataclasses

import pytest

from hanbit.kernel.errors import HanbitError
from hanbit.line_requests import routes as line_requests
from hanbit.payments import recovery
from hanbit.payments.allowance import Allowances
from hanbit.payments.gateway import FAILED, SPENT, Gateway, hear
from hanbit.payments.known import FAILURES_MAX, KnownOpenings
from hanbit.payments.states import State
from tests.purchases import buying
from tests.world import PRICE, World


def beside(gateway: Gateway) -> Gateway:
    """Another process's gateway: nothing of the first one's memory."""
    return dataclasses.replace(gateway, deciding=set(), openings=KnownOpenings())


@pytest.mark.parametrize("password", ["2580", "0000"])
async def test_one_purchase_at_two_processes_at_once_has_one_effect_and_one_answer(world: World, password: str) -> None:
    session = await buying(world)
    other = beside(world.gateway)
    assert isinstance(other.allowances, Allowances)
    assert other.allowances is not world.gateway.allowances
    frame = await session.frame(session.purchase(await session.visit.grant(), method="password", password=password))
    answers = await asyncio.gather(
        *(line_requests.answer(gateway, "shop", frame) for gateway in (world.gateway, other) for _ in range(2)), return_exceptions=True
    )
    last = await line_requests.answer(other, "shop", frame)
    told = {answer for answer in answers if not isinstance(answer, BaseException) and answer is not None}
    assert all(isinstance(answer, (str, HanbitError)) for answer in answers)
    right = password == "2580"
    assert last in told
    assert len(world.rows("exchanges")) == 1
    assert (session.visit.stored.attempts, world.earned()) == (1, PRICE if right else 0)
    assert session.visit.stored.state == (State.CAPTURED if right else State.OPEN)
    for count in (row for row in world.rows("throttles") if row["factor"].startswith("account:")):
        assert count["failures"] <= (0 if right else 2), "at most one try a process, and never one that is not counted"


async def test_what_two_processes_end_at_the_same_moment_ends_once(world: World) -> None:
    other = beside(world.gateway)
    visits = [await world.visit() for _ in range(3)]
    for visit in visits:
        await visit.login()
    world.clock.advance(10 * 86_400)
    await asyncio.gather(*(recovery.tick(gateway) for gateway in (world.gateway, other, world.gateway, other)))
    for visit in visits:
        assert visit.stored.state == State.CLOSED
        assert visit.kinds().count("closed") == 1


def test_limits_that_are_counted_in_memory_hold_for_all_processes_together(world: World) -> None:
    told: list[tuple[str, str]] = []
    one = dataclasses.replace(world.gateway, announce=lambda what, name, _text: told.append((what, name)))
    other = beside(world.gateway)
    a_minute = one.settings.inquiries_per_minute
    for _ in range(a_minute):
        assert one.allowances.spend("shop", "unasked", a_minute)
        hear(other, SPENT, "shop")
    assert not other.allowances.spend("shop", "unasked", a_minute)
    for _ in range(FAILURES_MAX):
        hear(other, FAILED, "ctx")
    assert other.openings.is_burnt("ctx")
