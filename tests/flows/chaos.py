"""What can go wrong between gateway and shops of a world: power that fails at a durable step, a line that loses, repeats, delays, reorders.

Whoever has lost power writes nothing and hears nothing until he is started again on his files; nothing here decides what must come of it.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from hanbit.kernel import fail_points
from hanbit.kernel.errors import Unavailable
from hanbit.merchant.shop import Shop
from hanbit.protocols.cancellation.messages import CancelConfirmation, CancelRefusal
from hanbit.protocols.redirect.messages import Confirmation, Refusal, Status
from hanbit.protocols.signed import peek_typ
from tests.world import (
    Fault,
    Link,
    World,
    cut,
    delay_answer,
    delay_request,
    duplicate_answer,
    duplicate_request,
    lose_answer,
    lose_request,
)

Party = Literal["gateway", "merchant"]
POINTS: Final = (
    *(f"{party}.commit.{when}" for party in ("gateway", "merchant") for when in ("before", "after")),
    *(f"payment.{event}" for event in ("opened", "authorized", "merchant_confirmed", "merchant_refused", "merchant_cancelled", "refunded")),
)
"""Where a party may lose its power: round each commit, and between a commit and whatever follows it."""
TELL_FAULTS: Final[tuple[Fault, ...]] = (lose_request, lose_answer, delay_request, duplicate_request, cut)
"""What the line does with an outcome: it has no answer of its own where its acknowledgement goes with another's."""
FAULTS: Final[tuple[Fault, ...]] = (*TELL_FAULTS, delay_answer, duplicate_answer)
"""What it does with a notice."""
UPWARD: Final = ("lose_request", "lose_answer", "delay", "duplicate", "cut")
"""What it does with a frame of a shop's."""
ANSWERS_FOR_EVER: Final = frozenset({Confirmation.TYP, Refusal.TYP, CancelConfirmation.TYP, CancelRefusal.TYP, Status.TYP})
"""The same request gets these very bytes whenever it comes."""


class Power:
    """Who has power. All shops of a world stand in one house and lose it together."""

    def __init__(self, world: World) -> None:
        self.off: set[Party] = set()
        self._world = world
        self._armed: dict[str, int] = {}
        self._usual = fail_points.reach
        fail_points.reach = self.reach

    def restore(self) -> None:
        """As if there had been no such thing."""
        fail_points.reach = self._usual

    @property
    def is_armed(self) -> bool:
        """Somebody will lose his power."""
        return bool(self._armed)

    def arm(self, point: str, count: int) -> None:
        """Fail when this point is reached so many times more."""
        self._armed[point] = count

    def disarm(self) -> None:
        """Fail no more."""
        self._armed.clear()

    def reach(self, name: str) -> None:
        """Stands in for `fail_points.reach`: whoever is off gets no further than the next durable step, which is then not made."""
        party: Party = "gateway" if name.startswith(("gateway.", "payment.")) else "merchant"
        if name in self._armed:
            self._armed[name] -= 1
            if self._armed[name] <= 0:
                del self._armed[name]
                self.off.add(party)
                for link in self._world.line.links.values():
                    link.up = False
        self.check(party)

    def check(self, *parties: Party) -> None:
        """Unavailable, for whoever waits for one that has no power."""
        for party in parties:
            if party in self.off:
                raise Unavailable(f"the {party} has no power")


