"""`hanbit bench`: how fast this machine makes whole payments, beside what it can do at best."""

import json
import tempfile
from pathlib import Path

import click

from hanbit.cli.options import CommandGroup, json_option

PASSWORDS_AT_ONCE_MAX = 64
"""Each customer's password is counted before it is checked, so each has one try in flight."""
ON_DISK = Path("/var/tmp")  # noqa: S108 - a fresh folder of our own is made in it


@click.group(cls=CommandGroup)
def bench() -> None:
    """Measure whole payments by all three parties, durable, with the checks in.

    \b
    Example:
      hanbit bench payments --seconds 20 --concurrency 64 --json
    """


@bench.command()
@click.option(
    "--seconds", type=click.IntRange(1, 3600), default=20, show_default=True, help="How long payments are made; all takes three times."
)
@click.option("--concurrency", type=click.IntRange(1, 512), default=64, show_default=True, help="Payments in flight.")
@click.option("--factor", type=click.Choice(["device", "password"]), default="device", show_default=True, help="How the customers approve.")
@click.option("--with-cancellations", is_flag=True, help="The shop gives payments back while others are paid: half, then the rest.")
@click.option(
    "--every", type=click.IntRange(1, 1000), default=10, show_default=True, help="With --with-cancellations: each how-manyth payment."
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=None,
    help="Where the fresh folder is made: on the disk that is to be measured, never in memory.",
)
@json_option
def payments(  # one argument an option
    seconds: int, concurrency: int, factor: str, with_cancellations: bool, every: int, directory: Path | None, as_json: bool
) -> None:
    """R7 to R12 of the redirect checkout: gateway, shop and customers as processes, every message signed, stored and acknowledged.

    \b
    Example:
      hanbit bench payments --seconds 20 --concurrency 64
      hanbit bench payments --seconds 20 --concurrency 1 --json
      hanbit bench payments --seconds 10 --factor password
      hanbit bench payments --seconds 10 --with-cancellations --every 5
    """
    import uvloop
    from rich.console import Console

    from hanbit.bench import floors
    from hanbit.bench.figures import table
    from hanbit.bench.run import Plan, run
    from hanbit.kernel.clock import SystemClock

    if factor == "password" and concurrency > PASSWORDS_AT_ONCE_MAX:
        raise click.UsageError(f"--factor password takes at most {PASSWORDS_AT_ONCE_MAX} in flight")
    if directory is None:
        usual = Path(tempfile.gettempdir())
        directory = usual if floors.file_system(usual) != "tmpfs" else ON_DISK
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="hanbit-bench-", dir=directory) as folder:
        plan = Plan(seconds, concurrency, factor, every if with_cancellations else 0)
        report, broken = uvloop.run(run(Path(folder), plan, SystemClock(), lambda text: console.print(text, style="dim")))
    click.echo(json.dumps(report) if as_json else table(report))
    for line in broken:
        click.echo(line, err=True)
    if broken:
        click.echo("This run has no figure: what is listed above did not come out as it must.", err=True)
        raise SystemExit(1)
