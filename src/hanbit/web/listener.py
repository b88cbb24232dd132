"""The HTTP listener's own limits: a request's head must be complete in time and has a largest size.

An application is called only when the head is complete, and uvicorn itself waits for one for ever; this protocol does not. Nor does it
wait for ever for a body that nobody reads any more, nor take more connections than there is room for. What is no HTTP is answered here,
with a reference like everything else.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar, Final

import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hanbit.web.security import BODY_DEADLINE_S, new_reference

HEAD_DEADLINE_S: Final = 10.0
"""From the connection, or from the first byte of a further request, to the end of the head."""
HEAD_MAX: Final = 48 * 1024
"""Bytes of request line and headers; an address with a signed order has some 3 KiB, at most 32."""
UNREAD_BODY_DEADLINE_S: Final = BODY_DEADLINE_S + 2.0
"""From the end of the head to the end of the body, also when the request was refused without reading it."""
CONNECTIONS_MAX: Final = 2_000
RETRY_AFTER_S: Final = 2
LOG_EVERY_S: Final = 1.0
LINGER_S: Final = 1.0
"""How long a refused connection is read and thrown away: a close with unread bytes would be a reset that overtakes the answer."""
_log = structlog.get_logger("hanbit.web")


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a deadline and a largest size for heads; pass as `http=` to `uvicorn.Config`."""

    head_deadline_s = HEAD_DEADLINE_S
    head_max = HEAD_MAX
    body_deadline_s = UNREAD_BODY_DEADLINE_S
    connections_max = CONNECTIONS_MAX
    _logged_at: ClassVar[dict[HTTPStatus, float]] = {}

    _in_head = True
    _is_lingering = False
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a TCP transport, as uvicorn has it
        """The clock runs from the connection on: a silent one is cut too."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_max:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable")
            return
        self._start_timer(self.head_deadline_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counted while a head is being received; what the parser keeps of an endless header is thereby limited."""
        if self._is_lingering:
            return
        if self._in_head:
            self._start_timer(self.head_deadline_s)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.head_max:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large")

    def send_400_response(self, msg: str) -> None:
        """What the parser does not take for HTTP, or not for one message only."""
        del msg
        if not self._in_head and self.cycle.response_started:
            self.transport.close()  # the rest of a body whose request has its answer already
            return
        self._refuse(HTTPStatus.BAD_REQUEST, "bad_input")

    def on_headers_complete(self) -> None:
        """The head is complete: its body is the application's to limit, or ours when the application has answered without it."""
        super().on_headers_complete()  # raises for an address that is none: then we are still in the head
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        self._start_timer(self.body_deadline_s)

    def on_message_complete(self) -> None:
        """What follows on this connection is the next request's head."""
        super().on_message_complete()
        self._stop_timer()
        self._in_head = True

    def _start_timer(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        """A silent connection, or one whose request was answered before its body came, is closed without a word."""
        if self._head_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow")
        else:
            self._stop_timer()
            self.transport.close()

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
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            head.append(f"retry-after: {RETRY_AFTER_S}")
        self.transport.write("\r\n".join([*head, "", ""]).encode("ascii") + body)
        self.transport.write_eof()
        self._is_lingering = True
        self.loop.call_later(LINGER_S, self.transport.close)
        self.observe("none", status.value, 0.0)
        if self.loop.time() - self._logged_at.get(status, -LOG_EVERY_S) >= LOG_EVERY_S:  # garbage must not fill the log
            self._logged_at[status] = self.loop.time()
            _log.info("request", method="none", route="none", status=status.value, reference=reference)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Told of each request that is answered here and reaches no application; `counted_by` gives it a counter."""


def counted_by(observe: Callable[[str, int, float], None]) -> type[LimitedHttp]:
    """The protocol whose own answers are counted too."""
    return type("CountedHttp", (LimitedHttp,), {"observe": staticmethod(observe)})
