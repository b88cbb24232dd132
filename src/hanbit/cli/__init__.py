"""The `hanbit` command: one file for each group of commands; a command without its extra says which to install."""

import importlib
from typing import Any

import click

from hanbit import __version__
from hanbit.kernel.errors import HanbitError

COMMANDS = {
    "demo": ("hanbit.cli.demo", "demo"),
    "init": ("hanbit.cli.serve", "init"),
    "serve": ("hanbit.cli.serve", "serve"),
    "doctor": ("hanbit.cli.doctor", "doctor"),
    "customer": ("hanbit.cli.parties", "customer"),
    "account": ("hanbit.cli.parties", "account"),
    "merchant": ("hanbit.cli.merchant", "merchant"),
    "wallet": ("hanbit.cli.wallet", "wallet"),
    "ledger": ("hanbit.cli.ledger", "ledger"),
    "bench": ("hanbit.cli.bench", "bench"),
}
"""Command → module and name; a module is imported only when its command is used, so that a shop needs no part of the server."""
SERVER_ONLY = frozenset({"demo", "init", "serve", "doctor", "customer", "account", "ledger", "bench"})


class Commands(click.Group):
    """Loads each command when it is asked for and turns our errors into one short line with an advice."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order in which one meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; without its extra the command says what to install."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("hanbit"):
                raise
            extra = "hanbit[server]" if cmd_name in SERVER_ONLY else "hanbit"
            raise click.ClickException(f"{error.name} is not installed. Run: pip install '{extra}'") from error
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run; a HanbitError ends the command with its text and advice, never with a traceback."""
        try:
            return super().invoke(ctx)
        except HanbitError as error:
            raise click.ClickException(f"{error.detail or error.code}\n{error.advice}") from error


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hanbit")
def main() -> None:
    """Hanbit (한빛): a self-hosted payment server.

    \b
    Example:
      hanbit demo                    see everything at work on this machine
      hanbit init /srv/hanbit        make an operator's data folder
      hanbit serve --data /srv/hanbit
    """
