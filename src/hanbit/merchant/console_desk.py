"""What people in the merchants' console may have this shop do, and what it shows them of its own book; see ADR 0028.

An act comes with an id and is done once under it: a cancellation takes the id as its request key, the rest changes nothing a second time.
The shop signs its own C1 as always, within the limits that its developer has set, and answers with what it did. A shop that offers
nothing says so.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, HanbitError, ProtocolViolation, Unavailable
from hanbit.kernel.money import Money
from hanbit.merchant import cancellation as cancellations
from hanbit.merchant import purchase as purchases
from hanbit.merchant.cancellation import Cancellation
from hanbit.merchant.changes import Keep, MarkLooked, Stale
from hanbit.merchant.order import Order
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.reconciliation import CLOCK_GRACE_S
from hanbit.protocols import console
from hanbit.protocols.console import DONE, NOT_OFFERED, ROWS_MAX, CallBack, ConsoleAct, ConsoleQuestion, Look
from hanbit.protocols.redirect.merchant import Merchant
from hanbit.protocols.signed import SignedMessage

KEY: Final = "console:"
"""What the request key of a cancellation from a console begins with."""
DAY_S: Final = 24 * 3600
TYPS: Final = frozenset({ConsoleAct.TYP, ConsoleQuestion.TYP})
_TEXT_MAX: Final = 200
_log = logging.getLogger("hanbit.merchant")


@dataclass(frozen=True, slots=True)
class ConsoleTerms:
    """What a console may cancel here: at most `each_max` with one request and `day_max` in 24 hours, in minor units; None is no limit."""

    each_max: int | None = None
    day_max: int | None = None


class CallBacks(Protocol):
    """The shop's call-backs, where its program has any; the agent's are some."""

    async def latest(self, limit: int) -> list[CallBack]:
        """The newest, no more than this."""
        ...

    async def resend(self, delivery: str) -> None:
        """Once more; NotFound where there is none."""
        ...

    async def test(self, subject: str) -> None:
        """A test event to every endpoint, once for each subject."""
        ...


class Cancels(Protocol):
    """`Shop.cancel`."""

    def __call__(self, tid: str, *, amount: Money | None, reason: str, request_key: str | None) -> Awaitable[Cancellation]:
        """C1."""
        ...


class ConsoleDesk:
    """Takes acts and questions; `terms` None is a shop whose developer has not switched cancellations on."""

    def __init__(
        self,
        *,
        role: Merchant,
        book: OrderBook,
        clock: Clock,
        cancel: Cancels,
        order: Callable[[str], Awaitable[Order]],
        terms: ConsoleTerms | None,
    ) -> None:
        self.callbacks: CallBacks | None = None
        self._role = role
        self._book = book
        self._clock = clock
        self._cancel = cancel
        self._order = order
        self.terms = terms
        self._one_at_a_time = asyncio.Lock()

    async def receive(self, typ: str, unverified: str, request: str) -> str:
        """The answer to a frame of this typ and hash; the very bytes that were stored, where it was answered before."""
        role, at = self._role, self._clock.now()
        trust, gateway, own = role.trust, role.gateway, role.signer.urn
        if typ == ConsoleQuestion.TYP:
            return await self._show(console.read_question(unverified, trust=trust, gateway=gateway, merchant=own, at=at), at)
        known = await self._book.known(request, None, None)
        if known.answer is not None:
            return known.answer
        act = console.read_act(unverified, trust=trust, gateway=gateway, merchant=own, at=at)
        async with self._one_at_a_time:  # the day's limit is looked at and used up by one
            result, cancellation = await self._do(act.claims, at)
        done = console.make_done(role.signer, act, result, at=at, cancellation=cancellation)
        try:
            await self._book.commit(Keep(act, sent=False, tid=None, answers=None, at=at))
        except Stale:
            _log.info("an act of the console is taken up again")
        await self._book.commit(Keep(done, sent=True, tid=None, answers=act.hash, at=at))
        _log.info("an act of the console: %s", result, extra={"request": act.claims.request})
        return done.compact

    async def _do(self, act: ConsoleAct, at: int) -> tuple[str, str | None]:
        """What came of it, and the id of a cancellation. What may yet succeed is Unavailable and is asked again with the same bytes."""
        try:
            before = await self._book.cancellations(cancellations.BY_REQUEST_KEY, KEY + act.request) if act.act == "cancel" else []
            if before:  # asked before a crash: that very one
                return DONE, before[0].id
            if at > act.exp:
                return "exp", None
            if act.act == "cancel":
                return await self._cancel_for(act, at)
            if act.act == "looked":
                await self._book.commit(MarkLooked(_tid(act), act.person, at))
            elif self.callbacks is None:
                return NOT_OFFERED, None
            elif act.act == "resend":
                await self.callbacks.resend(act.delivery or "")
            else:
                await self.callbacks.test(act.request)
        except Unavailable:
            raise
        except ProtocolViolation:
            raise
        except HanbitError as error:
            return error.code, None
        return DONE, None

    async def _cancel_for(self, act: ConsoleAct, at: int) -> tuple[str, str | None]:
        if self.terms is None:
            return NOT_OFFERED, None
        order = await self._order(_tid(act))
        amount = None if act.amount is None else Money(int(act.amount), act.currency or order.amount.currency)
        minor = (amount or order.remaining).amount_minor
        if self.terms.each_max is not None and minor > self.terms.each_max:
            return "over_limit", None
        if self.terms.day_max is not None and minor + await self._of_the_day(at) > self.terms.day_max:
            return "over_day_limit", None
        done = await self._cancel(order.tid, amount=amount, reason=act.reason, request_key=KEY + act.request)
        return DONE, done.id

    async def _of_the_day(self, at: int) -> int:
        """What consoles have cancelled in the last 24 hours, or are about to; what was refused does not count."""
        found = await self._book.cancellations(cancellations.OF_CONSOLES, KEY, KEY + "~", at - DAY_S)
        return sum(one.amount.amount_minor for one in found)

    # --- looks ------------------------------------------------------------------------------------------------------------------------

    async def _show(self, question: SignedMessage[ConsoleQuestion], at: int) -> str:
        signer = self._role.signer
        if question.claims.about == "orders":
            looks = await self._looks(at)
            return console.make_rows(signer, question, at=at, looks=tuple(looks[:ROWS_MAX]), more=len(looks) > ROWS_MAX).compact
        if self.callbacks is None:
            return console.make_rows(signer, question, at=at, offered=False).compact
        found = await self.callbacks.latest(ROWS_MAX + 1)
        return console.make_rows(signer, question, at=at, callbacks=tuple(found[:ROWS_MAX]), more=len(found) > ROWS_MAX).compact

    async def _looks(self, at: int) -> list[Look]:
        """What contradicts first, then what should have ended by now."""
        book, limit = self._book, ROWS_MAX + 1
        found = [
            Look(kind="cancellation", tid=one.tid, state=one.state, why=shown(one.look), since=one.changed_at)
            for one in await book.cancellations(cancellations.TO_LOOK_AT, limit)
        ]
        found += [
            Look(kind="purchase", tid=one.tid, state=one.state, why=shown(one.look), since=one.changed_at)
            for one in await book.exchanges(purchases.TO_LOOK_AT, limit)
        ]
        late = await book.overdue(answered_before=at - CLOCK_GRACE_S, ended_before=at - CLOCK_GRACE_S, limit=limit)
        found += [Look(kind="order", tid=one.tid, state=one.state, why="", since=one.changed_at) for one in late]
        return found[:limit]


def shown(text: str | None) -> str:
    """A text as it may go over the line: what cannot be printed stays here."""
    return "".join(one if one.isprintable() else " " for one in text or "")[:_TEXT_MAX]


def _tid(act: ConsoleAct) -> str:
    if act.tid is None:
        raise BadInput("tid")
    return act.tid
