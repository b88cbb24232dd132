"""order.confirm: the shop has a say in each order, and only a clear yes in time is a yes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hanbit.merchant import handlers
from hanbit.merchant.agent import confirm
from hanbit.protocols.redirect.messages import Words
from tests.unit.merchant.agent.support import Agent, Received, Receiver, agent_of, receiver, register
from tests.unit.merchant.agent.test_callbacks import verify_as_the_standard_says
from tests.unit.merchant.support import Parties


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


@pytest.fixture
async def agent(parties: Parties, tmp_path: Path, shop: Receiver) -> AsyncIterator[Agent]:
    register(tmp_path, ("shop", shop.url, ["order.settled", "order.confirm"]))
    async with agent_of(parties, tmp_path) as running:
        yield running


def says(status: int, body: Any, kind: str = "application/json") -> Any:
    async def answer(_: Received) -> web.StreamResponse:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=content, headers={"Content-Type": kind, "Location": "http://127.0.0.1:1/"})

    return answer


async def test_a_clear_yes_confirms_and_the_question_is_signed(parties: Parties, agent: Agent, shop: Receiver) -> None:
    shop.answer = says(200, {"confirm": True})
    order = await agent.shop.order(await agent.place())
    parties.read_confirmation(await agent.shop.receive(parties.notice(order).compact))
    (asked,) = await shop.until(1)
    secret = (agent.directory / "callbacks" / "shop.secret").read_text("ascii")
    told = verify_as_the_standard_says(secret, asked, parties.clock.now())
    assert (told["type"], told["data"]["tid"], told["data"]["amount"]) == ("order.confirm", order.tid, "220000")
    assert told["data"]["may_deliver"] is False


async def test_a_no_refuses_in_the_shops_words(parties: Parties, agent: Agent, shop: Receiver) -> None:
    shop.answer = says(200, {"confirm": False, "message": {"ko": "다 팔렸습니다.", "en": "Sold out."}})
    order = await agent.shop.order(await agent.place())
    refusal = parties.read_refusal(await agent.shop.receive(parties.notice(order).compact)).claims
    assert (refusal.reason, refusal.message) == ("shop_refused", Words(ko="다 팔렸습니다.", en="Sold out."))


async def test_a_no_without_words_has_ours(parties: Parties, agent: Agent, shop: Receiver) -> None:
    shop.answer = says(200, {"confirm": False})
    order = await agent.shop.order(await agent.place())
    assert parties.read_refusal(await agent.shop.receive(parties.notice(order).compact)).claims.reason == "shop_refused"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"confirm": True}),
        (201, {"confirm": True}),
        (204, b""),
        (302, {"confirm": True}),
        (404, {"confirm": True}),
        (200, b""),
        (200, b"yes"),
        (200, b"true"),
        (200, {"confirm": "true"}),
        (200, {"confirm": 1}),
        (200, {"confirm": None}),
        (200, {}),
        (200, {"confirm": True, "extra": 1}),
        (200, [{"confirm": True}]),
        (200, {"confirm": False, "message": "sold out"}),
        (200, {"confirm": False, "message": {"ko": "", "en": ""}}),
        (200, {"confirm": False, "message": {"ko": "x" * 201, "en": "x"}}),
        (200, {"confirm": False, "message": {"ko": "줄\n바꿈", "en": "x"}}),
        (200, b'{"confirm": true}' + b" " * 20_000),
        (200, b"[" * 10_000),
        (200, b'{"confirm": false, "confirm": true}'),
        (200, b"\xff"),
    ],
)
async def test_whatever_is_no_clear_answer_refuses(parties: Parties, agent: Agent, shop: Receiver, status: int, body: Any) -> None:
    shop.answer = says(status, body)
    order = await agent.shop.order(await agent.place())
    assert parties.read_refusal(await agent.shop.receive(parties.notice(order).compact)).claims.reason == "shop_silent"
    assert (await agent.get(f"/orders/{order.tid}")).json["state"] == "refused"
    assert len(shop.calls) == 1


async def test_silence_refuses_in_time(parties: Parties, agent: Agent, shop: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert confirm.WITHIN_S < handlers.CONFIRM_WITHIN_S == 3.0
    monkeypatch.setattr(confirm, "WITHIN_S", 0.2)
    never = asyncio.Event()

    async def silent(_: Received) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    shop.answer = silent
    order = await agent.shop.order(await agent.place())
    assert parties.read_refusal(await agent.shop.receive(parties.notice(order).compact)).claims.reason == "shop_silent"
    never.set()


async def test_a_shop_that_is_away_refuses(parties: Parties, tmp_path: Path) -> None:
    register(tmp_path, ("shop", "http://127.0.0.1:1/nobody", ["order.confirm"]))
    async with agent_of(parties, tmp_path) as agent:
        order = await agent.shop.order(await agent.place())
        assert parties.read_refusal(await agent.shop.receive(parties.notice(order).compact)).claims.reason == "shop_silent"


async def test_the_shop_is_not_asked_about_a_notice_that_does_not_match(parties: Parties, agent: Agent, shop: Receiver) -> None:
    shop.answer = says(200, {"confirm": True})
    order = await agent.shop.order(await agent.place())
    refusal = parties.read_refusal(await agent.shop.receive(parties.notice(order, amount="1").compact))
    assert refusal.claims.reason not in {"shop_silent", "shop_refused"}
    assert shop.calls == []
