"""The private line of a sandbox: the ordinary one, except for what a magic amount, or a trigger, does to messages on their way.

Only delivery is played with. No message is made, altered or signed here, so that whatever both sides store of a payment stays true.
"""

import asyncio
from collections import OrderedDict
from typing import Any, Final

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, Unavailable
from hanbit.line.figures import LineFigures
from hanbit.payments.gateway import AskingLine, Gateway
from hanbit.protocols.redirect.messages import Notice, Settled, Voided
from hanbit.protocols.signed import peek_claims, peek_typ
from hanbit.sandbox import magic
from hanbit.sandbox.magic import Trick

NOTICES_MAX: Final = 10_000
"""Notices whose first delivery is remembered; the oldest is forgotten first."""
SILENCED_MAX: Final = 1_000


class SandboxLine:
    """Stands before the real line; the composition root puts it there, and only in a sandbox."""

    def __init__(self, line: AskingLine, clock: Clock, *, page_waits_s: float) -> None:
        self._line = line
        self._clock = clock
        self._page_waits_s = page_waits_s
        self._first: OrderedDict[str, float] = OrderedDict()
        """Notice (hash) → when it was first to be delivered, on the monotonic clock."""
        self._silenced: OrderedDict[tuple[str, str], None] = OrderedDict()

    def silence(self, merchant_id: str, tid: str) -> None:
        """From now on no notice of this payment reaches its shop; until the server stops."""
        self._silenced[merchant_id, tid] = None
        if len(self._silenced) > SILENCED_MAX:
            self._silenced.popitem(last=False)

    async def ask(self, merchant_id: str, message: str) -> str:
        """R8, as its amount has it."""
        claims, trick = _read(message, Notice)
        if trick is Trick.LINE_DOWN or (merchant_id, claims.get("tid")) in self._silenced:
            raise Unavailable("sandbox: the line is down for this payment")
        if trick is Trick.SLOW_SHOP:
            await self._wait_until_slow(message)
        if trick is Trick.LOST_ANSWER and self._is_first(message):
            await self._line.ask(merchant_id, message)
            raise Unavailable("sandbox: the shop's answer was lost")
        return await self._line.ask(merchant_id, message)

    async def tell(self, merchant_id: str, message: str) -> None:
        """R11, as its amount has it."""
        claims, trick = _read(message, Settled, Voided)
        if trick is Trick.TOLD_LATE and self._clock.now() < claims["iat"] + magic.LATE_S:
            raise Unavailable("sandbox: the outcome is told later")
        await self._line.tell(merchant_id, message)
        if trick is Trick.TOLD_TWICE:
            await self._line.tell(merchant_id, message)

    def connected(self, merchant_id: str) -> bool:
        """Whether the real line is up."""
        return self._line.connected(merchant_id)

    def drop(self, merchant_id: str, reason: str) -> None:
        """Hang up."""
        self._line.drop(merchant_id, reason)

    def figures(self, merchant_id: str) -> LineFigures:
        """How the real line is."""
        return self._line.figures(merchant_id)

    async def _wait_until_slow(self, message: str) -> None:
        """Nothing is delivered in the first seconds; whoever would wait longer than a page does is told that nobody answers."""
        left_s = self._since(message) + magic.SLOW_S - self._clock.monotonic()
        await asyncio.sleep(min(max(left_s, 0), self._page_waits_s))
        if left_s > self._page_waits_s:
            raise Unavailable("sandbox: the shop is slow")

    def _is_first(self, message: str) -> bool:
        known = len(self._first)
        self._since(message)
        return len(self._first) > known

    def _since(self, message: str) -> float:
        since = self._first.setdefault(ids.digest(message.encode("ascii")), self._clock.monotonic())
        while len(self._first) > NOTICES_MAX:
            self._first.popitem(last=False)
        return since


def of(gateway: Gateway) -> SandboxLine:
    """The line of a sandbox that is being served; BadInput where there is no server, and so no line."""
    if not isinstance(gateway.line, SandboxLine):
        raise BadInput("no server runs on this folder: hanbit serve --data DIR")
    return gateway.line


def _read(message: str, *kinds: type[Notice] | type[Settled] | type[Voided]) -> tuple[dict[str, Any], Trick | None]:
    """The claims of our own message and what its amount does; nothing, where it is of no such kind."""
    if peek_typ(message) not in {kind.TYP for kind in kinds}:
        return {}, None
    claims = peek_claims(message)
    return claims, magic.trick_of(str(claims["amount"]))
