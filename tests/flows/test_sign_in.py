"""R5: logins, what they cost to guess, and the sessions that they open."""

import asyncio

import pytest

from hanbit.db.change import Change
from hanbit.kernel.errors import BadInput, NotSignedIn, ProtocolViolation, TooManyTries, Unavailable, WrongState
from hanbit.parties import sessions, throttle
from hanbit.payments import factors, redirect_flow
from hanbit.payments.purge import purge
from hanbit.payments.sign_in import LoginFailed
from hanbit.protocols import sealed
from hanbit.protocols.redirect import customer as role
from tests.flows.passkeys import enrol_passkey, login_passkey
from tests.world import Visit, World


async def wrong_login(world: World, login: str = "hong") -> Visit:
    visit = await world.visit()
    with pytest.raises(LoginFailed):
        await visit.login(login, "a wrong password")
    return visit


async def send(visit: Visit, plain: dict[str, object]) -> str:
    return await visit.send_login(sealed.seal(visit.sealing.session, sealed.LOGIN_TYP, plain, 1))


async def test_each_login_has_a_session_of_its_own(world: World) -> None:
    first, second = await (await world.visit()).login(), await (await world.visit()).login()
    assert first != second
    assert {redirect_flow.signed_in(world.gateway, token).customer.login for token in (first, second)} == {"hong"}
    assert first not in str(world.rows("sessions")), "only its hash is kept"


async def test_a_wrong_login_leaves_no_session_and_no_payment(world: World) -> None:
    visit = await wrong_login(world)
    assert (world.rows("sessions"), visit.payment, visit.kinds()) == ([], None, [])
    assert await visit.login(), "the same page may try again"


async def test_a_replayed_login_is_refused(world: World) -> None:
    visit = await world.visit()
    login = role.seal_login(visit.sealing, login_id="hong", password=world.hong.password)
    await visit.send_login(login)
    before = world.dump(leave_out=("throttles",))
    with pytest.raises(WrongState):
        await visit.send_login(login)
    assert world.dump(leave_out=("throttles",)) == before


async def test_a_login_recorded_at_one_opening_opens_no_other(world: World) -> None:
    visit = await world.visit()
    login = role.seal_login(visit.sealing, login_id="hong", password=world.hong.password)
    other = world.open(f"?MID=shop&TID={visit.redirect.tid}&AMOUNT=220000&CUR=KRW&ORDER={visit.redirect.order}")
    with pytest.raises(ProtocolViolation) as refused:
        await other.send_login(login)
    assert refused.value.rule == "sealed"


async def test_waits_grow_from_half_a_minute_to_an_hour_and_a_right_login_ends_them(world: World) -> None:
    for _ in range(5):
        await wrong_login(world)
    waits = []
    for _ in range(9):
        visit = await world.visit()
        with pytest.raises(TooManyTries) as refused:
            await visit.login()
        waits.append(refused.value.retry_after_s)
        world.clock.advance(refused.value.retry_after_s)
        await wrong_login(world)
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    world.clock.advance(3600)
    await (await world.visit()).login()
    await wrong_login(world)
    assert await (await world.visit()).login(), "the count begins anew"


