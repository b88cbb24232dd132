"""`hanbit sandbox …`: what a test operator can do and a live one cannot: see the magic table."""

import json
from pathlib import Path
from typing import Any

import click

from hanbit.cli.options import CommandGroup, data_option, json_option, run, show

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
BY_DIGITS_MAX = 9
EVENTS = ("order.settled", "order.voided", "order.closed", "order.cancelled", "order.confirm")


@click.group(cls=CommandGroup)
def sandbox() -> None:
    """A test operator (`hanbit init DIR --sandbox`): magic accounts and amounts, a clock that moves, a trigger for each call-back.

    No live folder has these commands.

    \b
    Example:
      hanbit init ./test-bank --sandbox
      hanbit sandbox magic
      hanbit sandbox clock +15m --data ./test-bank
      hanbit sandbox trigger order.settled --merchant shop --shop ./shop-keys --data ./test-bank
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


@sandbox.command("clock")
@click.argument("by", default="now")
@data_option
@json_option
def move_clock(by: str, data: Path, as_json: bool) -> None:
    """Move the sandbox's clock forward BY +90s, +15m, +2h or +3d, or say what time it is (now). At most 25 days at once; never back.

    Holds and orders expire, call-backs and renewals fall due at once. Shops follow when their line, which is hung up for it, comes back.

    \b
    Example:
      hanbit sandbox clock +15m --data ./test-bank
      hanbit sandbox clock now --data ./test-bank --json
    """
    show(_ask(data, "sandbox_clock", by=str(_seconds(by))), as_json=as_json)


@sandbox.command("trigger")
@click.argument("event", type=click.Choice(EVENTS))
@click.option("--merchant", required=True, help="The merchant whose order it is.")
@click.option("--tid", default="", help="Which order; the newest open one by default.")
@click.option("--address", default="", help="The order's payment address, as the shop got it.")
@click.option("--shop", type=click.Path(path_type=Path, file_okay=False), default=None, help="The shop's own folder.")
@data_option
@json_option
def trigger(event: str, merchant: str, tid: str, address: str, shop: Path | None, data: Path, as_json: bool) -> None:
    """Make EVENT's call-back come by the true flow: a sample customer visits a real order of this merchant. Says what was done.

    The order is found by --address, in the shop's own folder (--shop), or among those that a customer has logged in for.
    order.cancelled needs --shop, for only a shop cancels; order.voided moves the clock.

    \b
    Example:
      hanbit sandbox trigger order.settled --merchant shop --shop ./shop-keys --data ./test-bank
    """
    from hanbit.kernel.clock import SystemClock
    from hanbit.sandbox.trigger import play

    _must_be_sandbox(data)
    played = run(play(data, event, SystemClock(), merchant=merchant, tid=tid, address=address, shop=shop))
    if as_json:
        show(played, as_json=True)
        return
    for step in played["did"]:
        click.echo(f"TEST: {step}")


def _ask(data: Path, command: str, **arguments: str) -> dict[str, Any]:
    from hanbit import control
    from hanbit.sandbox.commands import COMMANDS

    _must_be_sandbox(data)
    return run(control.run_of(COMMANDS, data, command, arguments))


def _must_be_sandbox(data: Path) -> None:
    from hanbit.kernel.errors import BadInput
    from hanbit.settings import load

    if not load(data).sandbox:
        raise BadInput(f"{data} is no sandbox: a live folder has none of these commands")


def _seconds(text: str) -> int:
    """`+15m` as seconds, `now` as none."""
    if text == "now":
        return 0
    digits, unit = text[1:-1], text[-1:]
    if text[:1] != "+" or unit not in UNITS or not digits.isascii() or not digits.isdigit() or len(digits) > BY_DIGITS_MAX:
        raise click.UsageError("BY: +90s, +15m, +2h, +3d, or now; a clock only goes forward")
    return int(digits) * UNITS[unit]


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
