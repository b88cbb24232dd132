"""Real gateway, real shop and real wallet in one process on real files, a clock that the test moves, and what outlives a crash.

The folder is made once and copied for each crash. What the customer and the wall clock remember (the sealed bytes that were sent, the
session's cookie, the time, the parcels that left) stands in a memo beside it, for a crash of the servers takes none of that back.
"""

import asyncio
import contextlib
import json
import os
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from hanbit import server
from hanbit.crypto import certificates
from hanbit.demo.world import Ports
from hanbit.folder import CONTROL_FILE, KEYS_FOLDER, create
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock, ManualClock, SystemClock
from hanbit.kernel.money import Money
from hanbit.merchant import enrolment as merchant_enrolment
from hanbit.merchant import files, records
from hanbit.merchant.handlers import No, Yes
from hanbit.merchant.order import Line, Order
from hanbit.merchant.shop import Shop
from hanbit.parties import merchants
from hanbit.payments import operations, recovery
from hanbit.payments import payment as payments
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.settings import FILE, Settings, dump
from hanbit.wallet import enrol as wallet_enrol
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Device, Opened, Wallet
from hanbit.wallet.store import Enrolment, Store
from tests import engine

MERCHANT: Final = "garam"
LOGIN, PASSWORD, ACCOUNT_PASSWORD = "hong", "correct horse battery", "2580"
NUMBERS: Final = {"bank": "11012345678890", "emoney": "5550001112"}
BALANCES: Final = {"bank": "100000000", "emoney": "1000"}
PRICE: Final = 220_000
ENROLLED_BEFORE_S: Final = 2 * 3600
PATIENCE_S: Final = 20.0
"""No test waits for it: it only turns a hang into a failure."""


class Memo:
    """Lines of JSON that were written before the crash; one `write` each, so that a killed process leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, what: str, value: object) -> None:
        full = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (full[1], full[1]))  # a disk that is full is the servers', not the customer's memory
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps([what, value]).encode() + b"\n")
        finally:
            os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_FSIZE, full)

    def all(self, what: str) -> list[Any]:
        lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        return [value for name, value in map(json.loads, lines) if name == what]

    def last(self, what: str) -> Any:
        return (self.all(what) or [None])[-1]


class WallClock(ManualClock):
    """The time of day, which no crash turns back."""

    def __init__(self, memo: Memo, start: int) -> None:
        super().__init__(memo.last("now") or start)
        self._memo = memo

    def advance(self, seconds: int) -> None:
        super().advance(seconds)
        self._memo.note("now", self.now())


class ShopClock:
    """The clock on the shop's wall, which may be wrong."""

    def __init__(self, right: WallClock) -> None:
        self._right = right
        self.ahead_s = 0

    def now(self) -> int:
        return self._right.now() + self.ahead_s

    def monotonic(self) -> float:
        return self._right.monotonic()


