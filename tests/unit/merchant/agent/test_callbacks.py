"""Call-backs: Standard Webhooks as anybody would check them, at least once, in order, for three days, and nobody waits for a slow one."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hanbit.kernel.errors import BadInput
from hanbit.merchant.agent import delivery, outbox, secret_files, settings
from hanbit.merchant.agent.outbox import TrialData
from tests.unit.merchant.agent.support import PATIENCE_S, Agent, Received, Receiver, agent_of, receiver, register
from tests.unit.merchant.agent.test_api import is_problem
from tests.unit.merchant.support import Parties, confirmed


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


def verify_as_the_standard_says(secret: str, received: Received, now: int) -> Any:
    """The recipe of standardwebhooks.com, from its text: nothing of ours."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    timestamp = received.headers["webhook-timestamp"]
    assert abs(int(timestamp) - now) <= 300
    content = f"{received.headers['webhook-id']}.{timestamp}.".encode() + received.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    versions = [part.split(",", 1) for part in received.headers["webhook-signature"].split(" ")]
    assert any(version == "v1" and hmac.compare_digest(signature, expected) for version, signature in versions)
    return json.loads(received.body)


async def settle(parties: Parties, agent: Agent) -> str:
    """An order that is paid; its tid."""
    order, _, confirmation = await confirmed(parties, agent.shop)
    await agent.shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    return order.tid


async def deliveries(agent: Agent, query: str = "") -> list[dict[str, Any]]:
    return list((await agent.get(f"/callbacks/deliveries{query}")).json["deliveries"])


