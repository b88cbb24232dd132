"""The shops in Node and PHP sell what is paid and nothing else, whatever their visitors and callers make up."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from hanbit.demo.world import DemoCustomer, Ports, World, demo_world
from hanbit.kernel.clock import SystemClock
from hanbit.loopback import LoopbackResolver
from hanbit.wallet.buy import buy, shown_lines
from hanbit.wallet.client import Answer, GatewayRefused, Http, Origin
from hanbit.wallet.pay import Device, Factor, Opened, Outcome, Password
from hanbit.wallet.relay import Relay, ShopCheckout, ShopRefused
from tests import engine
from tests.flows.example_shops import EXAMPLES, KINDS, ExampleShop, example_shop, shop_without_agent, until_book

pytestmark = pytest.mark.asyncio(loop_scope="module")
LINES_MAX = 120


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with demo_world(tmp_path_factory.mktemp("shops"), Ports.free(), SystemClock(), lambda _: None, engine.database()) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def shop(world: World, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[ExampleShop]:
    async with example_shop(world, tmp_path_factory.mktemp(request.param), request.param) as started:
        yield started


class Browser:
    """A visitor with cookies of its own, who fills the order form in as it comes."""

    def __init__(self, shop: ExampleShop, http: aiohttp.ClientSession) -> None:
        self.shop = shop
        self.http = http

    async def get(self, path: str) -> tuple[int, str]:
        async with self.http.get(self.shop.url + path, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def form(self) -> dict[str, str]:
        _, text = await self.get("/?lang=en")
        (key,) = re.findall(r"name=[\"']key[\"'] value=[\"']([\w-]+)[\"']", text)
        return {"key": key, "quantity": "1", "way": "bank"}

    async def post(self, form: dict[str, str]) -> tuple[int, str]:
        async with self.http.post(f"{self.shop.url}/orders", data=form, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", "")

    async def order(self, way: str = "bank") -> tuple[str, str]:
        status, location = await self.post(await self.form() | {"way": way})
        assert status == 303
        return parse_qs(urlsplit(location).query)["TID"][0], location

    async def relay(self, tid: str, step: str = "", body: bytes | None = None) -> tuple[int, Any]:
        """What the button's script asks the shop."""
        method, headers = ("GET", {}) if body is None else ("POST", {"Content-Type": "application/json"})
        async with self.http.request(method, f"{self.shop.url}/hanbit/{tid}{step}", data=body, headers=headers) as answer:
            return answer.status, await answer.json() if answer.status == 200 else await answer.text()


@pytest_asyncio.fixture(loop_scope="module")
async def browser(shop: ExampleShop) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=LoopbackResolver())) as http:
        yield Browser(shop, http)


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(shop: ExampleShop) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=LoopbackResolver())) as http:
        yield Browser(shop, http)


async def pay(customer: DemoCustomer, location: str) -> str:
    opened = await customer.wallet.open(location)
    if not customer.wallet.client.has_session:
        await customer.wallet.login(opened, customer.login, customer.password)
    return (await customer.wallet.pay(opened, Device(customer.enrolment.device), account=customer.accounts["bank"])).state


