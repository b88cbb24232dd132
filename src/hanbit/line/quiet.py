"""What anybody can make the socket library say is not written down: each end of the line counts and logs by itself."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any


def hush(loop: asyncio.AbstractEventLoop) -> logging.Logger:
    """Keep hang-ups from the loop's error report; the logger returned writes nothing but what must never happen."""
    before = loop.get_exception_handler()
    if not isinstance(before, _HangUps):
        loop.set_exception_handler(_HangUps(before))
    logger = logging.getLogger("hanbit.line.socket")
    logger.setLevel(logging.CRITICAL)
    return logger


class _HangUps:
    """A loop's exception handler that says nothing of peers who hang up in the middle of a TLS handshake.

    The TLS library under picows reports each of them to the loop as an error (the exception's class stands where the exception belongs,
    so that even asyncio's own report fails): every scan of the port would write a traceback. All else goes to the handler that was there.
    """

    def __init__(self, before: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None) -> None:
        self._before = before

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("exception") is ConnectionResetError:
            return
        if self._before is None:
            loop.default_exception_handler(context)
        else:
            self._before(loop, context)
