"""Work on keys that fails, and work that is stopped in its middle: neither may take the place of the other."""

import asyncio

import pytest

from hanbit.kernel.errors import Unavailable
from hanbit.merchant.key_desk import _each


async def test_what_follows_is_done_and_the_first_failure_told() -> None:
    done: list[str] = []

    async def fails() -> None:
        raise Unavailable("first")

    async def works() -> None:
        done.append("second")

    with pytest.raises(Unavailable, match="first"):
        await _each(fails, works)
    assert done == ["second"]


async def test_a_stop_in_its_middle_is_a_stop_whatever_would_have_failed_next() -> None:
    """The line is down when a shop stops: what asks next fails, and that failure once swallowed the cancellation for good."""
    asking = asyncio.Event()

    async def asks() -> None:
        asking.set()
        await asyncio.Event().wait()

    async def fails() -> None:
        raise Unavailable("the line is down")

    task = asyncio.create_task(_each(asks, fails))
    await asking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