class VisitorsHttp(Http):
    """What the script on the shop's page sends carries the visitor's cookies."""

    def __init__(self, browser: Browser) -> None:
        super().__init__()
        self.browser = browser

    async def exchange(self, origin: Origin, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        cookies = self.browser.http.cookie_jar.filter_cookies(URL(str(origin)))
        own = (
            {"Cookie": "; ".join(f"{name}={cookie.value}" for name, cookie in cookies.items())}
            if str(origin) == self.browser.shop.url
            else {}
        )
        return await super().exchange(origin, method, target, {**headers, **own}, body)


@dataclass
class Clicked:
    """The button was clicked: order and relay are known, the customer is logged in at the bank's window."""

    customer: DemoCustomer
    relay: Relay
    checkout: ShopCheckout
    opened: Opened

    async def pay(self, factor: Factor | None = None) -> Outcome:
        lines = shown_lines(self.opened, self.checkout)
        factor = factor or Device(self.customer.enrolment.device)
        return await buy(self.customer.wallet, self.opened, self.relay, lines, factor, account=self.customer.accounts["bank"])


@contextlib.asynccontextmanager
async def clicked(world: World, browser: Browser, tid: str) -> AsyncIterator[Clicked]:
    customer = world.customers["hong"]
    async with VisitorsHttp(browser) as http:
        relay, checkout = await Relay.find(http, f"{browser.shop.url}/order?TID={tid}")
        opened = await customer.wallet.open(checkout.redirect)
        if not customer.wallet.client.has_session:
            await customer.wallet.login(opened, customer.login, customer.password)
        yield Clicked(customer, relay, checkout, opened)


def event(kind: str, tid: str, sequence: int | None, units: int = 1) -> dict[str, Any]:
    """A call-back's body, with what the shops read of it."""
    lines = [{"item": "arirang", "quantity": units, "price_minor": 1200}]
    made: dict[str, Any] = {
        "type": f"order.{kind}",
        "timestamp": "2026-01-01T00:00:00Z",
        "data": {"tid": tid, "state": kind, "lines": lines},
    }
    return made if sequence is None else made | {"sequence": sequence}


async def test_what_is_paid_is_downloaded_and_nothing_before(world: World, shop: ExampleShop, browser: Browser) -> None:
    tid, location = await browser.order()
    assert (await browser.get(f"/download?TID={tid}"))[0] == 403
    assert await pay(world.customers["hong"], location) == "captured"
    status, page = await browser.get(f"/return?TID={tid}")
    assert (status, 'data-state="settled"' in page.replace("'", '"')) == (200, True)
    status, goods = await browser.get(f"/download?TID={tid}")
    assert status == 200
    assert goods.startswith("Arirang")
    await until_book(shop, tid, "settled")


async def test_an_order_is_nobodys_but_its_own_browsers(world: World, shop: ExampleShop, browser: Browser, stranger: Browser) -> None:
    tid, location = await browser.order()
    await pay(world.customers["hong"], location)
    await stranger.order()
    for path in ("/return", "/download"):
        for query in (f"?TID={tid}", f"?TID={tid}&state=settled", "?TID=", "", "?TID=..%2Forders", "?TID[]=x", f"?TID={'A' * 22}"):
            assert (await stranger.get(path + query))[0] == 404


async def test_what_the_address_says_pays_for_nothing(shop: ExampleShop, browser: Browser) -> None:
    tid, _ = await browser.order()
    status, page = await browser.get(f"/return?TID={tid}&state=settled&may_deliver=true&outcome=settled&can=deliver")
    assert (status, 'data-state="placed"' in page.replace("'", '"')) == (200, True)
    assert (await browser.get(f"/download?TID={tid}&state=settled&can=deliver"))[0] == 403


async def test_a_form_sent_twice_is_one_order(shop: ExampleShop, browser: Browser) -> None:
    form = await browser.form()
    first, again = await asyncio.gather(browser.post(form), browser.post(form))
    assert first == again
    assert first[0] == 303


@pytest.mark.parametrize(
    "change",
    [{"quantity": "0"}, {"quantity": "4"}, {"quantity": "1e1"}, {"quantity": ""}, {"key": ""}, {"key": "../../etc"}, {"key": "x" * 300}],
)
async def test_a_form_that_the_shop_did_not_make_is_refused(shop: ExampleShop, browser: Browser, change: dict[str, str]) -> None:
    status, _ = await browser.post(await browser.form() | change)
    assert status == 400


async def test_another_site_cannot_order_in_a_visitors_name(shop: ExampleShop, browser: Browser, stranger: Browser) -> None:
    """SameSite=Lax keeps the cookie away from another site's form, and without it there is no order."""
    assert (await stranger.post(await browser.form()))[0] == 400


async def test_a_call_back_that_the_agent_did_not_sign_changes_nothing(shop: ExampleShop) -> None:
    now, forged = SystemClock().now(), event("settled", "F" * 22, 10_000)
    assert (await shop.call_back(forged, webhook_signature="v1,AAAA"))[0] == 401
    assert (await shop.call_back(forged, webhook_signature=""))[0] == 401
    assert (await shop.call_back(forged, webhook_id="evt_other"))[0] == 401
    assert (await shop.call_back(forged, at=now, webhook_timestamp=str(now + 1)))[0] == 401
    assert (await shop.call_back(forged, webhook_timestamp="soon"))[0] == 401
    assert (await shop.call_back(forged, at=now - 301))[0] == 401
    assert (await shop.call_back(forged, at=now + 400))[0] == 401
    async with shop.http.post(f"{shop.url}/hanbit", json=forged) as answer:
        assert answer.status == 401
    assert "F" * 22 not in shop.book


async def test_a_call_back_that_comes_again_or_late_changes_nothing(shop: ExampleShop) -> None:
    tid = "R" * 22
    assert (await shop.call_back(event("settled", tid, 20_000)))[0] in {200, 204}
    assert (await shop.call_back(event("cancelled", tid, 20_001)))[0] in {200, 204}
    after = shop.book[tid]
    assert after["state"] == "cancelled"
    for sequence in (20_000, 20_001):
        assert (await shop.call_back(event("settled", tid, sequence)))[0] in {200, 204}
    assert shop.book[tid] == after


async def test_while_the_secret_changes_either_is_taken_and_afterwards_the_new_one_alone(shop: ExampleShop) -> None:
    file, told = shop.keys / "callbacks/shop.secret", {"type": "agent.test", "timestamp": "", "sequence": 1, "data": {"test": "x"}}
    (old,), new = shop.secrets, "whsec_bmV3IHNlY3JldCBvZiB0aGUgc2hvcCBmb3IgYSB0ZXN0"
    try:
        file.write_text(f"{new}\n{old}\n", "ascii")
        assert [(await shop.call_back(told, secret=secret))[0] in {200, 204} for secret in (new, old)] == [True, True]
        file.write_text(f"{new}\n", "ascii")
        assert [(await shop.call_back(told, secret=secret))[0] in {200, 204} for secret in (new, old)] == [True, False]
    finally:
        file.write_text(f"{old}\n", "ascii")


async def test_the_last_one_is_sold_once_and_a_sold_out_shop_is_not_paid(world: World, shop: ExampleShop, browser: Browser) -> None:
    held = sum(one["units"] for one in shop.book.values() if one["state"] in {"held", "settled"})
    filler = "S" * 22
    status, text = await shop.call_back(event("confirm", filler, None, 20 - held))
    assert (status, text.replace(" ", "")) == (200, '{"confirm":true}')
    try:
        again = await shop.call_back(event("confirm", filler, None, 20 - held))
        assert again == (status, text)
        tid, location = await browser.order()
        assert await pay(world.customers["hong"], location) == "refused"
        assert (await shop.ask_agent(f"/orders/{tid}?wait=10"))["state"] == "voided"
        _, page = await browser.get(f"/return?TID={tid}")
        assert 'data-state="voided"' in page.replace("'", '"')
        assert (await browser.get(f"/download?TID={tid}"))[0] == 403
    finally:
        await shop.call_back(event("voided", filler, 30_000, 20 - held))
    tid, location = await browser.order()
    assert await pay(world.customers["hong"], location) == "captured"


async def test_staff_cancel_a_paid_order_and_the_download_ends_with_it(world: World, shop: ExampleShop, browser: Browser) -> None:
    tid, location = await browser.order()
    assert await pay(world.customers["hong"], location) == "captured"
    for token in ("", "x", "x" * 43):
        assert (await shop.cancel(tid, token))[0] == 401
    assert (await browser.get(f"/download?TID={tid}"))[0] == 200
    assert await shop.cancel(tid) == (200, "confirmed")
    assert await shop.cancel(tid) == (200, "confirmed")
    assert (await browser.get(f"/download?TID={tid}"))[0] == 403
    _, page = await browser.get(f"/return?TID={tid}")
    assert 'data-state="cancelled"' in page.replace("'", '"')
    order = await shop.ask_agent(f"/orders/{tid}")
    assert order["refunded"] == order["amount"]
    await until_book(shop, tid, "cancelled")


async def test_staff_cancel_an_order_that_nobody_has_paid(world: World, shop: ExampleShop, browser: Browser) -> None:
    tid, location = await browser.order()
    assert await shop.cancel(tid) == (200, "confirmed")
    with pytest.raises(GatewayRefused):
        await pay(world.customers["hong"], location)
    assert (await shop.cancel("A" * 22))[0] == 404
    assert (await shop.cancel("../line"))[0] == 404


# --- the button ---------------------------------------------------------------------------------------------------------------------------


async def test_what_is_paid_at_the_button_is_downloaded_and_nothing_before(world: World, shop: ExampleShop, browser: Browser) -> None:
    tid, location = await browser.order("here")
    assert location == f"/order?TID={tid}"
    async with clicked(world, browser, tid) as window:
        assert (await browser.get(f"/download?TID={tid}"))[0] == 403
        assert (await window.pay()).state == "captured"
    _, page = await browser.get(f"/return?TID={tid}")
    assert 'data-state="settled" data-final="true"' in page
    assert "<script" not in page
    assert (await browser.get(f"/download?TID={tid}"))[0] == 200
    assert (await browser.relay(tid))[0] == 409
    await until_book(shop, tid, "settled")


async def test_both_ways_are_one_order_and_it_is_paid_once(world: World, shop: ExampleShop, browser: Browser) -> None:
    """Declined at the button, then paid at the bank's page; the button that still stands on an old page takes nothing any more."""
    form = await browser.form()
    first, again = await browser.post(form | {"way": "here"}), await browser.post(form)
    tid = parse_qs(urlsplit(first[1]).query)["TID"][0]
    assert f"TID={tid}" in again[1]
    async with clicked(world, browser, tid) as window, clicked(world, browser, tid) as late:
        assert (await window.pay(Password("wrong"))).reason == "wrong_factor"
        assert "data-hanbit-relay" in (await browser.get(f"/order?TID={tid}"))[1]
        assert await pay(world.customers["hong"], again[1]) == "captured"
        with pytest.raises((ShopRefused, GatewayRefused)):
            await late.pay()
    order = await shop.ask_agent(f"/orders/{tid}")
    assert (order["state"], order["refunded"]) == ("settled", "0")
    assert len(await messages(shop, tid, "hanbit-settled")) == 1
    assert await messages(shop, tid, "hanbit-authorization-request") != []


async def test_two_windows_of_one_order_pay_it_once(world: World, shop: ExampleShop, browser: Browser) -> None:
    tid, _ = await browser.order("here")
    async with clicked(world, browser, tid) as one, clicked(world, browser, tid) as other:
        ended = await asyncio.gather(one.pay(), other.pay(), return_exceptions=True)
    assert [getattr(each, "state", None) for each in ended].count("captured") == 1
    assert (await shop.ask_agent(f"/orders/{tid}"))["state"] == "settled"
    assert shop.book[tid]["units"] == 1


async def messages(shop: ExampleShop, tid: str, typ: str) -> list[Any]:
    return [one for one in (await shop.ask_agent(f"/orders/{tid}/messages"))["messages"] if one["typ"] == typ]


async def test_the_relay_is_nobodys_but_its_own_browsers(shop: ExampleShop, browser: Browser, stranger: Browser) -> None:
    tid, _ = await browser.order("here")
    await stranger.order("here")
    assert (await browser.relay(tid))[0] == 200
    for step, body in (("", None), ("/sessions", b'{"session_request":"x.y.z"}'), ("/purchases", b"{}")):
        assert (await stranger.relay(tid, step, body))[0] == 404
        assert (await browser.relay("A" * 22, step, body))[0] == 404
    assert await messages(shop, tid, "hanbit-session") == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"\xff", b'{"session_request":"x"}', b'{"session_request":1}', b"[" * 100_000, b"x" * 600_000]
)
async def test_what_no_window_sent_is_refused_and_changes_nothing(shop: ExampleShop, browser: Browser, body: bytes) -> None:
    tid, _ = await browser.order("here")
    before = await shop.ask_agent(f"/orders/{tid}/messages")
    for step in ("/sessions", "/purchases"):
        with contextlib.suppress(aiohttp.ClientConnectionError):  # or it hangs up on what is too long
            status, _ = await browser.relay(tid, step, body)
            assert 400 <= status < 500
    for step in ("/session", "/", "/sessions/", "/purchases?TID=x", "//sessions", "/../../line"):
        assert (await browser.relay(tid, step, b"{}"))[0] in {400, 404}
    assert await shop.ask_agent(f"/orders/{tid}/messages") == before


