"""`hanbit sandbox …`: what a test operator can do and a live one cannot: see the magic table."""

import json
from pathlib import Path

import click

from hanbit.cli.options import json_option, run


@click.group()
def sandbox() -> None:
    """A test operator (`hanbit init DIR --sandbox`): magic accounts and amounts. No live folder has these commands.

    \b
    Example:
      hanbit init ./test-bank --sandbox
      hanbit sandbox magic
    """


@sandbox.command("magic")
@json_option
def show_magic(as_json: bool) -> None:
    """Print every magic customer, account and amount, the same in each sandbox.

    \b
    Example:
      hanbit sandbox magic
      hanbit sandbox magic --json
    """
    from hanbit.sandbox import magic

    if as_json:
        click.echo(json.dumps(magic.as_json(), ensure_ascii=False))
        return
    click.echo(magic_text())


def magic_text() -> str:
    """The table for a terminal."""
    from hanbit.sandbox import magic

    lines = ["Customers (ID / password):"]
    lines += [f"  {person.login:<10} {person.password:<18} {person.does.en}" for person in magic.PEOPLE]
    lines.append("Accounts (number / account password):")
    lines += [f"  {one.login:<10} {one.kind:<7} {one.number:<17} {one.password:<10} {one.does.en}" for one in magic.ACCOUNTS]
    lines.append(f"  {'':<54} {magic.WRONG_PASSWORD.en}")
    lines.append("Amounts whose minor units end in:")
    lines += [f"  …{row.ending}  {row.does.en}" for row in magic.AMOUNTS]
    return "\n".join(lines)


def open_samples(directory: Path) -> None:
    """Fill a new sandbox and print what it is good for."""
    from hanbit.kernel.clock import SystemClock
    from hanbit.sandbox import samples

    made = run(samples.open_samples(directory, SystemClock()))
    click.echo(f"TEST: {made['operator']} is a sandbox. No real money, no real customers; its root key may stay in {directory / 'keys'}.")
    click.echo(magic_text())
    click.echo(f"All of this, with the accounts' ids, is in {directory / samples.FILE}.")
