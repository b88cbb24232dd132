"""Both consoles beside a shop that is really connected: its agent, its call-backs to a failing endpoint, its keys, its clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Locator, Page, expect
from starlette.applications import Starlette

from hanbit import folder, server
from hanbit.crypto.certificates import authority_urn
from hanbit.demo.world import Ports
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock, SandboxClock, SystemClock
from hanbit.kernel.money import Money
from hanbit.merchant import enrolment
from hanbit.merchant.agent import serve
from hanbit.merchant.files import PURPOSES
from hanbit.merchant.handlers import No, Yes
from hanbit.merchant.identity import Identity
from hanbit.merchant.order import Line, Order
from hanbit.merchant.shop import Shop
from hanbit.payments import operations
from hanbit.settings import Settings
from hanbit.web.visitors import Places, Proxies
from tests.e2e.checkout.walk import expect_outcome
from tests.e2e.consoles.steps import DESKTOP, NARROW, customers_window, looked_at, press, reasoned, stepped_up
from tests.e2e.consoles.test_journeys import enter, window, words
from tests.faces import site as faces
from tests.faces.consoles import Consoles, hashed
from tests.flows.line_world import Customer, add_customer
from tests.unit.merchant.agent.support import Received, Receiver, receiver, register
from tests.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
EVENTS = ["order.settled", "order.closed"]
SEEN_AGAIN_S = 0.1
AHEAD_S = 20
"""How wrong a shop's clock is: its line still comes up."""


@dataclass
class Operator:
    """The server as `hanbit serve` runs it, and a customer of it."""

    consoles: Consoles
    running: server.Running
    customer: Customer
    folder: Path

    async def enrol(self, merchant: str, name: str) -> Path:
        """The folder of a newly enrolled shop."""
        gateway, own = self.running.gateway, self.folder / merchant
        made = await operations.create_merchant(
            gateway, id=merchant, name=name, telephone="02-555-0311", return_url="https://haneul.example/orders"
        )
        pin = ids.digest(gateway.keyring.root)
        await enrolment.enrol(own, gateway.settings.public_url, made["code"], pin=pin, clock=SystemClock())
        return own

    async def is_up(self, merchant: str, *, up: bool = True) -> None:
        """The server has noticed that the line is up, or down."""
        await until(lambda: self.running.gateway.line.connected(merchant) == up)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Operator]:
    """Everything on: customers' site, line, background, both consoles."""
    own, ports = tmp_path_factory.mktemp("connected"), Ports.free()
    bases = {"operator": f"http://console.localhost:{ports.shops[0]}", "merchant": f"http://merchant.localhost:{ports.shops[1]}"}
    base = f"http://pay.localhost:{ports.pay}"
    settings = Settings(
        public_url=base,
        listen_port=ports.pay,
        line_port=ports.line,
        operator_port=ports.shops[0],
        operator_url=bases["operator"],
        merchant_port=ports.shops[1],
        merchant_url=bases["merchant"],
    )
    clock = SystemClock()
    await folder.create(own / "gateway", settings, clock, root_key=None, root_passphrase=None)
    async with server.running(own / "gateway", clock) as running, add_customer(own, running) as customer, faces.client() as http:
        made = Operator(None, running, customer, own)  # type: ignore[arg-type]  # the shop's keys come with its enrolment, below
        first = await made.enrol("haneul", "하늘문구")
        shop = faces.Shop(Identity.load(first).merchant())
        site = faces.Site(running.gateway, shop, base, ports.pay, [], Starlette(), Places(1, 1, Proxies(())))
        made.consoles = Consoles(site, {}, bases, http, hashed(running.gateway))
        yield made


async def yes(_order: Order) -> Yes | No:
    return Yes()


@asynccontextmanager
async def connected(operator: Operator, own: Path, clock: Clock | None = None) -> AsyncIterator[Shop]:
    """The shop of this folder with its line up."""
    async with Shop.open(own, on_confirm=yes, clock=clock) as shop:
        await operator.is_up(own.name)
        yield shop


async def order(shop: Shop) -> str:
    """R3's address of a new order."""
    money = Money(4_500, "KRW")
    made = await shop.create_order(
        lines=[Line("card", 1, 4_500)], total=money, text="엽서 10장", return_url="https://haneul.example/orders"
    )
    return made.location


async def test_call_backs_that_failed_are_seen_sent_again_and_tried(browser: Browser, operator: Operator) -> None:
    consoles, own = operator.consoles, operator.folder / "haneul"
    async with receiver() as endpoint:
        register(own, ("shop", endpoint.url, EVENTS))

        async def breaks(_received: Received) -> web.StreamResponse:
            return web.Response(status=500)

        endpoint.answer = breaks
        admin = await consoles.person("merchant", "admin", merchant="haneul", language="ko")
        async with serve.running(own, serve.read_listen("127.0.0.1:0"), SystemClock()) as agent, window(browser, consoles, "ko") as page:
            await operator.is_up("haneul")
            assert await operator.customer.pay(await order(agent.shop)) == "captured"
            await endpoint.until(1)
            await enter(page, consoles, admin)
            row = await told(page, consoles, "order.settled", "HTTP 500")
            await expect(row).to_contain_text(words("ko", "merchant.callbacks.states.waiting"))
            await looked_at(page, DESKTOP)

            endpoint.answer = None  # it is repaired
            calls = len(endpoint.calls)
            await row.get_by_role("link").click()
            await looked_at(page, DESKTOP)
            await reasoned(page)
            await expect(page.locator(".done")).to_have_text(words("ko", "merchant.request.done.done"))
            again = (await endpoint.until(calls + 1))[calls]
            assert again.id == endpoint.calls[0].id, "the same event, so that the shop takes it once"
            row = await told(page, consoles, "order.settled", "HTTP 204")
            await expect(row).to_contain_text(words("ko", "merchant.callbacks.states.delivered"))

            await tried(page, consoles, endpoint)
            await looked_at(page, DESKTOP)


