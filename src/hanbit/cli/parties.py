"""`hanbit customer …` and `hanbit account …`: through the running server when there is one."""

from pathlib import Path

import click

from hanbit.cli.options import CommandGroup, ask_secret, data_option, json_option, operate, password_option, show


@click.group(cls=CommandGroup)
def customer() -> None:
    """Customers: create, list, suspend, resume, codes for their wallets, links for a forgotten password, mail addresses.

    \b
    Example:
      hanbit customer create hong --name 홍길동 --data /srv/hanbit
    """


@customer.command("create")
@click.argument("login")
@click.option("--name", required=True, help="The person's name, as receipts and pages show it.")
@click.option("--language", type=click.Choice(["ko", "en"]), default="ko", show_default=True, help="Language of messages.")
@password_option
@data_option
@json_option
def create_customer(login: str, name: str, language: str, password_fd: int | None, data: Path, as_json: bool) -> None:
    """Create a customer with a log-in password.

    \b
    Example:
      hanbit customer create hong --name 홍길동 --data /srv/hanbit
    """
    password = ask_secret("Log-in password", password_fd)
    show(operate(data, "create_customer", login=login, name=name, language=language, password=password), as_json=as_json)


@customer.command("list")
@data_option
@json_option
def list_customers(data: Path, as_json: bool) -> None:
    """List customers, newest first.

    \b
    Example:
      hanbit customer list --data /srv/hanbit
    """
    show(operate(data, "list_parties", what="customers"), as_json=as_json)


@customer.command("enrol-code")
@click.argument("login")
@data_option
@json_option
def enrol_code(login: str, data: Path, as_json: bool) -> None:
    """Make a one-time code with which the customer enrols a wallet (`hanbit wallet enrol`).

    \b
    Example:
      hanbit customer enrol-code hong --data /srv/hanbit
    """
    show(operate(data, "enrol_code", login=login), as_json=as_json)


@customer.command("password-link")
@click.argument("login")
@click.option("--reason", required=True, help="How he has proved who he is; kept in the audit.")
@data_option
@json_option
def password_link(login: str, reason: str, data: Path, as_json: bool) -> None:
    """Make a one-time link by which a customer who has forgotten it sets a new log-in password; it works for an hour.

    \b
    Example:
      hanbit customer password-link hong --reason "came to the counter with his passport" --data /srv/hanbit
    """
    show(operate(data, "make_password_link", login=login, reason=reason), as_json=as_json)


@customer.command("email")
@click.argument("login")
@click.argument("address")
@data_option
@json_option
def set_email(login: str, address: str, data: Path, as_json: bool) -> None:
    """Send a link to a mail address; the customer is written to there once he has opened it and confirmed it. "none" removes his.

    \b
    Example:
      hanbit customer email hong hong@example.com --data /srv/hanbit
    """
    show(operate(data, "set_email", login=login, email=address), as_json=as_json)


@click.group(cls=CommandGroup)
def account() -> None:
    """Customers' accounts: create, list, fund, limit, suspend, resume.

    \b
    Example:
      hanbit account create hong bank --data /srv/hanbit
    """


@account.command("create")
@click.argument("login")
@click.argument("kind", type=click.Choice(["bank", "card", "emoney"]))
@click.option("--credit-limit", default="0", help="A card's credit line, in minor units.")
@click.option("--currency", default="", help="ISO 4217 code; the operator's own by default.")
@click.option(
    "--number-fd",
    type=click.IntRange(min=0),
    default=None,
    help="Read the account or card number from this file descriptor, one line, instead of asking; the password may be its next line.",
)
@password_option
@data_option
@json_option
def create_account(
    login: str,
    kind: str,
    credit_limit: str,
    currency: str,
    number_fd: int | None,
    password_fd: int | None,
    data: Path,
    as_json: bool,
) -> None:
    """Create an account with a password of its own; number and password are asked for.

    The number is no argument, because other users of this machine can read those. It is kept as a keyed hash and a mask, never whole.

    \b
    Example:
      hanbit account create hong card --credit-limit 1000000 --data /srv/hanbit
    """
    number = ask_secret("Account or card number", number_fd, option="--number-fd").replace(" ", "").replace("-", "")
    password = ask_secret("Account password", password_fd)
    result = operate(
        data, "create_account", login=login, kind=kind, number=number, credit_limit=credit_limit, currency=currency, password=password
    )
    show(result, as_json=as_json)


@account.command("list")
@data_option
@json_option
def list_accounts(data: Path, as_json: bool) -> None:
    """List accounts with balances and holds, in minor units.

    \b
    Example:
      hanbit account list --data /srv/hanbit --json
    """
    show(operate(data, "list_parties", what="accounts"), as_json=as_json)


@account.command("fund")
@click.argument("account_id")
@click.argument("amount")
@click.option("--id", "entry", default="", help="Your own id of this payment in: the same id again changes nothing more.")
@data_option
@json_option
def fund(account_id: str, amount: str, entry: str, data: Path, as_json: bool) -> None:
    """Pay AMOUNT (minor units) into an account, from the operator's cash.

    \b
    Example:
      hanbit account fund 2hZk0w3bQ1ePmZs9Xx7C4Q 500000 --data /srv/hanbit
    """
    show(operate(data, "fund", account=account_id, amount=amount, id=entry), as_json=as_json)


@account.command("limits")
@click.argument("account_id")
@click.option("--payment", default="", help='The largest single payment, in minor units; "none" takes the limit away.')
@click.option("--day", default="", help='What all payments of 24 hours may come to, in minor units; "none" takes the limit away.')
@click.option("--reason", required=True, help="Why; kept in the audit.")
@data_option
@json_option
def account_limits(account_id: str, payment: str, day: str, reason: str, data: Path, as_json: bool) -> None:
    """Set the bank's limits of an account from the next payment on; of these and the customer's own the lower count.

    \b
    Example:
      hanbit account limits 2hZk0w3bQ1ePmZs9Xx7C4Q --payment 500000 --day none --reason "asked at the counter" --data /srv/hanbit
    """
    show(operate(data, "set_account_limits", account=account_id, payment=payment, day=day, reason=reason), as_json=as_json)


def state_commands(group: click.Group, what: str, argument: str) -> None:
    """Give a group its `suspend` and `resume`."""
    for verb, state in (("suspend", "suspended"), ("resume", "active")):

        @click.argument("name", metavar=argument)
        @click.option("--reason", default="", help="Why; kept in the audit.")
        @data_option
        @json_option
        def set_state(name: str, reason: str, data: Path, as_json: bool, state: str = state) -> None:
            show(operate(data, "set_state", what=what, id=name, state=state, reason=reason), as_json=as_json)

        article = "an" if what[0] in "aeiou" else "a"
        example = f"\n\n\b\nExample:\n  hanbit {what} {verb} {argument} --reason 'asked by telephone' --data /srv/hanbit"
        group.command(verb, help=f"{verb.capitalize()} {article} {what}; decided anew for the next payment.{example}")(set_state)


state_commands(customer, "customer", "LOGIN")
state_commands(account, "account", "ACCOUNT")