async def test_only_a_page_that_can_be_paid_lets_the_banks_script_in(world: World, shop: ExampleShop, browser: Browser) -> None:
    tid, location = await browser.order("here")
    bank = world.settings.public_url
    async with browser.http.get(f"{shop.url}/order?TID={tid}") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert re.search(rf"; script-src 'sha256-[\w+/=]+' {bank}/button\.js; connect-src 'self'$", policy)
        assert f'<script src="{bank}/button.js" defer>' in await answer.text()
    assert await pay(world.customers["hong"], location if "ORDER=" in location else (await browser.relay(tid))[1]["redirect"]) == "captured"
    async with browser.http.get(f"{shop.url}/order?TID={tid}") as answer:
        assert "script" not in answer.headers["Content-Security-Policy"]


async def test_a_sold_out_shop_says_so_in_the_window_and_may_think_again(world: World, shop: ExampleShop, browser: Browser) -> None:
    filler, held = "U" * 22, sum(one["units"] for one in shop.book.values() if one["state"] in {"held", "settled"})
    assert (await shop.call_back(event("confirm", filler, None, 20 - held)))[0] == 200
    tid, _ = await browser.order("here")
    async with clicked(world, browser, tid) as window:
        try:
            outcome = await window.pay()
            assert (outcome.state, outcome.reason, outcome.unverified_words) == ("unknown", "shop_refused", "The score has just sold out.")
            assert await messages(shop, tid, "hanbit-authorization-request") == []
            assert tid not in shop.book
        finally:
            await shop.call_back(event("voided", filler, 50_000, 20 - held))
        assert (await window.pay()).state == "captured"


