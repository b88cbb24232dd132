"""A shop that asks two processes of one payment server at once: the book decides, and what it decided once it decides for both.

On a file too, although `hanbit serve` lets no second process in there: the book does not rest on that.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hanbit.folder import close_gateway, open_gateway
from hanbit.line_requests import routes as line_requests
from hanbit.payments.gateway import Gateway
from hanbit.payments.states import State
from tests.purchases import Answered, Buying, buying, open_session, read_answer
from tests.world import PRICE, World

ROUNDS = 4


@asynccontextmanager
async def beside(world: World) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """The world's gateway and another one on the same book."""
    second = open_gateway(world.folder, world.clock, line=lambda *_: world.line)
    try:
        yield world.gateway, second
    finally:
        await close_gateway(second)


async def at_once(world: World, gateways: tuple[Gateway, Gateway], *frames: str) -> list[Answered]:
    """Each frame to each gateway, all at the same moment."""
    asked = [line_requests.answer(gateway, "shop", frame) for frame in frames for gateway in gateways]
    return [read_answer(world, "shop", reply or "") for reply in await asyncio.gather(*asked)]


async def insist(session: Buying, frame: str) -> Answered:
    """The same bytes until they are decided."""
    answers = [await session.send(frame) for _ in range(ROUNDS)]
    return next(answered for answered in answers if answered.authorization is not None)


async def test_the_same_bytes_at_both_are_one_payment(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant(), method="password"))
    async with beside(world) as gateways:
        answers = await at_once(world, gateways, frame)
    assert {answer.told for answer in answers} <= {"approved", "refused in_progress", "refused stale", "refused unavailable"}
    final = await insist(session, frame)
    assert final.told == "approved"
    assert {answer.frame for answer in answers if answer.authorization} <= {final.frame}
    assert (session.visit.stored.state, session.visit.stored.attempts, world.earned()) == (State.CAPTURED, 1, PRICE)


async def test_one_grant_in_two_sessions_at_both_is_one_attempt(world: World) -> None:
    first = await buying(world)
    second = await open_session(first.visit)
    grant = await first.visit.grant()
    frames = [await s.frame(s.purchase(grant, method="password", password="0000")) for s in (first, second)]
    async with beside(world) as gateways:
        await at_once(world, gateways, *frames)
    for session, frame in zip((first, second), frames, strict=True):
        assert (await insist(session, frame)).told == "declined"
    assert first.visit.stored.attempts == 1
    assert sorted(row["reason"] for row in world.rows("exchanges")) == ["no_grant", "wrong_factor"]


async def test_two_sessions_at_both_pay_an_order_once(world: World) -> None:
    first = await buying(world)
    second = await open_session(world.open_redirect(first.visit.redirect, world.kim))
    frames = [await s.frame(s.purchase(await s.visit.grant())) for s in (first, second)]
    async with beside(world) as gateways:
        await at_once(world, gateways, *frames)
    told = [(await insist(session, frame)).told for session, frame in zip((first, second), frames, strict=True)]
    assert sorted(told) == ["approved", "closed"]
    assert (first.visit.stored.state, world.earned()) == (State.CAPTURED, PRICE)


async def test_one_session_with_two_requests_at_both_has_one_for_ever(world: World) -> None:
    session = await buying(world)
    purchases = [session.purchase(await session.visit.grant(), account=account) for account in ("bank", "card")]
    frames = [await session.frame(purchase) for purchase in purchases]
    async with beside(world) as gateways:
        await at_once(world, gateways, *frames)
    told = sorted([(await session.send(frame)).told for frame in frames])
    assert told == ["approved", "refused sid_reused"]
    assert (session.visit.stored.attempts, world.earned()) == (1, PRICE)
