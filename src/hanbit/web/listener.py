"""One HTTP connection's own limits: a head must be complete in time and has a largest size, and an answer must be read in time.

An application is called only when the head is complete, and uvicorn itself waits for one for ever; this protocol does not. Nor does it
wait for ever for a body that nobody reads any more, nor for a client that reads nothing. What is no HTTP is answered here, with a reference
like everything else; so is a connection for which there is no place (`web/visitors.py` decides that).
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar, Final, Protocol
from urllib.parse import unquote

import httptools
import msgspec
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hanbit.kernel.errors import BadInput
from hanbit.kernel.ids import new_reference
from hanbit.web.exchange import Exchange
from hanbit.web.security import BODY_DEADLINE_S, WHOLE
from hanbit.web.visitors import NOBODY, Refusal

HEAD_DEADLINE_S: Final = 10.0
"""From the connection, or from the first byte of a further request, to the end of the head."""
HEAD_MAX: Final = 48 * 1024
"""Bytes of request line and headers; an address with a signed order has some 3 KiB, at most 32."""
UNREAD_BODY_DEADLINE_S: Final = BODY_DEADLINE_S + 2.0
"""From the end of the head to the end of the body, also when the request was refused without reading it."""
READ_DEADLINE_S: Final = 30.0
"""From the moment at which an answer does not fit into the socket any more until the client has read it: 9 kB/s for our largest font."""
CLOSE_DEADLINE_S: Final = 5.0
"""What is still unsent when nothing was asked for `KEEP_ALIVE_S`, or when we hang up, must be read within."""
RETRY_AFTER_S: Final = 2
LOG_EVERY_S: Final = 1.0
LINGER_S: Final = 1.0
"""How long a refused connection is read and thrown away: a close with unread bytes would be a reset that overtakes the answer."""
_log = structlog.get_logger("hanbit.web")


class Observer(Protocol):
    """What counts the connections' own answers and ends; `metrics.Metrics` is it."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one request that was answered without reaching the application."""
        ...

    def connection_cut(self, reason: str) -> None:
        """Count one connection that we have ended, or not taken."""
        ...


