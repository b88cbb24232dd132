"""Cancelling through the agent: durable before it is sent, once for each key, and an order changes only on the signed answer."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hanbit.protocols.cancellation.messages import Cancel
from hanbit.protocols.signed import SignedMessage
from tests.unit.merchant.agent.support import Agent, Receiver, agent_of, receiver, register
from tests.unit.merchant.agent.test_api import is_problem
from tests.unit.merchant.support import PHONE, GatewayLine, Parties, settled

WHOLE = PHONE.amount_minor


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


@pytest.fixture
async def agent(parties: Parties, tmp_path: Path, shop: Receiver) -> AsyncIterator[Agent]:
    register(tmp_path, ("shop", shop.url, ["order.cancelled", "order.refunded"]))
    async with agent_of(parties, tmp_path) as running:
        obliges(parties, running)
        yield running


def obliges(parties: Parties, agent: Agent) -> list[SignedMessage[Cancel]]:
    """The gateway refunds what is asked; returns what it was asked."""
    line = agent.shop.line
    assert isinstance(line, GatewayLine)
    refunded = 0

    def judge(cancel: SignedMessage[Cancel]) -> str:
        nonlocal refunded
        refunded += int(cancel.claims.amount)
        return parties.cancelled(cancel, refunded, WHOLE - refunded).compact

    line.judge = judge
    return line.cancels


async def test_a_part_and_then_the_rest_of_a_paid_order_are_taken_back(parties: Parties, agent: Agent, shop: Receiver) -> None:
    order = await settled(parties, agent.shop)
    assert (await agent.get(f"/orders/{order.tid}")).json["can"] == ["deliver", "cancel"]
    part = await agent.post(f"/orders/{order.tid}/cancellations", {"amount": "20000", "reason": "scratched"})
    assert part.status == 201
    made = part.json["cancellation"]
    assert (made["state"], made["amount"], made["currency"], made["reason"], made["goods"]) == (
        "confirmed",
        "20000",
        "KRW",
        "scratched",
        "awaited",
    )
    left = part.json["order"]
    assert (left["state"], left["refunded"], left["remaining"], left["may_deliver"]) == ("settled", "20000", "200000", True)
    assert left["can"] == ["deliver", "cancel", "returned"]
    (first,) = await shop.until(1)
    said = first.json["data"]
    assert (first.json["type"], said["tid"], said["refunded"], said["remaining"]) == ("order.refunded", order.tid, "20000", "200000")
    assert (said["state"], said["may_deliver"]) == ("settled", True)
    rest = (await agent.post(f"/orders/{order.tid}/cancellations", {"reason": "does not fit", "goods": False})).json
    assert (rest["cancellation"]["goods"], rest["order"]["state"], rest["order"]["remaining"]) == ("none", "cancelled", "0")
    assert rest["order"]["may_deliver"] is False
    _, told = await shop.until(2)
    assert (told.json["type"], told.json["data"]["tid"], told.json["data"]["refunded"]) == ("order.cancelled", order.tid, "220000")
    listed = (await agent.get(f"/orders/{order.tid}/cancellations")).json["cancellations"]
    assert [one["id"] for one in listed] == [made["id"], rest["cancellation"]["id"]]
    assert is_problem(await agent.post(f"/orders/{order.tid}/cancellations", {"reason": "again"}), 409, "wrong_state")


async def test_the_same_key_cancels_once_also_where_the_answer_was_lost(parties: Parties, tmp_path: Path) -> None:
    body = {"amount": "20000", "reason": "scratched"}
    async with agent_of(parties, tmp_path) as agent:
        asked = obliges(parties, agent)
        order = await settled(parties, agent.shop)
        path = f"/orders/{order.tid}/cancellations"
        first = await agent.post(path, body, key="refund-1")
        assert (await agent.post(path, body, key="refund-1")).body == first.body
        assert is_problem(await agent.post(path, {**body, "amount": "10000"}, key="refund-1"), 409, "idempotency_key_reused")
        assert len(asked) == 1
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        connection.execute("UPDATE requests SET status = NULL, body = NULL WHERE key = 'refund-1'")
    connection.close()
    async with agent_of(parties, tmp_path) as agent:
        asked = obliges(parties, agent)
        again = await agent.post(path, body, key="refund-1")
        assert (again.status, again.json["cancellation"]["id"]) == (201, first.json["cancellation"]["id"])
        assert asked == []
        assert (await agent.get(f"/orders/{order.tid}")).json["refunded"] == "20000"


async def test_a_cancellation_that_the_gateway_has_not_answered_is_asked_and_nothing_has_changed(
    parties: Parties, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(agent.shop.line, GatewayLine)
    agent.shop.line.judge = lambda _: None
    order = await settled(parties, agent.shop)
    got = await agent.post(f"/orders/{order.tid}/cancellations", {"reason": "does not fit"})
    assert (got.status, got.json["cancellation"]["state"]) == (201, "asked")
    assert (got.json["order"]["state"], got.json["order"]["refunded"], got.json["order"]["can"]) == ("settled", "0", ["deliver"])
    assert (await agent.get("/orders")).json["orders"][0]["can"] == ["deliver"]
    assert is_problem(await agent.post(f"/orders/{order.tid}/cancellations", {"reason": "again"}), 409, "wrong_state")


async def test_a_refusal_is_told_with_its_reason(parties: Parties, agent: Agent) -> None:
    assert isinstance(agent.shop.line, GatewayLine)
    agent.shop.line.judge = lambda cancel: parties.not_cancelled(cancel, "funds", 0, WHOLE).compact
    order = await settled(parties, agent.shop)
    got = (await agent.post(f"/orders/{order.tid}/cancellations", {"reason": "does not fit"})).json
    assert (got["cancellation"]["state"], got["cancellation"]["refusal"]) == ("refused", "funds")
    assert (got["order"]["state"], got["order"]["remaining"]) == ("settled", "220000")


async def test_goods_come_back_once(parties: Parties, agent: Agent) -> None:
    order = await settled(parties, agent.shop)
    assert is_problem(await agent.post(f"/orders/{order.tid}/returned"), 409, "wrong_state")
    await agent.post(f"/orders/{order.tid}/cancellations", {"reason": "does not fit"})
    assert (await agent.get(f"/orders/{order.tid}")).json["can"] == ["returned"]
    for _ in range(2):
        got = await agent.post(f"/orders/{order.tid}/returned")
        assert (got.status, [one["goods"] for one in got.json["cancellations"]]) == (200, ["returned"])
    assert (await agent.get(f"/orders/{order.tid}")).json["can"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"reason": ""}, 400),
        ({"reason": "x" * 201}, 400),
        ({"reason": "line\nfeed"}, 400),
        ({"reason": "x", "amount": "0"}, 400),
        ({"reason": "x", "amount": 1}, 400),
        ({"reason": "x", "amount": "-1"}, 400),
        ({"reason": "x", "amount": "220001"}, 409),
        ({"reason": "x", "goods": "none"}, 400),
        ({"reason": "x", "currency": "KRW"}, 400),
    ],
)
async def test_a_cancellation_of_wrong_shape_or_of_too_much_asks_nothing(
    parties: Parties, agent: Agent, body: dict[str, Any], status: int
) -> None:
    order = await settled(parties, agent.shop)
    assert isinstance(agent.shop.line, GatewayLine)
    assert is_problem(await agent.post(f"/orders/{order.tid}/cancellations", body), status)
    assert agent.shop.line.cancels == []
    assert (await agent.get(f"/orders/{order.tid}/cancellations")).json == {"cancellations": []}


async def test_cancellations_of_unknown_orders_look_like_unknown_orders(agent: Agent) -> None:
    for got in (
        await agent.get(f"/orders/{'A' * 22}/cancellations"),
        await agent.post(f"/orders/{'A' * 22}/cancellations", {"reason": "x"}),
        await agent.post(f"/orders/{'A' * 22}/returned"),
    ):
        assert is_problem(got, 404, "not_found")
