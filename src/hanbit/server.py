"""`hanbit serve`: the composition root. Settings → store, keys, line, faces, recovery; everything that runs is started and stopped here."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from hanbit import control
from hanbit.background import JOBS
from hanbit.crypto.tls import LineTls
from hanbit.db.commit import Book
from hanbit.db.reading import Reader
from hanbit.folder import close_gateway, hold, open_gateway
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError
from hanbit.line.connection import Limits
from hanbit.line.doors import Door
from hanbit.line.listener import Line
from hanbit.line_requests import admission
from hanbit.line_requests import routes as line_requests
from hanbit.metrics import CONTENT_TYPE, Metrics
from hanbit.parties import merchants
from hanbit.parties.keyring import Keyring
from hanbit.parties.registry import Registry
from hanbit.payments import checkpoints, operations, own_keys, recovery, revocation
from hanbit.payments.gateway import AskingLine, Gateway
from hanbit.payments.halt import why_halted
from hanbit.payments.staff import console_url
from hanbit.protocols.line import HelloFromMerchant
from hanbit.settings import Settings
from hanbit.sharing import Sharing, share
from hanbit.sockets import Worker, faces, name_of, take
from hanbit.web import application
from hanbit.web.certificate import SiteCertificate
from hanbit.web.listener import counted_by
from hanbit.web.serving import serving
from hanbit.web.visitors import Places, Proxies

METRICS_CONNECTIONS_MAX = 50
ACKNOWLEDGED_EVERY_S = 0.05
"""Nobody waits for an acknowledgement to be stored: a lone payment's hold need not wait behind the one before it."""
CONSOLE_CONNECTIONS_MAX = 500

log = logging.getLogger("hanbit.server")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is up: where it listens and what it holds."""

    gateway: Gateway
    line: Line
    metrics: Metrics
    pay_port: int
    line_port: int
    console_ports: dict[str, int]
    """Console → its port; one that is turned off has none."""
    certificate: SiteCertificate | None
    """The customers' side's, where this server ends TLS itself."""

    def reload(self) -> None:
        """SIGHUP: read again what may change while we run, the site's certificate."""
        if self.certificate is not None:
            self.certificate.reload()


