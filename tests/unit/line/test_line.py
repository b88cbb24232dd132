"""The line between honest parties: requests both ways, several connections, restarts, limits, figures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import Declined, HanbitError, NotFound, ProtocolViolation, TooLarge, Unavailable
from hanbit.line.connection import Limits
from hanbit.merchant.line_client import LineClient, _address
from hanbit.protocols.line import HelloFromMerchant, RefusedByGateway, RefusedByMerchant, frame_hash, read_frame
from hanbit.protocols.signed import head, sign, verify
from tests.unit.line.parties import (
    CLOCK,
    DAY_S,
    GATEWAY,
    PATIENT,
    QUICK,
    Operator,
    World,
    acknowledgement,
    answer_to,
    frame_of,
    listening,
    merchant_urn,
    nothing,
    request,
)
from tests.waiting import PATIENCE_S, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with listening(tmp_path) as world:
        yield world


async def test_the_gateway_asks_and_the_merchant_asks_over_one_connection(world: World) -> None:
    async with world.connected() as client:
        notice, cancel = request(), request()
        answers = await asyncio.gather(world.line.ask("shop", notice), client.ask(cancel))
        assert [read_frame(answer).answers for answer in answers] == [(frame_hash(notice),), (frame_hash(cancel),)]
        assert world.heard == [("shop", cancel)]
        assert world.line.stats().merchants["shop"].connections == 1


async def test_two_merchants_are_never_mixed_up(world: World) -> None:
    async def silent(_: str) -> str | None:
        return None

    async with world.connected("shop"), world.connected("kiosk", on_request=silent):
        assert await world.line.ask("shop", request())
        with pytest.raises(Unavailable):
            await world.line.ask("kiosk", request(), timeout_s=0.05)
        with pytest.raises(Unavailable):
            await world.line.ask("stranger", request())


async def test_many_requests_in_flight_each_get_their_own_answer(world: World) -> None:
    """More than are served at once: a frame that arrives as a worker ends must not be forgotten (it was, once)."""
    async with world.connected() as client:
        for _ in range(5):
            frames = [request(400) for _ in range(300)]
            answers = await asyncio.gather(*(world.line.ask("shop", frame) for frame in frames), client.ask(request()))
            assert [read_frame(answer).answers for answer in answers[:-1]] == [(frame_hash(frame),) for frame in frames]


async def test_an_outcome_is_told_and_its_acknowledgement_comes_as_a_frame_of_its_own(world: World) -> None:
    told: list[str] = []

    async def keep(frame: str) -> str | None:
        told.append(frame)
        return None

    world.answer = nothing
    async with world.connected(on_request=keep) as client:
        outcomes = [request() for _ in range(100)]
        for outcome in outcomes:
            await world.line.tell("shop", outcome)
        await until(lambda: len(told) == 100)
        acknowledged = acknowledgement(world.operator.signer(merchant_urn("shop"), "merchant-sign"), *told)
        await client.tell(acknowledged)
        await until(lambda: world.heard == [("shop", acknowledged)])
        assert read_frame(acknowledged).answers == tuple(frame_hash(outcome) for outcome in outcomes)


async def test_both_ends_are_told_when_the_line_is_up_and_measure_each_others_clock(world: World) -> None:
    async with world.connected() as client:
        assert world.hellos == ["shop"]
        assert world.line.connected("shop")
        assert world.line.down_reason("shop") is None
        assert abs(client.offset_s or 0) <= 1
        assert abs(world.line.offset_s("shop") or 0) <= 1
        await until(lambda: client.round_trip_s is not None and world.line.stats().merchants["shop"].round_trip_s is not None)
    await until(lambda: not world.line.connected("shop"))
    assert world.line.down_reason("shop") == "peer_going_away"
    assert world.line.offset_s("stranger") is None


@pytest.mark.parametrize(("offset_s", "warned"), [(20, False), (45, True), (-45, True)])
async def test_a_clock_that_is_a_little_wrong_is_measured_and_works_and_both_ends_warn(
    world: World, offset_s: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.connected(clock=ManualClock(CLOCK.now() + offset_s), limits=PATIENT) as client:
        assert await world.line.ask("shop", request())
        assert abs((world.line.offset_s("shop") or 0) - offset_s) <= 1
        assert abs((client.offset_s or 0) + offset_s) <= 1
    warnings = {record.name for record in caplog.records if record.levelname == "WARNING" and "clock of" in record.message}
    assert warnings == ({"hanbit.line", "hanbit.merchant.line"} if warned else set())


@pytest.mark.parametrize("offset_s", [70, -70, 500, -500, 86_400, -86_400])
async def test_a_clock_more_than_a_minute_off_counts_as_down_with_that_reason_and_its_figure(world: World, offset_s: int) -> None:
    # Its certificates are older than its clock is wrong: what is measured here is the clock alone.
    client = world.client(clock=ManualClock(CLOCK.now() + offset_s))
    await client.start()
    await until(lambda: "clock_offset" in client.down_reason)
    assert not client.connected.is_set()
    assert not world.line.connected("shop")
    await until(lambda: world.line.down_reason("shop") in {"clock_offset", "peer_clock_offset"})
    assert abs((world.line.offset_s("shop") or 0) - offset_s) <= 1
    assert abs((client.offset_s or 0) + offset_s) <= 1
    with pytest.raises(Unavailable, match="clock_offset"):
        await world.line.ask("shop", request())
    await client.stop()


async def test_a_hello_whose_signature_lies_in_the_future_does_not_open_the_line(world: World) -> None:
    """Its `time` is right, but it was dated to be good for years."""
    signer = world.operator.signer(merchant_urn("shop"), "merchant-sign")
    at = CLOCK.now()
    claims = head(signer, GATEWAY, at + 100_000)
    hello = sign(HelloFromMerchant(**claims, nonce="A" * 22, time=at, exp=at + 200_000), signer).compact
    async with world.raw() as peer:
        peer.send(hello)
        assert await peer.end() == (1008, "clock_offset")
    assert world.hellos == []


async def test_the_merchant_comes_back_by_itself_after_the_gateway_was_restarted(world: World) -> None:
    async with world.connected() as client:
        await world.line.stop()
        await until(lambda: not client.connected.is_set())
        with pytest.raises(Unavailable):
            await client.ask(request())
        await asyncio.sleep(0.3)
        await world.start()
        await asyncio.wait_for(client.connected.wait(), PATIENCE_S)
        await until(lambda: world.line.connected("shop"))
        assert await world.line.ask("shop", request())
        assert await client.ask(request())
    await world.line.stop()


async def test_a_client_started_before_its_gateway_finds_it_later(tmp_path: Path) -> None:
    async with listening(tmp_path) as world:
        client = world.client()
        await world.line.stop()
        await client.start()
        await until(lambda: client.down_reason.startswith("cannot be reached"))
        await world.start()
        await asyncio.wait_for(client.connected.wait(), PATIENCE_S)
        await client.stop()


async def test_backoff_grows_with_jitter_to_its_limit_and_starts_again_after_a_good_connection(world: World) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    client = world.client(limits=replace(QUICK, backoff_first_s=0.1, backoff_max_s=5.0))
    await world.line.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hanbit.merchant.line_client.asyncio.sleep", note)
        await client.start()
        while len(waits) < 12:
            await sleep(0.01)
        await client.stop()
    expected = [min(0.1 * 2**tries, 5.0) for tries in range(12)]
    assert all(whole / 2 <= wait <= whole for wait, whole in zip(waits, expected, strict=False))
    assert len({wait / whole for wait, whole in zip(waits, expected, strict=False)}) > 6


async def test_of_two_connections_the_newest_is_asked_and_the_older_takes_over(world: World) -> None:
    async def first(frame: str) -> str | None:
        return answer_to(frame, typ="first")

    async def second(frame: str) -> str | None:
        return answer_to(frame, typ="second")

    async with world.connected(on_request=first):
        async with world.connected(on_request=second):
            await until(lambda: world.line.stats().merchants["shop"].connections == 2)
            assert read_frame(await world.line.ask("shop", request())).typ == "hanbit-second"
        await until(lambda: world.line.stats().merchants["shop"].connections == 1)
        assert read_frame(await world.line.ask("shop", request())).typ == "hanbit-first"


async def test_a_fifth_connection_replaces_the_oldest(world: World) -> None:
    async with AsyncExitStack() as stack:
        peers = []
        for _ in range(5):
            peers.append(await stack.enter_async_context(world.raw()))
            peers[-1].send(world.hello())
            assert read_frame(await peers[-1].receive()).typ == "hanbit-hello"
        assert await peers[0].end() == (1013, "replaced")
        assert world.line.stats().merchants["shop"].connections == 4


async def test_a_silent_connection_is_not_asked_while_another_is_healthy(world: World) -> None:
    async def older(frame: str) -> str | None:
        return answer_to(frame, typ="older")

    async with world.connected(on_request=older), world.connected():
        await until(lambda: world.line.stats().merchants["shop"].connections == 2)
        newest = world.line._merchants["shop"][0]
        newest.missed = 1
        assert read_frame(await world.line.ask("shop", request())).typ == "hanbit-older"
        newest.missed = 0


async def test_a_disconnection_ends_every_wait_at_once(world: World) -> None:
    heard, hung_up = [], asyncio.Event()

    async def silent(frame: str) -> str | None:
        heard.append(frame)
        await hung_up.wait()
        return None

    world.answer = silent
    async with world.connected(on_request=silent, limits=PATIENT) as client:
        waits = [asyncio.create_task(world.line.ask("shop", request(), timeout_s=30 * PATIENCE_S)) for _ in range(5)]
        waits += [asyncio.create_task(client.ask(request(), timeout_s=30 * PATIENCE_S)) for _ in range(5)]
        await until(lambda: len(heard) == len(waits))
        world.line._merchants["shop"][0].cut("test")
        results = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), PATIENCE_S)
        hung_up.set()
        assert all(isinstance(result, Unavailable) for result in results)


async def test_an_answer_that_does_not_come_is_unavailable_and_one_that_comes_late_is_handed_on(world: World) -> None:
    async def late(frame: str) -> str | None:
        await asyncio.sleep(0.15)
        return answer_to(frame)

    world.answer = nothing
    async with world.connected(on_request=late):
        frame = request()
        with pytest.raises(Unavailable):
            await world.line.ask("shop", frame, timeout_s=0.05)
        assert world.line.stats().merchants["shop"].pending == 0
        await until(lambda: len(world.heard) == 1)
        assert read_frame(world.heard[0][1]).answers == (frame_hash(frame),)
        assert world.line.stats().merchants["shop"].unsolicited == 1


async def test_an_asker_that_gives_up_leaves_nothing_behind(world: World) -> None:
    async with world.connected(on_request=nothing):
        task = asyncio.create_task(world.line.ask("shop", request()))
        await until(lambda: world.line.stats().merchants["shop"].pending == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert world.line.stats().merchants["shop"].pending == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProtocolViolation("aud", "somebody else"), "aud"),
        (NotFound(), "not_found"),
        (Declined("no_funds"), "declined"),
        (Unavailable(), "unavailable"),
        (KeyError("ours"), "unavailable"),
    ],
)
async def test_what_a_handler_does_not_accept_is_answered_refused_and_the_line_stays(
    world: World, error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(_: str) -> str | None:
        raise error

    world.answer = refuse
    async with world.connected(on_request=refuse) as client:
        mine, theirs = request(), request()
        by_gateway = verify(
            await client.ask(mine),
            RefusedByGateway,
            trust=world.operator.trust(GATEWAY),
            audience=merchant_urn("shop"),
            at=CLOCK.now(),
        )
        by_merchant = verify(
            await world.line.ask("shop", theirs),
            RefusedByMerchant,
            trust=world.operator.trust(merchant_urn("shop")),
            audience=GATEWAY,
            at=CLOCK.now(),
        )
        assert (by_gateway.claims.req, by_gateway.claims.code) == (frame_hash(mine), code)
        assert (by_merchant.claims.req, by_merchant.claims.code) == (frame_hash(theirs), code)
        assert world.line.connected("shop")
    assert ("could not be served" in caplog.text) is not isinstance(error, HanbitError)


async def test_a_refusal_is_never_answered_by_a_refusal(world: World) -> None:
    async def refuse(_: str) -> str | None:
        raise ProtocolViolation("typ")

    world.answer = refuse
    async with world.raw() as peer:
        peer.send(world.hello())
        await peer.receive()
        peer.send(frame_of("refused", req=frame_hash(request()), code="typ"))
        peer.send(request())
        assert read_frame(await peer.receive()).typ == "hanbit-refused"
        assert len(world.heard) == 2
        assert peer.frames.empty()


async def test_a_frame_that_is_too_long_is_refused_before_it_is_sent(world: World) -> None:
    async with world.connected() as client:
        with pytest.raises(TooLarge):
            await client.ask(request(64 * 1024))
        with pytest.raises(TooLarge):
            await world.line.tell("shop", request(64 * 1024))
        assert await client.ask(request(40_000))


async def test_an_envelope_travels_in_the_same_frame(world: World) -> None:
    async with world.connected() as client:
        frame = request() + "\neyJ9..AAAA.BBBB.CCCC"
        assert read_frame(await client.ask(frame)).answers == (frame_hash(frame),)
        assert world.heard == [("shop", frame)]


async def test_a_silent_peer_is_dead_after_two_missed_pings(world: World) -> None:
    async with world.raw(pong=False) as peer:
        peer.send(world.hello())
        await peer.receive()
        await peer.end()
        assert not world.line.connected("shop")
        assert world.line.down_reason("shop") == "silent"


async def test_a_gateway_that_went_silent_is_left(tmp_path: Path) -> None:
    async with listening(tmp_path, PATIENT) as world, world.connected() as client:
        connection = client._connection
        assert connection is not None
        silenced = world.line._merchants["shop"][0]
        silenced.on_ws_frame = lambda *_: None  # type: ignore[method-assign]  # it hears nothing
        await until(lambda: connection.reason != "")
        assert connection.reason == "silent"
        await asyncio.wait_for(client.connected.wait(), PATIENCE_S)


async def test_a_suspended_merchant_is_hung_up_on_at_once_and_not_let_in_again(world: World) -> None:
    async with world.connected() as client:
        world.suspended.add("shop")
        world.line.drop("shop", "suspended")
        assert not world.line.connected("shop")
        assert world.line.down_reason("shop") == "suspended"
        await until(lambda: client.down_reason == "peer_not_allowed")
        world.suspended.clear()
        await asyncio.wait_for(client.connected.wait(), PATIENCE_S)


async def test_a_merchant_suspended_between_its_certificate_and_its_hello_does_not_get_in(world: World) -> None:
    async with world.raw() as peer:
        await asyncio.sleep(0.02)
        world.line.drop("shop", "suspended")
        peer.send(world.hello())
        assert await peer.end() == (1008, "suspended")
    assert world.hellos == []


async def test_a_merchant_suspended_elsewhere_is_noticed_at_the_next_review(world: World) -> None:
    async with world.connected():
        world.suspended.add("shop")
        await until(lambda: not world.line.connected("shop"))


async def test_a_certificate_that_expires_while_connected_ends_the_connection(world: World) -> None:
    async with world.connected(files=world.operator.files(merchant_urn("shop"))):
        world.line._clock = ManualClock(CLOCK.now() + 90 * DAY_S)
        await until(lambda: world.line.down_reason("shop") == "certificate_dates")


async def test_stopping_waits_for_the_handlers_at_work_and_cuts_short_what_takes_too_long(world: World) -> None:
    done: list[str] = []

    async def slow(_: str) -> str | None:
        await asyncio.sleep(0.1)
        done.append("slow")
        return None

    async def stuck(_: str) -> str | None:
        await asyncio.sleep(60)
        done.append("stuck")
        return None

    for handler in (slow, stuck):
        world.answer = handler
        async with world.connected() as client:
            await client.tell(request())
            await until(lambda: world.line.stats().merchants["shop"].unserved == 1)
            await world.line.stop()
        assert done == ["slow"]
        await world.start()


async def test_stopping_a_client_in_the_middle_of_a_dial_leaves_nothing_behind(world: World) -> None:
    client: LineClient = world.client()
    await client.start()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await client.stop()
    await client.stop()
    await asyncio.sleep(0.05)
    assert not client.connected.is_set()
    assert world.line.stats().greeting == 0


def test_names_under_localhost_are_this_machine() -> None:
    assert [_address(host) for host in ("localhost", "pay.localhost", "pay.example", "::1", "10.0.0.1")] == [
        "127.0.0.1",
        "127.0.0.1",
        "pay.example",
        "[::1]",
        "10.0.0.1",
    ]


def test_the_gateway_finds_its_limits_in_one_place(tmp_path: Path) -> None:
    limits = Limits()
    assert (limits.frame_bytes, limits.ping_s, limits.pings_missed, limits.per_merchant) == (65_536, 10.0, 2, 4)
    assert max(limits.handshake_s, limits.hello_s) <= 5
    assert limits.backoff_max_s * 1.5 < 10
    assert Operator(tmp_path).name in GATEWAY
