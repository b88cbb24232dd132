"""One end of one connection of the private line; the gateway's and the merchant's end are this same class.

    greeting ──first frame, found good by the owner──▶ open ──▶ closed
        └──────────── no hello in time, not admitted ────────────▲

A frame goes one of three ways: an answer to what waits here is put into its slot straight from the socket's callback; anything else is
served by the owner, a bounded number at once; what is no JWS closes the connection. Reading never pauses: two ends that both paused would
wait for one another's answers for ever, so what is beyond the limits is answered `refused` (busy).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from picows.picows import WSCloseHandshake

from hanbit.kernel import fail_points
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, ProtocolViolation, TooLarge, Unavailable, code_on_the_line
from hanbit.line.doors import Mode
from hanbit.line.quiet import hush
from hanbit.line.reception import plain_address
from hanbit.protocols.line import FRAME_MAX, OFFSET_MAX_S, OFFSET_WARNED_S, Matching, RefusedByGateway, frame_hash, read_frame

PATH = "/line"
BUSY = "busy"
_log = logging.getLogger("hanbit.line")


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of the line; a connection's unless it says otherwise."""

    frame_bytes: int = FRAME_MAX
    pending: int = 1024
    """Our requests that wait for an answer."""
    handlers: int = 64
    """The peer's frames that are served at once."""
    waiting: int = 1024
    """The peer's frames that wait to be served."""
    waiting_bytes: int = 4 * 1024 * 1024
    refusals: int = 1000
    """Refused frames between two pings; a peer that goes beyond is cut off."""
    queue_high_bytes: int = 256 * 1024
    """Unsent bytes above which outbox messages wait."""
    queue_max_bytes: int = 2 * 1024 * 1024
    """Unsent bytes above which the peer reads too slowly and is cut off."""
    handshake_s: float = 5.0
    """TLS and, once more, the WebSocket upgrade."""
    hello_s: float = 5.0
    answer_s: float = 4.0
    drain_s: float = 5.0
    """How long an outbox message waits for room."""
    ping_s: float = 10.0
    pings_missed: int = 2
    pings_to_review: int = 6
    """The gateway looks at a peer's certificate and registration again after so many pings."""
    close_s: float = 2.0
    """How long a closing connection may take to say goodbye, and a handler to finish when the line stops."""
    backoff_first_s: float = 0.1
    backoff_max_s: float = 5.0
    """A restarted gateway has its merchants back well within ten seconds."""
    stable_s: float = 5.0
    """A connection that lived so long was a good one: the next dial waits the first backoff again."""
    posts: int = 16
    """Our frames that are on their way to one peer by POST; more wait for their turn."""
    idle_s: float = 15.0
    """A connection for POST without a whole request is closed after so long."""
    posts_from_one: int = 32
    """Connections for POST that show the same certificate: beyond it the one that has been idle longest goes."""
    knocking: int = 256
    """Connections of one door that have not proved yet who they are."""
    per_merchant: int = 4
    total: int = 1024
    """Connections of the whole line."""


class Owner(Protocol):
    """What a connection needs of the end to which it belongs."""

    def welcome(self, connection: "Connection") -> None:
        """TLS and the upgrade are done; `connection.certificate` is the peer's (empty without TLS), nothing has been sent."""
        ...

    def greet(self, connection: "Connection", unverified_hello: str) -> None:
        """The first frame."""
        ...

    def serve(self, connection: "Connection", unverified_frame: str) -> Awaitable[str | None]:
        """A frame that answers nothing that waits here; the result is sent back, a HanbitError becomes `refused`."""
        ...

    def refuse(self, connection: "Connection", request: str, code: str) -> str:
        """The signed `refused` for the request with this hash."""
        ...

    def lost(self, connection: "Connection") -> None:
        """The connection is of no use any longer; `connection.reason` says why."""
        ...


