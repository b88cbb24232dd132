"""`hanbit merchant …`: the operator registers merchants; a merchant enrols its keys."""

import sys
from pathlib import Path

import click

from hanbit.cli import agent, probe, shop
from hanbit.cli.options import CommandGroup, ask_secret, data_option, json_option, operate, run, show

DAY_S = 24 * 3600


HEADINGS = {
    "At the operator": (
        "create",
        "list",
        "enrol-code",
        "line",
        "lines",
        "fees",
        "payout-account",
        "limits",
        "suspend",
        "resume",
        "revoke",
        "certificates",
    ),
    "At the shop": (
        *("enrol", "serve", "orders", "cancel", "returned", "reconcile", "evidence", "checkpoint"),
        *("certificates", "key-card", "probe"),
    ),
}


@click.group(cls=CommandGroup, headings=HEADINGS)
def merchant() -> None:
    """Merchants: the operator registers them; the shop enrols its keys, runs its agent, and its staff cancel and refund.

    \b
    Example:
      hanbit merchant create shop --name "Book Shop" --telephone 02-555-0100 \\
        --return-url https://shop.example/return --data /srv/hanbit
      hanbit merchant enrol ./shop-keys --gateway https://pay.example --pin PIN
      hanbit merchant serve ./shop-keys
    """


merchant.add_command(agent.serve, "serve")
merchant.add_command(probe.probe, "probe")
merchant.add_command(shop.orders, "orders")
merchant.add_command(shop.cancel, "cancel")
merchant.add_command(shop.returned, "returned")
merchant.add_command(shop.reconcile, "reconcile")
merchant.add_command(shop.checkpoint, "checkpoint")
merchant.add_command(shop.evidence, "evidence")


@merchant.command("create")
@click.argument("merchant_id")
@click.option("--name", required=True, help="The payee's name that customers see.")
@click.option("--telephone", required=True, help="Shown when order and payment do not match.")
@click.option("--return-url", required=True, help="Where customers return to; its origin is registered exactly.")
@click.option("--orders", type=click.Choice(["signed", "plain"]), default="signed", show_default=True, help="How its orders come.")
@click.option("--currency", default="", help="ISO 4217 code; the operator's own by default.")
@click.option("--line", "mode", type=click.Choice(["vpn", "leased"]), default="vpn", show_default=True, help="How its line comes in.")
@click.option("--line-address", default="", help="The one IP address from which its leased line comes.")
@click.option("--post-url", default="", help="Its https address for frames by POST, where it takes them.")
@data_option
@json_option
def create(
    merchant_id: str,
    name: str,
    telephone: str,
    return_url: str,
    orders: str,
    currency: str,
    mode: str,
    line_address: str,
    post_url: str,
    data: Path,
    as_json: bool,
) -> None:
    """Register a merchant; prints the one-time code with which it enrols its keys, and the pin of the operator's root.

    \b
    Example:
      hanbit merchant create shop --name "Book Shop" --telephone 02-555-0100 \\
        --return-url https://shop.example/return --data /srv/hanbit
    """
    result = operate(
        data,
        "create_merchant",
        id=merchant_id,
        name=name,
        telephone=telephone,
        return_url=return_url,
        orders=orders,
        currency=currency,
        line_mode=mode,
        line_address=line_address,
        post_url=post_url,
    )
    show(result | {"pin": _pin(data)}, as_json=as_json)


@merchant.command("list")
@data_option
@json_option
def list_merchants(data: Path, as_json: bool) -> None:
    """List merchants, newest first.

    \b
    Example:
      hanbit merchant list --data /srv/hanbit
    """
    show(operate(data, "list_parties", what="merchants"), as_json=as_json)


@merchant.command("line")
@click.argument("merchant_id")
@click.option("--mode", type=click.Choice(["vpn", "leased"]), default=None, help="How its line comes in; as it was, if not given.")
@click.option("--address", default="", help="The one IP address from which its leased line comes.")
@click.option("--post-url", default="", help='Its https address for frames by POST; "none" takes it away.')
@click.option("--reason", default="", help="Why; kept in the audit.")
@data_option
@json_option
def line(merchant_id: str, mode: str | None, address: str, post_url: str, reason: str, data: Path, as_json: bool) -> None:
    """Register a merchant's line anew. Its present connections end; the shop dials what is printed (`line` in its registration.json).

    \b
    Example:
      hanbit merchant line shop --mode leased --address 10.20.0.2 --data /srv/hanbit
    """
    arguments = {"mode": mode or "", "address": address, "post_url": post_url, "reason": reason}
    show(operate(data, "set_line", id=merchant_id, **arguments), as_json=as_json)


