"""`hanbit day …`: close days, show what they came to, print statements and the trial balance."""

import csv
import sys
from pathlib import Path
from typing import Any

import click

from hanbit.cli.options import CommandGroup, data_option, json_option, operate, show


@click.group(cls=CommandGroup)
def day() -> None:
    """Days: close them, show what they came to, print a merchant's statements and the trial balance.

    \b
    Example:
      hanbit day close --data /srv/hanbit
    """


@day.command("close")
@click.option("--through", default="", help="The last day to close, YYYY-MM-DD; yesterday by default.")
@click.option("--reason", default="", help="Kept in the audit.")
@data_option
@json_option
def close(through: str, reason: str, data: Path, as_json: bool) -> None:
    """Close every day that has ended, in order: fees are taken, merchants' statements written, payouts made.

    What was cut short goes on where it stopped. Days are those of the setting time_zone.

    \b
    Example:
      hanbit day close --through 2027-01-31 --data /srv/hanbit
    """
    show(operate(data, "close_days", through=through, reason=reason), as_json=as_json)


@day.command("show")
@click.argument("the_day", metavar="DAY")
@click.option("--csv", "as_csv", is_flag=True, help="Print the statements as CSV.")
@data_option
@json_option
def show_day(the_day: str, as_csv: bool, data: Path, as_json: bool) -> None:
    """Show what a closed DAY (YYYY-MM-DD) came to, and the statement of each merchant; amounts in minor units.

    \b
    Example:
      hanbit day show 2027-01-31 --csv --data /srv/hanbit
    """
    found = operate(data, "show_day", day=the_day)
    if as_csv:
        write_csv(found["statements"])
    else:
        show(found, as_json=as_json)


@day.command("statements")
@click.argument("merchant")
@click.option("--before", default="", help="Days before this one, YYYY-MM-DD.")
@click.option("--csv", "as_csv", is_flag=True, help="Print them as CSV.")
@data_option
@json_option
def statements(merchant: str, before: str, as_csv: bool, data: Path, as_json: bool) -> None:
    """Print a merchant's days, the newest first: captured, refunded, fees, net and paid out, in minor units.

    \b
    Example:
      hanbit day statements shop --csv --data /srv/hanbit
    """
    found = operate(data, "show_statements", merchant=merchant, before=before)
    if as_csv:
        write_csv(found["statements"])
    else:
        show(found, as_json=as_json)


@day.command("trial-balance")
@data_option
@json_option
@click.pass_context
def trial_balance(ctx: click.Context, data: Path, as_json: bool) -> None:
    """Add up every account; exit status 1 if debits and credits differ in a currency.

    \b
    Example:
      hanbit day trial-balance --data /srv/hanbit --json
    """
    found = operate(data, "trial_balance")
    show(found, as_json=as_json)
    ctx.exit(0 if all(row["balanced"] for row in found["sums"]) else 1)


def write_csv(rows: list[dict[str, Any]]) -> None:
    """Rows as CSV; they have numbers, days and ids of small letters in them, and nothing that a spreadsheet would run."""
    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
