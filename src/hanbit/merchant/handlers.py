"""The shop's own say: whether it stands to an order (3 s, silence refuses), and what it does with an outcome (until it has done it)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, Unavailable
from hanbit.merchant.changes import MarkHandled, MarkRefundTold
from hanbit.merchant.order import Order
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.states import State
from hanbit.protocols.redirect.merchant import Objection
from hanbit.protocols.redirect.messages import Words

CONFIRM_WITHIN_S: Final = 3.0
"""The customer's page waits 4 s for the shop."""
HANDLE_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 5.0
HANDLERS_MAX: Final = 64
"""Outcomes that are handed over at once."""
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 300.0
_WORDS_MAX: Final = 200
_log = logging.getLogger("hanbit.merchant")


@dataclass(frozen=True, slots=True)
class Yes:
    """The shop stands to the order and will deliver once it is settled."""


@dataclass(frozen=True, slots=True)
class No:
    """The shop does not want the money; `ko` and `en` (1 to 200 characters, plain text) are shown to the customer under its name."""

    ko: str
    en: str

    def __post_init__(self) -> None:
        for text in (self.ko, self.en):
            if not 1 <= len(text) <= _WORDS_MAX or not text.isprintable():
                raise BadInput("a message has 1 to 200 printable characters in each language")


OnConfirm: TypeAlias = Callable[[Order], Awaitable[Yes | No]]
OnOutcome: TypeAlias = Callable[[Order], Awaitable[None]]
"""Called at least once for each order that ended, and again where it is struck later; what it returned from is not handed over again."""


OnRefund: TypeAlias = Callable[[Order], Awaitable[None]]
"""Called at least once after a part of a settled order has gone back: `order.refunded` says how much in all. Two parts may come as one."""


async def ask_shop(on_confirm: OnConfirm | None, order: Order) -> Objection | None:
    """None only for an explicit Yes (or where the shop wants no say); an error, a wrong type and silence are a no."""
    if on_confirm is None:
        return None
    try:
        decision: object = await asyncio.wait_for(on_confirm(order), CONFIRM_WITHIN_S)
    except TimeoutError:
        _log.warning("the confirm handler was silent for %s s", CONFIRM_WITHIN_S)
        return Objection("shop_silent")
    except Exception:  # noqa: BLE001 - whatever is wrong in the shop's code, the gateway gets a signed no
        _log.exception("the confirm handler failed")
        return Objection("shop_silent")
    match decision:
        case Yes():
            return None
        case No(ko=ko, en=en):
            return Objection("shop_refused", Words(ko=ko, en=en))
        case _:  # a shop's code is not always type-checked
            _log.error("the confirm handler returned %s, neither Yes nor No", type(decision).__name__)
            return Objection("shop_silent")


class OutcomeDesk:
    """Hands stored outcomes and refunds to the shop's handlers, from the book: what a crash or an error left is handed over again.

    Of one order one thing at a time, and what became of it before what went back of it.
    """

    def __init__(self, book: OrderBook, on_outcome: OnOutcome | None, on_refund: OnRefund | None, clock: Clock) -> None:
        self._book = book
        self._on_outcome = on_outcome
        self._on_refund = on_refund
        self._clock = clock
        self._bell = asyncio.Event()
        self._in_hand: dict[str, asyncio.Task[None]] = {}
        self._later: dict[str, tuple[float, float]] = {}
        """tid → (not before, next pause); only of those that failed since the start"""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what an earlier process left unhandled."""
        self._bell.set()
        self._task = asyncio.create_task(self._run())

    def ring(self) -> None:
        """There is a new outcome in the book."""
        self._bell.set()

    async def stop(self) -> None:
        """Let handlers at work end; one that takes longer is called again after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        at_work = list(self._in_hand.values())
        if at_work:
            await asyncio.wait(at_work, timeout=STOP_WITHIN_S)
        for handler in at_work:
            handler.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            try:
                await self._hand_out()
            except Unavailable as error:
                _log.warning("outcomes wait: %s", error)
            try:
                # Not wait_for: until Python 3.12 it swallows a cancellation that comes together with the bell, and `stop` waits for ever.
                async with asyncio.timeout(RETRY_FIRST_S if self._later or self._in_hand else None):
                    await self._bell.wait()
            except TimeoutError:
                continue

    async def _hand_out(self) -> None:
        now = self._clock.monotonic()
        most = HANDLERS_MAX + len(self._later)  # those that failed are asked for too, so that they never hide a newer one
        ended = [] if self._on_outcome is None else await self._book.unhandled(most)
        refunded = [] if self._on_refund is None else await self._book.untold_refunds(most)
        for tell, order in [*((self._tell_outcome, one) for one in ended), *((self._tell_refund, one) for one in refunded)]:
            if len(self._in_hand) >= HANDLERS_MAX:
                return
            if order.tid not in self._in_hand and self._later.get(order.tid, (0.0, 0.0))[0] <= now:
                self._in_hand[order.tid] = asyncio.create_task(self._hand_over(order, tell))

    async def _tell_outcome(self, order: Order) -> None:
        assert self._on_outcome is not None
        await asyncio.wait_for(self._on_outcome(order), HANDLE_WITHIN_S)
        await self._book.commit(MarkHandled(order.tid, order.state, self._clock.now()))

    async def _tell_refund(self, order: Order) -> None:
        assert self._on_refund is not None
        if order.state is State.SETTLED:  # of one that was struck since, that was told
            await asyncio.wait_for(self._on_refund(order), HANDLE_WITHIN_S)
        await self._book.commit(MarkRefundTold(order.tid, order.refunded_minor, self._clock.now()))

    async def _hand_over(self, order: Order, tell: Callable[[Order], Awaitable[None]]) -> None:
        try:
            await tell(order)
            self._later.pop(order.tid, None)
        except Exception:  # noqa: BLE001 - the shop's code; it is asked again, with growing pauses, until it succeeds
            _log.exception("a handler failed; it will be called again")
            pause = min(self._later.get(order.tid, (0.0, RETRY_FIRST_S))[1], RETRY_MAX_S)
            self._later[order.tid] = (self._clock.monotonic() + pause, pause * 2)
        finally:
            self._in_hand.pop(order.tid, None)
            self._bell.set()
