"""Everything at once: payments, withdrawals, refunds, suspensions, kill -9, while another connection adds up the book.

Over several workers on PostgreSQL; on SQLite, whose book is one process's, that one is killed and started again.

make test-long PYTEST_ARGUMENTS="-s -k everything_at_once"      fifty rounds on each engine, with their figures
"""

import asyncio
import contextlib
import os
import random
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Self

import aiohttp
import pytest

from hanbit import control
from hanbit.db import place as places
from hanbit.demo.world import Ports
from hanbit.folder import place_at
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError, Unavailable
from hanbit.wallet.client import GatewayRefused
from hanbit.wallet.pay import Outcome, Wallet
from tests.flows.crash_processes import PATIENCE_S, PAUSE_S, Site, site
from tests.flows.crash_world import MERCHANT, make_folder
from tests.flows.workers import rows, workers
from tests.waiting import until

WORKERS = 3
AT_ONCE = 4
KILL_EVERY = 4
SUSPEND_EVERY = 3
PART = 1_000
SUM = """
SELECT currency, sum(debits_posted) - sum(credits_posted), sum(debits_pending) - sum(credits_pending),
sum(CASE WHEN limited = 1 AND credits_posted + credit_limit < debits_posted + debits_pending THEN 1 ELSE 0 END),
(SELECT sum(CASE side WHEN 'D' THEN posted ELSE -posted END) FROM postings),
(SELECT count(*) FROM payments WHERE refunded > captured OR captured > amount)
FROM ledger_accounts GROUP BY currency
"""
"""One snapshot: what every column but the first must be is 0."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where the servers are started, and how many share the work."""

    engine: str
    folder: Path
    ports: Ports
    workers: int


class Bank:
    """Reads the sum of everything again and again over a connection of its own."""

    def __init__(self, data: Path) -> None:
        self._place = place_at(data)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.reads = 0
        self.wrong: list[tuple[object, ...]] = []
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _read(self) -> None:
        try:
            connection = places.open_for_reading(self._place, patient=True)
            while not self._stop.is_set():
                found = [tuple(row) for row in connection.execute(SUM)]
                self.wrong += [row for row in found if any(row[1:])]
                self.reads += 1
            connection.close()
        except Exception as error:  # noqa: BLE001 - told by the test
            self.error = error


async def one_round(s: Site, customers: list[Wallet], chance: random.Random, seen: Counter[str], number: int) -> None:
    """A few payments beside one another, one of them withdrawn by the shop meanwhile, an earlier one given back in part, a suspension."""
    *paying, withdrawing = customers
    work = [attempt(s, wallet, seen) for wallet in paying] + [withdrawn(s, withdrawing, seen)]
    if number % SUSPEND_EVERY == 0:
        work.append(suspended(s, chance, seen))
    if s.tids:
        work.append(given_back(s, chance.choice(s.tids), f"round-{number}", seen))
    tasks = [asyncio.create_task(one) for one in work]
    if number % KILL_EVERY == 0:
        await asyncio.sleep(chance.random())
        await killed(s, chance, seen)
    await asyncio.gather(*tasks)


async def killed(s: Site, chance: random.Random, seen: Counter[str]) -> None:
    """One worker, in whose place its parent starts another; or the only process there is, which is started again until it serves."""
    running = list(workers(s).values())
    with contextlib.suppress(ProcessLookupError):
        if running:
            os.kill(chance.choice(running), signal.SIGKILL)
        else:
            await s.gateway.kill()
        seen["killed"] += 1
    async with asyncio.timeout(PATIENCE_S):
        while not running:
            if not s.gateway.alive:  # a command may have held the folder when it began
                await s.gateway.start()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with s.http.get(s.gateway.url) as answer:
                    if answer.status == HTTPStatus.OK:
                        return
            await asyncio.sleep(PAUSE_S)


async def attempt(s: Site, wallet: Wallet, seen: Counter[str]) -> None:
    """A customer who may find his account or his shop suspended."""
    _, location = await s.order()
    try:
        note(await s.pay(wallet, location), seen)
    except GatewayRefused as refusal:
        seen[refusal.problem] += 1


