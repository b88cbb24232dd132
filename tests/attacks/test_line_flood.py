"""A registered merchant cannot fill the book: frames that cost a row have an allowance, and what is beyond leaves nothing behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hanbit.kernel import ids
from hanbit.protocols.redirect.messages import Status
from hanbit.protocols.signed import peek_claims, peek_typ
from tests.world import Link, World, open_world

ALLOWED = 5


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, inquiries_per_minute=ALLOWED, refusals_per_minute=ALLOWED) as opened:
        yield opened
        await opened.prove()


def inquiry(link: Link) -> str:
    return link.shop._role.make_inquiry(ids.new_token(), at=link.gateway.clock.now()).compact


async def codes(link: Link, frames: list[str]) -> list[str]:
    """What the gateway says to each: its refusal's code, or the typ of another answer."""
    found = []
    for frame in frames:
        reply = await link.to_gateway(frame)
        refused = reply is not None and peek_typ(reply) == "hanbit-refused"
        found.append(peek_claims(reply or "")["code"] if refused else "" if reply is None else peek_typ(reply))
    return found


async def test_inquiries_without_end_fill_no_book(world: World) -> None:
    frames = [inquiry(world.shop) for _ in range(ALLOWED)]
    assert await codes(world.shop, frames) == [Status.TYP] * ALLOWED
    before = world.dump(leave_out=())
    assert await codes(world.shop, [inquiry(world.shop) for _ in range(50)]) == ["too_many"] * 50
    assert world.dump(leave_out=()) == before
    assert world.observed.count(("line_refused", "too_many")) == 50
    # What was answered once is answered again, at no cost; another merchant feels nothing; and time mends it.
    assert await codes(world.shop, frames) == [Status.TYP] * ALLOWED
    assert await codes(world.line.links["other"], [inquiry(world.line.links["other"])]) == [Status.TYP]
    world.clock.advance(60)
    assert await codes(world.shop, [inquiry(world.shop) for _ in range(ALLOWED + 1)]) == [*[Status.TYP] * ALLOWED, "too_many"]


async def test_refused_frames_without_end_fill_no_book(world: World) -> None:
    foreign = inquiry(world.line.links["other"])
    before = world.rows("audit")
    assert await codes(world.shop, [foreign] * ALLOWED) == ["sender"] * ALLOWED
    assert len(world.rows("audit")) == len(before) + ALLOWED
    kept = world.dump(leave_out=())
    assert await codes(world.shop, [foreign] * 50) == ["too_many"] * 50
    assert world.dump(leave_out=()) == kept


async def test_acknowledgements_of_nothing_fill_no_book(world: World) -> None:
    def acknowledgement() -> str:
        return world.shop.shop._role.make_acknowledgement((ids.digest(ids.new_token().encode()),), at=world.clock.now()).compact

    assert await codes(world.shop, [acknowledgement() for _ in range(ALLOWED)]) == [""] * ALLOWED
    before = world.dump(leave_out=())
    assert await codes(world.shop, [acknowledgement() for _ in range(50)]) == ["too_many"] * 50
    assert world.dump(leave_out=()) == before


async def test_a_merchant_beyond_its_allowance_is_still_paid(world: World) -> None:
    await codes(world.shop, [inquiry(world.shop) for _ in range(ALLOWED * 3)])
    visit = await world.visit()
    assert (await visit.pay()).state == "captured"
    assert (await world.shop_order(visit)).may_deliver
    assert all(row["acknowledged_at"] is not None for row in world.rows("outbox"))
