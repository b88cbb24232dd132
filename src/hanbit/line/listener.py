"""The gateway's end of the private line: merchants dial in, and the gateway asks them as a client (R8) and serves them (C1, D6)."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from picows import WSCloseCode, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener, ws_create_server

from hanbit.crypto import tls
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, NotAllowed, ProtocolViolation, Unavailable, code_on_the_line
from hanbit.line.connection import PATH, Connection, Limits, warn_of_offset
from hanbit.line.doors import BACKLOG, Door, Mode, Peer
from hanbit.line.figures import LineFigures, LineStats, MerchantStats
from hanbit.line.post import PostListener, PostWay
from hanbit.line.posts import Posts
from hanbit.line.reception import Reception
from hanbit.protocols.line import Greeting, HelloFromGateway, HelloFromMerchant, RefusedByGateway, make_hello, read_frame, read_hello
from hanbit.protocols.signed import Signer, Trust, head, sign

Admit = Callable[[Peer], Awaitable[str]]
"""Who knocks → merchant id; raises a HanbitError for whoever is unknown or revoked, or registered for another door."""
OnRequest = Callable[[str, str, str], Awaitable[str | None]]
"""(merchant id, merchant's URN, unverified frame) → the frame to send back, if any."""
OnConnected = Callable[[str, HelloFromMerchant], None]
"""A merchant can be asked again: what waits for it may be sent."""
PostContext = Callable[[Callable[[bytes], object]], ssl.SSLContext]
"""What checks a server's certificate (DER) → TLS for calling it with the gateway's own certificate."""
_log = logging.getLogger("hanbit.line")
_LOG_EVERY_S = 1.0


class Line:
    """The listener, and by it every connected merchant."""

    def __init__(self, *, signer: Signer, trust: Trust, clock: Clock, root: bytes, operator: str, limits: Limits | None = None) -> None:
        self._signer = signer
        self._trust = trust
        self._clock = clock
        self._root = root
        self._operator = operator
        self._limits = limits or Limits()
        self._doors: dict[Mode, Door] = {}
        self._servers: dict[Mode, asyncio.Server] = {}
        self._receptions: dict[Mode, Reception] = {}
        self._post_listeners: dict[Mode, PostListener[str]] = {}
        self._posts: Posts | None = None
        self._admit: Admit | None = None
        self._on_request: OnRequest | None = None
        self._on_connected: OnConnected | None = None
        self._on_moved: Callable[[], None] = _nothing
        self._checkpoint: Callable[[], str | None] = _no_checkpoint
        self._all: set[Connection] = set()
        self._merchants: dict[str, list[Connection]] = {}
        self._hellos: dict[Connection, asyncio.Future[str]] = {}
        self._down: dict[str, str] = {}
        self._offsets: dict[str, int] = {}
        self._closed: Counter[str] = Counter()
        self._logged_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticks = 0
        self._ticker: asyncio.TimerHandle | None = None

    async def start(
        self,
        *doors: Door,
        admit: Admit,
        on_request: OnRequest,
        on_connected: OnConnected | None = None,
        on_moved: Callable[[], None] | None = None,
        checkpoint: Callable[[], str | None] | None = None,
        is_registered: Callable[[str], bool] | None = None,
        post_addresses: Callable[[], Mapping[str, str]] | None = None,
        post_context: PostContext | None = None,
    ) -> None:
        """Listen at every door; `is_registered` says from which addresses a leased line comes (none, if not given).

        With `post_addresses` (merchant id → where it takes POST) and `post_context` merchants are also reached without a connection.
        `on_moved` is called when a merchant's first connection came or its last one went.
        """
        self._admit = admit
        self._on_request = on_request
        self._on_connected = on_connected
        self._on_moved = on_moved or _nothing
        self._checkpoint = checkpoint or _no_checkpoint
        for door in doors:
            await self._open(door, is_registered or _nobody)
        if post_addresses is not None and post_context is not None:
            self._posts = Posts(
                addresses=post_addresses,
                make_way=partial(self._make_way, post_context),
                is_connected=lambda merchant_id: self._connection(merchant_id) is not None,
                on_greeted=self._met_by_post,
            )
            self._run(self._posts.look())
        self._ticker = asyncio.get_running_loop().call_later(self._limits.ping_s, self._tick)

    def port(self, mode: Mode = "vpn") -> int:
        """The port at which connections of this mode come in."""
        if mode not in self._servers:
            raise Unavailable(f"the {mode} line is not started")
        return int(self._servers[mode].sockets[0].getsockname()[1])

    def post_port(self, mode: Mode = "vpn") -> int:
        """The port at which frames come in by POST."""
        if mode not in self._post_listeners:
            raise Unavailable(f"POST is not taken on the {mode} line")
        return self._post_listeners[mode].port

    async def stop(self) -> None:
        """Hang up everywhere, let handlers at work end, close the port."""
        if self._ticker is not None:
            self._ticker.cancel()
        servers, self._servers = tuple(self._servers.values()), {}
        for server in servers:
            server.close()
        connections = tuple(self._all)
        for connection in connections:
            connection.close(WSCloseCode.GOING_AWAY, "going_away")
        await asyncio.gather(*(connection.finish() for connection in connections))
        await asyncio.gather(*(listener.stop() for listener in self._post_listeners.values()))
        self._post_listeners = {}
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._posts is not None:
            await self._posts.close()
        for server in servers:
            await server.wait_closed()

    async def ask(self, merchant_id: str, message: str, *, timeout_s: float | None = None) -> str:
        """Send a request (R8) and return the unverified bytes of the first frame whose `req` is its hash.

        By the newest healthy connection, else by POST. Unavailable at once if there is no way to the merchant, else on disconnection or
        after `timeout_s`; the outcome is then unknown and recovery asks again with the same bytes. The answer may be a `refused`. If the
        role does not accept it, a better one that still comes is handed to `on_request`.
        """
        return await self._way(merchant_id).ask(message, timeout_s or self._limits.answer_s)

    async def tell(self, merchant_id: str, message: str) -> None:
        """Send an outcome (R11); its acknowledgement comes to `on_request`. Waits while the merchant reads slowly, then is Unavailable."""
        await self._way(merchant_id).tell(message)

    def connected(self, merchant_id: str) -> bool:
        """True if `ask` would find a way: a healthy connection, or POST that is not known to fail."""
        return self._open_way(merchant_id) is not None

    def held(self) -> frozenset[str]:
        """Merchants that have a connection to this process."""
        return frozenset(self._merchants)

    def is_held(self, merchant_id: str) -> bool:
        """Whether a healthy connection of this merchant ends here."""
        return self._connection(merchant_id) is not None

    def down_reason(self, merchant_id: str) -> str | None:
        """Why the merchant's line is down (`clock_offset`, `revoked`, `disconnected`, …); None if it is up or was never seen."""
        if self.connected(merchant_id):
            return None
        way = None if self._posts is None else self._posts.way(merchant_id)
        return self._down.get(merchant_id) or (None if way is None else way.down_reason)

    def offset_s(self, merchant_id: str) -> int | None:
        """The merchant's clock minus ours at its last hello, None if it never said hello; both consoles warn above 30."""
        return self._offsets.get(merchant_id)

    def figures(self, merchant_id: str) -> LineFigures:
        """How the merchant's line is now."""
        connections = self._merchants.get(merchant_id, [])
        way = None if self._posts is None else self._posts.way(merchant_id)
        trip = connections[0].round_trip_s if connections else None if way is None else way.round_trip_s
        return LineFigures(
            up=self.connected(merchant_id),
            connections=len(connections),
            post=None if way is None else "down" if way.is_up is False else "up",
            round_trip_s=trip,
            offset_s=self.offset_s(merchant_id),
            down_reason=self.down_reason(merchant_id),
        )

    def drop(self, merchant_id: str, reason: str) -> None:
        """Hang up on a merchant whose certificate was just revoked, or whose line is registered anew."""
        # Also those that were admitted and have not said hello yet.
        for connection in tuple(self._all):
            if connection.merchant_id == merchant_id:
                connection.close(WSCloseCode.POLICY_VIOLATION, reason)
        if self._posts is not None:
            self._run(self._posts.forget(merchant_id))

    def stats(self) -> LineStats:
        """Figures for the metrics."""
        merchants = {
            merchant_id: MerchantStats(
                connections=len(connections),
                pending=sum(len(connection.matching) for connection in connections),
                unserved=sum(connection.unserved for connection in connections),
                queue_bytes=sum(connection.queue_bytes for connection in connections),
                round_trip_s=connections[0].round_trip_s,
                offset_s=connections[0].offset_s,
                unsolicited=sum(connection.matching.unsolicited for connection in connections),
            )
            for merchant_id, connections in self._merchants.items()
        }
        open_now = sum(merchant.connections for merchant in merchants.values())
        return LineStats(merchants, greeting=len(self._all) - open_now, closed=dict(self._closed))

    # What a connection asks of the end to which it belongs

    def welcome(self, connection: Connection) -> None:
        """Know the peer by its certificate and registration, then by its hello; the answer to a good hello is ours."""
        self._receptions[connection.mode].let_in(connection.peer)
        self._all.add(connection)
        self._hellos[connection] = asyncio.get_running_loop().create_future()
        try:
            if self._doors[connection.mode].tls is not None:
                connection.urn = self._proved(connection)
            if sum(_is_same_caller(other, connection) and not other.is_open for other in self._all) > self._limits.per_merchant:
                raise Unavailable("too many connections say hello at once")
        except HanbitError as error:
            connection.close(WSCloseCode.POLICY_VIOLATION, code_on_the_line(error))
            return
        self._run(self._greet(connection, self._hellos[connection]))

    def greet(self, connection: Connection, unverified_hello: str) -> None:
        """The first frame, which `_greet` waits for."""
        hello = self._hellos.get(connection)
        if hello is not None and not hello.done():
            hello.set_result(unverified_hello)

    async def serve(self, connection: Connection, unverified_frame: str) -> str | None:
        """A merchant's own request, an acknowledgement, or an answer that came too late for whoever asked."""
        return await self._take(connection.merchant_id, unverified_frame)

    def refuse(self, connection: Connection, request: str, code: str) -> str:
        """Our signed `refused`."""
        return self._refused(connection.urn, request, code)

    def lost(self, connection: Connection) -> None:
        """Forget the connection and remember why it ended."""
        self._all.discard(connection)
        hello = self._hellos.pop(connection, None)
        if hello is not None:
            hello.cancel()
        connections = self._merchants.get(connection.merchant_id, [])
        if connection in connections:
            connections.remove(connection)
        if not connections and self._merchants.pop(connection.merchant_id, None) is not None:
            self._on_moved()
        if connection.merchant_id:
            self._down[connection.merchant_id] = connection.reason
        self._note(connection.reason, connection.urn)

    # Inside

    async def _open(self, door: Door, is_registered: Callable[[str], bool]) -> None:
        def may_knock(address: str) -> bool:
            try:
                known = is_registered(address)
            except HanbitError:
                known = False
            if not known:
                self._note("stranger", "")
            return known

        listener = door.listener(may_knock, knocking_max=self._limits.knocking, on_pushed_out=lambda: self._note("pushed_out", ""))
        if door.carries == "posts" and door.tls is not None:
            posts = PostListener[str](
                identify=partial(self._identify, door.mode),
                serve=self._serve_post,
                refuse=lambda merchant_id, request, code: self._refused(self._urn(merchant_id), request, code),
                limits=self._limits,
                clock=self._clock,
            )
            await posts.start(listener, door.tls)
            self._post_listeners[door.mode] = posts
            return
        self._doors[door.mode], self._receptions[door.mode] = door, listener
        options: dict[str, Any] = (
            {}
            if door.tls is None
            else {
                "ssl": door.tls,
                "ssl_handshake_timeout": self._limits.handshake_s,
                "ssl_shutdown_timeout": self._limits.close_s,
            }
        )
        self._servers[door.mode] = await ws_create_server(
            lambda request: self._accept(request, door.mode),
            sock=listener,
            backlog=BACKLOG,
            websocket_handshake_timeout=self._limits.handshake_s,
            max_frame_size=self._limits.frame_bytes,
            enable_auto_pong=False,
            logger_name=Connection.prepare(),
            **options,
        )

    def _accept(self, request: WSUpgradeRequest, mode: Mode) -> Connection | WSUpgradeResponseWithListener | None:
        if request.path != PATH.encode("ascii"):
            return None
        if len(self._all) >= self._limits.total:
            self._note("full", "")
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(HTTPStatus.SERVICE_UNAVAILABLE), None)
        return Connection(self, place="gateway", limits=self._limits, clock=self._clock, mode=mode)

    async def _greet(self, connection: Connection, hello: "asyncio.Future[str]") -> None:
        try:
            connection.merchant_id = await self._admitted(connection)
            # On a leased line without TLS this is who the peer must now show to be, by its signed hello.
            connection.urn = self._urn(connection.merchant_id)
            greeting = self._read_hello(connection.merchant_id, await hello)
        except HanbitError as error:
            connection.close(WSCloseCode.POLICY_VIOLATION, code_on_the_line(error))
            return
        connection.offset_s = greeting.offset_s
        if connection.reason:
            return
        # Also to a clock that is too far off: by our hello the merchant sees how far.
        connection.say_hello(self._hello_to(connection.urn))
        if greeting.fault:
            connection.close(WSCloseCode.POLICY_VIOLATION, greeting.fault)
            return
        connection.open()
        self._enlist(connection)
        if self._on_connected is not None:
            self._on_connected(connection.merchant_id, greeting.hello)

    def _enlist(self, connection: Connection) -> None:
        """Newest first; one too many pushes out a silent one, else the oldest: a merchant that restarts is never locked out."""
        connections = self._merchants.setdefault(connection.merchant_id, [])
        connections.insert(0, connection)
        if len(connections) == 1:
            self._on_moved()
        if len(connections) > self._limits.per_merchant:
            silent = [old for old in connections if old.missed]
            (silent or connections)[-1].close(WSCloseCode.TRY_AGAIN_LATER, "replaced")

    def _proved(self, connection: Connection) -> str:
        return tls.peer_urn(connection.certificate, self._root, self._clock.now(), self._operator)

    async def _admitted(self, connection: Connection) -> str:
        if self._admit is None:
            raise Unavailable("the line is not started")
        has_tls = self._doors[connection.mode].tls is not None
        urn = self._proved(connection) if has_tls else ""
        return await self._admit(Peer(connection.mode, connection.address, urn, connection.certificate))

    async def _review(self, connection: Connection) -> None:
        """A certificate expires or is revoked while connected; whoever revokes also calls `drop`, which is at once."""
        try:
            if await self._admitted(connection) != connection.merchant_id:
                raise NotAllowed("now registered for another")
        except Unavailable:
            _log.warning("a connected merchant could not be looked up; asked again at the next review")
        except HanbitError as error:
            connection.close(WSCloseCode.POLICY_VIOLATION, code_on_the_line(error))

    def _connection(self, merchant_id: str) -> Connection | None:
        """The newest healthy one."""
        return next((connection for connection in self._merchants.get(merchant_id, ()) if connection.missed == 0), None)

    def _open_way(self, merchant_id: str) -> Connection | PostWay | None:
        return self._connection(merchant_id) or (None if self._posts is None else self._posts.open_way(merchant_id))

    def _way(self, merchant_id: str) -> Connection | PostWay:
        way = self._open_way(merchant_id)
        if way is None:
            raise Unavailable(f"the line to the shop is down: {self.down_reason(merchant_id) or 'not connected'}")
        return way

    # POST

    def _make_way(self, context: PostContext, merchant_id: str, url: str) -> PostWay:
        urn = self._urn(merchant_id)

        def check(certificate: bytes) -> None:
            if tls.peer_urn(certificate, self._root, self._clock.now(), self._operator) != urn:
                raise ProtocolViolation("not_the_merchant", urn)

        return PostWay(
            url,
            context(check),
            make_hello=lambda: self._hello_to(urn),
            read_hello=lambda hello: self._read_hello(merchant_id, hello),
            on_stray=lambda frame: self._take(merchant_id, frame),
            limits=self._limits,
            clock=self._clock,
        )

    def _met_by_post(self, merchant_id: str, greeting: Greeting[HelloFromMerchant]) -> None:
        if self._on_connected is not None:
            self._on_connected(merchant_id, greeting.hello)

    async def _identify(self, mode: Mode, certificate: bytes, address: str) -> str:
        """Who calls by POST: the same proof and the same admission as for a connection."""
        if self._admit is None:
            raise Unavailable("the line is not started")
        urn = tls.peer_urn(certificate, self._root, self._clock.now(), self._operator)
        return await self._admit(Peer(mode, address, urn, certificate))

    async def _serve_post(self, merchant_id: str, frame: str) -> str | None:
        if read_frame(frame).typ == HelloFromMerchant.TYP:
            self._read_hello(merchant_id, frame)
            return self._hello_to(self._urn(merchant_id))
        return await self._take(merchant_id, frame)

    async def _take(self, merchant_id: str, frame: str) -> str | None:
        if self._on_request is None:
            raise Unavailable("the line is not started")
        return await self._on_request(merchant_id, self._urn(merchant_id), frame)

    def _urn(self, merchant_id: str) -> str:
        return ids.urn(self._operator, "merchant", merchant_id)

    def _hello_to(self, urn: str) -> str:
        return make_hello(HelloFromGateway, self._signer, urn, self._clock.now(), self._checkpoint())

    def _read_hello(self, merchant_id: str, unverified_hello: str) -> Greeting[HelloFromMerchant]:
        """The merchant's hello, whichever way it came; its clock is measured by it."""
        urn = self._urn(merchant_id)
        greeting = read_hello(
            unverified_hello, HelloFromMerchant, trust=self._trust, audience=self._signer.urn, sender=urn, at=self._clock.now()
        )
        self._offsets[merchant_id] = greeting.offset_s
        warn_of_offset(_log, urn, greeting.offset_s)
        return greeting

    def _refused(self, urn: str, request: str, code: str) -> str:
        claims = head(self._signer, urn, self._clock.now())
        return sign(RefusedByGateway(**claims, req=request, code=code), self._signer).compact

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(self._limits.ping_s, self._tick)
        self._ticks += 1
        if self._posts is not None:
            self._run(self._posts.look())
        for connection in tuple(self._all):
            connection.tick()
            if connection.is_open and self._ticks % self._limits.pings_to_review == 0:
                self._run(self._review(connection))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, reason: str, urn: str) -> None:
        """Count every end of a connection; log one a second of each kind, so that garbage cannot fill the log."""
        if reason.startswith("peer_"):  # the peer's own words: not a key that a peer may choose
            reason = "peer_hung_up"
        self._closed[reason] += 1
        now = self._clock.monotonic()
        if now - self._logged_at.get(reason, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged_at[reason] = now
            _log.info("a connection of the line ended: %s (%s, %d so far)", reason, urn or "not known", self._closed[reason])


def _is_same_caller(one: Connection, other: Connection) -> bool:
    return one.urn == other.urn if other.urn else one.address == other.address


def _nobody(_address: str) -> bool:
    return False


def _nothing() -> None:
    """Nobody asks."""


def _no_checkpoint() -> str | None:
    return None
