"""The customer's home over HTTP: log-in and acts come sealed and once, what is somebody else's is not found, a statement is true."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hanbit.crypto import envelopes
from hanbit.crypto.passwords import Passwords
from hanbit.db.change import Change, Put
from hanbit.kernel import ids
from hanbit.kernel.clock import SandboxClock
from hanbit.kernel.errors import TooManyTries
from hanbit.mail import post
from hanbit.parties import enrolment, limits, sessions, visits
from hanbit.payments import bank_limits, contact, exceptions, home_keys, mails, operations, purge, sealed_forms
from hanbit.payments.home import SESSIONS_SHOWN_MAX, live_sessions
from tests.faces import program
from tests.faces.site import ACCOUNT_PASSWORD, LOGIN, PASSWORD, Site, changes, client, running_site
from tests.faces.test_customer_site import PAGE, Browser, logged_in
from tests.mailbox import mailbox

ACTS = ("logout", "sessions", "limits", "password", "login", "notices", "rename", "remove", "email", "confirm", "language")
KEPT = ("SELECT * FROM mails", "SELECT * FROM email_links")
JOSE = {"Content-Type": "application/jose"}


class Home(Browser):
    """A browser that has the home's program."""

    async def page(self, path: str, lang: str = "en") -> tuple[int, str, dict[str, str]]:
        return await self.get(f"{path}{'&' if '?' in path else '?'}lang={lang}", PAGE)

    async def blanks(self, path: str) -> dict[str, dict[str, Any]]:
        """Address of the act → the blank that the page has for it."""
        _, text, _ = await self.page(path)
        found = {}
        for part in text.split('<script type="application/json" id="blank-')[1:]:
            blank = json.loads(part.partition(">")[2].partition("<")[0])
            found[part.partition('data-act="')[2].partition('"')[0]] = blank
        return found

    def sealed(self, blank: dict[str, Any], **fields: Any) -> str:
        seal = self.site.gateway.keyring.seal
        plain = json.dumps({"ctx": blank["ctx"], "n": blank["n"], "exp": blank["exp"], "fields": fields}).encode()
        return envelopes.seal_to_key(seal.private.public_key(), seal.kid, plain, sealed_forms.FORM_TYP)

    async def send(self, path: str, sealed: str, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        sent = {**JOSE, "Cookie": self.cookie, **headers}
        async with self.http.post(self.site.base + path, data=sealed, headers=sent) as answer:
            if "Set-Cookie" in answer.headers:
                self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
            return answer.status, await answer.json(content_type=None), dict(answer.headers)

    async def enter(self, login: str = LOGIN, password: str = PASSWORD, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        blank = (await self.blanks("/my/login"))["/my/login"]
        return await self.send("/my/login", self.sealed(blank, method="password", id=login, password=password), **headers)

    async def act(self, page: str, path: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        """Open a page and send one of its forms."""
        status, answer, _ = await self.send(path, self.sealed((await self.blanks(page))[path], **fields))
        return status, answer

    @property
    def accounts(self) -> dict[str, str]:
        rows = self.site.gateway.reader.all(
            "SELECT a.id, a.kind FROM accounts a JOIN customers c ON c.id = a.customer WHERE c.login = ?", LOGIN
        )
        return {row["kind"]: row["id"] for row in rows}


async def at_home(site: Site, http: aiohttp.ClientSession) -> Home:
    home = Home(site, http)
    status, answer, _ = await home.enter()
    assert (status, answer) == (200, {"done": "logged_in"})
    return home


async def paid(site: Site, http: aiohttp.ClientSession, amount: int = 220_000, text: str = "SK휴대폰 IM-1100") -> str:
    """One payment from the bank account; its id."""
    browser, accounts = await logged_in(site, http, site.shop.order(amount, text))
    status, answer, _ = await browser.pay(accounts["bank"])
    assert (status, answer["state"]) == (200, "captured")
    return str(answer["payment"])


async def test_the_log_in_is_sealed_and_opens_the_home(site: Site) -> None:
    async with client() as http:
        home = Home(site, http)
        status, _, headers = await home.page("/my")
        assert (status, headers["Location"]) == (303, "/my/login?next=%2Fmy%3Flang%3Den&lang=en")
        status, _, headers = await home.enter()
        assert status == 200
        assert {"Secure", "HttpOnly", "SameSite=lax"} <= {part.strip() for part in headers["Set-Cookie"].split(";")}
        status, text, _ = await home.page("/my")
    assert status == 200
    assert "Hello, 홍길동" in text
    assert "₩1,000,000" in text


@pytest.mark.parametrize(("login", "password"), [(LOGIN, "wrong"), ("nobody", PASSWORD)])
async def test_a_wrong_log_in_has_one_answer_and_no_session(site: Site, login: str, password: str) -> None:
    async with client() as http:
        status, problem, headers = await Home(site, http).enter(login, password)
    assert (status, problem["code"]) == (401, "login_failed")
    assert "Set-Cookie" not in headers


async def test_a_recorded_log_in_opens_nothing_twice(site: Site) -> None:
    async with client() as http:
        home = Home(site, http)
        sealed = home.sealed((await home.blanks("/my/login"))["/my/login"], method="password", id=LOGIN, password=PASSWORD)
        assert (await home.send("/my/login", sealed))[0] == 200
        before = changes(site.gateway)
        status, problem, headers = await Home(site, http).send("/my/login", sealed)
    assert (status, problem["code"]) == (409, "wrong_state")
    assert "Set-Cookie" not in headers
    assert changes(site.gateway) == before


async def test_a_form_is_good_for_its_act_and_its_session_only(site: Site) -> None:
    async with client() as http:
        home, other = await at_home(site, http), await at_home(site, http)
        blank = (await home.blanks(f"/my/accounts/{home.accounts['bank']}/settings"))["/my/limits"]
        sealed = home.sealed(blank, account=home.accounts["bank"], payment="1")
        for browser, path in ((other, "/my/limits"), (home, "/my/password"), (home, "/my/sessions"), (home, "/my/login")):
            status, problem, _ = await browser.send(path, sealed)
            assert (status, problem["detail"]) == (400, "sealed"), path
        assert limits.of_account(site.gateway.reader, home.accounts["bank"]).limit_payment is None


async def test_what_the_browser_seals_opens_and_is_sealed_to_the_pinned_bank_only(node: str, tmp_path: Path, site: Site) -> None:
    keyring, at = site.gateway.keyring, site.gateway.clock.now()
    async with client() as http:
        home = Home(site, http)
        blank = (await home.blanks("/my/login"))["/my/login"]
        fields = {"method": "password", "id": LOGIN, "password": PASSWORD}
        stranger = blank | {"seal": [blank["seal"][0], blank["seal"][0]]}
        calls = [{"act": "form", "blank": one, "fields": fields, "at": at} for one in (blank, stranger)]
        sealed, refused = program.run(node, tmp_path, calls, gateway_urn=site.gateway.urn, root=keyring.root)
        assert "untrusted" in refused
        assert PASSWORD not in sealed["value"]
        assert (await home.send("/my/login", sealed["value"]))[0] == 200


async def test_another_site_can_do_nothing(site: Site) -> None:
    async with client() as http:
        home = await at_home(site, http)
        for path in (f"/my/{act}" for act in ACTS):
            for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                assert (await home.send(path, "x", **headers))[0] == 403
        assert (await home.page("/my"))[0] == 200


async def test_a_statement_adds_up_and_is_found_by_words_and_days(site: Site) -> None:
    async with client() as http:
        payment = await paid(site, http)
        await paid(site, http, 1_000, "달력")
        home = await at_home(site, http)
        bank = f"/my/accounts/{home.accounts['bank']}"
        _, text, headers = await home.page(bank)
        assert "form-action 'self'" in headers["Content-Security-Policy"]
        assert ("−₩220,000" in text, "+₩1,000,000" in text, "₩779,000" in text) == (True, True, True)
        assert f"/my/payments/{payment}" in text
        _, found, _ = await home.page(f"{bank}?words=im-11")
        assert ("−₩220,000" in found, "−₩1,000" in found) == (True, False)
        _, none, _ = await home.page(f"{bank}?words=100%25")
        assert "There are no movements here." in none
        _, before, _ = await home.page(f"{bank}?until=2020-01-01")
        assert "There are no movements here." in before
        status, wrong, _ = await home.page(f"{bank}?since=2026-99-01")
        assert (status, "Enter a day like" in wrong) == (422, True)
        _, table, headers = await home.get(f"{bank}/statement.csv?lang=en")
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(table.removeprefix("\ufeff"))))
    assert [row[4:6] for row in rows[1:]] == [["-1000", "779000"], ["-220000", "780000"], ["1000000", "1000000"]]


async def test_a_cell_is_never_a_formula(site: Site) -> None:
    async with client() as http:
        await paid(site, http, text="=HYPERLINK(1)")
        home = await at_home(site, http)
        _, table, _ = await home.get(f"/my/accounts/{home.accounts['bank']}/statement.csv")
    assert "'=HYPERLINK(1)" in table
    assert ",=HYPERLINK" not in table


async def test_a_payment_is_told_from_the_first_try_to_the_end(site: Site) -> None:
    async with client() as http:
        payment = await paid(site, http)
        home = await at_home(site, http)
        status, text, _ = await home.page(f"/my/payments/{payment}")
    assert status == 200
    assert "Every signature, and how they follow from one another, was verified just now." in text
    for word in ("You approved", "Notice", "Confirmation", "Held", "Captured", f"/payments/{payment}/receipt"):
        assert word in text, word


async def test_what_is_somebody_elses_is_not_found(site: Site) -> None:
    await operations.create_customer(site.gateway, login="kim", name="김철수", password="another good one")
    async with client() as http:
        payment, mine = await paid(site, http), await at_home(site, http)
        kim = Home(site, http)
        assert (await kim.enter("kim", "another good one"))[0] == 200
        bank = mine.accounts["bank"]
        addresses = (
            f"/my/accounts/{bank}",
            f"/my/accounts/{bank}/settings",
            f"/my/accounts/{bank}/statement.csv",
            f"/my/payments/{payment}",
        )
        assert [(await kim.page(path))[0] for path in addresses] == [404] * 4
        blank = sealed_forms.blank(site.gateway, "limits", ids.digest(kim.cookie.partition("=")[2].encode()))
        assert (await kim.send("/my/limits", kim.sealed(blank, account=bank, payment="1")))[0] == 404
        hers = ids.digest(mine.cookie.partition("=")[2].encode())
        blank = sealed_forms.blank(site.gateway, "sessions", ids.digest(kim.cookie.partition("=")[2].encode()))
        assert (await kim.send("/my/sessions", kim.sealed(blank, session=hers)))[0] == 404
        assert (await mine.page("/my"))[0] == 200


async def test_one_session_and_all_the_others_can_be_ended(site: Site) -> None:
    async with client() as http:
        home, second, third = [await at_home(site, http) for _ in range(3)]
        _, text, _ = await home.page("/my/security")
        assert text.count("data-session=") == 2
        blank = (await home.blanks("/my/security"))["/my/sessions"]
        token = ids.digest(second.cookie.partition("=")[2].encode())
        assert (await home.send("/my/sessions", home.sealed(blank, session=token)))[0] == 200
        assert [(await one.page("/my"))[0] for one in (home, second, third)] == [200, 303, 200]
        blank = (await home.blanks("/my/security"))["/my/sessions"]
        assert (await home.send("/my/sessions", home.sealed(blank)))[0] == 200
        assert [(await one.page("/my"))[0] for one in (home, second, third)] == [200, 303, 303]
        blank = (await home.blanks("/my"))["/my/logout"]
        assert (await home.send("/my/logout", home.sealed(blank)))[1] == {"done": "logged_out"}
        assert (await home.page("/my"))[0] == 303


async def test_a_limit_of_an_account_in_dollars_is_typed_and_shown_in_dollars(site: Site) -> None:
    reason = "for his travels"
    made = await operations.create_account(
        site.gateway, login=LOGIN, kind="bank", number="11022233344499", password="7391", currency="USD", reason=reason
    )
    async with client() as http:
        home = await at_home(site, http)
        account = str(made["account"])
        settings = f"/my/accounts/{account}/settings"
        assert "An amount in USD, like 1,200.50." in (await home.page(settings))[1]
        for wrong in ("\uff11\uff12\uff10\uff10", "1e3", " 12 ", "-1", "1,2,3", "0.001", "1" * 16, "0.00"):
            status, answer = await home.act(settings, "/my/limits", account=account, payment="", day=wrong)
            assert (status, answer["detail"]) == (400, "day")
        assert limits.of_account(site.gateway.reader, account).limit_day is None
        assert (await home.act(settings, "/my/limits", account=account, payment="300", day="1,200.5"))[0] == 200
        own = limits.of_account(site.gateway.reader, account).own_at(site.gateway.clock.now())
        assert (own.payment, own.day) == (30_000, 120_050)
        text = (await home.page(settings))[1]
        assert 'value="300.00"' in text
        assert 'value="1,200.50"' in text
        assert "$1,200.50" in text


async def test_a_limit_is_lowered_at_once_and_raised_by_the_accounts_password_in_a_day(site: Site) -> None:
    async with client() as http:
        home = await at_home(site, http)
        bank = home.accounts["bank"]
        settings = f"/my/accounts/{bank}/settings"

        async def wish(**fields: str) -> int:
            blank = (await home.blanks(settings))["/my/limits"]
            return (await home.send("/my/limits", home.sealed(blank, account=bank, **fields)))[0]

        assert await wish(payment="100,000") == 200
        browser, accounts = await logged_in(site, http, site.shop.order())
        _, declined, _ = await browser.pay(accounts["bank"])
        assert (declined["state"], declined["reason"]) == ("open", "limit")
        own = limits.of_account(site.gateway.reader, bank)
        assert [await wish(payment="900000"), await wish(payment="900000", password="wrong")] == [403, 403]
        assert [await wish(payment=text) for text in ("x", "-1", "0", "1.5", "1" * 16)] == [400] * 5
        assert limits.of_account(site.gateway.reader, bank) == own
        assert await wish(payment="900000", password=ACCOUNT_PASSWORD) == 200
        now = limits.of_account(site.gateway.reader, bank)
        assert (now.limit_payment, now.later_payment) == (100_000, 900_000)
        _, text, _ = await home.page(settings)
    assert ("₩100,000" in text, "₩900,000" in text) == (True, True)


async def test_another_password_ends_every_other_session(site: Site) -> None:
    new = "a quite different one"
    async with client() as http:
        home, other = await at_home(site, http), await at_home(site, http)

        async def change(**fields: str) -> int:
            blank = (await home.blanks("/my/security"))["/my/password"]
            return (await home.send("/my/password", home.sealed(blank, **fields)))[0]

        assert await change(old="wrong", new=new, again=new) == 403
        assert await change(old=PASSWORD, new="short", again="short") == 400
        assert await change(old=PASSWORD, new=new, again="other") == 400
        assert (await other.page("/my"))[0] == 200
        assert await change(old=PASSWORD, new=new, again=new) == 200
        assert [(await one.page("/my"))[0] for one in (home, other)] == [200, 303]
        assert (await Home(site, http).enter())[0] == 401
        assert (await Home(site, http).enter(password=new))[0] == 200


async def test_a_long_list_of_log_ins_is_short_and_one_button_ends_all_the_others(site: Site) -> None:
    async with client() as http:
        home = await at_home(site, http)
        (customer,) = site.gateway.reader.all("SELECT id FROM customers WHERE login = ?", LOGIN)
        at = site.gateway.clock.now() + 1
        puts = tuple(sessions.open_session(customer["id"], "password", at)[1] for _ in range(SESSIONS_SHOWN_MAX + 1))
        await site.gateway.book.commit(Change(puts=puts))
        _, text, _ = await home.page("/my/security")
        assert (text.count("data-session="), text.count("This one"), "Show all log-ins" in text) == (5, 1, True)
        assert text.index("End all others") < text.index("data-session=")
        _, text, _ = await home.page("/my/security?sessions=all")
        assert (text.count("data-session="), text.count("This one")) == (SESSIONS_SHOWN_MAX, 1)
        assert "There are older log-ins too." in text
        assert len(text.encode()) < 100_000
        assert (await home.act("/my/security", "/my/sessions"))[0] == 200
        _, text, _ = await home.page("/my/security")
        assert (text.count("data-session="), "End all others" in text) == (0, False)


async def test_wrong_passwords_in_forms_are_counted_written_down_and_shown_like_failed_log_ins(site: Site) -> None:
    key = await give_key(site, "passkey", "phone", "cGhvbmU")
    async with client() as http:
        home = await at_home(site, http)
        bank = f"/my/accounts/{home.accounts['bank']}/settings"
        assert "Nobody typed a wrong password" in (await home.page("/my/security"))[1]
        assert "Wrong passwords since" not in (await home.page("/my"))[1]
        before = changes(site.gateway)
        new = "a quite different one"
        assert (await home.act("/my/security", "/my/password", old="wrong", new=new, again=new))[0] == 403
        account = home.accounts["bank"]
        assert (await home.act(bank, "/my/limits", account=account, payment="5"))[0] == 200
        before = changes(site.gateway)
        assert (await home.act(bank, "/my/limits", account=account, payment="900", password="wrong"))[0] == 403
        assert (await home.act(bank, "/my/password", account=account, old="wrong", new="8642", again="8642"))[0] == 403
        assert (await home.act(f"/my/keys/{key}", "/my/remove", key=key, password="wrong"))[0] == 403
        assert (await home.act("/my/security", "/my/password", old="", new=new, again=new))[0] == 403, "nothing was tried"
        assert changes(site.gateway) == before
        sql = "SELECT act FROM audit WHERE reason = 'wrong_password'"
        wrong = sorted(row["act"].replace(account, "account") for row in site.gateway.reader.all(sql))
        assert wrong == ["change password account", "change password login", "limit account 900 -", "remove key"]
        _, text, _ = await home.page("/my/security")
        assert (text.count("Changing a password<"), "Raising a limit" in text, "Removing a passkey" in text) == (2, True, True)
        assert (await Home(site, http).enter(password="wrong"))[0] == 401
        assert "Wrong passwords since the log-in before this one: 5" in (await home.page("/my"))[1]
        for _ in range(3):
            await Home(site, http).enter(password="wrong")
        status, problem = await home.act("/my/security", "/my/password", old=PASSWORD, new=new, again=new)
        assert (status, problem["code"]) == (429, "too_many_tries"), "the same count as at the door"


async def test_another_password_ends_an_old_session_behind_however_many_new_ones(site: Site) -> None:
    async with client() as http:
        home, hidden = await at_home(site, http), await at_home(site, http)
        (customer,) = site.gateway.reader.all("SELECT id FROM customers WHERE login = ?", LOGIN)
        at = site.gateway.clock.now() + 1
        puts = tuple(sessions.open_session(customer["id"], "password", at)[1] for _ in range(SESSIONS_SHOWN_MAX + 1))
        await site.gateway.book.commit(Change(puts=puts))
        new = "a quite different one"
        assert (await home.act("/my/security", "/my/password", old=PASSWORD, new=new, again=new))[0] == 200
        assert [(await one.page("/my"))[0] for one in (home, hidden)] == [200, 303]
        assert len(live_sessions(site.gateway, customer["id"])) == 1


async def test_what_changes_while_a_password_is_compared_is_not_written_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, verify = site.gateway, Passwords.verify
    async with client() as http:
        home = await at_home(site, http)
        bank = home.accounts["bank"]

        async def slow(self: Passwords, stored: str, password: str) -> bool:
            right = await verify(self, stored, password)
            await bank_limits.set_bank_limits(gateway, "person:staff", account=bank, payment="5000", day="", reason="suspicious")
            (row,) = gateway.reader.all("SELECT * FROM customers WHERE login = ?", LOGIN)
            same = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a database row
            await gateway.book.commit(Change(puts=(Put("customers", same, row["version"]),)))
            return right

        settings = f"/my/accounts/{bank}/settings"
        assert (await home.act(settings, "/my/limits", account=bank, payment="1000"))[0] == 200
        known = gateway.reader.all("SELECT password FROM customers WHERE login = ?", LOGIN)[0]["password"]
        with monkeypatch.context() as patch:
            patch.setattr(Passwords, "verify", slow)
            raised = await home.act(settings, "/my/limits", account=bank, payment="900000", password=ACCOUNT_PASSWORD)
            new = "a quite different one"
            changed = await home.act("/my/security", "/my/password", old=PASSWORD, new=new, again=new)
        assert (raised[0], changed[0]) == (200, 409)
        assert limits.of_account(gateway.reader, bank).bank_payment == 5000
        assert gateway.reader.all("SELECT password FROM customers WHERE login = ?", LOGIN)[0]["password"] == known


async def test_another_account_password_pays_and_the_old_one_no_more(site: Site) -> None:
    async with client() as http:
        home = await at_home(site, http)
        bank = home.accounts["bank"]
        blank = (await home.blanks(f"/my/accounts/{bank}/settings"))["/my/password"]
        sealed = home.sealed(blank, account=bank, old=ACCOUNT_PASSWORD, new="8642", again="8642")
        assert (await home.send("/my/password", sealed))[0] == 200
        browser, accounts = await logged_in(site, http, site.shop.order())
        assert (await browser.pay(accounts["bank"]))[1]["reason"] == "wrong_factor"
        assert (await browser.pay(accounts["bank"], "8642"))[1]["state"] == "captured"


async def test_pages_speak_both_languages_and_lead_nowhere_else(site: Site) -> None:
    async with client() as http:
        home = await at_home(site, http)
        bank = home.accounts["bank"]
        for path in ("/my", "/my/security", "/my/contact", f"/my/accounts/{bank}", f"/my/accounts/{bank}/settings"):
            for lang in ("ko", "en"):
                status, text, headers = await home.page(path, lang)
                assert (status, f'<html lang="{lang}">' in text) == (200, True)
                assert headers["Cache-Control"] == "no-store"
                assert len(text.encode()) < 100_000
        for following in ("https://evil.example/", "//evil.example", "/pay/login", "/my/login"):
            _, _, headers = await home.page(f"/my/login?next={following}")
            assert headers["Location"] == "/my"


FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
CHROME = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0 Safari/537.36"}


def token_of(home: Home) -> str:
    return ids.digest(home.cookie.partition("=")[2].encode())


async def give_key(site: Site, kind: str, name: str, device: str) -> str:
    """A passkey or device key of Hong's, as its row; its handle."""
    customer = site.gateway.reader.one("SELECT id FROM customers WHERE login = ?", LOGIN)
    assert customer is not None
    put = enrolment.device_put(device_id=device, customer=customer[0], kind=kind, name=name, public={}, at=site.gateway.clock.now())
    await site.gateway.book.commit(Change(puts=(put,)))
    return next(key.handle for key in home_keys.of_customer(site.gateway, customer[0]) if key.name == name)


async def test_a_log_in_from_a_new_browser_is_told_and_disowning_it_ends_every_other_session(site: Site) -> None:
    async with client() as http:
        home, other, thief = Home(site, http), Home(site, http), Home(site, http)
        assert (await home.enter(**FIREFOX))[0] == 200
        assert (await other.enter(**FIREFOX))[0] == 200
        assert "An unusual log-in" not in (await home.page("/my"))[1], "the first of all has nothing to be compared with"
        assert (await thief.enter(**CHROME))[0] == 200
        assert "An unusual log-in" not in (await thief.page("/my"))[1], "it is not asked about itself"
        _, text, _ = await home.page("/my")
        assert all(word in text for word in ("An unusual log-in", "Chrome · Windows", "127.0.0.*", "That was me"))
        again = Home(site, http)
        assert (await again.enter(**CHROME))[0] == 200
        assert "That was me" not in (await again.page("/my"))[1]
        status, problem = await again.act("/my", "/my/notices", session=token_of(thief), mine="yes")
        assert (status, problem["code"]) == (409, "wrong_state")
        assert await home.act("/my", "/my/notices", session=token_of(thief), mine="no") == (200, {"done": "disowned"})
        assert [(await one.page("/my"))[0] for one in (home, other, thief, again)] == [200, 303, 303, 303]
        assert "An unusual log-in" not in (await home.page("/my"))[1]
        assert (await thief.enter(**CHROME))[0] == 200
        found = site.gateway.reader.all("SELECT unusual FROM sessions ORDER BY created_at, unusual")
        assert [row[0] for row in found].count(visits.DISOWNED) == 1


async def test_a_key_is_renamed_and_removed_with_a_fresh_approval_only(site: Site) -> None:
    phone = await give_key(site, "passkey", "phone", "c2VjcmV0LWNyZWRlbnRpYWw")
    await give_key(site, "code", "wallet", "code:k")
    wallet = await give_key(site, "device", "wallet", "k")
    async with client() as http:
        home = await at_home(site, http)
        _, text, _ = await home.page("/my/security")
        assert ("phone" in text, text.count(">wallet<"), "Not yet" in text) == (True, 1, True)
        assert await home.act(f"/my/keys/{phone}", "/my/rename", key=phone, name="내 전화") == (200, {"done": "renamed"})
        for name in ("", "x" * 41, "a\nb"):
            assert (await home.act(f"/my/keys/{phone}", "/my/rename", key=phone, name=name))[0] == 400
        _, text, _ = await home.page(f"/my/keys/{phone}")
        assert ("내 전화" in text, "This is the last one" in text) == (True, False)
        before = changes(site.gateway)
        for fields in ({}, {"password": "wrong"}, {"assertion": {"id": "x"}}):
            assert (await home.act(f"/my/keys/{wallet}", "/my/remove", key=wallet, **fields))[0] in (401, 403)
        assert changes(site.gateway) == before
        assert await home.act(f"/my/keys/{wallet}", "/my/remove", key=wallet, password=PASSWORD) == (200, {"done": "removed"})
        states = {row["id"]: row["state"] for row in site.gateway.reader.all("SELECT id, state FROM devices")}
        assert (states["k"], states["code:k"], states["c2VjcmV0LWNyZWRlbnRpYWw"]) == ("removed", "removed", "active")
        assert (await home.page(f"/my/keys/{wallet}"))[0] == 404
        assert "This is the last one" in (await home.page(f"/my/keys/{phone}"))[1]
        await operations.create_customer(site.gateway, login="kim", name="김철수", password="another good one")
        kim = Home(site, http)
        assert (await kim.enter("kim", "another good one"))[0] == 200
        assert (await kim.page(f"/my/keys/{phone}"))[0] == 404
        for act, more in (("rename", {"name": "mine"}), ("remove", {"password": "another good one"})):
            blank = sealed_forms.blank(site.gateway, act, token_of(kim))
            assert (await kim.send(f"/my/{act}", kim.sealed(blank, key=phone, **more)))[0] == 404


async def test_an_address_counts_once_its_owner_has_confirmed_it_and_the_old_one_is_told(tmp_path: Path) -> None:
    with mailbox(tmp_path / "mail") as box:
        async with running_site(tmp_path, **box.settings()) as site, client() as http:

            def stored() -> str | None:
                row = site.gateway.reader.one("SELECT email FROM customers WHERE login = ?", LOGIN)
                assert row is not None
                return str(row[0]) if row[0] else None

            home = await at_home(site, http)
            for wrong in ("a@b\r\nBcc: x@y.z", "a b@c.d", "x@y,z@w"):
                assert (await home.act("/my/contact", "/my/email", email=wrong, password=PASSWORD))[0] == 400
            assert (await home.act("/my/contact", "/my/email", email="hong@example.com"))[0] == 403
            assert await home.act("/my/contact", "/my/email", email="hong@example.com", password=PASSWORD) == (200, {"done": "email_asked"})
            assert "hong@example.com" in (await home.page("/my/contact"))[1]
            assert stored() is None
            await post.post_due(site.gateway)
            (letter,) = box.letters
            link = letter.get_content().partition("/my/email/")[2].partition("?")[0]
            kept = [tuple(row) for sql in KEPT for row in site.gateway.reader.all(sql)]
            assert link not in str(kept)
            assert (await home.page(f"/my/email/{link}"))[0] == 200
            assert stored() is None, "to open it confirms nothing: mail programs open links too"
            await operations.create_customer(site.gateway, login="kim", name="김철수", password="another good one")
            kim = Home(site, http)
            assert (await kim.enter("kim", "another good one"))[0] == 200
            assert (await kim.act(f"/my/email/{link}", "/my/confirm", token=link))[0] == 404
            assert await home.act(f"/my/email/{link}", "/my/confirm", token=link) == (200, {"done": "confirmed"})
            assert stored() == "hong@example.com"
            assert (await home.act(f"/my/email/{link}", "/my/confirm", token=link))[0] == 404, "once"
            assert await home.act("/my/contact", "/my/language", language="en") == (200, {"done": "language", "language": "en"})
            assert (await home.act("/my/contact", "/my/language", language="fr"))[0] == 400
            assert '<html lang="en">' in (await home.get("/my", PAGE))[1], "his own language where the address names none"
            assert await contact.set_email(site.gateway, login=LOGIN, email="new@example.com")
            assert stored() == "hong@example.com"
            await post.post_due(site.gateway)
            link = box.letters[-1].get_content().partition("/my/email/")[2].partition("?")[0]
            assert (await home.act(f"/my/email/{link}", "/my/confirm", token=link))[0] == 200
            await post.post_due(site.gateway)
            assert (box.to[-1], box.letters[-1]["Subject"]) == (["hong@example.com"], "Your mail address was changed")
            assert "n•••@example.com" in box.letters[-1].get_content()
            new = "a quite different one"
            assert (await home.act("/my/security", "/my/password", old=PASSWORD, new=new, again=new))[0] == 200
            await post.post_due(site.gateway)
            assert (box.to[-1], box.letters[-1]["Subject"]) == (["new@example.com"], "Your password was changed")
            assert new not in box.letters[-1].get_content()
            for _ in range(contact.LINKS_MAX - 2):
                await contact.set_email(site.gateway, login=LOGIN, email="a@b.c")
            with pytest.raises(TooManyTries):
                await contact.set_email(site.gateway, login=LOGIN, email="a@b.c")


@pytest.mark.parametrize("late_s", [30 * 3600, 26 * 24 * 3600])
async def test_a_confirmation_letter_that_leaves_late_carries_a_link_that_still_opens(tmp_path: Path, late_s: int) -> None:
    with mailbox(tmp_path / "mail") as box:
        async with running_site(tmp_path, **box.settings()) as site, client() as http:
            gateway = site.gateway
            home = await at_home(site, http)
            box.answers.append("rcpt 550 nobody of this name")
            assert (await home.act("/my/contact", "/my/email", email="hong@example.com", password=PASSWORD))[0] == 200
            await post.post_due(gateway)
            (row,) = exceptions.unsent(gateway)
            assert (box.letters, row["why"]) == ([], "refused 550")
            assert isinstance(gateway.clock, SandboxClock)
            gateway.clock.offset_s += late_s
            await purge.purge(gateway)
            assert not gateway.reader.all("SELECT 1 FROM email_links"), "the link had ended and was removed"
            await exceptions.send_again(gateway, "person:staff", mail=row["id"], reason="the address was repaired")
            await post.post_due(gateway)
            (letter,) = box.letters
            link = letter.get_content().partition("/my/email/")[2].partition("?")[0]
            home = await at_home(site, http)
            assert await home.act(f"/my/email/{link}", "/my/confirm", token=link) == (200, {"done": "confirmed"})
            assert (await home.act(f"/my/email/{link}", "/my/confirm", token=link))[0] == 404, "once"


async def test_who_cannot_be_written_to_is_told_so(site: Site) -> None:
    async with client() as http:
        home = await at_home(site, http)
        assert "sends no mail at present" in (await home.page("/my/contact"))[1]
        assert not mails.is_on(site.gateway)
        blank = sealed_forms.blank(site.gateway, "email", token_of(home))
        assert (await home.send("/my/email", home.sealed(blank, email="a@b.c", password=PASSWORD)))[0] == 409
