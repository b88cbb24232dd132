"""`hanbit merchant serve` as a process of its own, between a real payment server and a shop that knows nothing but HTTP."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hanbit.demo.world import DemoShop, Ports, _line_is_up
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import Unavailable
from hanbit.loopback import LoopbackResolver
from hanbit.settings import load
from hanbit.wallet.client import Http
from hanbit.wallet.store import Store
from tests.flows.crash_processes import PATIENCE_S, Child, Site, insist
from tests.flows.crash_world import PRICE
from tests.unit.merchant.agent.support import Received, Receiver, receiver, register
from tests.unit.merchant.agent.test_callbacks import verify_as_the_standard_says

EVENTS = ["order.settled", "order.voided", "order.closed", "order.cancelled", "order.refunded", "order.confirm"]


@dataclass(slots=True)
class AgentShop(DemoShop):
    """The shop as a program that speaks to its agent."""

    return_url: str = ""

    async def call(self, method: str, path: str, body: Any = None, *, key: str = "") -> tuple[int, dict[str, str], Any]:
        token = (self.folder / "agent.token").read_text("ascii").strip()
        headers = {"Authorization": f"Bearer {token}", **({"Idempotency-Key": key} if key else {})}
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            if answer.status == 503:
                raise Unavailable(await answer.text())
            return answer.status, dict(answer.headers), await answer.json(content_type=None)

    def cart(self, number: int = 1) -> dict[str, Any]:
        return {
            "lines": [{"item": "phone", "quantity": number, "price_minor": PRICE}],
            "amount": str(number * PRICE),
            "currency": "KRW",
            "text": "phone",
            "return_url": self.return_url,
        }

    async def order(self, item: str, quantity: int = 1) -> tuple[str, str]:
        status, _, made = await self.call("POST", "/orders", self.cart(quantity), key=f"{item}-{quantity}")
        assert status == 201, made
        return made["tid"], made["redirect"]

    async def state(self, tid: str, *, wait: bool = False) -> dict[str, Any]:
        _, _, order = await self.call("GET", f"/orders/{tid}{'?wait=10' if wait else ''}")
        return dict(order)


@asynccontextmanager
async def agent_site(place: tuple[Path, Ports], shop: Receiver | None, *, fails_at: str = "") -> AsyncIterator[tuple[Site, AgentShop]]:
    """A payment server and an agent on this folder, which both leave when the test ends."""
    folder, ports = place
    if shop is not None:
        register(folder / "shop", ("shop", shop.url, EVENTS))
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=40)) as http, Http() as wallets:
        settings = load(folder / "gateway")
        serve = ["-m", "hanbit", "serve", "--data", str(folder / "gateway")]
        gateway = Child("gateway", serve, f"{settings.public_url}/readyz", folder / "gateway.log")
        url = f"http://127.0.0.1:{ports.shops[1]}"
        serve = ["-m", "hanbit", "merchant", "serve", str(folder / "shop"), "--listen", f"127.0.0.1:{ports.shops[1]}"]
        agent = Child("agent", serve, f"{url}/health", folder / "agent.log")
        pages = AgentShop(url, folder / "shop", http, return_url=f"http://shop.localhost:{ports.shops[0]}/orders")
        enrolled = Store(folder / "wallet").enrolment(settings.operator)
        assert enrolled is not None
        accounts = json.loads((folder / "accounts.json").read_text("ascii"))
        try:
            await gateway.start()
            await agent.start(fails_at)
            await gateway.ready(http)
            await agent.ready(http, _line_is_up)
            yield Site(folder, gateway, agent, pages, http, wallets, accounts, enrolled), pages
        finally:
            for child in (agent, gateway):
                if child.alive:
                    await child.stop()


def command_line(number: int) -> str:
    """What everybody on the machine can read of a process."""
    return Path(f"/proc/{number}/cmdline").read_bytes().decode()


def says_yes(shop: Receiver) -> None:
    async def answer(received: Received) -> web.StreamResponse:
        return web.json_response({"confirm": True}) if received.json["type"] == "order.confirm" else web.Response()

    shop.answer = answer


async def test_a_shop_that_knows_only_http_sells_a_phone(place: tuple[Path, Ports]) -> None:
    async with receiver() as shop, agent_site(place, shop) as (s, pages):
        says_yes(shop)
        tid, location = await pages.order("phone")
        waiting = asyncio.create_task(pages.state(tid, wait=True))
        assert (await s.pay(s.wallet(), location)).state == "captured"
        order = await waiting
        assert (order["state"], order["may_deliver"], order["can"]) == ("settled", True, ["deliver", "cancel"])
        asked, settled = await shop.until(2)
        secret = (s.folder / "shop/callbacks/shop.secret").read_text("ascii")
        now = SystemClock().now()
        assert verify_as_the_standard_says(secret, asked, now)["type"] == "order.confirm"
        told = verify_as_the_standard_says(secret, settled, now)
        assert (told["type"], told["data"]["tid"], told["data"]["outcome"]) == ("order.settled", tid, order["outcome"])
        status, _, line = await pages.call("GET", "/line")
        assert (status, line["up"], line["down_reason"]) == (200, True, None)
        await s.proven()


async def test_a_shop_that_knows_only_http_gives_money_back(place: tuple[Path, Ports]) -> None:
    async with receiver() as shop, agent_site(place, shop) as (s, pages):
        says_yes(shop)
        tid, location = await pages.order("phone")
        await s.pay(s.wallet(), location)
        assert await s.final(tid) == "captured"
        path = f"/orders/{tid}/cancellations"
        status, _, part = await pages.call("POST", path, {"amount": "20000", "reason": "scratched"}, key="part")
        assert (status, part["cancellation"]["state"], part["order"]["remaining"]) == (201, "confirmed", str(PRICE - 20_000))
        status, _, rest = await pages.call("POST", path, {"reason": "does not fit"}, key="rest")
        assert (status, rest["order"]["state"], rest["order"]["refunded"]) == (201, "cancelled", str(PRICE))
        told = {received.json["type"]: received.json["data"] for received in await shop.until(4)}
        assert told["order.refunded"]["refunded"] == "20000"
        assert (told["order.cancelled"]["tid"], told["order.cancelled"]["may_deliver"]) == (tid, False)
        await s.proven()


async def test_a_shop_that_says_no_is_not_paid(place: tuple[Path, Ports]) -> None:
    async with receiver() as shop, agent_site(place, shop) as (s, pages):

        async def answer(received: Received) -> web.StreamResponse:
            no = {"confirm": False, "message": {"ko": "다 팔렸습니다.", "en": "Sold out."}}
            return web.json_response(no) if received.json["type"] == "order.confirm" else web.Response()

        shop.answer = answer
        tid, location = await pages.order("phone")
        assert (await s.pay(s.wallet(), location)).state == "refused"
        assert await s.final(tid) == "refused"
        calls = await shop.until(2)
        assert [call.json["type"] for call in calls] == ["order.confirm", "order.voided"]
        await s.proven()


@pytest.mark.parametrize("moment", ["agent.key.kept", "merchant.commit.after", "agent.act.done"])
async def test_an_agent_killed_while_it_places_an_order_places_it_once(place: tuple[Path, Ports], moment: str) -> None:
    async with agent_site(place, None, fails_at=moment) as (s, pages):
        with pytest.raises(aiohttp.ClientError):
            await pages.order("phone")
        await s.shop.killed()
        await s.shop.start()
        tid, location = await insist(lambda: pages.order("phone"))
        assert (await insist(lambda: pages.order("phone"))) == (tid, location)
        _, _, listed = await pages.call("GET", "/orders")
        assert [order["tid"] for order in listed["orders"]] == [tid]
        status, _, problem = await pages.call("POST", "/orders", pages.cart(2), key="phone-1")
        assert (status, problem["code"]) == (409, "idempotency_key_reused")
        await s.shop.ready(s.http, _line_is_up)
        assert (await s.pay(s.wallet(), location)).state == "captured"
        await s.proven()


async def test_an_agent_killed_after_a_call_back_tells_it_again_under_the_same_id(place: tuple[Path, Ports]) -> None:
    async with receiver() as shop, agent_site(place, shop, fails_at="agent.called") as (s, pages):
        says_yes(shop)
        tid, location = await pages.order("phone")
        await s.pay(s.wallet(), location)
        await s.shop.killed()
        first = [call for call in shop.calls if call.json["type"] == "order.settled"]
        assert len(first) == 1
        await s.shop.start()
        calls = await shop.until(3)
        assert [call.json["type"] for call in calls] == ["order.confirm", "order.settled", "order.settled"]
        assert (calls[2].id, calls[2].body) == (calls[1].id, calls[1].body)

        async def delivered() -> None:
            _, _, log = await pages.call("GET", f"/callbacks/deliveries?tid={tid}")
            if [one["state"] for one in log["deliveries"]] != ["delivered"]:
                raise Unavailable

        await insist(delivered)
        assert len(shop.calls) == 3


async def test_a_stop_answers_whoever_waits_and_leaves_nothing_behind(place: tuple[Path, Ports]) -> None:
    async with agent_site(place, None) as (s, pages):
        tid, _ = await pages.order("phone")
        waiting = asyncio.create_task(pages.call("GET", f"/orders/{tid}?wait=25"))
        for _ in range(20):  # what was asked before these were asked and answered has come
            await pages.state(tid)
        s.shop.process.send_signal(signal.SIGTERM)
        status, _, order = await asyncio.wait_for(waiting, PATIENCE_S)
        assert (status, order["state"]) == (200, "placed")
        assert await asyncio.wait_for(s.shop.process.wait(), PATIENCE_S) == 0, s.shop.log_end()
        with pytest.raises(aiohttp.ClientConnectionError):
            await pages.state(tid)


async def test_a_second_agent_on_a_folder_is_refused_and_changes_nothing(place: tuple[Path, Ports]) -> None:
    async with agent_site(place, None) as (s, pages):
        token = (s.folder / "shop/agent.token").read_text("ascii")
        serve = ["-m", "hanbit", "merchant", "serve", str(s.folder / "shop"), "--listen", "127.0.0.1:0"]
        second = await asyncio.create_subprocess_exec(sys.executable, *serve, stderr=asyncio.subprocess.PIPE)
        _, errors = await asyncio.wait_for(second.communicate(), PATIENCE_S)
        assert second.returncode == 1
        assert b"another process" in errors
        assert b"has the order book" in errors
        assert (s.folder / "shop/agent.token").read_text("ascii") == token
        assert (await pages.call("GET", "/health"))[0] == 200


async def test_its_secrets_are_in_no_log_and_on_no_command_line(place: tuple[Path, Ports]) -> None:
    async with receiver() as shop, agent_site(place, shop) as (s, pages):
        says_yes(shop)
        await pages.order("phone")
        await pages.call("POST", "/callbacks/test", {}, key="test")
        await shop.until(1)
        with contextlib.suppress(Unavailable):
            await pages.call("POST", f"/orders/{'A' * 22}/withdraw", key="other")
        token = (s.folder / "shop/agent.token").read_text("ascii").strip()
        secret = (s.folder / "shop/callbacks/shop.secret").read_text("ascii").strip()
        command = command_line(s.shop.process.pid)
        log = (s.folder / "agent.log").read_text("utf-8")
        kept = (s.folder / "shop/agent.db").read_bytes().decode("latin-1")
        assert '"route": "/orders"' in log.replace('":"', '": "')
        for where in (command, log, kept):
            assert token not in where
            assert secret.removeprefix("whsec_") not in where
