"""`hanbit init` and `hanbit serve`: make an operator's data folder, run the payment server on it."""

import asyncio
import signal
from pathlib import Path

import click
import uvloop

from hanbit import folder, logs, server
from hanbit.cli.options import ask_secret, data_option, run
from hanbit.kernel.clock import SystemClock
from hanbit.settings import FILE, Settings


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--operator", default="demo", show_default=True, help="The operator's id in every certificate; it cannot change later.")
@click.option("--name-ko", default="한빛은행", show_default=True, help="The operator's name on Korean pages.")
@click.option("--name-en", default="Hanbit Bank", show_default=True, help="The operator's name on English pages.")
@click.option("--telephone", default="1588-0000", show_default=True, help="Whom customers call.")
@click.option("--public-url", default="http://pay.localhost:8400", show_default=True, help="The address that customers see.")
@click.option("--listen", default="127.0.0.1:8400", show_default=True, help="Where the pages listen, HOST:PORT.")
@click.option("--line", default="127.0.0.1:8401", show_default=True, help="Where merchants dial the private line, HOST:PORT.")
@click.option(
    "--root-key",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Write the root's private key here, encrypted; keep it apart, the server runs without it. Without this option it stays, unencrypted, "
    "in DIRECTORY/keys: good for a trial only.",
)
@click.option("--passphrase-fd", type=int, default=None, help="Read the root key's passphrase from this file descriptor.")
def init(
    directory: Path,
    operator: str,
    name_ko: str,
    name_en: str,
    telephone: str,
    public_url: str,
    listen: str,
    line: str,
    root_key: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Make DIRECTORY the data folder of a new operator: keys and certificates, settings, an empty book.

    \b
    Example:
      hanbit init /srv/hanbit --operator mybank --root-key /media/usb/mybank-root.key
    """
    passphrase = None
    if root_key is not None:
        passphrase = ask_secret("Passphrase for the root key", passphrase_fd).encode("utf-8")
        if len(passphrase) < 8:  # noqa: PLR2004 - said in the message
            raise click.UsageError("the passphrase of the root key needs at least 8 characters")
    listen_host, listen_port = _address(listen, "--listen")
    line_host, line_port = _address(line, "--line")
    settings = Settings(
        operator=operator,
        name_ko=name_ko,
        name_en=name_en,
        telephone=telephone,
        public_url=public_url.rstrip("/"),
        listen_host=listen_host,
        listen_port=listen_port,
        line_host=line_host,
        line_port=line_port,
    )
    run(folder.create(directory, settings, SystemClock(), root_key=root_key, root_passphrase=passphrase))
    click.echo(f"{directory} is ready: settings in {directory / FILE}, root certificate in {directory / 'keys' / 'root.pem'}.")
    if root_key is None:
        click.echo("The root's private key lies in the folder, unencrypted. For real money make it again with --root-key.", err=True)
    else:
        click.echo(f"The root's private key is in {root_key}, encrypted. Take it off this machine.")
    click.echo(f"Next: hanbit serve --data {directory}")


@click.command()
@data_option
def serve(data: Path) -> None:
    """Run the payment server on a data folder until it is told to stop (Ctrl-C or SIGTERM); log lines go to standard error as JSON.

    \b
    Example:
      hanbit serve --data /srv/hanbit
    """
    logs.configure()
    uvloop.run(_serve(data))


async def _serve(data: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server.running(data, SystemClock()) as running:
        click.echo(f"serving {running.gateway.settings.public_url} (line on port {running.line_port})", err=True)
        await stop.wait()


def _address(text: str, option: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:  # noqa: PLR2004 - TCP's ports
        raise click.UsageError(f"{option}: HOST:PORT, for example 127.0.0.1:8400")
    return host.strip("[]"), int(port)
