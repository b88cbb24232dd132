"""`hanbit wallet`: trust an operator's root, enrol this computer, pay, and show what the wallet holds.

A secret is typed at a hidden prompt, or comes line by line from a file descriptor (`--answers-fd`), never from the command line.
"""

import asyncio
import functools
import io
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hanbit.cli.options import CommandGroup
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput, HanbitError, ProtocolViolation, TooManyTries, Unavailable
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money
from hanbit.wallet.client import GatewayRefused, Http, MovedOn, printable, read_address
from hanbit.wallet.enrol import enrol as enrol_device
from hanbit.wallet.pay import Account, BadReceipt, Device, Factor, OneTimeCode, Opened, Outcome, Password, Screen, Wallet
from hanbit.wallet.store import Enrolment, Store, read_root, read_root_file, thumbprint

ANSWERS_MAX: Final = 4_096
"""Bytes of all the answers from a file descriptor."""
RECEIPTS_SHOWN: Final = 10
UNKNOWN: Final = 3
"""The exit code when the outcome is not known yet; 1 means that nothing was paid."""
_PAUSE_S: Final = 0.01
"""After a question: time to notice that the server closed an idle connection while the person was typing."""
_FACTORS = ("device", "password", "code")
_REASONS: Final = {
    "no_funds": "there is not enough money on this account",
    "account_suspended": "this account is suspended, ask the operator",
    "customer_suspended": "you are stopped from trading, ask the operator",
    "merchant_suspended": "this shop takes no payments at present",
    "wrong_factor": "the account or its password, code or device was not accepted",
    "unknown_account": "the account or its password, code or device was not accepted",
    "factor_waits": "too many wrong tries, this way of approving waits",
    "unsigned_limit": "the amount is too high for a password, pay with the device",
    "limit": "the amount is above a limit of this account",
}
P = ParamSpec("P")
R = TypeVar("R")

TEST: Final = " TEST · 시험 · the operator is a sandbox: nothing here is money "
_console = Console(markup=False, highlight=False, soft_wrap=True)


class Failure(click.ClickException):
    """What went wrong and what to do next, in two lines."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(f"{message}\n{advice}" if advice else message)


class Undecided(Failure):
    """The payment may still be made or not; a script must not take it for either."""

    exit_code = UNKNOWN


@dataclass(frozen=True, slots=True)
class Answers:
    """Where hidden answers come from: the terminal, or a descriptor that holds them one a line in the order of the questions."""

    lines: io.TextIOBase | None

    @classmethod
    def open(cls, descriptor: int | None) -> "Answers":
        """All of it is read at once, so that whoever started this program may forget the secrets."""
        if descriptor is None:
            return cls(None)
        try:
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(ANSWERS_MAX + 1)
            text = data.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput("--answers-fd names no readable text") from error
        if len(data) > ANSWERS_MAX:
            raise BadInput("--answers-fd holds too much")
        return cls(io.StringIO(text))

    def ask(self, question: str) -> str:
        """One hidden answer."""
        if self.lines is None:
            return str(click.prompt(question, hide_input=True, err=True))
        line = self.lines.readline().rstrip("\r\n")
        if not line:
            raise BadInput(f"--answers-fd has no line for: {question}")
        return line


def _command(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Run a command's coroutine; every error of ours becomes a sentence and the next step."""

    @functools.wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return asyncio.run(function(*arguments, **named))
        except HanbitError as error:
            raise _failure(error) from error

    return run


