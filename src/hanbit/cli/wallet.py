"""`hanbit wallet`: trust an operator's root, enrol this computer, pay, buy, and show what the wallet holds.

A secret is typed at a hidden prompt, or comes line by line from a file descriptor (`--answers-fd`), never from the command line.
"""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import click
from rich.console import Console

from hanbit.cli.options import CommandGroup
from hanbit.cli.paying import Answers, Failure, Wish, command, decide, factor_name, failure, line, report, show_lines, show_order, show_test
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError, ProtocolViolation
from hanbit.wallet.buy import buy as buy_through
from hanbit.wallet.buy import shown_lines
from hanbit.wallet.client import Http, printable, read_address
from hanbit.wallet.enrol import enrol as enrol_device
from hanbit.wallet.pay import Opened, Wallet
from hanbit.wallet.relay import Relay
from hanbit.wallet.store import Enrolment, Store, read_root, read_root_file, thumbprint

RECEIPTS_SHOWN: Final = 10
P = ParamSpec("P")
R = TypeVar("R")

_FACTORS = ("device", "password", "code")
_console = Console(markup=False, highlight=False, soft_wrap=True)
_WISH: Final = (
    click.option("--id", "login_id", default=None, help="Your login ID at the payment server; asked for if left out."),
    click.option("--account", default=None, help="The account: its number in the list, or how its masked number ends."),
    click.option("--type-number", is_flag=True, help="Type an account or card number (hidden) instead of choosing one."),
    click.option("--factor", type=click.Choice(_FACTORS), default=None, help="How to approve; the device once it is enrolled."),
    click.option("--yes", is_flag=True, help="Pay without asking once more."),
)


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


def _wish(function: Callable[P, R]) -> Callable[P, R]:
    """The options by which a payment is decided, the same for both ways to pay."""
    for option in reversed(_WISH):
        function = option(function)
    return function


@click.group(
    cls=CommandGroup,
    epilog=(
        "\b\nExample:\n"
        "  hanbit wallet trust root.pem\n"
        "  hanbit wallet enrol https://pay.example\n"
        "  hanbit wallet pay 'https://pay.example/pay?MID=…&TID=…&AMOUNT=…&CUR=…&ORDER=…'\n"
        "  hanbit wallet buy https://shop.example/hanbit/TID"
    ),
)
def wallet() -> None:
    """The installed payment program: pay with the operator's root pinned."""


@wallet.command(epilog="\b\nExample:\n  hanbit wallet trust root.pem")
@click.argument("root", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="The thumbprint was compared already.")
@_folder
@command
async def trust(root: Path, folder: Path, *, yes: bool) -> None:
    """Trust the operator whose root certificate is in the file ROOT (PEM or DER).

    Compare the thumbprint with the one that the operator gives on paper or by telephone: everything else rests on it.
    """
    der = read_root_file(root)
    operator = read_root(der, SystemClock().now())
    line(_console, "Operator", operator)
    show_test(_console, operator)
    line(_console, "Thumbprint", thumbprint(der))
    if not yes:
        click.confirm("Is this the thumbprint that the operator gave you?", abort=True)
    Store(folder).trust(der, SystemClock().now())
    _console.print(f"Operator {operator!r} is trusted. Next: hanbit wallet enrol ADDRESS, or hanbit wallet pay ADDRESS")


@wallet.command(epilog="\b\nExample:\n  hanbit wallet enrol https://pay.example")
@click.argument("url")
@_answers
@_folder
@command
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


class Asked(NamedTuple):
    """What the command line says of a payment, the same for both ways to pay."""

    url: str
    wish: Wish
    folder: Path
    answers: Answers
    output: Console
    as_json: bool


