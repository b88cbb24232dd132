"""`hanbit serve`, the demo shop and `hanbit wallet` as processes of their own, each of which can be told where to die by SIGKILL."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import aiohttp
import pytest

from hanbit.db.reading import Reader
from hanbit.demo.cases import prove
from hanbit.demo.world import DemoShop, Ports, World, _is_ok, _line_is_up, _wait_for
from hanbit.evidence import store as evidence
from hanbit.folder import place_at
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import TooManyTries, Unavailable, WrongState
from hanbit.loopback import LoopbackResolver
from hanbit.merchant.files import ORDER_BOOK
from hanbit.merchant.order_book import OrderBook
from hanbit.payments import payment as payments
from hanbit.payments.payment import Payment
from hanbit.settings import load
from hanbit.wallet.client import GatewayRefused, Http
from hanbit.wallet.pay import Device, Opened, Outcome, Wallet
from hanbit.wallet.store import Enrolment, Store
from tests.faces.test_site_certificate import make_site_certificate
from tests.flows.crash_world import LOGIN, MERCHANT, PASSWORD, make_folder

ITEM: Final = "phone"
PAUSE_S: Final = 0.05
"""Another process's state cannot be awaited; it is looked at again after so long."""
PATIENCE_S: Final = 90
"""Far beyond every wait of ours: it only turns a hang into a failure."""
RESTART_S: Final = 10
"""After a restart the service takes a new payment within ten seconds, untouched."""
IN_THE_SHOP: Final = {"captured": "settled", "refused": "voided", "voided": "voided", "closed": "closed"}

CANCELLING: Final = {"hanbit-cancel", "hanbit-cancel-confirmation", "hanbit-cancel-refusal"}

T = TypeVar("T")


def _never(_outcomes: object, _at: int) -> NoReturn:
    raise AssertionError("a book that is only read acknowledges nothing")


class Child:
    """One server process that is started, dies, and is started again on the same files."""

    def __init__(self, name: str, arguments: list[str], url: str, log: Path) -> None:
        self.name = name
        self.url = url
        self._arguments = arguments
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, fail_at: str = "") -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "HANBIT_FAIL_AT": fail_at}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *self._arguments), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def ready(self, http: aiohttp.ClientSession, good: Callable[[int, str], bool] = _is_ok) -> None:
        await _wait_for(http, self.url, good, self._log)

    async def killed(self) -> None:
        """Wait until it has died where it was told to."""
        async with asyncio.timeout(PATIENCE_S):
            assert await self.process.wait() == -signal.SIGKILL, self.log_end()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and what it exits with."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), 30)
        except TimeoutError:
            await self.kill()
            raise

    def log_end(self) -> str:
        return self._log.read_text("utf-8", "replace")[-3000:]


