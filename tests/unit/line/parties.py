"""A gateway, merchants and strangers with real certificates, for the tests of the line."""

import asyncio
import itertools
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from hanbit.crypto import certificates, keys, tls
from hanbit.crypto.certificates import Authority
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock, SystemClock
from hanbit.kernel.errors import NotAllowed
from hanbit.line.connection import Limits
from hanbit.line.doors import Door, Peer
from hanbit.line.listener import Line
from hanbit.merchant.line_client import LineClient
from hanbit.protocols.line import Acknowledgement, HelloFromMerchant, frame_hash, make_hello
from hanbit.protocols.signed import PinnedTrust, Signer, head, sign
from tests.waiting import PATIENCE_S, until

OPERATOR = "demo"
GATEWAY = ids.urn(OPERATOR, "gateway")
DAY_S = 86_400
CLOCK = SystemClock()
QUICK = Limits(ping_s=0.05, hello_s=0.3, handshake_s=0.5, answer_s=1.0, drain_s=0.3, close_s=0.4, backoff_first_s=0.02, backoff_max_s=0.1)
"""Limits of a tenth of a second instead of ten, so that the tests wait for none."""
PATIENT = replace(QUICK, ping_s=10.0)
Answer = Callable[[str], Awaitable[str | None]]


async def nothing(_: str) -> str | None:
    return None


async def confirm(request: str) -> str | None:
    return answer_to(request)


@dataclass
class Files:
    """Where a party's line certificate and key lie."""

    chain: Path
    key: Path
    root: Path

    def server(self) -> ssl.SSLContext:
        return tls.server_context(self.chain, self.key, self.root)

    def client(self) -> ssl.SSLContext:
        return tls.client_context(self.chain, self.key, self.root)


