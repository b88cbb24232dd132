"""One browser and one world of real processes for all tests of a worker; windows, customers and shops are each test's own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from hanbit.demo.world import Ports, World, demo_world
from hanbit.kernel.clock import SystemClock
from hanbit.merchant import handlers
from tests.e2e.checkout import world as worlds
from tests.e2e.checkout.visitors import Visit, Watch, visits
from tests.e2e.checkout.world import MovingWorld, Person, ShopProcess

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
expect.set_options(timeout=60_000)

Invite = Callable[..., Awaitable[Person]]


@asynccontextmanager
async def _watched(world: World) -> AsyncIterator[Watch]:
    watching = Watch(world)
    try:
        yield watching
    finally:
        for context in watching.contexts:
            await context.close()
    await watching.check()


def _inviter(world: World, watching: Watch) -> Invite:
    async def invite(name: str = "홍길동", **balances: int) -> Person:
        person = await worlds.person(world, name, **balances)
        watching.know(person)
        return person

    return invite


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """The distribution's Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Payment server and two shops, as `hanbit demo` starts them."""
    async with demo_world(tmp_path_factory.mktemp("e2e"), Ports.free(), SystemClock(), lambda _text: None) as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def moving_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MovingWorld]:
    """Payment server and shop in this process, with a clock that only goes forward from test to test."""
    async with worlds.moving_world(tmp_path_factory.mktemp("moving")) as started:
        yield started


@pytest.fixture
def moving(moving_site: MovingWorld, monkeypatch: pytest.MonkeyPatch) -> MovingWorld:
    """The site with the moving clock, its shop answering at once."""
    monkeypatch.setattr(handlers, "CONFIRM_WITHIN_S", 3600.0)
    moving_site.gate.open.set()
    moving_site.gate.asked.clear()
    return moving_site


@pytest_asyncio.fixture(loop_scope="session")
async def watch(browser: Browser, world: World) -> AsyncIterator[Watch]:
    """Everything that the windows of this test do; book and evidence are proved afterwards."""
    async with _watched(world) as watching:
        yield watching


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, watch: Watch) -> Visit:
    """Opens windows."""
    return visits(browser, watch)


@pytest_asyncio.fixture(loop_scope="session")
async def invite(world: World, watch: Watch) -> Invite:
    """Makes customers whose passwords are watched, with accounts: bank=1000, card=5000."""
    return _inviter(world, watch)


@pytest_asyncio.fixture(loop_scope="session")
async def moving_watch(browser: Browser, moving: MovingWorld) -> AsyncIterator[Watch]:
    """As `watch`, at the site with the moving clock."""
    async with _watched(moving.world) as watching:
        yield watching


@pytest_asyncio.fixture(loop_scope="session")
async def moving_visit(browser: Browser, moving_watch: Watch) -> Visit:
    """As `visit`."""
    return visits(browser, moving_watch)


@pytest_asyncio.fixture(loop_scope="session")
async def moving_invite(moving: MovingWorld, moving_watch: Watch) -> Invite:
    """As `invite`."""
    return _inviter(moving.world, moving_watch)


@pytest_asyncio.fixture(loop_scope="session")
async def spare(world: World, tmp_path: Path) -> AsyncIterator[ShopProcess]:
    """A shop that the test may stop and kill."""
    async with worlds.shop_process(world, tmp_path) as process:
        await process.start()
        yield process
