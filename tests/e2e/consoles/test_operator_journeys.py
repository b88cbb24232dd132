"""What the operator's staff does, in Chromium: first start, merchants, customers, a day that two people close."""

from base64 import b32decode
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from hanbit.parties import customers, merchants, time_codes
from hanbit.payments import payouts, settlement
from hanbit.web.words import LanguageCode
from tests.e2e.consoles.steps import SIZES, WHY, enrolled, looked_at, opened_filter, printed_whole, reasoned, sheet_of
from tests.e2e.consoles.test_journeys import NEW_PASSWORD, enter, link, window, words
from tests.faces.consoles import Consoles, running_consoles
from tests.faces.site import SHOP
from tests.faces.stage import DAY_S, LateClock, Stage
from tests.faces.test_consoles import paid

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
both_languages = pytest.mark.parametrize(("language", "size"), SIZES)


async def press(page: Page, consoles: Consoles, place: str, language: LanguageCode) -> None:
    """Follow the link to an act."""
    del consoles
    await page.get_by_role("link", name=words(language, place), exact=True).first.click()


async def test_the_first_start_has_nobody_until_the_set_up_link_is_used_and_it_works_once(browser: Browser, tmp_path: Path) -> None:
    async with running_consoles(tmp_path) as fresh, window(browser, fresh, "ko") as page:
        reader = fresh.gateway.reader
        assert reader.one("SELECT id FROM people") is None, "there is no default account"
        await page.goto(fresh.bases["operator"] + "/")
        await page.locator("#login").fill("admin")
        await page.locator("#password").fill("admin")
        await page.keyboard.press("Enter")
        await expect(page.locator(".summary")).to_be_focused()
        address = await link(fresh, "kim", "ko")
        await page.goto(address)
        await looked_at(page, SIZES[0][1])
        secret = b32decode((await page.locator(".secret").inner_text()).replace(" ", ""))
        await page.locator("#password").fill(NEW_PASSWORD)
        await page.locator("#again").fill(NEW_PASSWORD)
        await page.locator("#code").fill(time_codes.code_of(secret, fresh.gateway.clock.now() // time_codes.STEP_S))
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_contain_text("Kim Hanbit")
        again = await page.goto(address)
        assert again is not None
        assert again.status == 404


@both_languages
async def test_a_merchant_is_registered_suspended_and_resumed(
    browser: Browser, stage: Stage, language: LanguageCode, size: ViewportSize
) -> None:
    consoles, merchant = stage.consoles, f"nanum-{language}"
    admin = await consoles.person("operator", "admin", language=language)

    def state() -> str:
        found = merchants.by_id(consoles.gateway.reader, merchant)
        return "" if found is None else found.state

    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, admin)
        await page.goto(stage.base("operator") + "/merchants")
        await expect(page.locator(".test-mode")).to_be_visible()
        await page.locator("a[href='/merchants/register']").click()
        await reasoned(page, id=merchant, name="나눔상회", telephone="nobody", return_url="https://nanum.example/orders")
        await expect(page.locator(".summary")).to_be_focused()
        assert state() == ""
        await reasoned(page, telephone="02-555-0199")
        await expect(page.locator("h1")).to_have_text(words(language, "operator.code.title"))
        await looked_at(page, size)
        code = await page.locator(".secret-link .code").inner_text()
        await enrolled(consoles, merchant, code)

        await page.goto(f"{stage.base('operator')}/merchants/{merchant}")
        await expect(page.locator("#certificates ~ .wide tbody tr").first).to_be_visible()
        await press(page, consoles, "operator.act.suspend", language)
        await page.locator("button.plain").click()
        await expect(page.locator("#reason-error")).to_be_visible()
        assert state() == "active", "not without a reason"
        await reasoned(page)
        await expect(page.locator(".done")).to_be_visible()
        assert state() == "suspended"
        await press(page, consoles, "operator.act.resume", language)
        await reasoned(page)
        await expect(page.locator(".done")).to_be_visible()
        assert state() == "active"

        await page.goto(f"{stage.base('operator')}/audit")
        await opened_filter(page, size)
        await page.locator("#actor").fill(admin.person.login)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**actor={admin.person.login}**")
        rows = await sheet_of(page.get_by_role("link", name=words(language, "console.sheet")))
        assert [row["reason"] for row in rows] == [WHY] * 3


@both_languages
async def test_a_customer_and_his_account_are_opened(browser: Browser, stage: Stage, language: LanguageCode, size: ViewportSize) -> None:
    consoles, login, number = stage.consoles, f"newcomer-{language}", {"ko": "11044440000001", "en": "11044440000002"}[language]
    support = await consoles.person("operator", "support", language=language)
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, support)
        await page.goto(stage.base("operator") + "/customers")
        await page.locator("a[href='/customers/open']").click()
        await looked_at(page, size)
        await reasoned(page, login=login, name="이새벽", password="a sentence of four words")
        await expect(page.locator(".done")).to_be_visible()
        await press(page, consoles, "operator.act.account", language)
        await page.locator("#kind").select_option("bank")
        await reasoned(page, number=number, password="1357")
        await expect(page.locator(".done")).to_be_visible()
        await expect(page.locator("#accounts ~ .wide tbody tr").first).to_contain_text(number[-4:])
        assert number not in await page.content()
        await looked_at(page, size)
    found = customers.by_login(consoles.gateway.reader, login)
    assert found is not None


async def test_two_people_close_a_day_the_books_balance_and_the_payout_is_confirmed(browser: Browser, tmp_path: Path) -> None:
    clock = LateClock(3 * DAY_S)
    async with running_consoles(tmp_path, clock=clock) as consoles:
        await settlement.set_payout_account(consoles.gateway, merchant=SHOP, bank="한빛은행", number="11099887766554", reason=WHY)
        for language, size in SIZES:
            await paid(consoles)
            clock.behind_s -= DAY_S
            await two_people_close(browser, consoles, language, size)


async def two_people_close(browser: Browser, consoles: Consoles, language: LanguageCode, size: ViewportSize) -> None:
    """The day that has just ended, from the proposal to the bank's word on the payout."""
    reader, base = consoles.gateway.reader, consoles.bases["operator"]
    one, two = [await consoles.person("operator", "admin", language=language) for _ in range(2)]
    closed = len(settlement.days(reader))
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, one)
        await page.goto(base + "/settlement")
        await press(page, consoles, "operator.deed.close", language)
        await reasoned(page)
        await expect(page.locator(".done")).to_be_visible()
        await expect(page.get_by_role("link", name=words(language, "operator.act.approve"), exact=True)).to_have_count(0)
        assert len(settlement.days(reader)) == closed, "one person alone closes nothing"
    async with window(browser, consoles, language, viewport=size) as page:
        await enter(page, consoles, two)
        await page.goto(base + "/proposals")
        await press(page, consoles, "operator.act.approve", language)
        await reasoned(page)
        await expect(page.locator(".done")).to_be_visible()
        assert len(settlement.days(reader)) == closed + 1
        await page.goto(base + "/settlement/balance")
        await expect(page.locator(".verified").filter(has_text="KRW")).to_be_visible()
        await expect(page.locator("main [role=alert]")).to_have_count(0)
        await looked_at(page, size)
        await printed_whole(page, size)
        waiting = payouts.of_state(reader, "instructed")
        await page.goto(base + "/payouts")
        await page.locator(f"a[href='/payouts/{waiting[0].reference}/confirm']").click()
        await reasoned(page)
        await expect(page.locator(".done")).to_be_visible()
        assert len(payouts.of_state(reader, "instructed")) == len(waiting) - 1
