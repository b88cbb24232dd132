"""The HTTP listener's own limits: a request's head must be complete in time and has a largest size.

An application is called only when the head is complete, and uvicorn itself waits for one for ever; this protocol does not.
"""

import asyncio
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_DEADLINE_S: Final = 10.0
"""From the connection, or from the first byte of a further request, to the end of the head."""
HEAD_MAX: Final = 48 * 1024
"""Bytes of request line and headers; an address with a signed order has some 3 KiB, at most 32."""


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a deadline and a largest size for heads; pass as `http=` to `uvicorn.Config`."""

    head_deadline_s = HEAD_DEADLINE_S
    head_max = HEAD_MAX

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock runs from the connection on: a silent one is cut too."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counted while a head is being received; what the parser keeps of an endless header is thereby limited."""
        if self._in_head:
            self._start_timer()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.head_max:
            self._cut(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head is complete: its body is the application's to limit."""
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What follows on this connection is the next request's head."""
        super().on_message_complete()
        self._in_head = True

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_deadline_s, self._cut, HTTPStatus.REQUEST_TIMEOUT)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut(self, status: HTTPStatus) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        if self._head_bytes:
            self.transport.write(line.encode("ascii"))
        self.transport.close()
