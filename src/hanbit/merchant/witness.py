"""What a shop holds the gateway to: the last checkpoint of its evidence log, against which every later one is checked.

next in line (its `prev` is what we hold)  ─▶ its own proof decides
anything else                              ─▶ ask: show me that your log begins with what I hold (which also shows the gateway what it lost)
shown                                      ─▶ hold the newer one
not shown, or signed otherwise             ─▶ alarm: both are kept, and what we hold stays
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import NotFound, ProtocolViolation, Unavailable
from hanbit.merchant.changes import Reject
from hanbit.merchant.order_book import OrderBook
from hanbit.protocols.checkpoint import NOT_OURS, Checkpoint, check_extends, make_proof_request, read_held, verify_checkpoint, verify_proof
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.signed import SignedMessage, Signer, Trust, peek_typ, verify

HELD: Final = "checkpoint"
CONTRADICTS: Final = "checkpoint_contradicts"
"""The first checkpoint that does not go on from the one we hold: two signatures of the gateway that cannot both be true."""
GIVEN_UP: Final = "checkpoint_given_up"
"""What was held before the shop accepted another log: still a signature that the gateway has to answer for."""
UNSHOWN_MAX_S: Final = 3600
_log = logging.getLogger("hanbit.merchant")
Ask = Callable[[str], Awaitable[str]]


class Witness:
    """One shop's memory of the gateway's log; `load` it before the line is dialled."""

    def __init__(self, *, book: OrderBook, signer: Callable[[], Signer], trust: Trust, gateway: str, operator: str, clock: Clock) -> None:
        self.compact: str | None = None
        """The checkpoint that we hold: what `hello` returns to the gateway."""
        self.contradiction: str | None = None
        """A checkpoint that cannot be true beside it; an alarm until the operator has explained it."""
        self._book = book
        self._signer = signer
        self._trust = trust
        self._gateway = gateway
        self._operator = operator
        self._clock = clock
        self._turn = asyncio.Lock()
        self._unshown_since: int | None = None

    async def load(self) -> None:
        """Read what an earlier process held."""
        held, contradicts = await self._book.held(HELD), await self._book.held(CONTRADICTS)
        self.compact = None if held is None else held.content
        self.contradiction = contradicts.content if contradicts is not None and contradicts.content else None

    async def accept(self, name: str) -> None:
        """The operator has explained the contradiction with this hash: go on from it, and keep what was held before under another name."""
        async with self._turn:
            await self.load()
            if self.compact is None or self.contradiction is None or ids.digest(self.contradiction.encode("ascii")) != name:
                raise NotFound("no contradiction of this name is kept")
            await self._book.hold(GIVEN_UP, self.compact, self._clock.now())
            await self._hold(self.contradiction)
            await self._book.hold(CONTRADICTS, "", self._clock.now())
            self.contradiction = None

    async def receive(self, unverified: str, ask: Ask) -> None:
        """Take a checkpoint from the line. Nothing is answered: nobody waits, and a refusal would make the gateway's log grow by itself."""
        try:
            await self._take(unverified, ask)
        except Unavailable as error:
            self._not_shown(error)
        except ProtocolViolation as violation:
            _log.warning("a checkpoint was rejected: %s", violation)
            await self._book.commit(Reject(unverified.encode("utf-8", "replace"), violation.rule, violation.detail, self._clock.now()))

    async def _take(self, unverified: str, ask: Ask) -> None:
        """ProtocolViolation if the gateway did not sign it, Unavailable if nothing is known yet."""
        newer = verify_checkpoint(unverified, trust=self._trust, operator=self._operator, at=self._clock.now())
        async with self._turn:
            await self.load()  # another process of this shop may have moved it on
            if self.compact is None:
                await self._hold(newer.compact)
                return
            held, held_hash = read_held(self.compact), ids.digest(self.compact.encode("ascii"))
            if newer.hash == held_hash or (newer.claims.iat < held.iat and newer.claims.size < held.size):
                return  # a repetition, or one from before
            try:
                compact = await self._continued(held, held_hash, newer, ask)
            except ProtocolViolation as violation:
                await self._alarm(newer.compact, violation)
            else:
                await self._hold(compact)

    async def _continued(self, held: Checkpoint, held_hash: str, newer: SignedMessage[Checkpoint], ask: Ask) -> str:
        """A checkpoint that provably goes on from what we hold and from the new one; ProtocolViolation if the gateway cannot show any."""
        if newer.claims.prev == held_hash:
            check_extends(held, newer.claims, newer.claims.consistency)
            return newer.compact
        assert self.compact is not None
        shown = await self._prove(self.compact, held, ask)
        if shown.hash == newer.hash:
            return shown.compact
        # It has signed another meanwhile, or shows one log and sent us another: the new one must lead to what it shows as well.
        again = await self._prove(newer.compact, newer.claims, ask)
        if again.hash != shown.hash:
            raise Unavailable("the log grows faster than it is shown")
        return shown.compact

    async def _prove(self, compact: str, older: Checkpoint, ask: Ask) -> SignedMessage[Checkpoint]:
        """Have the gateway show that its log begins with this one."""
        request = make_proof_request(compact, signer=self._signer(), gateway=self._gateway, at=self._clock.now())
        unverified = await ask(request.compact)
        at = self._clock.now()
        if peek_typ(unverified) == RefusedByGateway.TYP:
            claims = request.claims
            refused = verify(unverified, RefusedByGateway, trust=self._trust, audience=claims.iss, sender=claims.aud, at=at).claims
            if refused.code == NOT_OURS and refused.req == request.hash:
                raise ProtocolViolation(NOT_OURS, "the gateway does not know what it has signed")
            raise Unavailable("the gateway does not show it now")
        return verify_proof(unverified, request, older, trust=self._trust, operator=self._operator, at=at)

    async def _hold(self, compact: str) -> None:
        await self._book.hold(HELD, compact, self._clock.now())
        self.compact = compact
        self._unshown_since = None

    def _not_shown(self, error: Unavailable) -> None:
        """Silence proves nothing, but a gateway with two histories would be silent for ever: once an hour the staff are told."""
        at = self._clock.now()
        if self._unshown_since is None:
            self._unshown_since = at
        if at - self._unshown_since < UNSHOWN_MAX_S:
            _log.info("a checkpoint was not taken, the next one will be: %s", error)
            return
        self._unshown_since = at
        _log.error("for an hour the payment server has not shown that its log goes on from what this shop holds: ask it (%s)", error)

    async def _alarm(self, compact: str, violation: ProtocolViolation) -> None:
        if self.contradiction is None:
            await self._book.hold(CONTRADICTS, compact, self._clock.now())
            self.contradiction = compact
            _log.error("the payment server has signed two logs that cannot both be true (%s): keep both checkpoints, call it", violation)


def is_checkpoint(unverified: str) -> bool:
    """Whether these bytes say that they are one."""
    try:
        return peek_typ(unverified) == Checkpoint.TYP
    except ProtocolViolation:
        return False  # the inbox keeps what is no message at all
