"""A shop's line put together from its folder: the connection that it dials, and both ends of POST."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from hanbit.crypto import tls
from hanbit.crypto.tls import LineTls
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import ProtocolViolation
from hanbit.line.connection import PATH, Limits, warn_of_offset
from hanbit.line.doors import Door
from hanbit.line.post import PostListener, PostWay, log
from hanbit.merchant import files
from hanbit.merchant.following import FollowingClock
from hanbit.merchant.gateway_line import GatewayLine
from hanbit.merchant.line_client import LineClient
from hanbit.protocols.line import Greeting, HelloFromGateway, HelloFromMerchant, RefusedByMerchant, make_hello, read_frame, read_hello
from hanbit.protocols.signed import Signer, Trust, head, sign

OnRequest = Callable[[str], Awaitable[str | None]]
OnConnected = Callable[[HelloFromGateway], None]


@dataclass(frozen=True, slots=True)
class LineParts:
    """What every way needs: who the shop is, whom it believes, and what it does with a frame; `opened` puts the ways together."""

    registration: files.Registration
    root: bytes
    signer: Signer
    line_tls: LineTls
    trust: Trust
    clock: Clock
    on_request: OnRequest
    on_connected: OnConnected = lambda _: None
    checkpoint: Callable[[], str | None] = lambda: None
    limits: Limits = field(default_factory=Limits)

    @asynccontextmanager
    async def opened(self, *, dial: bool, post_listen: tuple[str, int] | None) -> AsyncIterator[GatewayLine]:
        """The line while the block lasts: a connection that is dialled, POST to the gateway where it takes that, POST from it at a port."""
        line = GatewayLine(self.client() if dial else None, self.way(), on_connected=self.on_connected, limits=self.limits)
        async with AsyncExitStack() as stack:
            if post_listen is not None:
                await stack.enter_async_context(self.listening(*post_listen))
            stack.push_async_callback(line.stop)
            await line.start()
            yield line

    def client(self) -> LineClient:
        """The connection that is dialled."""
        line = self.registration.line
        return LineClient(
            host=line.host,
            port=line.port,
            ssl_context=self.line_tls.client() if line.tls else None,
            gateway_urn=self.registration.gateway,
            operator=self.registration.operator,
            root=self.root,
            signer=self.signer,
            trust=self.trust,
            clock=self.clock,
            random=secrets.SystemRandom().random,
            on_request=self.on_request,
            on_connected=self.on_connected,
            checkpoint=self.checkpoint,
            on_offset=self._follow,
            limits=self.limits,
        )

    def way(self) -> PostWay | None:
        """To the gateway's own POST address; None where the registration names none."""
        line = self.registration.line
        if not line.post_port:
            return None
        host = f"[{line.host}]" if ":" in line.host else line.host
        return PostWay(
            f"https://{host}:{line.post_port}{PATH}",
            self.line_tls.pinned_client(check=self._check_gateway),
            make_hello=self._hello,
            read_hello=self._read_hello,
            on_stray=self.on_request,
            limits=self.limits,
            clock=self.clock,
        )

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[PostListener[str]]:
        """Take the gateway's frames while the block lasts; every other caller is turned away, by its certificate."""
        context = self.line_tls.server()
        listener = PostListener[str](identify=self._identify, serve=self._serve, refuse=self._refuse, limits=self.limits, clock=self.clock)
        door = Door("vpn", host, port, context, carries="posts")
        await listener.start(door.listener(lambda _: True, knocking_max=self.limits.knocking), context)
        try:
            yield listener
        finally:
            await listener.stop()

    def _check_gateway(self, certificate: bytes) -> None:
        urn = tls.peer_urn(certificate, self.root, self.clock.now(), self.registration.operator)
        if urn != self.registration.gateway:
            raise ProtocolViolation("not_the_gateway", urn)

    async def _identify(self, certificate: bytes, _address: str) -> str:
        self._check_gateway(certificate)
        return self.registration.gateway

    async def _serve(self, _gateway: str, frame: str) -> str | None:
        if read_frame(frame).typ == HelloFromGateway.TYP:
            self._read_hello(frame)
            return self._hello()
        return await self.on_request(frame)

    def _refuse(self, gateway: str, request: str, code: str) -> str:
        return sign(RefusedByMerchant(**head(self.signer, gateway, self.clock.now()), req=request, code=code), self.signer).compact

    def _follow(self, offset_s: int) -> None:
        if isinstance(self.clock, FollowingClock):
            self.clock.follow(offset_s)

    def _hello(self) -> str:
        return make_hello(HelloFromMerchant, self.signer, self.registration.gateway, self.clock.now(), self.checkpoint())

    def _read_hello(self, unverified_hello: str) -> Greeting[HelloFromGateway]:
        greeting = read_hello(
            unverified_hello,
            HelloFromGateway,
            trust=self.trust,
            audience=self.signer.urn,
            sender=self.registration.gateway,
            at=self.clock.now(),
        )
        warn_of_offset(log, self.registration.gateway, greeting.offset_s)
        self._follow(greeting.offset_s)
        return greeting
