"""Couriers: one for each endpoint, so that a slow one holds up nobody else; each sends what is due and notes how it went."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from hanbit.kernel import fail_points
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Unavailable
from hanbit.merchant.agent.outbox import Due, Outbox
from hanbit.merchant.agent.settings import Endpoint
from hanbit.merchant.agent.webhooks import CALL_WITHIN_S, Caller

AT_ONCE: Final = 8
"""Calls of one endpoint at the same time, each of another tid."""
LOOK_AGAIN_S: Final = 60.0
"""The clock may have jumped: the outbox is looked at so often even if nothing is due."""
NOT_STORED_PAUSE_S: Final = 5.0
STOP_WITHIN_S: Final = 5.0
_log = logging.getLogger("hanbit.merchant.agent")


class Courier:
    """Serves one endpoint until it is stopped; what was at work then is sent again after the next start."""

    def __init__(self, endpoint: Endpoint, secrets: Sequence[bytes], outbox: Outbox, caller: Caller, clock: Clock) -> None:
        self.endpoint = endpoint
        self._secrets = secrets
        self._outbox = outbox
        self._caller = caller
        self._clock = clock
        self._bell = asyncio.Event()
        self._in_hand: dict[int, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what an earlier process left."""
        self._task = asyncio.create_task(self._run())

    def ring(self) -> None:
        """There may be something to send."""
        self._bell.set()

    async def stop(self) -> None:
        """Let calls at work end for a moment."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        at_work = list(self._in_hand.values())
        if at_work:
            await asyncio.wait(at_work, timeout=STOP_WITHIN_S)
        for call in at_work:
            call.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            pause_s = LOOK_AGAIN_S
            try:
                free = AT_ONCE - len(self._in_hand)
                for due in await self._outbox.due(self.endpoint.name, free, self._in_hand) if free > 0 else ():
                    self._in_hand[due.number] = asyncio.create_task(self._send(due))
                next_at = await self._outbox.next_at(self.endpoint.name)
                # What is in hand counts as due in the table; its end rings the bell.
                if next_at is not None and not self._in_hand:
                    pause_s = min(max(next_at - self._clock.now(), 1), LOOK_AGAIN_S)
            except Unavailable as error:
                _log.warning("call-backs wait: %s", error)
                pause_s = NOT_STORED_PAUSE_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._bell.wait()
            except TimeoutError:
                continue

    async def _send(self, due: Due) -> None:
        try:
            called = await self._caller.call(self.endpoint.url, self._secrets, event_id=due.id, body=due.body, within_s=CALL_WITHIN_S)
            fail_points.reach("agent.called")
            await self._outbox.record(due, called, self._clock.now())
            _log.log(
                logging.INFO if called.taken else logging.WARNING,
                "call-back %s",
                "taken" if called.taken else "not taken",
                extra={"endpoint": self.endpoint.name, "delivery": due.id, "status": called.status, "error": called.error},
            )
        except Unavailable as error:
            _log.warning("a call-back could not be written down; it will be sent again: %s", error)
            await asyncio.sleep(NOT_STORED_PAUSE_S)
        finally:
            self._in_hand.pop(due.number, None)
            self._bell.set()
