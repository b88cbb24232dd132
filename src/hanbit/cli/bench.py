"""`hanbit bench`: how fast this machine makes whole payments, its ledger alone and its pages, beside what it can do at best."""

import asyncio
import json
import logging
import signal
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click

from hanbit.cli.options import CommandGroup, json_option

Result = TypeVar("Result")
PASSWORDS_AT_ONCE_MAX = 64
"""Each customer's password is counted before it is checked, so each has one try in flight."""
EVERY = 10
ON_DISK = Path("/var/tmp")  # noqa: S108 - a fresh folder of our own is made in it

directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=None,
    help="Where the fresh folder is made: on the disk that is to be measured, never in memory.",
)

store_option = click.option(
    "--store", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True, help="The engine that keeps the book."
)
database_option = click.option(
    "--database",
    default="",
    help="With PostgreSQL: the address of an empty database; else a cluster is started from the system's binaries.",
)

workers_option = click.option(
    "--workers", type=click.IntRange(1, 16), default=1, show_default=True, help="Processes of the payment server; more need PostgreSQL."
)


@click.group(cls=CommandGroup)
def bench() -> None:
    """Measure whole payments by all three parties, the ledger alone, or the pages of every face; durable, with the checks in.

    \b
    Example:
      hanbit bench payments --seconds 20 --concurrency 64 --json
      hanbit bench ledger --seconds 10 --in-flight 512 --json
      hanbit bench growth --payments 100000
      hanbit bench pages --payments 100000
    """