@merchant.command("lines")
@data_option
@json_option
def lines(data: Path, as_json: bool) -> None:
    """Show how each merchant's line is now: up or down and why, connections, round trip, offset of clocks.

    \b
    Example:
      hanbit merchant lines --data /srv/hanbit
    """
    show(operate(data, "lines"), as_json=as_json)


@merchant.command("fees")
@click.argument("merchant_id")
@click.option("--basis-points", required=True, help="Of each capture, in hundredths of a percent: 250 is 2.5 %.")
@click.option("--fixed", default="0", show_default=True, help="And so much of each capture, in minor units.")
@click.option("--reason", default="", help="Kept in the audit.")
@data_option
@json_option
def fees(merchant_id: str, basis_points: str, fixed: str, reason: str, data: Path, as_json: bool) -> None:
    """Set what captures cost the merchant, from the next day on that is closed.

    \b
    Example:
      hanbit merchant fees shop --basis-points 250 --fixed 100 --reason "contract of 2027" --data /srv/hanbit
    """
    show(operate(data, "set_fees", merchant=merchant_id, basis_points=basis_points, fixed=fixed, reason=reason), as_json=as_json)


@merchant.command("payout-account")
@click.argument("merchant_id")
@click.option("--bank", required=True, help="The bank's name.")
@click.option("--number-fd", type=click.IntRange(min=0), default=None, help="Read the number from this file descriptor, instead of asking.")
@click.option("--reason", default="", help="Kept in the audit.")
@data_option
@json_option
def payout_account(merchant_id: str, bank: str, number_fd: int | None, reason: str, data: Path, as_json: bool) -> None:
    """Set the bank account (its number or IBAN is asked for) to which the merchant is paid; without one its money stays in the ledger.

    \b
    Example:
      hanbit merchant payout-account shop --bank "한빛은행" --data /srv/hanbit
    """
    number = ask_secret("Account number", number_fd, option="--number-fd")
    show(operate(data, "set_payout_account", merchant=merchant_id, bank=bank, number=number, reason=reason), as_json=as_json)


@merchant.command("limits")
@click.argument("merchant_id")
@click.option("--payment", default="", help='The largest single payment, in minor units; "none" takes the limit away.')
@click.option("--day", default="", help='What all payments of one of your days may come to; "none" takes the limit away.')
@click.option("--reason", required=True, help="Why; kept in the audit.")
@data_option
@json_option
def limits(merchant_id: str, payment: str, day: str, reason: str, data: Path, as_json: bool) -> None:
    """Set what a merchant may be paid, in minor units of its currency, from the next payment on; today's payments count too.

    \b
    Example:
      hanbit merchant limits shop --payment 3000000 --day 50000000 --reason "new shop, first month" --data /srv/hanbit
    """
    show(operate(data, "set_merchant_limits", merchant=merchant_id, payment=payment, day=day, reason=reason), as_json=as_json)


@merchant.command("certificates")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), envvar="HANBIT_DATA", default=None, help="The operator's data folder."
)
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=None, help="The shop's enrolled folder.")
@json_option
def list_certificates(data: Path | None, directory: Path | None, as_json: bool) -> None:
    """List certificates, newest first: with --data every one that the operator issued, with --directory those in the shop's own name.

    At the shop it says of each whether the shop has asked for it. One that it has not lets somebody else speak in the shop's name: the
    command then ends with status 1, and the operator is to be asked at once.

    \b
    Example:
      hanbit merchant certificates --data /srv/hanbit
      hanbit merchant certificates --directory ./shop-keys
    """
    if directory is not None:
        sys.exit(_own_certificates(directory, as_json=as_json))
    if data is None:
        raise click.UsageError("give the operator's --data or the shop's --directory")
    show(operate(data, "list_parties", what="certificates"), as_json=as_json)


def _own_certificates(directory: Path, *, as_json: bool) -> int:
    from hanbit.kernel.clock import SystemClock
    from hanbit.merchant import records
    from hanbit.merchant.identity import Identity

    at = SystemClock().now()
    lists = Identity.load(directory).lists
    found = records.own_certificates(directory, at=at)
    rows = [
        {
            "kid": own.kid,
            "purpose": own.purpose,
            "how": own.how or "-",
            "days_left": (own.not_after - at) // DAY_S,
            "in_use": own.in_use,
            "revoked": own.serial in lists.revoked(),
            "asked": own.asked,
        }
        for own in found
    ]
    show({"certificates": rows, "list": lists.fault(at) or "current"}, as_json=as_json)
    strange = [own for own in found if not own.asked]
    for own in strange:
        click.echo(f"{own.kid} ({own.purpose}) was never asked for by this shop: have the operator revoke it, now.", err=True)
    return 1 if strange else 0


