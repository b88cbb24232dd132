"""The whole table of `docs/benchmarks.md` in one go: `python -m hanbit.bench.ledger_table`, some six minutes of a quiet machine.

Each row is a run of `hanbit bench ledger` in a process of its own, with a book of its own and its own audit and floors.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

IN_FLIGHT: Final = (1, 64, 512, 1_024, 8_192)
ENGINES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
HEAD: Final = (
    "store, in flight",
    "pairs/s",
    "transfers/s",
    "p50 / p99 ms",
    "CPU µs a pair: book and callers (making) / database",
    "plain SQLite pairs/s, fdatasync µs of the same run",
)
RUN_MAX_S: Final = 600


def rows(engines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """What a row of the table says it is, and the options that make it."""
    for engine in engines:
        name, store = ENGINES[engine], ["--store", engine]
        for number in IN_FLIGHT:
            yield f"{name}, {number:,}", [*store, "--in-flight", str(number)]
        for merchants, said in (("hot", "one hot merchant"), ("zipf", "merchants by Zipf's law")):
            yield f"{name}, 512, {said}", [*store, "--merchants", merchants, "--shape", "pairs"]
        for number in (512, 64):
            yield f"{name}, {number}, with evidence", [*store, "--in-flight", str(number), "--with-evidence", "--shape", "pairs"]
    if "postgresql" in engines:
        yield "row locks by hand, PostgreSQL, 512", ["--store", "postgresql", "--yard-stick", "--shape", "pairs"]


def main() -> int:
    """Print the table as its rows come; 1 if a run has no figure."""
    options = argparse.ArgumentParser(prog="python -m hanbit.bench.ledger_table", description=__doc__)
    options.add_argument("--seconds", type=int, default=5, help="how long each shape is driven")
    options.add_argument("--store", choices=list(ENGINES), action="append", help="one engine alone")
    options.add_argument("--directory", help="where the books lie: on the disk that is to be measured")
    asked = options.parse_args()
    more = ["--seconds", str(asked.seconds), *(["--directory", asked.directory] if asked.directory else [])]
    _print_row(HEAD)
    _print_row(["---"] * len(HEAD))
    failed = False
    for name, chosen in rows(asked.store or list(ENGINES)):
        report = _run([*chosen, *more])
        failed |= report is None
        _print_row([name, *(["no figure"] if report is None else cells(report, by_hand=name.startswith("row locks")))])
    return int(failed)


def _run(options: list[str]) -> dict[str, Any] | None:
    """The figures of one run; None where it has none, and then it has said why on standard error."""
    command = [sys.executable, "-m", "hanbit", "bench", "ledger", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_MAX_S, check=False)  # noqa: S603 - our own program
    if done.returncode:
        sys.stderr.write(done.stderr)
        return None
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def cells(report: dict[str, Any], *, by_hand: bool) -> list[str]:
    """A run's figures in the columns behind its name."""
    floors = report["floors"]
    told = f"{floors['plain_sqlite_pairs_per_s']:,.0f}, {floors['fdatasync_us']:,.0f}"
    if by_hand:
        return [_figure(report["row_lock_pairs_per_s"]), "–", _wait(report, "row_lock_"), "–", told]
    spent = report["cpu_us_per_pair"]
    cpu = f"{_figure(spent['book_and_callers'])} ({floors['making_us']:,.0f})" + (
        f" / {_figure(spent['database'])}" if "database" in spent else ""
    )
    return [_figure(report["pairs_per_s"]), _figure(report["transfers_per_s"]), _wait(report, ""), cpu, told]


def _wait(report: dict[str, Any], which: str) -> str:
    return f"{_figure(report[f'{which}p50_ms'])} / {_figure(report[f'{which}p99_ms'])}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:,.1f}"  # noqa: PLR2004 - short ones keep a digit


def _print_row(cells: "tuple[str, ...] | list[str]") -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
