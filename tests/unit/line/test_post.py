"""The line by HTTPS POST between honest parties, both directions, and how connection and POST stand in for one another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hanbit.crypto import tls
from hanbit.crypto.tls import LineTls
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import ProtocolViolation, TooLarge, Unavailable
from hanbit.line.connection import Limits
from hanbit.line.doors import Door
from hanbit.line.post import PostListener
from hanbit.merchant import files as shop_files
from hanbit.merchant.gateway_line import GatewayLine
from hanbit.merchant.line_parts import LineParts
from hanbit.protocols.line import RefusedByGateway, RefusedByMerchant, frame_hash, read_frame
from hanbit.protocols.signed import verify
from tests.unit.line.parties import (
    CLOCK,
    GATEWAY,
    OPERATOR,
    QUICK,
    Answer,
    Operator,
    World,
    answer_to,
    confirm,
    frame_of,
    merchant_urn,
    nothing,
    request,
)
from tests.waiting import PATIENCE_S, until

LIMITS = replace(QUICK, hello_s=PATIENCE_S, handshake_s=PATIENCE_S, answer_s=PATIENCE_S, idle_s=PATIENCE_S, pings_missed=1200)
"""Looks and greets as often as QUICK, and gives up on nobody: a busy machine is not a silent peer."""


@dataclass
class PostWorld:
    """A gateway that takes and sends POST, and shops that do."""

    world: World
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def line(self) -> Any:
        return self.world.line

    def parts(self, name: str = "shop", *, on_request: Answer = confirm, **changes: Any) -> LineParts:
        """A shop of this name, with everything of its own."""
        operator, urn = self.world.operator, merchant_urn(name)
        made = operator.files(urn)
        directory = operator.folder / f"{name}-{len(list(operator.folder.iterdir()))}"
        (directory / "keys").mkdir(parents=True)
        for source, target in zip((made.chain, made.key, made.root), shop_files.line_paths(directory), strict=True):
            source.rename(target)
        line = shop_files.LineAddress("gateway.localhost", self.world.port, post_port=self.world.line.post_port())
        registration = shop_files.Registration(OPERATOR, urn, GATEWAY, line, "https://pay.example/pay")
        parts = LineParts(
            registration,
            operator.root_der,
            operator.signer(urn, "merchant-sign"),
            LineTls(*shop_files.line_paths(directory)),
            operator.trust(GATEWAY),
            CLOCK,
            on_request,
            limits=LIMITS,
        )
        return replace(parts, **changes)

    @asynccontextmanager
    async def listening(self, name: str = "shop", **options: Any) -> AsyncIterator[PostListener[str]]:
        """A shop that never dials, and that the gateway has greeted."""
        async with self.parts(name, **options).listening("127.0.0.1", 0) as listener:
            self.addresses[name] = f"https://{name}.localhost:{listener.port}/line"
            await until(lambda: self.line.figures(name).post == "up" and self.line.figures(name).round_trip_s is not None)
            yield listener


@asynccontextmanager
async def post_world(folder: Path, limits: Limits = LIMITS) -> AsyncIterator[PostWorld]:
    world = World(Operator(folder))
    made = PostWorld(world)
    files = world.gateway_files()
    door = Door("vpn", "127.0.0.1", 0, files.server(), carries="posts")
    await world.start(
        limits,
        more_doors=[door],
        post_addresses=lambda: made.addresses,
        post_context=lambda check: tls.pinned_client_context(files.chain, files.key, files.root, check=check),
    )
    try:
        yield made
    finally:
        await world.line.stop()


@pytest.fixture
async def posts(tmp_path: Path) -> AsyncIterator[PostWorld]:
    async with post_world(tmp_path) as made:
        yield made


@asynccontextmanager
async def gateway_line(parts: LineParts) -> AsyncIterator[GatewayLine]:
    line = GatewayLine(None, parts.way(), limits=LIMITS)
    await line.start()
    try:
        yield line
    finally:
        await line.stop()


async def test_a_merchant_that_never_dials_is_asked_and_told_by_post(posts: PostWorld) -> None:
    told: list[str] = []

    async def shop(frame: str) -> str | None:
        told.append(frame)
        return answer_to(frame, typ="acknowledgement" if "settled" in read_frame(frame).typ else "confirmation")

    async with posts.listening(on_request=shop):
        assert posts.line.connected("shop")
        assert posts.world.hellos == ["shop"], "what waits for it is sent once it is there"
        notice, outcome = request(), frame_of("settled")
        assert read_frame(await posts.line.ask("shop", notice)).answers == (frame_hash(notice),)
        await posts.line.tell("shop", outcome)
        assert told == [notice, outcome]
        (who, acknowledgement) = posts.world.heard[0]
        assert (who, read_frame(acknowledgement).answers) == ("shop", (frame_hash(outcome),)), "it goes the way of every late answer"
        figures = posts.line.figures("shop")
        assert (figures.up, figures.connections, figures.post, figures.down_reason) == (True, 0, "up", None)
        assert abs(figures.offset_s) <= 1


async def test_a_merchant_asks_and_tells_by_post_while_it_has_no_connection(posts: PostWorld) -> None:
    async with gateway_line(posts.parts()) as line:
        await asyncio.wait_for(line.connected.wait(), PATIENCE_S)
        inquiry, late = request(), frame_of("confirmation", req="x")
        assert read_frame(await line.ask(inquiry)).answers == (frame_hash(inquiry),)
        posts.world.answer = nothing
        await line.tell(late)
        assert posts.world.heard == [("shop", inquiry), ("shop", late)]
        assert abs(line.offset_s or 0) <= 1
        assert line.round_trip_s is not None
        assert line.down_reason == ""


async def test_the_connection_goes_before_post_on_both_sides(posts: PostWorld) -> None:
    async def by_post(frame: str) -> str | None:
        return answer_to(frame, typ="post")

    async def by_connection(frame: str) -> str | None:
        return answer_to(frame, typ="connection")

    parts = posts.parts(on_request=by_post)
    async with posts.listening(on_request=by_post):
        assert read_frame(await posts.line.ask("shop", request())).typ == "hanbit-post"
        client = posts.world.client(on_request=by_connection, limits=LIMITS)
        line = GatewayLine(client, parts.way(), limits=LIMITS)
        await line.start()
        await asyncio.wait_for(client.connected.wait(), PATIENCE_S)
        await until(lambda: posts.line.figures("shop").connections == 1)
        assert read_frame(await posts.line.ask("shop", request())).typ == "hanbit-connection"
        assert await line.ask(request())
        await client.stop()
        await until(lambda: posts.line.figures("shop").connections == 0)
        assert read_frame(await posts.line.ask("shop", request())).typ == "hanbit-post"
        # The shop's own side falls back as well, and says that it has a way.
        await asyncio.wait_for(line.connected.wait(), PATIENCE_S)
        assert await line.ask(request())
        await line.stop()
        with pytest.raises(Unavailable):
            await client.ask(request())


async def test_post_that_failed_counts_as_down_until_a_hello_is_answered_again(posts: PostWorld) -> None:
    parts = posts.parts()
    async with parts.listening("127.0.0.1", 0) as listener:
        port = listener.port
        posts.addresses["shop"] = f"https://shop.localhost:{port}/line"
        await until(lambda: posts.world.hellos == ["shop"])
    with pytest.raises(Unavailable):
        await posts.line.ask("shop", request())
    assert not posts.line.connected("shop")
    assert "cannot be reached" in posts.line.down_reason("shop")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await posts.line.tell("shop", request())
    async with parts.listening("127.0.0.1", port):
        await until(lambda: posts.world.hellos == ["shop", "shop"])
        assert await posts.line.ask("shop", request())


async def test_a_gateway_that_is_gone_leaves_the_shop_without_a_way(posts: PostWorld) -> None:
    async with gateway_line(posts.parts()) as line:
        await asyncio.wait_for(line.connected.wait(), PATIENCE_S)
        await posts.line.stop()
        with pytest.raises(Unavailable):
            await line.ask(request())
        assert not line.connected.is_set()
        assert "cannot be reached" in line.down_reason
        with pytest.raises(Unavailable, match="down"):
            await line.tell(request())


@pytest.mark.parametrize(
    ("error", "code"), [(ProtocolViolation("aud"), "aud"), (Unavailable(), "unavailable"), (KeyError("ours"), "unavailable")]
)
async def test_what_is_not_accepted_is_answered_refused_by_post_too(posts: PostWorld, error: Exception, code: str) -> None:
    async def refuse(_: str) -> str | None:
        raise error

    posts.world.answer = refuse
    async with posts.listening(on_request=refuse), gateway_line(posts.parts()) as line:
        await asyncio.wait_for(line.connected.wait(), PATIENCE_S)
        mine, theirs = request(), request()
        trust = posts.world.operator.trust
        by_gateway = verify(await line.ask(mine), RefusedByGateway, trust=trust(GATEWAY), audience=merchant_urn("shop"), at=CLOCK.now())
        answer = await posts.line.ask("shop", theirs)
        by_shop = verify(answer, RefusedByMerchant, trust=trust(merchant_urn("shop")), audience=GATEWAY, at=CLOCK.now())
        assert (by_gateway.claims.req, by_gateway.claims.code) == (frame_hash(mine), code)
        assert (by_shop.claims.req, by_shop.claims.code) == (frame_hash(theirs), code)
        # A refusal is answered by nothing.
        await line.tell(frame_of("refused", req=frame_hash(request()), code="typ"))


async def test_an_answer_to_something_else_is_handed_on_and_answers_nobody(posts: PostWorld) -> None:
    other = request()

    async def stray(_: str) -> str | None:
        return answer_to(other)

    posts.world.answer = nothing
    async with posts.listening(on_request=stray):
        with pytest.raises(Unavailable):
            await posts.line.ask("shop", request())
        assert [read_frame(frame).answers for _, frame in posts.world.heard] == [(frame_hash(other),)]


async def test_a_slow_merchant_is_unavailable_in_time_and_not_thereby_down(posts: PostWorld) -> None:
    release = asyncio.Event()

    async def slow(frame: str) -> str | None:
        await release.wait()
        return answer_to(frame)

    async with posts.listening(on_request=slow):
        with pytest.raises(Unavailable):
            await posts.line.ask("shop", request(), timeout_s=0.1)
        assert posts.line.connected("shop")
        release.set()
        assert await posts.line.ask("shop", request())


async def test_many_frames_at_once_each_get_their_own_answer_by_post(posts: PostWorld) -> None:
    async with posts.listening(), gateway_line(posts.parts()) as line:
        await asyncio.wait_for(line.connected.wait(), PATIENCE_S)
        frames = [request(300) for _ in range(60)]
        answers = await asyncio.gather(*(posts.line.ask("shop", frame) for frame in frames), *(line.ask(frame) for frame in frames))
        assert [read_frame(answer).answers for answer in answers] == [(frame_hash(frame),) for frame in (*frames, *frames)]


async def test_a_frame_too_long_is_refused_before_it_is_sent_by_post(posts: PostWorld) -> None:
    async with posts.listening():
        with pytest.raises(TooLarge):
            await posts.line.ask("shop", request(64 * 1024))
        assert posts.line.connected("shop")


async def test_an_envelope_travels_by_post_as_well(posts: PostWorld) -> None:
    async with gateway_line(posts.parts()) as line:
        await asyncio.wait_for(line.connected.wait(), PATIENCE_S)
        frame = request() + "\neyJ9..AAAA.BBBB.CCCC"
        assert read_frame(await line.ask(frame)).answers == (frame_hash(frame),)
        assert posts.world.heard == [("shop", frame)]


@pytest.mark.parametrize("offset_s", [500, -500])
async def test_a_clock_too_far_off_counts_as_down_by_post_with_its_figure(posts: PostWorld, offset_s: int) -> None:
    parts = posts.parts(clock=ManualClock(CLOCK.now() + offset_s))
    async with parts.listening("127.0.0.1", 0) as listener, gateway_line(parts) as line:
        posts.addresses["shop"] = f"https://127.0.0.1:{listener.port}/line"
        await until(lambda: posts.line.down_reason("shop") == "clock_offset")
        assert abs(posts.line.offset_s("shop") - offset_s) <= 1
        assert not posts.line.connected("shop")
        await until(lambda: line.down_reason == "clock_offset")
        assert abs((line.offset_s or 0) + offset_s) <= 1
        assert not line.connected.is_set()


async def test_a_post_address_that_is_taken_away_or_changed_is_not_used_any_more(posts: PostWorld) -> None:
    async with posts.listening():
        posts.line.drop("shop", "line_changed")
        await until(lambda: posts.world.hellos == ["shop", "shop"])
        assert await posts.line.ask("shop", request())
        posts.addresses.clear()
        await until(lambda: posts.line.figures("shop").post is None)
        assert not posts.line.connected("shop")
        with pytest.raises(Unavailable):
            await posts.line.ask("shop", request())
