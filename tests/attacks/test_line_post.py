"""POST takes frames from nobody but whoever holds the line, sends none to anybody else, and no bytes, slowness or number of them hurts."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import uvloop

from hanbit.kernel.errors import ProtocolViolation, Unavailable
from hanbit.line.connection import Limits
from hanbit.protocols.line import read_frame
from tests.unit.line.parties import CLOCK, DAY_S, Files, Operator, answer_to, confirm, merchant_urn, request
from tests.unit.line.test_post import LIMITS, PostWorld, gateway_line, post_world
from tests.waiting import PATIENCE_S, until

HASTY = replace(LIMITS, handshake_s=0.5, hello_s=1.0, idle_s=2.0)
"""What a slow peer is given up after, where that is what a test waits for."""


@pytest.fixture
async def posts(tmp_path: Path) -> AsyncIterator[PostWorld]:
    async with post_world(tmp_path) as made:
        yield made


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[PostWorld]:
    async with post_world(tmp_path, HASTY) as made:
        yield made


HEAD = b"POST /line HTTP/1.1\r\nHost: x\r\nContent-Type: application/jose\r\n"


def post(body: bytes) -> bytes:
    return HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


async def send(port: int, context: ssl.SSLContext, *pieces: bytes) -> bytes:
    """What comes back for these bytes; empty if nothing does."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except (OSError, ssl.SSLError):
        return b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
        return head + (await reader.readexactly(lengths[0]) if lengths else b"")
    except (OSError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def other_operator(folder: Path) -> Operator:
    (folder / "other").mkdir()
    return Operator(folder / "other")


@pytest.mark.parametrize("who", ["no certificate", "another root", "expired", "another purpose"])
async def test_strangers_get_no_byte_of_the_gateways_post(posts: PostWorld, tmp_path: Path, who: str) -> None:
    operator, urn = posts.world.operator, merchant_urn("shop")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(operator.files(urn).root)
    context: dict[str, Callable[[], ssl.SSLContext]] = {
        "no certificate": lambda: bare,
        "another root": lambda: _theirs(other_operator(tmp_path).files(urn), operator.files(urn)).client(),
        "expired": lambda: operator.files(urn, at=CLOCK.now() - 100 * DAY_S).client(),
        "another purpose": lambda: operator.files(urn, "merchant-sign").client(),
    }
    assert await send(posts.line.post_port(), context[who](), post(request().encode())) == b""
    assert posts.world.heard == []


def _theirs(theirs: Files, ours: Files) -> Files:
    return Files(theirs.chain, theirs.key, ours.root)


async def test_a_merchant_that_is_not_admitted_is_told_so_and_nothing_else(posts: PostWorld) -> None:
    posts.world.suspended.add("shop")
    answer = await send(posts.line.post_port(), posts.world.operator.files(merchant_urn("shop")).client(), post(request().encode()))
    assert status(answer) == 403
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "not_allowed"
    assert posts.world.heard == []


async def test_a_merchants_post_port_takes_frames_from_its_gateway_alone(posts: PostWorld) -> None:
    heard: list[str] = []

    async def shop(frame: str) -> str | None:
        heard.append(frame)
        return None

    async with posts.parts(on_request=shop).listening("127.0.0.1", 0) as listener:
        for urn in (merchant_urn("kiosk"), merchant_urn("shop")):
            answer = await send(listener.port, posts.world.operator.files(urn).client(), post(request().encode()))
            assert status(answer) == 403
        assert heard == []
        assert status(await send(listener.port, posts.world.gateway_files().client(), post(request().encode()))) == 204
        assert len(heard) == 1


BODIES = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"hello",
    b"{}",
    "그림자".encode(),
    b"a.b.c",
    b"A" * 60_000,
    request().encode()[:-1],
    request().encode() + b"\n",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_what_is_no_frame_is_answered_400_and_reaches_no_handler(posts: PostWorld, body: bytes) -> None:
    answer = await send(posts.line.post_port(), posts.world.operator.files(merchant_urn("shop")).client(), post(body))
    assert status(answer) == 400
    assert b"application/problem+json" in answer
    assert b"Python" not in answer
    assert posts.world.heard == []


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (post(b"A" * 65_537), 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b"A" * 0xFFFF + b"\r\n10\r\n" + b"A" * 16 + b"\r\n0\r\n\r\n", 413),
        (b"GET /line HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (post(b"x").replace(b"POST /line", b"POST /metrics"), 404),
        (post(b"x").replace(b"POST /line", b"POST /line/../etc"), 404),
        (post(b"x").replace(b"application/jose", b"application/json"), 415),
        (post(b"x").replace(b"Host: x", b"X: " + b"a" * 9000), 400),
        (b"\x00\x01 nothing of HTTP\r\n\r\n", 400),
    ],
)
async def test_what_is_no_post_of_a_frame_gets_a_clear_answer(posts: PostWorld, wire: bytes, expected: int) -> None:
    answer = await send(posts.line.post_port(), posts.world.operator.files(merchant_urn("shop")).client(), wire)
    assert status(answer) == expected
    assert posts.world.heard == []


