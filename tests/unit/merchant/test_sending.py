"""A desk looks through what is open when something waits, and not after each answer."""

from collections.abc import Awaitable, Callable

import pytest

from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import Unavailable
from hanbit.merchant.sending import SENDING_MAX, Sender


async def nothing_is_open() -> bool:
    return False


async def answered() -> str:
    return ""


async def turned_away() -> str:
    return "too_many"


async def line_down() -> str:
    raise Unavailable("no line to the gateway")


async def test_an_answer_that_leaves_nothing_to_send_wakes_nobody() -> None:
    sender = Sender("purchase", ManualClock(1_000), nothing_is_open, goes_on=False)
    await sender.now("one", answered)
    assert not sender.bell.is_set()


@pytest.mark.parametrize("exchange", [turned_away, line_down])
async def test_what_has_no_answer_yet_is_looked_at_again_after_its_pause(exchange: Callable[[], Awaitable[str]]) -> None:
    sender = Sender("purchase", ManualClock(1_000), nothing_is_open, goes_on=False)
    await sender.now("one", exchange)
    assert sender.bell.is_set()
    assert not sender.is_due("one")


async def test_where_no_more_was_put_on_the_line_an_answer_makes_room() -> None:
    sender = Sender("purchase", ManualClock(1_000), nothing_is_open, goes_on=False)
    tasks = [sender.now(str(number), answered) for number in range(SENDING_MAX)]
    assert sender.is_full
    await tasks[0]
    assert sender.bell.is_set()


async def test_where_an_answer_may_leave_another_request_each_is_looked_at() -> None:
    sender = Sender("cancellation", ManualClock(1_000), nothing_is_open, goes_on=True)
    await sender.now("one", answered)
    assert sender.bell.is_set()
