"""What can matter to nobody any more is removed, and nothing that was used up can be used again."""

import asyncio

import pytest

from hanbit.db.change import Change, Delete, Put, Stale, Value
from hanbit.kernel.errors import HanbitError, NotAllowed
from hanbit.parties import enrolment, throttle, visits
from hanbit.parties.keyring import SEAL_KEPT_S
from hanbit.payments import operations, purge
from hanbit.protocols.redirect import customer as role
from tests.world import World


def count(world: World, table: str) -> int:
    return len(world.rows(table))


async def wait(world: World, seconds: int) -> None:
    """So long as a server would live through it: an hour at a time."""
    for _ in range(seconds // 3600):
        await world.tick(3600)


async def test_a_used_opening_stays_as_long_as_its_sealing_key(world: World) -> None:
    """And a recorded login opens neither while the row is there nor when it has gone, even if the clock goes back to its own hour."""
    visit = await world.visit()
    recorded = role.seal_login(visit.sealing, login_id=visit.person.login, password=visit.person.password)
    await visit.send_login(recorded)
    kept = set(world.gateway.keyring.seals)
    while kept & world.gateway.keyring.seals.keys():
        assert count(world, "openings") == 1
        await wait(world, 3600)
    await world.tick()
    assert count(world, "openings") == 0
    before = count(world, "sessions")
    world.clock.advance(visit.stored.opened_at + 60 - world.clock.now())
    with pytest.raises(HanbitError):
        await visit.send_login(recorded)
    assert count(world, "sessions") == before


async def test_an_opening_under_a_clock_that_was_put_back_still_outlives_its_key(world: World) -> None:
    """Its row bears the later moment: else it would look older than the key under which it was made."""
    visit = await world.visit()
    made_at = world.gateway.keyring.oldest_seal_at
    world.clock.advance(-90)
    await visit.login()
    assert [row["at"] for row in world.rows("openings")] == [made_at]


async def test_sessions_go_when_nothing_is_compared_with_them_any_more_and_not_before(world: World) -> None:
    await world.session(world.hong)
    await world.tick(visits.KNOWN_S)
    assert count(world, "sessions") == 1
    await world.tick(1)
    assert count(world, "sessions") == 0


async def test_enrolment_codes_go_when_they_are_too_old_to_be_used(world: World) -> None:
    code = (await operations.enrol_code(world.gateway, login="hong"))["code"]
    before = count(world, "enrolments")
    assert before > 1, "the parties' own, used at enrolment"
    await world.tick(enrolment.CODE_LIFE_S * 2)
    assert count(world, "enrolments") == before
    await world.tick(1)
    assert count(world, "enrolments") == 0
    for wound_back in (0, enrolment.CODE_LIFE_S * 2):
        world.clock.advance(-wound_back)
        with pytest.raises(NotAllowed):
            enrolment.use_code(world.gateway.reader, code, "customer", world.clock.now())


async def test_a_factor_that_waits_is_not_forgotten(world: World) -> None:
    """Wrong tries are forgotten after a day of rest, which gives a guesser fewer tries than one an hour."""
    visit = await world.visit()
    for _ in range(throttle.FREE_TRIES - 1):
        with pytest.raises(HanbitError):
            await visit.login(password="wrong")
    await world.tick(purge.THROTTLE_KEPT_S)
    (row,) = world.rows("throttles")
    assert row["failures"] == throttle.FREE_TRIES - 1
    await world.tick(1)
    assert world.rows("throttles") == []
    assert throttle.FREE_TRIES < purge.THROTTLE_KEPT_S / throttle.LONGEST_WAIT_S


async def test_a_count_that_was_cleared_rests_as_long_and_holds_up_nobody(world: World) -> None:
    """Else each log-in would make a row anew and remove it again."""
    visit = await world.visit()
    for _ in range(throttle.FREE_TRIES - 1):
        with pytest.raises(HanbitError):
            await visit.login(password="wrong")
    await visit.login()
    await world.tick(60)
    assert [row["failures"] for row in world.rows("throttles")] == [0]
    await (await world.visit()).login()
    await world.tick(purge.THROTTLE_KEPT_S + 60)
    assert world.rows("throttles") == []


async def test_a_portion_at_a_time_until_nothing_is_left(world: World) -> None:
    at = world.clock.now()
    rows = [
        Put("openings", {"ctx": f"ctx-{number:05}", "login_hash": "x", "at": at}, 0) for number in range(purge.PURGED_AT_ONCE_MAX * 2 + 1)
    ]
    await world.gateway.book.commit(Change(puts=tuple(rows)))
    world.clock.advance(SEAL_KEPT_S + 3600)  # one rotation behind: the server was not running
    left: list[int] = []
    while not left or left[-1]:
        await world.tick()
        left.append(count(world, "openings"))
    assert left in ([len(rows) - purge.PURGED_AT_ONCE_MAX, 1, 0], [len(rows), len(rows) - purge.PURGED_AT_ONCE_MAX, 1, 0]), left


async def test_what_has_moved_on_is_not_removed(world: World) -> None:
    row: dict[str, Value] = {"factor": "login:x", "failures": 1, "wait_until": 5}
    book = world.gateway.book
    await book.commit(Change(puts=(Put("throttles", row, 0),)))
    await book.commit(Change(puts=(Put("throttles", row | {"failures": 2}, 1),)))
    with pytest.raises(Stale):
        await book.commit(Change(deletes=(Delete("throttles", ("login:x",), 1),)))
    assert [found["failures"] for found in world.rows("throttles")] == [2]


async def test_in_one_batch_a_row_goes_and_a_new_one_comes(world: World) -> None:
    """In the order in which the Changes came: counted anew after it was removed, and removed once only."""
    row: dict[str, Value] = {"factor": "login:x", "failures": 7, "wait_until": 5}
    book = world.gateway.book
    await book.commit(Change(puts=(Put("throttles", row, 0),)))
    answers = await asyncio.gather(
        book.commit(Change(deletes=(Delete("throttles", ("login:x",), 1),))),
        book.commit(Change(deletes=(Delete("throttles", ("login:x",), 1),))),
        book.commit(Change(puts=(Put("throttles", row | {"failures": 8}, 1),))),
        book.commit(Change(puts=(Put("throttles", row | {"failures": 1}, 0),))),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), Stale, Stale, type(None)]
    assert [(found["failures"], found["version"]) for found in world.rows("throttles")] == [(1, 1)]


async def test_a_row_of_any_other_table_is_never_removed(world: World) -> None:
    """Neither by the batch nor by the database."""
    merchant = world.rows("merchants")[0]
    with pytest.raises(AssertionError):
        await world.gateway.book.commit(Change(deletes=(Delete("merchants", (merchant["id"],), merchant["version"]),)))
    assert merchant in world.rows("merchants")
