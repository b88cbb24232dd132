"""What an honest gateway answers by itself, so that a right implementation meets nothing unusual outside a case."""

import asyncio

from hanbit.kernel.clock import Clock
from hanbit.merchant.probe.parties import Operator
from hanbit.protocols.line import Frame
from hanbit.protocols.redirect.messages import Inquiry, Status
from hanbit.protocols.signed import SignedMessage, head, sign, verify


class Chores:
    """Inquiries are answered "open", unless a case holds the order's inquiry to answer it itself."""

    def __init__(self, operator: Operator, clock: Clock) -> None:
        self._operator = operator
        self._clock = clock
        self._held: dict[str, asyncio.Future[str]] = {}

    def hold(self, tid: str) -> "asyncio.Future[str]":
        """The next inquiry about this order, unanswered."""
        self._held[tid] = asyncio.get_running_loop().create_future()
        return self._held[tid]

    def release(self, tid: str) -> None:
        """From now on the chores answer it again."""
        self._held.pop(tid, None)

    async def answer(self, frame: Frame, unverified: str) -> str | None:
        """An honest answer, or nothing where none is due; ProtocolViolation for what a gateway refuses."""
        if frame.typ != Inquiry.TYP:
            return None
        inquiry = self._read(unverified)
        held = self._held.get(inquiry.claims.tid)
        if held is not None and not held.done():
            held.set_result(unverified)
            return None
        return self.status(unverified).compact

    def status(self, inquiry: str, *, state: str = "open", outcome: str | None = None) -> SignedMessage[Status]:
        """The answer to this very inquiry."""
        read = self._read(inquiry)
        claims = head(self._operator.gateway, self._operator.merchant, self._clock.now())
        return sign(Status(**claims, tid=read.claims.tid, req=read.hash, state=state, outcome=outcome), self._operator.gateway)

    def _read(self, unverified: str) -> SignedMessage[Inquiry]:
        operator = self._operator
        audience, at = operator.gateway.urn, self._clock.now()
        return verify(unverified, Inquiry, trust=operator.trust(), audience=audience, at=at, sender=operator.merchant)
