"""The dual-signature checkout in Chromium: the shop's button, the gateway's window, and the shop's page that is never left."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Error, Page, Route, expect

from hanbit.kernel import ids
from hanbit.payments import operations
from hanbit.payments.states import ATTEMPTS_MAX
from hanbit.protocols.dual_signature.messages import Session
from hanbit.protocols.signed import peek_claims
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.accessibility import audit
from tests.e2e.checkout.authenticators import add_authenticator
from tests.e2e.checkout.button_shop import ITEMS, ButtonShop, button_shop
from tests.e2e.checkout.visitors import BROWSER_LANGUAGES, picture, words
from tests.e2e.checkout.walk import expect_notice

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@dataclass
class Buyer:
    """A customer of one test, his browser, and what it complained of."""

    shop: ButtonShop
    context: BrowserContext
    login: str
    password: str
    account_password: str
    account: str
    complaints: list[str]

    async def visit(self, tid: str, language: LanguageCode = "ko") -> Page:
        page = await self.context.new_page()
        await page.goto(self.shop.page(tid, language))
        return page

    async def press(self, page: Page) -> Page:
        """The button, and the window that it opens."""
        async with page.expect_popup() as opening:
            await page.locator("#pay").click()
        return await opening.value

    async def log_in(self, window: Page) -> None:
        await window.locator("#login-id").fill(self.login)
        await window.locator("#login-password").fill(self.password)
        await window.locator("#login-form button[type=submit]").click()
        await expect(window.locator("#pay-form")).to_be_visible()

    async def approve(self, window: Page, password: str | None = None) -> None:
        await window.locator(f"input[name=account][value='{self.account}']").check()
        await window.locator("#account-password").fill(self.account_password if password is None else password)
        await window.locator("#pay-form button.pay").click()

    def balance(self) -> int:
        """What is left on his account."""
        left = "SELECT credits_posted - debits_posted AS balance FROM ledger_accounts WHERE id = ?"
        row = self.shop.site.gateway.reader.one(left, self.account)
        assert row is not None
        return int(row["balance"])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def button(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ButtonShop]:
    """Payment server and shop for all tests of this module."""
    async with button_shop(tmp_path_factory.mktemp("button")) as shop:
        yield shop


async def new_buyer(shop: ButtonShop, context: BrowserContext) -> Buyer:
    token = secrets.token_hex(4)
    login, password, account_password = f"hong-{token}", f"login-canary-{token}", f"account-canary-{token}"
    gateway = shop.site.gateway
    await operations.create_customer(gateway, login=login, name="홍길동", password=password)
    number = "110" + str(secrets.randbelow(10**11)).zfill(11)
    made = await operations.create_account(gateway, login=login, kind="bank", number=number, password=account_password, credit_limit="0")
    await operations.fund(gateway, account=made["account"], amount="1000000")
    return Buyer(shop, context, login, password, account_password, made["account"], [])


@pytest_asyncio.fixture(loop_scope="session")
async def buyer(browser: Browser, button: ButtonShop) -> AsyncIterator[Buyer]:
    """A new customer with a million, in a browser of his own; nothing may be complained of there, nor any secret reach the shop."""
    button.honest()
    context = await browser.new_context(locale=BROWSER_LANGUAGES["ko"], timezone_id="Asia/Seoul")
    context.set_default_timeout(60_000)
    who = await new_buyer(button, context)
    context.on("console", lambda said: who.complaints.append(said.text) if said.type == "error" else None)
    context.on("weberror", lambda error: who.complaints.append(str(error.error)))
    yield who
    await context.close()
    assert not [said for said in who.complaints if not said.startswith("Failed to load resource")]
    heard = "".join(button.heard)
    for secret in (who.password, who.account_password):
        assert secret not in heard
        for shift in range(3):
            assert ids.encode_base64url(b"?" * shift + secret.encode())[shift + 1 : -2] not in heard


async def seen(page: Page) -> list[dict[str, str]]:
    told: list[dict[str, str]] = await page.evaluate("seen")
    return told


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_button_window_paid_and_the_shops_page_is_never_left(buyer: Buyer, language: LanguageCode) -> None:
    tid = buyer.shop.order()
    page = await buyer.visit(tid, language)
    address = page.url
    await page.evaluate("globalThis.stayed = true")
    window = await buyer.press(page)
    await expect(window.locator("#login")).to_be_visible()
    assert window.url == f"{buyer.shop.site.base}/window?lang={language}", "no order and no number in the address"
    await expect(window.locator("html")).to_have_attribute("lang", language)
    await expect(window.locator(".operator-name")).to_have_text({"ko": "한빛은행", "en": "Hanbit Bank"}[language])
    await expect(window.locator("[data-shown=payee]").first).to_have_text("가람전자")
    await expect(window.locator("[data-shown=amount]").first).to_contain_text("220,000")
    await expect(window.locator(".order-lines li")).to_have_count(len(ITEMS))
    await expect(window.locator(".order-lines")).to_contain_text("케이스 × 2")
    await picture(window, f"window-login-{language}")
    await buyer.log_in(window)
    await picture(window, f"window-approve-{language}")
    await buyer.approve(window)
    await expect(window.locator("#paid")).to_have_text(words(language, "program.window_paid"))
    await expect(window.locator("#paid")).to_be_focused()
    await picture(window, f"window-paid-{language}")
    await expect(page.locator("#state")).to_have_text("approved")
    async with window.expect_event("close"):
        pass
    await expect(page.locator("#pay")).to_have_attribute("data-hanbit-state", "approved")
    assert page.url == address
    assert await page.evaluate("stayed"), "the same document all the while"
    result = (await seen(page))[-1]
    assert (result["kind"], result["result"], result["tid"]) == ("result", "approved", tid)
    assert result["receipt"].count(".") == 2
    assert buyer.balance() == 780_000


async def expect_stopped(window: Page, rule: str, language: LanguageCode = "ko") -> None:
    """The program believes nothing more of this: it names the check, and there is nothing left to type into."""
    await expect_notice(window, words(language, "program.check_failed_text", rule=rule))
    await expect(window.locator("input")).to_have_count(0)


def _with(**claims: object) -> Callable[[Session], Session]:
    return lambda session: msgspec.structs.replace(session, **claims)


LIES: dict[str, tuple[str, Callable[[Session], Session]]] = {
    "another amount": ("session_amount", _with(amount="2200000")),
    "another gateway": ("session_gateway", _with(gateway="urn:hanbit:dul:gateway")),
    "another nonce than was sent": ("session_nc", _with(nc="c" * 42 + "A")),
    "another customer's key": ("session_thumbprint", _with(thumbprint=ids.digest(b"another"))),
    "another order": ("session_order", _with(order=ids.digest(b"another"))),
    "a session that has ended": ("session_exp", _with(exp=1)),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_shop_that_answers_with_something_else_is_found_out_before_any_password(buyer: Buyer, lie: str) -> None:
    rule, buyer.shop.on_session = LIES[lie]
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await expect_stopped(window, rule)
    await expect(window.locator("#instead")).to_be_hidden()
    await window.locator("#close").click()
    await expect(page.locator("#state")).to_have_text("closed")
    assert buyer.balance() == 1_000_000


async def test_an_old_answer_of_the_shop_and_a_certificate_of_another_key_are_found_out(buyer: Buyer) -> None:
    tid = buyer.shop.order()
    page = await buyer.visit(tid)
    window = await buyer.press(page)
    await expect(window.locator("#login")).to_be_visible()
    await window.close()
    await expect(page.locator("#state")).to_have_text("closed")
    (old,) = buyer.shop.answers
    buyer.shop.on_answer = lambda _: old
    await expect_stopped(await reopened(buyer, page), "session_req")
    buyer.shop.on_answer = lambda answer: answer | {"certificate": old["certificate"]}
    await expect_stopped(await reopened(buyer, page), "certificate_profile")
    buyer.shop.on_answer = lambda answer: answer | {"session": old["session"]}
    await expect_stopped(await reopened(buyer, page), "session_req")
    assert buyer.balance() == 1_000_000


async def reopened(buyer: Buyer, page: Page) -> Page:
    """The button once more, when the page has noticed that its window is gone."""
    for other in buyer.context.pages:
        if other is not page:
            await other.close()
    await expect(page.locator("#pay")).not_to_have_attribute("data-hanbit-state", "open")
    return await buyer.press(page)


async def test_a_used_session_and_an_old_nonce_are_not_taken_for_the_next_attempt(buyer: Buyer) -> None:
    """After a decline the shop must open a session of its own for the next attempt."""
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await buyer.log_in(window)
    first = buyer.shop.sessions[next(reversed(buyer.shop.sessions))].session
    await buyer.approve(window, "wrong")
    await expect_notice(window, words("ko", "decline.wrong_factor"))
    buyer.shop.on_session = _with(nm=first.nm)
    await buyer.approve(window)
    await expect_stopped(window, "session_nm")
    assert buyer.balance() == 1_000_000


async def test_a_wrong_password_then_the_right_one_each_in_a_session_of_its_own(buyer: Buyer) -> None:
    page = await buyer.visit(buyer.shop.order(), "en")
    window = await buyer.press(page)
    await window.locator("#login-id").fill(buyer.login)
    await window.locator("#login-password").fill("wrong")
    await window.locator("#login-form button[type=submit]").click()
    await expect_notice(window, words("en", "problem.login_failed.title"))
    await buyer.log_in(window)
    await buyer.approve(window, "wrong")
    await expect_notice(window, words("en", "decline.wrong_factor"))
    await expect_notice(window, words("en", "decline.money"))
    await picture(window, "window-declined-en")
    await expect(window.locator("#account-password")).to_have_value("")
    await expect(page.locator("#state")).to_have_text("open")  # the shop's page is not told of each try
    await buyer.approve(window)
    await expect(page.locator("#state")).to_have_text("approved")
    assert buyer.balance() == 780_000
    sids = [peek_claims(json.loads(body)["dual"])["sid"] for body in buyer.shop.heard if "dual" in body]
    assert len(sids) == len(set(sids)) == 2


async def test_the_fifth_decline_ends_the_payment_and_the_window_says_so(buyer: Buyer) -> None:
    gateway = buyer.shop.site.gateway
    number = "5550" + str(secrets.randbelow(10**8)).zfill(8)
    poor = await operations.create_account(
        gateway, login=buyer.login, kind="emoney", number=number, password=buyer.account_password, credit_limit="0"
    )
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await buyer.log_in(window)
    buyer.account = poor["account"]
    for _ in range(ATTEMPTS_MAX - 1):
        await buyer.approve(window)
        await expect_notice(window, words("ko", "decline.no_funds"))
    await buyer.approve(window)
    await expect(window.locator("#ended-heading")).to_have_text(words("ko", "outcome.declined.title"))
    await expect(page.locator("#state")).to_have_text("declined")


async def test_the_shop_that_hides_the_receipt_does_not_hide_that_it_was_paid(buyer: Buyer) -> None:
    buyer.shop.on_result = lambda _: {"result": "declined", "reason": "declined"}
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await buyer.log_in(window)
    await buyer.approve(window)
    await expect(window.locator("#paid")).to_be_visible()
    await expect(page.locator("#state")).to_have_text("approved")
    assert buyer.balance() == 780_000


async def test_an_approval_without_the_gateways_receipt_is_not_believed(buyer: Buyer) -> None:
    """The shop says paid and has asked nobody: the gateway says that it has heard of no such session, and the window says so in time."""
    buyer.shop.asks_gateway = False
    buyer.shop.on_result = lambda _: {"result": "approved", "receipt": "a.b.c"}
    await buyer.context.clock.install()
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await buyer.log_in(window)
    await buyer.approve(window)
    await expect(window.locator("#progress")).to_have_text(words("ko", "program.window_asking"))
    await window.clock.fast_forward(90_000)
    await expect_notice(window, words("ko", "program.window_pending"))
    await picture(window, "window-pending-ko")
    buyer.shop.honest()
    await window.locator("#close").click()
    await expect(page.locator("#state")).to_have_text("pending")
    assert buyer.balance() == 1_000_000


async def test_a_window_that_is_closed_is_told_and_the_button_works_again(buyer: Buyer) -> None:
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await expect(window.locator("#login")).to_be_visible()
    await window.close()
    await expect(page.locator("#state")).to_have_text("closed")
    again = await buyer.press(page)
    await again.locator("#login-cancel").click()
    await expect(page.locator("#state")).to_have_text("closed")
    third = await buyer.press(page)
    await buyer.log_in(third)
    await buyer.approve(third)
    await expect(page.locator("#state")).to_have_text("approved")
    assert [event["kind"] for event in await seen(page)] == ["open", "closed", "open", "closed", "open", "result"]


async def test_a_window_closed_while_it_pays_still_gives_its_result(buyer: Buyer) -> None:
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await buyer.log_in(window)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await go_on.wait()
        await route.continue_()

    await page.route("**/purchases", hold)
    await buyer.approve(window)
    await asked.wait()
    await window.close()
    go_on.set()
    await expect(page.locator("#state")).to_have_text("approved")
    assert buyer.balance() == 780_000


async def test_a_blocked_window_falls_back_to_the_payment_page_with_the_same_order(buyer: Buyer) -> None:
    tid = buyer.shop.order()
    await buyer.context.add_init_script("globalThis.open = () => null")
    page = await buyer.visit(tid)
    await page.locator("#pay").click()
    await page.wait_for_url(f"{buyer.shop.site.base}/pay?**")
    assert f"TID={tid}" in page.url
    await buyer.log_in(page)
    await buyer.approve(page)
    await expect(page.locator(".receipt .done")).to_be_visible()
    assert buyer.balance() == 780_000


async def test_a_page_may_prevent_the_fallback(buyer: Buyer) -> None:
    await buyer.context.add_init_script("globalThis.open = () => null")
    page = await buyer.visit(buyer.shop.order())
    address = page.url
    await page.evaluate("addEventListener('hanbit:blocked', (event) => event.preventDefault())")
    await page.locator("#pay").click()
    await expect(page.locator("#state")).to_have_text("blocked")
    assert page.url == address
    assert (await seen(page))[-1]["redirect"].startswith(f"{buyer.shop.site.base}/pay?")


async def test_a_page_of_an_origin_that_the_payee_has_not_registered_gets_no_window(buyer: Buyer) -> None:
    """The same order, the same server, another name: what a copy of the shop under its own address would have."""
    page = await buyer.context.new_page()
    await page.goto(buyer.shop.page(buyer.shop.order()).replace("//shop.", "//copy."))
    window = await buyer.press(page)
    await expect_notice(window, words("ko", "program.window_stranger_text"))
    await picture(window, "window-stranger-ko")
    await expect(window.locator("input:visible")).to_have_count(0)
    await expect(window.locator("#instead, #again").first).to_be_hidden()
    assert not buyer.shop.heard


async def test_messages_of_anybody_else_are_ignored_on_both_sides(buyer: Buyer) -> None:
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await expect(window.locator("#login")).to_be_visible()
    await page.evaluate(
        """() => {
          for (const data of [{ hanbit: 1, kind: "close", result: "approved" }, { hanbit: 1, kind: "purchase", id: 1, purchase: {} }])
            postMessage(data, "*");
        }"""
    )
    forged = "({ hanbit: 1, kind: 'order', answer: { order: 'a.b.c' } })"
    await window.evaluate(f"postMessage({forged}, '*')")
    stranger = await buyer.context.new_page()
    await stranger.goto(buyer.shop.page("x").replace("//shop.", "//copy."))
    await stranger.evaluate(f"opener?.postMessage({forged}, '*')")
    await buyer.log_in(window)
    await buyer.approve(window)
    await expect(page.locator("#state")).to_have_text("approved")
    assert [event["kind"] for event in await seen(page)] == ["open", "result"]


async def test_a_window_that_nobody_opened_says_where_it_belongs(buyer: Buyer) -> None:
    window = await buyer.context.new_page()
    await window.goto(f"{buyer.shop.site.base}/window?lang=en")
    await expect_notice(window, words("en", "program.window_alone"))
    await audit(window)


async def test_the_shops_page_goes_away(buyer: Buyer) -> None:
    page = await buyer.visit(buyer.shop.order(), "en")
    window = await buyer.press(page)
    await expect(window.locator("#login")).to_be_visible()
    await page.close()
    await expect_notice(window, words("en", "program.shop_gone_text"))
    await picture(window, "window-shop-gone-en")
    await expect(window.locator("input:visible")).to_have_count(0)


async def test_a_slow_shop_is_named_and_may_be_asked_again(buyer: Buyer) -> None:
    await buyer.context.clock.install()
    buyer.shop.gate.clear()
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await expect(window.locator("#progress")).to_have_text(words("ko", "program.window_session"))
    await window.clock.fast_forward(21_000)
    await expect_notice(window, words("ko", "program.shop_silent"))
    await picture(window, "window-slow-shop-ko")
    buyer.shop.gate.set()
    await window.locator("#again").click()
    await expect(window.locator("#login")).to_be_visible()
    await buyer.log_in(window)
    await buyer.approve(window)
    await expect(page.locator("#state")).to_have_text("approved")


async def test_a_relay_that_cannot_be_reached_offers_the_payment_page(buyer: Buyer) -> None:
    tid = buyer.shop.order()
    page = await buyer.visit(tid)
    await page.route("**/sessions", lambda route: route.abort())
    window = await buyer.press(page)
    await expect_notice(window, words("ko", "program.shop_unreachable"))
    assert [(event["kind"], event.get("code")) for event in await seen(page)] == [("open", None), ("error", "unreachable")]
    await window.locator("#instead").click()
    await window.wait_for_url(f"{buyer.shop.site.base}/pay?**")
    await expect(window.locator("#login")).to_be_visible()


async def test_a_shop_that_refuses_says_so_in_the_window(buyer: Buyer) -> None:
    page = await buyer.visit("A" * 22)
    window = await buyer.press(page)
    await expect_notice(window, words("ko", "program.shop_refused"))


async def test_a_window_that_is_reloaded_or_changes_its_language_goes_on(buyer: Buyer) -> None:
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await buyer.log_in(window)
    await window.reload()
    await expect(window.locator("#pay-form")).to_be_visible()
    await window.locator(".languages a[lang=en]").click()
    await expect(window.locator("html")).to_have_attribute("lang", "en")
    await buyer.approve(window)
    await expect(window.locator("#paid")).to_have_text(words("en", "program.window_paid"))
    await window.reload()
    await expect(window.locator("#paid")).to_be_visible()
    await expect(page.locator("#state")).to_have_text("approved")
    assert buyer.balance() == 780_000


async def test_a_paid_order_is_not_paid_again(buyer: Buyer) -> None:
    tid = buyer.shop.order()
    page = await buyer.visit(tid)
    window = await buyer.press(page)
    await buyer.log_in(window)
    await buyer.approve(window)
    await expect(page.locator("#state")).to_have_text("approved")
    again = await reopened(buyer, page)
    await expect(again.locator("#paid")).to_be_visible()
    await buyer.context.clear_cookies()
    stranger = await reopened(buyer, page)
    await expect(stranger.locator("#ended-heading")).to_have_text(words("ko", "outcome.already_paid.title"))
    assert buyer.balance() == 780_000


async def test_nothing_is_kept_in_the_browser(buyer: Buyer) -> None:
    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    await buyer.log_in(window)
    for one in (page, window):
        assert await one.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert await one.evaluate("indexedDB.databases().then((found) => found.length)") == 0


@pytest.mark.parametrize("language", ["ko", "en"])
async def test_on_a_phone_by_keyboard_and_to_a_screen_reader(browser: Browser, button: ButtonShop, language: LanguageCode) -> None:
    button.honest()
    context = await browser.new_context(
        locale=BROWSER_LANGUAGES[language], viewport={"width": 320, "height": 640}, color_scheme="dark", timezone_id="Asia/Seoul"
    )
    context.set_default_timeout(60_000)
    try:
        buyer = await new_buyer(button, context)
        page = await buyer.visit(button.order(), language)
        await page.locator("#pay").focus()
        async with page.expect_popup() as opening:
            await page.keyboard.press("Enter")
        window = await opening.value
        await expect(window.locator("#login")).to_be_visible()
        await audit(window, narrow=True)
        await window.set_viewport_size({"width": 320, "height": 640})
        await picture(window, f"window-login-dark-{language}")
        await window.locator("#login-id").focus()
        await window.keyboard.type(buyer.login)
        await window.keyboard.press("Tab")
        await window.keyboard.type(buyer.password)
        await window.keyboard.press("Enter")
        await expect(window.locator("#pay-heading")).to_be_focused()
        await audit(window, narrow=True)
        await window.set_viewport_size({"width": 320, "height": 640})
        await picture(window, f"window-approve-dark-{language}")
        await window.keyboard.press("Tab")
        await window.keyboard.press("Tab")
        await expect(window.locator("#account-password")).to_be_focused()
        await window.keyboard.type(buyer.account_password)
        await window.keyboard.press("Enter")
        await expect(window.locator("#paid")).to_be_focused()
        await window.keyboard.press("Shift")  # somebody is there: the window does not close by itself
        await audit(window, narrow=True)
        await window.set_viewport_size({"width": 320, "height": 640})
        await picture(window, f"window-paid-dark-{language}")
        await expect(page.locator("#state")).to_have_text("approved")
        with suppress(Error):  # it closes under the very key
            await window.locator("#close").press("Enter")
        await expect(page.locator("#pay")).to_have_attribute("data-hanbit-state", "approved")
        assert window.is_closed()
        assert buyer.balance() == 780_000
    finally:
        await context.close()


async def test_a_passkey_logs_in_and_signs_in_the_window(buyer: Buyer) -> None:
    """Enrolled at the receipt of a first payment; the second is approved without any password."""
    first = await buyer.visit(buyer.shop.order())
    window = await buyer.press(first)
    session, authenticator = await add_authenticator(window)
    await buyer.log_in(window)
    await buyer.approve(window)
    await expect(window.locator("#paid")).to_be_visible()
    await window.locator(".paid a").click()
    await window.locator("#enrol-passkey").click()
    await expect(window.locator("#progress")).to_have_text(words("ko", "program.passkey_saved"))
    kept = await session.send("WebAuthn.getCredentials", {"authenticatorId": authenticator})
    await window.close()
    await buyer.context.clear_cookies()

    page = await buyer.visit(buyer.shop.order())
    window = await buyer.press(page)
    session, authenticator = await add_authenticator(window)
    for credential in kept["credentials"]:
        await session.send("WebAuthn.addCredential", {"authenticatorId": authenticator, "credential": credential})
    await window.locator("#login-passkey").click()
    await expect(window.locator("#pay-form")).to_be_visible()
    await window.locator("#factor-passkey").check()
    await picture(window, "window-passkey-ko")
    await window.locator("#pay-form button.pay").click()
    await expect(page.locator("#state")).to_have_text("approved")
    payment = buyer.shop.site.gateway.reader.one("SELECT method FROM payments WHERE id = ?", (await seen(page))[-1]["payment"])
    assert payment is not None
    assert payment["method"] == "passkey"
    assert buyer.balance() == 560_000