@bench.command()
@click.option(
    "--seconds", type=click.IntRange(1, 3600), default=20, show_default=True, help="How long payments are made; all takes three times."
)
@click.option("--concurrency", type=click.IntRange(1, 512), default=64, show_default=True, help="Payments in flight.")
@click.option(
    "--protocol",
    type=click.Choice(["redirect", "dual-signature"]),
    default="redirect",
    show_default=True,
    help="The checkout: at the payment page, or in the shop by a key of the moment.",
)
@click.option(
    "--open-loop",
    type=click.IntRange(1, 10_000),
    default=None,
    metavar="RATE",
    help="Begin so many a second, whatever became of those before; latency counts from each one's moment.",
)
@click.option("--merchants", type=click.IntRange(1, 16), default=1, show_default=True, help="Shops that are paid in turn.")
@click.option("--hot-merchant", is_flag=True, help="All payments go to one shop: what --merchants 1 says.")
@click.option(
    "--preload", type=click.IntRange(0, 10_000_000), default=0, show_default=True, help="Payments that stand in the book before the start."
)
@store_option
@database_option
@workers_option
@click.option("--factor", type=click.Choice(["device", "password"]), default="device", show_default=True, help="How the customers approve.")
@click.option("--with-cancellations", is_flag=True, help="The shop gives payments back while others are paid: half, then the rest.")
@click.option(
    "--every",
    type=click.IntRange(1, 1000),
    default=None,
    help=f"With --with-cancellations: each how-manyth payment.  [default: {EVERY}; 1<=x<=1000]",
)
@click.option(
    "--logins",
    type=click.IntRange(0, 30),
    default=0,
    metavar="RATE",
    help="Beside the second half of the payments so many people a second log in, their passwords checked by one worker.",
)
@directory_option
@json_option
def payments(  # one argument an option
    seconds: int,
    concurrency: int,
    protocol: str,
    open_loop: int | None,
    merchants: int,
    hot_merchant: bool,
    preload: int,
    store: str,
    database: str,
    workers: int,
    factor: str,
    with_cancellations: bool,
    every: int | None,
    logins: int,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Whole payments from approval to receipt (R7 to R12, or D2 to D8): gateway, shop and customers as processes, every message signed.

    What each figure is, and what was reached on which machine: docs/benchmarks.md.

    \b
    Example:
      hanbit bench payments --seconds 20 --concurrency 64
      hanbit bench payments --seconds 20 --concurrency 1 --json
      hanbit bench payments --seconds 20 --protocol dual-signature
      hanbit bench payments --seconds 10 --factor password
      hanbit bench payments --seconds 10 --with-cancellations --every 5
      hanbit bench payments --seconds 10 --open-loop 200
      hanbit bench payments --seconds 20 --open-loop 200 --logins 10
      hanbit bench payments --seconds 10 --merchants 4 --preload 10000
      hanbit bench payments --seconds 10 --store postgresql --workers 2
    """
    from hanbit.bench.run import run
    from hanbit.bench.world import Plan
    from hanbit.kernel.clock import SystemClock

    if factor == "password" and concurrency > PASSWORDS_AT_ONCE_MAX:
        raise click.UsageError(f"--factor password takes at most {PASSWORDS_AT_ONCE_MAX} in flight")
    if merchants > 1 and (hot_merchant or with_cancellations or protocol == "dual-signature"):
        raise click.UsageError("--hot-merchant, --with-cancellations and the dual signature go with one merchant")
    if every is not None and not with_cancellations:
        raise click.UsageError("--every goes with --with-cancellations")
    _check_store(store, workers, database)
    with _fresh_folder(directory) as folder:
        plan = Plan(
            seconds,
            concurrency,
            factor,
            (every or EVERY) if with_cancellations else 0,
            protocol,
            open_loop or 0,
            merchants,
            preload,
            store,
            workers,
            database,
            logins,
        )
        report, broken = _run(run(folder, plan, SystemClock(), _say()))
    _finish(report, broken, as_json=as_json)


@bench.command()
@click.option("--seconds", type=click.IntRange(1, 3600), default=10, show_default=True, help="How long each shape is driven.")
@click.option("--in-flight", type=click.IntRange(1, 8192), default=512, show_default=True, help="Changes that wait for the book at once.")
@store_option
@database_option
@click.option("--yard-stick", is_flag=True, help="First the same pairs by a ledger of row locks on PostgreSQL, for as long.")
@click.option("--with-evidence", is_flag=True, help="Messages, requirements, attempts and outbox rows, as a real payment has them.")
@click.option("--shape", type=click.Choice(["both", "pairs", "transfers"]), default="both", show_default=True, help="What is handed in.")
@click.option(
    "--merchants",
    type=click.Choice(["uniform", "zipf", "hot"]),
    default="uniform",
    show_default=True,
    help="Who is paid: a thousand, or one.",
)
@directory_option
@json_option
def ledger(  # one argument an option
    seconds: int,
    in_flight: int,
    store: str,
    database: str,
    yard_stick: bool,
    with_evidence: bool,
    shape: str,
    merchants: str,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Hold and capture pairs and plain transfers through the book's commit path, durable, then proved from the store alone.

    \b
    Example:
      hanbit bench ledger --seconds 10 --in-flight 512
      hanbit bench ledger --seconds 10 --in-flight 64 --with-evidence --json
      hanbit bench ledger --seconds 10 --in-flight 1024 --merchants hot --shape pairs
      hanbit bench ledger --seconds 10 --store postgresql --yard-stick
    """
    from hanbit.bench import ledger as ledger_run
    from hanbit.kernel.clock import SystemClock

    if database and store == "sqlite" and not yard_stick:
        raise click.UsageError("--database goes with --store postgresql or --yard-stick")
    shapes = ledger_run.SHAPES if shape == "both" else (shape,)
    plan = ledger_run.LedgerPlan(seconds, in_flight, store, with_evidence, shapes, merchants, database, yard_stick)
    with _fresh_folder(directory) as folder:
        report, broken = _run(ledger_run.run(folder, plan, SystemClock(), _say()))
    _finish(report, broken, as_json=as_json)


@bench.command()
@click.option("--payments", type=click.IntRange(20, 100_000_000), default=100_000, show_default=True, help="How many the book has at last.")
@click.option("--ledger-only", is_flag=True, help="Entries, accounts and payments alone; else with every row that a real payment writes.")
@click.option("--seconds", type=click.IntRange(1, 600), default=3, show_default=True, help="How long each turn is.")
@click.option("--rounds", type=click.IntRange(1, 100), default=6, show_default=True, help="Turns of each book at each size.")
@click.option("--in-flight", type=click.IntRange(1, 8192), default=512, show_default=True, help="Changes that wait for the book at once.")
@click.option(
    "--minutes",
    type=click.IntRange(1, 10_000),
    default=None,
    help="Fill for so long at most; what is there by then is measured as the last size.",
)
@store_option
@directory_option
@json_option
def growth(  # one argument an option
    payments: int,
    ledger_only: bool,
    seconds: int,
    rounds: int,
    in_flight: int,
    minutes: int | None,
    store: str,
    directory: Path | None,
    as_json: bool,
) -> None:
    """What a full book costs an empty one's speed: both take the same pairs in turns, at several sizes; then the full one is proved.

    \b
    Example:
      hanbit bench growth --payments 2000000
      hanbit bench growth --payments 5000000 --ledger-only --json
      hanbit bench growth --payments 1000000 --store postgresql --minutes 30
    """
    from hanbit.bench.growth import GrowthPlan, run
    from hanbit.kernel.clock import SystemClock

    plan = GrowthPlan(payments, seconds, rounds, in_flight, store, not ledger_only, (minutes or 0) * 60)
    with _fresh_folder(directory) as folder:
        report, broken = _run(run(folder, plan, SystemClock(), _say()))
    _finish(report, broken, as_json=as_json)


@bench.command()
@click.option("--seconds", type=click.IntRange(1, 36_000), default=600, show_default=True, help="How long customers pay.")
@click.option("--concurrency", type=click.IntRange(1, 512), default=16, show_default=True, help="Checkouts in flight.")
@click.option("--protocol", type=click.Choice(["redirect", "dual-signature"]), default="redirect", show_default=True, help="The checkout.")
@store_option
@database_option
@workers_option
@directory_option
@json_option
def memory(  # one argument an option
    seconds: int, concurrency: int, protocol: str, store: str, database: str, workers: int, directory: Path | None, as_json: bool
) -> None:
    """How much memory each party holds while customers go on paying: sixty samples, and the slope of the second half.

    \b
    Example:
      hanbit bench memory
      hanbit bench memory --seconds 60 --store postgresql --workers 2 --json
    """
    from hanbit.bench import memory as memory_run
    from hanbit.bench.run import run
    from hanbit.bench.world import Plan
    from hanbit.kernel.clock import SystemClock

    _check_store(store, workers, database)
    plan = Plan(seconds, concurrency, "device", protocol=protocol, store=store, workers=workers, database=database)
    with _fresh_folder(directory) as folder:
        report, broken = _run(run(folder, plan, SystemClock(), _say(), memory_run.measure))
    _finish(report, broken, as_json=as_json)


def _check_store(store: str, workers: int, database: str) -> None:
    if store == "sqlite" and (workers > 1 or database):
        raise click.UsageError("--workers and --database go with --store postgresql: a SQLite book is one process's")


@bench.command()
@click.option(
    "--payments", type=click.IntRange(1_000, 10_000_000), default=100_000, show_default=True, help="Stored before the pages are asked."
)
@click.option(
    "--book",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="A folder that keeps the filled book: it is filled where it is new, and only measured where it is there.",
)
@store_option
@directory_option
@json_option
def pages(payments: int, book: Path | None, store: str, directory: Path | None, as_json: bool) -> None:
    """Every page of all three faces in a book of many payments: size, time (at most 100 ms) and processor time (at most 50).

    \b
    Example:
      hanbit bench pages --payments 1000000 --book /var/tmp/hanbit-pages
      hanbit bench pages --payments 100000 --store postgresql
      hanbit bench pages --payments 10000 --json
    """
    from hanbit import logs
    from hanbit.bench import pages as pages_run
    from hanbit.kernel.clock import SystemClock

    logs.configure(logging.WARNING)  # not a line for each page
    if book is not None and store != "sqlite":
        raise click.UsageError("--book keeps a SQLite book: the cluster of a run ends with it")
    if book is not None:
        book.mkdir(mode=0o700, parents=True, exist_ok=True)
    with nullcontext(book) if book is not None else _fresh_folder(directory) as folder:
        report, broken = _run(pages_run.run(folder, payments, SystemClock(), _say(), store=store))
    _finish(report, broken, as_json=as_json)


@contextmanager
def _fresh_folder(directory: Path | None) -> Iterator[Path]:
    """A folder of the run's own, on a disk, gone when it ends."""
    from hanbit.bench import floors

    if directory is None:
        usual = Path(tempfile.gettempdir())
        directory = usual if floors.file_system(usual) != "tmpfs" else ON_DISK
    with tempfile.TemporaryDirectory(prefix="hanbit-bench-", dir=directory) as folder:
        yield Path(folder)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, or until Ctrl-C, SIGTERM or a terminal that is closed: what was started goes with it, a PostgreSQL server too."""
    import uvloop

    told: list[signal.Signals] = []

    async def ended_by_a_signal() -> Result:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def end(number: signal.Signals) -> None:
            if not told:  # what is being ended is not begun again by the second
                told.append(number)
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
                loop.add_signal_handler(number, end, number)
        return await work

    try:
        return uvloop.run(ended_by_a_signal())
    except asyncio.CancelledError:
        if not told:
            raise
        number = told[0]
    except KeyboardInterrupt:
        number = signal.SIGINT
    click.echo("Stopped before its end: this run has no figure.", err=True)
    raise SystemExit(128 + number)


def _say() -> Callable[[str], None]:
    """What is being done, where people read it and no program does."""
    from rich.console import Console

    console = Console(stderr=True)
    return lambda text: console.print(text, style="dim")


def _finish(report: dict[str, Any], broken: list[str], *, as_json: bool) -> None:
    """The figures; a run that did not come out as it must says why and fails."""
    from hanbit.bench.figures import table

    click.echo(json.dumps(report) if as_json else table(report))
    for line in broken:
        click.echo(line, err=True)
    if broken:
        click.echo("This run has no figure: what is listed above did not come out as it must.", err=True)
        raise SystemExit(1)
