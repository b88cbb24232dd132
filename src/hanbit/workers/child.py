"""One worker as a process of its own: `python -m hanbit.workers.child PLAN`, started by its parent alone.

It ends when its parent has ended, and tells it every second that its loop still turns.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError

READY, ALIVE = b"r", b"a"
"""What the parent hears: once that it serves, then every second that it lives."""
ALIVE_EVERY_S: Final = 1.0


class Plan(msgspec.Struct, frozen=True):
    """What the parent gives its child: who it is, its sockets, and the ends of two pipes."""

    data: str
    number: int
    sockets: dict[str, int]
    parent: int
    """Comes to its end when the parent does."""
    told: int
    """Where READY and ALIVE are written."""


async def work(plan: Plan) -> None:
    """Serve until the parent says so, or is gone."""
    from hanbit import server  # noqa: PLC0415 - after the process is closed to others
    from hanbit.collector import calm_collector  # noqa: PLC0415 - as above
    from hanbit.sockets import Worker  # noqa: PLC0415 - as above

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)

    def parent_is_gone() -> None:
        loop.remove_reader(plan.parent)
        stop.set()

    loop.add_reader(plan.parent, parent_is_gone)
    async with server.running(Path(plan.data), SystemClock(), Worker(plan.number, plan.sockets)) as running:
        calm_collector()
        loop.add_signal_handler(signal.SIGHUP, running.reload)
        alive = asyncio.create_task(_live(plan.told), name="alive")
        await stop.wait()
        alive.cancel()


async def _live(told: int) -> None:
    os.set_blocking(told, False)
    what = READY
    while True:
        with suppress(OSError):  # full: nobody reads; gone: the other pipe says so
            os.write(told, what)
            what = ALIVE
        await asyncio.sleep(ALIVE_EVERY_S)


def main() -> None:
    """The whole process."""
    import uvloop  # noqa: PLC0415 - as in the server's own command

    from hanbit import logs  # noqa: PLC0415 - after the process is closed to others
    from hanbit.process import many_files, no_core_dumps  # noqa: PLC0415 - first of all, before any key is read

    no_core_dumps()
    many_files()
    logs.configure()
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    os.environ["HANBIT_WORKER"] = str(plan.number)
    try:
        uvloop.run(work(plan))
    except HanbitError as error:
        sys.exit(f"worker {plan.number}: {error.detail or error.code}")


if __name__ == "__main__":
    main()
