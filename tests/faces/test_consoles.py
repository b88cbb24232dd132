"""Getting into the consoles and what keeps others out: set-up links, both factors, sessions, origins, roles, other merchants' things."""

import re
from base64 import b32decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from starlette.routing import Route

from hanbit.evidence.log_check import check as check_log
from hanbit.ledger.check import check as check_ledger
from hanbit.parties import people, time_codes
from hanbit.payments import payment as payments
from hanbit.payments import staff
from hanbit.web.permissions import PERMISSIONS
from tests.faces.consoles import FACES, OTHER_SHOP, PASSWORD, Consoles, Visitor, running_consoles, token_of
from tests.faces.site import SHOP
from tests.faces.test_customer_site import logged_in as customer_logged_in

pytestmark = pytest.mark.asyncio(loop_scope="module")
NEW_PASSWORD = "a longer sentence to log in with"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def consoles(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consoles]:
    """One operator for all of it; at the end book and log are whole."""
    async with running_consoles(tmp_path_factory.mktemp("consoles")) as running:
        yield running
        reader = running.gateway.reader
        assert check_ledger(reader.connection).balanced
        with reader.snapshot() as connection:
            assert check_log(connection).whole


async def invited(consoles: Consoles, login: str, role: str = "admin", merchant: str = "") -> str:
    """The path of a set-up link that `hanbit staff invite` has made."""
    made = await staff.invite_staff(consoles.gateway, login=login, role=role, name=f"{login} Gildong", merchant=merchant, language="en")
    return f"/set-up/{token_of(made['link'])}"


def secret_in(page: str) -> bytes:
    """What somebody types into his authenticator app, read off the page."""
    found = re.search(r'class="code secret">([A-Z2-7 ]+)<', page)
    assert found
    return b32decode(found[1].replace(" ", ""))