@asynccontextmanager
async def running(folder: Path, clock: Clock, worker: Worker | None = None) -> AsyncIterator[Running]:
    """Hold the folder, start everything, and stop it in order: no new requests, then recovery, line, book.

    A `worker` is one of several on this folder, which its parent holds; what they listen at is bound already.
    """
    metrics = Metrics()
    with hold(folder) if worker is None else contextlib.nullcontext():
        lines: list[Line] = []
        shared: list[Sharing] = []

        def make_line(settings: Settings, keys: Keyring, registry: Registry, clock: Clock, book: Book, reader: Reader) -> AskingLine:
            limits = Limits(answer_s=settings.notice_wait_s)
            lines.append(Line(signer=keys.signer, trust=registry, clock=clock, root=keys.root, operator=settings.operator, limits=limits))
            if worker is None and not settings.several_machines:
                return _before(lines[0], settings, clock)
            number, machine = 1 if worker is None else worker.number, f"{socket.gethostname()}:{folder.resolve()}"
            sharing = share(lines[0], settings, keys, clock, book, reader, number=number, machine=machine, metrics=metrics)
            shared.append(sharing)
            return _before(sharing.line, settings, clock)

        gateway = open_gateway(
            folder,
            clock,
            line=make_line,
            announce=lambda what, name, text: shared[0].line.announce(what, name, text) if shared else None,
            tidy=worker is None,
            observe=metrics.outcome,
            observe_batch=metrics.committed,
            acknowledged_every_s=ACKNOWLEDGED_EVERY_S,
        )
        line, settings = lines[0], gateway.settings
        sharing = shared[0] if shared else None
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(close_gateway, gateway)
            certificate = _certificate(folder, settings, clock, settings.public_url)
            await operations.open_operator_accounts(gateway)
            await _make_ready(gateway)
            if sharing is not None:
                await sharing.start(gateway, stack)
            await _start_line(gateway, line, worker, sharing)
            stack.push_async_callback(line.stop)
            if sharing is not None:
                stack.push_async_callback(sharing.leave)
            is_mine = sharing.turns.is_mine if sharing is not None else _all
            background = asyncio.create_task(recovery.run(gateway, JOBS, is_mine), name="recovery")
            stack.push_async_callback(_cancel, background)
            commands = await control.listen(_control(folder, worker), gateway, _commands(settings))
            stack.callback(commands.close)
            addresses, extension = faces(settings), _sandbox(gateway, stack)
            pages = take(worker, "customers", *addresses["customers"])
            site = application.create(gateway, metrics, is_ready=lambda: not background.done(), extension=extension)
            places = Places(settings.connections_max, settings.connections_per_address, Proxies(settings.trusted_proxies))
            customers = await stack.enter_async_context(
                serving(
                    site,
                    pages,
                    clock=clock,
                    http=counted_by(metrics),
                    places=places,
                    certificate=certificate,
                    handshakes_max=settings.handshakes_max,
                    is_shared=worker is not None,
                )
            )
            metrics.watch_customers(connections=lambda: customers.connections, handshakes=lambda: customers.handshakes)
            console_ports: dict[str, int] = {}
            for face in ("operator", "merchant"):
                if face in addresses:
                    listener = take(worker, face, *addresses[face])
                    console_ports[face] = await _start_console(
                        gateway, metrics, face, listener, folder, stack, is_shared=worker is not None
                    )
            if "metrics" in addresses:
                page, figures = _metrics_app(metrics, sharing), take(worker, "metrics", *addresses["metrics"])
                readers = Places(METRICS_CONNECTIONS_MAX, METRICS_CONNECTIONS_MAX, Proxies(()))
                await stack.enter_async_context(serving(page, figures, clock=clock, places=readers, is_shared=worker is not None))
            _watch(metrics, gateway, line)
            pay_port = pages.getsockname()[1]
            log.info("serving", extra={"pay_port": pay_port, "line_port": line.port(), "folder": str(folder)})
            yield Running(gateway, line, metrics, pay_port, line.port(), console_ports, certificate)


def _watch(metrics: Metrics, gateway: Gateway, line: Line) -> None:
    """Where the gauges look when they are read."""
    metrics.watch(
        waiting=lambda: gateway.book.waiting,
        connections=lambda: sum(merchant.connections for merchant in line.stats().merchants.values()),
        round_trip=lambda: max((merchant.round_trip_s or 0.0 for merchant in line.stats().merchants.values()), default=0.0),
        pending=lambda: sum(merchant.pending for merchant in line.stats().merchants.values()),
        halted=lambda: int(why_halted(gateway.reader) is not None),
    )
    keyring = gateway.keyring
    metrics.watch_certificates(keyring.not_after(), lambda name: keyring.not_after()[name] - gateway.clock.now())


def _all(_job: str) -> bool:
    """A server by itself does all the work of the background."""
    return True


def _control(folder: Path, worker: Worker | None) -> socket.socket:
    return control.bind(folder) if worker is None else socket.socket(fileno=worker.sockets["control"])


async def _start_console(
    gateway: Gateway,
    metrics: Metrics,
    face: str,
    listener: socket.socket,
    folder: Path,
    stack: contextlib.AsyncExitStack,
    *,
    is_shared: bool,
) -> int:
    """One console on a listener of its own: its origin, cookies and limits are apart from the customers'. Returns its port."""
    settings, url = gateway.settings, console_url(gateway, face)
    site = application.create_console(gateway, metrics, face)
    places = Places(CONSOLE_CONNECTIONS_MAX, settings.connections_per_address, Proxies(settings.trusted_proxies))
    certificate = _certificate(folder, settings, gateway.clock, url) if url.startswith("https://") else None
    await stack.enter_async_context(
        serving(site, listener, clock=gateway.clock, places=places, certificate=certificate, is_shared=is_shared)
    )
    return int(listener.getsockname()[1])


async def _make_ready(gateway: Gateway) -> None:
    """Keys that are good and current lists of the revoked, before the first merchant comes: without them it believes nothing."""
    try:
        await own_keys.renew_due(gateway)
        await revocation.publish_due(gateway)
    except (HanbitError, OSError) as error:  # a full disk: the background tries again
        log.warning("not_ready_yet", extra={"reason": str(error)})


