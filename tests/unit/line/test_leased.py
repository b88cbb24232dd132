"""The leased line between honest parties: pinned by address, with and without TLS; nobody comes in by the door that is not his."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from picows import ws_connect

from hanbit.line.doors import Door
from hanbit.line.reception import plain_address
from hanbit.merchant.files import LineAddress
from hanbit.merchant.line_client import LineClient
from hanbit.protocols.line import HelloFromMerchant, make_hello
from tests.unit.line.parties import CLOCK, GATEWAY, OPERATOR, QUICK, Operator, Raw, World, merchant_urn, request
from tests.waiting import PATIENCE_S, until

LEASED_HOST, SHOP_ADDRESS = "127.0.0.9", "127.0.0.1"
"""On loopback a caller comes from 127.0.0.1 wherever it calls."""


@asynccontextmanager
async def leased_world(folder: Path, *, tls: bool) -> AsyncIterator[World]:
    world = World(Operator(folder))
    door = Door("leased", LEASED_HOST, 0, world.gateway_files().server() if tls else None)
    world.leased[SHOP_ADDRESS] = "shop"
    await world.start(QUICK, more_doors=[door])
    try:
        yield world
    finally:
        await world.line.stop()


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with leased_world(tmp_path, tls=request.param) as world:
        yield world


def has_tls(world: World) -> bool:
    return world.line._doors["leased"].tls is not None


def leased_client(world: World, name: str = "shop") -> LineClient:
    urn = merchant_urn(name)
    return LineClient(
        host=LEASED_HOST,
        port=world.line.port("leased"),
        ssl_context=world.operator.files(urn).client() if has_tls(world) else None,
        gateway_urn=GATEWAY,
        operator=OPERATOR,
        root=world.operator.root_der,
        signer=world.operator.signer(urn, "merchant-sign"),
        trust=world.operator.trust(GATEWAY),
        clock=CLOCK,
        random=random.Random(1).random,
        on_request=world.answer,
        limits=QUICK,
    )


async def test_both_ask_over_a_leased_line(world: World) -> None:
    client = leased_client(world)
    await client.start()
    await asyncio.wait_for(client.connected.wait(), PATIENCE_S)
    await until(lambda: world.line.connected("shop"))
    assert await world.line.ask("shop", request())
    assert await client.ask(request())
    assert world.line.figures("shop").connections == 1
    assert abs(client.offset_s or 0) <= 1
    await client.stop()
    await until(lambda: not world.line.connected("shop"))


async def test_a_stranger_is_hung_up_on_before_a_byte_is_answered(world: World) -> None:
    """He may send what he likes, a whole upgrade or a TLS hello: what he gets is the end of the connection."""
    world.leased.clear()
    for data in (b"", b"GET /line HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)):
        reader, writer = await asyncio.open_connection(LEASED_HOST, world.line.port("leased"))
        try:
            writer.write(data)
            assert await asyncio.wait_for(reader.read(100), PATIENCE_S) == b""
        except ConnectionError:
            pass  # he was hung up on while he still spoke
        writer.close()
    assert world.line.stats().closed["stranger"] == 3
    assert world.line.stats().greeting == 0


async def test_at_the_registered_address_only_the_registered_merchant_gets_in(world: World) -> None:
    """With TLS by its certificate, without by the signature under its hello."""
    client = leased_client(world, "kiosk")
    await client.start()
    await until(lambda: client.down_reason in {"peer_not_allowed", "peer_sender"})
    assert client.down_reason == ("peer_not_allowed" if has_tls(world) else "peer_sender")
    assert world.hellos == []
    await client.stop()


async def test_what_is_no_websocket_gets_no_further_on_a_leased_line(world: World) -> None:
    reader, writer = await asyncio.open_connection(LEASED_HOST, world.line.port("leased"))
    writer.write(b"\x00\x01\x02 no request at all \r\n\r\n")
    answer = await asyncio.wait_for(reader.read(1000), PATIENCE_S)
    assert b"hanbit" not in answer.lower()
    writer.close()
    assert world.line.stats().merchants == {}


@asynccontextmanager
async def bare(world: World) -> AsyncIterator[Raw]:
    """A peer on a leased line without TLS that sends what the test likes."""
    transport, listener = await ws_connect(Raw, f"ws://{LEASED_HOST}:{world.line.port('leased')}/line")
    assert isinstance(listener, Raw)
    try:
        yield listener
    finally:
        transport.disconnect(graceful=False)
        await listener.ended.wait()


@pytest.mark.parametrize("first", ["request", "garbage", "the kiosk's hello", "the shop's hello to another"])
async def test_without_tls_nothing_but_the_merchants_own_hello_opens_the_line(tmp_path: Path, first: str) -> None:
    async with leased_world(tmp_path, tls=False) as world, bare(world) as peer:
        to_another = make_hello(
            HelloFromMerchant, world.operator.signer(merchant_urn("shop"), "merchant-sign"), merchant_urn("kiosk"), CLOCK.now(), None
        )
        peer.send(
            {"request": request(), "the kiosk's hello": world.hello("kiosk"), "the shop's hello to another": to_another}.get(first, first)
        )
        assert await peer.end() in {(1008, "typ"), (1008, "header"), (1003, "no_message"), (1008, "sender"), (1008, "aud")}
        assert peer.frames.empty(), "the gateway says hello to nobody but the merchant"
        assert world.heard == []


async def test_a_review_ends_a_connection_whose_address_was_given_to_another(tmp_path: Path) -> None:
    async with leased_world(tmp_path, tls=False) as world:
        client = leased_client(world)
        await client.start()
        await asyncio.wait_for(client.connected.wait(), PATIENCE_S)
        world.leased[SHOP_ADDRESS] = "kiosk"
        await until(lambda: world.line.down_reason("shop") == "not_allowed")
        await client.stop()


def test_a_door_says_what_is_wrong_with_its_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"leased line at .*in use"):
            Door("leased", "127.0.0.1", taken.getsockname()[1], None).listener(lambda _: True, knocking_max=8)
    with pytest.raises(OSError, match="leased line at"):
        Door("leased", "203.0.113.1", 0, None).listener(lambda _: True, knocking_max=8)
    with pytest.raises(OSError, match="No such device"):
        Door("leased", "127.0.0.1", 0, None, "nosuch0").listener(lambda _: True, knocking_max=8)


def test_an_address_has_one_spelling() -> None:
    assert [plain_address(text) for text in ("10.0.0.1", "fe80::1%eth0", "2001:DB8:0:0::1")] == ["10.0.0.1", "fe80::1", "2001:db8::1"]


def test_a_registration_without_tls_names_an_address_on_a_leased_line() -> None:
    assert LineAddress("10.0.0.1", 1, "leased", tls=False).tls is False
    for host, mode in (("line.bank.example", "leased"), ("10.0.0.1", "vpn")):
        with pytest.raises(ValueError, match="without TLS"):
            LineAddress(host, 1, mode, tls=False)  # type: ignore[arg-type]  # the case at hand


async def test_one_address_cannot_take_every_place_by_saying_no_hello(tmp_path: Path) -> None:
    async with leased_world(tmp_path, tls=False) as world, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(bare(world)) for _ in range(QUICK.per_merchant + 1)]
        assert await peers[-1].end() == (1008, "unavailable")
        assert world.line.stats().greeting == QUICK.per_merchant
