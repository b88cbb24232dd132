"""After an outage: asks the gateway what became of every open order, lets its signed word settle it, and lists the rest with advice."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable
from hanbit.merchant import cancellation as cancellations
from hanbit.merchant import purchase as purchases
from hanbit.merchant.cancel_desk import CancellationDesk
from hanbit.merchant.changes import CloseUnopened, Stale
from hanbit.merchant.line import NotTaken
from hanbit.merchant.order import Order
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.states import State
from hanbit.protocols.redirect.messages import Status
from hanbit.protocols.signed import SignedMessage

ASKING_MAX: Final = 8
"""Inquiries on the line at once: payments go on beside them."""
PAGE: Final = 500
LOOK_AT_MAX: Final = 1_000
"""Cancellations and purchases to look at that one report lists, of each."""
TOO_MANY_PAUSE_S: Final = 2.0
TOO_MANY_TRIES: Final = 60
CLOCK_GRACE_S: Final = 120
"""Two clocks of one line may lie a minute apart; nothing is declared over before both say so."""
SETTLING_S: Final = 30
"""An order that was confirmed so recently has its outcome on the way."""
AUTO_AFTER_S: Final = 5.0
"""The gateway tells by itself what it holds for us as soon as the line is up; what is still open after that is asked for."""
AUTO_EVERY_S: Final = 600.0
NEVER_OPENED: Final = "never_opened"
_log = logging.getLogger("hanbit.merchant")

Progress: TypeAlias = Callable[[int, int], None]
"""How many are done, and of how many."""
Inquire: TypeAlias = Callable[[str], Awaitable[SignedMessage[Status]]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One order or cancellation that is still open, why, and what to do."""

    kind: str
    """`order`, `cancellation` or `purchase`"""
    tid: str
    state: str
    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a reconciliation found."""

    asked: int
    """Orders about which the gateway was asked."""
    ended: tuple[tuple[str, str], ...]
    """(tid, state) of each order that has its end now."""
    waiting: tuple[Finding, ...]
    """Nothing is wrong: these end by themselves."""
    unresolved: tuple[Finding, ...]
    """These need somebody."""


_ADVICE: Final[dict[str, str]] = {
    "open": "The customer can still pay; it ends by itself when its time has passed.",
    "in_progress": "The gateway is deciding this payment; it ends by itself within minutes.",
    "unknown": "No customer has opened it yet; it ends by itself when its time has passed.",
    "not_known_there": "The shop has answered a notice for it and the gateway knows no such payment: deliver nothing, keep the order book, "
    "and ask the operator.",
    "overdue": "Its time has passed and the gateway has not ended it: deliver nothing, run this again, then ask the operator.",
    "contradiction": "The gateway's outcome does not continue what this shop said: deliver nothing, keep the order book, "
    "and ask the operator.",
    "no_answer": "The gateway could not be asked: run this again when the line is up.",
    "asked": "The same signed bytes are sent again until the gateway answers.",
    "look": "The gateway's figures are not those of this book: compare both with the operator before anything else is refunded.",
}


class Reconciliation:
    """Asks about orders without an outcome; each answer takes the one way of every message from the gateway."""

    def __init__(
        self,
        *,
        book: OrderBook,
        clock: Clock,
        inquire: Inquire,
        may_inquire: Callable[[str], bool],
        is_up: Callable[[], bool],
        desk: CancellationDesk,
        has_outcome_handler: bool,
        on_ended: Callable[[str], None],
    ) -> None:
        """`may_inquire` spares the book: it says no to whatever was asked about a moment ago."""
        self._book = book
        self._clock = clock
        self._inquire = inquire
        self._may_inquire = may_inquire
        self._is_up = is_up
        self._desk = desk
        self._has_outcome_handler = has_outcome_handler
        self._on_ended = on_ended
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look by itself: when the line comes up, and from time to time."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ring(self) -> None:
        """The line is up."""
        self._bell.set()

    async def report(self, progress: Progress | None) -> Report:
        """Ask about every open order, send every open cancellation, and say what became of each; Unavailable while the line is down."""
        if not self._is_up():
            raise Unavailable("no line to the gateway: nothing can be asked")
        tids = [order.tid async for order in self._open_orders()]
        ended: list[tuple[str, str]] = []
        findings: list[tuple[bool, Finding]] = []
        done = 0
        waiting = iter(tids)

        async def work() -> None:
            nonlocal done
            for tid in waiting:
                found = await self._look(tid)
                if isinstance(found, Order):
                    ended.append((found.tid, found.state))
                elif found is not None:
                    findings.append(found)
                done += 1
                if progress is not None:
                    progress(done, len(tids))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(ASKING_MAX, len(tids))):
                group.create_task(work())
        await self._desk.try_all()
        findings += [finding async for finding in self._beside_orders()]
        place = {tid: number for number, tid in enumerate(tids)}
        findings.sort(key=lambda found: place.get(found[1].tid, len(place)))
        return Report(
            asked=len(tids),
            ended=tuple(sorted(ended, key=lambda end: place[end[0]])),
            waiting=tuple(finding for by_itself, finding in findings if by_itself),
            unresolved=tuple(finding for by_itself, finding in findings if not by_itself),
        )

    # --- by itself --------------------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            await asyncio.sleep(AUTO_AFTER_S)
            if self._is_up():
                try:
                    await self._look_at_what_is_due()
                except HanbitError as error:
                    _log.warning("the reconciliation waits: %s", error)
            try:
                async with asyncio.timeout(AUTO_EVERY_S):
                    await self._bell.wait()
            except TimeoutError:
                continue

    async def _look_at_what_is_due(self) -> None:
        """Orders whose customer may still be paying are left alone; each of the others is asked about, one after the other."""
        now = self._clock.now()
        for order in await self._book.overdue(answered_before=now - SETTLING_S, ended_before=now - CLOCK_GRACE_S, limit=PAGE):
            if self._may_inquire(order.tid):
                found = await self._look(order.tid)
                if isinstance(found, tuple) and not found[0]:
                    _log.warning("an order needs somebody: %s", found[1].reason, extra={"tid": order.tid})

    # --- one order --------------------------------------------------------------------------------------------------------------------

    async def _look(self, tid: str) -> Order | tuple[bool, Finding] | None:
        """The order if it has its end, else what is to be said of it and whether it ends by itself; None where it has gone meanwhile."""
        state, reason = "", ""
        try:
            status = await self._ask(tid)
            state = status.claims.state
            if state == "unknown":
                await self._close_if_never_opened(tid, status)
        except Unavailable as error:
            reason = "no_answer"
            _log.info("an order could not be asked about: %s", error, extra={"tid": tid})
        except ProtocolViolation as violation:
            reason = "contradiction"
            _log.warning("the gateway's word on an order broke a rule: %s", violation.rule, extra={"tid": tid})
        order = await self._book.order(tid)
        if order is None or order.final:
            return order
        by_itself, reason = (False, reason) if reason else self._judge(order, state)
        return by_itself, Finding("order", tid, order.state, reason, _ADVICE[reason])

    def _judge(self, order: Order, state: str) -> tuple[bool, str]:
        overdue = self._clock.now() > order.answer_until + CLOCK_GRACE_S
        if state == "unknown" and order.payment is not None:
            return False, "not_known_there"
        if overdue:
            return False, "overdue"
        return True, state if state in ("open", "in_progress", "unknown") else "in_progress"

    async def _ask(self, tid: str) -> SignedMessage[Status]:
        for _ in range(TOO_MANY_TRIES):
            try:
                return await self._inquire(tid)
            except NotTaken as error:
                if error.line_code != "too_many":
                    raise
                await asyncio.sleep(TOO_MANY_PAUSE_S)
        raise Unavailable("the gateway takes no more inquiries for now")

    async def _close_if_never_opened(self, tid: str, status: SignedMessage[Status]) -> None:
        """The gateway signs that it knows no such transaction, and the time to begin one has passed: the goods are free."""
        order = await self._book.order(tid)
        at = self._clock.now()
        if order is None or order.state not in (State.PLACED, State.WITHDRAWN) or order.payment is not None:
            return
        if at <= order.answer_until + CLOCK_GRACE_S:
            return
        try:
            await self._book.commit(CloseUnopened(tid, order.version, status.hash, NEVER_OPENED, not self._has_outcome_handler, at))
        except Stale:
            return  # something came for it at this very moment
        self._on_ended(tid)

    # --- what is open -----------------------------------------------------------------------------------------------------------------

    async def _open_orders(self) -> AsyncIterator[Order]:
        pay_by, tid = 0, ""
        while page := await self._book.unfinished_after(pay_by, tid, PAGE):
            for order in page:
                yield order
            pay_by, tid = page[-1].pay_by, page[-1].tid

    async def _beside_orders(self) -> AsyncIterator[tuple[bool, Finding]]:
        after = 0
        while page := await self._book.cancellations(cancellations.ASKED, after, PAGE):
            for asked in page:
                reason = self._desk.sender.turned_away.get(asked.id) or "asked"
                yield True, Finding("cancellation", asked.tid, asked.state, reason, _ADVICE["asked"])
            after = page[-1].message
        for odd in await self._book.cancellations(cancellations.TO_LOOK_AT, LOOK_AT_MAX):
            yield False, Finding("cancellation", odd.tid, odd.state, odd.look or "", _ADVICE["look"])
        for contradicted in await self._book.exchanges(purchases.TO_LOOK_AT, LOOK_AT_MAX):
            reason = contradicted.look or ""
            yield False, Finding("purchase", contradicted.tid, contradicted.state, reason, _ADVICE[reason])