async def test_a_slow_body_and_a_slow_head_are_given_up_and_hold_up_nobody(hasty: PostWorld) -> None:
    context = hasty.world.operator.files(merchant_urn("shop")).client()
    slow = [asyncio.create_task(send(hasty.line.post_port(), context, HEAD + b"Content-Length: 500\r\n\r\n" + b"A")) for _ in range(15)] + [
        asyncio.create_task(send(hasty.line.post_port(), context, b"POST /line HTT")) for _ in range(15)
    ]
    async with gateway_line(hasty.parts("steady")) as steady:
        await asyncio.wait_for(steady.connected.wait(), PATIENCE_S)
        assert await steady.ask(request())
    ended = [status(answer) for answer in await asyncio.gather(*slow)]
    assert ended[:15] == [408] * 15
    assert ended[15:] == [0] * 15
    await until(lambda: not hasty.line._post_listeners["vpn"]._connections())


async def test_handshakes_that_never_end_are_given_up(hasty: PostWorld, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        opened = [await asyncio.open_connection("127.0.0.1", hasty.line.post_port()) for _ in range(20)]
        opened[0][1].write(b"GET / HTTP/1.1\r\n\r\n")
        for reader, writer in opened:
            assert (await asyncio.wait_for(reader.read(100), PATIENCE_S))[:1] in {b"", b"\x15"}
            writer.close()
        await until(lambda: not hasty.line._post_listeners["vpn"]._knocking)
    assert caplog.text == ""


async def test_more_frames_at_once_than_are_served_are_answered_busy(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(frame: str) -> str | None:
        await release.wait()
        return None

    async with post_world(tmp_path, replace(LIMITS, handlers=2)) as posts:
        posts.world.answer = slow
        context = posts.world.operator.files(merchant_urn("shop")).client()
        waiting = [asyncio.create_task(send(posts.line.post_port(), context, post(request().encode()))) for _ in range(2)]
        await until(lambda: len(posts.world.heard) == 2)
        answer = await send(posts.line.post_port(), context, post(request().encode()))
        assert status(answer) == 503
        assert b"Retry-After: 1" in answer
        release.set()
        assert [status(answer) for answer in await asyncio.gather(*waiting)] == [204, 204]


async def test_more_connections_than_the_whole_port_takes_are_hung_up_on(tmp_path: Path) -> None:
    async with post_world(tmp_path, replace(LIMITS, total=3)) as posts:
        opened = [await asyncio.open_connection("127.0.0.1", posts.line.post_port()) for _ in range(5)]
        ended = [asyncio.create_task(reader.read(10)) for reader, _ in opened]
        await until(lambda: sum(task.done() for task in ended) == 2)
        for task, (_, writer) in zip(ended, opened, strict=True):
            task.cancel()
            writer.close()
        await asyncio.gather(*ended, return_exceptions=True)


class Impostor:
    """Answers POST with what a test likes, under a certificate of its choice."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.received = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.received += await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def impostor(files: Files, answer: bytes = b"") -> AsyncIterator[tuple[Impostor, int]]:
    made = Impostor(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=files.server())
    try:
        yield made, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("who", ["another merchant", "the gateway itself", "expired", "another purpose"])
async def test_no_byte_of_a_frame_goes_by_post_to_whoever_is_not_the_merchant(posts: PostWorld, who: str) -> None:
    operator = posts.world.operator
    files: dict[str, Callable[[], Files]] = {
        "another merchant": lambda: operator.files(merchant_urn("kiosk")),
        "the gateway itself": posts.world.gateway_files,
        "expired": lambda: operator.files(merchant_urn("shop"), at=CLOCK.now() - 100 * DAY_S),
        "another purpose": lambda: operator.files(merchant_urn("shop"), "merchant-sign"),
    }
    async with impostor(files[who]()) as (stranger, port):
        posts.addresses["shop"] = f"https://shop.localhost:{port}/line"
        await until(lambda: posts.line.figures("shop").post == "down")
        with pytest.raises(Unavailable):
            await posts.line.ask("shop", request())
        assert stranger.received == b""


async def test_no_byte_of_a_frame_goes_by_post_to_whoever_is_not_the_gateway(posts: PostWorld) -> None:
    async with impostor(posts.world.operator.files(merchant_urn("kiosk"))) as (stranger, port):
        parts = posts.parts()
        line = msgspec.structs.replace(parts.registration.line, post_port=port)
        async with gateway_line(replace(parts, registration=msgspec.structs.replace(parts.registration, line=line))) as gateway:
            await until(lambda: "cannot be reached" in gateway.down_reason)
            with pytest.raises(Unavailable):
                await gateway.ask(request())
        assert stranger.received == b""


ANSWERS = {
    "redirect": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "error": b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
    "page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>",
    "garbage": b"HTTP/1.1 200 OK\r\nContent-Type: application/jose\r\nContent-Length: 4\r\n\r\n\xff\xfe..",
    "endless": b"HTTP/1.1 200 OK\r\nContent-Type: application/jose\r\n\r\n" + b"A" * 200_000,
    "no HTTP": b"\x00\x01\x02\x03",
    "half": b"HTTP/1.1 200 OK\r\nContent-Type: application/jose\r\nContent-Length: 4000\r\n\r\nA",
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_bad_answer_by_post_is_unavailable_and_the_way_counts_as_down(posts: PostWorld, answer: str) -> None:
    async with impostor(posts.world.operator.files(merchant_urn("shop")), ANSWERS[answer]) as (_, port):
        posts.addresses["shop"] = f"https://shop.localhost:{port}/line"
        await until(lambda: posts.line.figures("shop").post == "down")
        assert not posts.line.connected("shop")
    assert posts.world.hellos == []
    assert posts.world.heard == []


async def test_a_hello_of_another_does_not_bring_the_way_up(posts: PostWorld) -> None:
    """The right certificate, but the kiosk's hello: whoever holds the shop's line key does not yet hold its signing key."""
    hello = posts.world.hello("kiosk").encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/jose\r\n" + f"Content-Length: {len(hello)}\r\n\r\n".encode() + hello
    async with impostor(posts.world.operator.files(merchant_urn("shop")), answer) as (_, port):
        posts.addresses["shop"] = f"https://shop.localhost:{port}/line"
        await until(lambda: posts.line.down_reason("shop") == "sender")
    assert posts.world.hellos == []


async def test_a_hello_by_post_of_another_merchant_is_refused(posts: PostWorld) -> None:
    context = posts.world.operator.files(merchant_urn("shop")).client()
    answer = await send(posts.line.post_port(), context, post(posts.world.hello("kiosk").encode()))
    refused = answer.partition(b"\r\n\r\n")[2].decode()
    assert read_frame(refused).typ == "hanbit-refused"
    good = posts.world.hello("shop")
    assert (
        read_frame((await send(posts.line.post_port(), context, post(good.encode()))).partition(b"\r\n\r\n")[2].decode()).typ
        == "hanbit-hello"
    )


def test_the_servers_own_event_loop_checks_names_as_early_as_the_other_one(tmp_path: Path) -> None:
    """`hanbit serve` runs on uvloop, whose TLS is another implementation: there too no byte goes to whoever is not the merchant."""

    async def main() -> None:
        async with post_world(tmp_path) as posts:
            async with posts.listening():
                assert await posts.line.ask("shop", request())
                assert (
                    status(await send(posts.line.post_port(), posts.world.operator.files(merchant_urn("shop")).client(), post(b"x"))) == 400
                )
            async with impostor(posts.world.operator.files(merchant_urn("kiosk"))) as (stranger, port):
                posts.addresses["shop"] = f"https://shop.localhost:{port}/line"
                await until(lambda: "CertificateError" in (posts.line.down_reason("shop") or ""))
                with pytest.raises(Unavailable):
                    await posts.line.ask("shop", request())
                assert stranger.received == b""

    uvloop.run(main())


def test_the_limits_of_post_stand_beside_the_others() -> None:
    limits = Limits()
    assert (limits.posts, limits.idle_s) == (16, 15.0)


async def test_handshakes_that_never_end_push_out_one_another_and_no_merchant_by_post(tmp_path: Path) -> None:
    async with post_world(tmp_path, replace(LIMITS, knocking=8)) as posts:
        opened = [await asyncio.open_connection("127.0.0.1", posts.line.post_port(), local_addr=("127.0.0.3", 0)) for _ in range(40)]
        await until(lambda: posts.world.line.stats().closed["pushed_out"] == 32)
        async with gateway_line(posts.parts("shop")) as shop:
            await asyncio.wait_for(shop.connected.wait(), PATIENCE_S)
            assert await shop.ask(request())
        for _, writer in opened:
            writer.close()


async def test_one_merchant_cannot_take_every_place_by_idle_connections_for_post(tmp_path: Path) -> None:
    async with post_world(tmp_path, replace(LIMITS, total=9, posts_from_one=4)) as posts:
        files = posts.world.operator.files(merchant_urn("kiosk"))
        port = posts.line.post_port()
        opened = [await asyncio.open_connection("127.0.0.1", port, ssl=files.client()) for _ in range(12)]
        ended = [asyncio.create_task(reader.read(1)) for reader, _ in opened]
        await until(lambda: sum(task.done() for task in ended) == 8)
        assert [task.done() for task in ended] == [True] * 8 + [False] * 4, "the one that has been idle longest goes"
        async with gateway_line(posts.parts("shop")) as shop:
            await asyncio.wait_for(shop.connected.wait(), PATIENCE_S)
            assert await shop.ask(request())
        for task, (_, writer) in zip(ended, opened, strict=True):
            task.cancel()
            writer.close()
        await asyncio.gather(*ended, return_exceptions=True)


async def test_a_gateway_that_swaps_answers_by_post_is_unavailable_whatever_comes_of_them(posts: PostWorld) -> None:
    """Each answer is handed on as a frame of its own; that it breaks a rule there says nothing about what was asked here."""
    both, asked = asyncio.Event(), []

    async def swap(frame: str) -> str | None:
        asked.append(frame)
        if len(asked) == 2:
            both.set()
        await both.wait()
        return answer_to(asked[1 - asked.index(frame)])

    async def broken(frame: str) -> str | None:
        handed_on.append(frame)
        raise ProtocolViolation("typ", "not for a shop")

    handed_on: list[str] = []
    posts.world.answer = swap
    async with gateway_line(posts.parts("shop", on_request=broken)) as shop:
        await asyncio.wait_for(shop.connected.wait(), PATIENCE_S)
        results = await asyncio.gather(shop.ask(request()), shop.ask(request()), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable, Unavailable]
        assert len(handed_on) == 2
        posts.world.answer = confirm
        await shop.tell(request())
        assert len(handed_on) == 3
