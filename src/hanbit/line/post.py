"""The line by HTTPS POST, the document's literal form: a request carries one frame, its answer's body the frame that answers it.

    POST /line   Content-Type: application/jose     one frame
    200 a frame · 204 nothing to answer · 4xx no frame, or not from whoever may send one · 503 busy

Both ends show their `line` certificates, and each compares the other's name before it sends or reads a frame. `PostWay` is the asking end
and `PostListener` the answering one, the same at gateway and merchant: a party that takes POST and sends POST has one of each.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, ProtocolViolation, TooLarge, Unavailable, code_on_the_line
from hanbit.line.connection import BUSY, PATH, Limits
from hanbit.line.doors import BACKLOG
from hanbit.line.reception import Reception, plain_address
from hanbit.loopback import LoopbackResolver
from hanbit.protocols.line import Greeting, RefusedByGateway, frame_hash, read_frame

TYPE = "application/jose"
_PIECE = 16 * 1024
_ACCEPT_AGAIN_S = 1.0
_KEPT_S = 5.0
"""The asking end lets go of an idle connection before the answering end does."""
log = logging.getLogger("hanbit.line.post")
_quiet = logging.getLogger("hanbit.line.socket")


class PostWay:
    """Carries frames to one peer's address; it counts as up while the last hello was answered, and until something fails."""

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        *,
        make_hello: Callable[[], str],
        read_hello: Callable[[str], Greeting[Any]],
        on_stray: Callable[[str], Awaitable[object]],
        limits: Limits,
        clock: Clock,
    ) -> None:
        """`context` refuses every server but the peer; `on_stray` gets a frame that answers nothing that was asked."""
        self.url = url
        self.is_up: bool | None = None
        """None before the first try."""
        self.down_reason = "not asked yet"
        self.offset_s: int | None = None
        self.round_trip_s: float | None = None
        self._context = context
        self._make_hello = make_hello
        self._read_hello = read_hello
        self._on_stray = on_stray
        self._limits = limits
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._greeted_at: float | None = None

    async def ask(self, message: str, timeout_s: float) -> str:
        """The unverified frame that answers this one; Unavailable if none comes: the outcome is unknown, ask again with the same bytes."""
        answer = await self._carry(message, timeout_s)
        if answer is None:
            raise Unavailable("no answer by POST")
        if frame_hash(message) not in read_frame(answer).answers:
            await self._hand_on(answer)
            raise Unavailable("an answer to something else came by POST")
        return answer

    async def tell(self, message: str) -> None:
        """Send one frame; what comes back (an acknowledgement) goes the way of every frame that the peer sends by itself."""
        answer = await self._carry(message, self._limits.answer_s)
        if answer is not None:
            await self._hand_on(answer)

    async def greet(self) -> Greeting[Any] | None:
        """Exchange hellos: is the peer there, is it the right one, how is its clock? Its greeting if the way came up by it."""
        was_up, self._greeted_at = self.is_up, self._clock.monotonic()
        try:
            answer = await self._carry(self._make_hello(), self._limits.hello_s)
            if answer is None:
                raise ProtocolViolation("hello_missing")
            greeting = self._read_hello(answer)
        except HanbitError as error:
            self._failed(error.rule if isinstance(error, ProtocolViolation) else error.detail.removeprefix("POST ") or error.code)
            return None
        self.round_trip_s, self.offset_s = self._clock.monotonic() - self._greeted_at, greeting.offset_s
        if greeting.fault:
            self._failed(greeting.fault)
            return None
        self.is_up, self.down_reason = True, ""
        return None if was_up else greeting

    def is_due(self) -> bool:
        """Whether it is time for a hello: at every look while the way is not up, else as seldom as a connection is reviewed."""
        if not self.is_up or self._greeted_at is None:
            return True
        return self._clock.monotonic() - self._greeted_at >= self._limits.ping_s * self._limits.pings_to_review

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()

    async def _hand_on(self, frame: str) -> None:
        """What is wrong with it was noted where it went; whoever sent something else here is not told of it."""
        try:
            await self._on_stray(frame)
        except HanbitError as error:
            log.info("a frame that came back by POST was not taken: %s", error.code)

    async def _carry(self, message: str, timeout_s: float) -> str | None:
        if len(message) > self._limits.frame_bytes:
            raise TooLarge("a frame of the line")
        try:
            async with self._http().post(
                self.url,
                data=message.encode("ascii"),
                headers={"Content-Type": TYPE},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=self._limits.handshake_s),
            ) as response:
                body = await _read(response.content, self._limits.frame_bytes)
        except TimeoutError as error:
            self._greeted_at = None  # slow or gone: the next look finds out
            raise Unavailable("not answered in time") from error
        except (aiohttp.ClientError, OSError, TooLarge) as error:
            raise self._failed(f"cannot be reached: {type(error).__name__}") from error
        if response.status == HTTPStatus.NO_CONTENT:
            return None
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise Unavailable("the other end is busy")
        answer = body.decode("ascii", "replace") if response.status == HTTPStatus.OK and response.content_type == TYPE else ""
        try:
            read_frame(answer)
        except ProtocolViolation as violation:
            raise self._failed(f"answered {response.status} and no frame") from violation
        return answer

    def _failed(self, reason: str) -> Unavailable:
        self.is_up, self.down_reason = False, reason
        return Unavailable(f"POST {reason}")

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._context, limit=self._limits.posts, keepalive_timeout=_KEPT_S, use_dns_cache=False, resolver=LoopbackResolver()
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        return self._session


