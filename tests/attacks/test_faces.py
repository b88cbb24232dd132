"""Attacks on consoles and home: log-ins that outlive their end or a change of password, forms with other content, forged cookies."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hanbit.db.change import Change
from hanbit.kernel import ids
from hanbit.kernel.errors import NotSignedIn
from hanbit.parties import console_sessions, customers, people, sessions
from hanbit.parties.console_sessions import SESSIONS_SHOWN_MAX
from hanbit.payments import own_account, redirect_flow, staff, staff_sign_in
from hanbit.payments.sign_in import LoginFailed
from hanbit.payments.staff_sign_in import At
from tests.faces.consoles import PASSWORD, Consoles, running_consoles
from tests.faces.site import LOGIN
from tests.faces.site import PASSWORD as CUSTOMER_PASSWORD
from tests.faces.test_home import at_home
from tests.faces.test_merchant_console import paid

pytestmark = pytest.mark.asyncio
NEW_PASSWORD = "another long password of his"
MANY = SESSIONS_SHOWN_MAX + 10


@pytest_asyncio.fixture
async def consoles(tmp_path: Path) -> AsyncIterator[Consoles]:
    """An operator for each attack."""
    async with running_consoles(tmp_path) as running:
        yield running


async def test_a_stolen_log_in_of_a_console_does_not_hide_behind_many_from_the_change_of_password(consoles: Consoles) -> None:
    gateway, at = consoles.gateway, consoles.gateway.clock.now()
    admin = await consoles.person("operator", "admin")
    stolen, row = console_sessions.open_session(admin.person, at, stepped_up=True)
    later = [console_sessions.open_session(admin.person, at + 1, stepped_up=False)[1] for _ in range(MANY)]
    await gateway.book.commit(Change(puts=(row, *later)))
    thief = consoles.stranger("operator")
    thief.cookies["__Host-hanbit-operator"] = stolen
    assert (await thief.get("/payments")).status == 200
    done = await admin.post("/me/password", present=PASSWORD, password=NEW_PASSWORD, again=NEW_PASSWORD)
    assert (done.status, done.location) == (303, "/me")
    assert (await thief.get("/payments")).location.startswith("/login")


async def test_a_stolen_log_in_of_a_console_does_not_hide_behind_many_from_a_suspension_that_ends(consoles: Consoles) -> None:
    gateway, at = consoles.gateway, consoles.gateway.clock.now()
    support = await consoles.person("operator", "support")
    later = [console_sessions.open_session(support.person, at + 1, stepped_up=False)[1] for _ in range(MANY)]
    await gateway.book.commit(Change(puts=tuple(later)))
    for change in (staff.suspend, staff.resume):
        person = people.by_id(gateway.reader, support.person.id)
        assert person is not None
        await change(gateway, person, by="operator", reason="a lost computer")
    assert (await support.get("/payments")).location.startswith("/login")


@pytest.mark.parametrize("by", ["password", "sessions"])
async def test_a_stolen_session_of_a_customer_does_not_hide_behind_many(consoles: Consoles, by: str) -> None:
    gateway, at = consoles.gateway, consoles.gateway.clock.now()
    thief, owner = await at_home(consoles.site, consoles.http), await at_home(consoles.site, consoles.http)
    customer = customers.by_login(gateway.reader, LOGIN)
    assert customer is not None
    later = [sessions.open_session(customer.id, "password", at + 1)[1] for _ in range(MANY)]
    await gateway.book.commit(Change(puts=tuple(later)))
    if by == "password":
        status, _ = await owner.act("/my/security", "/my/password", old=CUSTOMER_PASSWORD, new=NEW_PASSWORD, again=NEW_PASSWORD, account="")
    else:
        status, _ = await owner.act("/my/security", "/my/sessions", session="")
    assert status == 200
    assert (await thief.page("/my"))[0] == 303
    assert (await owner.page("/my"))[0] == 200


async def test_a_log_in_with_the_old_password_beside_its_change_opens_nothing(consoles: Consoles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old password is found right, and before its session is stored the owner has another one."""
    site, gateway = consoles.site, consoles.gateway
    owner = await at_home(site, consoles.http)
    verify, passed, changed = gateway.passwords.verify, asyncio.Event(), asyncio.Event()

    async def slow(stored: str, password: str) -> bool:
        right = await verify(stored, password)
        passed.set()
        await changed.wait()
        return right

    thief = type(owner)(site, consoles.http)
    forms = await thief.blanks("/my/login")
    sealed = thief.sealed(forms["/my/login"], method="password", id=LOGIN, password=CUSTOMER_PASSWORD)
    with monkeypatch.context() as patched:
        patched.setattr(gateway.passwords, "verify", slow)
        entering = asyncio.create_task(thief.send("/my/login", sealed))
        await passed.wait()
    status, _ = await owner.act("/my/security", "/my/password", old=CUSTOMER_PASSWORD, new=NEW_PASSWORD, again=NEW_PASSWORD, account="")
    assert status == 200
    changed.set()
    assert (await entering)[0] == 401
    assert (await thief.page("/my"))[0] == 303
    assert (await owner.page("/my"))[0] == 200