@merchant.command("key-card")
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), envvar="HANBIT_SHOP", required=True, help="The shop's folder."
)
@json_option
def key_card(directory: Path, as_json: bool) -> None:
    """At the shop: print the key card for the paper contract once more: the first signing key, whatever was renewed since.

    \b
    Example:
      hanbit merchant key-card --directory ./shop-keys
    """
    from hanbit.merchant import enrolment

    card = enrolment.key_card(directory)
    if as_json:
        show({"operator": card.operator, "merchant": card.merchant, "thumbprint": card.thumbprint, "date": card.date}, as_json=True)
    else:
        click.echo(card.text(), nl=False)


@merchant.command("revoke", context_settings={"ignore_unknown_options": True})  # a kid may begin with a hyphen
@click.argument("kid")
@click.option("--reason", default="", help="Why; kept in the audit.")
@data_option
@json_option
def revoke(kid: str, reason: str, data: Path, as_json: bool) -> None:
    """Revoke a certificate at once, by its kid (see `hanbit merchant certificates`).

    \b
    Example:
      hanbit merchant revoke 3q2-7wA…43 characters --reason "key lost" --data /srv/hanbit
    """
    show(operate(data, "revoke", kid=kid, reason=reason), as_json=as_json)


@merchant.command("enrol-code")
@click.argument("merchant_id")
@data_option
@json_option
def enrol_code(merchant_id: str, data: Path, as_json: bool) -> None:
    """Make a fresh one-time enrolment code for a merchant.

    \b
    Example:
      hanbit merchant enrol-code shop --data /srv/hanbit
    """
    show(operate(data, "enrol_code", merchant=merchant_id) | {"pin": _pin(data)}, as_json=as_json)


@merchant.command("suspend")
@click.argument("merchant_id")
@click.option("--reason", required=True, help="Why; kept in the audit.")
@data_option
@json_option
def suspend(merchant_id: str, reason: str, data: Path, as_json: bool) -> None:
    """Suspend a merchant: no new payment is authorised for it.

    \b
    Example:
      hanbit merchant suspend shop --reason "goods not delivered" --data /srv/hanbit
    """
    show(operate(data, "set_state", what="merchant", id=merchant_id, state="suspended", reason=reason), as_json=as_json)


@merchant.command("resume")
@click.argument("merchant_id")
@click.option("--reason", default="", help="Why; kept in the audit.")
@data_option
@json_option
def resume(merchant_id: str, reason: str, data: Path, as_json: bool) -> None:
    """Make a suspended merchant active again.

    \b
    Example:
      hanbit merchant resume shop --data /srv/hanbit
    """
    show(operate(data, "set_state", what="merchant", id=merchant_id, state="active", reason=reason), as_json=as_json)


@merchant.command("enrol")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--gateway", required=True, help="The payment server's address, from the operator.")
@click.option("--pin", required=True, help="SHA-256 of the operator's root in base64url, from the operator by another way.")
@click.option(
    "--code-fd", type=click.IntRange(min=0), default=None, help="Read the one-time code from this file descriptor instead of asking."
)
def enrol(directory: Path, gateway: str, pin: str, code_fd: int | None) -> None:
    """At the shop: make keys in DIRECTORY, get certificates for them with the one-time code, print the key card.

    \b
    Example:
      hanbit merchant enrol ./shop-keys --gateway https://pay.example --pin 47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU
    """
    from hanbit.kernel import ids
    from hanbit.kernel.clock import SystemClock
    from hanbit.merchant import enrolment

    code = ask_secret("One-time code", code_fd, option="--code-fd")
    card = run(enrolment.enrol(directory, gateway, code, pin=pin, clock=SystemClock()))
    if ids.is_test(card.operator):
        click.echo(f"TEST: {card.operator} is a sandbox. Nothing that is paid there is money: deliver nothing real.", err=True)
    click.echo(card.text(), nl=False)
    click.echo(f"Keep {directory} safe. Next: hanbit merchant serve {directory}")
    click.echo(f"or, in Python: hanbit.merchant.Shop.open({str(directory)!r})")


def _pin(data: Path) -> str:
    from hanbit.crypto import certificates
    from hanbit.kernel import ids

    return ids.digest(certificates.load_chain_pem(data / "keys" / "root.pem")[0])
