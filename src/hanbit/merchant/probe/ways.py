"""The probe's ways to the merchant under test: the line that it dials, or POST to its address; every frame that comes is kept.

`exchange` sends any bytes and tells what came back: frames that name them in their `req`, nothing, or that the merchant hung up.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from picows import WSCloseCode, WSUpgradeRequest, ws_create_server

from hanbit.crypto import tls
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable
from hanbit.line.connection import PATH, Connection, Limits
from hanbit.line.doors import BACKLOG, Door
from hanbit.line.post import TYPE
from hanbit.loopback import LoopbackResolver
from hanbit.merchant.probe.forge import hashes_of
from hanbit.merchant.probe.parties import MerchantTrust, Operator
from hanbit.protocols.line import Frame, HelloFromGateway, HelloFromMerchant, RefusedByGateway, make_hello, read_frame, read_hello
from hanbit.protocols.signed import Signer, head, sign

HEARD_MAX: Final = 10_000
"""Frames that one run keeps; a merchant that sends more is flooding."""
BODY_MAX: Final = 64 * 1024
_POST_AGAIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one frame; `end` says how it ended where no frame came."""

    frames: tuple[str, ...]
    end: str = ""


@dataclass(frozen=True, slots=True)
class Guise:
    """Who the probe pretends to be: whose `line` certificate it shows, and what it says first."""

    line: str
    hello: Callable[[], str]


class Heard:
    """Every frame of the merchant's in this run, by what it says it answers."""

    def __init__(self) -> None:
        self.frames: list[tuple[Frame, str]] = []
        self.news = asyncio.Event()

    def add(self, text: str) -> Frame:
        """Keep one; ProtocolViolation for what is no frame, Unavailable for a flood."""
        if len(self.frames) >= HEARD_MAX:
            raise Unavailable("the merchant sends too many frames")
        frame = read_frame(text)
        self.frames.append((frame, text))
        self.news.set()
        return frame

    def answers(self, hashes: set[str], since: int = 0) -> tuple[str, ...]:
        """The frames that name one of these in their `req`."""
        return tuple(text for frame, text in self.frames[since:] if not hashes.isdisjoint(frame.answers))


class Honest(Protocol):
    """What the probe does as an honest gateway while it is itself; `chores.Chores` is it."""

    def welcome(self, hello: str) -> tuple[str, ...]:
        """What a merchant that said this hello is told before anything else."""
        ...

    async def answer(self, frame: Frame, unverified: str) -> str | None:
        """The answer to a frame that the merchant sent by itself."""
        ...


class Way(Protocol):
    """How frames reach the merchant."""

    heard: Heard

    async def ready(self, wait_s: float) -> None:
        """Return once the merchant is there and hellos were exchanged; Unavailable if it does not come."""
        ...

    async def exchange(self, frame: str, wait_s: float) -> Reply:
        """Send these bytes and wait for what answers them."""
        ...

    async def tell(self, frame: str) -> None:
        """Send what needs no answer."""
        ...

    async def in_guise(self, guise: Guise, frame: str, wait_s: float) -> Reply:
        """Meet the merchant as somebody else, send this, and be oneself again."""
        ...


