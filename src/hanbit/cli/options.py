"""Options and output that several commands share."""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

T = TypeVar("T")

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="HANBIT_DATA",
    required=True,
    help="The operator's data folder (or set HANBIT_DATA).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a fresh loop."""
    return asyncio.run(work)


def show(result: dict[str, Any], *, as_json: bool) -> None:
    """Print a command's result: one JSON object, or a line for each value and a table for each list."""
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    for name, value in result.items():
        if isinstance(value, list):
            _table(value)
        else:
            click.echo(f"{name}: {value}")


def ask_secret(prompt: str, descriptor: int | None) -> str:
    """A secret from a hidden prompt, or the next line of a file descriptor; never from the command line, where others can read it."""
    if descriptor is not None:
        line = bytearray()
        while (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
            line += byte
        return line.decode("utf-8", "replace").rstrip("\r")
    if not sys.stdin.isatty():
        raise click.UsageError(f"{prompt}: no terminal to ask on; pass --password-fd 0 and write it to standard input")
    return getpass.getpass(f"{prompt}: ")


password_option = click.option(
    "--password-fd", type=int, default=None, help="Read the password from this file descriptor instead of asking (0 is standard input)."
)


def _table(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("(none)")
        return
    columns = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in columns}
    click.echo("  ".join(name.ljust(widths[name]) for name in columns))
    for row in rows:
        click.echo("  ".join(str("" if row[name] is None else row[name]).ljust(widths[name]) for name in columns))
