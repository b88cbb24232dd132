"""`hanbit ledger …`: prove the book from the store alone, print statements, fund the reserve."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from hanbit.cli.options import CommandGroup, book_of, data_option, json_option, operate, show


@click.group(cls=CommandGroup)
def ledger() -> None:
    """The book: check it, read statements, fund the reserve.

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

    with Console(stderr=True).status("opening the book") as status:
        report = check_book(_open(data), lambda promise: status.update(f"checking: {promise.replace('_', ' ')}"))
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
    connection = _open(data)
    row = connection.execute("SELECT * FROM ledger_accounts WHERE id = ?", (account,)).fetchone()
    if row is None:
        raise click.ClickException(f"no ledger account {account}\nSee: hanbit account list; a merchant's is merchant:<id>:<currency>")
    lines = connection.execute(
        "SELECT e.number, e.at, e.kind, e.payment, p.side, p.posted, p.balance FROM postings p JOIN entries e ON e.number = p.entry "
        "WHERE p.account = ? AND p.posted > 0 ORDER BY p.entry DESC LIMIT ?",
        (account, limit),
    ).fetchall()
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
