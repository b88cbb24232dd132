"""The three parties of a payment's run as processes of their own: made, started, their customers enrolled and warm."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hanbit import control, folder
from hanbit.bench import audit, cluster, figures, processes
from hanbit.bench.preload import preload
from hanbit.bench.processes import Party
from hanbit.bench.shop import RETURN_URL
from hanbit.bench.transport import LeanHttp
from hanbit.crypto import certificates
from hanbit.db.reading import Reader
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Unavailable
from hanbit.merchant import enrolment
from hanbit.settings import Settings
from hanbit.wallet.client import Answer, Origin

CUSTOMERS_MAX: Final = 64
FUNDS: Final = "900000000000"
START_TIMEOUT_S: Final = 120.0
"""Who ends while it starts is heard of at once; this is for a machine that has other things to do."""
DRAIN_TIMEOUT_S: Final = 10.0
LOOK_EVERY_S: Final = 0.01
OPERATOR_AT_ONCE: Final = 4
MERCHANT: Final = "bench-shop"
PRELOADED_PER_S: Final = 500
SHOPS: Final = "shops"
"""The folder in which each merchant has its own."""
UNASKED_A_MINUTE: Final = 60_000
"""One shop of the bench gives back as much as a hundred in life: each cancellation is a frame that nobody asked for."""


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
    store: str = "sqlite"
    workers: int = 1
    """Processes of the gateway; more than one share a PostgreSQL book."""
    database: str = ""
    """With PostgreSQL: an empty database; without one the run starts a cluster of its own."""
    logins: int = 0
    """So many people a second log in beside the second half of the payments, their passwords checked by one worker."""

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
    database: cluster.Cluster | None
    """Where the run has one of its own."""

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds of each party so far: the gateway with all its workers, the database where it is the run's own."""
        found = {"gateway": self.gateway.cpu_s(), "merchant": self.merchant.cpu_s(), "customer": self.customer.cpu_s()}
        return found if self.database is None else found | {"database": self.database.cpu_s()}

    def rss_mb(self) -> dict[str, float]:
        """MiB of memory that each party holds now."""
        return {"gateway": self.gateway.rss_mb(), "merchant": self.merchant.rss_mb(), "customer": self.customer.rss_mb()}

    async def metrics(self) -> str:
        """The gateway's page of metrics."""
        return (await _get(self.http, self.settings.metrics_port, "/metrics")).content.decode("utf-8")


@contextlib.contextmanager
def database_of(directory: Path, plan: Plan, clock: Clock, say: Callable[[str], None]) -> Iterator[cluster.Cluster | None]:
    """The cluster of a run that needs one of its own; it outlives the parties, whose books are compared once they have ended."""
    if plan.store == "sqlite" or plan.database:
        yield None
        return
    say("starting PostgreSQL")
    with cluster.started(directory, clock) as database:
        yield database


async def opened(
    stack: contextlib.AsyncExitStack,
    directory: Path,
    plan: Plan,
    clock: Clock,
    say: Callable[[str], None],
    database: cluster.Cluster | None,
) -> World:
    """Everything that a run needs, from an empty folder; it ends with the stack."""
    data, address = directory / "gateway", plan.database if database is None else database.url()
    pay_port, line_port, metrics_port = _free_ports(3)
    settings = Settings(
        operator="bench",
        public_url=f"http://pay.localhost:{pay_port}",
        listen_port=pay_port,
        line_port=line_port,
        metrics_port=metrics_port,
        password_workers=1 if plan.logins else 2,
        password_waiting_max=max(CUSTOMERS_MAX, plan.concurrency),
        connections_per_address=2_000,  # all customers of the bench come from this machine
        inquiries_per_minute=UNASKED_A_MINUTE,
        database=address,
    )
    say("making keys, certificates and an empty book")
    await folder.create(data, settings, clock, root_key=None, root_passphrase=None)
    if plan.preload:
        await preload(folder.place_at(data), plan.preload, clock, say)
    logs = directory / "logs"
    logs.mkdir()
    say("starting the payment server and the shop")
    serve = ("hanbit", "serve", "--data", str(data), "--workers", str(plan.workers))
    gateway = await stack.enter_async_context(processes.started(logs / "gateway.log", *serve))
    http = await stack.enter_async_context(LeanHttp())
    await until_ready(http, settings, plan.workers, gateway, clock)
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
    return World(data, settings, gateway, merchant, customer, http, database)


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


async def until_ready(http: LeanHttp, settings: Settings, workers: int, gateway: Party, clock: Clock) -> None:
    """Until it takes payments, and each of several workers shows its figures."""
    latest = clock.monotonic() + START_TIMEOUT_S
    while gateway.process.returncode is None and clock.monotonic() < latest:
        with contextlib.suppress(OSError, Unavailable):  # several workers' ports take connections before anybody answers
            if (await _get(http, settings.listen_port, "/readyz")).status == 200:  # noqa: PLR2004 - HTTP's OK
                page = (await _get(http, settings.metrics_port, "/metrics")).content.decode("utf-8")
                if workers == 1 or figures.processes(page) == workers:
                    return
        await asyncio.sleep(LOOK_EVERY_S)
    raise Unavailable(f"the payment server did not come up:\n{gateway.log.read_text('utf-8', 'replace')[-processes.LOG_SHOWN :]}")


async def _get(http: LeanHttp, port: int, path: str) -> Answer:
    return await http.exchange(Origin("http", "localhost", port), "GET", path, {}, None)


async def drained(world: World, clock: Clock) -> float:
    """Wait until the shop has acknowledged every outcome; the seconds that it took."""
    started = clock.monotonic()
    reader = Reader(folder.place_at(world.data))
    try:
        while audit.unacknowledged(reader) and clock.monotonic() < started + DRAIN_TIMEOUT_S:  # noqa: ASYNC110 - another process's book
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        reader.close()
    return clock.monotonic() - started


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
