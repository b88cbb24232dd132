"""`hanbit merchant orders | cancel | returned | reconcile | checkpoint`: a shop's staff at a terminal, also while the shop is running."""

import sys
from pathlib import Path
from typing import Any

import click

from hanbit.cli.options import json_option, run, show

directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="HANBIT_SHOP",
    required=True,
    help="The shop's enrolled folder (or set HANBIT_SHOP).",
)


@click.command()
@click.option("--state", default="", help="Only orders in this state, for example settled or cancelled.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@directory_option
@json_option
def orders(state: str, limit: int, directory: Path, as_json: bool) -> None:
    """At the shop: list orders, newest first, with what was refunded and what is left of each.

    \b
    Example:
      hanbit merchant orders --state settled --directory ./shop-keys
    """
    show(_ask(directory, "orders", dial=False, state=state, limit=str(limit)), as_json=as_json)


@click.command(context_settings={"ignore_unknown_options": True})  # a tid may begin with a hyphen
@click.argument("tid")
@click.option("--amount", type=click.IntRange(min=1), default=None, help="Minor units (won, cent) to refund; all that is left by default.")
@click.option("--reason", default="cancelled by the shop", show_default=True, help="Why; signed, and kept by both sides.")
@click.option("--request-key", default="", help="Your own key: the same key gives the same cancellation, however often it is sent.")
@click.option("--no-goods", is_flag=True, help="Nothing is to come back from the customer, as after a download.")
@directory_option
@json_option
def cancel(tid: str, amount: int | None, reason: str, request_key: str, no_goods: bool, directory: Path, as_json: bool) -> None:
    """At the shop: cancel an order, or refund a part of it; the money goes back only where it came from.

    The signed request is durable before it is sent and is sent again until the payment server has answered. Ends with status 1 if the
    payment server has refused.

    \b
    Example:
      hanbit merchant cancel p4Fy0l7cQ8m1zq2hVt9a3w --amount 20000 --reason "one of two came back" --directory ./shop-keys
    """
    text = "" if amount is None else str(amount)
    goods = "none" if no_goods else "awaited"
    answer = _ask(directory, "cancel", tid=tid, amount=text, reason=reason, request_key=request_key, goods=goods)
    show(answer if as_json else {"cancellation": [answer["cancellation"]], "order": [answer["order"]]}, as_json=as_json)
    if answer["cancellation"]["state"] == "asked":
        click.echo("The payment server has not answered yet; the same signed request is sent until it does.", err=True)
    sys.exit(1 if answer["cancellation"]["state"] == "refused" else 0)


@click.command(context_settings={"ignore_unknown_options": True})  # a tid may begin with a hyphen
@click.argument("tid")
@directory_option
@json_option
def returned(tid: str, directory: Path, as_json: bool) -> None:
    """At the shop: note that what was delivered under a cancelled order has come back.

    \b
    Example:
      hanbit merchant returned p4Fy0l7cQ8m1zq2hVt9a3w --directory ./shop-keys
    """
    show(_ask(directory, "returned", dial=False, tid=tid), as_json=as_json)


@click.command()
@directory_option
@json_option
def reconcile(directory: Path, as_json: bool) -> None:
    """At the shop: after an outage ask the payment server about every open order, and list what its signed word did not end.

    Ends with status 1 if something needs somebody.

    \b
    Example:
      hanbit merchant reconcile --directory ./shop-keys
    """
    report = _ask(directory, "reconcile")
    show(report, as_json=as_json)
    sys.exit(1 if report["unresolved"] else 0)


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Where to write it; what contradicts it is written beside it, with .contradicts at the end of its name.",
)
@click.option("--accept", default="", help="Go on from the contradicting checkpoint of this name, after the operator has explained it.")
@directory_option
@json_option
def checkpoint(output: Path, accept: str, directory: Path, as_json: bool) -> None:
    """At the shop: write the payment server's last signed checkpoint that this shop holds, for `hanbit evidence check`.

    Ends with status 1 if the payment server has signed another that cannot be true beside it: keep both files, and call the operator.

    \b
    Example:
      hanbit merchant checkpoint -o shop.checkpoint --directory ./shop-keys
    """
    held = _ask(directory, "checkpoint", dial=False, accept=accept)
    output.write_text(held.pop("checkpoint") + "\n", "ascii")
    contradiction = held.pop("contradiction")
    if contradiction is not None:
        output.with_name(f"{output.name}.contradicts").write_text(contradiction + "\n", "ascii")
    show(held | {"file": str(output)}, as_json=as_json)
    sys.exit(0 if contradiction is None else 1)


@click.command(context_settings={"ignore_unknown_options": True})  # a tid may begin with a hyphen
@click.argument("tid")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where to write it.")
@directory_option
@json_option
def evidence(tid: str, output: Path, directory: Path, as_json: bool) -> None:
    """At the shop: write its own evidence of an order (messages, what was ordered, how its keys follow one another) as one file.

    What was ordered is in it: give the file to whom it concerns. `hanbit evidence verify` judges it.

    \b
    Example:
      hanbit merchant evidence p4Fy0l7cQ8m1zq2hVt9a3w --directory ./shop-keys -o order.evidence
    """
    from hanbit.evidence.bundle import write
    from hanbit.merchant import own_evidence

    made = own_evidence.assemble(directory, _ask(directory, "evidence", dial=False, tid=tid))
    written = write(made)
    output.write_bytes(written)
    show({"file": str(output), "tid": tid, "messages": len(made.messages), "bytes": len(written)}, as_json=as_json)


def _ask(directory: Path, command: str, *, dial: bool = True, **arguments: str) -> dict[str, Any]:
    from hanbit.merchant import commands

    return run(commands.run(directory, command, _progress, dial=dial, **arguments))


def _progress(done: int, total: int) -> None:
    """One line that counts, where somebody watches."""
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {total}", nl=done == total, err=True)