def _failure(error: HanbitError) -> Failure:
    kind, advice = Failure, error.advice
    match error:
        case BadReceipt(payment=payment):
            kind = Undecided
            message = f"The payment server says that payment {payment} was made, but its receipt is not genuine ({printable(str(error))})."
            advice = "Do not pay again. Call the operator, on a number that you know, and quote the payment."
        case ProtocolViolation():
            kind = Undecided
            message = f"Stopped: the payment server's answer is not genuine ({printable(str(error))})."
            advice = "Look at the order at the shop before you pay again; if it happens again, call the operator."
        case TooManyTries(retry_after_s=wait_s):
            message, advice = f"Too many tries: {error.detail}", f"Wait {wait_s} seconds, then try again."
        case MovedOn(path=path):
            message, advice = "This payment has moved on.", f"Its true state is shown at {path} of the payment server."
        case GatewayRefused(reference=reference, gateway_advice=given):
            message = f"The payment server says: {error.detail}" + (f" (reference {reference})" if reference else "")
            advice = given or advice
        case Unavailable():
            kind = Undecided
            message, advice = f"No answer: {error.detail}.", "Run the same command again: a payment is never made twice."
        case _:
            message = error.detail[:1].upper() + error.detail[1:] or str(error)
            advice = "" if isinstance(error, BadInput) else advice
    return kind(message, advice)


def _folder(function: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "--wallet",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="HANBIT_WALLET",
        default=lambda: Path.home() / ".hanbit-wallet",
        show_default="~/.hanbit-wallet",
        help="The wallet's folder.",
    )(function)


def _answers(function: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "--answers-fd",
        type=click.IntRange(min=0),
        default=None,
        help="Read the answers to hidden questions from this file descriptor, one a line.",
    )(function)


@click.group(
    cls=CommandGroup,
    epilog=(
        "\b\nExample:\n"
        "  hanbit wallet trust root.pem\n"
        "  hanbit wallet enrol https://pay.example\n"
        "  hanbit wallet pay 'https://pay.example/pay?MID=…&TID=…&AMOUNT=…&CUR=…&ORDER=…'"
    ),
)
def wallet() -> None:
    """The installed payment program: pay with the operator's root pinned."""


@wallet.command(epilog="\b\nExample:\n  hanbit wallet trust root.pem")
@click.argument("root", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="The thumbprint was compared already.")
@_folder
@_command
async def trust(root: Path, folder: Path, *, yes: bool) -> None:
    """Trust the operator whose root certificate is in the file ROOT (PEM or DER).

    Compare the thumbprint with the one that the operator gives on paper or by telephone: everything else rests on it.
    """
    der = read_root_file(root)
    operator = read_root(der, SystemClock().now())
    _line(_console, "Operator", operator)
    _show_test(operator)
    _line(_console, "Thumbprint", thumbprint(der))
    if not yes:
        click.confirm("Is this the thumbprint that the operator gave you?", abort=True)
    Store(folder).trust(der, SystemClock().now())
    _console.print(f"Operator {operator!r} is trusted. Next: hanbit wallet enrol ADDRESS, or hanbit wallet pay ADDRESS")


@wallet.command(epilog="\b\nExample:\n  hanbit wallet enrol https://pay.example")
@click.argument("url")
@_answers
@_folder
@_command
async def enrol(url: str, folder: Path, answers_fd: int | None) -> None:
    """Make this computer your own device at the payment server URL, with a one-time code from the operator.

    A device key is made here and never leaves; with it payments are signed, and no password is needed for them.
    """
    read_address(url)  # before anything secret is typed
    code = Answers.open(answers_fd).ask("One-time code from the operator").strip()
    async with Http() as http:
        enrolment = await enrol_device(url, code, store=Store(folder), http=http, clock=SystemClock())
    _console.print(f"This computer is now a device of {enrolment.customer} until {_day(enrolment.not_after)}.")
    _console.print("Next: hanbit wallet pay ADDRESS (the address to which the shop leads)")