Caller = TypeVar("Caller", bound=Hashable)


class PostListener(Generic[Caller]):
    """Takes frames by POST from peers that show a certificate, a bounded number at once, each within its time."""

    def __init__(
        self,
        *,
        identify: Callable[[bytes, str], Awaitable[Caller]],
        serve: Callable[[Caller, str], Awaitable[str | None]],
        refuse: Callable[[Caller, str, str], str],
        limits: Limits,
        clock: Clock,
    ) -> None:
        """`identify` (certificate in DER, address) raises a HanbitError for strangers; `refuse` (caller, request, code) signs a refusal."""
        self._identify = identify
        self._serve = serve
        self._refuse = refuse
        self._limits = limits
        self._clock = clock
        self._server: web.Server | None = None
        self._listener: Reception | None = None
        self._context: ssl.SSLContext | None = None
        self._knocking: set[asyncio.Task[None]] = set()
        self._busy: Counter[Caller] = Counter()
        self._at_work: set[asyncio.Transport] = set()
        self._idle_since: dict[asyncio.Transport, float] = {}
        self._shown: dict[asyncio.Transport, bytes] = {}
        """connection → the certificate (DER) that was shown on it"""
        self._sweeper: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None

    async def start(self, listener: Reception, context: ssl.SSLContext) -> None:
        """Listen on a bound socket."""
        loop = asyncio.get_running_loop()
        self._context = context
        self._server = web.Server(
            self._handle, access_log=None, logger=_quiet, keepalive_timeout=self._limits.idle_s, lingering_time=self._limits.close_s
        )
        self._listener = listener
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._listen()
        self._sweeper = loop.call_later(self._limits.idle_s / 3, self._sweep)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._listener is None:
            raise Unavailable("POST is not listened for")
        return int(self._listener.getsockname()[1])

    async def stop(self) -> None:
        """Take no more, let what is at work end, hang up."""
        for timer in (self._sweeper, self._again):
            if timer is not None:
                timer.cancel()
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        for task in tuple(self._knocking):
            task.cancel()
        await asyncio.gather(*self._knocking, return_exceptions=True)
        if self._server is not None:
            await self._server.shutdown(self._limits.close_s)

    # Connections

    def _listen(self) -> None:
        """Accepted by hand, so that a pinned listener can hang up before TLS whatever the loop, and handshakes are bounded."""
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                connection, address = self._listener.accept()
            except ConnectionAbortedError:
                continue
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # no more files: those who wait are taken when somebody has left
                log.warning("POST connections wait: %s", error.strerror)
                loop.remove_reader(self._listener)
                self._again = loop.call_later(_ACCEPT_AGAIN_S, self._listen)
                return
            if len(self._knocking) + len(self._connections()) >= self._limits.total:
                connection.close()
                continue
            connection.setblocking(False)
            task = loop.create_task(self._shake_hands(self._listener, connection, address))
            self._knocking.add(task)
            task.add_done_callback(self._knocking.discard)

    async def _shake_hands(self, listener: Reception, connection: socket.socket, address: object) -> None:
        assert self._server is not None
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._server,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.handshake_s,
                ssl_shutdown_timeout=self._limits.close_s,
            )
        except (OSError, asyncio.CancelledError):  # no TLS, no certificate, or gone: nothing was answered, nothing is logged
            connection.close()
            return
        finally:
            listener.let_in(address)
        self._count(transport)

    def _count(self, newest: asyncio.Transport) -> None:
        """Whoever holds a certificate, revoked or of another purpose, may not take every place with it."""
        present = self._connections()
        self._shown = {transport: self._shown[transport] for transport in present if transport in self._shown}
        certificate = self._shown[newest] = _certificate(newest)
        same = [transport for transport, shown in self._shown.items() if shown == certificate and transport not in self._at_work]
        if sum(shown == certificate for shown in self._shown.values()) > self._limits.posts_from_one:
            min(same, key=lambda transport: self._idle_since.get(transport, float("inf"))).abort()

    def _connections(self) -> list[asyncio.Transport]:
        found = [] if self._server is None else [getattr(handler, "transport", None) for handler in self._server.connections]
        return [transport for transport in found if transport is not None]

    def _sweep(self) -> None:
        """Hang up on whoever has sent no whole request head for `idle_s`: idle connections and slow heads alike."""
        self._sweeper = asyncio.get_running_loop().call_later(self._limits.idle_s / 3, self._sweep)
        now, present = self._clock.monotonic(), set(self._connections())
        self._idle_since = {transport: self._idle_since.get(transport, now) for transport in present if transport not in self._at_work}
        for transport, since in tuple(self._idle_since.items()):
            if now - since >= self._limits.idle_s:
                transport.abort()

    # Requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            return _short(HTTPStatus.BAD_REQUEST, "gone")
        self._at_work.add(transport)
        try:
            response = await self._answer(request, transport)
        except HanbitError as error:
            response = _short(_STATUS.get(type(error), HTTPStatus.BAD_REQUEST), code_on_the_line(error))
        finally:
            self._at_work.discard(transport)
            self._idle_since.pop(transport, None)
        if response.status >= HTTPStatus.BAD_REQUEST:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest, transport: asyncio.Transport) -> web.StreamResponse:
        try:
            caller = await self._identify(_certificate(transport), plain_address(transport.get_extra_info("peername")[0]))
        except HanbitError as error:
            return _short(
                HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, Unavailable) else HTTPStatus.FORBIDDEN, code_on_the_line(error)
            )
        if request.path != PATH:
            return _short(HTTPStatus.NOT_FOUND, "not_found")
        if request.method != "POST":
            return _short(HTTPStatus.METHOD_NOT_ALLOWED, "method", {"Allow": "POST"})
        if request.content_type != TYPE:
            return _short(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media_type")
        if self._busy[caller] >= self._limits.handlers:
            return _short(HTTPStatus.SERVICE_UNAVAILABLE, BUSY, {"Retry-After": "1"})
        self._busy[caller] += 1
        try:
            return await self._take(caller, request)
        finally:
            self._busy[caller] -= 1
            if not self._busy[caller]:
                del self._busy[caller]

    async def _take(self, caller: Caller, request: web.BaseRequest) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self._limits.hello_s):
                frame = (await _read(request.content, self._limits.frame_bytes)).decode("ascii")
        except TimeoutError:
            return _short(HTTPStatus.REQUEST_TIMEOUT, "slow")
        except UnicodeDecodeError:
            return _short(HTTPStatus.BAD_REQUEST, "no_message")
        typ = read_frame(frame).typ
        try:
            answer = await self._serve(caller, frame)
        except HanbitError as error:
            answer = self._refused(caller, frame, typ, code_on_the_line(error))
        except Exception:  # a bug of ours in one frame is answered like every other
            log.exception("a frame that came by POST could not be served")
            answer = self._refused(caller, frame, typ, Unavailable.code)
        if answer is None:
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=_HEADERS)
        return web.Response(body=answer.encode("ascii"), content_type=TYPE, headers=_HEADERS)

    def _refused(self, caller: Caller, frame: str, typ: str, code: str) -> str | None:
        # A refusal is never answered by a refusal.
        return None if typ == RefusedByGateway.TYP else self._refuse(caller, frame_hash(frame), code)


_HEADERS = {"Cache-Control": "no-store", "Server": "hanbit"}
_STATUS: dict[type[HanbitError], HTTPStatus] = {TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Unavailable: HTTPStatus.SERVICE_UNAVAILABLE}


def _certificate(transport: asyncio.Transport) -> bytes:
    secured = transport.get_extra_info("ssl_object")
    return b"" if secured is None else secured.getpeercert(binary_form=True) or b""


def _short(status: HTTPStatus, code: str, headers: dict[str, str] | None = None) -> web.Response:
    """problem+json for whoever wrote the client at the other end."""
    body = msgspec.json.encode({"type": "about:blank", "title": status.phrase, "status": int(status), "code": code})
    return web.Response(status=status, body=body, content_type="application/problem+json", headers=_HEADERS | (headers or {}))


async def _read(content: aiohttp.StreamReader, most: int) -> bytes:
    """The whole body; TooLarge as soon as it is more than `most`."""
    body = bytearray()
    while piece := await content.read(_PIECE):
        body += piece
        if len(body) > most:
            raise TooLarge("a frame of the line")
    return bytes(body)
