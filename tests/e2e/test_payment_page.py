"""The payment page in Chromium: what a customer sees, types, breaks and leaves, from the redirect to the receipt."""

import json
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, Request, Route, expect

from hanbit.payments import payment as payments
from hanbit.payments import redirect_flow
from tests.faces.site import ACCOUNT_PASSWORD, LOGIN, NUMBERS, PASSWORD, Site

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

WORDS = {
    "ko": {"bank": "은행 계좌", "emoney": "전자화폐", "other": "다른 계좌나 카드 번호 입력", "pay": "220,000원 결제", "log in": "로그인"},
    "en": {
        "bank": "Bank account",
        "emoney": "E-money",
        "other": "Type another account or card number",
        "pay": "Pay ₩220,000",
        "log in": "Log in",
    },
}


async def log_in(page: Page, address: str, password: str = PASSWORD) -> None:
    await page.goto(address)
    await page.fill("#login-id", LOGIN)
    await page.fill("#login-password", password)
    await page.click("#login-form button[type=submit]")


async def choose(page: Page, kind: str, language: str = "ko") -> None:
    await page.get_by_label(WORDS[language][kind]).check()


async def pay(page: Page, kind: str = "bank", password: str = ACCOUNT_PASSWORD, language: str = "ko") -> None:
    await choose(page, kind, language)
    await page.fill("#account-password", password)
    await page.get_by_role("button", name=WORDS[language]["pay"]).click()


async def on_receipt(page: Page) -> None:
    await page.wait_for_url("**/payments/**")
    await expect(page.locator(".receipt")).to_be_visible()


def state_of(site: Site, tid: str) -> str:
    payment = payments.find(site.gateway.reader, "garam", tid)
    return "new" if payment is None else payment.state


@pytest.mark.parametrize(
    ("language", "sentence"),
    [("ko", "홍길동님의 계좌에서 220,000원이 인출되었습니다."), ("en", "₩220,000 was withdrawn from 홍길동’s account.")],
)
async def test_from_the_redirect_to_the_receipt(site: Site, page: Page, language: str, sentence: str) -> None:
    await log_in(page, site.address(site.shop.order(), lang=language))
    await expect(page.locator("#pay-heading")).to_be_focused()
    await pay(page, language=language)
    await on_receipt(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text(sentence)
    await expect(page.locator("html")).to_have_attribute("lang", language)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="서명된 영수증 내려받기" if language == "ko" else "Download signed receipt").click()
    assert (await download.value).suggested_filename.endswith(".jws")


async def test_a_wrong_password_keeps_the_id_clears_the_password_and_is_announced(site: Site, page: Page) -> None:
    await log_in(page, site.address(site.shop.order()), "wrong")
    summary = page.get_by_role("alert")
    await expect(summary).to_contain_text("로그인하지 못했습니다")
    await expect(summary).to_be_focused()
    await expect(page.locator("#login-id")).to_have_value(LOGIN)
    await expect(page.locator("#login-password")).to_have_value("")