@wallet.command(
    "pay",
    epilog=(
        "\b\nExample:\n"
        "  hanbit wallet pay 'https://pay.example/pay?MID=shop&TID=…&AMOUNT=220000&CUR=KRW&ORDER=…'\n"
        '  hanbit wallet pay --id hong --account 1 --yes --answers-fd 3 "$URL" 3< passwords'
    ),
)
@click.argument("url")
@click.option("--id", "login_id", default=None, help="Your login ID at the payment server; asked for if left out.")
@click.option("--account", default=None, help="The account: its number in the list, or how its masked number ends.")
@click.option("--type-number", is_flag=True, help="Type an account or card number (hidden) instead of choosing one.")
@click.option("--factor", type=click.Choice(_FACTORS), default=None, help="How to approve; the device once it is enrolled.")
@click.option("--yes", is_flag=True, help="Pay without asking once more.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_answers
@_folder
@_command
async def pay(
    url: str,
    login_id: str | None,
    account: str | None,
    factor: str | None,
    folder: Path,
    answers_fd: int | None,
    *,
    type_number: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Pay the order to whose payment address URL the shop leads.

    The order, the amount, the payee and the payment server are verified before any password is asked for.
    """
    answers = Answers.open(answers_fd)
    output = Console(stderr=True, markup=False, highlight=False, soft_wrap=True) if as_json else _console
    async with Http() as http:
        try:
            program, opened, enrolment = await Wallet.visit(url, store=Store(folder), http=http, clock=SystemClock())
        except ProtocolViolation as error:
            raise Failure(
                f"Stopped before anything was sent: the payment page is not genuine ({printable(str(error))}).",
                "Go back to the shop and order again; if it happens again, call the operator.",
            ) from error
        chosen = factor or ("device" if enrolment else "password")
        if chosen != "password" and enrolment is None:
            raise BadInput(
                f"this computer is not enrolled at operator {program.pin.operator!r}: run hanbit wallet enrol {program.client.origin}"
            )
        _show_order(output, program, opened)
        login = login_id or str(click.prompt("Login ID", err=True))
        password = answers.ask("Login password")
        await asyncio.sleep(_PAUSE_S)
        screen = await program.login(opened, login, password)
        output.print(f"Logged in as {printable(screen.customer.name)}.")
        number, selected = "", None
        if type_number:
            number = answers.ask("Account or card number").replace(" ", "").replace("-", "")
        else:
            selected = _choose(output, screen, account)
        source = printable(selected.masked) if selected else "the typed number"
        amount = format_money(opened.opening.money)
        if not yes and not click.confirm(f"Pay {amount} to {printable(opened.opening.payee)} from {source}?", err=True):
            raise Failure("Nothing was paid.", "The order stays open until its time is up; the same command pays it.")
        approval = _factor(chosen, enrolment, answers)
        await asyncio.sleep(_PAUSE_S)
        with output.status("Paying: the shop is asked to confirm the order…"):
            outcome = await program.pay(opened, approval, account=selected.id if selected else "", number=number)
    _report(output, outcome, opened, program, Store(folder), as_json=as_json)


@wallet.command(epilog="\b\nExample:\n  hanbit wallet show")
@_folder
def show(folder: Path) -> None:
    """Show the trusted operators, this computer's enrolments and the stored receipts."""
    store = Store(folder)
    try:
        operators = store.operators()
        if not operators:
            _console.print(f"{folder} holds nothing yet. First: hanbit wallet trust ROOT")
        for operator in operators:
            _show_operator(store, operator)
    except HanbitError as error:
        raise _failure(error) from error


def _show_operator(store: Store, operator: str) -> None:
    enrolment = store.enrolment(operator)
    _line(_console, "Operator", operator)
    _show_test(operator)
    _line(_console, "Root", thumbprint(store.pin(operator).root))
    if enrolment is None:
        _line(_console, "Device", "not enrolled")
    else:
        _line(_console, "Device", f"{enrolment.customer}, at {enrolment.origin}, until {_day(enrolment.not_after)}")
    receipts = store.receipts(operator)
    _line(_console, "Receipts", str(len(receipts)))
    for payment in receipts[-RECEIPTS_SHOWN:]:
        _line(_console, "", str(store.folder / operator / "receipts" / f"{payment}.jose"))


def _show_test(operator: str) -> None:
    if ids.is_test(operator):
        _console.print(Text(TEST, style="bold black on yellow"))


def _line(output: Console, label: str, value: str, style: str = "") -> None:
    """No table: a path or a thumbprint must come whole, however narrow the terminal is."""
    output.print(Text(f"{label:<12}").append(value, style=style))


def _show_order(output: Console, program: Wallet, opened: Opened) -> None:
    opening = opened.opening
    if program.is_test:
        output.print(Text(TEST, style="bold black on yellow"))
    _line(output, "Amount", format_money(opening.money), "bold")
    _line(output, "To", printable(opening.payee), "bold")
    if opening.text:
        _line(output, "For", printable(opening.text))
    _line(output, "Through", f"{program.pin.operator} at {program.client.origin}, verified")
    for note in opening.notes:
        output.print(note)


def _choose(output: Console, screen: Screen, wanted: str | None) -> Account:
    """By the number in the list, or by the end of the masked number if that fits one account only."""
    accounts = screen.accounts
    if not accounts:
        raise BadInput("you have no account here to pay from: ask the operator, or use --type-number")
    if wanted is None and len(accounts) == 1:
        return accounts[0]
    if wanted is None:
        table = Table("", "Account", "Kind", "Currency", box=None)
        for position, account in enumerate(accounts, 1):
            table.add_row(str(position), Text(printable(account.masked)), Text(printable(account.kind)), Text(printable(account.currency)))
        output.print(table)
        wanted = str(click.prompt("Pay from", default="1", err=True))
    return _pick(accounts, wanted)


def _pick(accounts: Sequence[Account], wanted: str) -> Account:
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= 2 and 1 <= int(wanted) <= len(accounts):  # noqa: PLR2004 - at most 100
        return accounts[int(wanted) - 1]
    fitting = [account for account in accounts if wanted == account.id or account.masked.endswith(wanted)]
    if len(fitting) != 1:
        raise BadInput(
            f"{wanted!r} names {'no' if not fitting else 'more than one'} account: give its number in the list, 1 to {len(accounts)}"
        )
    return fitting[0]


def _factor(chosen: str, enrolment: Enrolment | None, answers: Answers) -> Factor:
    if chosen == "password" or enrolment is None:
        return Password(answers.ask("Password of this account"))
    return Device(enrolment.device) if chosen == "device" else OneTimeCode(enrolment.secret)


def _report(output: Console, outcome: Outcome, opened: Opened, program: Wallet, store: Store, *, as_json: bool) -> None:
    kept = None
    if outcome.receipt is not None:
        kept = store.keep_receipt(program.pin.operator, outcome.payment, outcome.receipt.compact)
    if as_json:
        facts = {"payment": outcome.payment, "state": outcome.state, "reason": outcome.reason, "receipt": str(kept) if kept else None}
        click.echo(msgspec.json.encode(facts).decode("utf-8"))
    if kept is not None:
        if program.is_test:
            output.print(Text(TEST, style="bold black on yellow"))
        output.print(f"Paid: {format_money(opened.opening.money)} to {printable(opened.opening.payee)}.")
        output.print(f"Payment {outcome.payment}. The signed receipt is in {kept}")
        return
    if outcome.state == "authorized":
        raise Undecided(
            f"The shop has not confirmed the order yet; the money is held, not taken. Payment {outcome.payment}.",
            f"It is decided within ten minutes: see {program.client.origin}/payments/{outcome.payment}",
        )
    reason = _REASONS.get(outcome.reason or "", (outcome.reason or outcome.state).replace("_", " "))
    if outcome.state == "open":
        raise Failure(f"Declined: {reason}. No money has been taken.", "The same command tries again; --account chooses another account.")
    raise Failure(f"Not paid ({outcome.state}): {reason}. No money has been taken.", "Order again at the shop, or ask the shop.")


def format_money(amount: Money) -> str:
    """For a terminal: thousands apart, minor units as the currency has them."""
    exponent = CURRENCY_EXPONENTS[amount.currency]
    whole, minor = divmod(amount.amount_minor, 10**exponent)
    return f"{whole:,}" + (f".{minor:0{exponent}d}" if exponent else "") + f" {amount.currency}"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
