"""Stored requests on their way to the gateway: each in one task at a time, and again after 2, 4, 8, 16, 30, 30 … s until it is answered."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError

RETRY_FIRST_S: Final = 2.0
RETRY_MAX_S: Final = 30.0
SENDING_MAX: Final = 16
"""Requests of one desk that are on the line at once."""
LOOK_S: Final = 1.0
"""How often a desk with something open looks whether a pause is over."""
_log = logging.getLogger("hanbit.merchant")


class Sender:
    """The requests of one desk, by id; what they say and what their answers do is the desk's."""

    def __init__(self, what: str, clock: Clock, send_due: Callable[[], Awaitable[bool]], *, goes_on: bool) -> None:
        """`what` is sent, for the log; `send_due` puts on the line what is due, and says whether anything is open.

        `goes_on` where an answer may leave another request to be sent.
        """
        self.bell = asyncio.Event()
        """Rung when there may be something to send."""
        self.turned_away: dict[str, str] = {}
        """id → why the last try brought no answer; only of those that are open"""
        self._what = what
        self._goes_on = goes_on
        self._clock = clock
        self._send_due = send_due
        self._task: asyncio.Task[None] | None = None
        self._on_the_line: dict[str, asyncio.Task[None]] = {}
        self._later: dict[str, tuple[float, float]] = {}
        """id → (not before, next pause)"""

    @property
    def is_busy(self) -> bool:
        """Whether anything is on the line."""
        return bool(self._on_the_line)

    @property
    def is_full(self) -> bool:
        """Whether no more is put on the line."""
        return len(self._on_the_line) >= SENDING_MAX

    def is_due(self, identity: str) -> bool:
        """Whether its pause is over."""
        return self._later.get(identity, (0.0, 0.0))[0] <= self._clock.monotonic()

    def ring(self) -> None:
        """The line is up: whatever waits for its next try is tried now."""
        self._later.clear()
        self.bell.set()

    def now(self, identity: str, exchange: Callable[[], Awaitable[str]]) -> asyncio.Task[None]:
        """The one task that has this request on the line; `exchange` says why there is no answer yet, or an empty text."""
        sending = self._on_the_line.get(identity)
        if sending is None:
            sending = self._on_the_line[identity] = asyncio.create_task(self._send(identity, exchange))
        return sending

    def start(self) -> None:
        """Begin with what an earlier process had asked."""
        self.bell.set()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Let go of what is on the line: the same bytes go out after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        tasks = list(self._on_the_line.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        """Look when the bell is rung; where something is open, after a moment too."""
        while True:
            self.bell.clear()
            is_open = True
            try:
                is_open = await self._send_due()
            except HanbitError as error:
                _log.warning("%ss wait: %s", self._what, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if is_open else None):
                    await self.bell.wait()

    async def _send(self, identity: str, exchange: Callable[[], Awaitable[str]]) -> None:
        try:
            self.turned_away[identity] = await exchange()
        except HanbitError as error:
            _log.info("a %s waits: %s", self._what, error, extra={self._what: identity})
            self.turned_away[identity] = str(error)
        except Exception:  # noqa: BLE001 - a bug must cost neither the answer, which comes again, nor the pause before it is asked for
            _log.exception("a %s could not be sent", self._what, extra={self._what: identity})
            self.turned_away[identity] = "failed"
        finally:
            waited = self.is_full
            del self._on_the_line[identity]
            if self.turned_away.get(identity):
                pause = min(self._later.get(identity, (0.0, RETRY_FIRST_S))[1], RETRY_MAX_S)
                self._later[identity] = (self._clock.monotonic() + pause, pause * 2)
            else:
                self.turned_away.pop(identity, None)
                self._later.pop(identity, None)
            # Where an answer leaves nothing to send, looking through all that is open for each of them would grow with both.
            if self._goes_on or waited or identity in self._later:
                self.bell.set()
