"""`hanbit bench ledger`: hold and capture pairs, then plain transfers, through `Book.commit` alone, and the audit that gives them a figure.

As many callers as asked for are in flight, each with one Change at a time; each hundredth payment is handed in twice and each hundredth is
tried at the cost of a customer without money: both must be turned away, and anything else that happens ends the run.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hanbit.bench import cluster, floors, ledger_audit
from hanbit.bench.figures import Latencies, rate
from hanbit.bench.ledger_deals import POOR, Deals, Pair
from hanbit.bench.processes import cpu_s
from hanbit.collector import calm_collector
from hanbit.db.change import Change, Stale
from hanbit.db.commit import Book
from hanbit.db.place import Place, check_empty, create, open_store
from hanbit.db.sqlite import BOOK_FILE
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Conflict, Declined, HanbitError, Unavailable

SHAPES: Final = ("pairs", "transfers")
MERCHANTS: Final = ("uniform", "zipf", "hot")
ONE_IN: Final = 100
"""Each so manyth deal is handed in twice, and each so manyth is tried without money."""
_TWICE, _WITHOUT_MONEY = 33, 66
"""Which ones of a hundred."""
OPENINGS_AT_ONCE: Final = 500
FIGURES: Final = ("pairs_per_s", "transfers_per_s", "p50_ms", "p99_ms", "transfer_p50_ms", "transfer_p99_ms")
"""What a run that failed does not have."""


@dataclass(frozen=True, slots=True)
class LedgerPlan:
    """What was asked for."""

    seconds: int
    in_flight: int
    store: str = "sqlite"
    with_evidence: bool = False
    shapes: tuple[str, ...] = SHAPES
    merchants: str = "uniform"
    database: str = ""
    """Of --store postgresql and of the yard-stick: an empty database; without one the run starts a cluster of its own."""
    yard_stick: bool = False


@dataclass(slots=True)
class Phase:
    """One shape's share of the run."""

    done: int = 0
    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    latencies: Latencies = field(default_factory=Latencies)


class Callers:
    """Keeps so many deals in flight on one book."""

    def __init__(self, book: Book, deals: Deals, clock: Clock, running: cluster.Cluster | None = None) -> None:
        self.turned_away: Counter[str] = Counter()
        self._book = book
        self._deals = deals
        self._clock = clock
        self._cluster = running
        self._number = 0

    async def drive(self, shape: str, plan: LedgerPlan) -> Phase:
        """This shape for the plan's seconds, until the last deal is durable."""
        phase = Phase()
        one: Callable[[int, Phase], Awaitable[None]] = self._pair if shape == "pairs" else self._transfer
        started, before = self._clock.monotonic(), self._spent()
        latest = started + plan.seconds

        async def call() -> None:
            while self._clock.monotonic() < latest:
                self._number += 1
                self._deals.at = self._clock.now()
                await one(self._number % ONE_IN, phase)

        await asyncio.gather(*(call() for _ in range(plan.in_flight)))
        phase.seconds = self._clock.monotonic() - started
        phase.cpu_s = {party: spent - before[party] for party, spent in self._spent().items()}
        return phase

    def _spent(self) -> dict[str, float]:
        """Processor seconds so far, by who spent them."""
        ours = {"book_and_callers": cpu_s(os.getpid())}
        return ours if self._cluster is None else ours | {"database": self._cluster.cpu_s()}

    async def _pair(self, place: int, phase: Phase) -> None:
        if place == _WITHOUT_MONEY:
            return await self._turned_away("short_of_funds", Declined, self._deals.pair(source=POOR).hold)
        pair: Pair = self._deals.pair()
        started = self._clock.monotonic()
        await self._book.commit(pair.hold)
        if place == _TWICE:
            await self._turned_away("duplicates", Stale, pair.hold)
            started += self._clock.monotonic() - started  # the second telling of a hold is no part of a pair
        await self._book.commit(pair.capture)
        phase.latencies.add(self._clock.monotonic() - started)
        phase.done += 1
        self._deals.was_captured(pair)
        return None

    async def _transfer(self, place: int, phase: Phase) -> None:
        if place == _WITHOUT_MONEY:
            return await self._turned_away("short_of_funds", Declined, self._deals.transfer(source=POOR))
        change = self._deals.transfer()
        started = self._clock.monotonic()
        await self._book.commit(change)
        phase.latencies.add(self._clock.monotonic() - started)
        phase.done += 1
        self._deals.was_transferred(change)
        if place == _TWICE:
            await self._turned_away("duplicates", Conflict, change)
        return None

    async def _turned_away(self, what: str, expected: type[HanbitError], change: Change) -> None:
        try:
            await self._book.commit(change)
        except expected:
            self.turned_away[what] += 1
        else:
            raise Unavailable(f"{what}: the book took what it must turn away")


