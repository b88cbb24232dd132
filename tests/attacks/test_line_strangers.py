"""Nobody but a registered merchant gets onto the line, and the merchant talks to nobody but its gateway."""

import asyncio
import base64
import hashlib
import logging
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
import uvloop
from picows import WSError, WSListener, ws_connect

from hanbit.crypto import keys
from hanbit.kernel.errors import Unavailable
from hanbit.protocols.line import HelloFromMerchant, make_hello, read_frame
from tests.unit.line.parties import (
    CLOCK,
    DAY_S,
    GATEWAY,
    PATIENT,
    Files,
    Operator,
    World,
    listening,
    merchant_urn,
    request,
)
from tests.waiting import PATIENCE_S, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with listening(tmp_path) as world:
        yield world
        assert world.line.stats().merchants == {}
        assert world.heard == []


async def dial(world: World, context: ssl.SSLContext) -> None:
    """Ends only when the gateway hangs up, as it must."""
    _, listener = await ws_connect(WSListener, f"wss://127.0.0.1:{world.port}/line", ssl_context=context)
    assert listener is None, "the gateway let a stranger in"


async def refused(world: World, files: Files) -> str:
    """The reason with which the gateway leaves a peer that came through TLS."""
    async with world.raw(files=files) as peer:
        peer.send(world.hello())
        ended = await peer.end()
    return "" if ended is None else ended[1]


def other_operator(folder: Path) -> Operator:
    (folder / "other").mkdir()
    return Operator(folder / "other")


async def test_a_certificate_under_another_root_is_refused(world: World, tmp_path: Path) -> None:
    other = other_operator(tmp_path).files(merchant_urn("shop"))
    ours = world.operator.files(merchant_urn("shop"))
    await dial(world, Files(other.chain, other.key, ours.root).client())


async def test_no_certificate_is_refused(world: World) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(world.gateway_files().root)
    await dial(world, context)


@pytest.mark.parametrize("days_ago", [100, -10])
async def test_a_certificate_that_expired_or_is_not_yet_valid_is_refused(world: World, days_ago: int) -> None:
    await dial(world, world.operator.files(merchant_urn("shop"), at=CLOCK.now() - days_ago * DAY_S).client())


async def test_tls_1_2_is_refused(world: World) -> None:
    context = world.operator.files(merchant_urn("shop")).client()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await dial(world, context)
    assert world.line.stats().greeting == 0


@pytest.mark.parametrize("who", [merchant_urn("shop"), GATEWAY])
async def test_a_certificate_of_another_purpose_does_not_hold_the_line(world: World, who: str) -> None:
    await dial(world, world.operator.files(who, "merchant-sign" if who != GATEWAY else "gateway-sign").client())


async def test_plain_tcp_gets_nothing_and_fills_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Port scans, plain HTTP and half a handshake: the TLS library would write a traceback for the first."""
    with caplog.at_level(logging.WARNING):
        for data in (b"", b"GET /line HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(200)):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(data)
            if not data:
                writer.close()
            answer = await asyncio.wait_for(reader.read(100), PATIENCE_S)
            assert answer == b"" or answer[0] == 0x15, "a TLS alert at most"
            writer.close()
        await asyncio.sleep(0.05)
    assert caplog.text == ""


async def test_another_address_on_the_same_port_is_not_found(world: World) -> None:
    context = world.operator.files(merchant_urn("shop")).client()
    with pytest.raises(WSError, match="404"):
        await ws_connect(WSListener, f"wss://127.0.0.1:{world.port}/metrics", ssl_context=context)


async def test_a_merchant_that_is_not_admitted_hears_why_before_anything_else(world: World) -> None:
    world.suspended.add("shop")
    assert await refused(world, world.operator.files(merchant_urn("shop"))) == "not_allowed"
    assert world.hellos == []


async def test_the_gateways_own_line_certificate_is_no_merchant(world: World) -> None:
    world.suspended.add("gateway")  # what a registry says of a name that is no merchant's
    assert await refused(world, world.gateway_files()) == "not_allowed"


async def test_a_hello_signed_for_another_merchant_is_refused(world: World) -> None:
    """The kiosk's own good certificate with the shop's hello: the connection does not become the shop's."""
    assert await refused(world, world.operator.files(merchant_urn("kiosk"))) == "sender"
    assert not world.line.connected("shop")


