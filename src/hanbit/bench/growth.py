"""`hanbit bench growth`: what a full book costs an empty one's speed, in turns with an empty book of the same minute.

A book is filled step by step; at each size it and a fresh one take the same pairs in turns, so that whatever else the machine does
falls on both. What is compared is the processor time of a pair and the rate, each as the median of its turns.
"""

import contextlib
import os
import statistics
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hanbit.bench import cluster, floors, ledger_audit
from hanbit.bench.figures import rate
from hanbit.bench.ledger import Callers, LedgerPlan, open_accounts
from hanbit.bench.ledger_deals import Deals
from hanbit.bench.preload import pay
from hanbit.bench.processes import rss_mb
from hanbit.collector import calm_collector
from hanbit.db.commit import Book
from hanbit.db.place import Place, create, open_store
from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE
from hanbit.kernel.clock import Clock

SHARES: Final = (0.05, 0.25, 0.5, 1.0)
"""Of the payments asked for: the sizes at which speed is measured."""


@dataclass(frozen=True, slots=True)
class GrowthPlan:
    """What was asked for."""

    payments: int
    seconds: int
    """Of each turn."""
    rounds: int
    in_flight: int
    store: str = "sqlite"
    with_evidence: bool = True
    fill_within_s: int = 0
    """Filling stops after so long, and what is there by then is measured; 0 is never."""

    @property
    def sizes(self) -> list[int]:
        """Payments in the book at each measurement."""
        return sorted({max(int(self.payments * share), 1) for share in SHARES})


@dataclass(slots=True)
class Kept:
    """A book that is open, and whoever hands things in."""

    place: Place
    deals: Deals
    book: Book
    callers: Callers
    turns: list[dict[str, float]] = field(default_factory=list)

    async def turn(self, plan: GrowthPlan) -> None:
        """One turn of pairs: rate and processor time of each."""
        phase = await self.callers.drive("pairs", LedgerPlan(plan.seconds, plan.in_flight, plan.store, plan.with_evidence))
        spent = {f"cpu_us_{party}": seconds / phase.done * 1e6 for party, seconds in phase.cpu_s.items()}
        self.turns.append({"pairs_per_s": phase.done / phase.seconds, **spent, "p99_ms": phase.latencies.summary()["p99_ms"] or 0.0})

    def medians(self) -> dict[str, float]:
        """Of its turns since the last call."""
        found = {name: round(statistics.median(turn[name] for turn in self.turns), 1) for name in self.turns[0]}
        self.turns.clear()
        return found


async def run(directory: Path, plan: GrowthPlan, clock: Clock, say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """The figures by size and what is wrong with the run."""
    floors.check_disk(directory)
    say("measuring floors")
    found = floors.measure(directory, clock)
    sizes: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(cluster.started(directory, clock)) if plan.store == "postgresql" else None
        places = _places(directory, running)
        async with _kept(next(places), plan, clock, running) as grown:
            calm_collector()
            latest = clock.monotonic() + plan.fill_within_s if plan.fill_within_s else float("inf")
            for size in plan.sizes:
                if clock.monotonic() >= latest or grown.deals.captured >= size:
                    continue  # out of time; or what was measured before has filled it further than this
                started, before = clock.monotonic(), grown.deals.captured
                await pay(grown.book, grown.deals, size - before, clock, say, latest=latest)
                filled = rate(grown.deals.captured - before, clock.monotonic() - started)
                async with _kept(next(places), plan, clock, running) as empty:
                    for number in range(plan.rounds):
                        for book in (grown, empty) if number % 2 else (empty, grown):
                            await book.turn(plan)
                    sizes.append(_compared(grown, empty) | {"filled_per_s": filled})
                say(_told(sizes[-1]))
        say("proving the book")
        broken = await ledger_audit.prove(grown.place, grown.deals)
    asked = {"store": plan.store, "with_evidence": plan.with_evidence, "in_flight": plan.in_flight, "rounds": plan.rounds}
    report = {**asked, "seconds": plan.seconds, "sizes": None if broken else sizes, "audit": "failed" if broken else "passed"}
    return report | {"floors": found}, broken


def _compared(grown: Kept, empty: Kept) -> dict[str, Any]:
    full, none = grown.medians(), empty.medians()
    cpu_full, cpu_none = (sum(value for name, value in one.items() if name.startswith("cpu_us")) for one in (full, none))
    return {
        "payments": grown.deals.captured,
        "grown": full,
        "empty": none,
        "rate_kept": round(full["pairs_per_s"] / none["pairs_per_s"], 3),
        "cpu_kept": round(cpu_none / cpu_full, 3),
        "book_mb": round(_size_mb(grown.place), 1),
        "rss_mb": round(rss_mb(os.getpid()), 1),
    }


def _told(size: dict[str, Any]) -> str:
    """For whoever looks on."""
    return (
        f"{size['payments']:,} payments: {size['cpu_kept']:.0%} of an empty book's speed by processor time, {size['rate_kept']:.0%} by rate"
    )


@asynccontextmanager
async def _kept(place: Place, plan: GrowthPlan, clock: Clock, running: cluster.Cluster | None) -> AsyncIterator[Kept]:
    create(place, "bench", clock.now())
    deals = Deals("uniform", plan.with_evidence, clock.now())
    book = Book(lambda: open_store(place), clock)
    try:
        await open_accounts(book, deals)
        yield Kept(place, deals, book, Callers(book, deals, clock, running))
    finally:
        await book.close()


def _places(directory: Path, running: cluster.Cluster | None) -> Iterator[Place]:
    number = 0
    while True:
        number += 1
        if running is None:
            (directory / f"book-{number}").mkdir()
            yield directory / f"book-{number}" / BOOK_FILE
        else:
            yield running.create(f"book_{number}")


def _size_mb(place: Place) -> float:
    if isinstance(place, Path):
        return sum(path.stat().st_size for path in place.parent.iterdir()) / 2**20
    reader = Reader(place)
    try:
        return int(reader.all("SELECT pg_database_size(current_database())")[0][0]) / 2**20
    finally:
        reader.close()
