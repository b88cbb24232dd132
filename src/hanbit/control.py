"""Commands that write: run here when the folder is free, else sent to the server that holds it, through `DIR/control` (a socket, 0600).

One line of JSON each way: {"command", "arguments"} → {"result"} or {"error", "code"}.
"""

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from hanbit.folder import CONTROL_FILE, close_gateway, hold, open_gateway
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput, Conflict, HanbitError, NotFound, Refused, TooLarge, Unavailable
from hanbit.payments.gateway import Gateway
from hanbit.payments.operations import COMMANDS as OPERATIONS
from hanbit.private_socket import bind_private
from hanbit.upkeep.commands import COMMANDS as UPKEEP

LINE_MAX = 1 << 20
ANSWER_TIMEOUT_S = 30.0

log = logging.getLogger("hanbit.control")
Commands = Mapping[str, Callable[..., Awaitable[dict[str, Any]]]]
COMMANDS: Commands = OPERATIONS | UPKEEP


class CommandRefused(Refused):
    """The running server turned the command away."""

    code = "command_refused"


KINDS: dict[str, type[HanbitError]] = {kind.code: kind for kind in (BadInput, Conflict, NotFound, TooLarge, Unavailable)}
"""A refusal is of the same kind, whether this process or the server that holds the folder has decided it."""


async def run(folder: Path, command: str, **arguments: str) -> dict[str, Any]:
    """Run one command of `COMMANDS` on this data folder, here or in the server that holds it."""
    return await run_of(COMMANDS, folder, command, arguments)


async def run_of(commands: Commands, folder: Path, command: str, arguments: dict[str, str]) -> dict[str, Any]:
    """Run one command of these; a server that holds the folder knows its own."""
    try:
        with hold(folder):
            gateway = open_gateway(folder, SystemClock())
            try:
                return await _call(gateway, command, arguments, commands)
            finally:
                await close_gateway(gateway)
    except Conflict as error:
        if "is held by process" not in error.detail:
            raise
    return await send(folder, command, arguments)


async def _call(gateway: Gateway, command: object, arguments: object, commands: Commands) -> dict[str, Any]:
    function = commands.get(command) if isinstance(command, str) else None
    if function is None or not isinstance(arguments, dict) or not all(isinstance(value, str) for value in arguments.values()):
        raise BadInput("command")
    if any("\ud800" <= letter <= "\udfff" for value in arguments.values() for letter in value):
        raise BadInput("arguments are text: half of a surrogate pair is none")
    known = {name: item.default for name, item in inspect.signature(function).parameters.items() if item.kind is item.KEYWORD_ONLY}
    needed = {name for name, default in known.items() if default is inspect.Parameter.empty}
    if not needed <= set(arguments) <= set(known):
        raise BadInput(f"arguments of {command}: {', '.join(sorted(known))}")
    return await function(gateway, **arguments)


async def send(folder: Path, command: str, arguments: dict[str, str]) -> dict[str, Any]:
    """Run one command in the server that holds this data folder."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(folder / CONTROL_FILE), limit=LINE_MAX)
    except OSError as error:
        raise Unavailable(f"{folder} is held, but nobody answers at {folder / CONTROL_FILE}: {error}") from error
    try:
        writer.write(json.dumps({"command": command, "arguments": arguments}).encode("utf-8") + b"\n")
        await writer.drain()
        answer = json.loads(await asyncio.wait_for(reader.readline(), ANSWER_TIMEOUT_S))
    except (TimeoutError, ValueError, OSError) as error:
        raise Unavailable("the server did not answer; look whether the command took effect before you repeat it") from error
    finally:
        writer.close()
    if "error" in answer:
        raise KINDS.get(str(answer.get("code")), CommandRefused)(str(answer["error"]))
    return dict(answer["result"])


async def listen(folder: Path, gateway: Gateway, commands: Commands = COMMANDS) -> asyncio.Server:
    """Serve commands on `DIR/control` until the server is closed."""
    path = folder / CONTROL_FILE
    path.unlink(missing_ok=True)  # the folder is held by us: whoever left it is gone
    listener = bind_private(path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), ANSWER_TIMEOUT_S)
            if line:
                writer.write(json.dumps(await _answer(gateway, line, commands)).encode("utf-8") + b"\n")
                await writer.drain()
        except (ValueError, OSError) as error:  # a line without end, or whoever asked is silent or gone
            log.warning("control_request_refused", extra={"reason": str(error)})
        finally:
            writer.close()

    return await asyncio.start_unix_server(serve, sock=listener, limit=LINE_MAX)


async def _answer(gateway: Gateway, unverified_line: bytes, commands: Commands) -> dict[str, Any]:
    try:
        request = _read(unverified_line)
        return {"result": await _call(gateway, request.get("command"), request.get("arguments"), commands)}
    except HanbitError as error:
        return {"error": error.detail or error.code, "code": error.code}
    except Exception:
        log.exception("control_command_failed")
        return {"error": "the server could not run this command; its log says why", "code": Unavailable.code}


def _read(unverified: bytes) -> dict[str, Any]:
    try:
        request = json.loads(unverified)
    except (ValueError, RecursionError) as error:
        raise BadInput("one line of JSON") from error
    if not isinstance(request, dict):
        raise BadInput("one JSON object")
    return request
