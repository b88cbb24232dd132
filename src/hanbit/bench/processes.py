"""A party of the bench as a child process: told what to do and answering in lines of JSON, its processor time read from the system."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanbit.kernel.errors import Unavailable

LINE_MAX = 64 * 1024 * 1024
STOP_TIMEOUT_S = 10.0
LOG_SHOWN = 1500
_PARENT, _USER_TICKS, _SYSTEM_TICKS = 1, 11, 12
"""Places of ppid, utime and stime in /proc/PID/stat, counted behind the command's closing bracket."""

Commands = dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Party:
    """A running child."""

    process: asyncio.subprocess.Process
    log: Path

    async def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """One command and its answer; Unavailable with the end of its log if the child has ended or failed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        line = b""
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps({"do": command, **arguments}).encode("utf-8") + b"\n")
            await self.process.stdin.drain()
            line = await self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it has ended"}
        if "error" in answer:
            raise Unavailable(f"{self.log.stem} cannot {command}: {answer['error']}\n{self.log.read_text('utf-8', 'replace')[-LOG_SHOWN:]}")
        return answer

    def cpu_s(self) -> float:
        """Processor seconds so far of all its threads, and of the children that it has now."""
        return sum(cpu_s(process) for process in self.family())

    def rss_mb(self) -> float:
        """MiB of memory that it and its children hold now."""
        return sum(rss_mb(process) for process in self.family())

    def family(self) -> list[int]:
        """Its process id and those of its children."""
        return [self.process.pid, *children(self.process.pid)]


def children(parent: int) -> list[int]:
    """The processes that this one has started and that still run."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(_fields(place)[_PARENT]) == parent:
                found.append(int(place.parent.name))
    return found


def cpu_s(process: int) -> float:
    """Processor seconds of all threads of a process so far."""
    fields = _fields(Path(f"/proc/{process}/stat"))
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK")


def _fields(stat: Path) -> list[str]:
    """Of /proc/PID/stat, those behind the command's closing bracket."""
    return stat.read_text("ascii", "replace").rpartition(")")[2].split()


def rss_mb(process: int) -> float:
    """MiB of memory that a process holds now."""
    pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@asynccontextmanager
async def started(log: Path, *arguments: str) -> AsyncIterator[Party]:
    """`python -m` with these arguments, its log in a file; it ends with us, and the terminal's Ctrl-C is only ours."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            limit=LINE_MAX,
            start_new_session=True,
        )
    try:
        yield Party(process, log)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.communicate(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def obey(commands: Commands) -> None:
    """The child's side: one command a line on standard input, one answer a line on standard output, until the input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        request = json.loads(line)
        try:
            answer = await commands[request.pop("do")](request)
        except Exception as error:  # noqa: BLE001 - whatever broke, the parent is told and ends the run
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
