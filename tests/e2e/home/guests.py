"""Customers of the home's journeys: each a person of his own at a site that all share, with a window, a shop to pay at and a letter box."""

import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from hanbit.mail import post
from hanbit.payments import operations
from hanbit.protocols.redirect import customer
from hanbit.web.words import LanguageCode, catalogue
from tests.e2e.checkout.visitors import BROWSER_LANGUAGES, picture
from tests.faces.site import Site
from tests.faces.stage import cancelled_by_shop
from tests.faces.test_customer_site import Browser as Program
from tests.faces.test_home import Home
from tests.mailbox import Mailbox

PASSWORD, ACCOUNT_PASSWORD = "a sentence for Hong", "7391"
DESKTOP, PHONE = ViewportSize(width=1100, height=900), ViewportSize(width=390, height=844)
SEEN: tuple[tuple[LanguageCode, ViewportSize], ...] = (("ko", DESKTOP), ("en", PHONE))
in_korean = pytest.mark.parametrize(("language", "size"), SEEN[:1])
in_english = pytest.mark.parametrize(("language", "size"), SEEN[1:])
"""A journey is made in one of the two, and in both where `HANBIT_SCREENSHOTS` asks for pictures."""
if os.environ.get("HANBIT_SCREENSHOTS"):
    in_korean = in_english = pytest.mark.parametrize(("language", "size"), SEEN)
FUNDS = 1_000_000


@dataclass
class Place:
    """The site that all journeys share, and what its operator has sent."""

    site: Site
    box: Mailbox
    http: aiohttp.ClientSession

    async def delivered(self, to: str) -> list[tuple[str, str]]:
        """Subject and text of every letter to this address, after the operator's job has looked for what is due."""
        await post.post_due(self.site.gateway)
        found = [letter for letter, recipients in zip(self.box.letters, self.box.to, strict=True) if recipients == [to]]
        return [(str(letter["Subject"]), letter.get_content()) for letter in found]


@dataclass
class Guest:
    """One customer, and the window in which he is looking."""

    place: Place
    page: Page
    language: LanguageCode
    login: str
    name: str
    bank: str
    password: str = PASSWORD
    account_password: str = ACCOUNT_PASSWORD

    @property
    def site(self) -> Site:
        return self.place.site

    def words(self, place: str, **values: str) -> str:
        """What a page says to him at this place."""
        return catalogue(self.language)[place].format(**values)

    async def open(self, path: str) -> None:
        """Go to a page of the home in his language."""
        await self.page.goto(f"{self.site.base}{path}{'&' if '?' in path else '?'}lang={self.language}")

    async def log_in(self, following: str = "/my") -> None:
        """By hand, as everybody comes in."""
        await self.open(following)
        await self.typed(login_id=self.login, login_password=self.password)
        await expect(self.page.locator("#login-id")).to_have_count(0)

    async def typed(self, **fields: str) -> None:
        """Fill in fields by their ids, and send by Enter in the last."""
        for name, text in fields.items():
            await self.page.locator(f"#{name.replace('_', '-')}").fill(text)
        await self.page.keyboard.press("Enter")

    async def done(self, place: str) -> None:
        """The page that follows says what was done."""
        await expect(self.page.locator(".done")).to_have_text(self.words(f"home.done.{place}"))

    async def refused(self, text: str) -> None:
        """The page says what was wrong, on top and focused."""
        await expect(self.page.locator("#notice [role=alert]")).to_contain_text(text)
        await expect(self.page.locator("#notice [role=alert]")).to_be_focused()

    async def seen(self, name: str) -> None:
        """A picture, and nothing beyond the edge of the window."""
        await picture(self.page, f"home-{name}-{self.language}")
        assert not await self.page.evaluate("document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth"), name

    async def elsewhere(self, password: str = "", **headers: str) -> Home:
        """The same customer, logged in once more in another browser."""
        home = Home(self.site, self.place.http)
        status, answer, _ = await home.enter(self.login, password or self.password, **headers)
        assert status == 200, answer
        return home

    async def pays(self, amount: int = 220_000, text: str = "SK휴대폰 IM-1100", password: str = "") -> tuple[str, str, str]:
        """A payment by his program in another browser: its id, its state, why it was declined."""
        program = Program(self.site, self.place.http)
        await program.open(self.site.shop.order(amount, text))
        status, answer, _ = await program.log_in(self.login, self.password)
        assert status == 200, answer
        _, answer, _ = await program.pay(self.bank, password or self.account_password)
        return str(answer["payment"]), str(answer["state"]), str(answer["reason"] or "")

    async def pays_by(self, approve: Callable[[Program, str], str]) -> tuple[str, str]:
        """A payment that something else than the account's password approves: its state, why it was declined."""
        program = Program(self.site, self.place.http)
        await program.open(self.site.shop.order(1_000))
        status, answer, _ = await program.log_in(self.login, self.password)
        assert status == 200, answer
        core = customer.make_core(program.opening, self.bank)
        sealed = customer.seal_pay(program.sealing, core, approve(program, core))
        _, answer, _ = await program.post("/pay/submit", {**program.body, "key": program.sealing.key, "pay": sealed})
        return str(answer["state"]), str(answer["reason"] or "")

    async def refunded(self, payment: str, amount: int, reason: str) -> None:
        """The shop sends a part back."""
        await cancelled_by_shop(self.site, payment, amount, reason)


@asynccontextmanager
async def guest(browser: Browser, place: Place, language: LanguageCode = "ko", size: ViewportSize = DESKTOP) -> AsyncIterator[Guest]:
    """A new customer with a bank account; the pages that he sees never break their own policy and ask nobody else for anything."""
    gateway, login = place.site.gateway, f"hong-{secrets.token_hex(4)}"
    await operations.create_customer(gateway, login=login, name="홍길동", password=PASSWORD, language=language)
    number = "110" + str(secrets.randbelow(10**11)).zfill(11)
    made = await operations.create_account(gateway, login=login, kind="bank", number=number, password=ACCOUNT_PASSWORD)
    await operations.fund(gateway, account=made["account"], amount=str(FUNDS))
    context = await browser.new_context(locale=BROWSER_LANGUAGES[language], timezone_id="Asia/Seoul", viewport=size, accept_downloads=True)
    context.set_default_timeout(60_000)
    complaints: list[str] = []
    asked: set[str] = set()
    context.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    try:
        yield Guest(place, await context.new_page(), language, login, "홍길동", str(made["account"]))
    finally:
        await context.close()
    assert not complaints
    assert asked <= {urlsplit(place.site.base).netloc}, "a request to somebody else"
