"""The clock of a shop that is registered with a test operator: the gateway's hello says how far it was moved, and the shop goes along."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from hanbit.kernel.clock import Clock, SandboxClock
from hanbit.kernel.errors import HanbitError
from hanbit.merchant.files import Registration
from hanbit.merchant.order_book import OrderBook
from hanbit.protocols.line import OFFSET_WARNED_S

HELD: Final = "sandbox_clock"
DIGITS_MAX: Final = 12
_log = logging.getLogger("hanbit.merchant")


class FollowingClock(SandboxClock):
    """Set by the gateway; kept in the order book, so that a shop that starts again signs no order of yesterday."""

    def __init__(self, base: Clock) -> None:
        super().__init__(base)
        self.on_moved: list[Callable[[], None]] = []
        """Called when the time of day has moved: something may be due now."""
        self._book: OrderBook | None = None
        self._keeping: set[asyncio.Task[None]] = set()

    async def take_from(self, book: OrderBook) -> None:
        """As an earlier process of this shop left it; what follows is kept there."""
        self._book = book
        held = await book.held(HELD)
        if held is not None and len(held.content) <= DIGITS_MAX and held.content.lstrip("-").isdecimal():
            self.offset_s = int(held.content)

    def follow(self, offset_s: int) -> None:
        """The gateway's clock is so far from ours. A second or two are the way there, and no reason to move."""
        if abs(offset_s) <= OFFSET_WARNED_S:
            return
        self.offset_s += offset_s
        _log.warning("TEST: the payment server's clock was moved, ours follows by %+d s", offset_s)
        if self._book is not None:
            task = asyncio.get_running_loop().create_task(self._keep(self._book))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
        for bell in self.on_moved:
            bell()

    async def _keep(self, book: OrderBook) -> None:
        try:
            await book.hold(HELD, str(self.offset_s), self.now())
        except HanbitError as error:  # the next start asks the gateway again
            _log.warning("the moved clock could not be written down: %s", error)


async def take_up(clock: Clock, book: OrderBook) -> Clock:
    """Before the shop does anything: the time that an earlier process of it went by, where it follows one; the clock itself."""
    if isinstance(clock, FollowingClock):
        await clock.take_from(book)
    return clock


def clock_of(registration: Registration, clock: Clock) -> Clock:
    """The clock that a shop of this registration goes by: its own, which at a test operator follows."""
    return FollowingClock(clock) if registration.test and not isinstance(clock, FollowingClock) else clock