def _before(line: AskingLine, settings: Settings, clock: Clock) -> AskingLine:
    """What the flows see of the line: itself, and in a sandbox what plays with deliveries before it."""
    if not settings.sandbox:
        return line
    from hanbit.sandbox.line import SandboxLine  # noqa: PLC0415 - a live server never loads it

    return SandboxLine(line, clock, page_waits_s=settings.notice_wait_s)


def _commands(settings: Settings) -> control.Commands:
    """What comes by the control socket; a sandbox has some of its own."""
    if not settings.sandbox:
        return control.COMMANDS
    from hanbit.sandbox.commands import COMMANDS  # noqa: PLC0415 - a live server never loads it

    return {**control.COMMANDS, **COMMANDS}


def _sandbox(gateway: Gateway, stack: contextlib.AsyncExitStack) -> application.Extension | None:
    """A sandbox's own page, and what keeps its magic rows as they are said to be."""
    if not gateway.settings.sandbox:
        return None
    from hanbit.sandbox import site, waiting  # noqa: PLC0415 - a live server never loads it

    stack.push_async_callback(_cancel, asyncio.create_task(waiting.run(gateway), name="sandbox"))
    return site.extension(gateway)


async def _start_line(gateway: Gateway, line: Line, worker: Worker | None, sharing: Sharing | None) -> None:
    settings = gateway.settings
    tasks: set[asyncio.Task[None]] = set()

    async def on_request(merchant_id: str, _urn: str, unverified_frame: str) -> str | None:
        return await line_requests.answer(gateway, merchant_id, unverified_frame)

    def on_connected(merchant_id: str, hello: HelloFromMerchant) -> None:
        task = asyncio.create_task(recovery.merchant_connected(gateway, merchant_id, hello.checkpoint))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def post_context(check: Callable[[bytes], object]) -> ssl.SSLContext:
        def check_with_registry(certificate: bytes) -> None:
            check(certificate)
            admission.check_line_key(gateway, certificate)

        return gateway.keyring.line_tls.pinned_client(check=check_with_registry)

    await line.start(
        *(_inherited(door, worker) for door in _doors(gateway.keyring.line_tls, settings)),
        admit=partial(admission.admit, gateway),
        on_request=on_request,
        on_connected=on_connected,
        on_moved=None if sharing is None else sharing.presence.moved,
        checkpoint=partial(checkpoints.latest_hash, gateway),
        is_registered=partial(admission.is_registered, gateway),
        post_addresses=lambda: merchants.post_addresses(gateway.reader),
        post_context=post_context,
    )


def _doors(shown: LineTls, settings: Settings) -> Iterator[Door]:
    """Each with a TLS context of its own: nothing of one line is shared with the other."""
    yield Door("vpn", settings.line_host, settings.line_port, shown.server())
    if settings.line_post_port:
        yield Door("vpn", settings.line_host, settings.line_post_port, shown.server(), carries="posts")
    leased, interface = settings.leased_host, settings.leased_interface
    if settings.leased_port:
        yield Door("leased", leased, settings.leased_port, shown.server() if settings.leased_tls else None, interface)
    if settings.leased_post_port:
        yield Door("leased", leased, settings.leased_post_port, shown.server(), interface, carries="posts")


def _inherited(door: Door, worker: Worker | None) -> Door:
    return door if worker is None else replace(door, inherited=worker.sockets.get(name_of(door)))


def _certificate(folder: Path, settings: Settings, clock: Clock, url: str) -> SiteCertificate | None:
    if not settings.tls_certificate:
        return None
    host = urlsplit(url).hostname or ""
    return SiteCertificate(folder / settings.tls_certificate, folder / settings.tls_key, host=host, clock=clock)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _metrics_app(metrics: Metrics, sharing: Sharing | None) -> Starlette:
    async def page(_: object) -> Response:
        return Response(metrics.text() if sharing is None else await sharing.metrics(), headers={"Content-Type": CONTENT_TYPE})

    return Starlette(routes=[Route("/metrics", page)])
