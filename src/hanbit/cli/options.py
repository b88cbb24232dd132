"""Options and output that several commands share."""

import asyncio
import getpass
import json
import os
import sys
import unicodedata
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from hanbit.db.place import Place

T = TypeVar("T")
SHORT_HELP_MAX = 160
"""Letters of a command's line in the list of its group."""
SECRET_MAX = 1024
"""Bytes of a secret that is read from a descriptor."""

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="HANBIT_DATA",
    required=True,
    help="The operator's data folder (or set HANBIT_DATA).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
password_option = click.option(
    "--password-fd",
    type=click.IntRange(min=0),
    default=None,
    help="Read the password from this file descriptor, one line, instead of asking (0 is standard input).",
)


class CommandGroup(click.Group):
    """A group whose list shows the whole first sentence of each command, under headings where there are any."""

    def __init__(self, *arguments: Any, headings: Mapping[str, Sequence[str]] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._headings = headings

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one meets them."""
        del ctx
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list; a heading says already where a command belongs."""
        for heading, names in (self._headings or {"Commands": self.list_commands(ctx)}).items():
            told = ((name, self.commands[name].get_short_help_str(SHORT_HELP_MAX).removeprefix(f"{heading}: ")) for name in names)
            with formatter.section(heading):
                formatter.write_dl([(name, text[:1].upper() + text[1:]) for name, text in told])


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a fresh loop."""
    return asyncio.run(work)


def book_of(data: Path) -> "Place":
    """Where the folder's book lies; the command ends where there is none."""
    from hanbit.folder import place_at

    place = place_at(data)
    if isinstance(place, Path) and not place.exists():
        raise click.ClickException(f"{place} is missing\nMake a data folder with: hanbit init {data}")
    return place


def operate(data: Path, command: str, **arguments: str) -> dict[str, Any]:
    """One of the operator's commands, here or in the server that holds the folder."""
    # Imported here: it brings the whole server with it, which neither --help nor a shop needs.
    from hanbit import control

    return run(control.run(data, command, **arguments))


def show(result: dict[str, Any], *, as_json: bool) -> None:
    """Print a command's result: one JSON object, or a line for each value and a table for each list."""
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    for name, value in result.items():
        if value == []:
            click.echo(f"{name}: none")
        elif isinstance(value, list):
            _table(value)
        elif value is not None:
            click.echo(f"{name}: {_cell(name, value)}")


def ask_secret(prompt: str, descriptor: int | None, *, option: str = "--password-fd") -> str:
    """A secret from a hidden prompt, or the next line of a file descriptor; never from the command line, where others can read it."""
    if descriptor is not None:
        return _read_line(descriptor, option)
    if not sys.stdin.isatty():
        raise click.UsageError(f"{prompt}: no terminal to ask on; pass {option} 0 and write it to standard input")
    return getpass.getpass(f"{prompt}: ")


def _read_line(descriptor: int, option: str) -> str:
    """Byte by byte, so that what follows stays for whoever reads this descriptor next."""
    line = bytearray()
    try:
        while (byte := os.read(descriptor, 1)) not in {b"", b"\n"}:
            line += byte
            if len(line) > SECRET_MAX:
                raise click.UsageError(f"{option}: at most {SECRET_MAX} bytes and then a line end")
        text = line.decode("utf-8").removesuffix("\r")
    except OSError as error:
        raise click.UsageError(f"{option} {descriptor}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{option}: not UTF-8") from error
    if not text:
        raise click.UsageError(f"{option}: nothing was written to file descriptor {descriptor}")
    return text


def _table(rows: list[dict[str, Any]]) -> None:
    cells = [list(rows[0]), *([_cell(name, value) for name, value in row.items()] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        click.echo("  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(name: str, value: Any) -> str:
    """A value as a person reads it; a moment (`…_at`, whole seconds) as its UTC time."""
    if name.endswith("_at") and isinstance(value, int):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "" if value is None else str(value)


def _width(text: str) -> int:
    """Columns on a terminal: a Hangul syllable takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1 for letter in text)