async def until(agent: Agent, state: str, *, tries: int = 0, query: str = "") -> dict[str, Any]:
    """The one delivery, once it has this state and so many attempts."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            (found,) = await deliveries(agent, query)
            if found["state"] == state and len(found["attempts"]) >= tries:
                return found
            await asyncio.sleep(0.02)


# What is told


async def test_a_settled_order_is_told_signed_and_with_its_outcome(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    async with agent_of(parties, tmp_path) as agent:
        tid = await settle(parties, agent)
        (received,) = await shop.until(1)
        secret = (tmp_path / "callbacks" / "shop.secret").read_text("ascii").strip()
        assert (tmp_path / "callbacks" / "shop.secret").stat().st_mode & 0o777 == 0o600
        told = verify_as_the_standard_says(secret, received, parties.clock.now())
        assert (told["type"], told["sequence"], told["timestamp"]) == ("order.settled", 1, "2027-01-15T08:00:00Z")
        assert told["data"] == (await agent.get(f"/orders/{tid}")).json
        assert told["data"]["may_deliver"] is True
        found = await until(agent, "delivered", query=f"?tid={tid}")
        assert found["id"] == received.id
        assert [attempt["status"] for attempt in found["attempts"]] == [204]
        assert (await agent.get("/callbacks")).json["endpoints"] == [
            {"name": "shop", "url": shop.url, "events": list(settings.TOLD), "sequence": 1, "waiting": 0}
        ]


async def test_a_changed_byte_fails_the_check(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    async with agent_of(parties, tmp_path) as agent:
        await settle(parties, agent)
        (received,) = await shop.until(1)
    secret = (tmp_path / "callbacks" / "shop.secret").read_text("ascii").strip()
    for forged in (
        Received(received.headers, received.body.replace(b"220000", b"220001")),
        Received({**received.headers, "webhook-id": "evt_other"}, received.body),
        Received({**received.headers, "webhook-timestamp": str(parties.clock.now() + 1)}, received.body),
    ):
        with pytest.raises(AssertionError):
            verify_as_the_standard_says(secret, forged, parties.clock.now())


async def test_orders_that_end_unpaid_are_told_as_closed_and_voided(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    async with agent_of(parties, tmp_path) as agent:
        closed = await agent.shop.order(await agent.place())
        await agent.shop.receive(parties.closed(closed).compact)
        order, notice, _ = await confirmed(parties, agent.shop)
        await agent.shop.receive(parties.voided(notice.claims, notice.hash, reason="hold_expired").compact)
        calls = await shop.until(2)
        assert sorted((call.json["type"], call.json["data"]["tid"]) for call in calls) == sorted(
            [("order.closed", closed.tid), ("order.voided", order.tid)]
        )
        assert sorted(call.json["sequence"] for call in calls) == [1, 2]


async def test_an_endpoint_gets_only_its_own_events_under_its_own_secret(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    async with receiver() as books:
        register(tmp_path, ("shop", shop.url, ["order.closed"]), ("books", books.url, ["order.settled"]))
        async with agent_of(parties, tmp_path) as agent:
            await settle(parties, agent)
            (received,) = await books.until(1)
            secret = (tmp_path / "callbacks" / "books.secret").read_text("ascii")
            verify_as_the_standard_says(secret, received, parties.clock.now())
            with pytest.raises(AssertionError):
                verify_as_the_standard_says((tmp_path / "callbacks" / "shop.secret").read_text("ascii"), received, parties.clock.now())
            assert shop.calls == []


async def test_a_shop_that_changes_its_secret_gets_both_signatures(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    secret_files.endpoint_secrets(tmp_path, "shop")
    path = tmp_path / "callbacks" / "shop.secret"
    old, new = path.read_text("ascii").strip(), "whsec_" + base64.b64encode(b"n" * 24).decode()
    path.write_text(f"{new}\n{old}\n", "ascii")
    async with agent_of(parties, tmp_path) as agent:
        await settle(parties, agent)
        (received,) = await shop.until(1)
    for secret in (old, new):
        verify_as_the_standard_says(secret, received, parties.clock.now())


# At least once


async def test_what_is_not_taken_is_told_again_with_the_same_id_and_bytes(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    statuses = iter((500, 302, 404, 200))

    async def answer(_: Received) -> web.StreamResponse:
        return web.Response(status=next(statuses), headers={"Location": f"{shop.url}/elsewhere"})

    shop.answer = answer
    async with agent_of(parties, tmp_path) as agent:
        await settle(parties, agent)
        for tries, pause in ((1, outbox.PAUSES_S[0]), (2, outbox.PAUSES_S[1]), (3, outbox.PAUSES_S[2])):
            found = await until(agent, "waiting", tries=tries)
            assert found["next_at"] == parties.clock.now() + pause
            parties.clock.advance(pause)
            agent.running.calls.ring()
        found = await until(agent, "delivered", tries=4)
        assert [attempt["status"] for attempt in found["attempts"]] == [200, 404, 302, 500]
        calls = await shop.until(4)
        assert {(call.id, call.body) for call in calls} == {(found["id"], calls[0].body)}
        assert [int(call.headers["webhook-timestamp"]) for call in calls] == sorted({int(c.headers["webhook-timestamp"]) for c in calls})
        assert len(shop.calls) == 4  # the redirect was not followed


async def test_what_was_on_its_way_when_the_agent_stopped_is_told_after_the_next_start(
    parties: Parties, tmp_path: Path, shop: Receiver
) -> None:
    register(tmp_path, ("shop", "http://127.0.0.1:1/nobody", None))
    async with agent_of(parties, tmp_path) as agent:
        await settle(parties, agent)
        found = await until(agent, "waiting", tries=1)
        assert found["attempts"][0]["status"] is None
        assert "Connect" in found["attempts"][0]["error"]
    register(tmp_path, ("shop", shop.url, None))
    parties.clock.advance(outbox.PAUSES_S[0])
    async with agent_of(parties, tmp_path) as agent:
        (received,) = await shop.until(1)
        assert (received.id, received.json["type"], received.json["sequence"]) == (found["id"], "order.settled", 1)
        await until(agent, "delivered")


async def test_an_event_is_given_up_after_three_days_and_can_be_resent(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", "http://127.0.0.1:1/nobody", None))
    async with agent_of(parties, tmp_path) as agent:
        began = parties.clock.now()
        await settle(parties, agent)
        tries = 0
        while True:
            tries += 1
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    rows = await agent.running.outbox.store.read("SELECT state, next_at FROM deliveries WHERE tries >= ?", tries)
                    if rows:
                        break
                    await asyncio.sleep(0.005)
            state, next_at = rows[0]
            if state != "waiting":
                break
            parties.clock.advance(next_at - parties.clock.now())
            agent.running.calls.ring()
        assert state == "given_up"
        assert tries == 77
        assert outbox.TOLD_FOR_S - outbox.PAUSES_S[-1] < parties.clock.now() - began <= outbox.TOLD_FOR_S
        (found,) = await deliveries(agent)
        assert len(found["attempts"]) == outbox.ATTEMPTS_SHOWN
    register(tmp_path, ("shop", shop.url, None))
    async with agent_of(parties, tmp_path) as agent:
        got = await agent.post(f"/callbacks/deliveries/{found['id']}/resend")
        assert (got.status, got.json["state"]) == (202, "waiting")
        (received,) = await shop.until(1)
        assert received.id == found["id"]
        await until(agent, "delivered")


async def test_what_was_taken_can_be_resent_too(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    async with agent_of(parties, tmp_path) as agent:
        await settle(parties, agent)
        found = await until(agent, "delivered")
        await agent.post(f"/callbacks/deliveries/{found['id']}/resend", key="again")
        await agent.post(f"/callbacks/deliveries/{found['id']}/resend", key="again")
        calls = await shop.until(2)
        await until(agent, "delivered", tries=2)
        assert (calls[0].id, calls[0].body) == (calls[1].id, calls[1].body)
        assert len(shop.calls) == 2


async def test_an_outcome_that_is_told_twice_by_the_gateway_is_one_event(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    async with agent_of(parties, tmp_path) as agent:
        order, _, confirmation = await confirmed(parties, agent.shop)
        settled = parties.settled(confirmation.claims, confirmation.hash)
        await asyncio.gather(*(agent.shop.receive(settled.compact) for _ in range(3)))
        made = await agent.running.outbox.put("order.settled", subject=order.tid, tid=order.tid, data=TrialData(test="", at=""))
        assert made == [(await until(agent, "delivered"))["id"]]
        assert len(shop.calls) == 1


# In order, and nobody waits for a slow one


async def test_events_of_one_order_come_in_order_and_others_go_past(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))

    async def answer(received: Received) -> web.StreamResponse:
        return web.Response(status=500 if received.json["data"]["test"] == "1" and len(shop.calls) < 4 else 200)

    shop.answer = answer
    async with agent_of(parties, tmp_path) as agent:
        put = agent.running.outbox.put
        first, other = "A" * 22, "B" * 22
        await put("order.settled", subject=first, tid=first, data=TrialData(test="1", at=""))
        await put("order.cancelled", subject=first, tid=first, data=TrialData(test="2", at=""))
        await put("order.settled", subject=other, tid=other, data=TrialData(test="3", at=""))
        agent.running.calls.ring()
        calls = await shop.until(2)
        assert sorted(int(call.json["data"]["test"]) for call in calls) == [1, 3]
        await until(agent, "delivered", query=f"?tid={other}")
        for tries in (1, 2):
            await until(agent, "waiting", tries=tries, query=f"?tid={first}&limit=1&before=2")
            parties.clock.advance(outbox.PAUSES_S[tries - 1])
            agent.running.calls.ring()
        calls = await shop.until(5)
        assert [int(call.json["data"]["test"]) for call in calls[2:]] == [1, 1, 2]


async def test_a_silent_endpoint_holds_up_neither_another_nor_its_own_other_orders(
    parties: Parties, tmp_path: Path, shop: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()

    async def silent(_: Received) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async with receiver() as slow:
        slow.answer = silent
        register(tmp_path, ("slow", slow.url, None), ("shop", shop.url, None))
        async with agent_of(parties, tmp_path) as agent:
            for number in range(delivery.AT_ONCE + 3):
                await agent.running.outbox.put("order.closed", subject=f"{number:022}", tid=f"{number:022}", data=TrialData(test="", at=""))
            agent.running.calls.ring()
            await shop.until(delivery.AT_ONCE + 3)
            await slow.until(delivery.AT_ONCE)
            await asyncio.sleep(0.2)
            assert len(slow.calls) == delivery.AT_ONCE  # a named limit
            assert (await agent.get("/health")).status == 200
            released.set()
            await slow.until(delivery.AT_ONCE + 3)


async def test_an_endpoint_that_never_answers_is_cut_at_its_deadline(
    parties: Parties, tmp_path: Path, shop: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def silent(_: Received) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    shop.answer = silent
    register(tmp_path, ("shop", shop.url, None))
    monkeypatch.setattr(delivery, "CALL_WITHIN_S", 0.2)
    async with agent_of(parties, tmp_path) as agent:
        await settle(parties, agent)
        found = await until(agent, "waiting", tries=1)
        assert found["attempts"][0]["error"] == "no answer in time"
    never.set()


# The log and the test event


async def test_a_test_event_goes_to_whom_it_is_for(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    async with receiver() as books:
        register(tmp_path, ("shop", shop.url, ["order.settled"]), ("books", books.url, None))
        async with agent_of(parties, tmp_path) as agent:
            got = await agent.post("/callbacks/test", {"endpoint": "books"})
            assert (got.status, [one["endpoint"] for one in got.json["deliveries"]]) == (202, ["books"])
            (received,) = await books.until(1)
            assert received.json["type"] == "agent.test"
            assert len((await agent.post("/callbacks/test")).json["deliveries"]) == 2
            await shop.until(1)
            assert is_problem(await agent.post("/callbacks/test", {"endpoint": "nobody"}), 409, "no_endpoint")


async def test_without_endpoints_nobody_is_called_and_a_test_says_so(parties: Parties, tmp_path: Path) -> None:
    async with agent_of(parties, tmp_path) as agent:
        await settle(parties, agent)
        assert await deliveries(agent) == []
        assert is_problem(await agent.post("/callbacks/test"), 409, "no_endpoint")


async def test_the_log_goes_on_by_its_cursor(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    async with agent_of(parties, tmp_path) as agent:
        for _ in range(5):
            await agent.post("/callbacks/test")
        seen: list[int] = []
        page = (await agent.get("/callbacks/deliveries?limit=2&endpoint=shop")).json
        while True:
            seen += [one["sequence"] for one in page["deliveries"]]
            if page["next"] is None:
                break
            page = (await agent.get(f"/callbacks/deliveries?limit=2&endpoint=shop&before={page['next']}")).json
        assert seen == [5, 4, 3, 2, 1]
        assert await deliveries(agent, "?state=given_up") == []


async def test_what_was_taken_long_ago_leaves_the_log_and_numbers_go_on(parties: Parties, tmp_path: Path, shop: Receiver) -> None:
    register(tmp_path, ("shop", shop.url, None))
    async with agent_of(parties, tmp_path) as agent:
        await agent.post("/callbacks/test")
        await until(agent, "delivered")
        parties.clock.advance(outbox.KEPT_S + 1)
        await agent.running.outbox.purge()
        assert await deliveries(agent) == []
        assert await agent.running.outbox.store.read("SELECT count(*) FROM attempts") == [(0,)]
        assert (await agent.post("/callbacks/test")).json["deliveries"][0]["sequence"] == 2


# agent.toml


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "\xff",
        "endpoints = 1",
        '[[endpoints]]\nname = "shop"',
        '[[endpoints]]\nname = "Shop"\nurl = "https://shop.example/"',
        '[[endpoints]]\nname = "../x"\nurl = "https://shop.example/"',
        '[[endpoints]]\nname = "shop"\nurl = "http://shop.example/"',
        '[[endpoints]]\nname = "shop"\nurl = "http://10.0.0.1/"',
        '[[endpoints]]\nname = "shop"\nurl = "https://user:secret@shop.example/"',
        '[[endpoints]]\nname = "shop"\nurl = "ftp://shop.example/"',
        '[[endpoints]]\nname = "shop"\nurl = "https://shop.example:99999/"',
        '[[endpoints]]\nname = "shop"\nurl = "https://shop.example/#x"',
        '[[endpoints]]\nname = "shop"\nurl = "https://shop.example/"\nevents = ["order.paid"]',
        '[[endpoints]]\nname = "shop"\nurl = "https://shop.example/"\nevents = []',
        '[[endpoints]]\nname = "shop"\nurl = "https://shop.example/"\nsecret = "x"',
        2 * '[[endpoints]]\nname = "shop"\nurl = "https://shop.example/"\n',
        "".join(f'[[endpoints]]\nname = "{name}"\nurl = "https://a.example/"\nevents = ["order.confirm"]\n' for name in "ab"),
        "".join(f'[[endpoints]]\nname = "a{number}"\nurl = "https://a.example/"\n' for number in range(9)),
        "#" * 70_000,
    ],
)
def test_an_agent_toml_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "agent.toml").write_text(text, "latin-1")
    with pytest.raises(BadInput, match=r"agent\.toml"):
        settings.load(tmp_path)


@pytest.mark.parametrize("url", ["https://shop.example/x?y=1", "http://127.0.0.1:3000/", "http://shop.localhost/", "http://[::1]:1/x"])
def test_https_anywhere_and_http_on_this_computer(url: str) -> None:
    settings.check_url(url, "shop")


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_AAAA", "whsec_!!!", "x" * 5000, "\xff"])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    secret_files.endpoint_secrets(tmp_path, "shop")
    (tmp_path / "callbacks" / "shop.secret").write_text(text, "latin-1")
    with pytest.raises(BadInput):
        secret_files.endpoint_secrets(tmp_path, "shop")


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    secret_files.token(tmp_path)
    (tmp_path / "agent.token").chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        secret_files.token(tmp_path)