@dataclass
class TappedLink(Link):
    """A merchant's line that remembers every frame, and that answers which were given for ever stay the same bytes."""

    power: Power | None = None
    down: list[str] = field(default_factory=list)
    """Frames of the gateway's, as they came to the shop."""
    upward: list[str] = field(default_factory=list)
    """Frames of the shop's, whether they arrived or not."""
    slow: list[str] = field(default_factory=list)
    """Frames of the shop's that are still under way."""
    answered: dict[str, str] = field(default_factory=dict)
    """Frame → the answer for ever."""

    @classmethod
    def tap(cls, link: Link, power: Power) -> "TappedLink":
        """The same line, tapped."""
        return cls(**{each.name: getattr(link, each.name) for each in fields(Link)}, power=power)

    async def to_shop(self, message: str) -> str | None:
        """One frame to the shop; what it says is heard by nobody if the power failed meanwhile."""
        assert self.power is not None
        self.power.check("merchant")
        if message not in self.down:
            self.down.append(message)
        answer = await super().to_shop(message)
        self.power.check("merchant", "gateway")
        return self._same(message, answer)

    async def to_gateway(self, frame: str) -> str | None:
        """One frame to the gateway."""
        assert self.power is not None
        self.power.check("gateway")
        if frame not in self.upward:
            self.upward.append(frame)
        reply = await super().to_gateway(frame)
        self.power.check("gateway", "merchant")
        return self._same(frame, reply)

    def _same(self, request: str, answer: str | None) -> str | None:
        if answer is not None and peek_typ(answer) in ANSWERS_FOR_EVER:
            assert self.answered.setdefault(request, answer) == answer, "the same bytes got another answer"
        return answer

    @property
    def is_clear(self) -> bool:
        """Nothing will go wrong with the next frames."""
        return self.up and not self.plan and not self.tell_plan and not self.shops_end.plan

    @property
    def shops_end(self) -> "ShopsEnd":
        """Where the shop speaks."""
        assert isinstance(self.shop.line, ShopsEnd)
        return self.shop.line

    @property
    def under_way(self) -> int:
        """Frames that were slow."""
        return len(self.held) + len(self.late) + len(self.slow)

    async def arrive(self, number: int) -> None:
        """One of the slow frames arrives, in whichever order; what it brings about comes without delay."""
        number %= self.under_way
        if number < len(self.held):
            answer = await self.to_shop(self.held.pop(number))
            if answer is not None:
                self.late.append(answer)
            return
        number -= len(self.held)
        pile = self.late if number < len(self.late) else self.slow
        reply = await self.to_gateway(pile.pop(number if pile is self.late else number - len(self.late)))
        if reply is not None:
            await self.to_shop(reply)


@dataclass
class ShopsEnd:
    """A shop's end of its line; `plan` says what becomes of the next frames."""

    link: TappedLink
    plan: deque[str] = field(default_factory=deque)
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.connected.set()

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        """C1 or RQ out, its answer in."""
        reply = await self._send(message)
        if reply is None:
            raise Unavailable("silent")
        return reply

    async def tell(self, message: str) -> None:
        """What nobody waits for."""
        await self._send(message)

    async def _send(self, message: str) -> str | None:
        if not self.link.up:
            raise Unavailable("no line to the gateway")
        match self.plan.popleft() if self.plan else "":
            case "lose_request":
                raise Unavailable("lost")
            case "lose_answer":
                await self.link.to_gateway(message)
                raise Unavailable("lost")
            case "delay":
                self.link.slow.append(message)
                raise Unavailable("slow")
            case "cut":
                self.link.up = False
                raise Unavailable("cut")
            case "duplicate":
                await self.link.to_gateway(message)
                return await self.link.to_gateway(message)
            case _:
                return await self.link.to_gateway(message)


def tapped(world: World, power: Power) -> dict[str, TappedLink]:
    """Every line of this world, tapped."""
    for name, link in list(world.line.links.items()):
        tap = TappedLink.tap(link, power)
        world.line.links[name] = tap
        tap.shop.line = ShopsEnd(tap)
    return {name: link for name, link in world.line.links.items() if isinstance(link, TappedLink)}


async def restart_shop(link: TappedLink) -> None:
    """The shop's program ends, whatever it was at, and begins again on its order book."""
    old = link.shop
    await stop_shop(old)
    link.shop = Shop(
        registration=old.registration, role=old._role, book_path=old.book._path, on_confirm=old._inbox._on_confirm, clock=old._clock
    )
    link.shop.line = ShopsEnd(link)
    await link.shop.__aenter__()


async def stop_shop(shop: Shop) -> None:
    """Let go of its order book."""
    await shop.__aexit__(None, None, None)
