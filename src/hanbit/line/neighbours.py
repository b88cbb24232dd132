"""The internal listener: by it the processes of one gateway, wherever they run, reach each other's merchants and tell news.

    a frame: four bytes of length, then JSON      {number, act, name, text}  there,  {number, text, error, detail}  back

Both ends show the gateway's own `line` certificate and compare the other's name before anything is read: a merchant's certificate opens
nothing here. What is carried are the same bytes that the merchant gets; nobody but the holder of his connection sends them to him.
News is told without waiting and may be lost: nothing may depend on it.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

import msgspec

from hanbit.crypto.tls import LineTls
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable, code_on_the_line
from hanbit.protocols.line import FRAME_MAX

SIZE_MAX: Final = FRAME_MAX + 1024 * 1024
"""Bytes of a frame: a merchant's, or a page of figures."""
CONNECT_S: Final = 2.0
HANDSHAKE_S: Final = 5.0
ANSWER_S: Final = 6.0
"""Longer than the holder itself waits for its merchant, so that it is the holder who says why there is no answer."""
UNSENT_MAX: Final = 4 * 1024 * 1024
"""Bytes that a neighbour has not read; beyond it requests are refused and news is dropped."""
PENDING_MAX: Final = 4096
"""Requests of ours that wait for one neighbour."""
SERVED_MAX: Final = 1024
"""Requests of one neighbour that are served at once."""
NO_WAY: Final = "no_way"
"""The answer of a process that does not hold this merchant's line (any more): another one may."""
_HEAD: Final = 4
log = logging.getLogger("hanbit.line")

