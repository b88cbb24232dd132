"""`hanbit init` and `hanbit serve`: make an operator's data folder, run the payment server on it."""

import asyncio
import signal
from pathlib import Path

import click

from hanbit.cli.options import ask_secret, data_option, run
from hanbit.process import many_files, no_core_dumps

WORKERS_MAX = 16
CONSOLE_PORT, MERCHANT_CONSOLE_PORT = 8410, 8411


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--sandbox", is_flag=True, help="Make a test operator, with sample customers and a clock that moves; see docs/sandbox.md.")
@click.option(
    "--database",
    envvar="HANBIT_DATABASE",
    default="",
    help="Keep the book in this empty PostgreSQL database, postgresql://USER@HOST/DATABASE (or set HANBIT_DATABASE); "
    "without it in a SQLite file in DIRECTORY. See docs/operating.md, PostgreSQL.",
)
@click.option("--operator", default=None, help="The operator's id in every certificate; it cannot change later.  [default: demo]")
@click.option("--name-ko", default=None, help="The operator's name on Korean pages.  [default: 한빛은행]")
@click.option("--name-en", default=None, help="The operator's name on English pages.  [default: Hanbit Bank]")
@click.option("--telephone", default="1588-0000", show_default=True, help="Whom customers call.")
@click.option("--public-url", default="http://pay.localhost:8400", show_default=True, help="The address that customers see.")
@click.option("--listen", default="127.0.0.1:8400", show_default=True, help="Where the pages listen, HOST:PORT.")
@click.option("--line", default="127.0.0.1:8401", show_default=True, help="Where merchants dial the private line, HOST:PORT.")
@click.option(
    "--console",
    default=f"127.0.0.1:{CONSOLE_PORT}",
    show_default=True,
    help="Where the operator's console listens, HOST:PORT; port 0 turns it off.",
)
@click.option(
    "--merchant-console", default=f"127.0.0.1:{MERCHANT_CONSOLE_PORT}", show_default=True, help="The same for the merchants' console."
)
@click.option(
    "--root-key",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Write the root's private key here, encrypted; keep it apart, the server runs without it. "
    "Without this option it stays, unencrypted, in DIRECTORY/keys: good for a trial only.",
)
@click.option("--passphrase-fd", type=click.IntRange(min=0), default=None, help="Read the root key's passphrase from this file descriptor.")
def init(
    directory: Path,
    database: str,
    operator: str | None,
    name_ko: str | None,
    name_en: str | None,
    telephone: str,
    public_url: str,
    listen: str,
    line: str,
    console: str,
    merchant_console: str,
    root_key: Path | None,
    passphrase_fd: int | None,
    *,
    sandbox: bool,
) -> None:
    """Make DIRECTORY the data folder of a new operator: keys and certificates, settings, an empty book.

    \b
    Example:
      hanbit init /srv/hanbit --operator mybank --root-key /media/usb/mybank-root.key
      hanbit init ./test-bank --sandbox
      hanbit init /srv/hanbit --operator mybank --database postgresql://hanbit@db.internal/hanbit
    """
    from hanbit import folder
    from hanbit.db.place import shown
    from hanbit.kernel.clock import SystemClock
    from hanbit.settings import FILE, Settings

    if sandbox and root_key is not None:
        raise click.UsageError("--sandbox keeps its root key in the folder: it is worth nothing")
    passphrase = None
    if root_key is not None:
        passphrase = ask_secret("Passphrase for the root key", passphrase_fd, option="--passphrase-fd").encode("utf-8")
        if len(passphrase) < 8:  # noqa: PLR2004 - said in the message
            raise click.UsageError("the passphrase of the root key needs at least 8 characters")
    listen_host, listen_port = read_address(listen, "--listen")
    line_host, line_port = read_address(line, "--line")
    operator_host, operator_port = read_address(console, "--console")
    merchant_host, merchant_port = read_address(merchant_console, "--merchant-console")
    settings = Settings(
        operator=operator or ("sandbox-test" if sandbox else "demo"),
        name_ko=name_ko or ("한빛 시험은행" if sandbox else "한빛은행"),
        name_en=name_en or ("Hanbit Test Bank" if sandbox else "Hanbit Bank"),
        sandbox=sandbox,
        database=database,
        telephone=telephone,
        public_url=public_url.rstrip("/"),
        listen_host=listen_host,
        listen_port=listen_port,
        line_host=line_host,
        line_port=line_port,
        operator_host=operator_host,
        operator_port=operator_port,
        operator_url=f"http://console.localhost:{operator_port or CONSOLE_PORT}",
        merchant_host=merchant_host,
        merchant_port=merchant_port,
        merchant_url=f"http://merchant.localhost:{merchant_port or MERCHANT_CONSOLE_PORT}",
    )
    run(folder.create(directory, settings, SystemClock(), root_key=root_key, root_passphrase=passphrase))
    click.echo(f"{directory} is ready: settings in {directory / FILE}, root certificate in {directory / 'keys' / 'root.pem'}.")
    click.echo(f"The book: {shown(folder.place_of(directory, settings))}")
    if sandbox:
        from hanbit.cli.sandbox import open_samples

        open_samples(directory)
    elif root_key is None:
        click.echo("The root's private key lies in the folder, unencrypted. For real money make it again with --root-key.", err=True)
    else:
        click.echo(f"The root's private key is in {root_key}, encrypted. Take it off this machine.")
    click.echo(f"Next: hanbit serve --data {directory}")
    if operator_port:
        click.echo(f"Your way into the console at {settings.operator_url}, which has no default account:")
        click.echo(f"      hanbit staff invite YOUR-ID --role admin --data {directory}")


