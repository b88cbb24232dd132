"""A lean HTTP/1.1 client for the load: the wallet's own messages and checks over a transport that costs the two cores little.

The installed program's own client costs 0.3 to 0.4 ms of processor time a request, a browser's runs on the customer's machine; what is
measured here is the payment server. Only what our own server sends is understood: a status line, headers with Content-Length, a body.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, cast

from hanbit.kernel.errors import Unavailable
from hanbit.loopback import LOOPBACK
from hanbit.wallet.client import ANSWER_TIMEOUT_S, Answer, Http, Origin

_HEAD_END: Final = b"\r\n\r\n"


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits hears of it."""
        self.transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unavailable(f"the connection was lost: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Answer whoever waits once the body is whole."""
        self._received += data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0 or self._answer is None:
            return
        status, *lines = bytes(self._received[:head_end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        start = head_end + len(_HEAD_END)
        end = start + int(headers.get("content-length", "0"))
        if len(self._received) < end:
            return
        content = bytes(self._received[start:end])
        del self._received[:end]
        cookie = headers.get("set-cookie")
        if not self._answer.done():
            self._answer.set_result(
                Answer(
                    status=int(status.split(" ", 2)[1]),
                    content_type=headers.get("content-type", "").partition(";")[0],
                    content=content,
                    retry_after=headers.get("retry-after", ""),
                    location=headers.get("location", ""),
                    cookie=None if cookie is None else cookie.partition("=")[2].partition(";")[0],
                )
            )

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send one whole request."""
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer


class LeanHttp(Http):
    """Pools of keep-alive connections to servers on this machine."""

    def __init__(self) -> None:
        super().__init__()
        self._idle: defaultdict[int, list[_Connection]] = defaultdict(list)

    async def exchange(self, origin: Origin, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """One request on a free connection, or a new one."""
        idle = self._idle[origin.port]
        while idle and idle[-1].transport is None:
            idle.pop()
        if idle:
            connection = idle.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, LOOPBACK, origin.port)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {origin.host}:{origin.port}", *(f"{name}: {headers[name]}" for name in headers)]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        answer = connection.ask("\r\n".join([*lines, "", ""]).encode("ascii") + (body or b""))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                result = await answer
        except TimeoutError as error:
            if connection.transport is not None:
                connection.transport.abort()
            raise Unavailable("no answer in time") from error
        idle.append(connection)
        return result

    async def close(self) -> None:
        """Close every connection."""
        for connection in (one for idle in self._idle.values() for one in idle):
            if connection.transport is not None:
                connection.transport.close()
        self._idle.clear()
        await super().close()
