"""`hanbit merchant serve`: the merchant's agent, a local HTTP API for a shop in any language."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hanbit.cli.options import run
from hanbit.cli.serve import read_address
from hanbit.process import many_files, no_core_dumps

if TYPE_CHECKING:
    from hanbit.merchant.agent.serve import Address

LISTEN = "127.0.0.1:8405"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--listen", default=None, help=f"HOST:PORT of this computer.  [default: {LISTEN}]")
@click.option(
    "--socket", "socket_path", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Listen on this Unix socket instead."
)
@click.option("--post-listen", default=None, help="HOST:PORT where the payment server reaches this shop by HTTPS POST (its `post_url`).")
@click.option("--no-dial", is_flag=True, help="Keep no connection to the payment server; needs --post-listen.")
def serve(directory: Path, listen: str | None, socket_path: Path | None, post_listen: str | None, no_dial: bool) -> None:
    """At the shop: run the agent on an enrolled DIRECTORY until it is told to stop (Ctrl-C or SIGTERM).

    It keeps the shop's keys, order book and line, and offers them as a local HTTP API to a shop in any language. Each call carries the
    token in DIRECTORY/agent.token, which the first start makes; call-backs are registered in DIRECTORY/agent.toml. Log lines go to
    standard error as JSON.

    \b
    Example:
      hanbit merchant serve ./shop-keys
      hanbit merchant serve ./shop-keys --socket ./shop-keys/agent.sock
      hanbit merchant serve ./shop-keys --post-listen 0.0.0.0:8443 --no-dial
    """
    from hanbit import logs
    from hanbit.merchant.agent.serve import Address, read_listen

    if listen is not None and socket_path is not None:
        raise click.UsageError("--listen or --socket, not both")
    if no_dial and post_listen is None:
        raise click.UsageError("--no-dial leaves no way to the payment server without --post-listen")
    address = Address(socket_path=socket_path) if socket_path is not None else read_listen(listen or LISTEN)
    no_core_dumps()
    many_files()
    logs.configure()
    run(_serve(directory, address, dial=not no_dial, post_listen=read_address(post_listen, "--post-listen") if post_listen else None))


async def _serve(directory: Path, address: "Address", *, dial: bool, post_listen: tuple[str, int] | None) -> None:
    from hanbit import service_manager
    from hanbit.kernel.clock import SystemClock
    from hanbit.merchant.agent import serve as agent

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with service_manager.watched(), agent.running(directory, address, SystemClock(), dial=dial, post_listen=post_listen) as running:
        answers = f"the agent of {running.shop.registration.merchant} answers at {running.address}"
        click.echo(answers, err=True)
        service_manager.tell(f"READY=1\nSTATUS={answers}")
        await stop.wait()
        service_manager.tell("STOPPING=1")
