"""Commands of staff: run here when the shop's folder is free, else sent to the process that has its order book open."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hanbit.merchant import control, files, operations
from hanbit.merchant.book_file import BookHeld
from hanbit.merchant.reconciliation import Progress
from hanbit.merchant.shop import Shop

LINE_UP_S: Final = 15.0
"""How long a command waits for the gateway."""


def silent(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


async def run(directory: Path, command: str, progress: Progress = silent, *, dial: bool = True, **arguments: str) -> dict[str, Any]:
    """Run one of `operations.COMMANDS` on an enrolled folder, here or in the process that has its order book open.

    Here the shop's own program is not running: no notice is answered, and every outcome is left to its handler. `dial` is False for a
    command that asks nothing of the gateway.
    """
    files.read_registration(directory)  # says what to do where nothing is enrolled
    try:
        async with Shop.open(directory, attended=False, dial=dial) as shop:
            if shop.line is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LINE_UP_S):
                        await shop.line.connected.wait()
            return await operations.call(shop, progress, command, arguments)
    except BookHeld as error:
        holder = error.detail
    return await control.send(directory, command, arguments, progress, holder)