async def test_an_empty_field_is_named_and_linked_and_nothing_is_sent(site: Site, page: Page) -> None:
    posted: list[Request] = []
    page.on("request", lambda request: posted.append(request) if request.method == "POST" else None)
    await page.goto(site.address(site.shop.order()))
    await page.click("#login-form button[type=submit]")
    await page.get_by_role("link", name="비밀번호를 입력해 주십시오.").click()
    await expect(page.locator("#login-password")).to_be_focused()
    await expect(page.locator("#login-password")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#login-id-error")).to_have_text("ID를 입력해 주십시오.")
    assert not posted


async def test_no_funds_then_another_account(site: Site, page: Page) -> None:
    await log_in(page, site.address(site.shop.order()))
    await pay(page, "emoney")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("잔고가 부족하여 결제를 할 수 없습니다")
    await expect(alert).to_contain_text("빠져나간 돈은 없습니다")
    await expect(alert).to_be_focused()
    await expect(page.locator("#account-password")).to_have_value("")
    await pay(page)
    await on_receipt(page)


async def test_a_typed_number_pays(site: Site, page: Page) -> None:
    await log_in(page, site.address(site.shop.order()))
    await choose(page, "other")
    await page.fill("#account-number", "110-1234")
    await page.fill("#account-password", ACCOUNT_PASSWORD)
    await page.click("button.pay")
    await expect(page.get_by_role("alert")).to_contain_text("계좌번호는 숫자 10~14자리")
    await expect(page.locator("#account-number")).to_have_value("110-1234")
    await page.fill("#account-number", " 110-1234-5678-890 ")
    await page.click("button.pay")
    await on_receipt(page)


async def test_a_double_click_pays_once(site: Site, page: Page) -> None:
    await log_in(page, site.address(site.shop.order()))
    await choose(page, "bank")
    await page.fill("#account-password", ACCOUNT_PASSWORD)
    await page.evaluate(
        "() => { const button = document.querySelector('button.pay'); button.click(); button.click(); button.form.requestSubmit(); }"
    )
    await on_receipt(page)
    row = site.gateway.reader.one("SELECT COUNT(*) AS n FROM attempts")
    assert row is not None
    assert row["n"] == 1
    assert [seen for seen in site.seen if seen[0] == "/pay/submit"] == [("/pay/submit", 200)]


async def test_reload_keeps_the_login_and_back_shows_the_true_state(site: Site, page: Page) -> None:
    address = site.address(site.shop.order())
    await log_in(page, address)
    await expect(page.locator("#pay-form")).to_be_visible()
    await page.reload()
    await expect(page.locator("#pay-form")).to_be_visible()
    await pay(page)
    await on_receipt(page)
    await page.goto(address)
    await on_receipt(page)
    await page.go_back()
    await on_receipt(page)


async def test_the_second_tab_learns_that_the_first_has_paid(site: Site, context: BrowserContext, page: Page) -> None:
    address = site.address(site.shop.order())
    await log_in(page, address)
    second = await context.new_page()
    await second.goto(address)
    await expect(second.locator("#pay-form")).to_be_visible()
    await pay(page)
    await on_receipt(page)
    await pay(second)
    await on_receipt(second)
    row = site.gateway.reader.one("SELECT COUNT(*) AS n FROM entries WHERE id LIKE 'fund%'")
    assert row is not None
    captured = site.gateway.reader.one("SELECT SUM(captured) AS paid FROM payments")
    assert captured is not None
    assert captured["paid"] == 220_000


async def rewrite(route: Route, change: Any) -> None:
    answer = await route.fetch()
    await route.fulfill(response=answer, body=change(await answer.text()))


@pytest.mark.parametrize(
    ("what", "change", "rule"),
    [
        ("the amount that is shown", lambda text: text.replace(">220,000원<", ">22,000원<"), "shown_amount"),
        ("the payee that is shown", lambda text: text.replace(">가람전자<", ">나람전자<"), "shown_payee"),
        ("the amount in the data", lambda text: text.replace('"amount":"220000"', '"amount":"22000"'), "keys_amount"),
        ("the shop in the data", lambda text: text.replace('"name":"가람전자"', '"name":"나람전자"'), "keys_payee"),
        ("the order's text in the data", lambda text: text.replace('"text":"SK', '"text":"LG'), "order_text"),
    ],
)
async def test_a_page_altered_on_the_way_is_stopped_before_anything_is_typed(
    site: Site, page: Page, what: str, change: Any, rule: str
) -> None:
    await page.route("**/pay?*", lambda route: rewrite(route, change))
    await page.goto(site.address(site.shop.order()))
    await expect(page.get_by_role("alert")).to_contain_text("이 화면을 믿을 수 없어 멈췄습니다")
    await expect(page.get_by_role("alert")).to_contain_text(rule)
    assert await page.locator("input").count() == 0, what


async def test_a_screen_altered_on_the_way_is_stopped_before_the_password(site: Site, page: Page) -> None:
    await page.route("**/pay/login*", lambda route: rewrite(route, lambda text: text.replace("220,000원</dd>", "22,000원</dd>")))
    await log_in(page, site.address(site.shop.order()))
    await expect(page.get_by_role("alert")).to_contain_text("shown_amount")
    assert await page.locator("input").count() == 0


async def test_a_script_put_into_the_page_does_not_run(site: Site, context: BrowserContext) -> None:
    tab = await context.new_page()
    put = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"></body>"
    await tab.route("**/pay?*", lambda route: rewrite(route, lambda text: text.replace("</body>", put)))
    await tab.goto(site.address(site.shop.order()))
    await expect(tab.locator("#login-form")).to_be_visible()
    assert await tab.title() != "taken"


async def test_nothing_secret_leaves_unsealed_or_stays_in_the_browser(site: Site, context: BrowserContext, page: Page) -> None:
    sent: list[str] = []
    context.on("request", lambda request: sent.append(f"{request.url} {request.headers} {request.post_data or ''}"))
    await log_in(page, site.address(site.shop.order()))
    await choose(page, "other")
    await page.fill("#account-number", NUMBERS["bank"])
    await page.fill("#account-password", "account-canary")
    await page.click("button.pay")
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await page.input_value("#account-password") == ""
    await page.fill("#account-password", ACCOUNT_PASSWORD)
    await page.click("button.pay")
    await on_receipt(page)
    whole = "\n".join(sent)
    for secret in (PASSWORD, "account-canary", NUMBERS["bank"]):
        assert secret not in whole
    kept = await page.evaluate(
        "async () => [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length, document.cookie]"
    )
    assert kept == [0, 0, 0, ""], "the session cookie is not for scripts"


async def test_without_javascript_the_page_says_why_and_offers_the_ways_out(site: Site, page: Page) -> None:
    assert page.context.browser is not None
    plain = await page.context.browser.new_context(java_script_enabled=False, locale="ko-KR")
    tab = await plain.new_page()
    query = site.shop.order()
    await tab.goto(site.address(query))
    await expect(tab.get_by_role("heading", name="이 브라우저에서는 비밀번호를 암호화할 수 없습니다")).to_be_visible()
    await expect(tab.get_by_text("hanbit wallet pay")).to_be_visible()
    await expect(tab.get_by_role("link", name="쇼핑몰로 돌아가기").first).to_be_visible()
    await expect(tab.locator("#login-password")).to_be_hidden()
    await plain.close()


async def test_in_progress_turns_into_the_receipt_by_itself(site: Site, page: Page) -> None:
    query = site.shop.order()
    site.shop.silent = True
    await log_in(page, site.address(query))
    await pay(page)
    await expect(page.get_by_role("heading", name="결제를 진행하고 있습니다")).to_be_visible()
    await expect(page.locator("#progress")).to_contain_text("쇼핑몰의 확인을 기다리고 있습니다")
    site.shop.silent = False
    waiting = payments.find(site.gateway.reader, "garam", query["TID"])
    assert waiting is not None
    await redirect_flow.ask_again(site.gateway, waiting)
    await on_receipt(page)


async def test_a_lost_answer_is_asked_for_again_and_pays_once(site: Site, page: Page) -> None:
    lost: list[str] = []

    async def lose(route: Route) -> None:
        if lost:
            await route.continue_()
            return
        lost.append(route.request.post_data or "")
        await route.fetch()
        await route.abort()

    await log_in(page, site.address(site.shop.order()))
    await page.route("**/pay/submit*", lose)
    await pay(page)
    await on_receipt(page)
    row = site.gateway.reader.one("SELECT COUNT(*) AS n FROM attempts")
    assert row is not None
    assert row["n"] == 1


async def test_cancel_before_and_after_the_login(site: Site, page: Page) -> None:
    for logged_in in (False, True):
        query = site.shop.order()
        if logged_in:
            await log_in(page, site.address(query))
            await page.click("#pay-cancel")
        else:
            await page.goto(site.address(query))
            await page.click("#login-cancel")
        await page.wait_for_url("**/payments/**")
        await expect(page.get_by_role("heading", name="결제를 취소하셨습니다")).to_be_visible()
        assert state_of(site, query["TID"]) == "closed"
        await page.context.clear_cookies()


async def test_a_session_that_ended_asks_for_a_new_login_and_keeps_the_order(site: Site, page: Page) -> None:
    await log_in(page, site.address(site.shop.order()))
    await expect(page.locator("#pay-form")).to_be_visible()
    await page.context.clear_cookies()
    await pay(page)
    await expect(page.get_by_role("alert")).to_contain_text("다시 로그인하셔야 합니다")
    await page.fill("#login-id", LOGIN)
    await page.fill("#login-password", PASSWORD)
    await page.click("#login-form button[type=submit]")
    await pay(page)
    await on_receipt(page)


async def test_time_is_warned_of_extended_once_and_then_over(site: Site, page: Page) -> None:
    await page.clock.install()
    await page.goto(site.address(site.shop.order()))
    await page.fill("#login-password", PASSWORD)
    await page.clock.run_for(12 * 60_000)
    await expect(page.locator("#time-warning")).to_be_hidden()
    await page.clock.run_for(70_000)
    await expect(page.locator("#time-warning")).to_contain_text("2분 안에")
    await page.click("#more-time")
    await expect(page.locator("#time-warning")).to_be_hidden()
    await page.clock.run_for(15 * 60_000)
    await expect(page.locator("#time-warning")).to_be_visible()
    await expect(page.locator("#more-time")).to_be_hidden()
    await page.clock.run_for(3 * 60_000)
    await expect(page.get_by_role("alert")).to_contain_text("이 화면의 시간이 지났습니다")
    await expect(page.locator("#login-form")).to_be_hidden()
    assert await page.input_value("#login-password") == ""


async def test_by_keyboard_alone(site: Site, page: Page) -> None:
    await page.goto(site.address(site.shop.order()))
    await expect(page.locator("#login-form")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="본문으로 바로 가기")).to_be_focused()
    await page.locator("#login-id").focus()
    await page.keyboard.type(LOGIN)
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator("#pay-heading")).to_be_focused()
    await page.keyboard.press("Tab")
    for _ in range(4):
        if await page.evaluate("() => document.activeElement.closest('label')?.textContent.includes('은행 계좌')"):
            break
        await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Tab")
    await expect(page.locator("#account-password")).to_be_focused()
    await page.keyboard.type(ACCOUNT_PASSWORD)
    await page.keyboard.press("Enter")
    await on_receipt(page)