@pytest.mark.parametrize(
    ("audience", "purpose", "rule"),
    [(merchant_urn("kiosk"), "merchant-sign", "aud"), (GATEWAY, "line", "purpose")],
)
async def test_a_hello_to_somebody_else_or_under_another_key_is_refused(
    world: World, audience: str, purpose: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = world.operator.signer(merchant_urn("shop"), purpose)
    monkeypatch.setattr(HelloFromMerchant, "PURPOSE", purpose)
    hello = make_hello(HelloFromMerchant, signer, audience, CLOCK.now(), None)
    monkeypatch.undo()
    async with world.raw() as peer:
        peer.send(hello)
        assert await peer.end() == (1008, rule)


async def test_an_altered_or_reflected_hello_is_refused(world: World) -> None:
    good = world.hello()
    altered = good[:-10] + ("A" if good[-10] != "A" else "B") + good[-9:]
    async with world.raw() as peer:
        peer.send(altered)
        assert await peer.end() == (1008, "signature")
    async with world.raw() as first:
        first.send(good)
        reflected = await first.receive()
    async with world.raw() as second:
        second.send(reflected)
        assert await second.end() == (1008, "purpose")
    await until(lambda: not world.line.connected("shop"))


async def test_an_old_hello_does_not_open_the_line_again(world: World) -> None:
    async with world.raw() as peer:
        peer.send(world.hello(at=CLOCK.now() - 125))
        assert await peer.end() == (1008, "clock_offset")


async def test_a_merchant_asks_nothing_before_the_gateway_has_said_hello(world: World) -> None:
    async with world.raw() as peer:
        peer.send(request())
        peer.send(request())
        ended = await peer.end()
        assert ended is not None
        assert ended[1] in {"hello_first", "typ", "header", "unknown_key"}


async def test_a_peer_that_says_nothing_is_left(world: World) -> None:
    async with world.raw() as peer:
        assert await peer.end() == (1008, "hello_missing")


async def test_one_merchant_cannot_take_every_place_by_saying_no_hello(world: World) -> None:
    files = world.operator.files(merchant_urn("shop"))
    async with world.raw(files=files), world.raw(files=files), world.raw(files=files), world.raw(files=files):
        assert world.line.stats().greeting == 4
        async with world.raw(files=files) as fifth:
            assert await fifth.end() == (1008, "unavailable")


async def test_a_peer_that_never_upgrades_is_left(world: World) -> None:
    context = world.operator.files(merchant_urn("shop")).client()
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port, ssl=context)
    assert await asyncio.wait_for(reader.read(100), PATIENCE_S) == b""
    writer.close()