@dataclass
class Operator:
    """One operator's authorities, and the files of the parties that they certify."""

    folder: Path
    name: str = OPERATOR
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @cached_property
    def at(self) -> int:
        return CLOCK.now()

    @cached_property
    def root(self) -> Authority:
        key = keys.new_key()
        return Authority.of_root(key, certificates.make_root(self.name, key, self.at - 200 * DAY_S))

    @cached_property
    def root_der(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - used once

        return self.root.certificate.public_bytes(Encoding.DER)

    @cached_property
    def gateway_authority(self) -> Authority:
        return self._authority("gateway", 0)

    @cached_property
    def merchant_authority(self) -> Authority:
        return self._authority("merchant", 1)

    @cached_property
    def gateway(self) -> Signer:
        return self.signer(GATEWAY.replace(OPERATOR, self.name), "gateway-sign")

    def signer(self, urn: str, purpose: str) -> Signer:
        key, chain = self.leaf(urn, purpose)
        return Signer(urn=urn, purpose=purpose, kid=certificates.kid(chain[0]), chain=chain, key=key)

    def leaf(
        self, urn: str, purpose: str, *, at: int | None = None, lifetime_s: int = 90 * DAY_S
    ) -> tuple[EllipticCurvePrivateKey, tuple[bytes, ...]]:
        issuer = self.merchant_authority if ":merchant:" in urn else self.gateway_authority
        key = keys.new_key()
        der = certificates.make_leaf(
            issuer, urn=urn, purpose=purpose, public=key.public_key(), at=self.at - DAY_S if at is None else at, lifetime_s=lifetime_s
        )
        return key, (der, *issuer.chain)

    def files(self, urn: str, purpose: str = "line", *, at: int | None = None, lifetime_s: int = 90 * DAY_S) -> Files:
        key, chain = self.leaf(urn, purpose, at=at, lifetime_s=lifetime_s)
        stem = f"{next(self.numbers)}"
        files = Files(self.folder / f"{stem}.chain.pem", self.folder / f"{stem}.key.pem", self.folder / f"{stem}.root.pem")
        files.chain.write_text(certificates.dump_chain_pem(chain))
        files.root.write_text(certificates.dump_chain_pem([self.root_der]))
        keys.save_key(key, files.key)
        return files

    def trust(self, urn: str | None = None) -> PinnedTrust:
        return PinnedTrust(self.root_der, self.name, urn=urn)

    def _authority(self, name: str, path_length: int) -> Authority:
        key = keys.new_key()
        der = certificates.make_authority(self.root, self.name, name, key.public_key(), path_length, self.at - 100 * DAY_S)
        return Authority.below_root(key, [der])


def merchant_urn(name: str) -> str:
    return ids.urn(OPERATOR, "merchant", name)


class World:
    """A gateway that listens on loopback, and what it heard."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.heard: list[tuple[str, str]] = []
        self.suspended: set[str] = set()
        self.leased: dict[str, str] = {}
        """From which address which merchant's leased line comes."""
        self.hellos: list[str] = []
        self.answer: Answer = confirm
        self.line: Line = None  # type: ignore[assignment]  # set by `listening` before anybody looks
        self.port = 0

    async def start(self, limits: Limits = QUICK, files: Files | None = None, more_doors: Sequence[Door] = (), **options: Any) -> Line:
        self.line = Line(
            signer=self.operator.gateway,
            trust=self.operator.trust(),
            clock=CLOCK,
            root=self.operator.root_der,
            operator=OPERATOR,
            limits=limits,
        )

        async def admit(peer: Peer) -> str:
            name = self.leased.get(peer.address, "") if peer.mode == "leased" else peer.urn.rpartition(":")[2]
            if not name or name in self.suspended or (peer.urn and peer.urn.rpartition(":")[2] != name):
                raise NotAllowed("suspended")
            return name

        async def on_request(merchant_id: str, urn: str, frame: str) -> str | None:
            assert urn == merchant_urn(merchant_id)
            self.heard.append((merchant_id, frame))
            return await self.answer(frame)

        await self.line.start(
            Door("vpn", "127.0.0.1", self.port, (files or self.gateway_files()).server()),
            *more_doors,
            is_registered=self.leased.__contains__,
            admit=admit,
            on_request=on_request,
            on_connected=lambda merchant_id, _: self.hellos.append(merchant_id),
            **options,
        )
        self.port = self.line.port()
        return self.line

    def gateway_files(self) -> Files:
        return self.operator.files(GATEWAY)

    def client(
        self,
        name: str = "shop",
        *,
        on_request: Answer = confirm,
        files: Files | None = None,
        limits: Limits = QUICK,
        clock: Clock = CLOCK,
        signer: Signer | None = None,
    ) -> LineClient:
        return LineClient(
            host="gateway.localhost",
            port=self.port,
            ssl_context=(files or self.operator.files(merchant_urn(name))).client(),
            gateway_urn=GATEWAY,
            operator=OPERATOR,
            root=self.operator.root_der,
            signer=signer or self.operator.signer(merchant_urn(name), "merchant-sign"),
            trust=self.operator.trust(GATEWAY),
            clock=clock,
            random=random.Random(1).random,
            on_request=on_request,
            limits=limits,
        )

    @asynccontextmanager
    async def connected(self, name: str = "shop", **options: Any) -> AsyncIterator[LineClient]:
        client = self.client(name, **options)
        await client.start()
        try:
            await asyncio.wait_for(client.connected.wait(), PATIENCE_S)
            await until(lambda: self.line.connected(name))
            yield client
        finally:
            await client.stop()

    def hello(self, name: str = "shop", *, at: int | None = None) -> str:
        signer = self.operator.signer(merchant_urn(name), "merchant-sign")
        return make_hello(HelloFromMerchant, signer, GATEWAY, CLOCK.now() if at is None else at, None)

    @asynccontextmanager
    async def raw(self, name: str = "shop", *, files: Files | None = None, read: bool = True, pong: bool = True) -> AsyncIterator["Raw"]:
        """A peer with a good certificate that sends what the test likes."""
        context = (files or self.operator.files(merchant_urn(name))).client()
        transport, listener = await ws_connect(
            lambda: Raw(read=read),
            f"wss://127.0.0.1:{self.port}/line",
            ssl_context=context,
            websocket_handshake_timeout=2,
            enable_auto_pong=pong,
        )
        assert isinstance(listener, Raw)
        try:
            yield listener
        finally:
            transport.disconnect(graceful=False)
            await listener.ended.wait()


class Raw(WSListener):
    """The bare socket of a peer under test."""

    def __init__(self, *, read: bool = True) -> None:
        self.read = read
        self.frames: asyncio.Queue[str] = asyncio.Queue()
        self.closed: tuple[int, str] | None = None
        self.ended = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        if not self.read:
            transport.underlying_transport.pause_reading()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.closed = (frame.get_close_code().value, frame.get_close_message().decode())
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self.frames.put_nowait(frame.get_payload_as_ascii_text())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.ended.set()

    def send(self, message: str | bytes, kind: WSMsgType = WSMsgType.TEXT) -> None:
        self.transport.send(kind, message)

    async def receive(self) -> str:
        return await asyncio.wait_for(self.frames.get(), PATIENCE_S)

    async def end(self) -> tuple[int, str] | None:
        await asyncio.wait_for(self.ended.wait(), PATIENCE_S)
        return self.closed


_SIGNATURE = "A" * 86
_COUNT = itertools.count()


def frame_of(typ: str, **claims: object) -> str:
    """A frame of known shape; the line itself verifies nothing but the hello, so its signature may be anything."""
    segments = ({"alg": "ES256", "typ": f"hanbit-{typ}"}, {"jti": str(next(_COUNT)), **claims})
    header, payload = (ids.encode_base64url(json.dumps(segment).encode()) for segment in segments)
    return f"{header}.{payload}.{_SIGNATURE}"


def request(size: int = 0) -> str:
    return frame_of("notice", text="x" * size)


def answer_to(frame: str, *more: str, typ: str = "confirmation") -> str:
    hashes = [frame_hash(frame), *(frame_hash(other) for other in more)]
    return frame_of(typ, req=hashes if more else hashes[0])


def acknowledgement(signer: Signer, *outcomes: str) -> str:
    claims = Acknowledgement(**head(signer, GATEWAY, CLOCK.now()), req=tuple(frame_hash(outcome) for outcome in outcomes))
    return sign(claims, signer).compact


@asynccontextmanager
async def listening(folder: Path, limits: Limits = QUICK) -> AsyncIterator[World]:
    """A world whose gateway listens, and hangs up in the end."""
    world = World(Operator(folder))
    await world.start(limits)
    try:
        yield world
    finally:
        await world.line.stop()
