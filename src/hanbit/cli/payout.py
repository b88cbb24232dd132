"""`hanbit payout …`: what merchants are being paid by bank, and what the bank says of it."""

import csv
import json
from pathlib import Path
from typing import Any

import click

from hanbit.cli.options import CommandGroup, data_option, json_option, operate, show

COLUMNS = ("reference", "amount", "currency")
AT_ONCE = 1_000
"""Lines of a bank's file that go to the server together."""
FILE_MAX = 16 << 20


@click.group(cls=CommandGroup)
def payout() -> None:
    """Payouts: list them, tell the bank, confirm, mark as failed, compare with the bank's file.

    \b
    Example:
      hanbit payout list --data /srv/hanbit
    """


@payout.command("list")
@click.option(
    "--state",
    type=click.Choice(["instructed", "confirmed", "failed", "returned"]),
    default="instructed",
    show_default=True,
    help="Which ones.",
)
@data_option
@json_option
def list_payouts(state: str, data: Path, as_json: bool) -> None:
    """List payouts, the oldest days first; amounts in minor units.

    \b
    Example:
      hanbit payout list --state failed --data /srv/hanbit
    """
    show(operate(data, "list_payouts", state=state), as_json=as_json)


@payout.command("instructions")
@click.option("--reason", default="", help="Kept in the audit: whole account numbers are shown.")
@data_option
@json_option
def instructions(reason: str, data: Path, as_json: bool) -> None:
    """Print what the bank must be told of every open payout: reference, bank, whole account number, amount.

    \b
    Example:
      hanbit payout instructions --reason "file for the bank" --json --data /srv/hanbit
    """
    show(operate(data, "instructions", reason=reason), as_json=as_json)


@payout.command("confirm")
@click.argument("reference")
@click.option("--reason", default="", help="Kept with the payout and in the audit.")
@data_option
@json_option
def confirm(reference: str, reason: str, data: Path, as_json: bool) -> None:
    """The bank has paid: the money has left the operator's cash.

    \b
    Example:
      hanbit payout confirm 7KQ4-M2XD --reason "bank statement 12" --data /srv/hanbit
    """
    show(operate(data, "confirm_payout", reference=reference, reason=reason), as_json=as_json)


@payout.command("fail")
@click.argument("reference")
@click.option("--reason", required=True, help="Kept with the payout and in the audit.")
@data_option
@json_option
def fail(reference: str, reason: str, data: Path, as_json: bool) -> None:
    """The bank has not paid, or it came back: the merchant has its money again, and the next payout takes it along.

    \b
    Example:
      hanbit payout fail 7KQ4-M2XD --reason "account closed" --data /srv/hanbit
    """
    show(operate(data, "fail_payout", reference=reference, reason=reason), as_json=as_json)


@payout.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@data_option
@json_option
@click.pass_context
def import_file(ctx: click.Context, file: Path, data: Path, as_json: bool) -> None:
    """Compare the bank's FILE (CSV with the columns reference, amount, currency) with our payouts.

    What agrees is confirmed; what differs is named, left as it is, and the exit status is 1. Amounts are in minor units.

    \b
    Example:
      hanbit payout import bank-2027-01.csv --data /srv/hanbit
    """
    lines = read_lines(file)
    report: dict[str, list[Any]] = {"confirmed": [], "confirmed_before": [], "differs": []}
    for start in range(0, len(lines), AT_ONCE):
        portion = json.dumps(lines[start : start + AT_ONCE])
        for name, found in operate(data, "reconcile_payouts", lines=portion, source=f"file {file.name}"[:200]).items():
            report[name] += found
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        show({name: len(found) for name, found in report.items()} | {"what_differs": report["differs"]}, as_json=False)
    ctx.exit(1 if report["differs"] else 0)


def read_lines(file: Path) -> list[dict[str, str]]:
    """The lines of a bank's file; other columns are left out."""
    if file.stat().st_size > FILE_MAX:
        raise click.ClickException(f"{file} is larger than {FILE_MAX >> 20} MiB\nSplit it.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            found = csv.DictReader(opened, strict=True)
            rows = [{name: (row[name] or "").strip() for name in COLUMNS} for row in found]
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise click.ClickException(f"{file}: not read: {error}\nIt must be CSV in UTF-8 with the columns {', '.join(COLUMNS)}.") from error
    return rows
