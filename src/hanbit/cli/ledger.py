"""`hanbit ledger …`: prove the book from the store alone, print statements, export a journal, fund the reserve."""

import json
import os
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from hanbit.cli.options import CommandGroup, book_of, data_option, json_option, operate, show

_LINES = (
    "SELECT e.number, e.at, e.kind, e.payment, p.side, p.posted, p.balance FROM postings p JOIN entries e ON e.number = p.entry "
    "WHERE p.account = ? AND p.posted > 0 ORDER BY p.entry DESC LIMIT ?"
)


@click.group(cls=CommandGroup)
def ledger() -> None:
    """The book: check it, read statements, export it, fund the reserve.

    \b
    Example:
      hanbit ledger check --data /srv/hanbit
    """


@ledger.command("check")
@data_option
@json_option
@click.pass_context
def check(ctx: click.Context, data: Path, as_json: bool) -> None:
    """Prove the money promises from the store alone; exit status 1 if one is broken. May run beside a serving server.

    \b
    Example:
      hanbit ledger check --data /srv/hanbit --json
    """
    from rich.console import Console

    from hanbit.ledger.check import CHECKS
    from hanbit.ledger.check import check as check_book

    with Console(stderr=True).status("opening the book") as status, closing(_open(data)) as connection:
        report = check_book(connection, lambda promise: status.update(f"checking: {promise.replace('_', ' ')}"))
    if as_json:
        result = {"balanced": report.balanced, "entries": report.entries, "accounts": report.accounts, "broken": report.broken}
        click.echo(json.dumps(result))
    else:
        for promise in CHECKS:
            found = report.broken.get(promise)
            click.echo(f"{'BROKEN' if found else 'ok    '}  {promise.replace('_', ' ')}{f': {found}' if found else ''}")
        click.echo(
            f"{report.entries} entries, {report.accounts} accounts: {'the book is whole' if report.balanced else 'THE BOOK IS BROKEN'}"
        )
    ctx.exit(0 if report.balanced else 1)


@ledger.command("statement")
@click.argument("account")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many lines, the newest first.")
@data_option
@json_option
def statement(account: str, limit: int, data: Path, as_json: bool) -> None:
    """Print the statement of a ledger account: what was posted, with the running balance; amounts in minor units.

    \b
    Example:
      hanbit ledger statement merchant:shop:KRW --data /srv/hanbit
    """
    with closing(_open(data)) as connection:
        row = connection.execute("SELECT * FROM ledger_accounts WHERE id = ?", (account,)).fetchone()
        lines = connection.execute(_LINES, (account, limit)).fetchall()
    if row is None:
        raise click.ClickException(f"no ledger account {account}\nSee: hanbit account list; a merchant's is merchant:<id>:<currency>")
    found = [
        {
            "entry": line["number"],
            "at": datetime.fromtimestamp(line["at"], UTC).isoformat(),
            "kind": line["kind"],
            "payment": line["payment"],
            "side": line["side"],
            "amount": line["posted"],
            "balance": line["balance"],
        }
        for line in lines
    ]
    held = row["debits_pending"]
    show({"account": account, "currency": row["currency"], "held": held, "lines": found}, as_json=as_json)


@ledger.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--format", "form", type=click.Choice(["hledger", "beancount"]), required=True, help="Whose journal format.")
@click.option(
    "--from", "since", default="", help="First day, YYYY-MM-DD; the balances of then stand before it. The book's first by default."
)
@click.option("--to", "until", default="", help="Last day, YYYY-MM-DD; the book's last by default.")
@data_option
def export(file: Path, form: str, since: str, until: str, data: Path) -> None:
    """Write the ledger as a plain-text journal into a new FILE (- is standard output), for hledger or beancount to read and to prove.

    All that was posted, exact to the minor unit, with a balance assertion for every account at its end. Days are those of the setting
    time_zone. May run beside a serving server.

    \b
    Example:
      hanbit ledger export 2027.journal --format hledger --from 2027-01-01 --to 2027-12-31 --data /srv/hanbit
      hledger check --strict --file 2027.journal
    """
    from hanbit import settings as configuration
    from hanbit.kernel.days import read_day
    from hanbit.ledger import journal

    settings = configuration.load(data)
    zone = settings.zone
    connection = _open(data)
    first, last = (read_day(day) if day else None for day in (since, until))
    of = journal.span(connection, zone, first, last)
    if of.ends < of.begins:
        raise click.UsageError("--to is before --from, or before the book's first day")
    text = journal.write(connection, journal.FORMS[form](), of, operator=settings.operator, zone=settings.time_zone, days=zone)
    if str(file) == "-":
        sys.stdout.writelines(text)
        return
    try:
        # O_EXCL: what is there may be another year's.
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as written:
            written.writelines(text)
    except FileExistsError as error:
        raise click.ClickException(f"{file} exists\nName a new file, or move that one away.") from error
    click.echo(f"{file}: entries {of.first} to {of.last}, {of.begins} to {of.ends}")


@ledger.command("fund-reserve")
@click.argument("amount")
@click.option("--currency", default="", help="ISO 4217 code; the operator's own by default.")
@click.option("--id", "entry", default="", help="Your own id of this act: the same id again changes nothing more.")
@data_option
@json_option
def fund_reserve(amount: str, currency: str, entry: str, data: Path, as_json: bool) -> None:
    """Set AMOUNT (minor units) of the operator's cash aside for refunds that a merchant's account cannot cover.

    It is lent only where the setting refund_shortfall is "reserve".

    \b
    Example:
      hanbit ledger fund-reserve 5000000 --id 2027-q1 --data /srv/hanbit
    """
    show(operate(data, "fund_reserve", amount=amount, currency=currency, id=entry), as_json=as_json)


@ledger.command("reserve")
@data_option
@json_option
def reserve(data: Path, as_json: bool) -> None:
    """Show what is left of the reserve and what each merchant owes to it, in minor units.

    \b
    Example:
      hanbit ledger reserve --data /srv/hanbit --json
    """
    show(operate(data, "reserve"), as_json=as_json)


def _open(data: Path) -> Any:
    from hanbit.db import place as places
    from hanbit.db import sqlite_file
    from hanbit.db.sqlite import check_schema

    path = book_of(data)
    connection = places.open_for_reading(path, patient=True)
    if not isinstance(path, Path):
        return connection  # held against this program's schema when it was opened
    try:
        check_schema(connection, path)
    except sqlite_file.DatabaseError as error:
        raise click.ClickException(
            f"{path} cannot be read as a book: {error}\nRestore it from a backup; hanbit doctor --data {data}"
        ) from error
    return connection