async def test_the_last_one_is_sold_once_at_the_button_too(world: World, shop: ExampleShop, browser: Browser, stranger: Browser) -> None:
    filler, held = "T" * 22, sum(one["units"] for one in shop.book.values() if one["state"] in {"held", "settled"})
    assert (await shop.call_back(event("confirm", filler, None, 19 - held)))[0] == 200
    try:
        (mine, _), (theirs, location) = await browser.order("here"), await stranger.order()
        async with clicked(world, browser, mine) as window:
            paid = await asyncio.gather(window.pay(), pay(world.customers["kim"], location))
            assert sorted((paid[0].state, paid[1])) in (["captured", "refused"], ["captured", "unknown"])
        assert sum(one["units"] for one in shop.book.values() if one["state"] in {"held", "settled"}) == 20
        assert sorted([(await browser.get(f"/download?TID={mine}"))[0], (await stranger.get(f"/download?TID={theirs}"))[0]]) == [200, 403]
    finally:
        await shop.call_back(event("voided", filler, 40_000, 19 - held))


@pytest.mark.parametrize("path", ["/nothing", "/orders", "//", "/../index.php", "/index.php", "/shop.css", "/return/", "/%00"])
async def test_other_addresses_are_not_found_in_the_visitors_language(shop: ExampleShop, browser: Browser, path: str) -> None:
    async with browser.http.get(shop.url + path, headers={"Accept-Language": "en-GB"}) as answer:
        assert answer.status in {400, 404}
        assert "Traceback" not in await answer.text()