async def test_a_passkey_is_enrolled_logs_in_and_approves_with_the_customers_signature(site: Site, page: Page) -> None:
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    await log_in(page, site.address(site.shop.order()))
    await pay(page)
    await on_receipt(page)
    await expect(page.locator(".lines")).to_contain_text("고객 서명 없음")
    await page.get_by_role("button", name="다음부터 패스키로 결제하기").click()
    await expect(page.locator("#progress")).to_contain_text("패스키를 등록했습니다")
    await page.context.clear_cookies()

    await page.goto(site.address(site.shop.order()))
    await page.get_by_role("button", name="패스키로 로그인").click()
    await choose(page, "bank")
    await page.get_by_label("패스키", exact=False).first.check()
    await expect(page.locator("#account-password")).to_be_hidden()
    await page.get_by_role("button", name="220,000원 결제").click()
    await on_receipt(page)
    await expect(page.locator(".lines")).to_contain_text("고객 서명 있음")


async def look(page: Page, axe: str, what: str) -> None:
    """Axe finds nothing, and nothing sticks out sideways."""
    await page.evaluate(axe)
    found = await page.evaluate(
        "async () => (await axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })).violations"
    )
    assert not found, f"{what}: {json.dumps(found, ensure_ascii=False)[:2000]}"
    wide = await page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{what} sticks out by {wide} pixels"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("language", ["ko", "en"])
async def test_every_page_is_accessible_and_fits(site: Site, page: Page, axe: str, language: str, width: int, scheme: str) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    await page.set_viewport_size({"width": width, "height": 800})
    await page.goto(site.address(site.shop.order(), lang=language))
    await expect(page.locator("#login-form")).to_be_visible()
    await look(page, axe, "login")
    await page.click("#login-form button[type=submit]")
    await look(page, axe, "login with errors")
    await page.fill("#login-id", LOGIN)
    await page.fill("#login-password", PASSWORD)
    await page.click("#login-form button[type=submit]")
    await expect(page.locator("#pay-form")).to_be_visible()
    await look(page, axe, "payment screen")
    await choose(page, "other", language)
    await page.click("button.pay")
    await look(page, axe, "payment screen with errors")
    await pay(page, "emoney", language=language)
    await expect(page.locator("#notice h2")).to_be_visible()
    await look(page, axe, "decline")
    await pay(page, language=language)
    await on_receipt(page)
    await look(page, axe, "receipt")
    await page.goto(f"{site.base}/payments/{'A' * 22}?lang={language}")
    await look(page, axe, "not found")
    site.shop.up = False
    await page.goto(site.address(site.shop.order(), lang=language))
    await look(page, axe, "line down")
