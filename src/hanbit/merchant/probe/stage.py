"""Where a case plays: honest steps that lead to it, the forged bytes that it offers, and all that was seen of both."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable
from hanbit.merchant.probe.chores import Chores
from hanbit.merchant.probe.forge import Draft, draft, hashes_of
from hanbit.merchant.probe.parties import Operator
from hanbit.merchant.probe.shop_side import AskShop, PlacedOrder, PlaceOrder, ReadState, ShopState, read_location
from hanbit.merchant.probe.ways import Guise, Reply, Way
from hanbit.protocols.line import Acknowledgement
from hanbit.protocols.redirect.messages import Closed, Confirmation, Notice, Settled, Voided
from hanbit.protocols.signed import SignedMessage, Signer, peek_claims, peek_typ, verify

HOLD_S: Final = 600
"""A notice's hold, as at a real gateway."""
ENDS: Final = frozenset({"settled", "paid", "voided", "closed", "cancelled"})
"""States that only a verified outcome may bring about."""


class Failed(HanbitError):
    """The merchant did not do what a right implementation does; `detail` says what."""

    code = "failed"


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the probe waits; seconds."""

    answer_s: float = 4.0
    """For the answer to an honest frame, which a right implementation always gives."""
    forged_s: float = 4.0
    """For the answer to forged bytes; silence afterwards counts as none, and what comes later is still judged at the end."""
    guise_s: float = 5.0
    """For a merchant to talk to us where we pretend to be somebody else; a right one does not."""
    dial_s: float = 20.0
    """For a merchant that was hung up on to be back."""
    case_s: float = 90.0
    """For one case in all."""
    first_s: float = 300.0
    """For the merchant to come at all."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that was sent and what came back."""

    sent: str
    frames: tuple[str, ...]
    end: str
    forged: bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """A notice that the merchant has confirmed."""

    order: PlacedOrder
    payment: str
    notice: str
    confirmation: SignedMessage[Confirmation]

    @property
    def notice_hash(self) -> str:
        """The notice's name."""
        return ids.digest(self.notice.encode("ascii"))


