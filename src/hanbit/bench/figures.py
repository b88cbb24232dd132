"""The figures of a run: percentiles, batch sizes from the gateway's own metrics, and the one object or table that is printed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_BUCKET: Final = re.compile(r'hanbit_commit_batch_changes_bucket\{(?:process="[0-9]+",)?le="([^"]+)"\} ([0-9.e+]+)')
_LARGEST: Final = re.compile(r'^hanbit_commit_batch_largest_changes(?:\{process="([0-9]+)"\})? ([0-9.e+]+)', re.MULTILINE)
"""Of a server with several workers each figure is there once for every process."""


@dataclass(slots=True)
class Latencies:
    """Seconds of each payment, from the customer's first work on it to the answer."""

    seconds: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """One more."""
        self.seconds.append(seconds)

    def summary(self) -> dict[str, float | None]:
        """Median and 99th percentile in ms; None where nothing was measured."""
        ordered = sorted(self.seconds)
        return {"p50_ms": percentile_ms(ordered, 50), "p99_ms": percentile_ms(ordered, 99)}


def percentile_ms(ordered_seconds: list[float], percent: int) -> float | None:
    """The nearest rank (the smallest value that so many percent do not exceed), in ms."""
    if not ordered_seconds:
        return None
    rank = -(-len(ordered_seconds) * percent // 100)
    return round(ordered_seconds[max(rank, 1) - 1] * 1000, 2)


def read_batches(metrics: str) -> dict[float, float]:
    """Largest size of a bucket → batches so far up to that size, of all processes, from the page of metrics."""
    found: dict[float, float] = {}
    for size, count in _BUCKET.findall(metrics):
        found[float(size)] = found.get(float(size), 0.0) + float(count)
    return found


def processes(metrics: str) -> int:
    """How many workers show their figures on the page."""
    return sum(bool(number) for number, _ in _LARGEST.findall(metrics))


def commit_batch(before: str, after: str) -> dict[str, int | None]:
    """Changes in the median commit between two pages of metrics (the bound of its bucket), and in the largest since the start."""
    earlier, later = read_batches(before), read_batches(after)
    grown = {size: count - earlier.get(size, 0.0) for size, count in later.items()}
    total = max(grown.values(), default=0.0)
    largest = [int(float(size)) for _, size in _LARGEST.findall(after)]
    median = next((int(size) for size, count in sorted(grown.items()) if count * 2 >= total and size < float("inf")), None)
    return {"p50": median if total else None, "max": max(largest, default=None)}


def rate(count: int, seconds: float) -> float | None:
    """So many a second, None where there was nothing."""
    return round(count / seconds, 1) if count and seconds > 0 else None


def cpu_ms(before: Mapping[str, float], after: Mapping[str, float], payments: int) -> dict[str, float | None]:
    """Processor time of each party a payment."""
    return {party: round((spent - before[party]) * 1000 / payments, 3) if payments else None for party, spent in after.items()}


def table(figures: Mapping[str, Any]) -> str:
    """The same object for people; of a list each one has its line."""
    lines = ((name, line) for name, value in figures.items() for line in (value if isinstance(value, list) else [value]))
    return "\n".join(f"{name:<20} {_shown(line)}" for name, line in lines)


def _shown(value: object) -> str:
    if isinstance(value, Mapping) and value:
        return "   ".join(f"{inner} {_shown(figure)}" for inner, figure in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, {}) else f"{value:,}" if isinstance(value, int | float) else str(value)
