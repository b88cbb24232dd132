"""A refund in the merchants' console in Chromium: by keyboard, without scripts, on a narrow screen; the shop's word is shown."""

import pytest
from playwright.async_api import Browser, expect

from hanbit.web.words import LanguageCode
from tests.e2e.consoles.test_journeys import LANGUAGES, enter, focus_by_tab, window, words
from tests.faces.consoles import Consoles
from tests.faces.test_consoles import paid

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
WHY = "changed his mind"


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_cashier_asks_for_a_part_back_without_scripts_on_a_narrow_screen(
    browser: Browser, consoles: Consoles, language: LanguageCode
) -> None:
    payment = await paid(consoles)
    cashier = await consoles.person("merchant", "cashier", language=language)
    async with window(browser, consoles, language, java_script_enabled=False, viewport={"width": 320, "height": 800}) as page:
        await enter(page, consoles, cashier)
        await page.goto(f"{consoles.bases['merchant']}/payments/{payment}/refund")
        await page.locator("input[value=part]").check()
        await page.locator("#amount").fill("99,999,999")
        await page.locator("#reason").fill(WHY)
        await page.locator("button.plain").click()
        await expect(page.locator("#amount-error")).to_have_text(words(language, "merchant.refund.amount_wrong"))
        await page.locator("#amount").fill("400")
        await page.locator("#reason").press("Enter")
        await expect(page.locator(".done")).to_have_text(words(language, "merchant.request.done.done"))
        await expect(page.locator("#asked")).to_be_visible()
    assert [act.amount for act in consoles.site.shop.acts if act.reason == WHY][-1] == "400"


async def test_the_keyboard_reaches_the_way_to_refund(browser: Browser, consoles: Consoles) -> None:
    payment = await paid(consoles)
    cashier = await consoles.person("merchant", "cashier")
    async with window(browser, consoles) as page:
        await enter(page, consoles, cashier)
        await page.goto(f"{consoles.bases['merchant']}/payments/{payment}")
        await focus_by_tab(page, f"a[href='/payments/{payment}/refund']")
        await page.keyboard.press("Enter")
        await expect(page.locator("#reason")).to_be_visible()
