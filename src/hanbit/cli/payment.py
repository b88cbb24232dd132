"""`hanbit payment …`: what the operator decides about one payment, through the running server when there is one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from hanbit.cli.options import CommandGroup, data_option, json_option, operate, show


@click.group(cls=CommandGroup)
def payment() -> None:
    """Payments: decide an exception.

    \b
    Example:
      hanbit payment allow-refund shop kq3VZ8yTn0eQpXw1r5hJ2A --until 2027-03-31 --reason 'the parcel was late' --data /srv/hanbit
    """


@payment.command("allow-refund")
@click.argument("merchant")
@click.argument("tid")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The last day (UTC) on which it may be refunded.")
@click.option("--reason", required=True, help="Why; kept in the audit.")
@data_option
@json_option
def allow_refund(merchant: str, tid: str, until: datetime, reason: str, data: Path, as_json: bool) -> None:
    """Let MERCHANT refund the payment TID although its order's own deadline has passed; the merchant then asks with a new cancellation.

    \b
    Example:
      hanbit payment allow-refund shop kq3VZ8yTn0eQpXw1r5hJ2A --until 2027-03-31 --reason 'the parcel was late' --data /srv/hanbit
    """
    last = int((until.replace(tzinfo=UTC) + timedelta(days=1)).timestamp()) - 1
    show(operate(data, "allow_refund", merchant=merchant, tid=tid, until=str(last), reason=reason), as_json=as_json)
