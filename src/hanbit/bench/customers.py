"""`python -m hanbit.bench.customers FOLDER ORIGIN SOCKET`: the customers, each an enrolled wallet, as many payments in flight as asked for.

Every message is made and every answer checked by the wallet (R4 to R12, or D1 to D8 where the shop has a relay); only the transport is the
bench's own. Receipts are verified in each whole checkout and each purchase, and for the payments after the clock has stopped.
"""

import asyncio
import gc
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import uvloop

from hanbit.bench.figures import Latencies
from hanbit.bench.logins import PEOPLE_MAX, Logins, Person
from hanbit.bench.processes import obey
from hanbit.bench.transport import LeanHttp
from hanbit.crypto import certificates
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError, Unavailable
from hanbit.protocols.redirect.customer import Pin
from hanbit.wallet import enrol
from hanbit.wallet.buy import buy, shown_lines
from hanbit.wallet.client import Http, Origin, decode
from hanbit.wallet.pay import Device, Factor, Opened, Outcome, Password, Wallet
from hanbit.wallet.relay import Relay, ShopCheckout
from hanbit.wallet.store import Store

ORDERS_AT_ONCE: Final = 128
LINE_MAX: Final = 1024 * 1024
ERRORS_SHOWN: Final = 5
OPEN_LOOP_MAX: Final = 4_096
"""Payments that may wait at once where each begins at its own moment."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One order as the customer has it before him, verified; `relay` and `lines` where it is bought through the shop."""

    url: str
    opened: Opened
    relay: Relay | None = None
    lines: str = ""


@dataclass(slots=True)
class Customer:
    """A logged-in customer with what he pays with."""

    wallet: Wallet
    factor: Factor
    account: str
    openings: deque[Offer] = field(default_factory=deque)
    """What has come to R6 and is to be paid, the oldest first."""

    async def pay(self, offer: Offer) -> Outcome:
        """R7 to R12, with the receipt as it came; or D2 to D8, with the receipt verified."""
        if offer.relay is not None:
            return await buy(self.wallet, offer.opened, offer.relay, offer.lines, self.factor, account=self.account)
        return await self.wallet.send(self.wallet.prepare(offer.opened, self.factor, account=self.account))

    async def finish(self, offer: Offer, outcome: Outcome) -> Outcome:
        """Wait where the shop has not answered; verify the receipt of what is paid, or raise."""
        finished = await self.wallet.finish(offer.opened, outcome)
        if finished.receipt is None:
            raise Unavailable(f"a payment ended {finished.state} ({finished.reason})")
        return finished


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment that was made."""

    customer: Customer
    offer: Offer


@dataclass(slots=True)
class Orders:
    """What the shop says of its orders, a line each, asked for in bulk while there are few left."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    lines: list[bytes] = field(default_factory=list)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def next(self) -> bytes:
        """R3, D1: one order."""
        while not self.lines:
            async with self.turn:
                if not self.lines:
                    self.writer.write(b"%d\n" % ORDERS_AT_ONCE)
                    self.lines = [(await self.reader.readline()).strip() for _ in range(ORDERS_AT_ONCE)]
        return self.lines.pop()


