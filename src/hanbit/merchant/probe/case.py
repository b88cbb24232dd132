"""What a case is: what the probe does, the rule of the protocol that it breaks, and what goes wrong where the rule is not kept."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from hanbit.merchant.probe.forge import Draft
from hanbit.merchant.probe.shop_side import PlacedOrder
from hanbit.merchant.probe.stage import Exchange, Stage

Group = Literal["control", "notice", "outcome", "network"]
Play = Callable[[Stage], Awaitable[None]]

RIGHT: Final[dict[Group, str]] = {
    "control": "does it",
    "notice": "confirms nothing: a signed refusal, `refused`, or hangs up where the frame is no message at all",
    "outcome": "acknowledges nothing, and the order stays as it was",
    "network": "takes nothing of it, and the line works on",
}
"""What a right implementation does, by group."""
FORGER: Final = "whoever holds that key, or none at all, tells the shop that customers have paid"
CHOSEN: Final = "the message itself chooses how or by which key it is verified"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that the probe does to a merchant."""

    name: str
    group: Group
    does: str
    rule: str
    """The step of docs/protocol/redirect.md and the rule that stands against it."""
    why: str
    """What an attacker gains from a merchant that takes it; of a control: what it shows."""
    play: Play
    dials: bool = False
    """Only where the merchant keeps a connection."""


def forged_notice(make: Callable[[Stage, PlacedOrder], str]) -> Play:
    """A notice for a fresh order, forged in one respect and right in all others."""

    async def play(stage: Stage) -> None:
        order = await stage.order()
        await stage.offer(make(stage, order), order=order)

    return play


def changed_notice(change: Callable[[Stage, Draft], Draft]) -> Play:
    """The same, where only the draft differs."""
    return forged_notice(lambda stage, order: change(stage, stage.notice(order)).compact())


def forged_outcome(make: Callable[[Stage, Exchange], str]) -> Play:
    """An outcome for an order that the merchant has just confirmed, forged in one respect and right in all others."""

    async def play(stage: Stage) -> None:
        exchange = await stage.confirmed()
        await stage.offer(make(stage, exchange), order=exchange.order)

    return play
