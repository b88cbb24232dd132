"""`hanbit staff …`: who works in the consoles; the first admin comes in by a one-time link that is made here."""

from pathlib import Path

import click

from hanbit.cli.options import CommandGroup, data_option, json_option, operate, show

LOST = "lost password or second factor"
reason_option = click.option("--reason", required=True, help="Why; kept in the audit.")


@click.group(cls=CommandGroup)
def staff() -> None:
    """People of the consoles: invite, list, send a new link, confirm, suspend, resume.

    \b
    Example:
      hanbit staff invite kim --role admin --data /srv/hanbit
    """


@staff.command("invite")
@click.argument("login")
@click.option("--role", default="admin", show_default=True, help="viewer, support, admin, auditor; a merchant's: viewer, cashier, admin.")
@click.option("--name", default="", help="The person's name, as pages show it; the login name if left out.")
@click.option("--merchant", default="", help="Invite into this merchant's console instead of the operator's.")
@click.option("--language", type=click.Choice(["ko", "en"]), default="ko", show_default=True, help="Language of the pages.")
@data_option
@json_option
def invite(login: str, role: str, name: str, merchant: str, language: str, data: Path, as_json: bool) -> None:
    """Invite somebody: prints a one-time link, good for a day, by which he sets his password and second factor.

    \b
    Example:
      hanbit staff invite kim --role admin --name 김한빛 --data /srv/hanbit
      hanbit staff invite lee --merchant garam --data /srv/hanbit
    """
    made = operate(data, "invite_staff", login=login, role=role, name=name, merchant=merchant, language=language)
    show(made, as_json=as_json)


@staff.command("list")
@click.option("--merchant", default="", help="This merchant's people instead of the operator's.")
@data_option
@json_option
def list_staff(merchant: str, data: Path, as_json: bool) -> None:
    """List who works in a console, with roles.

    \b
    Example:
      hanbit staff list --data /srv/hanbit
    """
    show(operate(data, "list_staff", merchant=merchant), as_json=as_json)


@staff.command("link")
@click.argument("login")
@click.option("--reason", default=LOST, show_default=True, help="Why; kept in the audit.")
@data_option
@json_option
def link(login: str, reason: str, data: Path, as_json: bool) -> None:
    """Print a new one-time link for somebody who has lost password or second factor; earlier links stop working.

    \b
    Example:
      hanbit staff link kim --reason 'new telephone' --data /srv/hanbit
    """
    show(operate(data, "renew_staff_link", login=login, reason=reason), as_json=as_json)


@staff.command("confirm")
@click.argument("login")
@reason_option
@data_option
@json_option
def confirm(login: str, reason: str, data: Path, as_json: bool) -> None:
    """Confirm that an account was set up by its owner: from then on he may approve what whoever invited him proposes.

    \b
    Example:
      hanbit staff confirm lee --reason 'spoke to her at the branch' --data /srv/hanbit
    """
    show(operate(data, "confirm_staff", login=login, reason=reason), as_json=as_json)


@staff.command("suspend")
@click.argument("login")
@reason_option
@data_option
@json_option
def suspend(login: str, reason: str, data: Path, as_json: bool) -> None:
    """Suspend somebody: he is logged out at once, and his links stop working.

    \b
    Example:
      hanbit staff suspend kim --reason 'left the bank' --data /srv/hanbit
    """
    show(operate(data, "set_staff_state", login=login, state="suspended", reason=reason), as_json=as_json)


@staff.command("resume")
@click.argument("login")
@reason_option
@data_option
@json_option
def resume(login: str, reason: str, data: Path, as_json: bool) -> None:
    """Let somebody work again, with the password and second factor that he had.

    \b
    Example:
      hanbit staff resume kim --reason 'is back' --data /srv/hanbit
    """
    show(operate(data, "set_staff_state", login=login, state="active", reason=reason), as_json=as_json)