class NoObserver:
    """Nobody counts."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Not counted."""

    def connection_cut(self, reason: str) -> None:
        """Not counted."""


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with deadlines for heads, bodies and readers; `web/serving.py` makes one for each connection."""

    head_deadline_s = HEAD_DEADLINE_S
    head_max = HEAD_MAX
    body_deadline_s = UNREAD_BODY_DEADLINE_S
    read_deadline_s = READ_DEADLINE_S
    close_deadline_s = CLOSE_DEADLINE_S
    observer: Observer = NoObserver()
    refusal: Refusal | None = None
    """Why this connection has no place: it is told so and closed."""
    gone: Callable[[], None]
    """Called when the connection has ended."""
    clients_turn: dict["LimitedHttp", None]
    """The connections of this listener that wait for their client (for a request, or for it to read), the longest first."""
    is_connected = False
    """There is, or was, a connection: its end will be told."""
    _logged_at: ClassVar[dict[str, float]] = {}

    _in_head = True
    _is_lingering = False
    _head_bytes = 0
    _answering: RequestResponseCycle | None = None
    """The request whose turn it is; `cycle` is the newest, which may wait behind it."""
    _timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> str:
        """The address at the other end of the socket."""
        return self.client[0] if self.client else NOBODY

    @property
    def is_being_answered(self) -> bool:
        """A request of this connection has begun to be answered and its answer is not complete."""
        return self._answering is not None and not self._answering.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a TCP transport, as uvicorn has it
        """The clock runs from the connection on: a silent one is cut too."""
        super().connection_made(transport)
        self.is_connected = True
        if self.refusal is not None:
            status, code = self.refusal.value
            self._refuse(HTTPStatus(status), code)
            return
        self.clients_turn[self] = None
        self._start_timer(self.head_deadline_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_timer()
        self._stop_reader_timer()
        self.clients_turn.pop(self, None)
        if self._answering is not None:  # uvicorn tells only the newest request, and one before it may be waiting to write
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
        self.gone()

    def data_received(self, data: bytes) -> None:
        """Counted while a head is being received; what the parser keeps of an endless header is thereby limited."""
        if self._is_lingering:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        self._wait_for_rest()

    def _wait_for_rest(self) -> None:
        """A request that came whole, as nearly all do, needs no timer; what is missing of any other is to come in time."""
        if self._is_lingering:
            return
        if not self._in_head:
            self._start_timer(self.body_deadline_s)
        elif self._head_bytes > self.head_max:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large")
        elif self._head_bytes:
            self._start_timer(self.head_deadline_s)

    def send_400_response(self, msg: str) -> None:
        """What the parser does not take for HTTP, or not for one message only."""
        del msg
        if not self._in_head and self.cycle.response_started:
            self._close()  # the rest of a body whose request has its answer already
            return
        self._refuse(HTTPStatus.BAD_REQUEST, "bad_input")

    def on_headers_complete(self) -> None:
        """The head is complete: its body is the application's to limit, or ours when the application has answered without it."""
        hosts = [name for name, _ in self.headers].count(b"host")
        version = self.parser.get_http_version()
        if hosts > 1 or (not hosts and version == "1.1"):
            raise BadInput("Host")  # RFC 9112, 3.2: whoever reads another one than the next reader was lied to; answered as no HTTP
        address = httptools.parse_url(self.url)  # raises for an address that is none: then we are still in the head
        path = address.path.decode("ascii")
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = address.path
        self.scope["query_string"] = address.query or b""
        earlier: RequestResponseCycle | None = self.cycle
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # it came before the answer to the one before it
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()

    def on_message_complete(self) -> None:
        """What follows on this connection is the next request's head."""
        super().on_message_complete()
        self.scope[WHOLE] = True  # type: ignore[typeddict-unknown-key]  # what `Limits` asks for
        self._stop_timer()
        self._in_head = True
        if self.is_being_answered:
            self.clients_turn.pop(self, None)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The answer is written; if it was the connection's last, it must also be read in time."""
        super().on_response_complete()
        if self.cycle.response_complete:  # else a request that came behind this one is being answered
            self.clients_turn.pop(self, None)
            self.clients_turn[self] = None
        if self.transport.is_closing():
            self._start_reader_timer(self.read_deadline_s)

    def pause_writing(self) -> None:
        """The client reads more slowly than we answer."""
        super().pause_writing()
        self.clients_turn.setdefault(self)
        self._start_reader_timer(self.read_deadline_s)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_reader_timer()
            if self.is_being_answered:
                self.clients_turn.pop(self, None)

    def push_out(self) -> None:
        """There is no place left and this client has been waited for longest: nothing of its is being answered."""
        self.clients_turn.pop(self, None)
        self.note_cut("pushed_out", self.peer)
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing further was asked; nor was, perhaps, the last answer read."""
        self._close()

    def shutdown(self) -> None:
        """The server stops: what is being answered is answered, a head that has begun is told to come again, all else is closed."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
        elif self._head_bytes:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "stopping")
        else:
            self._close()

    def _start_reader_timer(self, seconds: float) -> None:
        if self._reader_timer is None:
            self._reader_timer = self.loop.call_later(seconds, self._not_read)

    def _stop_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _not_read(self) -> None:
        self.note_cut("slow_read", self.peer)
        self.transport.abort()

    def _close(self) -> None:
        """Close, and do not wait for ever until the client has read what is still unsent."""
        if not self.transport.is_closing():
            self._start_reader_timer(self.close_deadline_s)
            self.transport.close()

    def _start_timer(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        """A silent connection, or one whose request was answered before its body came, is closed without a word."""
        self.note_cut("slow_head" if self._in_head else "slow_body", self.peer)
        if self._head_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow")
        else:
            self._stop_timer()
            self._close()

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        self._stop_timer()
        if self._is_lingering or self.transport.is_closing():
            return
        reference = new_reference()
        problem = {
            "type": f"urn:hanbit:problem:{code}",
            "title": status.phrase,
            "status": status.value,
            "code": code,
            "reference": reference,
        }
        body = msgspec.json.encode(problem)
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: application/problem+json",
            f"content-length: {len(body)}",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            f"x-reference: {reference}",
            "connection: close",
        ]
        if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            head.append(f"retry-after: {RETRY_AFTER_S}")
        self.transport.write("\r\n".join([*head, "", ""]).encode("ascii") + body)
        if self.transport.can_write_eof():  # TLS has no half-closed connections
            self.transport.write_eof()
        self._is_lingering = True
        self.loop.call_later(LINGER_S, self._close)
        self.observer.request("none", status.value, 0.0)
        if self._may_log(str(status.value)):
            _log.info("request", method="none", route="none", status=status.value, reference=reference, client=self.peer)

    @classmethod
    def note_cut(cls, reason: str, peer: str) -> None:
        """Count, and seldom enough write down, that we have ended a connection or not taken it."""
        cls.observer.connection_cut(reason)
        if cls._may_log(reason):
            _log.info("connection_cut", reason=reason, client=peer)

    @classmethod
    def _may_log(cls, kind: str) -> bool:
        """One line a second of each kind: garbage must not fill the log."""
        now = asyncio.get_running_loop().time()
        if now - cls._logged_at.get(kind, -LOG_EVERY_S) < LOG_EVERY_S:
            return False
        cls._logged_at[kind] = now
        return True


def counted_by(observer: Observer) -> type[LimitedHttp]:
    """The protocol whose own answers are counted too."""
    return type("CountedHttp", (LimitedHttp,), {"observer": observer})
