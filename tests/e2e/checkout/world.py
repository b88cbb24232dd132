"""What the browser tests run against: the demo's real processes, a site whose clock a test moves, shops that a test may stop or kill."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvicorn

from hanbit import folder
from hanbit.demo.shop.app import ShopPages
from hanbit.demo.shop.session import Sessions
from hanbit.demo.shop.staff import Staff
from hanbit.demo.world import DemoShop, Ports, World, _enrol_shop, _line_is_up, _wait_for
from hanbit.kernel.clock import SystemClock
from hanbit.loopback import LoopbackResolver
from hanbit.merchant.handlers import No, Yes
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.server import Running, running
from hanbit.settings import Settings

NUMBERS = {"bank": "110", "card": "4000", "emoney": "77"}
"""How the numbers of each kind begin; a bank's and an issuer's have 10 to 14 digits, a card's 16."""


class OffsetClock:
    """The machine's clock plus what a test has added."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._offset_s = 0

    def now(self) -> int:
        return self._clock.now() + self._offset_s

    def monotonic(self) -> float:
        return self._clock.monotonic() + self._offset_s

    def advance(self, seconds: int) -> None:
        self._offset_s += seconds


@dataclass(frozen=True)
class Person:
    """A customer of one test, with passwords that occur nowhere else."""

    login: str
    name: str
    password: str
    account_password: str
    accounts: dict[str, str]
    """Kind → id of the account."""
    numbers: dict[str, str]

    @property
    def secrets(self) -> tuple[str, str]:
        return self.password, self.account_password


async def person(world: World, name: str = "홍길동", **balances: int) -> Person:
    """A new customer with an account of each named kind; `card` gives the credit line instead of a balance."""
    token = secrets.token_hex(5)
    login, password, account_password = f"hong-{token}", f"login-canary-{token}", f"account-canary-{token}"
    await world.command("create_customer", login=login, name=name, password=password)
    accounts, numbers = {}, {}
    for kind, amount in (balances or {"bank": 1_000_000}).items():
        numbers[kind] = _number(kind)
        line = str(amount) if kind == "card" else "0"
        made = await world.command(
            "create_account", login=login, kind=kind, number=numbers[kind], password=account_password, credit_limit=line
        )
        accounts[kind] = made["account"]
        if kind != "card" and amount:
            await world.command("fund", account=accounts[kind], amount=str(amount))
    return Person(login, name, password, account_password, accounts, numbers)


async def balance(world: World, who: Person, kind: str) -> tuple[int, int]:
    """What an account holds, and what of it is held for payments that are not decided."""
    rows = (await world.command("list_parties", what="accounts"))["accounts"]
    row = next(row for row in rows if row["id"] == who.accounts[kind])
    return row["balance"], row["held"]


def _number(kind: str) -> str:
    """A number that nobody has; a card's ends with its check digit."""
    digits = NUMBERS[kind] + str(secrets.randbelow(10**11)).zfill(11)
    if kind != "card":
        return digits[:14]
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(digits)]
    return digits + str(-sum(sum(divmod(value, 10)) for value in doubled) % 10)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what another process does on its own."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.05)


async def line_is_down(shop: DemoShop, location: str) -> None:
    """The payment server has noticed that this shop is gone."""

    async def gone() -> bool:
        async with shop.http.get(location, headers={"Accept": "application/json"}) as answer:
            return answer.status == 503

    await until(gone)


async def staff(shop: DemoShop, answer: str) -> None:
    """How this shop answers notices from now on."""
    token = (shop.folder / "staff.token").read_text("ascii")
    async with shop.http.post(f"{shop.url}/staff/answer", data=answer, headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status == 200


def altered(location: str, **values: str) -> str:
    """The redirect's address with other values."""
    parts = urllib.parse.urlsplit(location)
    query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)) | values
    return parts._replace(query=urllib.parse.urlencode(query)).geturl()


