"""One run from an empty folder to its figures: set up, openings, payments, checkouts, audit.

set up     operator's folder, gateway, shop and customers as processes; each customer logs in and pays once
openings   R3 to R6 of each payment, counted by themselves; of the dual-signature checkout D1 and the same page and screen
payments   R7 (key and pay) to R12, or D2 to D8, until the shop has acknowledged the last outcome: what the clock measures
refunds    C1 to C3 of each n-th payment, half and then the rest, while the others are paid (only where asked for)
checkouts  R3 to R12, or D1 to D8, for a short while, with the receipts verified
audit      ledger and evidence from the store, both sides' counts, every receipt
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hanbit import control, folder
from hanbit.bench import audit, figures, floors, processes
from hanbit.bench.preload import preload
from hanbit.bench.processes import Party
from hanbit.bench.shop import RETURN_URL
from hanbit.bench.transport import LeanHttp
from hanbit.crypto import certificates
from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Unavailable
from hanbit.merchant import enrolment
from hanbit.merchant.files import ORDER_BOOK
from hanbit.settings import Settings
from hanbit.wallet.client import Answer, Origin

CUSTOMERS_MAX: Final = 64
FUNDS: Final = "900000000000"
OPENINGS_SHARE: Final = 0.8
"""Of --seconds: an opening costs about what a payment costs, so nearly all that is prepared is used."""
CHECKOUTS_SHARE: Final = 0.15
OPENINGS_LEFT, PAYMENTS_LEFT, CHECKOUTS_LEFT = 0.3, 0.45, 0.15
"""Of the time that is left when each phase begins: on a machine that is busy otherwise the phases grow shorter, the audit does not."""
RATE_MAX: Final = {"device": 2_000, "password": 160}
"""More payments a second than two cores can make, to prepare no more than can be used."""
START_TIMEOUT_S: Final = 30.0
DRAIN_TIMEOUT_S: Final = 10.0
LOOK_EVERY_S: Final = 0.01
OPERATOR_AT_ONCE: Final = 4
MERCHANT: Final = "bench-shop"
STEPS: Final = {"redirect": ("R3 to R6", "R7 to R12", "R3 to R12"), "dual-signature": ("D1", "D2 to D8", "D1 to D8")}
"""By protocol: what openings, payments and checkouts are."""
PRELOADED_PER_S: Final = 500
SHOPS: Final = "shops"
"""The folder in which each merchant has its own."""
UNASKED_A_MINUTE: Final = 60_000
"""One shop of the bench gives back as much as a hundred in life: each cancellation is a frame that nobody asked for."""
FIGURES: Final = frozenset(
    {"payments_per_s", "openings_per_s", "checkouts_per_s", "p50_ms", "p99_ms", "refunds_per_s", "refund_p50_ms", "refund_p99_ms"}
)
"""What a run that failed does not have."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    seconds: int
    concurrency: int
    factor: str
    refund_every: int = 0
    """Each n-th payment is given back, half and then the rest; 0 is none."""
    protocol: str = "redirect"
    open_loop: int = 0
    """So many payments are begun each second, whatever became of those before; 0: the next one begins when one has ended."""
    merchants: int = 1
    """Shops that are paid in turn; one is the hottest that there can be."""
    preload: int = 0
    """Payments with their evidence rows that stand in the book before the gateway starts."""

    @property
    def by_relay(self) -> bool:
        """Whether the customers buy through the shop."""
        return self.protocol == "dual-signature"

    @property
    def shops(self) -> tuple[str, ...]:
        """The merchants' ids, each also the name of its folder."""
        return tuple(f"{MERCHANT}-{number}" for number in range(self.merchants))

    @property
    def whole_s(self) -> int:
        """How long everything may take, set-up and audit included."""
        return 3 * self.seconds + 15 + self.preload // PRELOADED_PER_S


@dataclass(frozen=True, slots=True)
class World:
    """Everything that runs."""

    data: Path
    settings: Settings
    gateway: Party
    merchant: Party
    customer: Party
    http: LeanHttp

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds of each party so far."""
        return {"gateway": self.gateway.cpu_s(), "merchant": self.merchant.cpu_s(), "customer": self.customer.cpu_s()}

    async def metrics(self) -> str:
        """The gateway's page of metrics."""
        return (await _get(self.http, self.settings.metrics_port, "/metrics")).content.decode("utf-8")