async def tried(page: Page, consoles: Consoles, endpoint: Receiver) -> None:
    """A test event reaches the endpoint and stands in the list."""
    calls = len(endpoint.calls)
    await press(page, "merchant.deed.test", "ko")
    await reasoned(page)
    await expect(page.locator(".done")).to_have_text(words("ko", "merchant.request.done.done"))
    assert (await endpoint.until(calls + 1))[calls].json["type"] == "agent.test"
    await told(page, consoles, "agent.test", "HTTP 204")


async def told(page: Page, consoles: Consoles, event: str, answer: str) -> Locator:
    """The row of this event, once it has this answer."""
    row = page.locator("#main .wide").first.locator("tbody tr").filter(has_text=event).filter(has_text=answer)

    async with asyncio.timeout(PATIENCE_S):
        await page.goto(consoles.bases["merchant"] + "/callbacks")
        while await row.count() == 0:
            await asyncio.sleep(SEEN_AGAIN_S)
            await page.goto(consoles.bases["merchant"] + "/callbacks")
    return row


async def test_a_line_is_up_until_its_key_is_revoked_and_everybody_is_told(browser: Browser, operator: Operator) -> None:
    consoles, own = operator.consoles, await operator.enrol("byeol", "별빛공방")
    admin = await consoles.person("merchant", "admin", merchant="byeol", session="stale")
    support = await consoles.person("operator", "support")
    async with connected(operator, own) as shop, window(browser, consoles, viewport=NARROW) as page:
        address = await order(shop)
        of_sessions = f"{authority_urn(consoles.gateway.keyring.operator, 'session')}:byeol"
        await until(lambda: consoles.gateway.reader.one("SELECT 1 FROM certificates WHERE urn = ?", of_sessions))
        await enter(page, consoles, admin)
        await enter(page, consoles, support)
        await page.goto(consoles.bases["merchant"] + "/line")
        await expect(page.locator("#main .state-up")).to_have_text(words("en", "console.line.up"))
        await expect(page.locator("#main .summary")).to_have_count(0)
        rows = page.locator("#certificates ~ .wide tbody tr")
        days = [int((await row.locator("td").nth(2).inner_text()).split()[-1]) for row in await rows.all()]
        asked_for = rows.filter(has_text=words("en", "console.purpose.session-authority"))
        await expect(asked_for).to_contain_text(words("en", "merchant.line.how.request"))
        assert len(days) == len(PURPOSES) + 1
        assert all(left > 0 for left in days)
        await looked_at(page, NARROW)
        line = rows.filter(has_text=words("en", "console.purpose.line"))
        await line.get_by_role("link").click()
        await stepped_up(page, consoles, admin, "en")
        await looked_at(page, NARROW)
        await reasoned(page)
        await expect(page.locator(".done")).to_have_text(words("en", "merchant.done.revoked"))
        await operator.is_up("byeol", up=False)
        await page.goto(consoles.bases["merchant"] + "/line")
        await expect(page.locator("#main .summary").first).to_contain_text(words("en", "merchant.line.is_revoked_next"))
        await looked_at(page, NARROW)
        await page.goto(consoles.bases["operator"] + "/merchants/byeol")
        await expect(page.locator("#main .lines")).to_contain_text(words("en", "console.line.why.revoked"))
        await looked_at(page, NARROW)
        async with customers_window(browser, "en", NARROW) as customer:
            await customer.goto(address + "&lang=en")
            await expect_outcome(customer, "line_down", "en")


async def test_a_shop_whose_clock_is_wrong_is_listed_until_it_is_put_right(browser: Browser, operator: Operator) -> None:
    consoles, own = operator.consoles, await operator.enrol("sigan", "시간공방")
    viewer = await consoles.person("operator", "viewer", language="ko")
    listed = "#clocks ~ .wide tbody tr"
    async with window(browser, consoles, "ko", viewport=DESKTOP) as page:
        await enter(page, consoles, viewer)
        async with connected(operator, own, SandboxClock(SystemClock(), AHEAD_S)):
            await page.goto(consoles.bases["operator"] + "/exceptions")
            await expect(page.locator(listed)).to_contain_text("시간공방")
            await expect(page.locator(listed)).to_contain_text("02-555-0311")
            await looked_at(page, DESKTOP)
        await operator.is_up("sigan", up=False)
        async with connected(operator, own):
            await page.goto(consoles.bases["operator"] + "/exceptions")
            await expect(page.locator(listed)).to_have_count(0)
