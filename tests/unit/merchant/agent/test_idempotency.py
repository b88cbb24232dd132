"""Each write happens once: the same key, the same answer; another request, a conflict; after a crash the work is found, not done twice."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel.errors import Unavailable
from hanbit.merchant.agent import idempotency
from hanbit.merchant.agent.store import Store
from tests.unit.merchant.agent.support import ORDER, Agent, agent_of
from tests.unit.merchant.agent.test_api import is_problem
from tests.unit.merchant.support import Parties


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def agent(parties: Parties, tmp_path: Path) -> AsyncIterator[Agent]:
    async with agent_of(parties, tmp_path) as running:
        yield running


@pytest.mark.parametrize("key", [None, " ", "x" * 201, "a b", "é", "a\tb"])
async def test_a_write_without_a_usable_key_is_refused_with_an_advice(agent: Agent, key: str | None) -> None:
    got = await agent.post("/orders", ORDER, key=key)
    assert is_problem(got, 400, "idempotency_key_missing")
    assert "Idempotency-Key" in got.json["advice"]
    assert await agent.placed() == 0


async def test_two_keys_are_none(agent: Agent) -> None:
    headers = [("Authorization", f"Bearer {agent.token}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    async with agent.session.post(f"{agent.running.address}/orders", json=ORDER, headers=headers) as got:
        assert got.status == 400
    assert await agent.placed() == 0


async def test_the_same_request_gets_the_same_bytes_and_places_nothing_more(agent: Agent) -> None:
    first = await agent.post("/orders", ORDER, key="cart-1")
    again = await agent.post("/orders", ORDER, key="cart-1")
    assert (first.status, "Idempotent-Replayed" in first.headers) == (201, False)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert (again.body, again.headers["Location"]) == (first.body, first.headers["Location"])
    assert await agent.placed() == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/orders", {**ORDER, "text": "other"}), (f"/orders/{'A' * 22}/replace", ORDER), ("/callbacks/test", {}), ("/orders", "garbage")],
)
async def test_the_same_key_with_another_request_is_a_conflict(agent: Agent, path: str, body: Any) -> None:
    await agent.post("/orders", ORDER, key="cart-1")
    got = await agent.post(path, body, key="cart-1")
    assert is_problem(got, 400 if body == "garbage" else 409, "bad_input" if body == "garbage" else "idempotency_key_reused")
    assert await agent.placed() == 1


async def test_of_two_at_once_one_places_and_the_other_is_told_to_wait(agent: Agent) -> None:
    answers = await asyncio.gather(*(agent.post("/orders", ORDER, key="cart-1") for _ in range(6)))
    for got in answers:
        if got.status != 201:
            assert is_problem(got, 409, "still_running")
            assert int(got.headers["Retry-After"]) >= 1
    assert len({got.body for got in answers if got.status == 201}) == 1
    assert await agent.placed() == 1


async def test_another_request_under_a_key_at_work_is_a_conflict(agent: Agent) -> None:
    bodies = [{**ORDER, "text": str(number)} for number in range(4)]
    answers = await asyncio.gather(*(agent.post("/orders", body, key="cart-1") for body in bodies))
    assert sorted(got.status for got in answers) == [201, 409, 409, 409]
    assert {got.json["code"] for got in answers if got.status == 409} == {"idempotency_key_reused"}
    assert await agent.placed() == 1


async def test_a_refused_request_leaves_its_key_free(agent: Agent) -> None:
    assert is_problem(await agent.post("/orders", {**ORDER, "amount": "1"}, key="cart-1"), 400)
    assert is_problem(await agent.post(f"/orders/{'A' * 22}/withdraw", key="cart-1"), 404)
    assert (await agent.post("/orders", ORDER, key="cart-1")).status == 201


async def test_a_key_is_forgotten_after_a_day(parties: Parties, agent: Agent) -> None:
    first = await agent.post("/orders", ORDER, key="cart-1")
    parties.clock.advance(idempotency.KEPT_S - 1)
    assert (await agent.post("/orders", ORDER, key="cart-1")).body == first.body
    parties.clock.advance(1)
    second = await agent.post("/orders", {**ORDER, "text": "other"}, key="cart-1")
    assert (second.status, second.json["tid"] == first.json["tid"]) == (201, False)


async def test_old_keys_are_removed(parties: Parties, tmp_path: Path) -> None:
    store = Store(tmp_path / "agent.db")
    once = idempotency.Once(store, parties.clock)

    async def act(_work: str) -> idempotency.Answer:
        return idempotency.Answer(201, b"{}")

    await once.run("old", b"request", act)
    parties.clock.advance(idempotency.KEPT_S)
    await once.run("new", b"request", act)
    await once.purge()
    assert [row[0] for row in await store.read("SELECT key FROM requests")] == ["new"]
    await store.close()


async def test_an_answer_that_could_not_be_stored_is_found_by_the_retry(
    parties: Parties, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is in the book, the agent's file is full: 503, and the same request takes the work up again."""

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "_finish", full)
        assert is_problem(await agent.post("/orders", ORDER, key="cart-1"), 503)
    assert await agent.placed() == 1
    assert is_problem(await agent.post("/orders", {**ORDER, "text": "other"}, key="cart-1"), 409, "idempotency_key_reused")
    got = await agent.post("/orders", ORDER, key="cart-1")
    assert (got.status, await agent.placed()) == (201, 1)
    assert (await agent.get("/orders")).json["orders"][0]["tid"] == got.json["tid"]