async def test_pages_speak_the_visitors_language_and_carry_a_strict_policy(shop: ExampleShop, browser: Browser) -> None:
    for header, lang in (("en-GB,en;q=0.9", "en"), ("ko-KR", "ko"), ("fr", "ko"), ("__proto__", "ko"), ("", "ko")):
        async with browser.http.get(shop.url, headers={"Accept-Language": header}, cookies={"lang": ""}) as answer:
            assert re.search(rf"<html lang=[\"']{lang}[\"']>", await answer.text()), header
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
            assert answer.headers["Cache-Control"] == "no-store"
        browser.http.cookie_jar.clear()


async def test_a_body_beyond_every_order_is_not_taken(shop: ExampleShop) -> None:
    for path in ("/hanbit", "/orders"):
        with contextlib.suppress(aiohttp.ClientConnectionError):  # or it hangs up
            async with shop.http.post(shop.url + path, data=b"x" * 1_000_000) as answer:
                assert 400 <= answer.status < 500
    async with shop.http.get(shop.url) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("kind", KINDS)
async def test_while_the_agent_is_away_customers_are_told_and_nothing_is_lost(kind: str, tmp_path: Path) -> None:
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
    async with aiohttp.ClientSession(connector=connector) as http, shop_without_agent(tmp_path, kind, http) as shop:
        browser = Browser(shop, http)
        async with http.post(f"{shop.url}/orders", data=await browser.form(), allow_redirects=False) as answer:
            assert answer.status == 503
            assert "Nothing is lost; please try again in a moment." in await answer.text()
        assert (await browser.get(f"/download?TID={'A' * 22}"))[0] == 503


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stock_of_none_is_sold_to_nobody(kind: str, tmp_path: Path) -> None:
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
    async with aiohttp.ClientSession(connector=connector) as http, shop_without_agent(tmp_path, kind, http, stock=0) as shop:
        status, answer = await shop.call_back(event("confirm", "A" * 22, None))
        assert status == 200
        words = {"ko": "악보가 방금 다 팔렸습니다.", "en": "The score has just sold out."}
        assert json.loads(answer) == {"confirm": False, "message": words}
        assert shop.book == {}


async def test_each_is_short_enough_to_read_at_one_go() -> None:
    for path in ("shop-node/shop.mjs", "shop-php/index.php"):
        assert len((EXAMPLES / path).read_text("utf-8").splitlines()) < LINES_MAX