async def set_up(consoles: Consoles, visitor: Visitor, path: str, password: str = NEW_PASSWORD) -> bytes:
    """Use a link: password and authenticator app."""
    page = await visitor.get(path)
    assert page.status == 200, page.text
    secret = secret_in(page.text)
    code = time_codes.code_of(secret, consoles.gateway.clock.now() // 30)
    done = await visitor.post(path, password=password, again=password, code=code, passkey="")
    assert (done.status, done.location) == (303, "/"), done.words
    return secret


# --- the way in -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
async def test_a_set_up_link_works_once_and_leads_in(consoles: Consoles, face: str) -> None:
    path = await invited(consoles, f"first-{face}", merchant=SHOP if face == "merchant" else "")
    visitor = consoles.stranger(face)
    await set_up(consoles, visitor, path)
    home = await visitor.get("/")
    assert home.status == 200
    assert f"You are set up, first-{face} Gildong." in home.words
    assert "You are set up" not in (await visitor.get("/")).words, "said once"
    again = await consoles.stranger(face).get(path)
    assert again.status == 404
    assert (await consoles.stranger("merchant" if face == "operator" else "operator").get(path)).status == 404


async def test_a_link_of_one_console_opens_nothing_in_the_other(consoles: Consoles) -> None:
    path = await invited(consoles, "elsewhere")
    assert (await consoles.stranger("merchant").get(path)).status == 404
    assert (await consoles.stranger("operator").get(path)).status == 200


async def test_a_weak_password_and_a_wrong_code_use_no_link_up(consoles: Consoles) -> None:
    path = await invited(consoles, "carefully")
    visitor = consoles.stranger("operator")
    for fields, said in (
        ({"password": "short"}, "Choose a password that is longer"),
        ({"password": "aaaaaaaaaaaa"}, "Choose a password that is longer"),
        ({"password": "carefully"}, "Choose a password that is longer"),
        ({"again": "something else"}, "The two passwords are not the same"),
        ({"code": ""}, "Make a passkey, or enter the six-digit code"),
        ({"code": "000000x"}, "This is not right"),
        ({"passkey": "{}"}, "This is not right"),
        ({"passkey": "[" * 9_000}, "This is not right"),
    ):
        form = {"password": NEW_PASSWORD, "again": fields.get("password", NEW_PASSWORD), "code": "123", "passkey": "", **fields}
        answer = await visitor.post(path, **form)
        assert answer.status == 422, fields
        assert said in answer.words, fields
        assert NEW_PASSWORD not in answer.text
    person = people.by_login(consoles.gateway.reader, "carefully")
    assert person is not None
    assert (person.state, person.password) == ("invited", None)
    await set_up(consoles, visitor, path)


async def test_password_and_code_lead_in_and_the_token_changes_at_each_step(consoles: Consoles) -> None:
    member = await consoles.person("operator", "viewer", session="none")
    shown = await member.get("/payments?state=open")
    assert (shown.status, shown.location) == (303, "/login?next=%2Fpayments%3Fstate%3Dopen")
    half = await member.post("/login", login=member.person.login, password=PASSWORD, next="/payments?state=open")
    assert (half.status, half.location) == (303, "/second-factor?next=%2Fpayments%3Fstate%3Dopen")
    (before,) = member.cookies.values()
    assert (await member.get("/payments")).location.startswith("/second-factor")
    assert (await member.post("/logout")).location.startswith("/second-factor"), "half a session opens nothing else"
    code = member.code(consoles.gateway.clock.now())
    whole = await member.post("/second-factor", code=code, next="/payments?state=open")
    assert (whole.status, whole.location) == (303, "/payments?state=open")
    (after,) = member.cookies.values()
    assert after != before
    cookie = whole.cookies[0]
    assert cookie.startswith("__Host-hanbit-operator=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert (await member.get("/payments")).status == 200
    replayed = Visitor(consoles.http, member.base, {"__Host-hanbit-operator": before})
    assert (await replayed.get("/payments")).location.startswith("/login")
    stored = consoles.gateway.reader.one("SELECT 1 FROM console_sessions WHERE token_hash = ?", after)
    assert stored is None, "only the hash is kept"


async def test_a_code_is_good_once(consoles: Consoles) -> None:
    member = await consoles.person("operator", "viewer", session="half")
    rival = await consoles.person("operator", "viewer", session="none")
    code = member.code(consoles.gateway.clock.now())
    assert (await member.post("/second-factor", code=code)).status == 303
    again = await member.post("/second-factor", code=code)
    assert again.status == 401
    assert "This is not right" in again.words
    assert (await rival.post("/second-factor", code=code)).status == 401, "a stranger has no half session"


async def test_five_wrong_codes_wait(consoles: Consoles) -> None:
    member = await consoles.person("operator", "viewer", session="half")
    statuses = [(await member.post("/second-factor", code="000000")).status for _ in range(6)]
    assert statuses == [401] * 5 + [429]


async def test_a_wrong_login_has_one_answer_whatever_was_wrong(consoles: Consoles) -> None:
    member = await consoles.person("operator", "viewer", session="none")
    seller = await consoles.person("merchant", "admin", session="none")
    gone = await consoles.person("operator", "viewer", session="none")
    await staff.suspend(consoles.gateway, gone.person, by="operator", reason="left")
    texts = set()
    for login, password in (
        (member.person.login, "wrong"),
        ("nobody-at-all", "wrong"),
        (seller.person.login, PASSWORD),
        (gone.person.login, PASSWORD),
    ):
        visitor = consoles.stranger("operator")
        answer = await visitor.post("/login", login=login, password=password)
        assert answer.status == 401
        assert not visitor.cookies
        shown = answer.text.replace(login, "")
        texts.add(re.sub(r"[A-Z0-9]{4}-[A-Z0-9]{4}|nonce=\S+", "", shown))
    assert len(texts) == 1


async def test_five_wrong_passwords_wait_for_whoever_exists_and_whoever_does_not(consoles: Consoles) -> None:
    member = await consoles.person("operator", "viewer", session="none")
    for login in (member.person.login, "nobody-here"):
        visitor = consoles.stranger("operator")
        answers = [await visitor.post("/login", login=login, password="wrong") for _ in range(6)]
        assert [answer.status for answer in answers] == [401] * 5 + [429]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 3600


async def test_logging_out_ends_the_session_in_the_book(consoles: Consoles) -> None:
    member = await consoles.person("operator", "viewer")
    kept = dict(member.cookies)
    out = await member.post("/logout")
    assert (out.status, out.location) == (303, "/login")
    assert "You have logged out." in (await member.get("/login")).words
    assert (await Visitor(consoles.http, member.base, kept).get("/")).location == "/login"


async def test_whoever_is_suspended_is_out_with_his_next_request(consoles: Consoles) -> None:
    admin, member = await consoles.person("operator", "admin"), await consoles.person("operator", "viewer")
    assert (await member.get("/")).status == 200
    done = await admin.post(f"/staff/{member.person.id}/suspend", reason="left the bank")
    assert (done.status, done.location) == (303, f"/staff/{member.person.id}")
    assert (await member.get("/")).location == "/login"
    row = consoles.gateway.reader.one("SELECT * FROM audit WHERE act = ?", f"suspend person {member.person.id}")
    assert row is not None
    assert (row["actor"], row["reason"]) == (admin.person.actor, "left the bank")


async def test_the_next_address_is_never_somebody_elses(consoles: Consoles) -> None:
    for following in ("//evil.example", "https://evil.example/", "/\\evil.example", "/a\r\nSet-Cookie: x=y", "javascript:alert(1)", "evil"):
        member = await consoles.person("operator", "viewer", session="half")
        done = await member.post("/second-factor", code=member.code(consoles.gateway.clock.now()), next=following)
        assert (done.status, done.location) == (303, "/"), following


# --- dangerous acts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
async def test_a_dangerous_act_needs_the_second_factor_again(consoles: Consoles, face: str) -> None:
    admin = await consoles.person(face, "admin", session="stale")
    led = await admin.get("/staff/invite")
    assert (led.status, led.location) == (303, "/second-factor?next=%2Fstaff%2Finvite")
    refused = await admin.post("/staff/invite", login="x", name="x", role="viewer")
    assert (refused.status, refused.location) == (303, "/second-factor?next=%2Fstaff%2Finvite")
    assert people.by_login(consoles.gateway.reader, "x") is None
    assert "Confirm that it is you" in (await admin.get("/second-factor?next=/staff/invite")).words
    (before,) = admin.cookies.values()
    up = await admin.post("/second-factor", code=admin.code(consoles.gateway.clock.now()), next="/staff/invite")
    assert (up.status, up.location) == (303, "/staff/invite")
    assert before not in admin.cookies.values()
    assert (await admin.get("/staff/invite")).status == 200


async def test_an_invitation_is_shown_once_and_takes_the_place_of_the_one_before(consoles: Consoles) -> None:
    admin = await consoles.person("merchant", "admin")
    shown = await admin.post("/staff/invite", login="cashier-1", name="김출납", role="cashier", language="ko")
    assert shown.status == 200
    first = re.search(r"/set-up/[A-Za-z0-9_-]{43}", shown.text)
    person = people.by_login(consoles.gateway.reader, "cashier-1")
    assert first
    assert person is not None
    assert (person.merchant, person.role, person.face) == (SHOP, "cashier", "merchant")
    taken = await admin.post("/staff/invite", login="cashier-1", name="x", role="cashier")
    assert taken.status == 422
    assert "This ID is taken" in taken.words
    second = await admin.post(f"/staff/{person.id}/link", reason="lost the first")
    assert (await consoles.stranger("merchant").get(first[0])).status == 404
    renewed = re.search(r"/set-up/[A-Za-z0-9_-]{43}", second.text)
    assert renewed
    await set_up(consoles, consoles.stranger("merchant"), renewed[0])


async def test_the_operator_invites_a_merchants_first_admin(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    assert 'value="admin" selected' in (await admin.get(f"/merchants/{OTHER_SHOP}/invite")).text
    shown = await admin.post(f"/merchants/{OTHER_SHOP}/invite", login="dasom-1", name="다솜", role="admin")
    link = re.search(r"http://merchant\.localhost:[0-9]+(/set-up/[A-Za-z0-9_-]{43})", shown.text)
    assert link, shown.words
    visitor = consoles.stranger("merchant", language="ko")
    await set_up(consoles, visitor, link[1])
    assert "다솜서점" in (await visitor.get("/")).words
    assert "dasom-1" in (await admin.get(f"/merchants/{OTHER_SHOP}")).words


async def test_nobody_suspends_or_promotes_himself(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    for act, fields in (("suspend", {}), ("role", {"role": "auditor"})):
        answer = await admin.post(f"/staff/{admin.person.id}/{act}", reason="why not", **fields)
        assert answer.status == 422
        assert "You cannot do this to yourself" in answer.words
    assert people.by_id(consoles.gateway.reader, admin.person.id) == admin.person or (await admin.get("/")).status == 200


async def test_every_act_says_who_and_why(consoles: Consoles) -> None:
    admin, member = await consoles.person("operator", "admin"), await consoles.person("operator", "viewer")
    for act, fields in (("role", {"role": "support"}), ("suspend", {}), ("resume", {}), ("link", {})):
        missing = await admin.post(f"/staff/{member.person.id}/{act}", reason="  ", **fields)
        assert missing.status == 422
        assert "Enter a reason" in missing.words
        done = await admin.post(f"/staff/{member.person.id}/{act}", reason=f"because of {act}", **fields)
        assert done.status == (200 if act == "link" else 303), done.words
    rows = consoles.gateway.reader.all("SELECT act, reason FROM audit WHERE actor = ? ORDER BY at", admin.person.actor)
    assert {row["reason"] for row in rows} == {"because of role", "because of suspend", "because of resume", "because of link"}


# --- whose things -----------------------------------------------------------------------------------------------------------------


async def paid(consoles: Consoles, **changed: Any) -> str:
    """The id of a payment of the first shop."""
    browser, accounts = await customer_logged_in(consoles.site, consoles.http, consoles.site.shop.order(amount=1_000, **changed))
    _, answer, _ = await browser.pay(accounts["bank"])
    assert answer["state"] == "captured"
    return str(answer["payment"])


async def test_a_payment_shows_every_signed_message_and_its_verification(consoles: Consoles) -> None:
    payment = payments.by_id(consoles.gateway.reader, await paid(consoles))
    assert payment is not None
    admin, seller = await consoles.person("operator", "admin"), await consoles.person("merchant", "viewer")
    shown, own = await admin.get(f"/payments/{payment.id}"), await seller.get(f"/payments/{payment.id}")
    for words in (
        "Order",
        "Keys of the opening",
        "Notice",
        "Confirmation",
        "Settled",
        "Receipt",
        "Held",
        "Captured",
        "Approved by the customer",
    ):
        assert words in shown.words, words
    assert "Every signature, and how they follow from one another, was verified just now." in shown.words
    assert "Does not verify" not in shown.words
    assert "홍길동" in shown.words
    for words in ("Order", "Notice", "Confirmation", "Settled", "Captured"):
        assert words in own.words, words
    for words in ("홍길동", "hong", "8890", "Keys of the opening", "Receipt", "Approved by the customer"):
        assert words not in own.words, words
    messages = set(re.findall(rf"/payments/{payment.id}/messages/[A-Za-z0-9_-]+", shown.text))
    theirs = set(re.findall(rf"/payments/{payment.id}/messages/[A-Za-z0-9_-]+", own.text))
    assert theirs < messages
    for path in messages:
        bytes_ = await admin.get(path)
        assert (bytes_.status, bytes_.headers["Content-Type"]) == (200, "application/jose")
        assert (await seller.get(path)).status == (200 if path in theirs else 404)


async def test_another_merchants_things_look_like_none(consoles: Consoles) -> None:
    payment = payments.by_id(consoles.gateway.reader, await paid(consoles))
    assert payment is not None
    colleague = await consoles.person("merchant", "viewer", merchant=SHOP, session="none")
    clerk = await consoles.person("operator", "viewer", session="none")
    other = await consoles.person("merchant", "admin", merchant=OTHER_SHOP)
    unknown = "A" * 22
    pairs = [(f"/payments/{payment.id}", f"/payments/{unknown}")]
    pairs += [(f"/payments/{payment.id}/messages/{payment.order_hash}", f"/payments/{unknown}/messages/{payment.order_hash}")]
    for person in (colleague.person, clerk.person):
        pairs += [(f"/staff/{person.id}", f"/staff/{unknown}"), (f"/staff/{person.id}/suspend", f"/staff/{unknown}/suspend")]
    for theirs, nowhere in pairs:
        foreign, none = await other.get(theirs), await other.get(nowhere)
        assert foreign.status == none.status == 404
        assert comparable(foreign.text, theirs) == comparable(none.text, nowhere)
    refused = await other.post(f"/staff/{colleague.person.id}/suspend", reason="not mine")
    assert refused.status == 404
    assert people.by_id(consoles.gateway.reader, colleague.person.id) == people.by_login(consoles.gateway.reader, colleague.person.login)
    for query in ("", f"?merchant={SHOP}", f"?number={payment.tid}", f"?number={payment.id}", f"?number={payment.id[:8]}"):
        shown = await other.get(f"/payments{query}")
        assert shown.status == 200
        assert f'href="/payments/{payment.id}"' not in shown.text
        assert "No payment fits." in shown.words


def comparable(page: str, path: str) -> str:
    """A page without what differs between any two requests."""
    return re.sub(r"[0-9A-Z]{4}-[0-9A-Z]{4}", "", page).replace(path, "")


async def test_the_list_is_searched_narrowed_and_paged(consoles: Consoles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanbit.web.payment_pages.ROWS", 2)
    made = [await paid(consoles) for _ in range(3)]
    admin = await consoles.person("operator", "auditor")
    seen, path = [], "/payments?state=captured"
    for _ in range(20):
        page = await admin.get(path)
        seen += re.findall(r'href="/payments/([A-Za-z0-9_-]{22})"', page.text)
        following = re.search(r'href="([^"]+)" rel="next"', page.text)
        if following is None:
            break
        path = following[1].replace("&amp;", "&")
    assert set(made) <= set(seen)
    assert len(seen) == len(set(seen))
    payment = payments.by_id(consoles.gateway.reader, made[0])
    assert payment is not None
    for number in (payment.id, payment.id[:8], payment.tid):
        assert (await admin.get(f"/payments?number={number}")).location == f"/payments/{payment.id}"
    assert "No payment fits." in (await admin.get("/payments?until=2020-01-01")).words
    assert "No payment fits." in (await admin.get("/payments?state=voided")).words
    for wrong in ("state=nowhere", "since=yesterday", "until=2026-02-30"):
        assert (await admin.get(f"/payments?{wrong}")).status == 422
    for wrong in ("after=1", "x=1", "state=open&state=closed", "number=%ff", "after=1.%00"):
        assert (await admin.get(f"/payments?{wrong}")).status == 400, wrong


# --- the table --------------------------------------------------------------------------------------------------------------------

WHO = ("nobody", "half", "viewer", "support", "cashier", "admin", "auditor")


@pytest.mark.parametrize("face", FACES)
async def test_every_address_opens_to_those_in_the_table_and_to_nobody_else(consoles: Consoles, face: str) -> None:
    """The whole product: each address × each role, and whoever has no session, or half of one."""
    table = PERMISSIONS[face]
    served = {f"{method} {route.path}" for route in consoles.apps[face].routes if isinstance(route, Route) for method in _methods(route)}
    assert served == set(table), "an address without a line, or a line without an address"
    members: dict[str, Visitor] = {"nobody": consoles.stranger(face)}
    members["half"] = await consoles.person(face, "admin", session="half")
    for role in people.ROLES[face]:
        members[role] = await consoles.person(face, role)
    stale = await consoles.person(face, "admin", session="stale")
    for address, rule in table.items():
        method, _, pattern = address.partition(" ")
        if pattern in {"/logout", "/second-factor"}:
            continue  # they end the session they are asked with; tested above
        path = re.sub(r"\{[^}]+\}", "A" * 22, pattern)
        for name, member in members.items():
            opened = await _opens(member, method, path)
            allowed = rule.public or (name in rule.roles)
            assert opened is allowed, f"{face} {address} {name}"
        if rule.fresh:
            assert not await _opens(stale, method, path), f"{face} {address} without a fresh second factor"


def _methods(route: Route) -> set[str]:
    return (route.methods or set()) - {"HEAD"}


async def _opens(member: Visitor, method: str, path: str) -> bool:
    """Whether the handler was reached: whatever it then says of a form that is empty and a name that is nobody's."""
    answer = await (member.get(path) if method == "GET" else member.post(path))
    led = answer.location.startswith(("/login", "/second-factor"))
    assert answer.status < 500, answer.words
    return answer.status not in {401, 403} and not led


async def test_the_auditor_changes_nothing() -> None:
    writes = [address for address, rule in PERMISSIONS["operator"].items() if address.startswith("POST") and "auditor" in rule.roles]
    assert [address for address in writes if not address.startswith("POST /me/")] == ["POST /logout", "POST /language"]


# --- other sites ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
async def test_a_write_from_elsewhere_is_refused_and_nothing_changes(consoles: Consoles, face: str) -> None:
    admin = await consoles.person(face, "admin")
    before = consoles.gateway.reader.one("SELECT count(*) FROM people")
    elsewhere: list[dict[str, str]] = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": consoles.site.base},
        {"Origin": consoles.bases["merchant" if face == "operator" else "operator"]},
        {"Origin": admin.base, "Sec-Fetch-Site": "cross-site"},
        {"Origin": admin.base, "Sec-Fetch-Site": "same-site"},
        {"Origin": admin.base, "Sec-Fetch-Site": "none"},
    ]
    for headers in elsewhere:
        answer = await admin.post("/staff/invite", headers, login="smuggled", name="x", role="admin")
        assert answer.status == 403, headers
    async with consoles.http.post(
        admin.base + "/staff/invite",
        data={"login": "smuggled", "name": "x", "role": "admin"},
        headers={"Cookie": "; ".join(f"{name}={value}" for name, value in admin.cookies.items())},
    ) as answer_without:
        assert answer_without.status == 403, "whoever does not say whence comes from nowhere"
    assert people.by_login(consoles.gateway.reader, "smuggled") is None
    assert consoles.gateway.reader.one("SELECT count(*) FROM people")[0] == before[0]  # type: ignore[index]  # a count has a row


@pytest.mark.parametrize("face", FACES)
async def test_no_page_is_framed_kept_or_runs_what_is_not_ours(consoles: Consoles, face: str) -> None:
    admin = await consoles.person(face, "admin")
    for path in ("/", "/payments", "/staff", "/staff/invite", "/login", "/nowhere"):
        headers = (await admin.get(path)).headers
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin", "under no-referrer a form's Origin is null"


async def test_a_session_of_one_console_is_nothing_in_the_other(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    (token,) = admin.cookies.values()
    stranger = Visitor(consoles.http, consoles.bases["merchant"], {"__Host-hanbit-merchant": token, "__Host-hanbit-operator": token})
    assert (await stranger.get("/")).location == "/login"


async def test_what_people_type_is_text_on_every_page(consoles: Consoles) -> None:
    nasty = "<img src=x onerror=alert(1)>\"'{{7*7}}"
    admin = await consoles.person("operator", "admin", name=nasty)
    for path in ("/", "/staff", f"/staff/{admin.person.id}", "/payments?number=%3Cscript%3Ealert(1)%3C/script%3E"):
        page = await admin.get(path)
        assert page.status == 200, path
        assert "<img" not in page.text.replace('<img src="/static', "")
        assert "<script>" not in page.text


async def test_a_forged_word_about_what_was_done_says_nothing(consoles: Consoles) -> None:
    admin = await consoles.person("operator", "admin")
    for forged in ("x", "eyJwbGFjZSI6ICJub3doZXJlIiwgInZhbHVlcyI6IHt9fQ", "A" * 2000, "bnVsbA"):
        admin.cookies["__Host-hanbit-operator-done"] = forged
        page = await admin.get("/")
        assert page.status == 200
        assert 'class="done"' not in page.text


async def test_the_language_is_ones_own_from_then_on(consoles: Consoles) -> None:
    member = await consoles.person("operator", "viewer", language="en")
    assert "Overview" in (await member.get("/")).words
    done = await member.post("/language", language="ko", next="/payments?state=open")
    assert done.location == "/payments?state=open"
    assert "현황" in (await member.get("/")).words
    assert (await member.post("/language", language="fr")).status == 400


async def test_the_first_person_is_named_by_the_command_only(tmp_path: Path) -> None:
    """A fresh operator has nobody: no name and password open anything."""
    async with running_consoles(tmp_path) as fresh:
        assert fresh.gateway.reader.one("SELECT 1 FROM people") is None
        for login, password in (("admin", "admin"), ("admin", "password"), ("root", "root"), ("operator", "operator")):
            assert (await fresh.stranger("operator").post("/login", login=login, password=password)).status == 401
