"""People of the consoles under a clock that is moved: how long a link, half a session, a session and a step-up last, and what is kept."""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from hanbit.db.change import Change
from hanbit.folder import create
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput, Conflict, NotFound, TooManyTries, WrongState
from hanbit.parties import console_sessions, invitations, people, people_factors, time_codes
from hanbit.parties.people import Person
from hanbit.parties.sessions import LIFE_MAX_S
from hanbit.payments import operations, purge, staff, staff_sign_in
from hanbit.payments.sign_in import LoginFailed
from hanbit.payments.staff_sign_in import At, SecondFactorFailed, Shown
from hanbit.server import running
from hanbit.settings import Settings
from tests.faces.site import client
from tests.flows.authenticator import Authenticator
from tests.world import World

PASSWORD = "a sentence to log in with"


@dataclass
class Admin:
    """Somebody who has used his link."""

    person: Person
    secret: bytes
    token: str

    def code(self, world: World, *, steps: int = 0) -> str:
        return time_codes.code_of(self.secret, world.clock.now() // time_codes.STEP_S + steps)


async def link(world: World, login: str = "kim", **more: str) -> str:
    """The token of a fresh link."""
    made = await staff.invite_staff(world.gateway, login=login, **more)
    return str(made["link"]).rpartition("/")[2]


async def admin(world: World, login: str = "kim") -> Admin:
    """Invited, set up, logged in."""
    invitation = invitations.find(world.gateway.reader, await link(world, login), world.clock.now())
    secret = staff_sign_in.code_secret(world.gateway, invitation.token_hash)
    shown = Shown(code=time_codes.code_of(secret, world.clock.now() // time_codes.STEP_S))
    token = await staff_sign_in.set_up(world.gateway, invitation, password=PASSWORD, shown=shown, factor_name="app")
    return Admin(staff.named(world.gateway, login), secret, token)


def at(world: World, token: str, face: str = "operator") -> At | None:
    return staff_sign_in.find(world.gateway, token, face)


async def logged_in(world: World, who: Admin) -> str:
    """Password and the next code."""
    half = at(world, await staff_sign_in.log_in(world.gateway, "operator", login=who.person.login, password=PASSWORD))
    assert half is not None
    world.clock.advance(time_codes.STEP_S)
    return await staff_sign_in.step_up(world.gateway, half, Shown(code=who.code(world)))


async def test_a_link_works_for_a_day(world: World) -> None:
    token = await link(world)
    world.clock.advance(invitations.LIFE_S)
    invitations.find(world.gateway.reader, token, world.clock.now())
    world.clock.advance(1)
    with pytest.raises(NotFound):
        invitations.find(world.gateway.reader, token, world.clock.now())
    await world.tick(invitations.LIFE_S + purge.MARGIN_S)
    assert world.gateway.reader.one("SELECT 1 FROM invitations") is None, "nothing is kept of it"


async def test_a_link_that_two_use_at_once_lets_one_in(world: World) -> None:
    invitation = invitations.find(world.gateway.reader, await link(world), world.clock.now())
    secret = staff_sign_in.code_secret(world.gateway, invitation.token_hash)
    shown = Shown(code=time_codes.code_of(secret, world.clock.now() // time_codes.STEP_S))
    results = await asyncio.gather(
        *(staff_sign_in.set_up(world.gateway, invitation, password=PASSWORD, shown=shown, factor_name="app") for _ in range(3)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["SecondFactorFailed", "SecondFactorFailed", "str"]
    assert len(people_factors.of_person(world.gateway.reader, invitation.person.id)) == 1


async def test_a_session_ends_after_fifteen_idle_minutes_and_lives_while_it_is_used(world: World) -> None:
    who = await admin(world)
    for _ in range(4):
        world.clock.advance(console_sessions.IDLE_S)
        here = at(world, who.token)
        assert here is not None
        touched = console_sessions.touch(here.session, world.clock.now())
        assert touched is not None
        await world.gateway.book.commit(Change(puts=(touched,)))
    world.clock.advance(console_sessions.IDLE_S + 1)
    assert at(world, who.token) is None


async def test_however_busy_a_session_ends_half_a_day_after_the_login_and_a_step_up_does_not_lengthen_it(world: World) -> None:
    who = await admin(world)
    began = world.clock.now()
    token = who.token
    while world.clock.now() + 600 <= began + LIFE_MAX_S:
        world.clock.advance(600)
        here = at(world, token)
        assert here is not None
        token = await staff_sign_in.step_up(world.gateway, here, Shown(code=who.code(world)))
    world.clock.advance(began + LIFE_MAX_S - world.clock.now() + 1)
    assert at(world, token) is None


async def test_half_a_session_is_kept_alive_by_nothing(world: World) -> None:
    who = await admin(world)
    token = await staff_sign_in.log_in(world.gateway, "operator", login=who.person.login, password=PASSWORD)
    world.clock.advance(console_sessions.HALF_LIFE_S)
    here = at(world, token)
    assert here is not None
    assert not here.session.whole
    assert console_sessions.touch(here.session, world.clock.now()) is None
    world.clock.advance(1)
    assert at(world, token) is None


async def test_dangerous_acts_stay_open_for_five_minutes(world: World) -> None:
    who = await admin(world)
    here = at(world, who.token)
    assert here is not None
    assert here.session.is_fresh(world.clock.now() + console_sessions.FRESH_S)
    assert not here.session.is_fresh(world.clock.now() + console_sessions.FRESH_S + 1)


async def test_a_step_up_ends_the_token_before_it(world: World) -> None:
    who = await admin(world)
    here = at(world, who.token)
    assert here is not None
    world.clock.advance(time_codes.STEP_S)
    token = await staff_sign_in.step_up(world.gateway, here, Shown(code=who.code(world)))
    assert at(world, who.token) is None
    assert at(world, token) is not None
    with pytest.raises(SecondFactorFailed):
        await staff_sign_in.step_up(world.gateway, here, Shown(code=who.code(world, steps=1)))


async def test_the_code_that_set_it_up_is_used(world: World) -> None:
    who = await admin(world)
    half = at(world, await staff_sign_in.log_in(world.gateway, "operator", login="kim", password=PASSWORD))
    assert half is not None
    with pytest.raises(SecondFactorFailed):
        await staff_sign_in.step_up(world.gateway, half, Shown(code=who.code(world)))


async def test_wrong_codes_wait_and_live_sessions_go_on(world: World) -> None:
    who = await admin(world)
    half = at(world, await staff_sign_in.log_in(world.gateway, "operator", login="kim", password=PASSWORD))
    assert half is not None
    for _ in range(5):
        with pytest.raises(SecondFactorFailed):
            await staff_sign_in.step_up(world.gateway, half, Shown(code="000000"))
    with pytest.raises(TooManyTries):
        await staff_sign_in.step_up(world.gateway, half, Shown(code=who.code(world, steps=1)))
    assert at(world, who.token) is not None


async def test_a_passkey_opens_the_console_and_is_bound_to_this_session_and_this_console(world: World) -> None:
    domain, origin = "console.localhost", world.gateway.settings.operator_url
    passkey, elsewhere = Authenticator(domain, origin), Authenticator("merchant.localhost", world.gateway.settings.merchant_url)
    invitation = invitations.find(world.gateway.reader, await link(world), world.clock.now())
    challenge = staff_sign_in._challenge(world.gateway, invitation.token_hash)
    foreign = Shown(passkey=json.dumps(elsewhere.register(challenge)))
    with pytest.raises(SecondFactorFailed):
        await staff_sign_in.set_up(world.gateway, invitation, password=PASSWORD, shown=foreign, factor_name="passkey")
    own = Shown(passkey=json.dumps(passkey.register(challenge)))
    await staff_sign_in.set_up(world.gateway, invitation, password=PASSWORD, shown=own, factor_name="passkey")
    first = at(world, await staff_sign_in.log_in(world.gateway, "operator", login="kim", password=PASSWORD))
    second = at(world, await staff_sign_in.log_in(world.gateway, "operator", login="kim", password=PASSWORD))
    assert first is not None
    assert second is not None
    signed = Shown(passkey=json.dumps(passkey.sign(staff_sign_in._challenge(world.gateway, first.session.token_hash))))
    with pytest.raises(SecondFactorFailed):
        await staff_sign_in.step_up(world.gateway, second, signed)
    token = await staff_sign_in.step_up(world.gateway, first, signed)
    assert at(world, token) is not None
    with pytest.raises(SecondFactorFailed):
        await staff_sign_in.step_up(world.gateway, first, signed)


async def test_a_new_link_changes_nothing_until_it_is_used_and_then_everything(world: World) -> None:
    who = await admin(world)
    renewed = str((await staff.renew_staff_link(world.gateway, login="kim"))["link"]).rpartition("/")[2]
    assert at(world, who.token) is not None
    token = await logged_in(world, who)
    invitation = invitations.find(world.gateway.reader, renewed, world.clock.now())
    secret = staff_sign_in.code_secret(world.gateway, invitation.token_hash)
    assert secret != who.secret
    shown = Shown(code=time_codes.code_of(secret, world.clock.now() // time_codes.STEP_S))
    await staff_sign_in.set_up(world.gateway, invitation, password="another sentence", shown=shown, factor_name="app")
    assert at(world, token) is None
    assert at(world, who.token) is None
    with pytest.raises(LoginFailed):
        await staff_sign_in.log_in(world.gateway, "operator", login="kim", password=PASSWORD)
    assert len(people_factors.of_person(world.gateway.reader, who.person.id)) == 1


async def test_a_suspended_person_keeps_nothing_that_opens(world: World) -> None:
    who = await admin(world)
    renewed = str((await staff.renew_staff_link(world.gateway, login="kim"))["link"]).rpartition("/")[2]
    await staff.set_staff_state(world.gateway, login="kim", state="suspended", reason="left")
    assert at(world, who.token) is None
    with pytest.raises(NotFound):
        invitations.find(world.gateway.reader, renewed, world.clock.now())
    with pytest.raises(LoginFailed):
        await staff_sign_in.log_in(world.gateway, "operator", login="kim", password=PASSWORD)
    with pytest.raises(WrongState):
        await staff.renew_staff_link(world.gateway, login="kim")
    await staff.set_staff_state(world.gateway, login="kim", state="active", reason="is back")
    assert at(world, await logged_in(world, who)) is not None


async def test_secrets_of_people_are_nowhere_in_the_book(world: World) -> None:
    who = await admin(world)
    spelled = [who.secret, who.secret.hex().encode(), time_codes.spelled(who.secret).replace(" ", "").encode()]
    kept = repr(world.dump(leave_out=())).encode() + b"".join(path.read_bytes() for path in world.folder.glob("book.sqlite*"))
    assert who.person.login.encode() in kept
    for secret in (*spelled, PASSWORD.encode(), who.token.encode()):
        assert secret not in kept


async def test_names_roles_and_merchants_that_are_none_are_refused(world: World) -> None:
    await admin(world)
    before = world.gateway.reader.one("SELECT count(*) FROM people")[0]  # type: ignore[index]  # a count has a row
    for error, arguments in (
        (Conflict, {"login": "kim"}),
        (BadInput, {"login": "a b"}),
        (BadInput, {"login": ""}),
        (BadInput, {"login": "x" * 65}),
        (BadInput, {"login": "lee", "role": "king"}),
        (BadInput, {"login": "lee", "role": "cashier"}),
        (BadInput, {"login": "lee", "role": "auditor", "merchant": "shop"}),
        (BadInput, {"login": "lee", "name": "\x07"}),
        (BadInput, {"login": "lee", "language": "fr"}),
        (NotFound, {"login": "lee", "merchant": "nobody"}),
    ):
        with pytest.raises(error):
            await staff.invite_staff(world.gateway, **arguments)
    assert world.gateway.reader.one("SELECT count(*) FROM people")[0] == before  # type: ignore[index]  # a count has a row
    assert people.of_console(world.gateway.reader, "shop") == []


@pytest.mark.parametrize("password", ["", "short", "seven77", "aaaaaaaaaa", "hong2", "x" * 129])
async def test_a_customer_gets_no_password_that_is_too_short_or_one_letter(world: World, password: str) -> None:
    with pytest.raises(BadInput):
        await operations.create_customer(world.gateway, login="new", name="New", password=password)
    assert world.gateway.reader.one("SELECT 1 FROM customers WHERE login = 'new'") is None


async def test_the_server_listens_for_both_consoles_where_it_is_told_to(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        ports = [probe.getsockname()[1] for probe in probes]
    urls = (f"http://console.localhost:{ports[0]}", f"http://merchant.localhost:{ports[1]}")
    settings = Settings(
        listen_port=0, line_port=0, operator_port=ports[0], merchant_port=ports[1], operator_url=urls[0], merchant_url=urls[1]
    )
    await create(tmp_path / "data", settings, SystemClock(), root_key=None, root_passphrase=None)
    async with running(tmp_path / "data", SystemClock()) as server, client(Accept="text/html") as http:
        assert server.console_ports == {"operator": ports[0], "merchant": ports[1]}
        for url in urls:
            async with http.get(f"{url}/login") as answer:
                assert answer.status == 200
            async with http.get(f"{url}/", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (303, "/login")
            async with http.get(f"{url}/pay", allow_redirects=False) as answer:
                assert answer.status == 404, "no customer's page is here"


@pytest.mark.parametrize("url", ["http://pay.localhost:9000", "http://merchant.localhost:9000"])
def test_two_faces_never_share_a_host(url: str) -> None:
    with pytest.raises(BadInput):
        Settings(operator_url=url, operator_port=9000, merchant_port=9001)