async def run(directory: Path, plan: LedgerPlan, clock: Clock, say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """The figures and what is wrong with the run; where anything is, the figures are None."""
    floors.check_disk(directory)
    if plan.database:
        check_empty(plan.database)  # the yard-stick makes tables by hand, and may be the first to make any
    say("measuring floors")
    found = floors.measure(directory, clock) | floors.ledger(directory, clock, plan.in_flight)
    found["making_us"] = making_us(Deals(plan.merchants, plan.with_evidence, clock.now()), clock)
    with contextlib.ExitStack() as stack:
        url, running = plan.database, None
        if not url and (plan.store == "postgresql" or plan.yard_stick):
            say("starting PostgreSQL")
            running = stack.enter_context(cluster.started(directory, clock))
            url = running.url()
        stick = {}
        if plan.yard_stick:
            say(f"row locks on PostgreSQL: {plan.seconds} s, {plan.in_flight} in flight")
            stick = await _row_lock(url, plan, clock)
        book = url if plan.store == "postgresql" else directory / BOOK_FILE
        report, broken = await _measure(book, plan, clock, say, running)
    return report | stick | {"floors": found}, broken


async def _measure(
    place: Place, plan: LedgerPlan, clock: Clock, say: Callable[[str], None], running: cluster.Cluster | None
) -> tuple[dict[str, Any], list[str]]:
    create(place, "bench", clock.now())
    deals = Deals(plan.merchants, plan.with_evidence, clock.now())
    batches: Counter[int] = Counter()
    book = Book(lambda: open_store(place), clock, observe=lambda size, _: batches.update((size,)))
    phases: dict[str, Phase] = {}
    try:
        say("opening accounts")
        await open_accounts(book, deals)
        callers = Callers(book, deals, clock, running)
        batches.clear()
        calm_collector()
        for shape in plan.shapes:
            say(f"{shape}: {plan.seconds} s, {plan.in_flight} in flight")
            phases[shape] = await callers.drive(shape, plan)
    finally:
        await book.close()
    say("proving the book")
    broken = await ledger_audit.prove(place, deals)
    report = _report(plan, phases, batches, callers.turned_away) | {"audit": "failed" if broken else "passed"}
    if broken:
        report |= dict.fromkeys(FIGURES)
    return report, broken


async def _row_lock(url: str, plan: LedgerPlan, clock: Clock) -> dict[str, Any]:
    from hanbit.bench import row_lock  # noqa: PLC0415 - an extra

    done = await row_lock.measure(url, merchants=plan.merchants, seconds=plan.seconds, in_flight=plan.in_flight, clock=clock)
    figures = {"pairs_per_s": rate(done.pairs, done.seconds), **done.latencies.summary()}
    return {f"row_lock_{name}": figure for name, figure in figures.items()}


async def open_accounts(book: Book, deals: Deals) -> None:
    """Everybody's accounts and money."""
    accounts, *openings = deals.openings()
    await book.commit(accounts)
    for start in range(0, len(openings), OPENINGS_AT_ONCE):
        await asyncio.gather(*(book.commit(change) for change in openings[start : start + OPENINGS_AT_ONCE]))


def making_us(deals: Deals, clock: Clock, count: int = 500) -> float:
    """What the callers' own work on one pair costs: the two Changes are made in the process that is measured."""
    deals.pair()
    started = clock.monotonic()
    for _ in range(count):
        deals.pair()
    return round((clock.monotonic() - started) / count * 1e6, 1)


def _report(plan: LedgerPlan, phases: dict[str, Phase], batches: Counter[int], turned_away: Counter[str]) -> dict[str, Any]:
    pairs, transfers = phases.get("pairs", Phase()), phases.get("transfers", Phase())
    return {
        "pairs_per_s": rate(pairs.done, pairs.seconds),
        "transfers_per_s": rate(transfers.done, transfers.seconds),
        **pairs.latencies.summary(),
        **{f"transfer_{name}": value for name, value in transfers.latencies.summary().items()},
        "in_flight": plan.in_flight,
        "store": plan.store,
        "with_evidence": plan.with_evidence,
        "merchants": plan.merchants,
        "seconds": plan.seconds,
        "pairs": pairs.done,
        "transfers": transfers.done,
        "duplicates": turned_away["duplicates"],
        "short_of_funds": turned_away["short_of_funds"],
        "commit_batch": {"p50": _median(batches), "max": max(batches, default=None)},
        "cpu_us_per_pair": _each_us(pairs),
        "cpu_us_per_transfer": _each_us(transfers),
    }


def _each_us(phase: Phase) -> dict[str, float | None]:
    return {party: round(spent / phase.done * 1e6, 1) if phase.done else None for party, spent in phase.cpu_s.items()}


def _median(sizes: Counter[int]) -> int | None:
    ordered = sorted(sizes.elements())
    return ordered[len(ordered) // 2] if ordered else None
