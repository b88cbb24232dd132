"""The merchant's end of the private line: dials the gateway, says hello, and dials again whenever the line is lost."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

from picows import WSCloseCode, WSError, ws_connect

from hanbit.crypto import tls
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import ProtocolViolation, Unavailable
from hanbit.line.connection import PATH, Connection, Limits, warn_of_offset
from hanbit.protocols.line import HelloFromGateway, HelloFromMerchant, RefusedByMerchant, make_hello, read_hello
from hanbit.protocols.signed import Signer, Trust, head, sign

OnRequest = Callable[[str], Awaitable[str | None]]
"""Unverified frame → the frame to send back, if any; a HanbitError is answered `refused`."""
OnConnected = Callable[[HelloFromGateway], None]
_DIAL_S = 15.0
"""A name that does not resolve and an address that does not answer take no longer than this."""
_log = logging.getLogger("hanbit.merchant.line")


class LineClient:
    """One connection to the gateway, kept alive; a shop of several processes has one in each (four at most)."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None,
        gateway_urn: str,
        operator: str,
        root: bytes,
        signer: Signer,
        trust: Trust,
        clock: Clock,
        random: Callable[[], float],
        on_request: OnRequest,
        on_connected: OnConnected | None = None,
        checkpoint: Callable[[], str | None] | None = None,
        on_offset: Callable[[int], None] = lambda _: None,
        limits: Limits | None = None,
    ) -> None:
        """`random` gives numbers from 0 to 1, for the jitter; `checkpoint` the last one that this merchant holds.

        `on_offset` is told how far the gateway's clock is from ours, before anything is done about it.

        `ssl_context` is None on a leased line without TLS: then `host` is the gateway's registered address, and its signed hello its name.
        """
        self.connected = asyncio.Event()
        self.offset_s: int | None = None
        """The gateway's clock minus ours at the last hello."""
        self.down_reason = "not connected yet"
        self.on_change: Callable[[], None] = lambda: None
        """Called when the line has come up or gone down."""
        self._url = f"{'ws' if ssl_context is None else 'wss'}://{_address(host)}:{port}{PATH}"
        self._ssl_context = ssl_context
        self._gateway_urn = gateway_urn
        self._operator = operator
        self._root = root
        self._signer = signer
        self._trust = trust
        self._clock = clock
        self._random = random
        self._on_request = on_request
        self._on_connected = on_connected
        self._checkpoint = checkpoint
        self._on_offset = on_offset
        self._limits = limits or Limits()
        self._connection: Connection | None = None
        self._gone = asyncio.Event()
        self._dialler: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to dial; `connected` tells when the line is up."""
        if self._dialler is None:
            self._dialler = asyncio.get_running_loop().create_task(self._keep_connected())

    async def stop(self) -> None:
        """Hang up, let handlers at work end, dial no more."""
        dialler, self._dialler = self._dialler, None
        if dialler is not None:
            dialler.cancel()
            await asyncio.gather(dialler, return_exceptions=True)
        connection = self._connection
        if connection is not None:
            connection.close(WSCloseCode.GOING_AWAY, "going_away")
            await connection.finish()

    def redial(self) -> None:
        """Hang up and dial again: the certificate that the line shows has been renewed."""
        if self._connection is not None:
            self._connection.close(WSCloseCode.GOING_AWAY, "renewed")

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        """Send a request (C1, D6, inquiry) and return the unverified bytes of the first frame whose `req` is its hash.

        Unavailable at once if the line is down, else on disconnection or after `timeout_s`: ask again later with the same bytes.
        The answer may be a `refused`. If the role does not accept it, a better one that still comes is handed to `on_request`.
        """
        return await self._up().ask(message, timeout_s or self._limits.answer_s)

    async def tell(self, message: str) -> None:
        """Send a frame that nothing here waits for: an acknowledgement, or an answer that is ready only now."""
        await self._up().tell(message)

    @property
    def round_trip_s(self) -> float | None:
        """Of the last ping; None before the first pong."""
        return None if self._connection is None else self._connection.round_trip_s

    # What a connection asks of the end to which it belongs

    def welcome(self, connection: Connection) -> None:
        """Know the gateway by its certificate, or by the leased line's pinned address, before a byte of ours is sent; then say hello."""
        self._connection = connection
        self._gone.clear()
        try:
            connection.urn = self._gateway_urn if self._ssl_context is None else self._proved(connection)
        except ProtocolViolation as violation:
            connection.close(WSCloseCode.POLICY_VIOLATION, violation.rule)
            return
        checkpoint = None if self._checkpoint is None else self._checkpoint()
        connection.say_hello(make_hello(HelloFromMerchant, self._signer, self._gateway_urn, self._clock.now(), checkpoint))

    def greet(self, connection: Connection, unverified_hello: str) -> None:
        """The gateway's hello: it has accepted ours."""
        try:
            greeting = read_hello(
                unverified_hello,
                HelloFromGateway,
                trust=self._trust,
                audience=self._signer.urn,
                sender=self._gateway_urn,
                at=self._clock.now(),
            )
        except ProtocolViolation as violation:
            connection.close(WSCloseCode.POLICY_VIOLATION, violation.rule)
            return
        self.offset_s = connection.offset_s = greeting.offset_s
        warn_of_offset(_log, self._gateway_urn, greeting.offset_s)
        self._on_offset(greeting.offset_s)
        if greeting.fault:
            connection.close(WSCloseCode.POLICY_VIOLATION, greeting.fault)
            return
        connection.open()
        self.connected.set()
        self.on_change()
        if self._on_connected is not None:
            self._on_connected(greeting.hello)

    async def serve(self, _connection: Connection, unverified_frame: str) -> str | None:
        """The gateway's request (R8), an outcome (R11), or an answer that came too late for whoever asked."""
        return await self._on_request(unverified_frame)

    def refuse(self, _connection: Connection, request: str, code: str) -> str:
        """Our signed `refused`."""
        claims = head(self._signer, self._gateway_urn, self._clock.now())
        return sign(RefusedByMerchant(**claims, req=request, code=code), self._signer).compact

    def lost(self, connection: Connection) -> None:
        """The line is down; the dialler goes on."""
        self.down_reason = connection.reason
        self.connected.clear()
        self.on_change()
        if connection is self._connection:
            self._gone.set()

    # Inside

    def _proved(self, connection: Connection) -> str:
        urn = tls.peer_urn(connection.certificate, self._root, self._clock.now(), self._operator)
        if urn != self._gateway_urn:
            raise ProtocolViolation("not_the_gateway", urn)
        return urn

    def _up(self) -> Connection:
        if self._connection is None or not self.connected.is_set():
            raise Unavailable(f"the line to the payment server is down: {self.down_reason}")
        return self._connection

    async def _keep_connected(self) -> None:
        wait_s = self._limits.backoff_first_s
        while True:
            connection = await self._dial()
            if connection is not None:
                await self._watch(connection)
                lived_s = self._clock.monotonic() - connection.opened_at if connection.opened_at else 0.0
                if lived_s >= self._limits.stable_s:
                    wait_s = self._limits.backoff_first_s
            _log.info("the line to the payment server is down (%s)", self.down_reason)
            # Half to whole: merchants that lost the gateway at the same moment do not all come back at the same moment.
            await asyncio.sleep(wait_s * (0.5 + self._random() / 2))
            wait_s = min(wait_s * 2, self._limits.backoff_max_s)

    async def _dial(self) -> Connection | None:
        connection = Connection(self, place="merchant", limits=self._limits, clock=self._clock)
        try:
            async with asyncio.timeout(_DIAL_S):
                _, listener = await ws_connect(
                    lambda: connection,
                    self._url,
                    **self._tls_options(),
                    websocket_handshake_timeout=self._limits.handshake_s,
                    max_frame_size=self._limits.frame_bytes,
                    max_redirects=0,
                    enable_auto_pong=False,
                    logger_name=Connection.prepare(),
                )
        except BaseException as error:
            connection.cut("abandoned")  # the library may still complete an upgrade for which we no longer wait
            if not isinstance(error, OSError | WSError):
                raise
            self.down_reason = f"cannot be reached: {type(error).__name__}"
            return None
        if not isinstance(listener, Connection):
            # The gateway hung up before the upgrade: with TLS 1.3 that is how it refuses a certificate.
            connection.cut("abandoned")
            self.down_reason = f"the payment server does not accept our {'address' if self._ssl_context is None else 'certificate'}"
            return None
        return connection

    def _tls_options(self) -> dict[str, Any]:
        if self._ssl_context is None:
            return {}
        limits = self._limits
        return {
            "ssl_context": self._ssl_context,
            "ssl_handshake_timeout": limits.handshake_s,
            "ssl_shutdown_timeout": limits.close_s,
        }

    async def _watch(self, connection: Connection) -> None:
        """Ping until the connection is gone."""
        while not connection.reason:
            try:
                # Not wait_for: until Python 3.12 it swallows a cancellation that comes together with the event.
                async with asyncio.timeout(self._limits.ping_s):
                    await self._gone.wait()
            except TimeoutError:
                connection.tick()


def _address(host: str) -> str:
    """Names under .localhost are this machine (RFC 6761); Debian's resolver does not know them."""
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host  # noqa: PLR2004 - IPv6 in an address stands in brackets
    except ValueError:
        return host