class Listening:
    """The gateway's end of the line: the merchant dials it."""

    def __init__(self, operator: Operator, clock: Clock, honest: Honest, *, limits: Limits | None = None) -> None:
        self.heard = Heard()
        self.port = 0
        self._operator = operator
        self._clock = clock
        self._honest = honest
        self._limits = limits or Limits()
        self._context = tls.server_context(*operator.line_files("gateway-line"), operator.root_file)
        self._self = Guise("gateway-line", lambda: _hello(operator.gateway, operator, clock))
        self._guise = self._self
        self._all: set[Connection] = set()
        self._open: list[Connection] = []
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator["Listening"]:
        """Listen while the block lasts."""
        server = await ws_create_server(
            self._accept,
            sock=Door("vpn", host, port, self._context).listener(lambda _: True, knocking_max=self._limits.knocking),
            backlog=BACKLOG,
            ssl=self._context,
            ssl_handshake_timeout=self._limits.handshake_s,
            ssl_shutdown_timeout=self._limits.close_s,
            websocket_handshake_timeout=self._limits.handshake_s,
            max_frame_size=self._limits.frame_bytes,
            enable_auto_pong=False,
            logger_name=Connection.prepare(),
        )
        self.port = int(server.sockets[0].getsockname()[1])
        ticker = asyncio.create_task(self._tick())
        try:
            yield self
        finally:
            ticker.cancel()
            server.close()
            connections = tuple(self._all)
            self._hang_up()
            await asyncio.gather(*(connection.finish() for connection in connections))
            await asyncio.gather(ticker, return_exceptions=True)
            await server.wait_closed()

    async def ready(self, wait_s: float) -> None:
        """As `Way`."""
        try:
            async with asyncio.timeout(wait_s):
                while not self._open:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"no merchant has come to the line within {wait_s:g} s") from None

    async def exchange(self, frame: str, wait_s: float) -> Reply:
        """As `Way`; by the newest connection."""
        if not self._open:
            raise Unavailable("the line is down")
        connection, hashes, since = self._open[0], hashes_of(frame), len(self.heard.frames)
        connection.send(frame)
        try:
            async with asyncio.timeout(wait_s):
                while not (found := self.heard.answers(hashes, since)):
                    if connection.reason:
                        return Reply((), f"hung up ({connection.reason})")
                    self.heard.news.clear()
                    await self.heard.news.wait()
        except TimeoutError:
            return Reply((), "")
        return Reply(found)

    async def tell(self, frame: str) -> None:
        """As `Way`."""
        if not self._open:
            raise Unavailable("the line is down")
        self._open[0].send(frame)

    async def in_guise(self, guise: Guise, frame: str, wait_s: float) -> Reply:
        """As `Way`: the merchant is hung up on and dials again."""
        self._wear(guise)
        try:
            self._hang_up()
            try:
                await self.ready(wait_s)
                return await self.exchange(frame, wait_s)
            except Unavailable:
                return Reply((), "did not talk to it")
        finally:
            self._wear(self._self)
            self._hang_up()

    # What a connection asks of the end to which it belongs

    def welcome(self, connection: Connection) -> None:
        """TLS is done; the merchant says hello first."""
        self._all.add(connection)
        operator = self._operator
        try:
            connection.urn = tls.peer_urn(connection.certificate, operator.root, self._clock.now(), operator.registration.operator)
        except ProtocolViolation as violation:
            connection.close(WSCloseCode.POLICY_VIOLATION, violation.rule)
            return
        if connection.urn != operator.merchant:
            connection.close(WSCloseCode.POLICY_VIOLATION, "sender")

    def greet(self, connection: Connection, unverified_hello: str) -> None:
        """The merchant's hello; ours is what the present guise says."""
        try:
            _check_hello(unverified_hello, self._operator.trust(), self._operator, self._clock)
        except HanbitError as error:
            connection.close(WSCloseCode.POLICY_VIOLATION, error.rule if isinstance(error, ProtocolViolation) else error.code)
            return
        connection.say_hello(self._guise.hello())
        connection.open()
        if self._guise is self._self:
            for frame in self._honest.welcome(unverified_hello):
                connection.send(frame)
        self._open.insert(0, connection)
        self._changed.set()

    async def serve(self, connection: Connection, unverified_frame: str) -> str | None:
        """Everything that the merchant sends."""
        del connection
        return await self._honest.answer(self.heard.add(unverified_frame), unverified_frame)

    def refuse(self, connection: Connection, request: str, code: str) -> str:
        """Our signed `refused`."""
        del connection
        claims = head(self._operator.gateway, self._operator.merchant, self._clock.now())
        return sign(RefusedByGateway(**claims, req=request, code=code), self._operator.gateway).compact

    def lost(self, connection: Connection) -> None:
        """The merchant hung up, or we did."""
        self._all.discard(connection)
        if connection in self._open:
            self._open.remove(connection)
        self._changed.set()
        self.heard.news.set()

    # Inside

    def _accept(self, request: WSUpgradeRequest) -> Connection | None:
        if request.path != PATH.encode("ascii") or len(self._all) >= self._limits.per_merchant * 2:
            return None
        return Connection(self, place="probe", limits=self._limits, clock=self._clock)

    def _wear(self, guise: Guise) -> None:
        self._guise = guise
        # The next handshakes of this very context show it.
        self._context.load_cert_chain(*self._operator.line_files(guise.line))

    def _hang_up(self) -> None:
        for connection in tuple(self._all):
            connection.close(WSCloseCode.GOING_AWAY, "going_away")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._limits.ping_s)
            for connection in tuple(self._all):
                connection.tick()


