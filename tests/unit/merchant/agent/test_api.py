"""The agent's calls: orders and their truth, the token on every one, and a clear answer to whatever is sent."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from hanbit.kernel.errors import BadInput
from hanbit.merchant.agent import api, serve, table
from hanbit.merchant.agent.acts import ACTS
from hanbit.merchant.agent.table import ADDRESSES
from hanbit.merchant.states import State
from tests.unit.merchant.agent.support import ORDER, Agent, Got, agent_of
from tests.unit.merchant.support import GatewayLine, Parties, confirmed
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def agent(parties: Parties, tmp_path: Path) -> AsyncIterator[Agent]:
    async with agent_of(parties, tmp_path) as running:
        yield running


def is_problem(got: Got, status: int, code: str = "") -> bool:
    assert got.status == status, got
    assert got.headers["Content-Type"] == "application/problem+json"
    told = got.json
    assert told["status"] == status
    assert told["advice"]
    assert re.fullmatch(r"[0-9A-Z]{4}-[0-9A-Z]{4}", told["reference"])
    assert got.headers["X-Reference"] == told["reference"]
    assert "Traceback" not in got.body.decode()
    assert not code or told["code"] == code, told
    return True


# Orders


async def test_an_order_is_placed_and_read_back(agent: Agent) -> None:
    got = await agent.post("/orders", {**ORDER, "owner": "hong", "language": "en", "refund_by": 1_900_000_000})
    assert got.status == 201
    made = got.json
    assert got.headers["Location"] == f"/orders/{made['tid']}"
    fields = parse_qs(urlsplit(made["redirect"]).query)
    assert (fields["TID"], fields["AMOUNT"], fields["CUR"], fields["lang"]) == ([made["tid"]], ["220000"], ["KRW"], ["en"])
    order = (await agent.get(f"/orders/{made['tid']}")).json
    assert order == made["order"]
    assert (order["state"], order["final"], order["may_deliver"], order["outcome"]) == ("placed", False, False, None)
    assert order["can"] == ["pay", "withdraw", "replace", "cancel", "inquire"]
    assert order["lines"] == ORDER["lines"]
    assert (await agent.get(f"/orders/{made['tid']}/redirect?language=en")).json == {"tid": made["tid"], "redirect": made["redirect"]}
    assert (await agent.get("/orders?owner=hong")).json["orders"][0]["tid"] == made["tid"]
    assert (await agent.get("/orders?owner=kim")).json == {"orders": [], "next": None}


async def test_an_order_may_be_delivered_only_after_the_settled_message_and_carries_it(parties: Parties, agent: Agent) -> None:
    order, _, confirmation = await confirmed(parties, agent.shop)
    before = (await agent.get(f"/orders/{order.tid}")).json
    assert (before["state"], before["may_deliver"], before["can"]) == ("confirmed", False, ["cancel", "inquire"])
    settled = parties.settled(confirmation.claims, confirmation.hash)
    waiting = asyncio.create_task(agent.get(f"/orders/{order.tid}?wait=25"))
    await until(lambda: agent.running.calls._waits)
    assert not waiting.done()
    await agent.shop.receive(settled.compact)
    after = (await waiting).json
    assert (after["state"], after["may_deliver"], after["can"], after["outcome"]) == (
        "settled",
        True,
        ["deliver", "cancel"],
        settled.compact,
    )
    messages = (await agent.get(f"/orders/{order.tid}/messages")).json["messages"]
    assert [(one["direction"], one["typ"]) for one in messages] == [
        ("sent", "hanbit-order"),
        ("received", "hanbit-notice"),
        ("sent", "hanbit-confirmation"),
        ("sent", "hanbit-inquiry"),  # whoever waits asks
        ("received", "hanbit-settled"),
    ]
    assert messages[4]["message"] == settled.compact
    assert messages[4]["hash"] == settled.hash


async def test_nobody_is_sent_to_pay_after_the_deadline(parties: Parties, agent: Agent) -> None:
    tid = await agent.place()
    parties.clock.advance(30 * 60 + 1)
    assert (await agent.get(f"/orders/{tid}")).json["can"] == ["withdraw", "replace", "cancel", "inquire"]


async def test_every_state_has_its_acts() -> None:
    assert set(ACTS) == set(State)
    assert set(serve.EVENT_OF) == {State.SETTLED, State.VOIDED, State.CLOSED, State.CANCELLED}


async def test_an_order_is_withdrawn_and_replaced_while_nobody_pays_it(parties: Parties, agent: Agent) -> None:
    tid = await agent.place()
    withdrawn = await agent.post(f"/orders/{tid}/withdraw")
    assert (withdrawn.status, withdrawn.json["state"], withdrawn.json["can"]) == (200, "withdrawn", ["cancel", "inquire"])
    assert is_problem(await agent.get(f"/orders/{tid}/redirect"), 409, "wrong_state")
    old = await agent.place()
    got = await agent.post(f"/orders/{old}/replace", {**ORDER, "text": "two"})
    assert got.status == 201
    assert (await agent.get(f"/orders/{old}")).json["replaced_by"] == got.json["tid"]
    order, _, _ = await confirmed(parties, agent.shop)
    assert is_problem(await agent.post(f"/orders/{order.tid}/withdraw"), 409, "wrong_state")
    assert is_problem(await agent.post(f"/orders/{order.tid}/replace", ORDER), 409, "wrong_state")


async def test_an_inquiry_asks_the_gateway_now(parties: Parties, agent: Agent) -> None:
    order, _, confirmation = await confirmed(parties, agent.shop)
    assert is_problem(await agent.post(f"/orders/{order.tid}/inquiries"), 503, "unavailable")
    settled = parties.settled(confirmation.claims, confirmation.hash)
    assert isinstance(agent.shop.line, GatewayLine)
    agent.shop.line.answer = lambda inquiry: parties.status(inquiry, "settled", settled.compact).compact
    got = await agent.post(f"/orders/{order.tid}/inquiries")
    assert (got.status, got.json["gateway_state"], got.json["order"]["may_deliver"]) == (200, "settled", True)
    agent.shop.line.answer = lambda inquiry: parties.status(inquiry, "settled", settled.compact, req="A" * 43).compact
    assert is_problem(await agent.post(f"/orders/{order.tid}/inquiries"), 503, "gateway_answer")


async def test_lists_go_on_by_their_cursor_and_each_order_comes_once(agent: Agent) -> None:
    tids = [await agent.place(owner="hong" if number % 2 else "kim") for number in range(7)]
    await agent.post(f"/orders/{tids[2]}/withdraw")

    async def all_of(query: str) -> list[str]:
        seen: list[str] = []
        page = (await agent.get(f"/orders?limit=2{query}")).json
        while True:
            seen += [order["tid"] for order in page["orders"]]
            if page["next"] is None:
                return seen
            page = (await agent.get(f"/orders?limit=2{query}&before={page['next']}")).json

    assert await all_of("") == tids[::-1]
    assert await all_of("&owner=hong") == tids[1::2][::-1]
    assert await all_of("&state=withdrawn") == [tids[2]]
    assert await all_of("&state=placed&owner=kim") == [tids[6], tids[4], tids[0]]
    assert (await agent.get(f"/orders?before={'A' * 22}")).json == {"orders": [], "next": None}


async def test_the_line_and_health_say_whether_customers_can_pay(agent: Agent) -> None:
    assert (await agent.get("/line")).json["up"] is True
    assert (await agent.get("/health", token=None)).json == {"agent": "up", "line": "up", "test": False}
    agent.shop.line = None
    assert (await agent.get("/line")).json["up"] is False
    assert (await agent.get("/health", token=None)).json == {"agent": "up", "line": "down", "test": False}


# The token


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: f"{address.method} {address.path}")
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x", "Bearer é"]
)
async def test_without_the_token_nothing_is_told_and_nothing_changes(agent: Agent, address: Any, header: str | None) -> None:
    path = address.path.replace("{tid}", "A" * 22).replace("{id}", "evt_" + "A" * 22)
    headers = {} if header is None else {"Authorization": header.replace("{token}", agent.token)}
    if address.writes:
        headers["Idempotency-Key"] = "k"
    got = await agent.call(address.method, path, token=None, headers=headers, json=ORDER if address.writes else None)
    if address.is_open:
        assert got.status == 200
        return
    assert is_problem(got, 401, "token")
    assert got.headers["WWW-Authenticate"].startswith("Bearer")
    assert await agent.placed() == 0


async def test_an_unknown_address_needs_the_token_too(agent: Agent) -> None:
    assert is_problem(await agent.get("/admin", token=None), 401, "token")
    assert is_problem(await agent.get("/admin"), 404, "not_found")


async def test_the_token_and_every_file_are_for_their_owner_only(agent: Agent) -> None:
    for name in ("agent.token", "agent.db", "orders.db"):
        assert (agent.directory / name).stat().st_mode & 0o777 == 0o600
    assert len(agent.token) >= 43


# Bad input


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"amount": "219999"}, 400),
        ({"amount": 220000}, 400),
        ({"amount": "0"}, 400),
        ({"amount": "0220000"}, 400),
        ({"amount": "-1"}, 400),
        ({"amount": "9" * 16}, 400),
        ({"currency": "XXX"}, 400),
        ({"currency": "krw"}, 400),
        ({"lines": []}, 400),
        ({"lines": ORDER["lines"] * 101}, 400),
        ({"lines": [{"item": "x", "quantity": 1}]}, 400),
        ({"lines": [{"item": "x", "quantity": 1, "price_minor": 220000, "sku": 1}]}, 400),
        ({"lines": [{"item": "x", "quantity": 10**30, "price_minor": 1}]}, 400),
        ({"lines": [{"item": "x\u0000", "quantity": 1, "price_minor": 220000}]}, 400),
        ({"lines": [{"item": "x", "quantity": 1.5, "price_minor": 220000}]}, 400),
        ({"text": ""}, 400),
        ({"text": "x" * 201}, 400),
        ({"text": "line\nfeed"}, 400),
        ({"text": None}, 400),
        ({"return_url": "javascript:alert(1)"}, 400),
        ({"return_url": "https://user@shop.example/"}, 400),
        ({"owner": ""}, 400),
        ({"owner": "\u202e"}, 400),
        ({"language": "fr"}, 400),
        ({"refund_by": -1}, 400),
        ({"tid": "A" * 22}, 400),
        ({"request_key": "mine"}, 400),
    ],
)
async def test_an_order_of_wrong_shape_is_refused_and_nothing_is_placed(agent: Agent, changes: dict[str, Any], status: int) -> None:
    assert is_problem(await agent.post("/orders", {**ORDER, **changes}), status, "bad_input")
    assert await agent.placed() == 0


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'"' + b"\xff" + b'"', "application/json", 400),
        (b'{"text": "\\ud800"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (json.dumps(ORDER).encode()[:-1] + b', "amount": "1"}', "application/json", 400),
        (json.dumps(ORDER).replace('"quantity": 1', '"quantity": 2, "quantity": 1').encode(), "application/json", 400),
        (json.dumps(ORDER).replace('"quantity": 1', '"quantity": 1.0').encode(), "application/json", 400),
        (b"{}" + b" " * table.BODY_MAX, "application/json", 413),
        (json.dumps(ORDER).encode(), "text/plain", 415),
        (json.dumps(ORDER).encode(), "application/x-www-form-urlencoded", 415),
    ],
)
async def test_a_body_that_is_none_is_refused(agent: Agent, body: bytes, kind: str, status: int) -> None:
    got = await agent.post("/orders", data=body, headers={"Content-Type": kind})
    assert is_problem(got, status)
    assert await agent.placed() == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example:8405"},
        {"Host": "127.0.0.1.rebound.example"},
        {"Host": "localhost.example"},
        {"Host": ""},
        {"Origin": "https://shop.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_page_in_a_browser_reads_and_changes_nothing_even_with_the_token(agent: Agent, headers: dict[str, str]) -> None:
    for path in ("/health", "/openapi.json", "/orders"):
        assert is_problem(await agent.get(path, headers=headers), 403, "web_page")
    assert is_problem(await agent.post("/orders", ORDER, headers=headers), 403, "web_page")
    assert await agent.placed() == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]:8405", "localhost:8405", "agent.localhost", "LOCALHOST"])
async def test_the_shop_calls_by_whatever_name_this_computer_has(agent: Agent, host: str) -> None:
    assert (await agent.get("/orders", headers={"Host": host})).status == 200


async def test_two_hosts_or_none_are_refused(agent: Agent) -> None:
    for hosts in (b"", b"Host: localhost\r\nHost: rebound.example\r\n"):
        assert (await raw(agent, b"GET /health HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")).startswith(
            (b"HTTP/1.1 40", b"HTTP/1.0 40")
        )


async def test_a_compressed_body_is_refused(agent: Agent) -> None:
    got = await agent.post("/orders", data=b"x", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert is_problem(got, 415)


@pytest.mark.parametrize(
    "query", ["wait=26", "wait=-1", "wait=1.5", "wait=", "wait", "wait=1&wait=1", "x=1", "wait=%FF", "&", "wait=9999999999999999999999"]
)
async def test_a_query_of_wrong_shape_is_refused(agent: Agent, query: str) -> None:
    tid = await agent.place()
    assert is_problem(await agent.get(f"/orders/{tid}?{query}"), 400, "bad_input")


async def test_a_query_beyond_its_length_is_refused(agent: Agent) -> None:
    assert is_problem(await agent.get(f"/orders?owner={'x' * 3000}"), 400, "bad_input")


@pytest.mark.parametrize("tid", ["A" * 22, "x", "A" * 65, "..%2F..%2Fetc%2Fpasswd", "%ED%95%9C", "evt_" + "A" * 22, "'%20OR%201=1"])
async def test_unknown_and_misspelt_ids_look_the_same(agent: Agent, tid: str) -> None:
    got = [
        await agent.get(f"/orders/{tid}"),
        await agent.get(f"/orders/{tid}?wait=1"),
        await agent.get(f"/orders/{tid}/redirect"),
        await agent.get(f"/orders/{tid}/messages"),
        await agent.post(f"/orders/{tid}/withdraw"),
        await agent.post(f"/orders/{tid}/replace", ORDER),
        await agent.post(f"/orders/{tid}/inquiries"),
        await agent.post(f"/callbacks/deliveries/{tid}/resend"),
    ]
    assert all(is_problem(one, 404, "not_found") for one in got)


@pytest.mark.parametrize("path", ["/", "//orders", "/orders/", "/Orders", "/orders/a/b/c", "/health/"])
async def test_an_address_that_is_none_is_not_found(agent: Agent, path: str) -> None:
    assert is_problem(await agent.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("DELETE", "/orders", "POST, GET"), ("PUT", "/callbacks", "GET"), ("POST", "/health", "GET")]
)
async def test_a_method_that_an_address_has_not_is_refused(agent: Agent, method: str, path: str, allow: str) -> None:
    got = await agent.call(method, path)
    assert is_problem(got, 405, "wrong_method")
    assert got.headers["Allow"] == allow


async def raw(agent: Agent, sent: bytes, *, end: bool = False) -> bytes:
    """What comes back for these bytes, until the agent closes the connection."""
    address = agent.running.address
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(sent)
        if end:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /orders HTTP/9.9\r\n\r\n",
        b"GET " + b"/" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /orders HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 10_000 + b"\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_is_refused_as_a_problem(agent: Agent, sent: bytes) -> None:
    answer = await raw(agent, sent, end=True)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")) or answer == b""
    assert answer == b"" or b"application/problem+json" in answer
    assert b"aiohttp" not in answer
    assert (await agent.get("/health")).status == 200


async def test_a_body_that_trickles_is_cut_at_its_deadline(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BODY_DEADLINE_S", 0.2)
    head = f"POST /orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {agent.token}\r\nIdempotency-Key: slow\r\n"
    answer = await raw(agent, f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{".encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert await agent.placed() == 0
    assert (await agent.post("/orders", ORDER, key="slow")).status == 201


async def test_a_silent_connection_and_a_head_that_trickles_are_closed(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "HEAD_DEADLINE_S", 0.3)
    async with agent_of(parties, tmp_path) as agent:
        assert await raw(agent, b"") == b""
        assert await raw(agent, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow:") == b""


async def test_another_user_of_this_computer_cannot_take_the_shop_s_connections(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "CONNECTIONS_MAX", 3)
    async with agent_of(parties, tmp_path) as agent:
        assert (await agent.get("/orders")).status == 200  # stays connected
        address = agent.running.address
        for _ in range(2):
            flood = [await asyncio.open_connection(address.host, address.port) for _ in range(9)]
            ended = [asyncio.create_task(reader.read(1)) for reader, _ in flood]
            await asyncio.wait(ended[:7], timeout=PATIENCE_S)
            assert [task.done() for task in ended] == [True] * 7 + [False] * 2, "the newest silent ones stay"
            assert (await agent.get("/orders")).status == 200
            async with aiohttp.ClientSession() as session:  # a new connection of the shop's
                new = Agent(agent.running, agent.directory, session, agent.token)
                assert (await new.get("/orders")).status == 200
            for task, (_, writer) in zip(ended, flood, strict=True):
                task.cancel()
                writer.close()
            await asyncio.gather(*ended, return_exceptions=True)


async def test_one_connection_too_many_is_told_to_come_again(parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "CONNECTIONS_MAX", 2)
    async with agent_of(parties, tmp_path) as agent:
        address = agent.running.address
        held = [await asyncio.open_connection(address.host, address.port) for _ in range(2)]
        for reader, writer in held:
            writer.write(f"GET /line HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {agent.token}\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        answer = await raw(agent, b"")
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after" in answer.lower()
        for _, writer in held:
            writer.close()


async def test_one_wait_too_many_is_told_to_come_again(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanbit.merchant.agent.calls.WAITS_MAX", 1)
    tid = await agent.place()
    first = asyncio.create_task(agent.get(f"/orders/{tid}?wait=25"))
    await until(lambda: agent.running.calls._waits)
    got = await agent.get(f"/orders/{tid}?wait=25")
    assert is_problem(got, 503, "unavailable")
    assert int(got.headers["Retry-After"]) > 0
    agent.running.calls.stop()
    assert (await first).json["state"] == "placed"


async def test_whoever_waits_is_answered_when_the_agent_stops(parties: Parties, tmp_path: Path) -> None:
    async with agent_of(parties, tmp_path) as agent:
        tid = await agent.place()
        waiting = asyncio.create_task(agent.get(f"/orders/{tid}?wait=25"))
        await until(lambda: agent.running.calls._waits)
        agent.running.calls.stop()
        assert (await asyncio.wait_for(waiting, PATIENCE_S)).json["state"] == "placed"


# Where it listens


@pytest.mark.parametrize("text", ["127.0.0.1:8405", "[::1]:1", "localhost:1", "agent.localhost:1", "127.9.9.9:65535"])
def test_the_agent_listens_on_this_computer(text: str) -> None:
    assert serve.read_listen(text).host in {"127.0.0.1", "::1", "127.9.9.9"}


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:8405", "[::]:1", "192.168.0.1:1", "shop.example:1", ":1", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "localhost.x:1"],
)
def test_the_agent_refuses_every_other_address(text: str) -> None:
    with pytest.raises(BadInput):
        serve.read_listen(text)


async def test_a_unix_socket_is_its_owners_only_and_a_killed_agents_is_replaced(parties: Parties, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    address = serve.Address(socket_path=path)
    async with serve.around(partial(parties.open_shop, tmp_path), tmp_path, address, parties.clock):
        assert path.stat().st_mode & 0o777 == 0o600
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session, session.get("http://agent/health") as got:
            assert got.status == 200
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(BadInput):
        async with serve.around(partial(parties.open_shop, tmp_path), tmp_path, address, parties.clock):
            pass
    assert path.read_text() == "mine"


@pytest.mark.parametrize("why", ["Address already in use", "No such file or directory", "too long"])
async def test_an_address_that_cannot_be_had_is_named(parties: Parties, tmp_path: Path, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = {
            "Address already in use": serve.Address("127.0.0.1", taken.getsockname()[1]),
            "No such file or directory": serve.Address(socket_path=tmp_path / "no" / "agent.sock"),
            "too long": serve.Address(socket_path=tmp_path / ("x" * 120)),
        }[why]
        with pytest.raises(BadInput, match=why) as refused:
            async with serve.around(partial(parties.open_shop, tmp_path), tmp_path, address, parties.clock):
                raise AssertionError("it listens nowhere")
    assert str(address) in refused.value.detail


def test_a_folder_that_is_no_shop_s_stays_as_it_is(parties: Parties, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadInput, match="enrol the shop first"):
            serve.running(folder, serve.Address("127.0.0.1", 0), parties.clock)
    assert list(tmp_path.iterdir()) == []