@dataclass(slots=True)
class Stage:
    """One case's stage; a new one for each."""

    operator: Operator
    way: Way
    chores: Chores
    place: PlaceOrder
    state: ReadState | None
    inquire: AskShop | None
    clock: Clock
    waits: Waits
    seen: list[Seen] = field(default_factory=list)
    offered: set[str] = field(default_factory=set)
    """The hashes of everything forged: an acceptance that names one, whenever it comes, is a wrong one."""
    changed: list[str] = field(default_factory=list)
    """What the shop's own view says that it must not say."""

    # --- drafts -----------------------------------------------------------------------------------------------------------------------

    @property
    def at(self) -> int:
        """Now."""
        return self.clock.now()

    def party(self, name: str) -> Signer:
        """Somebody of `parties.CAST`."""
        return self.operator.cast[name]

    def notice(self, order: PlacedOrder, signer: str = "gateway") -> Draft:
        """R8 for this order, as an honest gateway writes it."""
        return draft(
            Notice,
            self.party(signer),
            self.operator.merchant,
            self.at,
            payment=ids.new_token(),
            **figures(order),
            order=order.hash,
            prev=order.hash,
            exp=self.at + HOLD_S,
        )

    def settled(self, exchange: Exchange, signer: str = "gateway") -> Draft:
        """R11: settled, continuing the merchant's confirmation."""
        return self._outcome(Settled, exchange, signer)

    def voided(self, exchange: Exchange, signer: str = "gateway") -> Draft:
        """R11: voided after a confirmation that came too late."""
        return self._outcome(Voided, exchange, signer).but(reason="hold_expired")

    def closed(self, order: PlacedOrder, signer: str = "gateway") -> Draft:
        """R11: ended unpaid before any notice."""
        claims = {"tid": order.tid, "order": order.hash, "prev": order.hash, "outcome": "expired"}
        return draft(Closed, self.party(signer), self.operator.merchant, self.at, **claims)

    def unconfirmed(self, order: PlacedOrder, *, prev: str, payment: str = "") -> Draft:
        """A settled message for an order that was never confirmed."""
        claims = {"payment": payment or ids.new_token(), **figures(order), "order": order.hash, "prev": prev}
        return draft(Settled, self.party("gateway"), self.operator.merchant, self.at, **claims)

    def _outcome(self, kind: type[Settled | Voided], exchange: Exchange, signer: str) -> Draft:
        order = exchange.order
        claims = {"payment": exchange.payment, **figures(order), "order": order.hash, "prev": exchange.confirmation.hash}
        return draft(kind, self.party(signer), self.operator.merchant, self.at, **claims)

    # --- honest steps -----------------------------------------------------------------------------------------------------------------

    async def order(self) -> PlacedOrder:
        """A fresh order of the shop's, verified; Failed where the shop makes none."""
        try:
            return read_location(await self.place(), self.operator, self.clock)
        except HanbitError as error:
            raise Failed(f"no order to play with: {error}") from error

    async def confirmed(self, order: PlacedOrder | None = None) -> Exchange:
        """An honest notice and the merchant's confirmation, verified; Failed where none comes."""
        order = order or await self.order()
        sent = self.notice(order).compact()
        answer = await self.honest(sent)
        if peek_typ(answer) != Confirmation.TYP:
            raise Failed(f"an honest notice was answered {peek_typ(answer)}: {_code(answer)}")
        confirmation = self._verified(answer, Confirmation)
        claims, request = confirmation.claims, ids.digest(sent.encode("ascii"))
        expected = (order.tid, order.amount, order.currency, order.hash, request)
        if (claims.tid, claims.amount, claims.currency, claims.order, claims.req) != expected:
            raise Failed("the confirmation names other figures than the notice that it answers")
        return Exchange(order, claims.payment, sent, confirmation)

    async def confirmed_draft(self, notice: Draft) -> None:
        """Send this honest notice; Failed unless it is confirmed."""
        answer = await self.honest(notice.compact())
        if peek_typ(answer) != Confirmation.TYP:
            raise Failed(f"an honest notice was answered {peek_typ(answer)}: {_code(answer)}")

    async def acknowledged(self, outcome: str) -> None:
        """An honest outcome and the merchant's acknowledgement, verified; Failed where none comes."""
        answer = await self.honest(outcome)
        if peek_typ(answer) != Acknowledgement.TYP:
            raise Failed(f"an honest outcome was answered {peek_typ(answer)}: {_code(answer)}")
        if ids.digest(outcome.encode("ascii")) not in self._verified(answer, Acknowledgement).claims.req:
            raise Failed("the acknowledgement does not name the outcome")

    async def honest(self, frame: str) -> str:
        """Send an honest frame and return the one that answers it; Failed if none comes."""
        reply = await self._exchange(frame, forged=False)
        if not reply.frames:
            raise Failed(f"an honest {peek_typ(frame)} was not answered{f': {reply.end}' if reply.end else ''}")
        return reply.frames[0]

    async def shop_state(self, order: PlacedOrder) -> ShopState | None:
        """The shop's own view, where it can be asked."""
        return None if self.state is None else await self.state(order.tid)

    async def inquiry(self, order: PlacedOrder) -> str:
        """Have the merchant ask about an order (RQ); Failed where it does not."""
        ask = self.inquire or self.state
        if ask is None:
            raise Failed("needs --inquire-url (or a --state-url at which the shop asks the payment server)")
        asked = self.chores.hold(order.tid)
        looking = asyncio.ensure_future(ask(order.tid))
        try:
            async with asyncio.timeout(self.waits.answer_s):
                return await asked
        except TimeoutError:
            raise Failed("the shop asked the payment server nothing") from None
        finally:
            self.chores.release(order.tid)
            looking.add_done_callback(_forget)

    # --- what must not be accepted ----------------------------------------------------------------------------------------------------

    async def offer(self, frame: str, *, order: PlacedOrder | None = None, within: str = "") -> Reply:
        """Send forged bytes; whatever accepts them is found out by the runner. `within` is a forged message inside the frame."""
        before = None if order is None else await self.shop_state(order)
        self.offered |= hashes_of(frame) | (hashes_of(within) if within else set())
        reply = await self._exchange(frame, forged=True)
        if order is not None and before is not None:
            await self.compare(order, before)
        return reply

    async def compare(self, order: PlacedOrder, before: ShopState) -> None:
        """Note it if the shop's view has moved by what was forged."""
        after = await self.shop_state(order)
        if after is not None and (after.delivers != before.delivers or (after.state != before.state and after.state in ENDS)):
            self.changed.append(f"the shop's order went from {before.state} to {after.state}")

    async def meet(self, guise: Guise, frame: str) -> None:
        """Offer this as somebody else."""
        self.offered |= hashes_of(frame)
        reply = await self.way.in_guise(guise, frame, self.waits.guise_s)
        self.seen.append(Seen(frame, reply.frames, reply.end, forged=True))
        await self.way.ready(self.waits.dial_s)

    async def _exchange(self, frame: str, *, forged: bool) -> Reply:
        await self.way.ready(self.waits.dial_s)
        try:
            reply = await self.way.exchange(frame, self.waits.forged_s if forged else self.waits.answer_s)
        except Unavailable as error:
            raise Failed(f"the merchant is not there: {error.detail}") from error
        self.seen.append(Seen(frame, reply.frames, reply.end, forged))
        return reply

    def _verified(self, answer: str, kind: Any) -> SignedMessage[Any]:
        try:
            return verify(
                answer, kind, trust=self.operator.trust(), audience=self.operator.gateway.urn, at=self.at, sender=self.operator.merchant
            )
        except ProtocolViolation as violation:
            raise Failed(f"the merchant's own {kind.TYP} is not good: {violation}") from violation


def figures(order: PlacedOrder) -> dict[str, str]:
    """The three claims that are compared first."""
    return {"tid": order.tid, "amount": order.amount, "currency": order.currency}


def _code(answer: str) -> str:
    claims = peek_claims(answer)
    return str(claims.get("reason") or claims.get("code") or "")


def _forget(looking: "asyncio.Future[Any]") -> None:
    if not looking.cancelled():
        looking.exception()  # only what it made the shop ask was of interest
