"""Sets the demo up: data folder, payment server and two shops as processes of their own, customers with accounts, their wallets.

The operator's side goes through the same commands and addresses that a real operator, shop and customer use.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from hanbit import control, folder
from hanbit.crypto import certificates
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Unavailable
from hanbit.loopback import LoopbackResolver
from hanbit.merchant import enrolment as merchant_enrolment
from hanbit.settings import Settings
from hanbit.wallet import enrol as wallet_enrol
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Wallet
from hanbit.wallet.store import Enrolment, Store

START_TIMEOUT_S = 120.0
"""Who ends while it starts is heard of at once; this is for a machine that has other things to do."""
STOP_TIMEOUT_S = 15.0
FREE_PORTS = range(20_000, 32_000)
"""Systems take the ports of outgoing connections from above these."""
FREE_TRIES_MAX = 100

CUSTOMERS = (
    ("hong", "홍길동", "ko", "hanbit-login-1"),
    ("kim", "김영희", "ko", "hanbit-login-2"),
    ("lee", "Lee Sun-hee", "en", "hanbit-login-3"),
)
"""(login, name, language, log-in password) of the sample customers; printed, for they are worth nothing."""
ACCOUNTS = (
    ("hong", "bank", "11023456781234", "account-11", "0", "1000000"),
    ("hong", "card", "4000001234567899", "account-12", "2000000", "0"),
    ("hong", "emoney", "7700000000015", "account-13", "0", "300000"),
    ("kim", "bank", "11098765435678", "account-21", "0", "5000"),
    ("lee", "bank", "11055555559012", "account-31", "0", "900000"),
)
"""(login, kind, number, account password, credit line, first balance)."""
SHOPS = (("shop", "무지개 상점", "02-555-0100", "signed"), ("plain-shop", "옛날 상점", "02-555-0200", "plain"))
"""(id, name, telephone, form of its orders); the second is registered in the document's own plain form."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens on the loopback address."""

    pay: int
    line: int
    metrics: int
    shops: tuple[int, ...]

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody uses now, and that no system gives to a connection going out before they are listened on."""
        with contextlib.ExitStack() as stack:
            pay, line, metrics, *shops = (_free_port(stack.enter_context(socket.socket())) for _ in range(3 + len(SHOPS)))
        return cls(pay, line, metrics, tuple(shops))


def _free_port(probe: socket.socket) -> int:
    for _ in range(FREE_TRIES_MAX):
        port = secrets.choice(FREE_PORTS)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Unavailable(f"{FREE_TRIES_MAX} ports between {FREE_PORTS[0]} and {FREE_PORTS[-1]} are all in use")


FIXED_PORTS = Ports(8400, 8401, 8409, (8402, 8403))


@dataclass(slots=True)
class DemoShop:
    """A running demo shop as its visitor sees it."""

    url: str
    folder: Path
    http: aiohttp.ClientSession

    async def order(self, item: str, quantity: int = 1) -> tuple[str, str]:
        """Place an order; returns its tid and the payment address."""
        answer = await self._post("/orders", {"item": item, "quantity": quantity})
        return answer["tid"], answer["location"]

    async def state(self, tid: str, *, wait: bool = False) -> dict[str, Any]:
        """What the shop knows of an order."""
        async with self.http.get(f"{self.url}/orders/{tid}{'?wait=1' if wait else ''}", headers={"Accept": "application/json"}) as response:
            return dict(await response.json())

    async def withdraw(self, tid: str) -> None:
        """The shop takes a signed order back."""
        await self._post(f"/staff/orders/{tid}/withdraw", {})

    async def cancel(
        self, tid: str, amount_minor: int | None = None, reason: str = "cancelled by the shop", request_key: str | None = None
    ) -> dict[str, Any]:
        """The shop cancels an order, or gives a part of the money back; {"cancellation", "order"} as they stand then."""
        amount = "" if amount_minor is None else str(amount_minor)
        return await self._post(f"/staff/orders/{tid}/cancel", {"amount": amount, "reason": reason, "request_key": request_key})

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        token = (self.folder / "staff.token").read_text("ascii")
        headers = {"Authorization": f"Bearer {token}"} if path.startswith("/staff/") else {}
        async with self.http.post(self.url + path, json=body, headers=headers) as response:
            if response.status >= 400:  # noqa: PLR2004 - HTTP's errors
                raise Unavailable(f"the demo shop answered {response.status} at {path}")
            return dict(await response.json())


@dataclass(slots=True)
class DemoCustomer:
    """A sample customer with an enrolled wallet."""

    login: str
    password: str
    enrolment: Enrolment
    wallet: Wallet
    accounts: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class World:
    """Everything that runs."""

    data: Path
    settings: Settings
    shops: dict[str, DemoShop]
    customers: dict[str, DemoCustomer]

    async def command(self, command: str, **arguments: str) -> dict[str, Any]:
        """One of the operator's commands, through the running server."""
        return await control.run(self.data, command, **arguments)


