"""The agent's side of the button: a shop's server passes on what the window sends, and cannot do it wrong in a way that costs anything."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from hanbit.kernel.clock import ManualClock
from hanbit.merchant.agent import secret_files, serve, table
from hanbit.merchant.agent.serve import read_listen
from hanbit.merchant.states import State
from tests.unit.merchant.agent.support import Agent, receiver
from tests.unit.merchant.purchases import Customer, Till, dump, opened
from tests.unit.wallet.parties import AT
from tests.waiting import PATIENCE_S


@dataclass
class Site:
    """An agent whose shop has this till at the other end of its line, and a customer in front of an order."""

    agent: Agent
    till: Till
    customer: Customer

    @property
    def order(self) -> str:
        return f"/orders/{self.customer.tid}"

    async def post(self, what: str, body: Any) -> Any:
        """A call as the shop's relay makes it: no Idempotency-Key."""
        return await self.agent.post(f"{self.order}/{what}", body, key=None)


@asynccontextmanager
async def site_of(folder: Path) -> AsyncIterator[Site]:
    till, clock = Till(), ManualClock(AT)
    shop = partial(opened, folder, till, clock=clock)
    async with serve.around(shop, folder, read_listen("127.0.0.1:0"), clock) as running, aiohttp.ClientSession() as session:
        token = (folder / secret_files.TOKEN_FILE).read_text("ascii").strip()
        agent = Agent(running, folder, session, token)
        yield Site(agent, till, await Customer.come(running.shop, till))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_of(tmp_path) as found:
        yield found


async def bought(site: Site) -> dict[str, Any]:
    """D5's body in a session that was opened over the agent."""
    purchase = await site.customer.purchase()
    return dict(msgspec.to_builtins(purchase))


async def test_a_relay_sells(site: Site) -> None:
    checkout = (await site.agent.get(site.order)).json["checkout"]
    assert checkout == msgspec.to_builtins(await site.agent.shop.checkout(site.customer.tid))
    asking = site.customer.ask().request.compact
    first = await site.post("sessions", {"session_request": asking})
    again = await site.post("sessions", {"session_request": asking})
    assert (first.status, first.body) == (200, again.body)
    assert set(first.json) == {"session", "certificate"}
    body = await bought(site)
    done = await site.post("purchases", body)
    assert (done.status, done.json["result"]) == (200, "approved")
    assert done.json["receipt"]
    assert (await site.post("purchases", body)).body == done.body
    order = (await site.agent.get(site.order)).json
    assert (order["state"], order["may_deliver"], order["checkout"]) == ("settled", True, None)
    assert order["outcome"].split(".")[0] == order["outcome"].partition(".")[0]
    assert len(site.till.frames) == 1


async def test_pending_is_answered_anew_once_the_payment_server_has_spoken(site: Site) -> None:
    site.till.decide = lambda *_: None
    body = await bought(site)
    waits = await site.post("purchases", body)
    assert (waits.status, waits.json) == (200, {"result": "pending", "reason": None, "receipt": None, "message": None})
    order = (await site.agent.get(site.order)).json
    assert (order["state"], order["can"], order["checkout"]) == (State.REQUESTED, ["inquire"], None)
    site.till.decide = lambda till, frame: till.decline(frame)
    async with asyncio.timeout(PATIENCE_S):
        # Whoever comes while a try from before is still on the line hears what that one brings: nothing.
        while (answered := (await site.post("purchases", body)).json)["result"] == "pending":
            pass
    assert answered == {"result": "declined", "reason": "declined", "receipt": None, "message": None}
    assert (await site.agent.get(site.order)).json["checkout"] is not None, "another attempt may follow"


async def test_the_outcome_is_told_by_the_call_back_of_every_other(tmp_path: Path) -> None:
    async with receiver() as shop:
        (tmp_path / "agent.toml").write_text(f'[[endpoints]]\nname = "shop"\nurl = "{shop.url}"\n', "utf-8")
        async with site_of(tmp_path) as site:
            await site.post("purchases", await bought(site))
            (told, *_) = await shop.until(1)
            assert told.json["type"] == "order.settled"
            assert told.json["data"]["tid"] == site.customer.tid
            assert told.json["data"]["may_deliver"] is True


@pytest.mark.parametrize(
    ("what", "body", "status"),
    [
        ("sessions", {}, 400),
        ("sessions", {"session_request": "a.b.c"}, 400),
        ("sessions", {"session_request": 1}, 400),
        ("sessions", {"session_request": f"{'A' * 20}.{'A' * 20}.{'A' * 86}"}, 400),
        ("sessions", {"session_request": "a" * 13_000}, 400),
        ("sessions", {"session_request": "x", "more": 1}, 400),
        ("purchases", {}, 400),
        ("purchases", {"oi": "", "pimd": "", "dual": "", "envelope": ""}, 400),
        ("purchases", {"oi": "{}", "pimd": "A" * 43, "dual": f"{'A' * 20}.{'A' * 20}.{'A' * 86}", "envelope": "x"}, 400),
        ("purchases", {"oi": "x" * table.PURCHASE_MAX, "pimd": "A" * 43, "dual": "x", "envelope": "x"}, 413),
    ],
)
async def test_what_no_window_sends_is_refused_and_changes_nothing(
    site: Site, tmp_path: Path, what: str, body: dict[str, Any], status: int
) -> None:
    before = dump(tmp_path)
    got = await site.post(what, body)
    assert (got.status, json.loads(got.body)["status"]) == (status, status)
    assert (dump(tmp_path), site.till.frames) == (before, [])


async def test_a_purchase_that_was_altered_on_its_way_is_the_callers_fault(site: Site, tmp_path: Path) -> None:
    body = await bought(site)
    before = dump(tmp_path)
    got = await site.post("purchases", {**body, "oi": body["oi"].replace("220000", "1")})
    assert (got.status, got.json["code"], got.json["detail"]) == (400, "customer_message", "oimd")
    assert (dump(tmp_path), site.till.frames) == (before, [])
    assert (await site.post("purchases", body)).json["result"] == "approved"


async def test_one_session_too_many_waits(site: Site) -> None:
    for _ in range(20):
        assert (await site.post("sessions", {"session_request": site.customer.ask().request.compact})).status == 200
    got = await site.post("sessions", {"session_request": site.customer.ask().request.compact})
    assert (got.status, got.json["code"]) == (429, "too_many_tries")
    assert int(got.headers["Retry-After"]) > 0


async def test_without_the_token_or_from_a_page_nothing_is_passed_on(site: Site) -> None:
    asking = {"session_request": site.customer.ask().request.compact}
    for options in ({"token": None}, {"token": "wrong"}, {"headers": {"Origin": "https://shop.example"}}):
        got = await site.agent.post(f"{site.order}/sessions", asking, key=None, **options)
        assert got.status in (401, 403)
    assert (await site.agent.post("/orders/" + "x" * 22 + "/sessions", asking, key=None)).status == 404
