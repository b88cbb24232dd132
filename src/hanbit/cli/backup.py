"""`hanbit backup`, `hanbit restore`, `hanbit upgrade`, `hanbit migrate`: what keeps a data folder through accidents and releases."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from hanbit.cli.options import ask_secret, data_option, json_option, show

file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
passphrase_option = click.option(
    "--passphrase-fd", type=click.IntRange(min=0), default=None, help="Read the passphrase from this file descriptor instead of asking."
)


@click.group(invoke_without_command=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="HANBIT_DATA",
    help="The operator's data folder (or set HANBIT_DATA).",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The new file; its folder must be there.")
@click.option("--with-keys", is_flag=True, help="Put the private keys in too, sealed under a passphrase.")
@passphrase_option
@json_option
@click.pass_context
def backup(ctx: click.Context, data: Path | None, output: Path | None, with_keys: bool, passphrase_fd: int | None, as_json: bool) -> None:
    """Back up a data folder to one file, while its server runs; the file is read back and the book in it proved.

    Private keys and pepper are not in it, unless --with-keys: keep a copy of DIR/keys elsewhere, or a passphrase.

    \b
    Example:
      hanbit backup --data /srv/hanbit -o /media/backup/monday.hanbit
      hanbit backup --data /srv/hanbit -o /media/vault/whole.hanbit --with-keys
      hanbit backup verify /media/backup/monday.hanbit
    """
    if ctx.invoked_subcommand is not None:
        return
    if data is None or output is None:
        raise click.UsageError("--data DIR and -o FILE are needed; see: hanbit backup --help")
    from hanbit.kernel.clock import SystemClock
    from hanbit.upkeep.backup import backup as back_up

    passphrase = ask_secret("Passphrase for the keys", passphrase_fd, option="--passphrase-fd") if with_keys else None
    with _telling() as say:
        made = back_up(data, output.absolute(), SystemClock(), passphrase=passphrase, say=say)
    show(made.shown(), as_json=as_json)


@backup.command("verify")
@file_argument
@json_option
def verify(file: Path, as_json: bool) -> None:
    """Read every byte of a backup and prove the book in it; needs no key. Exit status 1 if anything is wrong.

    \b
    Example:
      hanbit backup verify /media/backup/monday.hanbit
    """
    from hanbit.upkeep.backup import verify as verify_backup

    # Beside the backup there is room for its book; on a medium that cannot be written to, where temporary files go.
    beside = file.absolute().parent if os.access(file.absolute().parent, os.W_OK) else None
    with _telling() as say, tempfile.TemporaryDirectory(dir=beside, prefix=".hanbit-verify-") as scratch:
        manifest, proof = verify_backup(file, Path(scratch), say)
    made_at = datetime.fromtimestamp(manifest.made_at, UTC).isoformat()
    show({"backup": str(file), "made_at": made_at, "program": manifest.program} | proof.shown(), as_json=as_json)


@click.command()
@file_argument
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="The new data folder: missing, or empty.")
@click.option(
    "--keys",
    "keys_folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=None,
    help="The keys folder that was kept apart; without it the keys come from the backup, with its passphrase.",
)
@passphrase_option
@json_option
def restore(file: Path, data: Path, keys_folder: Path | None, passphrase_fd: int | None, as_json: bool) -> None:
    """Make a data folder from a backup and its keys. The backup is verified before anything is written.

    \b
    Example:
      hanbit restore /media/backup/monday.hanbit --data /srv/hanbit-new --keys /media/vault/keys
      hanbit restore /media/vault/whole.hanbit --data /srv/hanbit-new
    """
    from hanbit.upkeep import archive
    from hanbit.upkeep.restore import restore as restore_folder

    with _telling() as say:
        passphrase = None
        if keys_folder is None and archive.KEYS in archive.check(file)[1]:
            passphrase = ask_secret("Passphrase of the backup", passphrase_fd, option="--passphrase-fd")
        result = restore_folder(file, data, passphrase=passphrase, keys_folder=keys_folder, say=say)
    show(result, as_json=as_json)
    if not as_json:
        click.echo(f"Merchants may hold outcomes that are later than this book; read docs/operating.md, then: hanbit serve --data {data}")


@click.command()
@data_option
@click.option(
    "--backup",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Where the backup goes; without it beside the book, as before-upgrade-<time>.hanbit.",
)
@json_option
def upgrade(data: Path, target: Path | None, as_json: bool) -> None:
    """Bring the book of an earlier release to this one's schema: stop the server first. Makes a verified backup, migrates, proves.

    \b
    Example:
      hanbit upgrade --data /srv/hanbit --backup /media/backup/before-upgrade.hanbit
    """
    from hanbit.kernel.clock import SystemClock
    from hanbit.upkeep.upgrade import upgrade as upgrade_folder

    clock = SystemClock()
    name = datetime.fromtimestamp(clock.now(), UTC).strftime("before-upgrade-%Y%m%dT%H%M%SZ.hanbit")
    with _telling() as say:
        upgraded = upgrade_folder(data, (target or data / name).absolute(), clock, say)
    show(upgraded.shown(), as_json=as_json)
    if not as_json and upgraded.backup is None:
        click.echo("There is nothing to do.")


@click.command()
@data_option
@click.option(
    "--database",
    envvar="HANBIT_DATABASE",
    required=True,
    help="The empty PostgreSQL database, postgresql://USER@HOST/DATABASE (or set HANBIT_DATABASE).",
)
@json_option
def migrate(data: Path, database: str, as_json: bool) -> None:
    """Move the book from its SQLite file into a PostgreSQL database: stop the server first. Proves that both are the same, then switches.

    \b
    Example:
      hanbit migrate --data /srv/hanbit --database postgresql://hanbit@db.internal/hanbit
    """
    from hanbit.upkeep.migrate import migrate as migrate_folder

    with _telling() as say:
        moved = migrate_folder(data, database, say)
    show(moved.shown(), as_json=as_json)
    if not as_json:
        click.echo(f"The file is kept as {moved.kept}. Next: hanbit serve --data {data}")


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Say on standard error what is being done, where somebody looks."""
    from rich.console import Console

    with Console(stderr=True).status("looking") as status:
        yield status.update
