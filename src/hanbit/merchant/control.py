"""`DIR/control`, a socket (0600) on which a running shop takes the commands of its staff: the order book has one process.

What goes over it: `command_lines.py`.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from hanbit import command_lines
from hanbit.kernel.errors import Unavailable
from hanbit.merchant import operations
from hanbit.merchant.operations import Staffed
from hanbit.merchant.reconciliation import Progress
from hanbit.private_socket import bind_private

CONTROL: Final = "control"
ANSWER_MAX: Final = 64 << 20
"""Bytes of an answer: a report may name every open order."""
SILENCE_MAX_S: Final = 150.0
"""Between two lines: an inquiry waits no longer than its line does."""
CALLERS_MAX: Final = 8
_log = logging.getLogger("hanbit.merchant")


async def send(directory: Path, command: str, arguments: dict[str, str], progress: Progress, holder: str) -> dict[str, Any]:
    """Have the process that holds the folder's order book run a command; `holder` says who that is."""
    return await command_lines.send(
        directory / CONTROL,
        command,
        arguments,
        absent=f"{holder}, and it does not answer",
        silent="the shop",
        silence_max_s=SILENCE_MAX_S,
        answer_max=ANSWER_MAX,
        progress=progress,
    )


@asynccontextmanager
async def listening(directory: Path, shop: Staffed) -> AsyncIterator[None]:
    """Take commands on `DIR/control` meanwhile; where the system allows no socket there, the shop runs without."""
    try:
        (directory / CONTROL).unlink(missing_ok=True)  # the book is held by us: whoever left it is gone
        listener = bind_private(directory / CONTROL)
    except OSError as error:
        _log.warning("commands cannot be sent to this shop: %s", error)
        yield
        return
    callers: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            callers.add(task)
        try:
            await _serve(shop, reader, writer, busy=len(callers) > CALLERS_MAX)
        finally:
            writer.close()
            callers.discard(task) if task is not None else None

    server = await asyncio.start_unix_server(serve, sock=listener, limit=command_lines.LINE_MAX)
    try:
        yield
    finally:
        server.close()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        (directory / CONTROL).unlink(missing_ok=True)


async def _serve(shop: Staffed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, busy: bool) -> None:
    def progress(done: int, total: int) -> None:
        writer.write(json.dumps({"progress": [done, total]}).encode() + b"\n")

    async def call(command: object, arguments: object) -> dict[str, Any]:
        if busy:
            raise Unavailable("the shop runs as many commands as it takes at once")
        return await operations.call(shop, progress, command, arguments)

    try:
        line = await asyncio.wait_for(reader.readline(), SILENCE_MAX_S)
        if line:
            answer = await command_lines.answer(line, call, who="the shop", log=_log)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
    except (ValueError, OSError) as error:  # a line without end, or whoever asked is silent or gone
        _log.warning("a command was not taken: %s", error)
