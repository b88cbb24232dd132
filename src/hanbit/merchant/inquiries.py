"""What became of an order: asked of the gateway (RQ), and waited for by whoever shows it to a customer."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, Unavailable
from hanbit.merchant.changes import Keep
from hanbit.merchant.inbox import Inbox
from hanbit.merchant.line import LineToGateway, NotTaken
from hanbit.merchant.order import Order
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.order_desk import OrderDesk
from hanbit.protocols import signed
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.redirect.merchant import Merchant
from hanbit.protocols.redirect.messages import Status
from hanbit.protocols.signed import SignedMessage

WAITERS_MAX: Final = 10_000
INQUIRE_AGAIN_S: Final = 15.0
_TIMEOUT_MAX_S: Final = 120.0
_log = logging.getLogger("hanbit.merchant")


class Inquiries:
    """Asks about orders, and wakes those who wait for their outcome."""

    def __init__(
        self,
        *,
        role: Merchant,
        book: OrderBook,
        orders: OrderDesk,
        clock: Clock,
        line: Callable[[], LineToGateway | None],
        inbox: Callable[[], Inbox],
    ) -> None:
        self._role = role
        self._book = book
        self._orders = orders
        self._clock = clock
        self._line = line
        self._inbox = inbox
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._asked: dict[str, tuple[float, float]] = {}
        """tid → (not again before, next pause)"""

    @property
    def waiting(self) -> int:
        """How many wait for outcomes."""
        return sum(map(len, self._waiters.values()))

    async def inquire(self, tid: str) -> SignedMessage[Status]:
        """RQ: ask the gateway what became of this tid; a stored outcome in its answer goes the way of every outcome."""
        await self._orders.order(tid)
        line = self._line()
        if line is None:
            raise Unavailable("no line to the gateway")
        inquiry = self._role.make_inquiry(tid, at=self._clock.now())
        await self._book.commit(Keep(inquiry, sent=True, tid=tid, answers=None, at=self._clock.now()))
        unverified = await line.ask(inquiry.compact)
        if signed.peek_typ(unverified) == RefusedByGateway.TYP:
            raise NotTaken(str(signed.peek_claims(unverified).get("code", "")))
        status = self._role.read_status(unverified, inquiry, at=self._clock.now())
        await self._book.commit(Keep(status, sent=False, tid=tid, answers=inquiry.hash, at=self._clock.now()))
        if status.claims.outcome is not None:
            acknowledgement = await self._inbox().receive(status.claims.outcome, vouched_by=status)
            if acknowledgement is not None:
                await line.tell(acknowledgement)
        return status

    async def wait(self, tid: str, timeout_s: float) -> Order:
        """Return once the order is final, else as it stands after `timeout_s`.

        Unless it is final already the gateway is asked (RQ): at the first wait for it, then with growing pauses, however often a page asks.
        """
        if self.waiting >= WAITERS_MAX:
            raise Unavailable("too many wait for outcomes")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(tid, set()).add(waiter)
        try:
            order = await self._orders.order(tid)
            if order.final:
                return order
            async with asyncio.timeout(min(timeout_s, _TIMEOUT_MAX_S)):
                if self.may_inquire(tid):
                    try:
                        await self.inquire(tid)
                    except HanbitError as error:
                        _log.info("the inquiry was not answered: %s", error)
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiters[tid].discard(waiter)
            if not self._waiters[tid]:
                del self._waiters[tid]
        return await self._orders.order(tid)

    def on_ended(self, tid: str) -> None:
        """The outcome of this order is stored."""
        for waiter in self._waiters.get(tid, ()):
            if not waiter.done():
                waiter.set_result(None)

    def may_inquire(self, tid: str) -> bool:
        """Each inquiry is two signed messages that are kept for ever: a page that polls all night must not fill the book."""
        now = self._clock.monotonic()
        if len(self._asked) >= WAITERS_MAX:
            self._asked.clear()
        not_before, pause = self._asked.get(tid, (now, INQUIRE_AGAIN_S))
        if now < not_before:
            return False
        self._asked[tid] = (now + pause, pause * 2)
        return True