class Connection(WSListener):
    """One WebSocket between two parties that know each other's names: over mutual TLS, or on a leased line that has none."""

    def __init__(self, owner: Owner, *, place: str, limits: Limits, clock: Clock, mode: Mode = "vpn") -> None:
        self.urn = ""
        """The peer's name, set by the owner from the certificate, or from the address that is registered for it."""
        self.mode: Mode = mode
        """By which door it came."""
        self.address = ""
        """The peer's IP address."""
        self.peer: Any = None
        """The peer's address and port, as the socket spells them."""
        self.merchant_id = ""
        self.certificate = b""
        self.reason = ""
        self.offset_s: int | None = None
        self.round_trip_s: float | None = None
        self.missed = 0
        self.is_open = False
        self.opened_at = 0.0
        self.unserved = 0
        """The peer's frames that wait to be served or are being served."""
        self.matching = Matching(limits.pending)
        self._owner = owner
        self._limits = limits
        self._clock = clock
        self._sent = f"line.{place}.sent"
        self._received = f"line.{place}.received"
        self._loop = asyncio.get_running_loop()
        self._hello_timer: asyncio.TimerHandle | None = None
        self._transport: WSTransport | None = None
        self._has_hello = False
        self._ended = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._paused_ticks = 0
        self._pinged_at: float | None = None
        self._waiting: deque[tuple[str, str]] = deque()
        self._waiting_bytes = 0
        self._refusals = 0
        self._working = 0
        self._workers: set[asyncio.Task[None]] = set()

    # What the owner does with it

    @staticmethod
    def prepare() -> logging.Logger:
        """To be called before listening or dialling; returns the logger for the socket library."""
        return hush(asyncio.get_running_loop())

    def open(self) -> None:
        """The peer's hello was good: from now on frames go both ways."""
        self._cancel_hello_timer()
        self.is_open = True
        self.opened_at = self._clock.monotonic()
        self._ping()

    def say_hello(self, hello: str) -> None:
        """Our first frame, before the connection is open."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, hello)
            fail_points.reach(self._sent)

    async def ask(self, message: str, timeout_s: float) -> str:
        """Send one frame and wait for the frame that answers it, unverified; Unavailable if none comes."""
        request = frame_hash(message)
        slot: asyncio.Future[str] = self._loop.create_future()
        self.matching.expect(request, slot)
        try:
            self.send(message)
            timer = self._loop.call_later(timeout_s, _give_up, slot)
            try:
                return await slot
            finally:
                timer.cancel()
        except BaseException:
            self.matching.forget(request, slot)
            raise

    async def tell(self, message: str) -> None:
        """Send one frame whose answer, if any, comes as a frame of its own; waits while the peer reads slowly."""
        if not self._drained.is_set():
            try:
                async with asyncio.timeout(self._limits.drain_s):
                    await self._drained.wait()
            except TimeoutError:
                raise Unavailable("the other end of the line reads too slowly") from None
        self.send(message)

    def send(self, message: str) -> None:
        """Hand one frame to the socket; Unavailable if the connection is not open or its peer does not read."""
        transport = self._transport
        if transport is None or not self.is_open:
            raise Unavailable("the line is down")
        if len(message) > self._limits.frame_bytes:
            raise TooLarge("a frame of the line")
        if not self._drained.is_set() and self.queue_bytes > self._limits.queue_max_bytes:
            self.cut("slow_reader")
            raise Unavailable("the other end of the line reads too slowly")
        transport.send(WSMsgType.TEXT, message)
        fail_points.reach(self._sent)

    def close(self, code: WSCloseCode, reason: str) -> None:
        """Say why and hang up."""
        transport = self._transport
        if self.reason or transport is None:
            return
        self._leave(reason)
        transport.send_close(code, reason)
        # Unread bytes of the peer's would turn an immediate close into a reset that overtakes the reason.
        self._loop.call_later(self._limits.close_s / 20, _disconnect, transport)

    def cut(self, reason: str) -> None:
        """Hang up without a word: the peer does not read, or is dead, or nobody wants the connection any longer."""
        self._leave(reason)
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def tick(self) -> None:
        """Called once every `ping_s`: cuts off what is dead or does not read, else pings."""
        self._refusals = 0
        if not self.is_open:
            return
        if self._pinged_at is not None:
            self.missed += 1
        if not self._drained.is_set():
            self._paused_ticks += 1
        if self.missed >= self._limits.pings_missed:
            self.cut("silent")
        elif self._paused_ticks >= self._limits.pings_missed:
            self.cut("slow_reader")
        else:
            self._ping()

    @property
    def queue_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        return 0 if self._transport is None else int(self._transport.underlying_transport.get_write_buffer_size())

    async def finish(self) -> None:
        """After `close`: let the handlers at work end and the socket go; what is not done within `close_s` is cut short."""
        if self._workers:
            await asyncio.wait(self._workers, timeout=self._limits.close_s)
        for worker in tuple(self._workers):
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._transport is not None:
            try:
                async with asyncio.timeout(self._limits.close_s):
                    await self._ended.wait()
            except TimeoutError:
                self.cut("stopped")

    # What the socket does to it

    def on_ws_connected(self, transport: WSTransport) -> None:
        """TLS and upgrade are done: read who it is and let the owner decide."""
        self._transport = transport
        if self.reason:
            self.cut(self.reason)
            return
        underlying = transport.underlying_transport
        underlying.set_write_buffer_limits(high=self._limits.queue_high_bytes, low=self._limits.queue_high_bytes // 2)
        secured = underlying.get_extra_info("ssl_object")
        self.certificate = b"" if secured is None else secured.getpeercert(binary_form=True) or b""
        self.peer = underlying.get_extra_info("peername")
        self.address = plain_address(self.peer[0])
        self._hello_timer = self._loop.call_later(self._limits.hello_s, self.close, WSCloseCode.POLICY_VIOLATION, "hello_missing")
        self._owner.welcome(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame from the socket."""
        if self.reason:
            return
        kind = frame.msg_type
        if not frame.fin or kind == WSMsgType.CONTINUATION:
            self.close(WSCloseCode.UNSUPPORTED_DATA, "fragmented")
        elif kind in {WSMsgType.TEXT, WSMsgType.BINARY}:
            fail_points.reach(self._received)
            try:
                self._receive(frame.get_payload_as_ascii_text())
            except (ProtocolViolation, UnicodeDecodeError):
                self.close(WSCloseCode.UNSUPPORTED_DATA, "no_message")
        elif kind == WSMsgType.PONG:
            self._on_pong()
        elif kind == WSMsgType.PING:
            # Answered here and not by the library, so that pings without end fill no queue of a peer that does not read.
            if self._drained.is_set():
                transport.send_pong(frame.get_payload_as_bytes())
        else:
            self.close(WSCloseCode.OK, _peer_reason(transport.close_handshake))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        self._leave(_peer_reason(transport.close_handshake))
        self._transport = None
        self._ended.set()

    def pause_writing(self) -> None:
        """More than `queue_high_bytes` are unsent."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self._paused_ticks = 0
        self._drained.set()

    # Inside

    def _receive(self, message: str) -> None:
        if not self.is_open:
            read_frame(message)
            if self._has_hello:
                self.close(WSCloseCode.POLICY_VIOLATION, "hello_first")
            else:
                self._has_hello = True
                self._owner.greet(self, message)
            return
        typ, answers = read_frame(message)
        if answers and self.matching.answer(answers, message):
            return
        if self.unserved >= self._limits.handlers + self._limits.waiting or self._waiting_bytes >= self._limits.waiting_bytes:
            self._refuse(message, typ, BUSY)
            return
        self.unserved += 1
        self._waiting.append((message, typ))
        self._waiting_bytes += len(message)
        if self._working < self._limits.handlers:
            self._working += 1
            worker = self._loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        """Serve what waits, in the order in which it came."""
        try:
            while self._waiting:
                message, typ = self._waiting.popleft()
                self._waiting_bytes -= len(message)
                try:
                    await self._serve(message, typ)
                finally:
                    self.unserved -= 1
        finally:
            # Here, not when the loop hears of the task's end: a frame that came in between would wait for a worker that has gone.
            self._working -= 1

    async def _serve(self, message: str, typ: str) -> None:
        try:
            answer = await self._owner.serve(self, message)
            # An answer that finds the connection gone is dropped: the peer asks again with the same bytes.
            if answer is not None and self.is_open:
                self.send(answer)
        except HanbitError as error:
            self._refuse(message, typ, code_on_the_line(error))
        except Exception:  # noqa: BLE001 - a bug of ours in one frame must not take the line down
            _log.exception("a frame of the line could not be served")
            self._refuse(message, typ, Unavailable.code)

    def _refuse(self, message: str, typ: str, code: str) -> None:
        # A refusal is never answered by a refusal: two ends that do not understand each other would go on for ever.
        if typ == RefusedByGateway.TYP or not self.is_open:
            return
        self._refusals += 1
        if self._refusals > self._limits.refusals:
            self.close(WSCloseCode.POLICY_VIOLATION, "flood")
            return
        try:
            self.send(self._owner.refuse(self, frame_hash(message), code))
        except Unavailable:
            _log.info("a refusal could not be sent: the connection is gone")

    def _ping(self) -> None:
        if self._transport is not None:
            if self._pinged_at is None:
                self._pinged_at = self._clock.monotonic()
            self._transport.send_ping()

    def _on_pong(self) -> None:
        if self._pinged_at is not None:
            self.round_trip_s = self._clock.monotonic() - self._pinged_at
        self._pinged_at = None
        self.missed = 0

    def _leave(self, reason: str) -> None:
        """Nothing more is sent or received; whoever waits here hears at once."""
        if self.reason:
            return
        self.reason = reason
        self.is_open = False
        self._cancel_hello_timer()
        self.unserved -= len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self.matching.fail(Unavailable("the line went down before the answer came"))
        self._drained.set()
        self._owner.lost(self)

    def _cancel_hello_timer(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None


def warn_of_offset(log: logging.Logger, urn: str, offset_s: int) -> None:
    """Both ends warn of a clock that is more than half a minute away; beyond a minute the line counts as down."""
    if abs(offset_s) > OFFSET_WARNED_S:
        log.warning("the clock of %s is %+d s away from ours; beyond %d s the line is down", urn, offset_s, OFFSET_MAX_S)


def _give_up(slot: "asyncio.Future[str]") -> None:
    if not slot.done():
        slot.set_exception(Unavailable("no answer over the line in time"))


def _disconnect(transport: WSTransport) -> None:
    if not transport.is_disconnected:
        transport.disconnect()


def _peer_reason(handshake: WSCloseHandshake | None) -> str:
    """What the peer said when it hung up, in our own words where it said nothing that we know."""
    received = None if handshake is None else handshake.recv
    if received is None or not received.reason.isascii() or not received.reason.replace("_", "").isalpha():
        return "disconnected"
    return f"peer_{received.reason[:32]}"
