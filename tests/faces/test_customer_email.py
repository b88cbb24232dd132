"""A customer's mail address in the operator's console: set, corrected and removed with a reason, and never by the staff alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hanbit.mail import post
from hanbit.parties import customers
from hanbit.parties.customers import Customer
from hanbit.payments import operations
from tests.faces.consoles import Consoles, running_consoles
from tests.faces.site import LOGIN, client
from tests.faces.test_home import Home, at_home
from tests.faces.test_operator_console import WHY, audited, does
from tests.mailbox import Mailbox, mailbox

pytestmark = pytest.mark.asyncio(loop_scope="module")
OLD, NEW = "hong@example.com", "gildong@example.org"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def posted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Consoles, Mailbox]]:
    """An operator that writes to its customers, and what it writes."""
    folder = tmp_path_factory.mktemp("email")
    with mailbox(folder / "mail") as box:
        async with running_consoles(folder, **box.settings()) as running:
            yield running, box


def hong(consoles: Consoles) -> Customer:
    found = customers.by_login(consoles.gateway.reader, LOGIN)
    assert found is not None
    return found


async def confirmed(consoles: Consoles, box: Mailbox) -> None:
    """Hong opens the link of the last letter, logged in, and says yes."""
    link = box.letters[-1].get_content().partition("/my/email/")[2].partition("?")[0]
    async with client() as http:
        home: Home = await at_home(consoles.site, http)
        assert (await home.act(f"/my/email/{link}", "/my/confirm", token=link))[0] == 200


async def test_a_clerk_sets_corrects_and_removes_an_address_that_the_customer_confirms(posted: tuple[Consoles, Mailbox]) -> None:
    consoles, box = posted
    support, customer = await consoles.person("operator", "support"), hong(consoles)
    page = f"/customers/{customer.id}"
    assert f'href="{page}/no_email"' not in (await support.get(page)).text
    assert "link to confirm" in await does(support, f"{page}/email", email=OLD)
    assert "Waiting for the customer to confirm h•••@example.com" in (await support.get(page)).words
    assert hong(consoles).email is None, "the staff alone sets nothing"
    await post.post_due(consoles.gateway)
    assert box.to[-1] == [OLD]
    await confirmed(consoles, box)
    assert hong(consoles).email == OLD
    assert audited(consoles, support, f"ask email {customer.id}")

    await does(support, f"{page}/email", email=f" {NEW} ")
    await post.post_due(consoles.gateway)
    assert (box.to[-1], hong(consoles).email) == ([NEW], OLD)
    await confirmed(consoles, box)
    await post.post_due(consoles.gateway)
    assert (box.to[-1], hong(consoles).email) == ([OLD], NEW), "the address of before is told"
    shown = await support.get(page)
    assert ("g•••@example.org" in shown.words, NEW in shown.text) == (True, False)

    await does(support, f"{page}/no_email")
    await post.post_due(consoles.gateway)
    assert (box.to[-1], hong(consoles).email) == ([NEW], None)
    assert audited(consoles, support, f"no email {customer.id}")
    assert (await support.post(f"{page}/no_email", reason=WHY)).status == 409


async def test_nobody_else_touches_an_address_and_a_wrong_one_is_said(posted: tuple[Consoles, Mailbox]) -> None:
    consoles, _ = posted
    # Not Hong: he would get no letter for a day after this, and the tests come in any order.
    kang = await operations.create_customer(consoles.gateway, login="kang", name="강민", password="a customer's password")
    page = f"/customers/{kang['customer']}"
    for role in ("viewer", "auditor"):
        member = await consoles.person("operator", role)
        for act in ("email", "no_email"):
            assert (await member.get(f"{page}/{act}")).status == 403, (role, act)
            assert (await member.post(f"{page}/{act}", email=NEW, reason=WHY)).status == 403, (role, act)
    stale = await consoles.person("operator", "support", session="stale")
    assert (await stale.post(f"{page}/email", email=NEW, reason=WHY)).location.startswith("/second-factor")
    admin = await consoles.person("operator", "admin")
    before = consoles.gateway.reader.all("SELECT id FROM mails")
    for wrong in ("", "hong", "a b@c.d", "x@y,z@w", "none"):
        refused = await admin.post(f"{page}/email", email=wrong, reason=WHY)
        assert (refused.status, "Enter an address like" in refused.words) == (422, True), wrong
    assert (await admin.post(f"{page}/email", email=NEW, reason="")).status == 422
    assert len(consoles.gateway.reader.all("SELECT id FROM mails")) == len(before)
    statuses = [(await admin.post(f"{page}/email", email=NEW, reason=WHY)).status for _ in range(6)]
    assert statuses[-1] == 429, "nobody is written to without end"
    await post.post_due(consoles.gateway)  # so that no other test finds these letters among its own


async def test_where_mail_is_off_no_address_is_asked_for(tmp_path: Path) -> None:
    async with running_consoles(tmp_path) as consoles:
        admin = await consoles.person("operator", "admin")
        page = f"/customers/{hong(consoles).id}"
        assert f'href="{page}/email"' not in (await admin.get(page)).text
        assert (await admin.post(f"{page}/email", email=NEW, reason=WHY)).status == 409