@click.command()
@data_option
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    default=1,
    show_default=True,
    help="Processes that share the work; more than one needs a PostgreSQL book. See docs/operating.md, Several processes.",
)
def serve(data: Path, workers: int) -> None:
    """Run the payment server on a data folder until it is told to stop (Ctrl-C or SIGTERM); log lines go to standard error as JSON.

    SIGHUP reads the site's certificate again. Started by systemd with Type=notify, it tells when it is ready and that it is alive.

    \b
    Example:
      hanbit serve --data /srv/hanbit
      hanbit serve --data /srv/hanbit --workers 4
    """
    import uvloop

    from hanbit import logs

    no_core_dumps()
    many_files()
    logs.configure()
    if workers == 1:
        uvloop.run(_serve(data))
    else:
        run(_serve_with(data, workers))


async def _serve(data: Path) -> None:
    from hanbit import server, service_manager
    from hanbit.collector import calm_collector
    from hanbit.kernel.clock import SystemClock

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # before there is anything to reload, a reload is no reason to die
    async with service_manager.watched(), server.running(data, SystemClock()) as running:
        calm_collector()
        loop.add_signal_handler(signal.SIGHUP, running.reload)
        public = running.gateway.settings.public_url
        click.echo(f"serving {public} (line on port {running.line_port})", err=True)
        service_manager.tell(f"READY=1\nSTATUS=serving {public}")
        await stop.wait()
        service_manager.tell("STOPPING=1\nSTATUS=answering what was asked")


async def _serve_with(data: Path, count: int) -> None:
    from hanbit import service_manager
    from hanbit.settings import Settings
    from hanbit.workers import parent

    def tell_ready(settings: Settings) -> None:
        click.echo(f"serving {settings.public_url} with {count} workers", err=True)
        service_manager.tell(f"READY=1\nSTATUS=serving {settings.public_url} with {count} workers")

    def tell_stopping() -> None:
        service_manager.tell("STOPPING=1\nSTATUS=answering what was asked")

    async with service_manager.watched():
        await parent.serve(data, count, on_ready=tell_ready, on_stop=tell_stopping)


def read_address(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT of an option."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:  # noqa: PLR2004 - TCP's ports
        raise click.UsageError(f"{option}: HOST:PORT, for example 127.0.0.1:8400")
    return host.strip("[]"), int(port)
