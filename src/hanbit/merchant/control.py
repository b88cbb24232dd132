"""`DIR/control`, a socket (0600) on which a running shop takes the commands of its staff: the order book has one process.

One line of JSON there: {"command", "arguments"}; back come lines {"progress": [done, total]} and at last {"result"} or {"error", "code"}.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hanbit.kernel.errors import BadInput, Conflict, HanbitError, NotFound, Refused, TooLarge, Unavailable, WrongState
from hanbit.merchant import operations
from hanbit.merchant.reconciliation import Progress
from hanbit.private_socket import bind_private

if TYPE_CHECKING:
    from hanbit.merchant.shop import Shop

CONTROL: Final = "control"
LINE_MAX: Final = 1 << 20
ANSWER_MAX: Final = 64 << 20
"""Bytes of an answer: a report may name every open order."""
SILENCE_MAX_S: Final = 150.0
"""Between two lines: an inquiry waits no longer than its line does."""
CALLERS_MAX: Final = 8
_log = logging.getLogger("hanbit.merchant")


class CommandRefused(Refused):
    """The running shop turned the command away."""

    code = "command_refused"


KINDS: Final[dict[str, type[HanbitError]]] = {kind.code: kind for kind in (BadInput, Conflict, NotFound, TooLarge, Unavailable, WrongState)}
"""A refusal is of the same kind, whether this process or the one that has the book has decided it."""


async def send(directory: Path, command: str, arguments: dict[str, str], progress: Progress, holder: str) -> dict[str, Any]:
    """Have the process that holds the folder's order book run a command; `holder` says who that is."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(directory / CONTROL), limit=ANSWER_MAX)
    except OSError as error:
        raise Unavailable(f"{holder}, and it does not answer at {directory / CONTROL}: {error}") from error
    try:
        writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        await writer.drain()
        while True:
            answer = json.loads(await asyncio.wait_for(reader.readline(), SILENCE_MAX_S))
            if "progress" not in answer:
                break
            progress(*answer["progress"])
    except (TimeoutError, ValueError, OSError) as error:
        raise Unavailable("the shop did not answer; look whether the command took effect before you repeat it") from error
    finally:
        writer.close()
    if "error" in answer:
        raise KINDS.get(str(answer.get("code")), CommandRefused)(str(answer["error"]))
    return dict(answer["result"])


@asynccontextmanager
async def listening(directory: Path, shop: "Shop") -> AsyncIterator[None]:
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

    server = await asyncio.start_unix_server(serve, sock=listener, limit=LINE_MAX)
    try:
        yield
    finally:
        server.close()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        (directory / CONTROL).unlink(missing_ok=True)


async def _serve(shop: "Shop", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, busy: bool) -> None:
    def progress(done: int, total: int) -> None:
        writer.write(json.dumps({"progress": [done, total]}).encode() + b"\n")

    try:
        line = await asyncio.wait_for(reader.readline(), SILENCE_MAX_S)
        if line:
            answer = await _answer(shop, line, progress, busy=busy)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
    except (ValueError, OSError) as error:  # a line without end, or whoever asked is silent or gone
        _log.warning("a command was not taken: %s", error)


async def _answer(shop: "Shop", unverified_line: bytes, progress: Progress, *, busy: bool) -> dict[str, Any]:
    try:
        if busy:
            raise Unavailable("the shop runs as many commands as it takes at once")  # noqa: TRY301 - one shape for every refusal
        request = _read(unverified_line)
        return {"result": await operations.call(shop, progress, request.get("command"), request.get("arguments"))}
    except HanbitError as error:
        return {"error": error.detail or error.code, "code": error.code}
    except Exception:  # noqa: BLE001 - whatever is wrong in a command, its caller is told and the shop goes on
        _log.exception("a command failed")
        return {"error": "the shop could not run this command; its log says why", "code": Unavailable.code}


def _read(unverified: bytes) -> dict[str, Any]:
    try:
        request = json.loads(unverified)
    except (ValueError, RecursionError) as error:
        raise BadInput("one line of JSON") from error
    if not isinstance(request, dict):
        raise BadInput("one JSON object")
    return request
