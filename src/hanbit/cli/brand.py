"""`hanbit brand …`: how the operator shows itself on every page; through the running server when there is one."""

from pathlib import Path

import click

from hanbit.cli.options import CommandGroup, data_option, json_option, operate, show


@click.group(cls=CommandGroup)
def brand() -> None:
    """How the operator shows itself: show it, change it.

    \b
    Example:
      hanbit brand show --data /srv/hanbit
    """


@brand.command("show")
@data_option
@json_option
def show_brand(data: Path, as_json: bool) -> None:
    """Show what every page shows now: names, colour of the mark, telephone, terms.

    \b
    Example:
      hanbit brand show --data /srv/hanbit --json
    """
    show(operate(data, "show_brand"), as_json=as_json)


@brand.command("set")
@click.option("--name-ko", default="", help="The name on Korean pages.")
@click.option("--name-en", default="", help="The name on English pages.")
@click.option("--colour", default="", help="Ground of the mark, #rrggbb; its drawing must stand out of it.")
@click.option("--telephone", default="", help="Whom customers call.")
@click.option("--terms-url", default="", help='Address of the terms, https; "none" takes it away.')
@click.option("--open-account-url", default="", help='Where one gets an account, https; "none" takes it away.')
@click.option("--reason", required=True, help="Why; kept in the audit.")
@data_option
@json_option
def set_brand(
    name_ko: str,
    name_en: str,
    colour: str,
    telephone: str,
    terms_url: str,
    open_account_url: str,
    reason: str,
    data: Path,
    as_json: bool,
) -> None:
    """Change what every page shows, within a second; what is not given stays.

    \b
    Example:
      hanbit brand set --name-en "Hanbit Bank" --telephone 02-555-0200 --reason "new name" --data /srv/hanbit
    """
    made = operate(
        data,
        "set_brand",
        name_ko=name_ko,
        name_en=name_en,
        colour=colour,
        telephone=telephone,
        terms_url=terms_url,
        open_account_url=open_account_url,
        reason=reason,
    )
    show(made, as_json=as_json)