async def test_a_log_in_of_a_console_with_the_old_password_beside_its_change_opens_nothing(
    consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = consoles.gateway
    admin = await consoles.person("merchant", "admin")
    found = console_sessions.find(gateway.reader, admin.cookies["__Host-hanbit-merchant"], face="merchant", at=gateway.clock.now())
    assert found is not None
    verify, passed, changed = gateway.passwords.verify, asyncio.Event(), asyncio.Event()

    async def slow(stored: str, password: str) -> bool:
        right = await verify(stored, password)
        passed.set()
        await changed.wait()
        return right

    with monkeypatch.context() as patched:
        patched.setattr(gateway.passwords, "verify", slow)
        entering = asyncio.create_task(staff_sign_in.log_in(gateway, "merchant", login=admin.person.login, password=PASSWORD))
        await passed.wait()
    await own_account.change_password(gateway, At(*found), present=PASSWORD, chosen=NEW_PASSWORD)
    changed.set()
    with pytest.raises(LoginFailed):
        await entering


async def test_a_session_that_entered_the_book_beside_a_change_of_password_ends(
    consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log-in is stored while the new password is hashed, or after the sessions were looked at: neither outlives the change."""
    gateway = consoles.gateway
    owner = await at_home(consoles.site, consoles.http)
    customer = customers.by_login(gateway.reader, LOGIN)
    assert customer is not None
    hashing, tokens = gateway.passwords.hash, list[str]()

    async def enter() -> None:
        token, row = sessions.open_session(customer.id, "password", gateway.clock.now())
        tokens.append(token)
        await gateway.book.commit(Change(puts=(row,)))

    async def beside(password: str) -> str:
        await enter()
        return await hashing(password)

    commit = gateway.book.commit

    async def behind(change: Change) -> None:
        if any(put.table == "customers" for put in change.puts):
            await enter()
        await commit(change)

    forms = await owner.blanks("/my/security")
    sealed = owner.sealed(forms["/my/password"], old=CUSTOMER_PASSWORD, new=NEW_PASSWORD, again=NEW_PASSWORD, account="")
    with monkeypatch.context() as patched:
        patched.setattr(gateway.passwords, "hash", beside)
        patched.setattr(gateway.book, "commit", behind)
        assert (await owner.send("/my/password", sealed))[0] == 200
    assert len(tokens) == 2
    for token in tokens:
        with pytest.raises(NotSignedIn):
            redirect_flow.signed_in(gateway, token)


async def test_a_form_of_a_refund_that_was_corrected_and_sent_again_is_refused_and_not_said_to_be_done(consoles: Consoles) -> None:
    payment, other = await paid(consoles), await paid(consoles)
    cashier, request = await consoles.person("merchant", "cashier"), ids.new_token()
    fields = {"much": "part", "reason": "one of two came back", "request": request}
    assert (await cashier.post(f"/payments/{payment}/refund", amount="1000", **fields)).status == 303
    before = consoles.gateway.reader.all("SELECT * FROM console_requests")
    assert (await cashier.post(f"/payments/{payment}/refund", amount="1000", **fields)).status == 303, "a double click"
    assert (await cashier.post(f"/payments/{payment}/refund", amount="2000", **fields)).status == 409
    assert (await cashier.post(f"/payments/{other}/refund", amount="1000", **fields)).status == 409
    assert [tuple(row) for row in consoles.gateway.reader.all("SELECT * FROM console_requests")] == [tuple(row) for row in before]


async def test_two_peoples_forms_of_one_payment_at_the_same_moment_ask_for_one_refund(
    consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes after the first was looked at and before it is in the book: the book takes one, and tells the other whose it was."""
    payment, own, theirs = await paid(consoles), ids.new_token(), ids.new_token()
    one, two = await consoles.person("merchant", "cashier"), await consoles.person("merchant", "cashier")
    commit, storing, answered = consoles.gateway.book.commit, asyncio.Event(), asyncio.Event()

    async def slow(change: Change) -> None:
        if any(put.table == "console_requests" for put in change.puts) and not storing.is_set():
            storing.set()
            await answered.wait()
        await commit(change)

    fields = {"much": "part", "amount": "1000", "reason": "one of two came back"}
    monkeypatch.setattr(consoles.gateway.book, "commit", slow)
    first = asyncio.create_task(one.post(f"/payments/{payment}/refund", request=own, **fields))
    await storing.wait()
    try:
        assert (await two.post(f"/payments/{payment}/refund", request=theirs, **fields)).status == 303
    finally:
        answered.set()
    late = await first
    assert late.status == 409
    assert two.person.name in late.words, "who has asked"
    assert "Ask again now" in late.words, "what to do"
    assert [row["id"] for row in consoles.gateway.reader.all("SELECT id FROM console_requests")] == [theirs]


async def test_the_support_opens_no_account_that_can_be_spent_from_at_once(consoles: Consoles) -> None:
    """It would choose the password too: money out of nothing, without the second person who stands behind what is paid in."""
    reader = consoles.gateway.reader
    support, admin = await consoles.person("operator", "support"), await consoles.person("operator", "admin")
    customer = customers.by_login(reader, LOGIN)
    assert customer is not None
    card = {"kind": "card", "number": "4000000000000010", "password": "7391", "currency": "KRW", "reason": "a card", "credit": "9000000"}
    before = reader.all("SELECT id FROM accounts")
    refused = await support.post(f"/customers/{customer.id}/account", **card)
    assert refused.status == 422
    assert "Only an admin" in refused.words
    assert len(reader.all("SELECT id FROM accounts")) == len(before)
    assert (await admin.post(f"/customers/{customer.id}/account", **card)).status == 303


@pytest.mark.parametrize("values", [{"place": "x"}, {"self": "x"}, {}, {"name": "<b>x</b>"}])
async def test_a_forged_word_about_what_was_done_breaks_no_page(consoles: Consoles, values: dict[str, str]) -> None:
    visitor = consoles.stranger("operator")
    said = json.dumps({"place": "console.staff.done.role", "values": values}).encode()
    visitor.cookies["__Host-hanbit-operator-done"] = ids.encode_base64url(said)
    shown = await visitor.get("/login")
    assert shown.status == 200
    assert "<b>x" not in shown.text
