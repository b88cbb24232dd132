"""D4: a grant is given to who is logged in here for an order that can still be paid, kept as a hash, and bounded."""

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import Declined, HanbitError, NotAllowed, ProtocolViolation, WrongState
from hanbit.payments import grants, halt
from hanbit.payments.halt import PaymentsHalted
from hanbit.payments.purge import MARGIN_S
from hanbit.payments.states import State
from tests.world import World

WITHOUT = ("audit", "throttles", "sessions", "log", "tiles", "checkpoints", "settings")


async def test_a_grant_opens_the_payment_and_is_kept_as_a_hash(world: World) -> None:
    visit = await world.visit()
    grant = await visit.grant()
    assert visit.stored.state == State.OPEN
    assert visit.kinds() == ["order", "keys"]
    (row,) = world.rows("grants")
    assert (row["customer"], row["merchant"], row["tid"]) == (world.hong.id, "shop", visit.redirect.tid)
    assert (row["order_hash"], row["expires_at"], row["used_at"]) == (visit.stored.order_hash, visit.stored.pay_by, None)
    assert row["session"] == (await world.session(world.hong)).session.token_hash
    assert all(grant not in str(row.values()) for table in ("grants", "messages", "audit", "payments") for row in world.rows(table))
    found = grants.live(world.gateway.reader, "shop", visit.redirect.tid, world.clock.now())
    assert grants.named(found, grant) is not None
    assert grants.named(found, ids.new_token()) is None


async def test_a_second_grant_leaves_the_payment_as_it_is_and_the_oldest_beyond_five_goes(world: World) -> None:
    visit = await world.visit()
    given = [await visit.grant()]
    before = visit.stored
    for _ in range(grants.LIVE_MAX + 1):
        world.clock.advance(1)
        given.append(await visit.grant())
    assert visit.stored == before
    found = grants.live(world.gateway.reader, "shop", visit.redirect.tid, world.clock.now())
    assert [grants.named(found, grant) is not None for grant in given] == [False] * 2 + [True] * grants.LIVE_MAX
    other = world.open_redirect(visit.redirect, world.kim)
    await other.grant()
    assert len(grants.live(world.gateway.reader, "shop", visit.redirect.tid, world.clock.now())) == grants.LIVE_MAX + 1, "his own alone"


async def test_a_grant_ends_with_the_order_and_its_row_goes(world: World) -> None:
    visit = await world.visit()
    await visit.grant()
    world.clock.advance(visit.stored.pay_by - world.clock.now())
    assert len(grants.live(world.gateway.reader, "shop", visit.redirect.tid, world.clock.now())) == 1
    world.clock.advance(1)
    assert grants.live(world.gateway.reader, "shop", visit.redirect.tid, world.clock.now()) == []
    await world.tick(MARGIN_S)
    assert world.rows("grants") == []
    assert visit.stored.state == State.CLOSED


async def test_no_grant_for_an_order_that_is_paid_cancelled_or_too_old(world: World) -> None:
    paid, cancelled, late = await world.visit(), await world.visit(), await world.visit()
    await paid.pay()
    await cancelled.grant()
    await cancelled.cancel()
    before = world.dump()
    for visit in (paid, cancelled):
        with pytest.raises(WrongState):
            await visit.grant()
    assert world.dump() == before
    who = await world.session(world.hong)
    opening = late.reopened()
    world.clock.advance(opening.pay_by + 1 - world.clock.now())
    before = world.dump()
    with pytest.raises(WrongState):
        await grants.give(world.gateway, opening, who, unverified_key=late.sealing.key)
    assert world.dump() == before


@pytest.mark.parametrize(("what", "name", "error"), [("customer", "hong", Declined), ("merchant", "shop", Declined)])
async def test_no_grant_for_the_suspended(world: World, what: str, name: str, error: type[HanbitError]) -> None:
    visit = await world.visit()
    who = await world.session(world.hong)
    await world.suspend(what, name)
    before = world.dump()
    with pytest.raises(error, match=f"{what}_suspended"):
        await visit.grant(who)
    assert world.dump() == before


async def test_no_grant_while_payments_are_halted(world: World) -> None:
    visit = await world.visit()
    who = await world.session(world.hong)
    await halt.halt(world.gateway, "test", {"reason": "test"})
    before = world.dump(WITHOUT)
    with pytest.raises(PaymentsHalted):
        await visit.grant(who)
    assert world.dump(WITHOUT) == before


async def test_no_grant_without_the_payment_program_or_for_a_plain_order(world: World) -> None:
    visit, plain = await world.visit(), await world.visit(merchant="plain")
    who = await world.session(world.hong)
    before = world.dump()
    with pytest.raises(ProtocolViolation, match="sealed"):
        await grants.give(world.gateway, visit.reopened(), who, unverified_key=plain.sealing.key)
    with pytest.raises(NotAllowed):
        await plain.grant(who)
    assert world.dump() == before