@dataclass
class Parties:
    """Everybody, awake."""

    data: Path
    running: server.Running
    shop: Shop
    wallet: Wallet
    enrolled: Enrolment
    accounts: dict[str, str]
    clock: WallClock
    shop_clock: ShopClock
    memo: Memo
    return_url: str
    changed: asyncio.Event
    """Set whenever the gateway's book or the shop's outcome moved."""
    on_confirm: Callable[[Order], Awaitable[Yes | No]] = field(init=False)

    def __post_init__(self) -> None:
        self.on_confirm = self._yes

    async def _yes(self, _order: Order) -> Yes | No:
        return Yes()

    @property
    def gateway(self) -> Gateway:
        return self.running.gateway

    async def order(self) -> str:
        """R1 to R3; the shop's answer reaches the customer, or the crash comes first and there is no order for him."""
        redirect = await self.shop.create_order(
            lines=[Line("IM-1100", 1, PRICE)], total=Money(PRICE, "KRW"), text="IM-1100", return_url=self.return_url
        )
        self.memo.note("order", [redirect.tid, redirect.location.partition("?")[2]])
        return redirect.tid

    async def open(self, query: str | None = None) -> Opened:
        """R4 and R5: the customer follows the redirect and logs in."""
        query = query or self.memo.last("order")[1]
        opened = await self.wallet.open(f"{self.wallet.client.origin}/pay?{query}")
        if self.wallet.client.has_session:
            await self.wallet.screen(opened)
        else:
            await self.wallet.login(opened, LOGIN, PASSWORD)
            self.memo.note("cookie", self.wallet.client._cookie)
        return opened

    async def submit(self, opened: Opened, kind: str = "bank") -> str:
        """R7 to R12: the customer keeps the sealed bytes before he sends them."""
        body = self.wallet.prepare(opened, Device(self.enrolled.device), account=self.accounts[kind])
        self.memo.note("submit", body)
        return (await self.wallet.send(body)).state

    def payment(self, tid: str) -> Payment | None:
        return payments.find(self.gateway.reader, MERCHANT, tid)

    def next_due(self, tid: str) -> int | None:
        """When the book itself says that something is to be done about this tid; None if nothing ever is."""
        row = self.gateway.reader.one(
            "SELECT min(due) AS due FROM (SELECT next_at AS due FROM payments WHERE merchant = ? AND tid = ? "
            "UNION ALL SELECT next_at FROM outbox WHERE merchant = ? AND tid = ?) dues",
            *(MERCHANT, tid) * 2,
        )
        assert row is not None
        return None if row["due"] is None else int(row["due"])

    async def at_rest(self, tid: str) -> bool:
        """Both sides have their last word and know that the other has it."""
        payment = self.payment(tid)
        order = await self.shop.order(tid)
        return payment is not None and payment.is_final and order.final and self.next_due(tid) is None and not await self.asks(tid)

    async def asks(self, tid: str) -> bool:
        """Whether the shop still waits for the answer to a cancellation."""
        return not all(cancellation.final for cancellation in await self.shop.cancellations(tid))

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something to become true, looking whenever a commit was made."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self.changed.clear()
                if await condition():
                    return
                with contextlib.suppress(TimeoutError):  # the shop's own commits ring no bell
                    async with asyncio.timeout(0.02):
                        await self.changed.wait()

    async def until_at_rest(self, tid: str) -> None:
        await self.until(lambda: self.at_rest(tid))

    async def until_line(self, *, up: bool = True) -> None:
        async def as_wanted() -> bool:
            return self.running.line.connected(MERCHANT) is up

        await self.until(as_wanted)


async def make_folder(folder: Path, clock: Clock, ports: Ports, **changed: Any) -> None:
    """An operator with one customer, his two accounts and his device, and one shop, all enrolled as in life; `changed`: settings.

    The book is where the run's books are, unless `database` says otherwise.
    """
    data = folder / "gateway"
    usual: dict[str, Any] = {"public_url": f"http://pay.localhost:{ports.pay}", "listen_port": ports.pay, "line_port": ports.line}
    usual["database"] = changed["database"] if "database" in changed else engine.database()
    settings = Settings(**usual | changed)
    await create(data, settings, clock, root_key=None, root_passphrase=None)
    async with server.running(data, clock) as running, Http(tls=ssl.create_default_context()) as http:
        scheme = "https" if settings.tls_certificate else "http"
        gateway, address = running.gateway, f"{scheme}://pay.localhost:{running.pay_port}"
        made = await operations.create_merchant(
            gateway, id=MERCHANT, name="가람전자", telephone="02-555-0123", return_url=f"http://shop.localhost:{ports.shops[0]}/"
        )
        root = certificates.load_chain_pem(data / KEYS_FOLDER / "root.pem")[0]
        await merchant_enrolment.enrol(folder / "shop", address, made["code"], pin=ids.digest(root), clock=clock)
        await operations.create_customer(gateway, login=LOGIN, name="홍길동", password=PASSWORD)
        accounts = {}
        for kind, number in NUMBERS.items():
            opened = await operations.create_account(gateway, login=LOGIN, kind=kind, number=number, password=ACCOUNT_PASSWORD)
            accounts[kind] = opened["account"]
            await operations.fund(gateway, account=opened["account"], amount=BALANCES[kind])
        store = Store(folder / "wallet")
        store.trust(root, clock.now())
        code = (await operations.enrol_code(gateway, login=LOGIN))["code"]
        await wallet_enrol.enrol(address, code, store=store, http=http, clock=clock)
        # The first connection, at which both sides sign the record of the shop's first key: afterwards the line is as on any day.
        async with Shop.open(folder / "shop", clock=clock), asyncio.timeout(PATIENCE_S):
            while records.read(folder / "shop", records.KEY_RECORD_CONFIRMATION) is None:  # noqa: ASYNC110 - a file rings no bell
                await asyncio.sleep(0.01)
    (folder / "accounts.json").write_text(json.dumps(accounts), "ascii")
    (folder / "began").write_text(str(clock.now()), "ascii")
    (data / CONTROL_FILE).unlink()


