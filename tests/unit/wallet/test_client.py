"""HTTP to a payment server that may be slow, huge, false or mad: limits hold, nothing is followed, nothing foreign is printed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from hanbit.kernel.errors import BadInput, ProtocolViolation, TooManyTries, Unavailable
from hanbit.loopback import LoopbackResolver
from hanbit.wallet import client as client_module
from hanbit.wallet.client import ANSWER_MAX, GatewayClient, GatewayRefused, Http, MovedOn, printable, read_address
from tests.unit.wallet.parties import bank
from tests.unit.wallet.server import Server, always, listening, problem


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with listening(Server(bank())) as running:
        yield running


@pytest.fixture
async def gateway(server: Server) -> AsyncIterator[GatewayClient]:
    async with Http() as http:
        yield GatewayClient(http, read_address(server.origin)[0])


def respond(server: Server, **response: object) -> None:
    server.instead["/x"] = always(lambda: web.Response(**response))  # type: ignore[arg-type]  # any response that a test names


async def test_names_under_localhost_are_the_loopback_address() -> None:
    resolver = LoopbackResolver()
    for name in ("pay.localhost", "localhost", "a.b.localhost"):
        (found,) = await resolver.resolve(name, 80)
        assert found["host"] == "127.0.0.1"
    await resolver.close()


@pytest.mark.parametrize(
    "url", ["http://pay.localhost:8401/pay?a=b", "http://127.0.0.1/", "https://pay.example", "HTTPS://PAY.example:8443/x"]
)
def test_addresses_of_payment_servers(url: str) -> None:
    origin, _ = read_address(url)
    assert str(origin) == url.lower().partition("?")[0].removesuffix("/").removesuffix("/pay").removesuffix("/x")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pay.example",
        "http://pay.example/pay",
        "http://localhost.evil.example/",
        "http://notlocalhost/",
        "ftp://pay.localhost/",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@pay.example/",
        "https://pay.example@evil.example/",
        "https://pay.example:99999/",
        "https://pay.example:x/",
        "https://[::1/",
        "https://pay.exämple/",
        "https://pay.example/a b",
        "https://pay.example/\n",
        "https://pay.example/" + "x" * 50_000,
    ],
)
def test_what_is_no_address_of_a_payment_server(url: str) -> None:
    with pytest.raises(BadInput):
        read_address(url)


@given(st.text(max_size=60))
def test_no_text_makes_the_reading_of_an_address_raise_anything_else(text: str) -> None:
    for url in (text, "https://" + text, "http://localhost" + text):
        try:
            read_address(url)
        except BadInput:
            continue


async def test_redirect_to_another_origin_is_refused_and_not_named(gateway: GatewayClient, server: Server) -> None:
    for location in ("https://evil.example/pay", "//evil.example/pay", "http://pay.localhost:1/pay", "javascript:alert(1)", ""):
        respond(server, status=303, headers={"Location": location})
        with pytest.raises(ProtocolViolation) as caught:
            await gateway.get("/x")
        assert "evil" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "ORIGIN"])
async def test_redirect_on_the_same_origin_is_told_and_not_followed(gateway: GatewayClient, server: Server, prefix: str) -> None:
    respond(server, status=303, headers={"Location": prefix.replace("ORIGIN", server.origin) + "/payments/" + "P" * 22})
    with pytest.raises(MovedOn) as caught:
        await gateway.get("/x")
    assert caught.value.path == "/payments/" + "P" * 22


async def test_answer_beyond_its_size_is_cut_off(gateway: GatewayClient, server: Server) -> None:
    respond(server, body=b"x" * (ANSWER_MAX + 1), content_type="application/json")
    with pytest.raises(ProtocolViolation) as caught:
        await gateway.get("/x")
    assert caught.value.rule == "size"


async def test_compressed_answer_is_not_taken(gateway: GatewayClient, server: Server) -> None:
    respond(server, body=b"\x1f\x8b", content_type="application/json", headers={"Content-Encoding": "gzip"})
    with pytest.raises(ProtocolViolation):
        await gateway.get("/x")


async def test_page_in_place_of_data_is_not_taken(gateway: GatewayClient, server: Server) -> None:
    respond(server, text="<html>", content_type="text/html")
    with pytest.raises(ProtocolViolation):
        await gateway.get("/x")


async def test_slow_server_is_unavailable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT_S", 0.05)

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response()

    server.instead["/x"] = slow
    async with Http() as http:
        with pytest.raises(Unavailable):
            await GatewayClient(http, read_address(server.origin)[0]).get("/x")


async def test_server_that_is_not_there_is_unavailable() -> None:
    async with Http() as http:
        with pytest.raises(Unavailable):
            await GatewayClient(http, read_address("http://pay.localhost:1")[0]).get("/x")


@pytest.mark.parametrize("value", ["x" * 300, "a b", '"quoted;"'])
async def test_session_cookie_of_another_shape_is_not_kept(gateway: GatewayClient, server: Server, value: str) -> None:
    cookie = f'__Host-hanbit="{value}"' if " " in value else f"__Host-hanbit={value}"
    respond(server, text="{}", content_type="application/json", headers={"Set-Cookie": cookie})
    with pytest.raises(ProtocolViolation):
        await gateway.get("/x")
    assert not gateway.has_session


async def test_only_our_own_cookie_is_kept_and_an_empty_one_ends_the_session(gateway: GatewayClient, server: Server) -> None:
    for cookie, live in (("other=1", False), ("__Host-hanbit=abc", True), ("__Host-hanbit=", False)):
        respond(server, text="{}", content_type="application/json", headers={"Set-Cookie": cookie})
        await gateway.get("/x")
        assert gateway.has_session is live
    assert server.cookies == ["__Host-hanbit=abc"]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, GatewayRefused), (403, GatewayRefused), (409, GatewayRefused), (429, TooManyTries), (503, Unavailable)]
)
async def test_each_refusal_is_the_error_that_says_who_must_act(
    gateway: GatewayClient, server: Server, status: int, kind: type[Exception]
) -> None:
    server.instead["/x"] = problem(status, "some_code", "in words", {"Retry-After": "999999"})
    with pytest.raises(kind, match="in words"):
        await gateway.get("/x")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"\xff", b'{"code":1}', b'{"code":"DROP TABLE"}', b"{" * 3000])
async def test_refusal_without_readable_words_is_still_a_refusal(gateway: GatewayClient, server: Server, body: bytes) -> None:
    respond(server, status=418, body=body, content_type="text/plain")
    with pytest.raises(GatewayRefused) as caught:
        await gateway.get("/x")
    assert caught.value.problem == "http_418"


async def test_words_of_a_false_server_cannot_steer_the_terminal(gateway: GatewayClient, server: Server) -> None:
    server.instead["/x"] = problem(400, "x", "\u001b[2J\u202egnirts\r\nPaid.\u0007" + "y" * 1000)
    with pytest.raises(GatewayRefused) as caught:
        await gateway.get("/x")
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) <= 400


@given(st.text())
def test_foreign_words_are_printable(text: str) -> None:
    assert not set(printable(text)) & {chr(number) for number in (*range(32), *range(127, 160), 0x202E, 0x2066, 0x2028)}
