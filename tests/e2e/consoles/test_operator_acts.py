"""The operator's main acts in Chromium: money that two people pay in, and the link by which a customer sets a new password."""

import pytest
from playwright.async_api import Browser, Page, expect

from hanbit.ledger.balances import available
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.accessibility import audit
from tests.e2e.consoles.steps import a_customer, customers_window
from tests.e2e.consoles.test_journeys import enter, window, words
from tests.faces.consoles import Consoles

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
NEW_PASSWORD = "a sentence that he will remember"
WHY = "passport shown at the counter"


async def found(page: Page, consoles: Consoles, number: str) -> None:
    """The customer's page, by the number of his account; by keyboard alone."""
    await page.goto(consoles.bases["operator"] + "/customers")
    await page.locator("#q").focus()
    await page.keyboard.type(number)
    await page.keyboard.press("Enter")
    await expect(page.locator("#accounts")).to_be_visible()


async def reasoned(page: Page) -> None:
    await page.locator("#reason").fill(WHY)
    await page.keyboard.press("Enter")


@pytest.mark.parametrize(("language", "width"), [("ko", 1100), ("en", 320)])
async def test_money_is_paid_in_by_two_people(browser: Browser, consoles: Consoles, language: LanguageCode, width: int) -> None:
    who = await a_customer(consoles)
    account, had = who.accounts["bank"], 1_000_000
    one, two = [await consoles.person("operator", "admin", language=language) for _ in range(2)]
    async with window(browser, consoles, language, viewport={"width": width, "height": 900}) as page:
        await enter(page, consoles, one)
        await found(page, consoles, who.numbers["bank"])
        await page.locator(f"a[href='/accounts/{account}/fund']").click()
        await page.locator("#amount").fill("0")
        await reasoned(page)
        await expect(page.locator(".summary")).to_be_focused()
        await audit(page, narrow=width == 320)
        await page.locator("#amount").fill("12345")
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_be_visible()
        await expect(page.get_by_role("link", name=words(language, "operator.act.withdraw"), exact=True)).to_be_visible()
        assert available(consoles.gateway.reader, account) == had
    async with window(browser, consoles, language, viewport={"width": width, "height": 900}) as page:
        await enter(page, consoles, two)
        await page.goto(consoles.bases["operator"] + "/proposals")
        await page.get_by_role("link", name=words(language, "operator.act.approve"), exact=True).first.click()
        await audit(page, narrow=width == 320)
        await reasoned(page)
        await expect(page.locator(".done")).to_be_visible()
    assert available(consoles.gateway.reader, account) == had + 12_345


async def test_a_customer_sets_a_new_password_by_the_link_that_the_staff_hands_over(browser: Browser, consoles: Consoles) -> None:
    support, who = await consoles.person("operator", "support"), await a_customer(consoles)
    async with window(browser, consoles) as page:
        await enter(page, consoles, support)
        await found(page, consoles, who.numbers["bank"])
        await page.get_by_role("link", name=words("en", "operator.act.password"), exact=True).click()
        await reasoned(page)
        link = await page.locator(".secret-link .code").inner_text()
        await audit(page)
    async with customers_window(browser, "en") as page:
        await page.goto(link)
        await page.get_by_role("button").last.click()
        await expect(page.locator("#notice [role=alert]")).to_be_visible()  # nothing typed yet
        await page.locator("#password-new").fill(NEW_PASSWORD)
        await page.locator("#password-again").fill(NEW_PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.locator("#login-id")).to_be_visible()
        await page.locator("#login-id").fill(who.login)
        await page.locator("#login-password").fill(NEW_PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/my?**")
        again = await page.goto(link)
        assert again is not None
        assert again.status == 404
