"""How a test waits for what others do: it looks again and again for as long as that takes, and only a hang is a failure."""

import asyncio
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 60.0
"""Far beyond every wait of ours, on a machine that has other things to do."""
LOOK_EVERY_S: Final = 0.01


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another party does, in another task, thread or process: none of them rings a bell here."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - as above
            await asyncio.sleep(LOOK_EVERY_S)
