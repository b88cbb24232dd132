"""One's own account in a console: password, second factors, other log-ins; each only one's own, and never the last factor."""

import re
from base64 import b32decode
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hanbit.parties import people_factors, time_codes
from tests.faces.consoles import FACES, PASSWORD, Consoles, Member, running_consoles

pytestmark = pytest.mark.asyncio(loop_scope="module")
NEW_PASSWORD = "another sentence to log in with"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def consoles(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consoles]:
    """One operator for all of it."""
    async with running_consoles(tmp_path_factory.mktemp("own")) as running:
        yield running


async def elsewhere(consoles: Consoles, member: Member) -> Member:
    """The same person, logged in once more in another browser."""
    other = Member(consoles.http, member.base, person=member.person, secret=member.secret)
    assert (await other.post("/login", login=member.person.login, password=PASSWORD)).status == 303
    code = other.code(consoles.gateway.clock.now())
    assert (await other.post("/second-factor", code=code)).status == 303
    return other


@pytest.mark.parametrize("face", FACES)
async def test_a_new_password_ends_every_other_log_in(consoles: Consoles, face: str) -> None:
    member = await consoles.person(face, "viewer")
    other = await elsewhere(consoles, member)
    for fields, said in (
        ({"present": "wrong", "password": NEW_PASSWORD, "again": NEW_PASSWORD}, "not your present password"),
        ({"present": PASSWORD, "password": "short", "again": "short"}, "longer and harder"),
        ({"present": PASSWORD, "password": NEW_PASSWORD, "again": "x"}, "not the same"),
        ({"present": "", "password": NEW_PASSWORD, "again": NEW_PASSWORD}, "Enter your password"),
    ):
        answer = await member.post("/me/password", **fields)
        assert (answer.status, said in answer.words) == (422, True), answer.words
        assert NEW_PASSWORD not in answer.text
    assert (await other.get("/me")).status == 200
    done = await member.post("/me/password", present=PASSWORD, password=NEW_PASSWORD, again=NEW_PASSWORD)
    assert (done.status, done.location) == (303, "/me")
    assert "password is changed" in (await member.get("/me")).words
    assert (await other.get("/me")).location.startswith("/login")
    stranger = consoles.stranger(face)
    assert (await stranger.post("/login", login=member.person.login, password=PASSWORD)).status == 401
    assert (await stranger.post("/login", login=member.person.login, password=NEW_PASSWORD)).status == 303


async def test_five_wrong_present_passwords_wait(consoles: Consoles) -> None:
    member = await consoles.person("merchant", "viewer")
    fields = {"present": "wrong", "password": NEW_PASSWORD, "again": NEW_PASSWORD}
    assert [(await member.post("/me/password", **fields)).status for _ in range(6)] == [422] * 5 + [429]


async def test_a_second_app_is_added_and_the_last_one_stays(consoles: Consoles) -> None:
    member = await consoles.person("merchant", "cashier")
    reader = consoles.gateway.reader
    (first,) = people_factors.of_person(reader, member.person.id)
    assert (await member.get(f"/me/factors/{first['id']}/remove")).status == 200
    assert (await member.post(f"/me/factors/{first['id']}/remove")).status == 409
    shown = await member.get("/me/factor")
    secret = b32decode(re.findall(r'class="code secret">([A-Z2-7 ]+)<', shown.text)[0].replace(" ", ""))
    assert (await member.post("/me/factor", code="000000x")).status == 422
    assert (await member.post("/me/factor", code="", passkey="")).status == 422
    code = time_codes.code_of(secret, consoles.gateway.clock.now() // time_codes.STEP_S)
    assert (await member.post("/me/factor", code=code)).location == "/me"
    assert secret not in [
        b32decode(one.replace(" ", "")) for one in re.findall(r"secret\">([A-Z2-7 ]+)<", (await member.get("/me/factor")).text)
    ]
    assert len(people_factors.of_person(reader, member.person.id)) == 2
    assert (await member.post(f"/me/factors/{first['id']}/remove")).location == "/me"
    (left,) = people_factors.of_person(reader, member.person.id)
    assert left["id"] != first["id"]
    assert (await member.get(f"/me/factors/{first['id']}/remove")).status == 404


async def test_somebody_elses_factor_is_not_there(consoles: Consoles) -> None:
    member, other = await consoles.person("merchant", "admin"), await consoles.person("merchant", "admin")
    (theirs,) = people_factors.of_person(consoles.gateway.reader, other.person.id)
    for path in (f"/me/factors/{theirs['id']}/remove", "/me/factors/nobodys/remove"):
        assert (await member.get(path)).status == 404
        assert (await member.post(path)).status == 404
    assert len(people_factors.of_person(consoles.gateway.reader, other.person.id)) == 1


async def test_every_other_log_in_ends_at_once(consoles: Consoles) -> None:
    member = await consoles.person("operator", "auditor")
    other = await elsewhere(consoles, member)
    assert "This browser" in (await member.get("/me")).words
    assert (await member.post("/me/sessions")).location == "/me"
    assert (await other.get("/me")).location.startswith("/login")
    assert (await member.get("/me")).status == 200


async def test_own_keys_are_changed_only_with_a_fresh_second_factor(consoles: Consoles) -> None:
    member = await consoles.person("merchant", "admin", session="stale")
    for path in ("/me/password", "/me/factor", "/me/factors/x/remove"):
        assert (await member.get(path)).location.startswith("/second-factor"), path
        assert (await member.post(path)).location.startswith("/second-factor"), path
