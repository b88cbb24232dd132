"""One request with its answer on a connection: uvicorn's cycle, which writes head and body together and checks all headers at once.

uvicorn holds each header's name and value against a regular expression and hands head and body to the socket one after the other: two calls
of the system and, at the other end, two awakenings. Here the same characters are looked for in all names and in all values together.
"""

from typing import Final

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

_NOT_IN_NAMES: Final = bytes(sign for sign in range(256) if HEADER_RE.match(bytes((sign,))))
_NOT_IN_VALUES: Final = bytes(sign for sign in range(256) if HEADER_VALUE_RE.match(bytes((sign,))))


class Exchange(RequestResponseCycle):
    """The head waits for the first part of the body and goes with it."""

    _head: bytes | None = None

    async def run_asgi(self, app: ASGI3Application) -> None:
        """The application's answer; where it fails before a byte of it has left, a 500 in its place."""

        async def whole(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self._unsay_head()

        await super().run_asgi(whole)

    def _unsay_head(self) -> None:
        """A head that no body has followed is still here: nothing has begun."""
        if self._head is not None:
            self._head = None
            self.response_started = False
            self.chunked_encoding = None
            self.expected_content_length = 0

    async def send(self, message: ASGISendEvent) -> None:
        """Take one message of the application, as ASGI has them."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            self.response_started = True
            self.waiting_for_100_continue = False
            self._head = self._write_head(message["status"], [*self.default_headers, *message.get("headers", ())])
        elif message["type"] == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"an application does not send {message['type']} here")

    def _write_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        names, values = [name for name, _ in headers], [value for _, value in headers]
        if _has(b"".join(names), _NOT_IN_NAMES) or _has(b"".join(values), _NOT_IN_VALUES):
            raise RuntimeError("a header with a sign that would end it, or begin another")
        parts = [STATUS_LINE[status]]
        is_last_said = False
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif lower == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif lower == b"connection" and b"close" in [token.strip() for token in value.lower().split(b",")]:
                self.keep_alive = False
                is_last_said = True
            parts += (lower, b": ", value, b"\r\n")
        if not self.keep_alive and not is_last_said:
            parts.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in {204, 304}:
            self.chunked_encoding = True
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk if more else chunk + b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
        if self.expected_content_length < 0 or (self.expected_content_length and not more):
            raise RuntimeError("a body is not as long as its Content-Length says")
        written = body if self._head is None else self._head + body
        self._head = None
        if written:
            self.transport.write(written)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


def _has(text: bytes, unwanted: bytes) -> bool:
    """Whether one of these signs stands in it."""
    return len(text.translate(None, unwanted)) != len(text)
