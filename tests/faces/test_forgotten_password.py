"""A customer has forgotten his password: a link that the staff makes, shown once, sets a new one once, and opens nothing else."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hanbit.kernel.clock import SandboxClock
from hanbit.parties import customers, password_links
from tests.faces.consoles import Consoles, running_consoles
from tests.faces.site import LOGIN
from tests.faces.test_home import Home, at_home
from tests.faces.test_operator_console import WHY, audited

pytestmark = pytest.mark.asyncio(loop_scope="module")
WRONG = "another sentence altogether"
NEW = "a sentence that he will remember"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def consoles(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consoles]:
    async with running_consoles(tmp_path_factory.mktemp("forgotten")) as running:
        yield running


async def linked(consoles: Consoles) -> str:
    """A fresh link's path, as the console shows it to somebody of the support."""
    support = await consoles.person("operator", "support")
    customer = customers.by_login(consoles.gateway.reader, LOGIN)
    assert customer is not None
    made = await support.post(f"/customers/{customer.id}/password", reason=WHY)
    assert made.status == 200, made.words
    link = made.text.partition('<span class="code">')[2].partition("<")[0]
    path = link.removeprefix(consoles.gateway.settings.public_url)
    assert path.startswith("/my/password/")
    assert audited(consoles, support, f"password link for customer {customer.id}")
    token = path.rpartition("/")[2]
    for table in ("enrolments", "audit"):
        rows = consoles.gateway.reader.all(f"SELECT * FROM {table}")  # noqa: S608 - names of our own
        assert not any(token in str(tuple(row)) for row in rows), "the book knows its hash only"
    return path


async def test_the_link_sets_the_password_once_and_every_session_ends(consoles: Consoles) -> None:
    site, http = consoles.site, consoles.http
    inside = await at_home(site, http)
    for _ in range(5):
        await Home(site, http).enter(password="wrong")
    assert (await Home(site, http).enter())[0] == 429, "he has locked himself out"
    path = await linked(consoles)
    home = Home(site, http)
    blank = (await home.blanks(path))[path]
    sealed = home.sealed(blank, new=NEW, again=NEW)
    assert (await home.send(path, sealed))[:2] == (200, {"done": "password"})
    assert (await home.page(path))[0] == 404
    assert (await home.send(path, sealed))[0] == 404
    assert (await inside.page("/my"))[0] == 303, "the session that there was has ended"
    assert (await Home(site, http).enter(password=WRONG))[0] == 401
    assert (await Home(site, http).enter(password=NEW))[0] == 200


async def test_a_link_is_good_for_its_own_form_its_hour_and_until_the_next_one(consoles: Consoles) -> None:
    site, http = consoles.site, consoles.http
    first = await linked(consoles)
    home = Home(site, http)
    of_first = (await home.blanks(first))[first]
    second = await linked(consoles)
    assert (await home.page(first))[0] == 404, "a new link takes the place of the one before"
    status, problem, _ = await home.send(second, home.sealed(of_first, new=NEW, again=NEW))
    assert (status, problem["detail"]) == (400, "sealed")
    blank = (await home.blanks(second))[second]
    assert (await home.send(second, home.sealed(blank, new="short", again="short")))[0] == 400
    blank = (await home.blanks(second))[second]
    assert (await home.send(second, home.sealed(blank, new=NEW, again=NEW + "!")))[0] == 400
    assert isinstance(consoles.gateway.clock, SandboxClock)
    consoles.gateway.clock.offset_s += password_links.LIFE_S + 1
    assert (await home.page(second))[0] == 404
    assert (await home.page("/my/password/" + "A" * 43))[0] == 404


async def test_a_link_enrols_no_device_and_a_suspended_customer_gets_none(consoles: Consoles) -> None:
    token = (await linked(consoles)).rpartition("/")[2]
    customer = customers.by_login(consoles.gateway.reader, LOGIN)
    assert customer is not None
    async with consoles.http.post(f"{consoles.site.base}/enrol/merchant", json={"code": token, "requests": {}}) as answer:
        assert answer.status == 403
    admin = await consoles.person("operator", "admin")
    assert (await admin.post(f"/customers/{customer.id}/suspend", reason=WHY)).status == 303
    assert (await admin.post(f"/customers/{customer.id}/password", reason=WHY)).status == 409
    assert (await Home(consoles.site, consoles.http).page(f"/my/password/{token}"))[0] == 404
    assert (await admin.post(f"/customers/{customer.id}/resume", reason=WHY)).status == 303