@dataclass
class Site:
    """The two servers, and the customer's own programs."""

    folder: Path
    gateway: Child
    shop: Child
    pages: DemoShop
    http: aiohttp.ClientSession
    wallets: Http
    accounts: dict[str, str]
    enrolled: Enrolment
    tids: list[str] = field(default_factory=list)

    def wallet(self) -> Wallet:
        """A browser of its own: another session, the same customer."""
        settings = load(self.folder / "gateway")
        pin = Store(self.folder / "wallet").pin(settings.operator)
        return Wallet.at(settings.public_url, pin=pin, http=self.wallets, clock=SystemClock(), poll_s=0.1)

    async def order(self) -> tuple[str, str]:
        tid, location = await insist(lambda: self.pages.order(ITEM))
        self.tids.append(tid)
        return tid, location

    async def pay(self, wallet: Wallet, location: str) -> Outcome:
        """A customer who does not give up: R4 to R12, every request again until it is answered."""
        opened = await self.log_in(wallet, location)
        return await self.submit(wallet, wallet.prepare(opened, self.device, account=self.accounts["bank"]))

    @property
    def device(self) -> Device:
        return Device(self.enrolled.device)

    async def log_in(self, wallet: Wallet, location: str) -> Opened:
        while True:
            opened = await insist(lambda: wallet.open(location))
            if wallet.client.has_session:
                return opened
            try:
                await insist(partial(wallet.login, opened, LOGIN, PASSWORD))
            except GatewayRefused as refusal:  # logged in, but the answer was lost: the page is used up, the next one is not
                if refusal.problem != WrongState.code:
                    raise
                continue
            except TooManyTries as wait:  # four of his log-ins at once, and one more whose answer was lost, are five that count as wrong
                await asyncio.sleep(wait.retry_after_s)
                continue
            return opened

    async def submit(self, wallet: Wallet, body: dict[str, str]) -> Outcome:
        outcome = await insist(lambda: wallet.send(body))
        async with asyncio.timeout(PATIENCE_S):
            while outcome.state == "authorized":
                await asyncio.sleep(PAUSE_S)
                outcome = await wallet.look(outcome)
        return outcome

    async def new_payment(self) -> None:
        """What a customer who comes now meets, untouched."""
        _, location = await self.order()
        assert (await self.pay(self.wallet(), location)).state == "captured"

    def payment(self, tid: str) -> Payment | None:
        reader = Reader(place_at(self.folder / "gateway"))
        try:
            return payments.find(reader, MERCHANT, tid)
        finally:
            reader.close()

    async def give_back(self, tid: str, amount: int | None, key: str) -> dict[str, Any]:
        """Staff who do not give up: the same wish under the same key until somebody answers, then wait for the gateway's word."""
        while True:
            done = await insist(lambda: self.pages.cancel(tid, amount, request_key=key))
            if done["cancellation"]["state"] != "asked":
                return done
            await asyncio.sleep(PAUSE_S)

    async def refunds_agree(self, tid: str, *parts: int) -> None:
        """Each part went back once, and gateway and shop hold the same signed words on it; the shop is stopped for that."""
        await self.shop.stop()
        order_book = OrderBook(self.folder / "shop" / ORDER_BOOK, _never)
        reader = Reader(place_at(self.folder / "gateway"))
        try:
            order, payment = await order_book.order(tid), payments.find(reader, MERCHANT, tid)
            theirs = {kept.compact for kept in await order_book.messages(tid) if kept.typ in CANCELLING}
            ours = {compact for typ, compact in evidence.of_payment(reader, MERCHANT, tid) if typ in CANCELLING}
            entries = reader.all(
                "SELECT e.amount FROM entries e JOIN payments p ON p.id = e.payment WHERE p.tid = ? AND e.kind = 'refund'", tid
            )
        finally:
            reader.close()
            await order_book.close()
        assert order is not None
        assert payment is not None
        assert sorted(row["amount"] for row in entries) == sorted(parts)
        assert (order.refunded_minor, payment.refunded) == (sum(parts), sum(parts))
        assert ours == theirs
        assert len(ours) == 2 * len(parts), "one request and one answer each, whatever was repeated"

    async def until(self, tid: str, state: str) -> None:
        async def there() -> None:
            payment = self.payment(tid)
            if payment is None or payment.state != state:
                raise Unavailable

        await insist(there)

    async def final(self, tid: str) -> str:
        """Wait, doing nothing, until both sides have the same last word."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                payment = self.payment(tid)
                order = await insist(lambda: self.pages.state(tid))
                if payment is not None and payment.is_final and order["final"]:
                    assert order["state"] == IN_THE_SHOP[payment.state]
                    assert order["may_deliver"] == (payment.state == "captured")
                    return payment.state
                await asyncio.sleep(PAUSE_S)

    async def proven(self) -> dict[str, Any]:
        report = await prove(World(self.folder / "gateway", load(self.folder / "gateway"), {}, {}))
        assert report["ledger"]["balanced"], report
        assert report["evidence"]["verified"], report
        assert report["evidence"]["log"]["whole"], report
        return report

    async def pay_by_program(self, location: str, fail_at: str = "") -> int:
        """`hanbit wallet pay` as a process; its exit code."""
        reading, writing = os.pipe()
        os.write(writing, PASSWORD.encode() + b"\n")
        os.close(writing)
        arguments = ["-m", "hanbit", "wallet", "pay", "--id", LOGIN, "--account", self.accounts["bank"], "--yes"]
        arguments += ["--wallet", str(self.folder / "wallet"), "--answers-fd", str(reading), location]
        with (self.folder / "wallet.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *arguments), stdout=log, stderr=log, pass_fds=(reading,), env={**os.environ, "HANBIT_FAIL_AT": fail_at}
            )
        os.close(reading)
        return await asyncio.wait_for(process.wait(), PATIENCE_S)


def prepare_with_tls(folder: Path, **changed: Any) -> tuple[Path, Ports]:
    """`make_folder` with a server that ends TLS itself; its certificate is `site.pem` in the folder."""
    ports = Ports.free()
    make_site_certificate(folder, "pay.localhost", "127.0.0.1")
    files = {name: str(folder / file) for name, file in (("tls_certificate", "site.pem"), ("tls_key", "site.key"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "site.pem"))
        asyncio.run(make_folder(folder, SystemClock(), ports, public_url=f"https://pay.localhost:{ports.pay}", **files, **changed))
    return folder, ports


def trusting(certificate: Path) -> ssl.SSLContext:
    """What a browser would need to know of a site whose certificate is its own authority."""
    return ssl.create_default_context(cafile=certificate)


def restart_s() -> float:
    """RESTART_S for processes that have the machine's cores to themselves; as much longer as others are running on them."""
    return RESTART_S * max(1.0, os.getloadavg()[0])


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until somebody answers; a server that is away comes back."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(Unavailable, aiohttp.ClientError, TimeoutError, FileNotFoundError):  # no token: not started yet
                return await ask()
            await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def site(
    folder: Path, ports: Ports, *, gateway_fails_at: str = "", shop_fails_at: str = "", tls: ssl.SSLContext | None = None, workers: int = 1
) -> AsyncIterator[Site]:
    """Both servers on this folder, which `make_folder` made for these ports; whatever still runs at the end is stopped."""
    public = f"http://shop.localhost:{ports.shops[0]}"
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), ssl=tls or True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as http, Http(tls=tls) as wallets:
        settings = load(folder / "gateway")
        gateway = Child(
            "gateway",
            ["-m", "hanbit", "serve", "--data", str(folder / "gateway"), "--workers", str(workers)],
            f"{settings.public_url}/readyz",
            folder / "gateway.log",
        )
        listen = ["--listen", f"127.0.0.1:{ports.shops[0]}", "--public-url", public]
        shop = Child("shop", ["-m", "hanbit.demo.shop", "--data", str(folder / "shop"), *listen], f"{public}/healthz", folder / "shop.log")
        enrolled = Store(folder / "wallet").enrolment(settings.operator)
        assert enrolled is not None
        accounts = json.loads((folder / "accounts.json").read_text("ascii"))
        try:
            await gateway.start(gateway_fails_at)
            await shop.start(shop_fails_at)
            if "line" not in gateway_fails_at + shop_fails_at:  # a kill at the hello comes before the line is up
                await gateway.ready(http)
                await shop.ready(http, _line_is_up)
            yield Site(folder, gateway, shop, DemoShop(public, folder / "shop", http), http, wallets, accounts, enrolled)
        finally:
            for child in (shop, gateway):
                if child.alive:
                    await child.stop()
