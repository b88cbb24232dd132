"""One Chromium for a module, a fresh payment server and browser profile for each test."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.faces.site import Site, running_site

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 15_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Debian's Chromium; Playwright would fetch a build of its own."""
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A fresh operator, customer and shop."""
    async with running_site(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A Korean browser profile without a past."""
    made = await browser.new_context(locale="ko-KR", viewport={"width": 1280, "height": 900})
    made.set_default_timeout(PATIENCE_MS)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A tab; an error that no test expects fails the test."""
    tab = await context.new_page()
    bugs: list[str] = []
    tab.on("pageerror", lambda error: bugs.append(str(error)))
    tab.on("console", lambda message: bugs.append(message.text) if "Content Security Policy" in message.text else None)
    yield tab
    assert not bugs, bugs


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    path = Path(__file__).parents[1] / "node/node_modules/axe-core/axe.min.js"
    if not path.is_file() or shutil.which("chromium") is None:
        pytest.skip("axe-core or chromium is missing")
    return path.read_text("utf-8")