async def test_while_a_login_waits_sessions_and_passkeys_go_on(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    for _ in range(5):
        await wrong_login(world)
    assert (await (await world.visit(amount=1000)).pay()).state == "captured"
    assert await login_passkey(await world.visit(), passkey)
    with pytest.raises(TooManyTries):
        await (await world.visit()).login()
    assert await (await world.visit()).login("kim", world.kim.password)


async def test_an_unknown_name_waits_like_a_known_one(world: World) -> None:
    seen = {}
    for login in ("hong", "nobody"):
        heard: list[tuple[str, int]] = []
        for _ in range(7):
            visit = await world.visit()
            try:
                await visit.login(login, "a wrong password")
            except (LoginFailed, TooManyTries) as error:
                heard.append((str(error), getattr(error, "retry_after_s", 0)))
        seen[login] = heard
    assert seen["hong"] == seen["nobody"]


async def test_an_unknown_name_costs_as_many_commits_and_hashes_as_a_known_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[str] = []
    commit, verify = world.gateway.book.commit, world.gateway.passwords.verify

    async def counted_commit(change: Change) -> None:
        work.append("commit")
        await commit(change)

    async def counted_verify(stored: str, password: str) -> bool:
        work.append("hash")
        return await verify(stored, password)

    monkeypatch.setattr(world.gateway.book, "commit", counted_commit)
    monkeypatch.setattr(world.gateway.passwords, "verify", counted_verify)
    await wrong_login(world, "hong")
    known, work[:] = list(work), []
    await wrong_login(world, "nobody")
    assert work == known == ["commit", "hash", "commit"]


async def test_unknown_names_do_not_fill_the_book(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "UNKNOWN_KEPT", 2)
    before = world.dump(leave_out=("throttles",))
    for number in range(4):
        await wrong_login(world, f"nobody{number}")
    assert world.dump(leave_out=("throttles",)) == before
    await wrong_login(world, "hong")
    await purge(world.gateway)
    kept = [str(row["factor"]) for row in world.gateway.reader.all("SELECT factor FROM throttles")]
    assert len([factor for factor in kept if factor.startswith(throttle.UNKNOWN)]) == 2
    assert len(kept) == 3, "a name that exists is not forgotten"
    assert not any("nobody0" in factor for factor in kept)


@pytest.mark.parametrize(
    "plain",
    [
        {"method": "password"},
        {"method": "password", "id": "hong", "password": 1},
        {"method": "password", "id": "", "password": "x"},
        {"method": "password", "id": "h" * 65, "password": "x"},
        {"method": "password", "id": "hong", "password": ""},
        {"method": "password", "id": "hong", "password": "x" * 129},
        {"method": "password", "id": "nobody", "password": "x" * 129},
        {"method": "smile"},
    ],
    ids=str,
)
async def test_a_login_of_another_shape_is_bad_input(world: World, plain: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        await send(await world.visit(), plain)


@pytest.mark.parametrize("plain", [{}, {"method": 5}, {"id": "hong", "password": "x"}], ids=str)
async def test_a_login_without_a_method_does_not_open(world: World, plain: dict[str, object]) -> None:
    with pytest.raises(ProtocolViolation):
        await send(await world.visit(), plain)


@pytest.mark.parametrize(
    "assertion",
    [
        None,
        [],
        "x",
        {},
        {"id": 5},
        {"id": "x" * 1401},
        {"id": "unknown", "response": {}},
        {"response": None},
        {"response": {}},
        {"type": 1},
    ],
    ids=str,
)
async def test_an_assertion_of_another_shape_is_a_failed_login(world: World, assertion: object) -> None:
    passkey = await enrol_passkey(world, world.hong)
    visit = await world.visit()
    partly = isinstance(assertion, dict) and assertion and "id" not in assertion
    whole = passkey.sign(bytes(32)) | assertion if partly and isinstance(assertion, dict) else assertion
    with pytest.raises(LoginFailed):
        await send(visit, {"method": "passkey", "assertion": whole})
    assert visit.payment is None


async def test_an_assertion_for_another_opening_is_a_failed_login(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    visit, other = await world.visit(), await world.visit()
    claims = other.opening.keys.claims
    assertion = passkey.sign(sealed.login_challenge(claims.ctx, claims.n))
    with pytest.raises(LoginFailed):
        await send(visit, {"method": "passkey", "assertion": assertion})


async def test_an_assertion_that_approves_a_payment_logs_nobody_in(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    visit = await world.visit()
    assertion = passkey.sign(sealed.consent_challenge("A" * 43))
    with pytest.raises(LoginFailed):
        await send(visit, {"method": "passkey", "assertion": assertion})


async def test_a_removed_passkey_logs_nobody_in(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    await world.remove_device("passkey")
    with pytest.raises(LoginFailed):
        await login_passkey(await world.visit(), passkey)


# --- sessions


async def test_a_session_ends_after_five_idle_minutes(world: World) -> None:
    token = await (await world.visit()).login()
    world.clock.advance(300)
    assert redirect_flow.signed_in(world.gateway, token).customer.id == world.hong.id
    world.clock.advance(1)
    with pytest.raises(NotSignedIn):
        redirect_flow.signed_in(world.gateway, token)


async def test_a_session_that_is_used_lives_on(world: World) -> None:
    token = await (await world.visit()).login()
    for _ in range(5):
        world.clock.advance(200)
        touched = sessions.touch(redirect_flow.signed_in(world.gateway, token).session, world.clock.now())
        assert touched is not None
        await world.gateway.book.commit(Change(puts=(touched,)))
    assert sessions.touch(redirect_flow.signed_in(world.gateway, token).session, world.clock.now()) is None


async def test_an_ended_session_is_gone(world: World) -> None:
    token = await (await world.visit()).login()
    session = redirect_flow.signed_in(world.gateway, token).session
    await world.gateway.book.commit(Change(puts=(sessions.end(session, world.clock.now()),)))
    with pytest.raises(NotSignedIn):
        redirect_flow.signed_in(world.gateway, token)


@pytest.mark.parametrize("token", [None, "", "x", "x" * 65, "é" * 43, "A" * 43])
async def test_a_token_that_was_never_given_opens_nothing(world: World, token: str | None) -> None:
    with pytest.raises(NotSignedIn):
        redirect_flow.signed_in(world.gateway, token)


async def test_right_answers_that_overlap_add_up_to_no_wait(world: World) -> None:
    """Each try is counted before it is checked; a chain in which the next is always counted already must not climb to a wait."""
    factor = f"login:{world.hong.id}"

    async def begin() -> tuple[asyncio.Task[bool], asyncio.Event]:
        counted, released = asyncio.Event(), asyncio.Event()

        async def slow_and_right() -> bool:
            counted.set()
            await released.wait()
            return True

        task = asyncio.create_task(factors.guarded(world.gateway, factor, slow_and_right))
        waiting = asyncio.create_task(counted.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return task, released

    task, released = await begin()
    for _ in range(2 * throttle.FREE_TRIES):
        following, following_released = await begin()
        released.set()
        assert await task
        task, released = following, following_released
    released.set()
    assert await task
    assert throttle.read(world.gateway.reader, factor).failures == 0


async def test_nobody_is_asked_to_seal_to_a_key_that_has_ended(world: World) -> None:
    """A machine that slept for a day answers before its background has made new keys: come again, not a page that no program believes."""
    world.clock.advance(25 * 3600)
    with pytest.raises(Unavailable):
        await world.visit()
    await world.tick(1)
    assert (await (await world.visit()).pay()).state == "captured"
