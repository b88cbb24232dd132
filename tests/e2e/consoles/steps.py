"""Steps that the consoles' journeys share: sizes, a sheet to keep, a second factor shown once more, a shop, a customer and his window."""

import csv
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Locator, Page, ViewportSize, expect

from hanbit.crypto import certificates
from hanbit.crypto.keys import new_key
from hanbit.kernel import ids
from hanbit.payments import operations
from hanbit.web.words import LanguageCode
from tests.e2e.checkout.accessibility import PAPER, audit
from tests.e2e.checkout.visitors import BROWSER_LANGUAGES
from tests.e2e.checkout.world import Person
from tests.e2e.consoles.test_journeys import words
from tests.faces.consoles import Consoles, Member
from tests.faces.site import client

DESKTOP, NARROW = ViewportSize(width=1100, height=900), ViewportSize(width=320, height=800)
SIZES: tuple[tuple[LanguageCode, ViewportSize], ...] = (("ko", DESKTOP), ("en", NARROW))
"""Each journey is made twice: in Korean at a desk, in English on a phone."""
WHY = "as agreed by telephone"
_BEYOND_THE_PAGE = """() => [...document.querySelectorAll('main *')].filter((one) => one.checkVisibility() && (
  one.getBoundingClientRect().right > document.scrollingElement.clientWidth + 1 ||
  (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX !== 'visible'))).map((one) => one.outerHTML.slice(0, 80))"""


async def looked_at(page: Page, size: ViewportSize) -> None:
    """Nothing serious for axe, nothing beyond the edge of a narrow screen; the window is then as it was."""
    await audit(page)
    await page.set_viewport_size(size)


async def printed_whole(page: Page, size: ViewportSize) -> None:
    """On paper nothing is cut at the edge, and what only a screen needs is gone."""
    await page.set_viewport_size(PAPER)
    await page.emulate_media(media="print")
    for useless in (".bar", ".rail"):
        await expect(page.locator(useless)).to_be_hidden()
    assert await page.evaluate(_BEYOND_THE_PAGE) == []
    await page.emulate_media(media="screen")
    await page.set_viewport_size(size)


async def opened_filter(page: Page, size: ViewportSize) -> None:
    """What narrows a list stands open at a desk and is folded on a phone."""
    summary = page.locator(".narrowing > summary")
    if size == DESKTOP:
        await expect(summary).to_be_hidden()
    else:
        await expect(page.locator(".filter")).to_be_hidden()
        await summary.click()
    await expect(page.locator(".filter")).to_be_visible()


async def went_to(page: Page, place: str, language: LanguageCode, size: ViewportSize) -> None:
    """A place of the menu, which is folded on a phone."""
    link, summary = page.locator(".rail").get_by_role("link", name=words(language, place), exact=True), page.locator(".rail summary")
    if size == DESKTOP:
        await expect(summary).to_be_hidden()
    else:
        await expect(link).to_be_hidden()
        await summary.click()
    await link.click()


async def sheet_of(link: Locator) -> list[dict[str, str]]:
    """The rows that a link downloads."""
    async with link.page.expect_download() as expected:
        await link.click()
    return _rows(await (await expected.value).path())


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))


async def reasoned(page: Page, **fields: str) -> None:
    """Fill in an act's form and send it by keyboard."""
    for name, text in fields.items():
        await page.locator(f"#{name}").fill(text)
    await page.locator("#reason").fill(WHY)
    await page.keyboard.press("Enter")


async def stepped_up(page: Page, consoles: Consoles, member: Member, language: LanguageCode) -> None:
    """The second factor is asked for once more, and shown."""
    await expect(page.locator("h1")).to_have_text(words(language, "console.second_factor.again"))
    await page.locator("#code").fill(member.code(consoles.gateway.clock.now()))
    await page.keyboard.press("Enter")
    await expect(page.locator("#reason")).to_be_visible()


async def enrolled(consoles: Consoles, merchant: str, code: str) -> None:
    """The shop's program fetches its certificates with the one-time code."""
    urn = consoles.gateway.settings.merchant_urn(merchant)
    requests = {
        purpose: ids.encode_base64url(certificates.certificate_request(new_key(), urn, purpose)) for purpose in ("merchant-sign", "line")
    }
    async with client() as http, http.post(f"{consoles.site.base}/enrol/merchant", json={"code": code, "requests": requests}) as answer:
        assert answer.status == 200, await answer.text()


async def another_shop(consoles: Consoles, merchant: str) -> None:
    """A merchant with certificates of its own: what a test does to it hurts no other."""
    made = await operations.create_merchant(
        consoles.gateway, id=merchant, name="새봄책방", telephone="02-555-0188", return_url="https://saebom.example/orders"
    )
    await enrolled(consoles, merchant, made["code"])


async def press(page: Page, place: str, language: LanguageCode) -> None:
    """Follow the first link with these words."""
    await page.get_by_role("link", name=words(language, place), exact=True).first.click()


async def a_customer(consoles: Consoles, balance: int = 1_000_000) -> Person:
    """Somebody with a bank account, whom no other test knows."""
    token = secrets.token_hex(4)
    number = f"1107{secrets.randbelow(10**10):010}"
    who = Person(f"song-{token}", "송가람", f"login password {token}", f"account {token}", {}, {"bank": number})
    await operations.create_customer(consoles.gateway, login=who.login, name=who.name, password=who.password)
    made = await operations.create_account(
        consoles.gateway, login=who.login, kind="bank", number=number, password=who.account_password, credit_limit="0"
    )
    await operations.fund(consoles.gateway, account=made["account"], amount=str(balance))
    who.accounts["bank"] = made["account"]
    return who


@asynccontextmanager
async def customers_window(browser: Browser, language: LanguageCode, size: ViewportSize = DESKTOP) -> AsyncIterator[Page]:
    """What somebody outside the consoles looks at."""
    context = await browser.new_context(locale=BROWSER_LANGUAGES[language], viewport=size)
    try:
        yield await context.new_page()
    finally:
        await context.close()
