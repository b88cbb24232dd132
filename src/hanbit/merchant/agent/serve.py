"""The agent put together: the shop with its line, the outbox with its couriers, the API on a loopback address or a Unix socket."""

import asyncio
import contextlib
import logging
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, Unavailable
from hanbit.loopback import LOOPBACK, is_this_computer
from hanbit.merchant.agent import confirm, secret_files, settings, store
from hanbit.merchant.agent.api import Api
from hanbit.merchant.agent.calls import Calls
from hanbit.merchant.agent.delivery import Courier
from hanbit.merchant.agent.idempotency import Once
from hanbit.merchant.agent.outbox import Outbox
from hanbit.merchant.agent.shapes import OrderView
from hanbit.merchant.agent.webhooks import Caller
from hanbit.merchant.files import read_registration
from hanbit.merchant.following import FollowingClock, clock_of
from hanbit.merchant.handlers import OnConfirm, OnOutcome, OnRefund
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.private_socket import bind_private

STOP_WITHIN_S: Final = 10.0
"""Requests at work have so long to end when the agent stops."""
HOUSEKEEPING_S: Final = 600.0
NEXT_PORTION_S: Final = 0.1
BACKLOG: Final = 128
PORT_MAX: Final = 65535
EVENT_OF: Final = {
    State.SETTLED: settings.SETTLED,
    State.VOIDED: settings.VOIDED,
    State.CLOSED: settings.CLOSED,
    State.CANCELLED: settings.CANCELLED,
}
"""Which event tells of an order in this state; one that was struck after it was settled is told of twice."""
_log = logging.getLogger("hanbit.merchant.agent")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API listens: exactly one of the two."""

    host: str = ""
    port: int = 0
    socket_path: Path | None = None

    def __str__(self) -> str:
        if self.socket_path is not None:
            return f"unix:{self.socket_path}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def read_listen(text: str) -> Address:
    """HOST:PORT of this computer; BadInput for every other address, because the API has no TLS and its token is worth money."""
    host, separator, port = text.rpartition(":")
    host = host.strip("[]").lower()
    if not separator or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= PORT_MAX:
        raise BadInput(f"{text}: HOST:PORT, for example 127.0.0.1:8405")
    if not is_this_computer(host):
        raise BadInput(f"{text}: the agent listens on this computer only: 127.0.0.1:PORT, [::1]:PORT or a Unix socket")
    return Address(host=LOOPBACK if host.endswith("localhost") else host, port=int(port))


@dataclass(frozen=True, slots=True)
class Running:
    """An agent that answers."""

    shop: Shop
    calls: Calls
    outbox: Outbox
    address: Address


class OpenShop(Protocol):
    """Opens the shop with the agent's handlers; `Shop.open` of a folder is it."""

    def __call__(self, *, on_confirm: OnConfirm | None, on_outcome: OnOutcome, on_refund: OnRefund) -> AbstractAsyncContextManager[Shop]:
        """While the `async with` lasts the shop is open."""
        ...


def running(
    directory: Path, address: Address, clock: Clock, *, dial: bool = True, post_listen: tuple[str, int] | None = None
) -> AbstractAsyncContextManager[Running]:
    """Open an enrolled folder and serve its API while the `async with` lasts; its line is as `Shop.open` says."""
    # The registration comes first: nothing is written into a folder that is no shop's.
    own = clock_of(read_registration(directory), clock)
    terms = settings.load(directory).console.terms
    opened = partial(Shop.open, directory, clock=own, dial=dial, post_listen=post_listen, console_cancellations=terms)
    return around(opened, directory, address, own)


@asynccontextmanager
async def around(open_shop: OpenShop, directory: Path, address: Address, clock: Clock) -> AsyncIterator[Running]:
    """The agent around a shop; what is at work at the end is finished, or left to be taken up after the next start."""
    found = settings.load(directory)
    token = secret_files.token(directory)
    secrets = {endpoint.name: secret_files.endpoint_secrets(directory, endpoint.name) for endpoint in found.endpoints}
    opened: asyncio.Future[Calls] = asyncio.get_running_loop().create_future()

    async def view(order: Order) -> OrderView:
        return await (await opened).view(order)

    async with contextlib.AsyncExitStack() as stack:
        # Whoever is called compares a call's time with his own clock, which follows nobody's.
        caller = await stack.enter_async_context(Caller(clock.base if isinstance(clock, FollowingClock) else clock))
        confirmer = found.confirmer
        on_confirm = None if confirmer is None else confirm.asks(confirmer, secrets[confirmer.name], caller, clock, view)

        async def on_outcome(order: Order) -> None:
            calls = await opened
            await outbox.put(EVENT_OF[order.state], subject=order.tid, tid=order.tid, data=await calls.view(order))
            calls.ring()

        async def on_refund(order: Order) -> None:
            calls = await opened
            subject = f"{order.tid}:{order.refunded.text}"  # each sum is told of once
            await outbox.put(settings.REFUNDED, subject=subject, tid=order.tid, data=await calls.view(order))
            calls.ring()

        # The order book's lock comes first: it is what keeps a second agent from this folder and its files.
        shop = await stack.enter_async_context(open_shop(on_confirm=on_confirm, on_outcome=on_outcome, on_refund=on_refund))
        kept = store.Store(directory / store.FILE)
        stack.push_async_callback(kept.close)
        outbox = Outbox(kept, found.endpoints, clock)
        await outbox.register()
        once = Once(kept, clock)
        couriers = [Courier(endpoint, secrets[endpoint.name], outbox, caller, clock) for endpoint in found.endpoints]
        calls = Calls(shop, outbox, couriers, clock)
        opened.set_result(calls)
        shop.console.callbacks = calls
        if isinstance(clock, FollowingClock):
            clock.on_moved.append(calls.ring)
        for courier in couriers:
            courier.start()
            stack.push_async_callback(courier.stop)
        housekeeping = asyncio.create_task(_keep_house(once, outbox))
        stack.push_async_callback(_end, housekeeping)
        bound = await stack.enter_async_context(_listening(Api(calls, once, token), address))
        stack.callback(calls.stop)
        yield Running(shop, calls, outbox, bound)


@asynccontextmanager
async def _listening(api: Api, address: Address) -> AsyncIterator[Address]:
    """Until the end new connections are taken; then those at work are waited for."""
    with _bind(address) as listener:
        runner = web.ServerRunner(api.server(), shutdown_timeout=STOP_WITHIN_S)
        await runner.setup()
        try:
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
            yield address if address.socket_path is not None else Address(*listener.getsockname()[:2])
        finally:
            await runner.cleanup()
            if address.socket_path is not None:
                address.socket_path.unlink(missing_ok=True)


def _bind(address: Address) -> socket.socket:
    """A bound socket; BadInput that names the address where it cannot be had."""
    try:
        if address.socket_path is not None:
            _clear_away(address.socket_path)
            return bind_private(address.socket_path)
        return socket.create_server((address.host, address.port), family=socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    except OSError as error:
        raise BadInput(f"{address}: {error.strerror or error}") from error


def _clear_away(path: Path) -> None:
    """Remove the socket of an agent that was killed; never one on which somebody listens, never another file."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise BadInput(f"{path}: this is a file and no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Unavailable(f"{path}: somebody listens there already")


async def _keep_house(once: Once, outbox: Outbox) -> None:
    while True:
        more = False
        try:
            more = await once.purge() | await outbox.purge()
        except Unavailable as error:
            _log.warning("old rows stay for now: %s", error)
        await asyncio.sleep(NEXT_PORTION_S if more else HOUSEKEEPING_S)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
