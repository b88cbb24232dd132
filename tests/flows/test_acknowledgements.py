"""Acknowledgements are in nobody's way: they are stored at beats, and an outcome whose acknowledgement a stop has lost is told again."""

import asyncio
import dataclasses

from hanbit.payments.outbox import TELL_AGAIN_S
from hanbit.protocols.signed import peek_claims, peek_kid
from tests.world import World, lose_answer

BEAT_S = 0.02
NEVER_S = 3600.0


def unacknowledged(world: World) -> int:
    return sum(row["acknowledged_at"] is None for row in world.rows("outbox"))


async def test_acknowledgements_are_stored_at_the_next_beat(world: World) -> None:
    world.shop.tell_plan.extend([lose_answer] * 3)
    for _ in range(3):
        await (await world.visit(amount=100)).pay()
    acknowledgements = [await world.shop.to_shop(outcome) for outcome in world.shop.told]
    assert unacknowledged(world) == 3
    world.shop.gateway = dataclasses.replace(world.gateway, acknowledged_every_s=BEAT_S)
    await asyncio.gather(*(world.shop.to_gateway(frame) for frame in acknowledgements if frame is not None))
    assert unacknowledged(world) == 0
    assert world.shop.replies == []


async def test_an_acknowledgement_lost_before_its_beat_is_asked_for_again(world: World) -> None:
    world.shop.tell_plan.append(lose_answer)
    await (await world.visit()).pay()
    acknowledgement = await world.shop.to_shop(world.shop.told[0])
    assert acknowledgement is not None
    world.shop.gateway = dataclasses.replace(world.gateway, acknowledged_every_s=NEVER_S)
    waiting = asyncio.create_task(world.shop.to_gateway(acknowledgement))
    await asyncio.sleep(BEAT_S)
    assert not waiting.done()
    waiting.cancel()  # the server stops
    await asyncio.gather(waiting, return_exceptions=True)
    world.shop.gateway = world.gateway
    assert unacknowledged(world) == 1
    await world.tick(TELL_AGAIN_S)
    assert world.shop.told[1] == world.shop.told[0]
    assert unacknowledged(world) == 0


async def test_a_key_that_ends_while_its_acknowledgement_waits_leaves_nothing_that_cannot_be_proved(world: World) -> None:
    world.shop.tell_plan.append(lose_answer)
    await (await world.visit()).pay()
    acknowledgement = await world.shop.to_shop(world.shop.told[0])
    assert acknowledgement is not None
    ends = next(row["not_after"] for row in world.rows("certificates") if row["kid"] == peek_kid(acknowledgement))
    world.clock.advance(ends - world.clock.now())
    before = world.dump()
    world.shop.gateway = dataclasses.replace(world.gateway, acknowledged_every_s=BEAT_S)
    waiting = asyncio.create_task(world.shop.to_gateway(acknowledgement))
    await asyncio.sleep(0)
    assert not waiting.done(), "verified in the key's last second"
    world.clock.advance(1)
    refused = await waiting
    assert refused is not None
    assert peek_claims(refused)["code"] == "certificate_dates"
    assert world.dump() == before
    assert unacknowledged(world) == 1