def _way_to_pay(name: str, address: str) -> Callable[[Callable[[Asked], Coroutine[Any, Any, None]]], click.Command]:
    """The command `name` with everything by which a payment is decided; `address` is the URL of its example."""
    examples = f'  hanbit wallet {name} {address}\n  hanbit wallet {name} --id hong --account 1 --yes --answers-fd 3 "$URL" 3< passwords'

    def declare(way: Callable[[Asked], Coroutine[Any, Any, None]]) -> click.Command:
        @wallet.command(name, help=way.__doc__, epilog=f"\b\nExample:\n{examples}")
        @click.argument("url")
        @_wish
        @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
        @_answers
        @_folder
        @command
        async def run(
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
            wish = Wish(login_id, account, type_number, factor, yes)
            await way(Asked(url, wish, folder, Answers.open(answers_fd), _output(as_json=as_json), as_json))

        return run

    return declare


@_way_to_pay("pay", "'https://pay.example/pay?MID=shop&TID=…&AMOUNT=220000&CUR=KRW&ORDER=…'")
async def pay(asked: Asked) -> None:
    """Pay the order to whose payment address URL the shop leads.

    The order, the amount, the payee and the payment server are verified before any password is asked for.
    """
    output = asked.output
    async with Http() as http:
        program, opened, enrolment = await _visit(asked.url, asked.folder, http)
        factor_name(asked.wish, program, enrolment)
        show_order(output, program, opened)
        chosen = await decide(output, program, opened, enrolment, asked.wish, asked.answers)
        with output.status("Paying: the shop is asked to confirm the order…"):
            outcome = await program.pay(opened, chosen.factor, account=chosen.account, number=chosen.number)
    report(output, outcome, opened, program, Store(asked.folder), as_json=asked.as_json)


@_way_to_pay("buy", "https://shop.example/hanbit/TID")
async def buy(asked: Asked) -> None:
    """Buy what the shop's address URL offers, without leaving the shop: the address of an order's relay, or of the page with its button.

    The order, its lines, the payee and the payment server are verified before any password is asked for. The shop passes the purchase on
    and cannot read it; what became of it is believed from the payment server's receipt alone.
    """
    output = asked.output
    async with Http() as http:
        relay, checkout = await Relay.find(http, asked.url)
        program, opened, enrolment = await _visit(checkout.redirect, asked.folder, http)
        lines = shown_lines(opened, checkout)
        factor_name(asked.wish, program, enrolment)
        show_order(output, program, opened)
        show_lines(output, lines)
        chosen = await decide(output, program, opened, enrolment, asked.wish, asked.answers)
        with output.status("Paying through the shop…"):
            outcome = await buy_through(program, opened, relay, lines, chosen.factor, account=chosen.account, number=chosen.number)
    report(output, outcome, opened, program, Store(asked.folder), as_json=asked.as_json)


async def _visit(url: str, folder: Path, http: Http) -> tuple[Wallet, Opened, Enrolment | None]:
    try:
        return await Wallet.visit(url, store=Store(folder), http=http, clock=SystemClock())
    except ProtocolViolation as error:
        raise Failure(
            f"Stopped before anything was sent: the payment page is not genuine ({printable(str(error))}).",
            "Go back to the shop and order again; if it happens again, call the operator.",
        ) from error


def _output(*, as_json: bool) -> Console:
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True) if as_json else _console


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
        raise failure(error) from error


def _show_operator(store: Store, operator: str) -> None:
    enrolment = store.enrolment(operator)
    line(_console, "Operator", operator)
    show_test(_console, operator)
    line(_console, "Root", thumbprint(store.pin(operator).root))
    if enrolment is None:
        line(_console, "Device", "not enrolled")
    else:
        line(_console, "Device", f"{enrolment.customer}, at {enrolment.origin}, until {_day(enrolment.not_after)}")
    receipts = store.receipts(operator)
    line(_console, "Receipts", str(len(receipts)))
    for payment in receipts[-RECEIPTS_SHOWN:]:
        line(_console, "", str(store.folder / operator / "receipts" / f"{payment}.jose"))


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
