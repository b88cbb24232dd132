"""What a certified peer can send, or not read: the line gives a clear answer or hangs up, and nobody else feels it."""

import asyncio
import os
import random
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from picows import WSMsgType

from hanbit.kernel import fail_points
from hanbit.kernel.errors import HanbitError, Unavailable
from hanbit.protocols.line import RefusedByGateway, frame_hash, read_frame
from hanbit.protocols.signed import verify
from tests.unit.line.parties import (
    CLOCK,
    GATEWAY,
    PATIENT,
    Raw,
    World,
    answer_to,
    frame_of,
    listening,
    merchant_urn,
    nothing,
    request,
)
from tests.waiting import until

SMALL = replace(PATIENT, pending=20, handlers=2, waiting=3, refusals=50, queue_high_bytes=32_768, queue_max_bytes=200_000, answer_s=0.5)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with listening(tmp_path, SMALL) as world:
        yield world


async def greet(world: World, peer: Raw, name: str = "shop") -> None:
    peer.send(world.hello(name))
    await peer.receive()
    await until(lambda: world.line.connected(name))


GARBAGE = [
    b"",
    b"\x00",
    b"\xff\xfe\xfd",
    b"hello",
    b"{}",
    "그림자".encode(),
    os.urandom(1000),
    b"a.b.c",
    b"A" * 60_000,
    (b"A" * 30_000) + b"." + (b"A" * 30_000) + b".A",
    request().encode()[:-1],
    request().encode() + b"\n",
    request().encode().replace(b".", b"\x00.", 1),
]


@pytest.mark.parametrize("kind", [WSMsgType.BINARY, WSMsgType.TEXT])
@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_closes_the_connection_with_a_code_and_reaches_no_handler(world: World, garbage: bytes, kind: WSMsgType) -> None:
    async with world.raw() as peer:
        await greet(world, peer)
        peer.send(garbage, kind)
        assert await peer.end() == (1003, "no_message")
    assert world.heard == []


async def test_garbage_in_place_of_the_hello_closes_the_connection(world: World) -> None:
    async with world.raw() as peer:
        peer.send(b"\xff\xff", WSMsgType.BINARY)
        assert await peer.end() == (1003, "no_message")


async def test_seeded_disorder_never_breaks_the_gateway(world: World, caplog: pytest.LogCaptureFixture) -> None:
    disorder = random.Random(7)
    async with world.connected("steady", limits=PATIENT):
        for _ in range(40):
            async with world.raw() as peer:
                await greet(world, peer)
                good = bytearray(request().encode())
                for _ in range(disorder.randrange(1, 4)):
                    good[disorder.randrange(len(good))] = disorder.randrange(256)
                peer.send(bytes(good), WSMsgType.BINARY)
                peer.send(request())
                await asyncio.sleep(0)
        assert await world.line.ask("steady", request())
    assert "Traceback" not in caplog.text


async def test_a_frame_beyond_the_limit_closes_the_connection(world: World) -> None:
    async with world.raw() as peer:
        await greet(world, peer)
        peer.send("A" * 65_537)
        ended = await peer.end()
        assert ended is None or ended[0] == 1009
    assert world.heard == []


async def test_a_message_in_fragments_closes_the_connection(world: World) -> None:
    async with world.raw() as peer:
        await greet(world, peer)
        peer.transport.send(WSMsgType.TEXT, request(), fin=False)
        assert await peer.end() == (1003, "fragmented")


@pytest.mark.parametrize(
    "wire", [b"\x81\x02hi", b"\x83\x80\x00\x00\x00\x00", b"\x89\xfe\x00\x7e" + bytes(200), b"\x09\x80\x00\x00\x00\x00"]
)
async def test_what_is_no_websocket_closes_the_connection(world: World, wire: bytes) -> None:
    """Unmasked, an opcode that does not exist, a ping too long, a ping in fragments."""
    async with world.raw() as peer:
        await greet(world, peer)
        peer.transport.underlying_transport.write(wire)
        ended = await peer.end()
        assert ended is None or ended[0] == 1002
    await until(lambda: not world.line.connected("shop"))


async def test_a_frame_of_unknown_typ_is_served_and_refused_and_the_line_stays(world: World) -> None:
    async def refuse(frame: str) -> str | None:
        raise Unavailable(frame)

    world.answer = refuse
    async with world.raw() as peer:
        await greet(world, peer)
        unknown = frame_of("no-such-thing")
        peer.send(unknown)
        refused = verify(
            await peer.receive(), RefusedByGateway, trust=world.operator.trust(GATEWAY), audience=merchant_urn("shop"), at=CLOCK.now()
        )
        assert refused.claims.req == frame_hash(unknown)
        assert world.line.connected("shop")


async def test_an_answer_to_nobody_resolves_nothing_and_is_handed_on(world: World) -> None:
    world.answer = nothing
    async with world.raw() as peer:
        await greet(world, peer)
        ask = asyncio.create_task(world.line.ask("shop", request()))
        asked = await peer.receive()
        stray = answer_to(request())
        peer.send(stray)
        await until(lambda: world.heard == [("shop", stray)])
        assert not ask.done()
        peer.send(answer_to(asked))
        assert read_frame(await ask).answers == (frame_hash(asked),)


