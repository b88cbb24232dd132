"""The customers' site over HTTP as a program sees it: every answer, every state's page, sessions, receipts, enrolment of passkeys."""

import json
from typing import Any

import aiohttp
import pytest

from hanbit.kernel import ids
from hanbit.payments import operations
from hanbit.payments.states import State
from hanbit.protocols.redirect import customer
from hanbit.protocols.redirect.customer import Opening, Pin, Sealing
from hanbit.protocols.redirect.merchant import Objection
from hanbit.protocols.redirect.messages import Words
from tests.faces.site import ACCOUNT_PASSWORD, LOGIN, NUMBERS, PASSWORD, SHOP, Site, changes, client

PAGE = {"Accept": "text/html"}
JSON = {"Accept": "application/json"}
Query = dict[str, str]


class Browser:
    """What a browser with the payment program does, without a browser."""

    def __init__(self, site: Site, http: aiohttp.ClientSession) -> None:
        self.site = site
        self.http = http
        self.cookie = ""
        self.opening: Opening
        self.sealing: Sealing
        self.body: dict[str, str]

    async def get(self, address: str, headers: dict[str, str] = JSON) -> tuple[int, str, dict[str, str]]:
        if address.startswith("/"):
            address = self.site.base + address
        async with self.http.get(address, headers={**headers, "Cookie": self.cookie}, allow_redirects=False) as answer:
            return answer.status, await answer.text(), dict(answer.headers)

    async def post(self, path: str, body: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        async with self.http.post(self.site.base + path, json=body, headers={"Cookie": self.cookie}) as answer:
            set_cookie = answer.headers.get("Set-Cookie", "")
            if set_cookie:
                self.cookie = set_cookie.partition(";")[0]
            return answer.status, await answer.json(content_type=None), dict(answer.headers)

    async def open(self, query: Query) -> None:
        _, text, _ = await self.get(self.site.address(query))
        gateway, pin = self.site.gateway, Pin(self.site.gateway.keyring.root, self.site.gateway.settings.operator)
        redirect = customer.read_redirect(self.site.address(query).partition("?")[2])
        self.opening = customer.verify_opening(text.encode(), redirect=redirect, pin=pin, at=gateway.clock.now())
        self.sealing = customer.begin(self.opening)
        self.body = {
            "mid": SHOP,
            "order": query.get("ORDER", ""),
            "keys": self.opening.keys.compact,
            "tid": query["TID"],
            "amount": query["AMOUNT"],
        }

    async def log_in(self, login: str = LOGIN, password: str = PASSWORD) -> tuple[int, dict[str, Any], dict[str, str]]:
        sealed = customer.seal_login(self.sealing, login_id=login, password=password)
        return await self.post("/pay/login", {**self.body, "key": self.sealing.key, "login": sealed})

    async def pay(self, account: str, password: str = ACCOUNT_PASSWORD) -> tuple[int, dict[str, Any], dict[str, str]]:
        return await self.post("/pay/submit", self.payment(account, password))

    def payment(self, account: str, password: str = ACCOUNT_PASSWORD) -> dict[str, str]:
        core = customer.make_core(self.opening, account)
        sealed = customer.seal_pay(self.sealing, core, customer.auth_password(password))
        return {**self.body, "key": self.sealing.key, "pay": sealed}

    async def cancel(self) -> tuple[int, dict[str, Any], dict[str, str]]:
        return await self.post("/pay/cancel", {**self.body, "key": self.sealing.key})


async def logged_in(site: Site, http: aiohttp.ClientSession, query: Query) -> tuple[Browser, dict[str, str]]:
    """A browser at the payment screen, and the account ids by kind."""
    browser = Browser(site, http)
    await browser.open(query)
    status, answer, _ = await browser.log_in()
    assert status == 200, answer
    return browser, {account["kind"]: account["id"] for account in answer["screen"]["accounts"]}


async def test_the_login_answers_with_the_screen_and_a_guarded_cookie(site: Site) -> None:
    async with client() as http:
        browser = Browser(site, http)
        await browser.open(site.shop.order())
        status, answer, headers = await browser.log_in()
    assert status == 200
    screen = answer["screen"]
    assert screen["customer"] == {"name": "홍길동"}
    assert {account["kind"] for account in screen["accounts"]} == set(NUMBERS)
    assert not any(number in json.dumps(answer) for number in NUMBERS.values())
    assert "아래 금액을 한빛은행의 계좌에서 지불하시겠습니까?" in screen["html"]
    cookie = headers["Set-Cookie"]
    assert cookie.startswith("__Host-hanbit=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie
    token = cookie.partition("=")[2].partition(";")[0]
    assert site.gateway.reader.one("SELECT 1 FROM sessions WHERE token_hash = ?", token) is None, "only the hash is kept"


@pytest.mark.parametrize(("login", "password"), [(LOGIN, "wrong"), ("nobody", PASSWORD), ("nobody", "wrong")])
async def test_a_wrong_login_has_one_answer_whatever_was_wrong(site: Site, login: str, password: str) -> None:
    async with client() as http:
        browser = Browser(site, http)
        await browser.open(site.shop.order())
        status, problem, headers = await browser.log_in(login, password)
    assert (status, problem["code"], problem["detail"]) == (401, "login_failed", "")
    assert "Set-Cookie" not in headers


async def test_five_wrong_passwords_wait_and_say_how_long(site: Site) -> None:
    async with client() as http:
        browser = Browser(site, http)
        await browser.open(site.shop.order())
        answers = [await browser.log_in(password="wrong") for _ in range(6)]
    assert [status for status, _, _ in answers[:5]] == [401] * 5
    status, problem, headers = answers[5]
    assert (status, problem["code"]) == (429, "too_many_tries")
    assert 1 <= int(headers["Retry-After"]) <= 3600


async def test_a_payment_ends_on_a_receipt_that_only_its_customer_sees(site: Site) -> None:
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        status, answer, _ = await browser.pay(accounts["bank"])
        assert (status, answer["state"], answer["reason"], answer["html"]) == (200, "captured", None, None)
        assert answer["next"] == f"/payments/{answer['payment']}"
        _, page, _ = await browser.get(answer["next"], PAGE)
        assert "홍길동님의 계좌에서 220,000원이 인출되었습니다" in page
        assert "******8890" in page or "8890" in page
        _, english, _ = await browser.get(answer["next"] + "?lang=en", PAGE)
        assert "₩220,000 was withdrawn from 홍길동’s account." in english
        status, receipt, headers = await browser.get(answer["next"] + "/receipt")
        assert (status, headers["Content-Type"]) == (200, "application/jose")
        assert headers["Content-Disposition"].startswith("attachment")
        assert receipt == answer["receipt"]
        _, state, _ = await browser.get(answer["next"] + "/state")
        assert json.loads(state) == {"state": "captured", "reason": None, "final": True}

        stranger = Browser(site, http)
        _, other, _ = await stranger.get(answer["next"], PAGE)
        assert "이미 결제된 주문입니다" in other
        assert "홍길동" not in other
        assert "8890" not in other
        assert (await stranger.get(answer["next"] + "/receipt"))[0] == 404


async def test_a_decline_stays_in_place_and_another_account_pays(site: Site) -> None:
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        _, answer, _ = await browser.pay(accounts["emoney"])
        assert (answer["state"], answer["reason"]) == ("open", "no_funds")
        assert "잔고가 부족하여 결제를 할 수 없습니다" in answer["html"]
        assert "빠져나간 돈은 없습니다" in answer["html"]
        _, answer, _ = await browser.pay(accounts["bank"])
        assert answer["state"] == "captured"


@pytest.mark.parametrize(
    ("what", "words"), [("account", "거래가 정지되어 있는 계좌입니다"), ("customer", "거래가 정지되어"), ("merchant", "이 쇼핑몰은 지금")]
)
async def test_a_suspension_is_told_after_the_right_factor_only(site: Site, what: str, words: str) -> None:
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        named = {"account": accounts["bank"], "customer": LOGIN, "merchant": SHOP}[what]
        await operations.set_state(site.gateway, what=what, id=named, state="suspended")
        _, wrong, _ = await browser.pay(accounts["bank"], "wrong")
        assert wrong["reason"] == "wrong_factor"
        _, right, _ = await browser.pay(accounts["bank"])
        assert right["reason"] == f"{what}_suspended"
        assert words in right["html"]


async def test_an_account_of_somebody_else_looks_like_a_wrong_password(site: Site) -> None:
    await operations.create_customer(site.gateway, login="kim", name="김철수", password="another password")
    made = await operations.create_account(site.gateway, login="kim", kind="bank", number="33300001111", password="1111")
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        _, foreign, _ = await browser.pay(made["account"], "1111")
        _, unknown, _ = await browser.pay(ids.new_token())
        _, wrong, _ = await browser.pay(accounts["bank"], "wrong")
    for answer in (foreign, unknown, wrong):
        answer.pop("payment"), answer.pop("next")
    assert foreign == unknown == wrong


async def test_five_declines_close_the_order_with_its_own_page(site: Site) -> None:
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        answers = [(await browser.pay(accounts["emoney"]))[1] for _ in range(5)]
        assert [answer["state"] for answer in answers] == ["open"] * 4 + ["closed"]
        _, page, _ = await browser.get(answers[-1]["next"], PAGE)
    assert "시도하실 수 있는 횟수를 모두 쓰셔서" in page
    assert "빠져나간 돈은 없습니다" in page


async def test_the_same_bytes_again_have_the_same_outcome(site: Site) -> None:
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        body = browser.payment(accounts["bank"])
        first, again = [await browser.post("/pay/submit", body) for _ in range(2)]
    assert first[:2] == again[:2]
    assert site.gateway.reader.one("SELECT COUNT(*) AS n FROM attempts")["n"] == 1  # type: ignore[index]  # a count is always there


async def test_page_62_when_the_shops_own_order_says_otherwise(site: Site) -> None:
    query = site.shop.order()
    del site.shop.orders[query["TID"]]
    async with client() as http:
        browser, accounts = await logged_in(site, http, query)
        _, answer, _ = await browser.pay(accounts["bank"])
        assert answer["state"] == "refused"
        _, page, _ = await browser.get(answer["next"], PAGE)
    assert "거래정보가 일치되지 않아서 지불이 되지 않았습니다" in page
    assert "02-555-0123" in page
    assert "묶여 있던 금액이 있었다면 이미 풀렸습니다" in page


async def test_a_shops_no_is_shown_in_the_customers_language(site: Site) -> None:
    site.shop.objection = Objection("sold_out", Words(ko="재고가 모두 팔렸습니다.", en="Sold out."))
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        _, answer, _ = await browser.pay(accounts["bank"])
        _, korean, _ = await browser.get(answer["next"] + "?lang=ko", PAGE)
        _, english, _ = await browser.get(answer["next"] + "?lang=en", PAGE)
    assert "재고가 모두 팔렸습니다." in korean
    assert "Sold out." in english
    assert "가람전자 says" in english


async def test_in_progress_while_the_shop_is_silent_and_no_cancel_then(site: Site) -> None:
    site.shop.silent = True
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        _, answer, _ = await browser.pay(accounts["bank"])
        assert answer["state"] == "authorized"
        assert "잠시 묶여 있을 뿐 아직 빠져나가지 않았습니다" in answer["html"]
        _, cancelled, _ = await browser.cancel()
        assert cancelled["state"] == "authorized"
        _, page, _ = await browser.get(answer["next"], PAGE)
        assert f'data-watch="{answer["next"]}"' in page
        assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page


async def test_cancelling_before_the_shop_was_asked_closes_the_order(site: Site) -> None:
    async with client() as http:
        browser, _ = await logged_in(site, http, site.shop.order())
        _, answer, _ = await browser.cancel()
        assert answer["state"] == "closed"
        _, page, _ = await browser.get(answer["next"], PAGE)
    assert "결제를 취소하셨습니다" in page


async def test_the_opening_of_a_decided_order_leads_to_its_true_state(site: Site) -> None:
    query = site.shop.order()
    async with client() as http:
        browser, accounts = await logged_in(site, http, query)
        _, answer, _ = await browser.pay(accounts["bank"])
        for headers in (PAGE, JSON):
            status, _, told = await browser.get(site.address(query, lang="en"), headers)
            assert (status, told["Location"]) == (303, f"{answer['next']}?lang=en")
        status, problem, _ = await browser.post("/pay/screen", browser.body)
        assert (status, problem["code"]) == (409, "wrong_state")


async def test_an_open_payments_page_leads_back_to_the_payment(site: Site) -> None:
    query = site.shop.order()
    async with client() as http:
        browser, accounts = await logged_in(site, http, query)
        _, answer, _ = await browser.pay(accounts["emoney"])
        status, _, told = await browser.get(answer["next"], PAGE)
        assert status == 303
        status, page, _ = await browser.get(told["Location"], PAGE)
    assert status == 200
    assert query["ORDER"] in page


async def test_an_altered_amount_stops_before_the_login_on_page_62(site: Site) -> None:
    query = site.shop.order() | {"AMOUNT": "22000"}
    before = changes(site.gateway)
    async with client() as http:
        browser = Browser(site, http)
        status, page, _ = await browser.get(site.address(query), PAGE)
        assert status == 409
        assert "거래정보가 일치되지 않아서 지불이 되지 않았습니다" in page
        assert "비밀번호를 입력하지 마시고" in page
        assert "<input" not in page
        status, text, _ = await browser.get(site.address(query))
        assert (status, json.loads(text)["code"]) == (409, "not_opened")
    assert changes(site.gateway) == before


async def test_the_line_being_down_is_said_before_any_password_is_typed(site: Site) -> None:
    query = site.shop.order()
    site.shop.up = False
    async with client() as http:
        browser = Browser(site, http)
        status, page, headers = await browser.get(site.address(query), PAGE)
        assert (status, headers["Retry-After"]) == (503, "30")
        assert "지금은 이 쇼핑몰에 결제하실 수 없습니다" in page
        assert "<input" not in page
        status, text, _ = await browser.get(site.address(query))
        assert (status, json.loads(text)["code"]) == (503, "unavailable")


async def test_opening_writes_nothing(site: Site) -> None:
    query, before = site.shop.order(), changes(site.gateway)
    async with client() as http:
        browser = Browser(site, http)
        for headers in (PAGE, JSON):
            assert (await browser.get(site.address(query), headers))[0] == 200
    assert changes(site.gateway) == before


async def test_paying_without_a_session_is_refused_and_keeps_the_order(site: Site) -> None:
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        browser.cookie = ""
        status, problem, _ = await browser.pay(accounts["bank"])
        assert (status, problem["code"]) == (401, "not_signed_in")
        browser.cookie = "__Host-hanbit=" + "A" * 43
        assert (await browser.pay(accounts["bank"]))[0] == 401
    row = site.gateway.reader.one("SELECT state FROM payments")
    assert row is not None
    assert row["state"] == State.OPEN


async def test_a_live_session_gets_the_screen_at_once(site: Site) -> None:
    async with client() as http:
        browser, _ = await logged_in(site, http, site.shop.order())
        await browser.open(site.shop.order(5_000))
        status, answer, _ = await browser.post("/pay/screen", browser.body)
        assert status == 200
        assert "5,000원 결제" in answer["screen"]["html"]
        _, text, _ = await browser.get(site.address(site.shop.order()))
        assert json.loads(text)["signed_in"] is True


async def test_a_passkey_needs_more_than_the_login_password(site: Site) -> None:
    async with client() as http:
        browser, accounts = await logged_in(site, http, site.shop.order())
        status, problem, _ = await browser.post("/passkeys/options", {})
        assert (status, problem["code"]) == (403, "not_allowed")
        await browser.pay(accounts["bank"])
        status, options, _ = await browser.post("/passkeys/options", {})
        assert status == 200
        assert options["rp"]["id"] == "pay.localhost"
        status, problem, _ = await browser.post("/passkeys", {"id": "AAAA", "response": {}})
        assert (status, problem["code"]) == (400, "protocol_violation")
        browser.cookie = ""
        assert (await browser.post("/passkeys/options", {}))[0] == 401


async def test_who_cancels_a_plain_order_that_nobody_opened_goes_back_to_the_shop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.shop, "connected", lambda _merchant: True)
    await operations.create_merchant(
        site.gateway, id="plain", name="A stall", telephone="02-555-0123", return_url="https://stall.example/back", orders="plain"
    )
    before, tid = changes(site.gateway), ids.new_token()
    async with client() as http:
        browser = Browser(site, http)
        await browser.open({"MID": "plain", "TID": tid, "AMOUNT": "1000", "CUR": "KRW"})
        browser.body["mid"] = "plain"
        status, answer, _ = await browser.cancel()
    assert (status, answer["state"], answer["next"]) == (200, "open", f"https://stall.example/back?TID={tid}")
    assert changes(site.gateway) == before


async def test_an_approval_in_another_session_of_the_same_customer_adds_no_passkey(site: Site) -> None:
    """Whoever knows the login password waits, logged in, for the owner to pay: that approval is the owner's, not his."""
    async with client() as http:
        thief, _ = await logged_in(site, http, site.shop.order())
        owner, accounts = await logged_in(site, http, site.shop.order())
        assert (await owner.pay(accounts["bank"]))[1]["state"] == State.CAPTURED
        assert (await thief.post("/passkeys/options", {}))[0] == 403
        assert (await owner.post("/passkeys/options", {}))[0] == 200


async def test_the_sealing_key_for_enrolment_is_shown_with_its_chain(site: Site) -> None:
    async with client() as http, http.get(f"{site.base}/enrol/keys") as answer:
        shown = await answer.json()
    assert shown["gateway"] == site.gateway.urn
    assert len(shown["seal"]) == 2


async def test_an_enrolment_code_works_once_and_wrong_ones_look_alike(site: Site) -> None:
    async with client() as http:
        for code in ("wrong", "A" * 22, "가"):
            async with http.post(f"{site.base}/enrol/merchant", json={"code": code, "requests": {}}) as answer:
                assert (answer.status, (await answer.json(content_type=None))["code"]) == (403, "not_allowed")
        for body in ("a.b.c.d.e", "", "x" * 20_000, "é"):
            headers = {"Content-Type": "application/jose"}
            async with http.post(f"{site.base}/enrol/device", data=body.encode(), headers=headers) as answer:
                assert (answer.status, (await answer.json(content_type=None))["code"]) == (400, "protocol_violation")


async def test_health_is_told_without_a_session(site: Site) -> None:
    async with client() as http:
        for path, text in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
            async with http.get(site.base + path) as answer:
                assert (answer.status, await answer.text()) == (200, text)


async def test_static_files_are_kept_by_their_content_and_unknown_ones_are_404(site: Site) -> None:
    async with client() as http:
        async with http.get(site.address(site.shop.order()), headers=PAGE) as answer:
            page = await answer.text()
        version = page.partition("/static/")[2].partition("/")[0]
        for name, kind in (
            ("page.js", "text/javascript"),
            ("pin.js", "text/javascript"),
            ("style.css", "text/css"),
            ("mark.svg", "image/svg"),
        ):
            async with http.get(f"{site.base}/static/{version}/{name}") as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"].startswith(kind)
                assert "immutable" in answer.headers["Cache-Control"]
        async with http.get(f"{site.base}/static/older/page.js") as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        for name in ("nothing.js", "..%2fpages.py", "fonts", "fonts/"):
            async with http.get(f"{site.base}/static/{version}/{name}") as answer:
                assert answer.status == 404