def note(outcome: Outcome, seen: Counter[str]) -> None:
    seen[f"declined {outcome.reason}" if outcome.state == "open" else outcome.state] += 1


async def withdrawn(s: Site, wallet: Wallet, seen: Counter[str]) -> None:
    """The shop takes an order back while its customer pays."""
    tid, location = await s.order()
    paying = asyncio.create_task(s.pay(wallet, location))
    with contextlib.suppress(Unavailable):  # paid before
        await s.pages.withdraw(tid)
        seen["withdrawn"] += 1
    with contextlib.suppress(GatewayRefused):
        note(await paying, seen)


async def given_back(s: Site, tid: str, key: str, seen: Counter[str]) -> None:
    payment = s.payment(tid)
    if payment is not None and payment.state == "captured" and payment.refunded + PART <= payment.captured:
        done = await s.give_back(tid, PART, key)
        seen[f"cancellation {done['cancellation']['state']}"] += 1


async def suspended(s: Site, chance: random.Random, seen: Counter[str]) -> None:
    """The operator suspends account or merchant for a moment; by whichever worker takes the command, or again by another."""
    what, identity = chance.choice([("account", s.accounts["bank"]), ("merchant", MERCHANT)])
    for state in ("suspended", "active"):
        while True:
            with contextlib.suppress(Unavailable, HanbitError):
                await control.run(s.folder / "gateway", "set_state", what=what, id=identity, state=state, reason="round")
                seen[state] += 1
                break
            if rows(s, f"SELECT state FROM {what}s WHERE id = '{identity}'") == [(state,)]:  # noqa: S608 - the test's own names
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(chance.random() / 4)


async def play(place: Start, rounds: int, seed: int) -> None:
    chance, seen = random.Random(seed), Counter[str]()
    async with site(place.folder, place.ports, workers=place.workers) as s:
        customers = [s.wallet() for _ in range(AT_ONCE + 1)]
        for wallet in customers:  # one after another: tries of one password that are killed half way count as wrong ones
            await s.log_in(wallet, (await s.order())[1])
        with Bank(s.folder / "gateway") as bank:
            for number in range(1, rounds + 1):
                await one_round(s, customers, chance, seen, number)
            await until(lambda: place.workers == 1 or len(workers(s)) == place.workers)
            for tid in s.tids:
                payment = s.payment(tid)
                if payment is not None and payment.state == "authorized":
                    await s.final(tid)
        assert bank.error is None, bank.error
        assert bank.wrong == []
        assert bank.reads >= rounds
        assert seen["captured"] > 0
        doubled = rows(s, "SELECT payment FROM entries WHERE kind = 'capture' GROUP BY payment HAVING count(*) > 1")
        assert doubled == []
        refunds = "SELECT coalesce(sum(amount), 0) FROM entries WHERE kind = 'refund' AND payment = p.id"
        assert rows(s, f"SELECT tid FROM payments p WHERE refunded <> ({refunds})") == []  # noqa: S608 - the test's own text
        await s.proven()
        told = f"{dict(sorted(seen.items()))}, {bank.reads} sums read, 0 violations"
        print(f"\n{rounds} rounds on {place.engine}, {place.workers} serving: {told}")  # noqa: T201 - figures


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """A folder whose book is a file, or in a database of its own."""
    ports, several = Ports.free(), request.param == "postgresql"
    database: str = request.getfixturevalue("database") if several else ""
    asyncio.run(make_folder(tmp_path / "site", SystemClock(), ports, database=database))
    return Start(request.param, tmp_path / "site", ports, WORKERS if several else 1)


async def test_everything_at_once_for_a_few_rounds(place: Start) -> None:
    await play(place, 4, seed=1)


@pytest.mark.long
async def test_everything_at_once(place: Start) -> None:
    await play(place, int(os.environ.get("HANBIT_ROUNDS", "50")), seed=2)