async def run(directory: Path, plan: Plan, clock: Clock, say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """The figures and what is wrong with the run; where anything is, the figures are None."""
    floors.check_disk(directory)
    latest = clock.monotonic() + plan.whole_s
    say("measuring floors")
    found = floors.measure(directory, clock)
    async with contextlib.AsyncExitStack() as stack:
        world = await _world(stack, directory, plan, clock, say)
        result = await _measure(world, plan, clock, latest, say)
        say("verifying receipts, proving book and evidence")
        receipts, broken = await asyncio.gather(world.customer.ask("verify"), audit.prove(world.data))
        unfinished = audit.unfinished(world.data)
        captured = _captured(world.data) - plan.preload
    order_books = [directory / SHOPS / shop / ORDER_BOOK for shop in plan.shops]
    settled = sum(audit.settled_orders(order_book) for order_book in order_books)
    if settled != captured:
        broken.append(f"the gateway captured {captured}, the shop may deliver {settled}")
    if plan.by_relay:
        broken += audit.purchases_agree(directory / "gateway", order_books[0], captured)
    if plan.refund_every:
        broken += audit.refunds_agree(directory / "gateway", *order_books)
    broken += receipts["shown"] + [f"not finished: {count} {what}" for what, count in unfinished.items() if count]
    errors = receipts["errors"] + sum(unfinished.values())
    asked = {"protocol": plan.protocol, "factor": plan.factor, "concurrency": plan.concurrency, "seconds": plan.seconds}
    asked |= {"merchants": plan.merchants, "preload": plan.preload}
    if plan.open_loop:
        asked["open_loop_per_s"] = plan.open_loop
    report = {**result, **asked, "errors": errors, "floors": found}
    if broken or errors:
        report |= dict.fromkeys(FIGURES & report.keys())
    return report, broken


async def _measure(world: World, plan: Plan, clock: Clock, latest: float, say: Callable[[str], None]) -> dict[str, Any]:
    load = {"concurrency": plan.concurrency}

    def time_for(wanted_s: float, part: float) -> float:
        return max(min(wanted_s, part * (latest - clock.monotonic())), 0.5)

    openings, payments, checkouts = STEPS[plan.protocol]
    say(f"opening payments ({openings})")
    # One at a time still opens with several in flight: what is prepared is not what is measured.
    opening = {"concurrency": max(plan.concurrency, 16), "most": plan.seconds * (plan.open_loop or RATE_MAX[plan.factor])}
    opened = await world.customer.ask("open", seconds=time_for(plan.seconds * OPENINGS_SHARE, OPENINGS_LEFT), **opening)
    also = f", each {plan.refund_every}th given back (C1 to C3)" if plan.refund_every else ""
    say(f"paying {opened['openings']} payments ({payments}){also}")
    if plan.refund_every:
        await world.merchant.ask("begin", every=plan.refund_every)
    before, cpu_before = await world.metrics(), world.cpu_s()
    paid = await world.customer.ask("pay", seconds=time_for(plan.seconds, PAYMENTS_LEFT), open_loop=plan.open_loop, **load)
    drained_s = await _drained(world, clock)
    refunds, refunded_s = await _refunds(world, plan, clock)
    whole_s = paid["seconds"] + drained_s + refunded_s
    cpu_after, after = world.cpu_s(), await world.metrics()
    say(f"whole checkouts ({checkouts})")
    checked = await world.customer.ask("checkout", seconds=time_for(max(plan.seconds * CHECKOUTS_SHARE, 1.0), CHECKOUTS_LEFT), **load)
    await _drained(world, clock)
    return {
        "payments_per_s": figures.rate(paid["payments"], whole_s),
        "openings_per_s": figures.rate(opened["openings"], opened["seconds"]),
        "checkouts_per_s": figures.rate(checked["checkouts"], checked["seconds"]),
        **paid["latencies"],
        "cpu_ms_per_payment": figures.cpu_ms(cpu_before, cpu_after, paid["payments"]),
        "commit_batch": figures.commit_batch(before, after),
        "payments": paid["payments"],
        **({} if refunds is None else _refund_figures(refunds, whole_s)),
    }


async def _refunds(world: World, plan: Plan, clock: Clock) -> tuple[dict[str, Any] | None, float]:
    """What the shop says of them once the last is answered; the seconds that this took after the last payment."""
    if not plan.refund_every:
        return None, 0.0
    started = clock.monotonic()
    refunds = await world.merchant.ask("end")
    if refunds["errors"]:
        raise Unavailable(f"refunds did not come out as they must: {refunds['errors']}")
    return refunds, clock.monotonic() - started


def _refund_figures(refunds: dict[str, Any], whole_s: float) -> dict[str, Any]:
    latencies = {f"refund_{name}": value for name, value in refunds["latencies"].items()}
    return {"refunds_per_s": figures.rate(refunds["refunds"], whole_s), **latencies, "refunds": refunds["refunds"]}


async def _drained(world: World, clock: Clock) -> float:
    """Wait until the shop has acknowledged every outcome; the seconds that it took."""
    started = clock.monotonic()
    reader = Reader(world.data / BOOK_FILE)
    try:
        while audit.unacknowledged(reader) and clock.monotonic() < started + DRAIN_TIMEOUT_S:  # noqa: ASYNC110 - another process's book
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        reader.close()
    return clock.monotonic() - started


async def _world(stack: contextlib.AsyncExitStack, directory: Path, plan: Plan, clock: Clock, say: Callable[[str], None]) -> World:
    data = directory / "gateway"
    pay_port, line_port, metrics_port = _free_ports(3)
    settings = Settings(
        operator="bench",
        public_url=f"http://pay.localhost:{pay_port}",
        listen_port=pay_port,
        line_port=line_port,
        metrics_port=metrics_port,
        password_waiting_max=max(CUSTOMERS_MAX, plan.concurrency),
        connections_per_address=2_000,  # all customers of the bench come from this machine
        inquiries_per_minute=UNASKED_A_MINUTE,
    )
    say("making keys, certificates and an empty book")
    await folder.create(data, settings, clock, root_key=None, root_passphrase=None)
    if plan.preload:
        await preload(data / BOOK_FILE, plan.preload, clock, say)
    logs = directory / "logs"
    logs.mkdir()
    say("starting the payment server and the shop")
    gateway = await stack.enter_async_context(processes.started(logs / "gateway.log", "hanbit", "serve", "--data", str(data)))
    http = await stack.enter_async_context(LeanHttp())
    await _until_ready(http, pay_port, gateway, clock)
    root = data / folder.KEYS_FOLDER / "root.pem"
    pin = ids.digest(certificates.load_chain_pem(root)[0])
    for shop in plan.shops:
        registered = await control.run(
            data, "create_merchant", id=shop, name="Bench", telephone="02-555-0100", orders="signed", return_url=RETURN_URL
        )
        await enrolment.enrol(directory / SHOPS / shop, settings.public_url, registered["code"], pin=pin, clock=clock)
    orders, folders = directory / "orders.socket", ",".join(str(directory / SHOPS / shop) for shop in plan.shops)
    also = [*(["relay"] * plan.by_relay), *(["refunds"] * bool(plan.refund_every))]
    merchant = await stack.enter_async_context(processes.started(logs / "merchant.log", "hanbit.bench.shop", folders, str(orders), *also))
    ready = await merchant.ask("ready")
    arguments = ("hanbit.bench.customers", str(directory / "wallets"), settings.public_url, str(orders))
    customer = await stack.enter_async_context(processes.started(logs / "customer.log", *arguments))
    count = min(plan.concurrency, CUSTOMERS_MAX)
    say(f"opening {count} customers with accounts; each enrols, logs in and pays once")
    opened = await _customers(data, count)
    await customer.ask("enrol", customers=opened, root=str(root), factor=plan.factor, relay=ready["relay"] if plan.by_relay else 0)
    return World(data, settings, gateway, merchant, customer, http)


async def _customers(data: Path, count: int) -> list[dict[str, str]]:
    turns = asyncio.Semaphore(OPERATOR_AT_ONCE)

    async def one(number: int) -> dict[str, str]:
        login, password, account_password = f"bench-{number}", f"login-of-{number}", f"account-{number}"
        async with turns:
            await control.run(data, "create_customer", login=login, name=f"Bench {number}", password=password)
            account = await control.run(
                data, "create_account", login=login, kind="bank", number=f"{number:012d}", password=account_password
            )
            await control.run(data, "fund", account=account["account"], amount=FUNDS)
            code = await control.run(data, "enrol_code", login=login)
        return {
            "login": login,
            "password": password,
            "account": account["account"],
            "account_password": account_password,
            "code": code["code"],
        }

    return await asyncio.gather(*(one(number) for number in range(count)))


async def _until_ready(http: LeanHttp, port: int, gateway: Party, clock: Clock) -> None:
    latest = clock.monotonic() + START_TIMEOUT_S
    while gateway.process.returncode is None and clock.monotonic() < latest:
        with contextlib.suppress(OSError):
            if (await _get(http, port, "/readyz")).status == 200:  # noqa: PLR2004 - HTTP's OK
                return
        await asyncio.sleep(LOOK_EVERY_S)
    raise Unavailable(f"the payment server did not come up:\n{gateway.log.read_text('utf-8', 'replace')[-processes.LOG_SHOWN :]}")


async def _get(http: LeanHttp, port: int, path: str) -> Answer:
    return await http.exchange(Origin("http", "localhost", port), "GET", path, {}, None)


def _captured(data: Path) -> int:
    reader = Reader(data / BOOK_FILE)
    try:
        return int(reader.all("SELECT count(*) FROM payments WHERE state = 'captured'")[0][0])
    finally:
        reader.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