def make_folder_now(folder: Path, database: str | None = None) -> None:
    """`make_folder` from a test that runs no loop; whoever starts on a copy gets ports of his own. `database`: not where the run's are.

    It begins at the machine's time, for TLS knows no other; the certificates are older, so that a clock may go back.
    """
    now = SystemClock().now()
    place = engine.database() if database is None else database
    asyncio.run(make_folder(folder, ManualClock(now - ENROLLED_BEFORE_S), Ports.free(), database=place))
    (folder / "began").write_text(str(now), "ascii")
    (folder / "gateway" / FILE).write_text(dump(Settings(listen_port=0, line_port=0, database=place)), "utf-8")


@asynccontextmanager
async def parties(folder: Path, memo: Memo) -> AsyncIterator[Parties]:
    """Start gateway and shop on the files as they are, and seat a customer; the recovery loop looks 50 times a second."""
    usual, recovery.TICK_S = recovery.TICK_S, 0.02
    try:
        async with _parties(folder, memo) as everybody:
            yield everybody
    finally:
        recovery.TICK_S = usual


@asynccontextmanager
async def _parties(folder: Path, memo: Memo) -> AsyncIterator[Parties]:
    clock = WallClock(memo, int((folder / "began").read_text("ascii")))
    shop_clock = ShopClock(clock)
    changed = asyncio.Event()
    holder: list[Parties] = []

    async def on_confirm(order: Order) -> Yes | No:
        return await holder[0].on_confirm(order)

    async def on_outcome(order: Order) -> None:
        memo.note("delivered" if order.may_deliver else "released", order.tid)
        changed.set()

    async with server.running(folder / "gateway", clock) as running, Http() as http:
        told = running.gateway.book._observe

        def committed(changes: int, seconds: float) -> None:
            assert told is not None
            told(changes, seconds)
            changed.set()

        running.gateway.book._observe = committed
        registration = files.read_registration(folder / "shop")
        at_port = msgspec.structs.replace(registration, line=files.LineAddress("127.0.0.1", running.line_port))
        files.write_private(folder / "shop" / files.REGISTRATION, msgspec.json.encode(at_port))
        async with Shop.open(folder / "shop", on_confirm=on_confirm, on_outcome=on_outcome, clock=shop_clock) as shop:
            assert shop.line is not None
            store = Store(folder / "wallet")
            operator = running.gateway.settings.operator
            enrolled = store.enrolment(operator)
            assert enrolled is not None
            wallet = Wallet.at(f"http://pay.localhost:{running.pay_port}", pin=store.pin(operator), http=http, clock=clock, poll_s=0.02)
            accounts = json.loads((folder / "accounts.json").read_text("ascii"))
            merchant = merchants.by_id(running.gateway.reader, MERCHANT)
            assert merchant is not None
            return_url = merchant.return_url
            holder.append(
                Parties(folder / "gateway", running, shop, wallet, enrolled, accounts, clock, shop_clock, memo, return_url, changed)
            )
            async with asyncio.timeout(PATIENCE_S):
                await shop.line.connected.wait()
            yield holder[0]
