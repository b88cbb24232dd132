"""Commands that write: run here when the folder is free, else sent to the server that holds it, through `DIR/control` (a socket, 0600).

What goes over it: `command_lines.py`.
"""

import asyncio
import inspect
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from hanbit import command_lines
from hanbit.folder import CONTROL_FILE, close_gateway, hold, open_gateway
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput, Conflict
from hanbit.payments.gateway import Gateway
from hanbit.payments.operations import COMMANDS as OPERATIONS
from hanbit.private_socket import bind_private
from hanbit.upkeep.commands import COMMANDS as UPKEEP

ANSWER_TIMEOUT_S = 30.0

log = logging.getLogger("hanbit.control")
Commands = Mapping[str, Callable[..., Awaitable[dict[str, Any]]]]
COMMANDS: Commands = OPERATIONS | UPKEEP


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
    return await command_lines.send(
        folder / CONTROL_FILE,
        command,
        arguments,
        absent=f"{folder} is held, but nobody answers",
        silent="the server",
        silence_max_s=ANSWER_TIMEOUT_S,
    )


def bind(folder: Path) -> socket.socket:
    """The socket `DIR/control`, for whoever holds the folder."""
    path = folder / CONTROL_FILE
    path.unlink(missing_ok=True)  # the folder is held by us: whoever left it is gone
    return bind_private(path)


async def listen(listener: socket.socket, gateway: Gateway, commands: Commands = COMMANDS) -> asyncio.Server:
    """Serve commands on this socket until the server is closed."""

    async def call(command: object, arguments: object) -> dict[str, Any]:
        return await _call(gateway, command, arguments, commands)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), ANSWER_TIMEOUT_S)
            if line:
                answer = await command_lines.answer(line, call, who="the server", log=log)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ValueError, OSError) as error:  # a line without end, or whoever asked is silent or gone
            log.warning("control_request_refused", extra={"reason": str(error)})
        finally:
            writer.close()

    return await asyncio.start_unix_server(serve, sock=listener, limit=command_lines.LINE_MAX)
