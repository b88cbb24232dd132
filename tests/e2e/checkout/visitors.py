"""Browser windows that are watched: what they ask for, what they complain of, and that no secret leaves them in clear."""

import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from hanbit.demo.cases import prove
from hanbit.demo.world import World
from hanbit.kernel import ids
from hanbit.web.words import LanguageCode, catalogue
from tests.e2e.checkout.world import Person

BROWSER_LANGUAGES = {"ko": "ko-KR", "en": "en-US"}
_HTTP_STATUS = re.compile(r"Failed to load resource: (the server responded with a status of|net::ERR)")
"""Chromium writes each answer of 400 and above to the console; tests that expect a refusal see it in the page."""


@dataclass
class Watch:
    """What the windows of one test did."""

    world: World
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def know(self, *people: Person) -> None:
        """These people's passwords must leave no window unsealed."""
        self.secrets.extend(secret for person in people for secret in person.secrets)

    def origins(self) -> set[str]:
        """Where every request went."""
        return {f"{parts.scheme}://{parts.netloc}" for parts in (urlsplit(request.url) for request in self.requests)}

    def sent(self, path: str) -> list[Request]:
        """The requests to an address of the payment server that carried a body."""
        return [request for request in self.requests if request.method == "POST" and urlsplit(request.url).path == path]

    def attach(self, context: BrowserContext) -> None:
        """Watch every page of this context."""
        self.contexts.append(context)
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(f"{error.error}"))

    def _request(self, request: Request) -> None:
        self.requests.append(request)

    def _console(self, message: ConsoleMessage) -> None:
        policy = "Content Security Policy" in message.text or "TrustedHTML" in message.text
        if policy or (message.type == "error" and not _HTTP_STATUS.match(message.text)):
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    async def check(self) -> None:
        """What must hold after every test, whatever it was about."""
        assert not self.complaints
        ours = {self.world.settings.public_url, *(shop.url for shop in self.world.shops.values())}
        foreign = {origin for origin in self.origins() - ours if not re.fullmatch(r"http://spare-[0-9a-f]{8}\.localhost:[0-9]+", origin)}
        assert not foreign, "a request to somebody else"
        for request in self.requests:
            whole = request.url + (request.post_data or "")
            for secret in self.secrets:
                assert not any(text in whole for text in _spellings(secret)), f"an unsealed password in {request.method} {request.url}"
        proof = await prove(self.world)
        assert proof["ledger"]["balanced"], proof["ledger"]
        assert proof["evidence"]["verified"], proof["evidence"]


def _spellings(secret: str) -> tuple[str, ...]:
    """In clear, and within base64 at each of its three alignments."""
    shifted = (ids.encode_base64url(b"?" * shift + secret.encode())[shift + 1 : -2] for shift in range(3))
    return (secret, *shifted)


Visit = Callable[..., Awaitable[Page]]
"""`await visit("ko", **options)` opens a window of a new visitor who prefers this language."""


def visits(browser: Browser, watch: Watch) -> Visit:
    """The opener of one test's windows."""

    async def visit(language: LanguageCode = "ko", **options: Any) -> Page:
        context = await browser.new_context(locale=BROWSER_LANGUAGES[language], timezone_id="Asia/Seoul", **options)
        context.set_default_timeout(60_000)
        watch.attach(context)
        return await context.new_page()

    return visit


def words(language: LanguageCode, place: str, **values: str) -> str:
    """What a page says at this place."""
    return catalogue(language)[place].format(**values)


async def picture(page: Page, name: str) -> None:
    """A screenshot for the gallery, where HANBIT_SCREENSHOTS names a folder (it is made where it is missing)."""
    where = os.environ.get("HANBIT_SCREENSHOTS")
    if where:
        await page.evaluate("document.fonts.ready")
        await page.screenshot(path=Path(where) / f"{name}.png", full_page=True)