async def test_one_merchant_cannot_answer_what_another_was_asked(world: World) -> None:
    world.answer = nothing
    async with world.raw("shop") as shop, world.raw("kiosk") as kiosk:
        await greet(world, shop)
        await greet(world, kiosk, "kiosk")
        ask = asyncio.create_task(world.line.ask("shop", request()))
        asked = await shop.receive()
        kiosk.send(answer_to(asked))
        await until(lambda: len(world.heard) == 1)
        assert not ask.done()
        shop.send(answer_to(asked))
        assert await ask


async def test_a_bad_first_answer_does_not_keep_the_good_second_one_from_being_heard(world: World) -> None:
    """`ask` returns unverified bytes; the role refuses them, and the better answer comes by the way of every late one."""
    world.answer = nothing
    async with world.raw() as peer:
        await greet(world, peer)
        ask = asyncio.create_task(world.line.ask("shop", request()))
        asked = await peer.receive()
        bad, good = answer_to(asked), answer_to(asked)
        peer.send(bad)
        peer.send(good)
        assert await ask == bad
        await until(lambda: world.heard == [("shop", good)])


async def test_requests_beyond_the_pending_limit_are_turned_away_at_once(world: World) -> None:
    async with world.raw() as peer:
        await greet(world, peer)
        asks = [asyncio.create_task(world.line.ask("shop", request())) for _ in range(25)]
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        assert sum("too many" in str(result) for result in results) == 5
        assert world.line.stats().merchants["shop"].pending == 0


async def test_a_flood_of_requests_is_answered_busy_and_then_cut_off(world: World) -> None:
    release = asyncio.Event()

    async def slow(frame: str) -> str | None:
        await release.wait()
        return answer_to(frame)

    world.answer = slow
    async with world.raw() as peer, world.connected("steady", limits=PATIENT):
        await greet(world, peer)
        frames = [request() for _ in range(15)]
        for frame in frames:
            peer.send(frame)
        refused = [await peer.receive() for _ in range(10)]
        assert {read_frame(answer).typ for answer in refused} == {"hanbit-refused"}
        busy = verify(refused[0], RefusedByGateway, trust=world.operator.trust(GATEWAY), audience=merchant_urn("shop"), at=CLOCK.now())
        assert busy.claims.code == "busy"
        assert len(world.heard) == SMALL.handlers
        release.set()
        answered = [await peer.receive() for _ in range(5)]
        assert {read_frame(answer).answers[0] for answer in answered} == {frame_hash(frame) for frame in frames[:5]}
        release.clear()
        for _ in range(200):
            peer.send(request())
        assert await peer.end() == (1008, "flood")
        assert await world.line.ask("steady", request())
        release.set()


async def test_a_peer_that_does_not_read_is_cut_off_and_costs_bounded_memory(world: World) -> None:
    async with world.raw() as peer, world.connected("steady", limits=PATIENT):
        await greet(world, peer)
        peer.transport.underlying_transport.pause_reading()
        connection = world.line._merchants["shop"][0]
        tracemalloc.start()
        for _ in range(2000):
            try:
                connection.send(request(30_000))
            except HanbitError:
                break
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert connection.reason == "slow_reader"
        assert peak < 3_000_000
        assert await world.line.ask("steady", request())


async def test_outcomes_wait_for_a_peer_that_reads_slowly_and_are_given_up_in_time(world: World) -> None:
    async with world.raw() as peer:
        await greet(world, peer)
        peer.transport.underlying_transport.pause_reading()
        told = 0

        async def tell_all() -> None:
            nonlocal told
            while told < 2000:
                await world.line.tell("shop", request(30_000))
                told += 1

        with pytest.raises(Unavailable):
            await tell_all()
        assert 0 < told < 2000
        assert world.line.connected("shop"), "slow is not yet too slow"
        peer.transport.underlying_transport.resume_reading()
        await until(lambda: world.line.stats().merchants["shop"].queue_bytes == 0)
        await world.line.tell("shop", request())


async def test_a_peer_that_stays_slow_is_cut_off_by_the_pings(tmp_path: Path) -> None:
    async with listening(tmp_path, replace(SMALL, ping_s=0.05)) as world, world.raw() as peer:
        await greet(world, peer)
        peer.transport.underlying_transport.pause_reading()
        await until(lambda: world.line.down_reason("shop") is not None)
        assert world.line.down_reason("shop") in {"silent", "slow_reader"}


async def test_pings_without_end_fill_no_queue(world: World) -> None:
    async with world.raw() as peer:
        await greet(world, peer)
        peer.transport.underlying_transport.pause_reading()
        connection = world.line._merchants["shop"][0]
        for _ in range(200):
            for _ in range(200):
                peer.transport.send_ping(b"x" * 125)
            await asyncio.sleep(0)
        assert connection.queue_bytes <= SMALL.queue_max_bytes


async def test_more_connections_than_the_whole_line_takes_are_turned_away(tmp_path: Path) -> None:
    async with listening(tmp_path, replace(PATIENT, total=1)) as world, world.connected("shop") as client:
        other = world.client("kiosk")
        await other.start()
        await until(lambda: "WSInvalidStatusError" in other.down_reason)
        assert client.connected.is_set()
        await other.stop()


async def test_each_frame_passes_the_places_at_which_crash_tests_kill(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    monkeypatch.setattr(fail_points, "reach", reached.append)
    async with world.connected(limits=PATIENT):
        reached.clear()
        await world.line.ask("shop", request())
        assert reached == ["line.gateway.sent", "line.merchant.received", "line.merchant.sent", "line.gateway.received"]