@pytest.mark.parametrize("act", ["withdraw", "replace"])
async def test_a_write_whose_answer_was_lost_is_not_done_twice(parties: Parties, tmp_path: Path, act: str) -> None:
    """As after a kill between act and answer: the key stands in the file without its answer."""
    async with agent_of(parties, tmp_path) as agent:
        tid = await agent.place()
        body = ORDER if act == "replace" else None
        first = await agent.post(f"/orders/{tid}/{act}", body, key="once")
        assert first.status in {200, 201}
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        connection.execute("UPDATE requests SET status = NULL, body = NULL WHERE key = 'once'")
    connection.close()
    async with agent_of(parties, tmp_path) as agent:
        again = await agent.post(f"/orders/{tid}/{act}", body, key="once")
        assert again.status == first.status
        assert json.loads(again.body) == json.loads(first.body)
        assert len((await agent.get("/orders")).json["orders"]) == (2 if act == "replace" else 1)


async def test_a_withdrawal_that_the_gateway_has_answered_meanwhile_is_still_a_withdrawal(parties: Parties, agent: Agent) -> None:
    tid = await agent.place()
    await agent.post(f"/orders/{tid}/withdraw", key="first")
    order = await agent.shop.order(tid)
    await agent.shop.receive(parties.closed(order).compact)
    got = await agent.post(f"/orders/{tid}/withdraw", key="second")
    assert (got.status, got.json["state"]) == (200, "closed")


async def test_pieces_of_one_batch_stand_or_fall_by_themselves(tmp_path: Path) -> None:
    store = Store(tmp_path / "agent.db")

    def put(name: str) -> Any:
        return lambda connection: connection.execute("INSERT INTO endpoints VALUES (?, 0)", (name,)).rowcount

    def put_then_refuse(connection: sqlite3.Connection) -> None:
        put("half")(connection)
        raise Unavailable("no")

    results = await asyncio.gather(
        store.write(put("a")), store.write(put("a")), store.write(put_then_refuse), store.write(put("b")), return_exceptions=True
    )
    assert [type(result) for result in results] == [int, sqlite3.IntegrityError, Unavailable, int]
    assert await store.read("SELECT name FROM endpoints ORDER BY name") == [("a",), ("b",)]
    await store.close()
    with pytest.raises(Unavailable):
        await store.write(put("c"))


async def test_a_file_of_another_version_is_not_touched(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "agent.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unavailable, match="schema 99"):
        Store(tmp_path / "agent.db")
