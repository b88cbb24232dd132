"""The consoles in Chromium: the set-up link with a passkey and with an app, the way back in, and the keyboard alone."""

from base64 import b32decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from hanbit.parties import time_codes
from hanbit.payments import staff
from hanbit.web.words import LanguageCode, catalogue
from tests.e2e.checkout.accessibility import audit
from tests.e2e.checkout.visitors import BROWSER_LANGUAGES
from tests.faces.consoles import FACES, PASSWORD, Consoles, Member
from tests.faces.site import SHOP
from tests.faces.test_consoles import paid

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LANGUAGES: tuple[LanguageCode, ...] = ("ko", "en")
NEW_PASSWORD = "a longer sentence to log in with"
AUTHENTICATOR: dict[str, Any] = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@asynccontextmanager
async def window(browser: Browser, consoles: Consoles, language: LanguageCode = "en", **options: Any) -> AsyncIterator[Page]:
    """A window of its own; whatever it asks for is ours, and the policy of its pages is never broken."""
    context = await browser.new_context(locale=BROWSER_LANGUAGES[language], **options)
    complaints: list[str] = []
    asked: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "TrustedHTML" in message.text:
            complaints.append(message.text)

    context.on("console", note)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("request", lambda request: asked.append(request.url))
    try:
        yield await context.new_page()
    finally:
        await context.close()
    assert not complaints
    hosts = {urlsplit(url).netloc for url in asked}
    assert hosts <= {urlsplit(base).netloc for base in consoles.bases.values()}, "a request to somebody else"


async def enter(page: Page, consoles: Consoles, member: Member) -> None:
    """Put somebody's session into the window."""
    host = urlsplit(member.base).hostname or ""
    await page.context.add_cookies(
        [
            {"name": name, "value": value, "domain": host, "path": "/", "secure": True, "httpOnly": True, "sameSite": "Strict"}
            for name, value in member.cookies.items()
        ]
    )
    del consoles


async def link(consoles: Consoles, login: str, language: LanguageCode, merchant: str = "") -> str:
    """A set-up link as the command prints it."""
    made = await staff.invite_staff(consoles.gateway, login=login, name="Kim Hanbit", merchant=merchant, language=language)
    return str(made["link"])


def words(language: LanguageCode, place: str, **values: str) -> str:
    return catalogue(language)[place].format(**values)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_passkey_sets_up_logs_in_and_steps_up(browser: Browser, consoles: Consoles, language: LanguageCode) -> None:
    login = f"passkey-{language}"
    async with window(browser, consoles, language) as page:
        session = await page.context.new_cdp_session(page)
        await session.send("WebAuthn.enable")
        added = await session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        await page.goto(await link(consoles, login, language))
        await audit(page)
        await page.get_by_role("button", name=words(language, "console.set_up.passkey")).click()
        await expect(page.get_by_role("alert").first).to_be_visible()  # the password is still missing
        await audit(page)
        await page.locator("#password").fill(NEW_PASSWORD)
        await page.locator("#again").fill(NEW_PASSWORD)
        await page.get_by_role("button", name=words(language, "console.set_up.passkey")).click()
        await expect(page.locator(".done")).to_contain_text("Kim Hanbit")
        await audit(page)
        credentials = (await session.send("WebAuthn.getCredentials", {"authenticatorId": added["authenticatorId"]}))["credentials"]
        assert [(one["rpId"], one["isResidentCredential"]) for one in credentials][-1] == ("console.localhost", True)

        await page.get_by_role("button", name=words(language, "console.log_out")).click()
        await expect(page.locator("#login")).to_be_visible()
        await page.locator("#login").fill(login)
        await page.locator("#password").fill(NEW_PASSWORD)
        await page.get_by_role("button", name=words(language, "console.login.submit")).click()
        await audit(page)
        await page.get_by_role("button", name=words(language, "console.second_factor.passkey")).click()
        await expect(page.locator("h1")).to_have_text(words(language, "operator.home.title"))

        await session.send("WebAuthn.setUserVerified", {"authenticatorId": added["authenticatorId"], "isUserVerified": False})
        await page.goto(f"{consoles.bases['operator']}/second-factor?next=/staff/invite")
        await page.get_by_role("button", name=words(language, "console.second_factor.passkey")).click()
        await expect(page.locator("[data-failed]")).to_be_visible()
        await audit(page)
        await session.send("WebAuthn.setUserVerified", {"authenticatorId": added["authenticatorId"], "isUserVerified": True})
        await page.get_by_role("button", name=words(language, "console.second_factor.passkey")).click()
        await expect(page.locator("h1")).to_have_text(words(language, "console.staff.invite"))


@pytest.mark.parametrize("face", FACES)
async def test_without_scripts_an_app_sets_up_and_logs_in(browser: Browser, consoles: Consoles, face: str) -> None:
    login = f"app-{face}"
    async with window(browser, consoles, java_script_enabled=False, viewport={"width": 320, "height": 800}) as page:
        await page.goto(await link(consoles, login, "en", SHOP if face == "merchant" else ""))
        secret = b32decode((await page.locator(".secret").inner_text()).replace(" ", ""))
        step = consoles.gateway.clock.now() // time_codes.STEP_S
        await page.locator("#password").fill(NEW_PASSWORD)
        await page.locator("#again").fill(NEW_PASSWORD)
        await page.locator("#code").fill(time_codes.code_of(secret, step))
        await page.get_by_role("button", name=words("en", "console.set_up.submit")).click()
        await expect(page.locator(".done")).to_contain_text("You are set up")
        await page.get_by_role("button", name=words("en", "console.log_out")).click()
        await page.locator("#login").fill(login)
        await page.locator("#password").fill(NEW_PASSWORD)
        await page.get_by_role("button", name=words("en", "console.login.submit")).click()
        await page.locator("#code").fill(time_codes.code_of(secret, step + 1))  # the next one: that of the set-up is used
        await page.get_by_role("button", name=words("en", "console.second_factor.submit")).click()
        await expect(page.get_by_role("navigation", name=words("en", "console.navigation"))).to_be_visible()


async def test_the_keyboard_alone_gets_in_and_finds_a_payment(browser: Browser, consoles: Consoles) -> None:
    payment = await paid(consoles)
    member = await consoles.person("operator", "auditor", session="none")
    async with window(browser, consoles) as page:
        await page.goto(consoles.bases["operator"] + "/")
        await focus_by_tab(page, "#login")
        await page.keyboard.type(member.person.login)
        await focus_by_tab(page, "#password")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.locator("#code")).to_be_visible()
        await focus_by_tab(page, "#code")
        await page.keyboard.type(member.code(consoles.gateway.clock.now()))
        await page.keyboard.press("Enter")
        await expect(page.locator(".rail")).to_be_visible()
        await focus_by_tab(page, ".rail a[href='/payments']")
        await page.keyboard.press("Enter")
        await expect(page.locator("#number")).to_be_visible()
        await focus_by_tab(page, "#number")
        await page.keyboard.type(payment)
        await page.keyboard.press("Enter")
        await expect(page.locator(".timeline")).to_be_visible()
        await focus_by_tab(page, ".timeline summary")
        await page.keyboard.press("Enter")
        await focus_by_tab(page, ".timeline a[download]")


async def focus_by_tab(page: Page, selector: str) -> None:
    """Press Tab until this element has the focus; every stop on the way must be visible."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        assert await page.evaluate("document.activeElement.checkVisibility()")
    raise AssertionError(f"Tab does not reach {selector}")