@asynccontextmanager
async def demo_world(directory: Path, ports: Ports, clock: Clock, say: Callable[[str], None], database: str = "") -> AsyncIterator[World]:
    """Make and start everything in `directory`, the book too if no empty database is named; whatever was started is stopped again."""
    data = directory / "gateway"
    settings = Settings(
        operator="demo",
        test_mode=True,
        public_url=f"http://pay.localhost:{ports.pay}",
        listen_port=ports.pay,
        line_port=ports.line,
        metrics_port=ports.metrics,
        database=database,
    )
    say("making keys, certificates and an empty book")
    await folder.create(data, settings, clock, root_key=None, root_passphrase=None)
    async with contextlib.AsyncExitStack() as stack:
        say("starting the payment server")
        logs = directory / "logs"
        logs.mkdir()
        serve = [sys.executable, "-m", "hanbit", "serve", "--data", str(data)]
        gateway = await stack.enter_async_context(_process(serve, logs / "gateway.log"))
        connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)))
        await _wait_for(http, f"{settings.public_url}/readyz", _is_ok, logs / "gateway.log", gateway)
        world = World(data, settings, {}, {})
        for (shop_id, name, telephone, orders), port in zip(SHOPS, ports.shops, strict=True):
            say(f"enrolling and starting the shop {name}")
            shop = DemoShop(f"http://{shop_id}.localhost:{port}", directory / shop_id, http)
            await _enrol_shop(world, shop, shop_id=shop_id, name=name, telephone=telephone, orders=orders, clock=clock)
            arguments = ["--data", str(shop.folder), "--listen", f"127.0.0.1:{port}", "--public-url", shop.url]
            log = logs / f"{shop_id}.log"
            process = await stack.enter_async_context(_process([sys.executable, "-m", "hanbit.demo.shop", *arguments], log))
            await _wait_for(http, f"{shop.url}/healthz", _line_is_up, log, process)
            world.shops[shop_id] = shop
        say("opening customers and accounts, enrolling their wallets")
        wallets = await stack.enter_async_context(Http())
        for login, name, language, password in CUSTOMERS:
            world.customers[login] = await _open_customer(
                world, wallets, directory, clock, login=login, name=name, language=language, password=password
            )
        await _open_accounts(world)
        yield world


async def _enrol_shop(world: World, shop: DemoShop, *, shop_id: str, name: str, telephone: str, orders: str, clock: Clock) -> None:
    registered = await world.command(
        "create_merchant", id=shop_id, name=name, telephone=telephone, orders=orders, return_url=f"{shop.url}/hanbit/return"
    )
    pin = ids.digest(_root(world.data))
    await merchant_enrolment.enrol(shop.folder, world.settings.public_url, registered["code"], pin=pin, clock=clock)


async def _open_customer(
    world: World, http: Http, directory: Path, clock: Clock, *, login: str, name: str, language: str, password: str
) -> DemoCustomer:
    await world.command("create_customer", login=login, name=name, language=language, password=password)
    store = Store(directory / "wallets" / login)
    pin = store.trust(_root(world.data), clock.now())
    code = (await world.command("enrol_code", login=login))["code"]
    enrolled = await wallet_enrol.enrol(world.settings.public_url, code, store=store, http=http, clock=clock)
    wallet = Wallet.at(world.settings.public_url, pin=pin, http=http, clock=clock)
    return DemoCustomer(login, password, enrolled, wallet)


async def _open_accounts(world: World) -> None:
    for login, kind, number, password, credit_limit, balance in ACCOUNTS:
        opened = await world.command("create_account", login=login, kind=kind, number=number, password=password, credit_limit=credit_limit)
        world.customers[login].accounts[kind] = opened["account"]
        if balance != "0":
            await world.command("fund", account=opened["account"], amount=balance)


def _root(data: Path) -> bytes:
    return certificates.load_chain_pem(data / folder.KEYS_FOLDER / "root.pem")[0]


@asynccontextmanager
async def _process(arguments: list[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child that ends with us, its output in a file."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _wait_for(
    http: aiohttp.ClientSession,
    url: str,
    good: Callable[[int, str], bool],
    log: Path,
    process: asyncio.subprocess.Process | None = None,
) -> None:
    """Until the address answers as it should; Unavailable with the end of the log when it does not, or its process has ended."""
    latest = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while asyncio.get_running_loop().time() < latest and (process is None or process.returncode is None):
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # a server that starts slowly lets a first request wait
            async with http.get(url) as response:
                if good(response.status, await response.text()):
                    return
        await asyncio.sleep(0.05)
    raise Unavailable(f"{url} did not come up; its log ends:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-1500:]


def _is_ok(status: int, _text: str) -> bool:
    return status == 200  # noqa: PLR2004 - HTTP's OK


def _line_is_up(status: int, text: str) -> bool:
    return _is_ok(status, text) and '"line":"up"' in text.replace(" ", "")