class Posting:
    """POST to the merchant's own address."""

    def __init__(self, url: str, operator: Operator, clock: Clock, honest: Honest) -> None:
        self.heard = Heard()
        self._honest = honest
        self._greeted = False
        self._url = url
        self._operator = operator
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Posting"]:
        """Ready to send while the block lasts."""
        async with self._http("gateway-line") as self._session:
            yield self

    async def ready(self, wait_s: float) -> None:
        """As `Way`: hellos are exchanged, once."""
        if self._greeted:
            return
        end = ""
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    reply = await self._post(self._session, _hello(self._operator.gateway, self._operator, self._clock), wait_s)
                    if reply.frames:
                        _check_hello(reply.frames[0], self._operator.trust(), self._operator, self._clock)
                        for frame in self._honest.welcome(reply.frames[0]):
                            await self._post(self._session, frame, wait_s)
                        self._greeted = True
                        return
                    end = reply.end
                    await asyncio.sleep(_POST_AGAIN_S)
        except TimeoutError:
            raise Unavailable(f"{self._url} has not answered our hello within {wait_s:g} s ({end or 'silence'})") from None

    async def exchange(self, frame: str, wait_s: float) -> Reply:
        """As `Way`: what answers comes in the response."""
        return await self._post(self._session, frame, wait_s)

    async def tell(self, frame: str) -> None:
        """As `Way`."""
        await self._post(self._session, frame, 5.0)

    async def in_guise(self, guise: Guise, frame: str, wait_s: float) -> Reply:
        """As `Way`: with another caller's certificate."""
        async with self._http(guise.line) as session:
            await self._post(session, guise.hello(), wait_s)
            return await self._post(session, frame, wait_s)

    def _http(self, line: str) -> aiohttp.ClientSession:
        chain, key = self._operator.line_files(line)
        context = tls.pinned_client_context(chain, key, self._operator.root_file, check=self._check)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, resolver=LoopbackResolver()), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )

    def _check(self, certificate: bytes) -> None:
        operator = self._operator
        urn = tls.peer_urn(certificate, operator.root, self._clock.now(), operator.registration.operator)
        if urn != operator.merchant:
            raise ProtocolViolation("not_the_merchant", urn)

    async def _post(self, session: aiohttp.ClientSession | None, frame: str, wait_s: float) -> Reply:
        if session is None:
            raise Unavailable("not opened")
        try:
            async with session.post(
                self._url,
                data=frame.encode("utf-8", "replace"),
                headers={"Content-Type": TYPE},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=wait_s),
            ) as response:
                body = await response.content.read(BODY_MAX)
                if response.status != 200:  # noqa: PLR2004 - a frame came back
                    return Reply((), "" if response.status == 204 else f"HTTP {response.status}")  # noqa: PLR2004 - nothing to answer
        except TimeoutError:
            return Reply((), "")
        except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
            return Reply((), type(error).__name__)
        text = body.decode("ascii", "replace")
        try:
            self.heard.add(text)
        except ProtocolViolation:
            return Reply((), "answered no frame")
        return Reply((text,))


def _hello(signer: Signer, operator: Operator, clock: Clock) -> str:
    return make_hello(HelloFromGateway, signer, operator.merchant, clock.now(), None)


def _check_hello(unverified: str, trust: MerchantTrust, operator: Operator, clock: Clock) -> None:
    gateway = operator.gateway.urn
    greeting = read_hello(unverified, HelloFromMerchant, trust=trust, audience=gateway, sender=operator.merchant, at=clock.now())
    if greeting.fault:
        raise ProtocolViolation(greeting.fault, f"the merchant's clock is {greeting.offset_s:+d} s away")
