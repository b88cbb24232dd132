"""The parent of several workers: holds the folder, binds every port, starts the workers, and starts another for one that has ended.

    started ──ready──▶ serving ──ended, killed or silent──▶ another in its place, at once at first, then after growing waits

It reads no key and opens no book: there is nothing in it to fall over. The ports are bound once and shared, so a connection that comes
while a worker dies waits for another one. Workers end when it ends, whatever ended it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from hanbit import control
from hanbit.folder import KEYS_FOLDER, hold, place_of
from hanbit.kernel.errors import BadInput, Unavailable
from hanbit.line import doors as line_doors
from hanbit.parties import keyring
from hanbit.settings import Settings, load
from hanbit.sockets import doors, faces
from hanbit.web.serving import bind
from hanbit.workers.child import Plan

START_S: Final = 60.0
"""Until a worker must serve."""
SILENT_MAX_S: Final = 20.0
"""A worker that does not say for so long that it lives hangs, and is killed."""
LOOK_EVERY_S: Final = 0.5
STOP_S: Final = 30.0
"""Until workers that were told to stop must have ended."""
WAIT_FIRST_S, WAIT_MAX_S = 0.25, 15.0
STEADY_S: Final = 30.0
"""A worker that lived so long began well: the next one of its place is started at once."""
_log = logging.getLogger("hanbit.workers")


def check(settings: Settings, data: Path) -> None:
    """BadInput where a book cannot be shared."""
    if isinstance(place_of(data, settings), Path):
        raise BadInput(
            "--workers: a SQLite book is written by one process; several need PostgreSQL. "
            "Move the book with: hanbit migrate, or make one with: hanbit init --database (docs/operating.md, Several processes)"
        )


class Workers:
    """Every place with the worker that is in it now."""

    def __init__(self, data: Path, count: int, sockets: dict[str, int], holding: int) -> None:
        self._data = data
        self._count = count
        self._sockets = sockets
        self._holding = holding
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._stopping = asyncio.Event()
        self.all_ready = asyncio.Event()
        self.is_hopeless = False
        """One could not begin before all ever did: settings, a port, the database."""

    async def run(self) -> None:
        """Until `stop`, and until every worker has ended then."""
        life, other_end = os.pipe()
        os.set_inheritable(life, True)
        try:
            await asyncio.gather(*(self._keep(number, life) for number in range(1, self._count + 1)))
        finally:
            os.close(other_end)
            os.close(life)

    def stop(self) -> None:
        """Every worker answers what was asked, then ends."""
        self._stopping.set()
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """To every worker."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, number: int, life: int) -> None:
        """One place: somebody works in it until everything stops."""
        loop, wait_s = asyncio.get_running_loop(), 0.0
        while not self._stopping.is_set():
            began = loop.time()
            ended = await self._work(number, life)
            self._ready.discard(number)
            if self._stopping.is_set():
                break
            _log.warning("worker_ended", extra={"worker": number, "status": ended})
            if ended > 0 and not self.all_ready.is_set():
                self.is_hopeless = True
                self.stop()
            steady = ended == 0 or loop.time() - began >= STEADY_S  # told to stop by somebody, or after a good while
            wait_s = 0.0 if steady else min(max(wait_s * 2, WAIT_FIRST_S), WAIT_MAX_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()

    async def _work(self, number: int, life: int) -> int:
        """One worker from its start to its end; how it ended."""
        hears, told = os.pipe()
        os.set_blocking(hears, False)
        plan = Plan(str(self._data), number, self._sockets, life, told)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hanbit.workers.child", msgspec.json.encode(plan).decode()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(*self._sockets.values(), self._holding, life, told),
                env={name: value for name, value in os.environ.items() if name not in {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}},
            )
        finally:
            os.close(told)
        self._running[number] = process
        if self._stopping.is_set():
            process.terminate()
        watching = asyncio.create_task(self._watch(number, process, hears))
        try:
            return await process.wait()
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            os.close(hears)
            del self._running[number]

    async def _watch(self, number: int, process: asyncio.subprocess.Process, hears: int) -> None:
        """Kill it where it does not begin in time, does not say that it lives, or does not end when it should."""
        loop = asyncio.get_running_loop()
        heard, stopping_since = loop.time(), 0.0
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with suppress(BlockingIOError):
                if os.read(hears, 4096):
                    heard = loop.time()
                    self._note_ready(number, process)
            if self._stopping.is_set() and not stopping_since:
                stopping_since = loop.time()
            late = loop.time() - heard > (SILENT_MAX_S if number in self._ready else START_S)
            if late or (stopping_since and loop.time() - stopping_since > STOP_S):
                _log.error("worker_hangs", extra={"worker": number})
                process.kill()
                return

    def _note_ready(self, number: int, process: asyncio.subprocess.Process) -> None:
        if number not in self._ready:
            self._ready.add(number)
            _log.info("worker_ready", extra={"worker": number, "pid": process.pid})
            if len(self._ready) == self._count:
                self.all_ready.set()


@contextmanager
def bound(data: Path, settings: Settings) -> Iterator[dict[str, int]]:
    """Every port that the workers listen at, and the control socket, by name."""
    with ExitStack() as stack:
        found: dict[str, socket.socket] = {"control": stack.enter_context(control.bind(data))}
        for name, (host, port) in faces(settings).items():
            found[name] = stack.enter_context(bind(host, port))
        for name, (host, port, interface) in doors(settings).items():
            mode: line_doors.Mode = "leased" if name.startswith("leased") else "vpn"
            found[name] = stack.enter_context(line_doors.bind(mode, host, port, interface))
        for listener in found.values():
            listener.listen(line_doors.BACKLOG)  # already now: whoever comes while workers start waits for them
        yield {name: listener.fileno() for name, listener in found.items()}


async def serve(data: Path, count: int, *, on_ready: Callable[[Settings], None], on_stop: Callable[[], None]) -> None:
    """Run so many workers until SIGTERM; SIGHUP goes to each. Unavailable where one of them could not begin."""
    settings = load(data)
    check(settings, data)
    loop = asyncio.get_running_loop()
    with hold(data) as holding:
        keyring.tidy_up(data / KEYS_FOLDER)
        with bound(data, settings) as sockets:
            workers = Workers(data, count, sockets, holding)

            def stop() -> None:
                on_stop()
                workers.stop()

            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop)
            loop.add_signal_handler(signal.SIGHUP, partial(workers.signal, signal.SIGHUP))
            running = asyncio.create_task(workers.run(), name="workers")
            ready = asyncio.create_task(workers.all_ready.wait())
            await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                on_ready(settings)
            ready.cancel()
            await running
            if workers.is_hopeless:
                raise Unavailable("a worker could not begin; what it wrote says why")