class Impostor:
    """Listens where the gateway should, with a certificate of the test's choice."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.received = b""

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.files.server())
        self.port: int = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 - RFC 6455 asks for SHA-1
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
            writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            self.received = await reader.read(65_536)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("who", ["another merchant", "another purpose", "expired", "another root"])
async def test_a_merchant_says_nothing_to_whoever_is_not_its_gateway(world: World, tmp_path: Path, who: str) -> None:
    ours = world.operator.files(merchant_urn("shop"))
    files = {
        "another merchant": lambda: world.operator.files(merchant_urn("kiosk")),
        "another purpose": lambda: world.operator.files(GATEWAY, "gateway-sign"),
        "expired": lambda: world.operator.files(GATEWAY, at=CLOCK.now() - 2 * DAY_S, lifetime_s=DAY_S),
        "another root": lambda: _under_our_root_file(other_operator(tmp_path).files(GATEWAY), ours),
    }[who]()
    async with Impostor(files) as impostor:
        world.port = impostor.port
        client = world.client(files=ours)
        await client.start()
        await until(lambda: client.down_reason != "not connected yet")
        with pytest.raises(Unavailable):
            await client.ask(request())
        await client.stop()
        assert impostor.received[:1] in {b"", b"\x88"}, "more than a close frame was sent"


def _under_our_root_file(other: Files, ours: Files) -> Files:
    return Files(other.chain, other.key, ours.root)


async def test_a_gateway_hello_of_another_merchants_line_is_refused(world: World) -> None:
    """A gateway that was made to say hello to the kiosk cannot have that hello pass for one to the shop."""
    async with world.raw("kiosk") as kiosk:
        kiosk.send(world.hello("kiosk"))
        hello = await kiosk.receive()
    assert read_frame(hello).typ == "hanbit-hello"
    client = world.client()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hanbit.line.listener.make_hello", lambda *_: hello)
        await client.start()
        await until(lambda: client.down_reason == "aud")
        assert not client.connected.is_set()
        await client.stop()
    await until(lambda: not world.line.stats().merchants)


def test_keys_of_the_line_lie_in_files_that_only_their_owner_reads(tmp_path: Path) -> None:
    files = Operator(tmp_path).files(merchant_urn("shop"))
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert keys.load_key(files.key).key_size == 256


async def half_open(world: World, address: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Somebody who connects and never begins with TLS."""
    return await asyncio.open_connection("127.0.0.1", world.port, local_addr=(address, 0))


async def endless_handshakes(folder: Path) -> None:
    limits = replace(PATIENT, handshake_s=20.0, knocking=8)
    async with listening(folder, limits) as world:
        before = [await half_open(world, "127.0.0.2") for _ in range(2)]
        flood = [await half_open(world, "127.0.0.3") for _ in range(40)]
        # The flood has pushed out its own, the longest waiting first, and neither whoever was there nor whoever comes.
        await until(lambda: world.line.stats().closed["pushed_out"] == 34)
        ended = [asyncio.create_task(reader.read(1)) for reader, _ in before + flood]
        await until(lambda: sum(task.done() for task in ended) == 34)
        assert [task.done() for task in ended] == [False] * 2 + [True] * 34 + [False] * 6
        async with world.connected("shop"):
            assert await world.line.ask("shop", request())
        for task, (_, writer) in zip(ended, before + flood, strict=True):
            task.cancel()
            writer.close()
        await asyncio.gather(*ended, return_exceptions=True)


async def test_handshakes_without_end_push_out_one_another_and_no_merchant(tmp_path: Path) -> None:
    await endless_handshakes(tmp_path)


def test_handshakes_without_end_on_the_servers_own_event_loop(tmp_path: Path) -> None:
    uvloop.run(endless_handshakes(tmp_path))


async def test_upgrades_that_never_come_push_out_one_another_and_not_the_merchant_who_says_hello(tmp_path: Path) -> None:
    async with listening(tmp_path, replace(PATIENT, handshake_s=20.0, knocking=4)) as world:
        context = world.operator.files(merchant_urn("kiosk")).client()
        opened = [await asyncio.open_connection("127.0.0.1", world.port, ssl=context) for _ in range(12)]
        await until(lambda: world.line.stats().closed["pushed_out"] == 8)
        async with world.connected("shop"):
            assert await world.line.ask("shop", request())
        for _, writer in opened:
            writer.close()


async def test_a_line_without_free_files_hangs_up_instead_of_spinning(world: World) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [socket.socket() for _ in range(3)]
    for client in clients:
        client.setblocking(False)
    used = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used[-1] + 1, hard))
    try:
        for client in clients:
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", world.port))
        for client in clients:
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), PATIENCE_S) == b""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in used:
            os.close(file)
    for client in clients:
        client.close()
    async with world.connected("shop"):
        assert await world.line.ask("shop", request())
