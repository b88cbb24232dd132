"""A command and its answer as lines of JSON over a private socket, the same for a data folder's server and for a running shop.

{"command", "arguments"} there; lines {"progress": [done, total]} back, and at last {"result"} or {"error", "code"}.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from hanbit.kernel.errors import BadInput, Conflict, HanbitError, NotFound, Refused, TooLarge, Unavailable, WrongState

LINE_MAX: Final = 1 << 20
"""Bytes of a command."""
Progress = Callable[[int, int], None]
Run = Callable[[object, object], Awaitable[dict[str, Any]]]


class CommandRefused(Refused):
    """The running process turned the command away."""

    code = "command_refused"


KINDS: Final[dict[str, type[HanbitError]]] = {kind.code: kind for kind in (BadInput, Conflict, NotFound, TooLarge, Unavailable, WrongState)}
"""A refusal is of the same kind, whether this process or the one that it was sent to has decided it."""


def _untold(_done: int, _total: int) -> None:
    """Nobody follows."""


async def send(
    path: Path,
    command: str,
    arguments: dict[str, str],
    *,
    absent: str,
    silent: str,
    silence_max_s: float,
    answer_max: int = LINE_MAX,
    progress: Progress = _untold,
) -> dict[str, Any]:
    """Have whoever listens there run a command; `absent` and `silent` are said where nobody does, and where no answer comes."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=answer_max)
    except OSError as error:
        raise Unavailable(f"{absent} at {path}: {error}") from error
    try:
        writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        await writer.drain()
        while True:
            answer = json.loads(await asyncio.wait_for(reader.readline(), silence_max_s))
            if "progress" not in answer:
                break
            progress(*answer["progress"])
    except (TimeoutError, ValueError, OSError) as error:
        raise Unavailable(f"{silent} did not answer; look whether the command took effect before you repeat it") from error
    finally:
        writer.close()
    if "error" in answer:
        raise KINDS.get(str(answer.get("code")), CommandRefused)(str(answer["error"]))
    return dict(answer["result"])


async def answer(unverified_line: bytes, run: Run, *, who: str, log: logging.Logger) -> dict[str, Any]:
    """The last line that goes back: `run` gets what the line says, still unverified; whatever is wrong, `who` goes on."""
    try:
        request = _read(unverified_line)
        return {"result": await run(request.get("command"), request.get("arguments"))}
    except HanbitError as error:
        return {"error": error.detail or error.code, "code": error.code}
    except Exception:
        log.exception("control_command_failed")
        return {"error": f"{who} could not run this command; its log says why", "code": Unavailable.code}


def _read(unverified: bytes) -> dict[str, Any]:
    try:
        request = json.loads(unverified)
    except (ValueError, RecursionError) as error:
        raise BadInput("one line of JSON") from error
    if not isinstance(request, dict):
        raise BadInput("one JSON object")
    return request
