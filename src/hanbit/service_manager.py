"""What a server tells the service manager that started it (sd_notify(3)): that it is ready, that it stops, that it still turns.

A datagram to the socket that NOTIFY_SOCKET names; started by hand there is none, and nothing is told.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MICROSECONDS = 1_000_000


def tell(state: str) -> None:
    """One message, such as `READY=1`; a manager that cannot be told changes nothing for customers."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.setblocking(False)
        manager.sendto(state.encode("utf-8"), "\0" + address[1:] if address.startswith("@") else address)


def watchdog_s() -> float | None:
    """How often the manager wants to hear that we still turn: half of what it waits for; None if it does not ask."""
    wanted = os.environ.get("WATCHDOG_USEC", "")
    if not (wanted.isascii() and wanted.isdigit()) or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(wanted) / MICROSECONDS / 2 or None


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Signs of life from the event loop while the block runs, its start and stop included: a loop that hangs gives none."""
    every_s = watchdog_s()
    if every_s is None:
        yield
        return
    signs = asyncio.create_task(_live(every_s), name="watchdog")
    try:
        yield
    finally:
        signs.cancel()


async def _live(every_s: float) -> None:
    while True:
        tell("WATCHDOG=1")
        await asyncio.sleep(every_s)