Check = Callable[[bytes], object]
"""A peer's certificate (DER) → ProtocolViolation unless it is the gateway's own."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """What one process asks another; number 0 is news, which nobody answers."""

    number: int
    act: str
    name: str
    text: str


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """`error` is empty, or a code."""

    number: int
    text: str
    error: str
    detail: str


class NoWay(Unavailable):
    """This process cannot be reached, or holds no line of this merchant: whether another one does is worth asking."""


Serve = Callable[[str, str, str], Awaitable[str]]
"""(act, name, text) → the text that goes back; a HanbitError becomes its code."""
_requests = msgspec.json.Decoder(Request)
_answers = msgspec.json.Decoder(Answer)
_encode = msgspec.json.Encoder().encode


class _End(asyncio.Protocol):
    """One end of a connection between two processes: cuts the stream into frames, a bounded one at a time."""

    def __init__(self, check: Check, on_frame: Callable[["_End", bytes], None], on_lost: Callable[["_End"], None]) -> None:
        self._check = check
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.served = 0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from asyncio's
        shown: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        try:
            self._check((shown.getpeercert(binary_form=True) if shown is not None else None) or b"")
        except ProtocolViolation as violation:
            log.warning("a stranger at the internal listener: %s", violation.rule)
            self.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _HEAD and self.is_open:
            size = int.from_bytes(self._buffer[:_HEAD])
            if size > SIZE_MAX:
                self.abort()
                return
            if len(self._buffer) < _HEAD + size:
                return
            frame = bytes(self._buffer[_HEAD : _HEAD + size])
            del self._buffer[: _HEAD + size]
            self._on_frame(self, frame)

    def connection_lost(self, exc: Exception | None) -> None:
        _ = exc
        self._buffer.clear()
        self._on_lost(self)

    def send(self, message: Request | Answer) -> bool:
        """False where the other end reads too slowly, or is gone."""
        if self._transport is None or self._transport.is_closing() or self._transport.get_write_buffer_size() > UNSENT_MAX:
            return False
        body = _encode(message)
        self._transport.write(len(body).to_bytes(_HEAD) + body)
        return True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Link:
    """Our connection to one neighbour, made when it is first needed and again after it was lost."""

    def __init__(self, address: str, context: ssl.SSLContext, check: Check) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._context = context
        self._check = check
        self._end: _End | None = None
        self._connecting = asyncio.Lock()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[str]] = {}

    async def ask(self, act: str, name: str, text: str, timeout_s: float) -> str:
        """The answer; NoWay where nobody listens there, Unavailable where the outcome is not known."""
        end = await self._connected()
        if len(self._waiting) >= PENDING_MAX:
            raise Unavailable("too many requests wait for another process")
        self._number += 1
        number = self._number
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if not end.send(Request(number, act, name, text)):
                raise Unavailable("another process reads too slowly")
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise Unavailable("another process did not answer in time") from error
        finally:
            del self._waiting[number]

    async def tell(self, act: str, name: str, text: str) -> None:
        """News; lost where it cannot be sent at once."""
        with suppress(Unavailable):
            (await self._connected()).send(Request(0, act, name, text))

    def close(self) -> None:
        if self._end is not None:
            self._end.abort()

    async def _connected(self) -> _End:
        async with self._connecting:
            if self._end is None or not self._end.is_open:
                try:
                    async with asyncio.timeout(CONNECT_S + HANDSHAKE_S):
                        _, self._end = await asyncio.get_running_loop().create_connection(
                            lambda: _End(self._check, self._take, self._lost),
                            self._host,
                            self._port,
                            ssl=self._context,
                            server_hostname="",
                            ssl_handshake_timeout=HANDSHAKE_S,
                        )
                except (OSError, TimeoutError) as error:
                    raise NoWay(f"a process of this gateway cannot be reached: {error}") from error
            if not self._end.is_open:
                raise NoWay("a process of this gateway is not who it should be")
            return self._end

    def _take(self, _: _End, frame: bytes) -> None:
        try:
            answer = _answers.decode(frame)
        except msgspec.MsgspecError:
            self.close()
            return
        waits = self._waiting.get(answer.number)
        if waits is None or waits.done():
            return
        if not answer.error:
            waits.set_result(answer.text)
        else:
            waits.set_exception((NoWay if answer.error == NO_WAY else Unavailable)(answer.detail or answer.error))

    def _lost(self, end: _End) -> None:
        if end is not self._end:
            return
        for waits in self._waiting.values():
            if not waits.done():
                waits.set_exception(NoWay("a process of this gateway ended before it answered"))


class Neighbours:
    """Our listener, and a link to each address that was ever asked."""

    def __init__(self, line_tls: LineTls, check: Check) -> None:
        self._tls = line_tls
        self._check = check
        self._context = line_tls.pinned_client(check=check)
        self._links: dict[str, _Link] = {}
        self._ends: set[_End] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._serve: Serve | None = None

    async def listen(self, host: str, port: int, serve: Serve) -> str:
        """Listen for the others; our address for them."""
        self._serve = serve
        self._server = await asyncio.get_running_loop().create_server(
            self._welcome, host, port, ssl=self._tls.server(), ssl_handshake_timeout=HANDSHAKE_S
        )
        bound: tuple[Any, ...] = self._server.sockets[0].getsockname()
        return f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    async def ask(self, address: str, act: str, name: str, text: str, timeout_s: float = ANSWER_S) -> str:
        """Have the process there do something; NoWay where it cannot be reached or has no way, Unavailable where nobody knows."""
        return await self._link(address).ask(act, name, text, timeout_s)

    def tell(self, address: str, act: str, name: str = "", text: str = "") -> None:
        """News for the process there, best effort."""
        self._run(self._link(address).tell(act, name, text))

    def forget(self, address: str) -> None:
        """The process there is gone for good."""
        link = self._links.pop(address, None)
        if link is not None:
            link.close()

    async def close(self) -> None:
        """Answer nobody any more."""
        if self._server is not None:
            self._server.close()
        for end in tuple(self._ends):
            end.abort()
        for link in self._links.values():
            link.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def _link(self, address: str) -> _Link:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = _Link(address, self._context, self._check)
        return link

    def _welcome(self) -> _End:
        end = _End(self._check, self._take, self._ends.discard)
        self._ends.add(end)
        return end

    def _take(self, end: _End, frame: bytes) -> None:
        try:
            request = _requests.decode(frame)
        except msgspec.MsgspecError:
            end.abort()
            return
        if end.served >= SERVED_MAX:
            if request.number:
                end.send(Answer(request.number, "", Unavailable.code, "another process is busy"))
            return
        end.served += 1
        self._run(self._answer(end, request))

    async def _answer(self, end: _End, request: Request) -> None:
        assert self._serve is not None
        answer = partial(Answer, request.number)
        try:
            done = answer(await self._serve(request.act, request.name, request.text), "", "")
        except HanbitError as error:
            done = answer("", NO_WAY if isinstance(error, NoWay) else code_on_the_line(error), error.detail)
        except Exception:
            log.exception("another process's request failed")
            done = answer("", Unavailable.code, "the other process could not do this; its log says why")
        finally:
            end.served -= 1
        if request.number:
            end.send(done)

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
