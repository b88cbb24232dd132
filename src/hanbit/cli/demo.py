"""`hanbit demo`: everything at work on this machine, with a purchase that proves it."""

import asyncio
import contextlib
import json
import signal
import tempfile
from pathlib import Path

import click
import uvloop
from rich.console import Console

from hanbit.demo.cases import CASES, play
from hanbit.demo.world import ACCOUNTS, CUSTOMERS, FIXED_PORTS, Ports, World, demo_world
from hanbit.kernel.clock import SystemClock

SHOP_LOGINS = (("minji", "rainbow"), ("junho", "umbrella"))


@click.command()
@click.option("--once", is_flag=True, help="Play every case by the installed payment program on free ports, then stop.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print one JSON object and nothing else on standard output.")
@click.option("--database", default="", help="The book in this empty PostgreSQL database: postgresql://USER@HOST/DATABASE.")
def demo(once: bool, as_json: bool, database: str) -> None:
    """Run payment server, demo shops and sample customers in a fresh folder, make one purchase to prove that they work, and stay up.

    \b
    Example:
      hanbit demo
      hanbit demo --once --json
      hanbit demo --database postgresql://hanbit@db.internal/demo
    """
    if as_json and not once:
        raise click.UsageError("--json goes with --once")
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="hanbit-demo-") as directory:
        good = uvloop.run(_once(Path(directory), database, console, as_json=as_json) if once else _stay(Path(directory), database, console))
    raise SystemExit(0 if good else 1)


async def _once(directory: Path, database: str, console: Console, *, as_json: bool) -> bool:
    with console.status("starting") as status:
        async with demo_world(directory, Ports.free(), SystemClock(), status.update, database) as world:
            report, good = await play(world, list(CASES), status.update)
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        for payment in report["payments"]:
            went_back = f"{payment['refunded']} went back" if payment["refunded"] else ""
            click.echo(f"{payment['case']:<16} {payment['state']:<12} {payment['reason'] or went_back}")
        found = report["evidence"]
        click.echo(f"ledger balanced: {report['ledger']['balanced']}   evidence verified: {found['verified']}")
        click.echo(f"evidence file: {found['file']['steps']} steps verified   altered copies refused: {found['tampered_copy_refused']}")
    if not good:
        click.echo("A case did not come out as it must; see above.", err=True)
    return good


async def _stay(directory: Path, database: str, console: Console) -> bool:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        with console.status("starting") as status:
            world = await stack.enter_async_context(demo_world(directory, FIXED_PORTS, SystemClock(), status.update, database))
            report, good = await play(world, ["paid"], status.update)
        if not good:
            click.echo(json.dumps(report, ensure_ascii=False), err=True)
            return False
        _welcome(world, report["payments"][0]["tid"])
        await stop.wait()
        click.echo("\nstopping")
    return True


def _welcome(world: World, tid: str) -> None:
    click.echo(f"""
One purchase was made by the installed payment program and is paid (tid {tid}); book and evidence were proved from the store.

  The shop           {world.shops["shop"].url}       log in as {" or ".join(f"{name} / {password}" for name, password in SHOP_LOGINS)}
  Its plain sister   {world.shops["plain-shop"].url} registered for the document's own form, without a signed order
  Its staff          {world.shops["shop"].url}/staff log in as {(world.shops["shop"].folder / "staff.token").read_text("ascii")}
  The payment server {world.settings.public_url}        opened by the shop when you pay

  Customers of the bank (ID / password):
{chr(10).join(f"    {login} / {password}   {name}" for login, name, _, password in CUSTOMERS)}
  Their accounts (number / account password):
{chr(10).join(f"    {login:<5} {kind:<7} {number} / {password}" for login, kind, number, password, _, _ in ACCOUNTS)}

  Data folder {world.data}; for example:  hanbit ledger check --data {world.data}
  Metrics     http://127.0.0.1:{world.settings.metrics_port}/metrics

Press Ctrl-C to stop; the folder is then removed.""")
