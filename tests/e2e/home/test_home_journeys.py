"""The customer's home in Chromium: every act by keyboard alone, sealed by the page's own program, in both languages and 320 pixels wide."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, expect

from hanbit.parties import limits
from hanbit.web.words import LanguageCode, catalogue
from tests.e2e.checkout.accessibility import NARROW, audit
from tests.e2e.checkout.visitors import BROWSER_LANGUAGES
from tests.faces.site import LOGIN, PASSWORD, Site, client
from tests.faces.test_home import at_home, give_key, paid

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LANGUAGES: tuple[LanguageCode, ...] = ("ko", "en")
NEW_PASSWORD = "a longer sentence to log in with"


@pytest.fixture(autouse=True)
def _axe_is_there(node: str) -> None:
    """axe-core comes with the packages of tests/node."""


@asynccontextmanager
async def window(browser: Browser, language: LanguageCode) -> AsyncIterator[Page]:
    """A narrow window whose pages never break their own policy."""
    context = await browser.new_context(locale=BROWSER_LANGUAGES[language], viewport=NARROW)
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    try:
        yield await context.new_page()
    finally:
        await context.close()
    assert not complaints


async def looked_at(page: Page) -> None:
    """Nothing serious for axe, nothing beyond the edge of a narrow screen, which is where it goes on."""
    await audit(page)
    await page.set_viewport_size(NARROW)


async def fill(page: Page, field: str, text: str) -> None:
    """Type into the field that has the focus after Tab, wherever it is."""
    await page.locator(f"#{field}").focus()
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.type(text)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_customer_does_everything_at_home_by_keyboard_on_a_narrow_screen(
    browser: Browser, site: Site, language: LanguageCode
) -> None:
    words = catalogue(language)
    await give_key(site, "passkey", "phone", "cGhvbmU")
    async with client() as http:
        payment = await paid(site, http)
        elsewhere = await at_home(site, http)
    bank = elsewhere.accounts["bank"]
    async with window(browser, language) as page:
        # log in: the page asks for it and leads on to where the customer wanted to go
        await page.goto(f"{site.base}/my?lang={language}")
        await expect(page.locator("#login-id")).to_be_visible()
        await looked_at(page)
        await page.keyboard.press("Enter")
        await fill(page, "login-id", LOGIN)
        await fill(page, "login-password", "wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#notice [role=alert]")).to_be_focused()
        await fill(page, "login-id", LOGIN)
        await fill(page, "login-password", PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_contain_text("홍길동")
        await looked_at(page)

        # statement, payment, receipt
        await page.goto(f"{site.base}/my/accounts/{bank}?lang={language}")
        await expect(page.locator("tbody tr")).to_have_count(2)
        await looked_at(page)
        await page.locator(f"a[href*='/my/payments/{payment}']").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(".timeline")).to_be_visible()
        await looked_at(page)
        await page.locator(f"a[href^='/payments/{payment}?']").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{site.base}/payments/{payment}?**")

        # a lower limit counts at once
        await page.goto(f"{site.base}/my/accounts/{bank}/settings?lang={language}")
        await looked_at(page)
        await fill(page, "limit-payment", "100,000")
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_have_text(words["home.done.limited"])
        assert limits.of_account(site.gateway.reader, bank).limit_payment == 100_000

        # a key gets a name and goes, with the log-in password
        await page.goto(f"{site.base}/my/security?lang={language}")
        await looked_at(page)
        await page.locator("a[href*='/my/keys/']").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-name")).to_have_value("phone")
        await looked_at(page)
        await fill(page, "key-name", "my phone")
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("my phone")
        await fill(page, "key-password", PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_have_text(words["home.done.removed"])
        await expect(page.locator("a[href*='/my/keys/']")).to_have_count(0)

        # end the other session, then another password
        await page.locator("button[data-session]").first.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_have_text(words["home.done.ended"])
        await fill(page, "password-old", PASSWORD)
        await fill(page, "password-new", NEW_PASSWORD)
        await fill(page, "password-again", NEW_PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.locator(".done")).to_have_text(words["home.done.password"])
        assert PASSWORD not in await page.content()

        # the language of letters and pages
        await page.goto(f"{site.base}/my/contact?lang={language}")
        await looked_at(page)
        other: LanguageCode = "en" if language == "ko" else "ko"
        await page.locator("#language-choice").select_option(other)
        await page.locator("form[data-act='/my/language'] button").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(f"html[lang={other}] .done")).to_have_text(catalogue(other)["home.done.language"])

        # log out
        await page.locator("form[data-act='/my/logout'] button").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#login-id")).to_be_visible()
        await page.goto(f"{site.base}/my")
        await expect(page.locator("#login-id")).to_be_visible()