class Load:
    """What the bench tells the customers to do."""

    def __init__(self, folder: Path, origin: str, orders: Orders, http: Http) -> None:
        self._folder = folder
        self._origin = origin
        self._orders = orders
        self._http = http
        self._shop: Origin | None = None
        self._clock = SystemClock()
        self._customers: list[Customer] = []
        self._known: list[tuple[Customer, Pin, str, str]] = []
        self._logins = Logins(self._clock)
        self._paid: list[tuple[Paid, Outcome]] = []
        self._errors: list[str] = []

    async def enrol(self, request: dict[str, Any]) -> dict[str, Any]:
        """Enrol each customer's device, log him in and pay once, so that everything is warm."""
        (root,) = certificates.load_chain_pem(Path(request["root"]))
        if request["relay"]:
            self._shop = Origin("http", "shop.localhost", request["relay"])
        waiting = list(request["customers"])

        async def work() -> None:
            while waiting:
                self._customers.append(await self._enrol(root, waiting.pop(), request["factor"]))

        await asyncio.gather(*(work() for _ in range(8)))
        return {"customers": len(self._customers)}

    async def _enrol(self, root: bytes, who: dict[str, str], factor: str) -> Customer:
        store = Store(self._folder / who["login"])
        pin = store.trust(root, self._clock.now())
        enrolled = await enrol.enrol(self._origin, who["code"], store=store, http=self._http, clock=self._clock)
        wallet = Wallet.at(self._origin, pin=pin, http=self._http, clock=self._clock, poll_s=0.1)
        chosen = Device(enrolled.device) if factor == "device" else Password(who["account_password"])
        customer = Customer(wallet, chosen, who["account"])
        offer = await self._find(wallet)
        self._known.append((customer, pin, who["login"], who["password"]))
        await wallet.login(offer.opened, who["login"], who["password"])
        await customer.finish(offer, await customer.pay(offer))
        return customer

    async def _find(self, wallet: Wallet) -> Offer:
        """R3, R4: the order's page, verified; where the shop has a relay its lines too (D1)."""
        said = await self._orders.next()
        if self._shop is None:
            url = said.decode("ascii")
            return Offer(url, await wallet.open(url))
        checkout = decode(said, ShopCheckout)
        opened = await wallet.open(checkout.redirect)
        relay = Relay(self._http, self._shop, f"/{opened.opening.redirect.tid}")
        return Offer(checkout.redirect, opened, relay, shown_lines(opened, checkout))

    async def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """R3 to R6 of as many payments as fit into the time, at most `most`."""

        async def one(customer: Customer) -> None:
            offer = await self._find(customer.wallet)
            await customer.wallet.screen(offer.opened)
            customer.openings.append(offer)

        seconds = await self._drive(request, one, lambda _: self._left() < request["most"])
        return {"openings": self._left(), "seconds": seconds}

    async def pay(self, request: dict[str, Any]) -> dict[str, Any]:
        """R7 (key and pay) to R12, or D2 to D8, of what was prepared; each customer pays his own, one after the other, as people do."""
        latencies = Latencies()
        gc.collect()
        gc.freeze()  # thousands of openings wait here; looking through them again and again is no customer's cost

        async def one(customer: Customer, due: float | None = None) -> None:
            offer = customer.openings.popleft()  # the oldest first: it would be the first to expire
            started = self._clock.monotonic() if due is None else due
            outcome = await customer.pay(offer)
            latencies.add(self._clock.monotonic() - started)
            self._paid.append((Paid(customer, offer), outcome))

        begun: dict[str, float] = {}
        if request["open_loop"]:
            seconds, begun["begun_s"] = await self._begin_at(request["open_loop"], request["seconds"], one)
        else:
            seconds = await self._drive(request, one, lambda customer: bool(customer.openings))
        made = len(latencies.seconds)
        return {"payments": made, "seconds": seconds, "latencies": latencies.summary(), "left": self._left(), **begun}

    async def checkout(self, request: dict[str, Any]) -> dict[str, Any]:
        """R3 to R12, or D1 to D8, of logged-in customers, the receipt verified."""
        made = 0

        async def one(customer: Customer) -> None:
            nonlocal made
            offer = await self._find(customer.wallet)
            await customer.wallet.screen(offer.opened)
            await customer.finish(offer, await customer.pay(offer))
            made += 1

        seconds = await self._drive(request, one, lambda _: True)
        return {"checkouts": made, "seconds": seconds}

    async def begin_logins(self, request: dict[str, Any]) -> dict[str, Any]:
        """From now on people log in beside those who pay, in browsers of their own."""

        async def before_a_page(known: tuple[Customer, Pin, str, str]) -> Person:
            payer, pin, login, password = known
            wallet = Wallet.at(self._origin, pin=pin, http=self._http, clock=self._clock, poll_s=0.1)
            customer, offer = Customer(wallet, payer.factor, payer.account), await self._find(wallet)

            async def load() -> Opened:
                return await wallet.open(offer.url)

            async def pay(opened: Opened) -> None:
                latest = replace(offer, opened=opened)
                await customer.finish(latest, await customer.pay(latest))

            return Person(wallet, offer.opened, login, password, load, pay)

        people = await asyncio.gather(*(before_a_page(known) for known in self._known[:PEOPLE_MAX]))
        self._logins.begin(list(people), request["rate"])
        return {}

    async def end_logins(self, _: dict[str, Any]) -> dict[str, Any]:
        """Nobody new logs in; what it took."""
        return await self._logins.end()

    def _left(self) -> int:
        return sum(len(customer.openings) for customer in self._customers)

    async def verify(self, _: dict[str, Any]) -> dict[str, Any]:
        """Every payment's receipt, as the customer verifies it; whatever waited for the shop is asked for again."""
        for prepared, outcome in self._paid:
            try:
                await prepared.customer.finish(prepared.offer, outcome)
            except HanbitError as error:
                self._errors.append(f"{type(error).__name__}: {error}")
        return {"errors": len(self._errors), "shown": self._errors[:ERRORS_SHOWN]}

    async def _begin_at(self, rate: int, seconds: float, one: Callable[[Customer, float], Awaitable[None]]) -> tuple[float, float]:
        """Begin so many a second at their own moments; each is timed from its moment, so that whoever begins it late hides nothing.

        The seconds until the last has ended, and for how long they were begun: less than asked for where no more was prepared.
        """
        started, begun, tasks = self._clock.monotonic(), 0, set[asyncio.Task[None]]()

        async def watched(customer: Customer, due: float) -> None:
            try:
                await one(customer, due)
            except HanbitError as error:
                self._errors.append(f"{type(error).__name__}: {error}")

        for number, customer in enumerate(_in_turn(self._customers)):
            due = started + number / rate
            if due >= started + seconds:
                break
            await asyncio.sleep(max(due - self._clock.monotonic(), 0))
            if len(tasks) >= OPEN_LOOP_MAX:
                self._errors.append(f"more than {OPEN_LOOP_MAX} payments wait: the rate is beyond what is served")
                break
            task = asyncio.create_task(watched(customer, due))
            begun = number + 1
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        return self._clock.monotonic() - started, begun / rate

    async def _drive(self, request: dict[str, Any], one: Callable[[Customer], Awaitable[None]], more: Callable[[Customer], bool]) -> float:
        """Keep `concurrency` of them in flight until the time is over or there is no more; the seconds until the last has ended."""
        started = self._clock.monotonic()
        latest = started + request["seconds"]

        async def work(customer: Customer) -> None:
            while more(customer) and self._clock.monotonic() < latest:
                try:
                    await one(customer)
                except HanbitError as error:
                    self._errors.append(f"{type(error).__name__}: {error}")

        count = len(self._customers)
        await asyncio.gather(*(work(self._customers[place % count]) for place in range(request["concurrency"])))
        return self._clock.monotonic() - started


def _in_turn(customers: list[Customer]) -> Iterator[Customer]:
    """One after the other, as long as they have something to pay."""
    due = [len(customer.openings) for customer in customers]
    for round_ in range(max(due, default=0)):
        yield from (customer for customer, count in zip(customers, due, strict=True) if round_ < count)


async def serve(folder: Path, origin: str, socket: Path) -> None:
    """Do what the bench says until standard input ends."""
    orders = Orders(*await asyncio.open_unix_connection(str(socket), limit=LINE_MAX))
    async with LeanHttp() as http:
        load = Load(folder, origin, orders, http)
        commands = (load.enrol, load.open, load.pay, load.checkout, load.verify, load.begin_logins, load.end_logins)
        await obey({command.__name__: command for command in commands})
    orders.writer.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
