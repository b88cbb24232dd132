"""The `hanbit` command: one file for each group of commands; a command without its extra says which to install."""

import errno
import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

import click

from hanbit import __version__
from hanbit.kernel.errors import HanbitError

TRACEBACK_VARIABLE = "HANBIT_TRACEBACK"
"""Set to 1, an error that is a bug of ours shows where it came from."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is, and its line in the list; the module is imported only when the command is used."""

    module: str
    short_help: str
    server: bool = True
    """Whether it needs the server's packages."""


COMMANDS = {
    "demo": Place("hanbit.cli.demo", "See everything at work on this machine."),
    "init": Place("hanbit.cli.serve", "Make an operator's data folder."),
    "serve": Place("hanbit.cli.serve", "Run the payment server."),
    "doctor": Place("hanbit.cli.doctor", "Find what is wrong and say what to do."),
    "backup": Place("hanbit.cli.backup", "Back a data folder up while it is served; verify a backup."),
    "restore": Place("hanbit.cli.backup", "Make a data folder from a backup."),
    "upgrade": Place("hanbit.cli.backup", "Bring an earlier release's book to this one."),
    "migrate": Place("hanbit.cli.backup", "Move the book from a file into a PostgreSQL database."),
    "customer": Place("hanbit.cli.parties", "Customers: create, list, suspend, resume, enrol-code."),
    "account": Place("hanbit.cli.parties", "Accounts: create, list, fund, limits, suspend, resume."),
    "merchant": Place("hanbit.cli.merchant", "Merchants: register; at the shop: enrol, serve, cancel …", server=False),
    "staff": Place("hanbit.cli.staff", "People of the consoles: invite, list, link, suspend, resume."),
    "brand": Place("hanbit.cli.brand", "How the operator shows itself on every page."),
    "wallet": Place("hanbit.cli.wallet", "The installed payment program.", server=False),
    "payment": Place("hanbit.cli.payment", "Allow a refund after its deadline."),
    "sandbox": Place("hanbit.cli.sandbox", "A test operator: magic amounts, a clock that moves, triggers."),
    "ledger": Place("hanbit.cli.ledger", "Prove the book, read statements, fund the reserve."),
    "day": Place("hanbit.cli.day", "Close days; statements of merchants, the trial balance."),
    "payout": Place("hanbit.cli.payout", "What merchants are paid by bank: list, confirm, fail, import."),
    "evidence": Place("hanbit.cli.evidence", "Prove the whole book, or one payment as a file.", server=False),
    "bench": Place("hanbit.cli.bench", "Measure complete payments."),
}
"""In the order in which one meets them. A shop's install has no part of the server, so the list imports nothing."""
ADVICE = {
    "not_found": "Nothing has changed.",
    "command_refused": "Nothing has changed.",
    "conflict": "Nothing has changed. Use another name or id, or look at what is there.",
    "not_allowed": "Nothing has changed.",
    "wrong_state": "Nothing has changed.",
}
"""What somebody at a terminal should do, where the error's own advice speaks to a visitor of the pages."""
DATABASE_ADVICE = "Look whether it runs, and whether host, name, user and password are right: psql with the same address says more."
"""Whoever waits a moment, as the error's own advice says, finds a wrong password as wrong as before."""
LISTS = {
    "customer": "customer list --data DIR",
    "account": "account list --data DIR",
    "merchant": "merchant list --data DIR",
    "person": "staff list --data DIR",
    "certificate": "merchant certificates --data DIR",
    "payout": "payout list --data DIR",
    "day": "day statements MERCHANT --data DIR",
    "payment": "merchant orders --directory SHOP",
    "order": "merchant orders --directory SHOP",
}
"""Where to see what there is of a kind of thing, for an error that begins with `no KIND NAME` or `no such KIND`."""
FIELDS = {
    "amount": "amount: a whole number of minor units (won, cent), more than 0",
    "currency": "currency: no ISO 4217 code that is known here",
}
"""The kernel names the field alone."""


class Commands(click.Group):
    """Loads each command when it is asked for and turns our errors into one short line with an advice."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run; never under `python -O`, because the asserts are part of the checks."""
        if not __debug__:
            sys.stderr.write(
                "Error: hanbit does not run under python -O: its asserts are part of the checks.\nRun it without -O and PYTHONOPTIMIZE.\n"
            )
            sys.exit(2)
        return super().main(*arguments, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order in which one meets them."""
        del ctx
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list, without importing what it names."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.short_help) for name, place in COMMANDS.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; without its extra the command says what to install."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        try:
            command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name].module), cmd_name)
        except ModuleNotFoundError as error:
            raise _missing(cmd_name, error) from error
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run; every error ends the command with its text and an advice, never with a traceback."""
        rest = tuple(ctx.args)
        try:
            return super().invoke(ctx)
        except HanbitError as error:
            raise _told(ctx, error, rest) from error
        except ModuleNotFoundError as error:
            raise _missing(ctx.invoked_subcommand or "", error) from error
        except BrokenPipeError:
            raise  # whoever read us has gone; click ends quietly
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'this machine'}: {error.strerror or error}\n{_advice_for(error)}") from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            where = f"Set {TRACEBACK_VARIABLE}=1 to see where it came from, and report it; `hanbit doctor` may know more."
            raise click.ClickException(f"{type(error).__name__}: {error}\n{where}") from error


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hanbit")
def main() -> None:
    """Hanbit (한빛): a self-hosted payment server.

    \b
    Example:
      hanbit demo                          see everything at work on this machine
      hanbit init ./test-bank --sandbox    a test bank, for whoever writes a shop
      hanbit serve --data ./test-bank
    """


def _missing(command: str, error: ModuleNotFoundError) -> Exception:
    if (error.name or "").startswith("hanbit"):
        return error
    extra = "hanbit[server]" if command in COMMANDS and COMMANDS[command].server else "hanbit"
    if (error.name or "").startswith("psycopg"):
        extra = "hanbit[server,postgresql]"
    return click.ClickException(f"{error.name} is not installed.\nRun: pip install '{extra}'")


def _told(ctx: click.Context, error: HanbitError, rest: tuple[str, ...]) -> click.ClickException:
    advice = ADVICE.get(error.code, error.advice)
    if error.code == "bad_input":
        command = main.get_command(ctx, ctx.invoked_subcommand or "")
        inner = f" {rest[0]}" if rest and isinstance(command, click.Group) and rest[0] in command.commands else ""
        advice = f"See: hanbit {ctx.invoked_subcommand}{inner} --help"
    if error.code == "unavailable" and error.detail.startswith("database "):
        advice = DATABASE_ADVICE
    if error.code == "not_found":
        kind = error.detail.removeprefix("no ").removeprefix("such ").partition(" ")[0]
        advice = f"See what there is: hanbit {LISTS[kind]}" if kind in LISTS else advice
    return click.ClickException(f"{FIELDS.get(error.detail, error.detail) or error.code}\n{advice}")


def _advice_for(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "Somebody listens there already: stop it, or name another port in DIR/hanbit.toml."
    if isinstance(error, PermissionError) and error.filename is None:
        return "Ports below 1024 are root's, or for CAP_NET_BIND_SERVICE: see deploy/hanbit.service"
    if isinstance(error, PermissionError):
        return "Run this as the user who owns the file, or correct its owner: hanbit doctor --data DIR"
    if isinstance(error, FileNotFoundError):
        return "Check the path; a data folder is made with: hanbit init DIR"
    return "Look whether the disk is full or the port is taken: hanbit doctor --data DIR"