# --- a shop of its own process ------------------------------------------------------------------------------


@dataclass
class ShopProcess:
    """A demo shop that one test starts, stops, freezes and kills; it has an enrolment and a port of its own."""

    shop: DemoShop
    port: int
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self, **environment: str) -> None:
        """Up, with its line."""
        arguments = ["--data", str(self.shop.folder), "--listen", f"127.0.0.1:{self.port}", "--public-url", self.shop.url]
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hanbit.demo.shop", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )
        await _wait_for(self.shop.http, f"{self.shop.url}/healthz", _line_is_up, self.log)

    def send(self, number: signal.Signals) -> None:
        """STOP freezes it, CONT lets it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    async def end(self, number: signal.Signals | None = signal.SIGTERM) -> None:
        """Send a signal, or wait for what ends it anyway."""
        assert self.process is not None
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
        await asyncio.wait_for(self.process.wait(), 20)
        self.process = None


@asynccontextmanager
async def shop_process(world: World, directory: Path, *, orders: str = "signed") -> AsyncIterator[ShopProcess]:
    """A newly enrolled shop, not yet started."""
    shop_id = f"spare-{secrets.token_hex(4)}"
    port = Ports.free().pay
    http = next(iter(world.shops.values())).http
    shop = DemoShop(f"http://{shop_id}.localhost:{port}", directory / shop_id, http)
    await _enrol_shop(world, shop, shop_id=shop_id, name="떴다 상점", telephone="02-555-0300", orders=orders, clock=SystemClock())
    process = ShopProcess(shop, port, directory / f"{shop_id}.log")
    try:
        yield process
    finally:
        if process.process is not None:
            await process.end(signal.SIGKILL)


# --- a site with a clock that moves -------------------------------------------------------------------------


class Gate:
    """The confirm handler of the shop whose clock moves: it answers at once, or when the test lets it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.answer: Yes | No = Yes()
        self.asked = asyncio.Event()

    async def on_confirm(self, order: Order) -> Yes | No:
        self.asked.set()
        await self.open.wait()
        return self.answer


@dataclass
class MovingWorld:
    """Payment server and shop in this process, both with `clock`."""

    world: World
    running: Running
    shop: Shop
    clock: OffsetClock
    gate: Gate = field(default_factory=Gate)


@asynccontextmanager
async def moving_world(directory: Path) -> AsyncIterator[MovingWorld]:
    """Start both on free ports."""
    clock, ports, gate = OffsetClock(), Ports.free(), Gate()
    public_url = f"http://pay.localhost:{ports.pay}"
    settings = Settings(public_url=public_url, listen_port=ports.pay, line_port=ports.line, notice_wait_s=0.5)
    data = directory / "gateway"
    await folder.create(data, settings, clock, root_key=None, root_passphrase=None)
    port = ports.shops[0]
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(data, clock))
        connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        demo = DemoShop(f"http://shop.localhost:{port}", directory / "shop", http)
        world = World(data, settings, {"shop": demo}, {})
        await _enrol_shop(world, demo, shop_id="shop", name="무지개 상점", telephone="02-555-0100", orders="signed", clock=clock)
        shop = await stack.enter_async_context(Shop.open(demo.folder, on_confirm=gate.on_confirm, clock=clock))
        pages = ShopPages(shop, Sessions(demo.folder, clock), Staff(demo.folder), public_url=demo.url)
        await stack.enter_async_context(_serving(pages, port))
        assert shop.line is not None
        await asyncio.wait_for(shop.line.connected.wait(), 20)
        yield MovingWorld(world, server, shop, clock, gate)


@asynccontextmanager
async def _serving(pages: ShopPages, port: int) -> AsyncIterator[None]:
    config = uvicorn.Config(pages.app, host="127.0.0.1", port=port, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # the test runner keeps its own
    listener = config.bind_socket()
    task = asyncio.create_task(server._serve([listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it by an attribute only
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task
        listener.close()
