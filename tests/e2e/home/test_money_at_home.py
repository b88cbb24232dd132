"""What a customer reads of his money at home, in Chromium: statement, table, receipts, what came back, limits that a payment feels."""

import csv

import pytest
from playwright.async_api import Browser, ViewportSize, expect

from hanbit.payments import bank_limits
from hanbit.protocols.redirect.merchant import Objection
from hanbit.protocols.redirect.messages import Words
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.walk import expect_notice
from tests.e2e.home.guests import DESKTOP, Guest, Place, guest, in_english, in_korean

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
WON: dict[LanguageCode, str] = {"ko": "{}원", "en": "₩{}"}


def won(who: Guest, amount: str) -> str:
    return WON[who.language].format(amount)


@in_korean
async def test_a_statement_is_searched_narrowed_and_read_back_as_a_table(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        for amount, text in ((220_000, "SK휴대폰 IM-1100"), (1_500, "달력, 벽걸이"), (3_000, "=1+1")):
            assert (await who.pays(amount, text))[1] == "captured"
        await who.log_in(f"/my/accounts/{who.bank}")
        page, rows = who.page, who.page.locator("tbody tr")
        await expect(rows).to_have_count(4)
        await who.seen("statement")
        if size != DESKTOP:
            await page.locator(".narrowing > summary").click()
        await who.typed(words="달력")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text(won(who, "1,500"))
        await who.seen("statement-found")
        async with page.expect_download() as expected:
            await page.locator("a[download]").click()
        found = (await (await expected.value).path()).read_text("utf-8-sig")
        assert [row[who.words("home.csv.text")] for row in csv.DictReader(found.splitlines())] == ["달력, 벽걸이"]

        await page.locator("#words").fill("")
        await who.typed(since="2020-01-01", until="2020-12-31")
        await expect(page.locator(".nothing")).to_have_text(who.words("home.statement.nothing"))
        await who.seen("statement-nothing")
        await page.locator(".filter a.button").click()
        await expect(rows).to_have_count(4)
        async with page.expect_download() as expected:
            await page.locator("a[download]").click()
        table = await (await expected.value).path()
        lines = list(csv.DictReader(table.read_text("utf-8-sig").splitlines()))
        moved = [(line[who.words("home.csv.moved")], line[who.words("home.csv.balance")]) for line in lines]
        assert moved == [("-3000", "775500"), ("-1500", "778500"), ("-220000", "780000"), ("1000000", "1000000")]
        assert lines[0][who.words("home.csv.text")] == "'=1+1", "no cell is a formula"


@in_english
async def test_what_came_back_is_said_wherever_its_payment_is_shown(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        payment, _, _ = await who.pays()
        await who.refunded(payment, 20_000, "부속품이 빠져 있었습니다")
        await who.log_in()
        page = who.page
        await expect(page.locator("tbody tr")).to_contain_text(who.words("home.payment.refunded", amount=won(who, "20,000")))
        await who.seen("refunded-home")
        await page.locator(f"a[href*='/my/payments/{payment}']").click()
        returned = who.words("receipt.refunded_of", refunded=won(who, "20,000"), amount=won(who, "220,000"))
        await expect(page.locator(".lines")).to_contain_text(returned)
        steps = page.locator(".timeline .step-entry")
        await expect(steps.last).to_contain_text(won(who, "20,000"))
        await expect(page.locator(".step-broken")).to_have_count(0)
        await who.seen("refunded-payment")
        await page.locator(f"a[href^='/payments/{payment}?']").click()
        await expect(page.locator(".receipt")).to_contain_text(returned)
        await who.seen("refunded-receipt")
        await who.refunded(payment, 200_000, "고객 변심")
        await who.open(f"/my/accounts/{who.bank}")
        await expect(page.locator("tbody tr")).to_have_count(4)
        await expect(page.locator(".lines .strong")).to_have_text(won(who, "1,000,000"))
        await who.open(f"/my/payments/{payment}")
        kinds = await page.locator(".timeline > li").evaluate_all("steps => steps.map((step) => step.className.match(/step-(\\w+)/)[1])")
        told = ["message"] * 2 + ["attempt", "entry", "message", "message", "entry"] + ["message"] * 2 + ["message", "entry", "message"] * 2
        assert kinds == told, "each movement of money stands before the message that tells of it"
        whole = who.words("receipt.refunded_of", refunded=won(who, "220,000"), amount=won(who, "220,000"))
        await expect(page.locator(".lines")).to_contain_text(whole)


@in_korean
async def test_what_a_shop_refused_was_held_and_is_free_again(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        shop = who.site.shop
        shop.silent = True
        held, state, _ = await who.pays(90_000, "커피콩")
        shop.silent = False
        assert state == "authorized"
        await who.log_in()
        page = who.page
        await expect(page.locator(".tiles")).to_contain_text(who.words("home.held", amount=won(who, "90,000")))
        await expect(page.locator("#held")).to_be_visible()
        await who.seen("held")
        await page.locator(f".wide[aria-labelledby=held] a[href*='{held}']").click()
        await who.seen("held-payment")

        shop.objection = Objection(message=Words(ko="방금 다 팔렸습니다.", en="It has just been sold out."))
        refused, state, _ = await who.pays(50_000, "찻잔")
        shop.objection = None
        assert state == "refused"
        await who.open(f"/my/payments/{refused}")
        await expect(page.locator("h1 .state")).to_have_text(who.words("console.state.refused"))
        await expect(page.locator(".timeline .step-entry")).to_have_count(2)
        await who.seen("refused-payment")
        await who.open(f"/my/accounts/{who.bank}")
        await expect(page.locator(".lines .strong")).to_have_text(won(who, "1,000,000"))


@in_english
async def test_a_lower_limit_is_felt_at_once_and_none_is_higher_than_the_banks(
    browser: Browser, place: Place, language: LanguageCode, size: ViewportSize
) -> None:
    async with guest(browser, place, language, size) as who:
        page = who.page
        await who.log_in(f"/my/accounts/{who.bank}/settings")
        await who.typed(limit_payment="100,000")
        await who.done("limited")
        await expect(page.locator(".lines")).to_contain_text(won(who, "100,000"))
        await page.goto(who.site.address(who.site.shop.order(), lang=language))
        await page.locator("#account-password").fill(who.account_password)
        await page.locator("#pay-form button.pay").click()
        await expect_notice(page, who.words("decline.limit"))
        await who.seen("limit-felt")
        assert (await who.pays(60_000))[1] == "captured"

        gateway = who.site.gateway
        await bank_limits.set_bank_limits(gateway, "person:staff", account=who.bank, payment="150000", day="", reason="as agreed")
        await who.open(f"/my/accounts/{who.bank}/settings")
        await who.typed(limit_payment="900,000", limit_password="wrong")
        await who.refused(who.words("problem.wrong_password.title"))
        await who.seen("limit-wrong-password")
        await who.typed(limit_payment="900,000", limit_password=who.account_password)
        await who.done("limited")
        await expect(page.locator(".lines")).to_contain_text(won(who, "100,000"))
        await expect(page.locator(".lines")).to_contain_text(won(who, "150,000"))
        await expect(page.locator(".lines")).not_to_contain_text("900,000")
        await who.seen("limit-waits")
        assert (await who.pays(120_000))[1:] == ("open", "limit"), "what is higher counts a day later"
