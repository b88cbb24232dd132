"""What `hanbit wallet pay` and `hanbit wallet buy` ask, show and report: hidden answers, the order, the account, what became of it."""

import asyncio
import functools
import io
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, HanbitError, ProtocolViolation, TooManyTries, Unavailable
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money
from hanbit.wallet.client import GatewayRefused, MovedOn, printable
from hanbit.wallet.pay import Account, BadReceipt, Device, Factor, OneTimeCode, Opened, Outcome, Password, Screen, Wallet
from hanbit.wallet.relay import DishonestShop
from hanbit.wallet.store import Enrolment, Store

ANSWERS_MAX: Final = 4_096
"""Bytes of all the answers from a file descriptor."""
UNKNOWN: Final = 3
"""The exit code when the outcome is not known yet; 1 means that nothing was paid."""
LINES_SHOWN_MAX: Final = 2_000
"""Characters of an order's lines; a long order is shown by the shop better."""
_PAUSE_S: Final = 0.01
"""After a question: time to notice that the server closed an idle connection while the person was typing."""
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
    "merchant_limit": "the amount is above what this shop may take, at once or today: ask the shop",
}
P = ParamSpec("P")
R = TypeVar("R")

TEST: Final = " TEST · 시험 · the operator is a sandbox: nothing here is money "


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


def command(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Run a command's coroutine; every error of ours becomes a sentence and the next step."""

    @functools.wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return asyncio.run(function(*arguments, **named))
        except HanbitError as error:
            raise failure(error) from error

    return run


def failure(error: HanbitError) -> Failure:
    """The sentence for an error, and what to do next."""
    kind, advice = Failure, error.advice
    match error:
        case BadReceipt(payment=payment):
            kind = Undecided
            message = f"The payment server says that payment {payment} was made, but its receipt is not genuine ({printable(str(error))})."
            advice = "Do not pay again. Call the operator, on a number that you know, and quote the payment."
        case DishonestShop():
            message = f"Stopped: the shop's answer is not genuine ({printable(str(error))})."
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


def show_test(output: Console, operator: str) -> None:
    """A sandbox is never taken for the real thing."""
    if ids.is_test(operator):
        output.print(Text(TEST, style="bold black on yellow"))


def line(output: Console, label: str, value: str, style: str = "") -> None:
    """No table: a path or a thumbprint must come whole, however narrow the terminal is."""
    output.print(Text(f"{label:<12}").append(value, style=style))


def show_order(output: Console, program: Wallet, opened: Opened) -> None:
    """What is to be paid, to whom and through whom, before anything is asked for."""
    opening = opened.opening
    show_test(output, program.pin.operator)
    line(output, "Amount", format_money(opening.money), "bold")
    line(output, "To", printable(opening.payee), "bold")
    if opening.text:
        line(output, "For", printable(opening.text))
    line(output, "Through", f"{program.pin.operator} at {program.client.origin}, verified")
    for note in opening.notes:
        output.print(note)


def show_lines(output: Console, lines: str) -> None:
    """What is bought, in the shop's own words: the text that its signed order stands for."""
    text = printable(lines, LINES_SHOWN_MAX)
    line(output, "Lines", text + (" …" if len(lines) > LINES_SHOWN_MAX else ""))


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says about the payment; what it leaves out is asked for."""

    login_id: str | None
    account: str | None
    type_number: bool
    factor: str | None
    yes: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the customer has decided: one of his accounts, or a typed number, and how he approves."""

    factor: Factor
    account: str
    number: str


def factor_name(wish: Wish, program: Wallet, enrolment: Enrolment | None) -> str:
    """How to approve; BadInput where that needs an enrolment which this computer does not have."""
    name = wish.factor or ("device" if enrolment else "password")
    if name != "password" and enrolment is None:
        raise BadInput(
            f"this computer is not enrolled at operator {program.pin.operator!r}: run hanbit wallet enrol {program.client.origin}"
        )
    return name


async def decide(output: Console, program: Wallet, opened: Opened, enrolment: Enrolment | None, wish: Wish, answers: Answers) -> Chosen:
    """Log in, choose the account, agree to amount and payee, approve."""
    name = factor_name(wish, program, enrolment)
    login = wish.login_id or str(click.prompt("Login ID", err=True))
    password = answers.ask("Login password")
    await asyncio.sleep(_PAUSE_S)
    screen = await program.login(opened, login, password)
    output.print(f"Logged in as {printable(screen.customer.name)}.")
    number, selected = "", None
    if wish.type_number:
        number = answers.ask("Account or card number").replace(" ", "").replace("-", "")
    else:
        selected = _choose(output, screen, wish.account)
    source = printable(selected.masked) if selected else "the typed number"
    amount = format_money(opened.opening.money)
    if not wish.yes and not click.confirm(f"Pay {amount} to {printable(opened.opening.payee)} from {source}?", err=True):
        raise Failure("Nothing was paid.", "The order stays open until its time is up; the same command pays it.")
    factor = _factor(name, enrolment, answers)
    await asyncio.sleep(_PAUSE_S)
    return Chosen(factor, selected.id if selected else "", number)


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


def report(output: Console, outcome: Outcome, opened: Opened, program: Wallet, store: Store, *, as_json: bool) -> None:
    """What became of it; Failure and Undecided carry the exit code of everything that is not paid."""
    kept = None
    if outcome.receipt is not None:
        kept = store.keep_receipt(program.pin.operator, outcome.payment, outcome.receipt.compact)
    if as_json:
        facts = {"payment": outcome.payment, "state": outcome.state, "reason": outcome.reason, "receipt": str(kept) if kept else None}
        click.echo(msgspec.json.encode(facts).decode("utf-8"))
    if kept is not None:
        show_test(output, program.pin.operator)
        output.print(f"Paid: {format_money(opened.opening.money)} to {printable(opened.opening.payee)}.")
        output.print(f"Payment {outcome.payment}. The signed receipt is in {kept}")
        return
    if outcome.unverified_words is not None:
        said = printable(outcome.unverified_words, 200) or (outcome.reason or "declined").replace("_", " ")
        raise Undecided(
            f"The shop does not want this order: {said}",
            "It has not asked the payment server, and no money has been taken; it could still ask for ten minutes.",
        )
    if outcome.state == "unknown":
        raise Undecided(
            "The shop has not handed your purchase to the payment server; it could still do so for ten minutes.",
            "Look at the order at the shop before you pay again; an order is never paid twice.",
        )
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
