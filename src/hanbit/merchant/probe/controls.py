"""The honest controls, first and last: whoever refuses everything takes nothing wrongly either, and sells nothing."""

from typing import Final

from hanbit.kernel import ids
from hanbit.merchant.probe.case import Case
from hanbit.merchant.probe.stage import Failed, Stage


async def _order(stage: Stage) -> None:
    await stage.order()


async def _confirms(stage: Stage) -> None:
    await stage.confirmed()


async def _same_notice(stage: Stage) -> None:
    exchange = await stage.confirmed()
    if await stage.honest(exchange.notice) != exchange.confirmation.compact:
        raise Failed("the same notice was answered with other bytes")


async def _settles(stage: Stage) -> None:
    exchange = await stage.confirmed()
    await stage.acknowledged(stage.settled(exchange).compact())
    state = await stage.shop_state(exchange.order)
    if state is not None and not state.delivers:
        raise Failed(f"after the settled message the shop says {state.state}, and delivers nothing")


async def _same_settled(stage: Stage) -> None:
    exchange = await stage.confirmed()
    settled = stage.settled(exchange).compact()
    first = await stage.honest(settled)
    if await stage.honest(settled) != first:
        raise Failed("the same settled message was acknowledged with other bytes")
    if await stage.honest(exchange.notice) != exchange.confirmation.compact:
        raise Failed("the same notice was answered with other bytes once the order was settled")


async def _voids(stage: Stage) -> None:
    exchange = await stage.confirmed()
    await stage.acknowledged(stage.voided(exchange).compact())


async def _closes(stage: Stage) -> None:
    await stage.acknowledged(stage.closed(await stage.order()).compact())


async def _delivers_nothing_early(stage: Stage) -> None:
    exchange = await stage.confirmed()
    state = await stage.shop_state(exchange.order)
    if state is not None and state.delivers:
        raise Failed(f"the shop would deliver an order that is only confirmed ({state.state})")


async def _knows_its_own(stage: Stage) -> None:
    first, second = await stage.order(), await stage.order()
    if first.tid == second.tid or first.hash == second.hash:
        raise Failed("two orders have one number")
    if len(ids.decode_base64url(first.tid[: len(first.tid) - (len(first.tid) % 4 == 1)])) < 16:  # noqa: PLR2004 - 128 bits
        raise Failed("a tid has fewer than 128 bits")


FIRST: Final = (
    Case(
        "order",
        "control",
        "the shop's redirect carries TID, AMOUNT and a signed order",
        "R3",
        "that the kit and the shop speak of one order",
        _order,
    ),
    Case(
        "tid",
        "control",
        "two orders have two numbers of 128 bits",
        "R2: a tid is unique for ever",
        "that nobody can guess or reuse a number",
        _knows_its_own,
    ),
    Case("confirms", "control", "an honest notice is confirmed", "R8, R9", "that the shop sells", _confirms),
    Case(
        "same_notice",
        "control",
        "the same notice again gets the same bytes",
        "known bytes: the stored answer",
        "that a lost answer costs nothing",
        _same_notice,
    ),
    Case(
        "waits",
        "control",
        "an order that is only confirmed is not delivered",
        "R11: delivery on settled alone",
        "that nothing leaves unpaid",
        _delivers_nothing_early,
    ),
    Case(
        "settles",
        "control",
        "an honest settled message is acknowledged and the order delivered",
        "R11",
        "that who paid gets his goods",
        _settles,
    ),
    Case(
        "same_settled",
        "control",
        "the same messages again get the same bytes, also after the end",
        "known bytes: the stored answer",
        "that a lost answer costs nothing",
        _same_settled,
    ),
    Case("voids", "control", "an honest voided message is acknowledged", "R11", "that goods are released", _voids),
    Case("closes", "control", "an honest closed message is acknowledged", "R11", "that stock is released", _closes),
)
"""Played before everything else."""
LAST: Final = (
    Case(
        "still_settles",
        "control",
        "after all this an honest payment still comes through",
        "R8 to R11",
        "that no attack has stopped the shop",
        _settles,
    ),
    Case(
        "still_closes",
        "control",
        "after all this an honest closed message is acknowledged",
        "R11",
        "that no attack has stopped the shop",
        _closes,
    ),
)
"""Played after everything else."""
