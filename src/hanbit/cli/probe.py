"""`hanbit merchant probe`: the conformance kit against a merchant's own implementation."""

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hanbit.cli.options import CommandGroup, json_option, run, show
from hanbit.cli.serve import read_address

if TYPE_CHECKING:
    from hanbit.merchant.probe.case import Case
    from hanbit.merchant.probe.chores import Chores
    from hanbit.merchant.probe.parties import Operator
    from hanbit.merchant.probe.run import Outcome, Result
    from hanbit.merchant.probe.shop_side import ShopSide
    from hanbit.merchant.probe.stage import Waits
    from hanbit.merchant.probe.ways import Way

LINE = "127.0.0.1:8410"
ENROL = "127.0.0.1:8411"
FOLDER = "probe"
folder_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    show_default=True,
    help="The probe's folder, from `init`.",
)


class _Probe(CommandGroup):
    """What is no command of its own is the ADDRESS of an implementation."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["run", *args])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or self.commands["run"]


@click.group(cls=_Probe)
def probe() -> None:
    """Play a dishonest payment server and network against a merchant's own implementation at ADDRESS; report what it wrongly accepted.

    ADDRESS is HOST:PORT, where the probe waits to be dialled as the payment server's line, or the https address at which the
    implementation takes POST. Exit status 1 if anything was wrongly accepted or an honest control failed.

    \b
    Example:
      hanbit merchant probe init ./probe                 a throw-away operator
      hanbit merchant probe enrol --directory ./probe    the implementation enrols
      hanbit merchant probe 127.0.0.1:8410 --directory ./probe --order-url http://127.0.0.1:3000/order
    """


@probe.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--merchant", default="shop", show_default=True, help="The id under which the implementation enrols.")
@click.option("--line", default=LINE, show_default=True, help="HOST:PORT that it will dial.")
@json_option
def init(directory: Path, merchant: str, line: str, as_json: bool) -> None:
    """Make DIRECTORY a throw-away operator: root, keys, and the keys of everybody false. Prints the enrolment code and the root's pin.

    \b
    Example:
      hanbit merchant probe init ./probe
    """
    from hanbit.kernel.clock import SystemClock
    from hanbit.merchant.files import LineAddress
    from hanbit.merchant.probe import parties

    host, port = read_address(line, "--line")
    code = parties.create(directory, merchant=merchant, line=LineAddress(host=host, port=port), at=SystemClock().now())
    operator = parties.load(directory)
    show({"merchant": operator.merchant, "code": code, "pin": operator.pin, "root": str(operator.root_file)}, as_json=as_json)
    if not as_json:
        click.echo(f"Next: hanbit merchant probe enrol --directory {directory}")


@probe.command("enrol")
@folder_option
@click.option("--listen", default=ENROL, show_default=True, help="HOST:PORT of this computer.")
@click.option("--wait", "wait_s", type=click.IntRange(1, 86_400), default=600, show_default=True, help="Seconds to wait for it.")
def enrol(directory: Path, listen: str, wait_s: int) -> None:
    """Wait until the implementation has enrolled (`POST /enrol/merchant`, as at a payment server); its certificates are kept.

    \b
    Example:
      hanbit merchant probe enrol --directory ./probe
      hanbit merchant enrol ./shop-keys --gateway http://127.0.0.1:8411 --pin PIN
    """
    run(_enrol(directory, read_address(listen, "--listen"), wait_s))


@probe.command("cases")
@json_option
def cases(as_json: bool) -> None:
    """List every case: what the probe does, and the rule that stands against it.

    \b
    Example:
      hanbit merchant probe cases
    """
    from hanbit.merchant.probe.table import CASES

    show({"cases": [{"name": case.name, "group": case.group, "does": case.does, "rule": case.rule} for case in CASES]}, as_json=as_json)


@probe.command("run")
@click.argument("address")
@folder_option
@click.option("--order-command", default="", help="A program that places an order and prints its Location.")
@click.option("--order-url", default="", help="Where a POST places an order: a redirect with its Location, or JSON with `redirect`.")
@click.option(
    "--order-body", type=click.Path(path_type=Path, dir_okay=False, exists=True), default=None, help="The JSON body for --order-url."
)
@click.option(
    "--state-url", default="", help="Where the shop says what became of an order: JSON with `state` and `may_deliver`; write {tid}."
)
@click.option("--inquire-url", default="", help="Where a POST makes the shop ask the payment server about an order; write {tid}.")
@click.option(
    "--token-file", "bearer", type=click.Path(path_type=Path, dir_okay=False), default=None, help="A bearer token for these addresses."
)
@click.option("--only", multiple=True, help="Play only this case; may be repeated.")
@click.option("--wait", "answer_s", type=click.FloatRange(0.1, 60), default=4.0, show_default=True, help="Seconds to wait for one answer.")
@json_option
def play(
    address: str,
    directory: Path,
    order_command: str,
    order_url: str,
    order_body: Path | None,
    state_url: str,
    inquire_url: str,
    bearer: Path | None,
    only: tuple[str, ...],
    answer_s: float,
    as_json: bool,
) -> None:
    """Play the cases against the implementation at ADDRESS.

    \b
    Example:
      hanbit merchant probe run 127.0.0.1:8410 --order-url http://127.0.0.1:3000/order
      hanbit merchant probe run https://127.0.0.1:8443/line --order-command ./place-order --json
    """
    from rich.console import Console

    from hanbit.merchant.probe import report
    from hanbit.merchant.probe.stage import Waits
    from hanbit.merchant.probe.table import CASES

    if bool(order_command) == bool(order_url):
        raise click.UsageError("--order-command or --order-url: the probe plays with real orders of the shop")
    unknown = set(only) - {case.name for case in CASES}
    if unknown:
        raise click.UsageError(f"--only: no case {', '.join(sorted(unknown))}; see: hanbit merchant probe cases")
    chosen = [case for case in CASES if not only or case.name in only]
    body = None if order_body is None else order_body.read_bytes()
    shop = _ShopOptions(order_command, order_url, body, state_url, inquire_url, bearer)
    outcome = run(_play(address, directory, shop, chosen, Waits(answer_s=answer_s, forged_s=answer_s), quiet=as_json))
    if as_json:
        click.echo(json.dumps(report.as_json(outcome), ensure_ascii=False))
    else:
        report.show(outcome, Console())
    if outcome.wrong:
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class _ShopOptions:
    """How the probe reaches the shop's own pages."""

    command: str
    url: str
    body: bytes | None
    state_url: str
    inquire_url: str
    bearer: Path | None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["ShopSide"]:
        from hanbit.merchant.probe import shop_side

        token = "" if self.bearer is None else shop_side.read_token(self.bearer)
        async with shop_side.http() as session:
            pages = shop_side.ShopPages(session, token)
            yield shop_side.ShopSide(
                shop_side.by_command(self.command) if self.command else pages.orders(self.url, self.body),
                pages.states(self.state_url) if self.state_url else None,
                pages.inquiries(self.inquire_url) if self.inquire_url else None,
            )


async def _enrol(directory: Path, address: tuple[str, int], wait_s: int) -> None:
    import asyncio

    from hanbit.kernel.clock import SystemClock
    from hanbit.kernel.errors import Unavailable
    from hanbit.merchant.probe import parties
    from hanbit.merchant.probe.enrolment_desk import EnrolmentDesk

    operator = parties.load(directory)
    desk = EnrolmentDesk(operator, SystemClock())
    async with desk.listening(*address) as port:
        click.echo(f"enrol at http://{address[0]}:{port} with the code and the pin {operator.pin}", err=True)
        try:
            async with asyncio.timeout(wait_s):
                await desk.enrolled.wait()
        except TimeoutError:
            raise Unavailable(f"nobody has enrolled within {wait_s} s") from None
    click.echo(f"{operator.merchant} is enrolled; it dials {operator.registration.line.host}:{operator.registration.line.port}")


async def _play(address: str, directory: Path, shop: _ShopOptions, chosen: "Sequence[Case]", waits: "Waits", *, quiet: bool) -> "Outcome":
    from hanbit.kernel.clock import SystemClock
    from hanbit.kernel.errors import BadInput
    from hanbit.merchant.probe import parties
    from hanbit.merchant.probe.chores import Chores
    from hanbit.merchant.probe.run import Run

    operator, clock = parties.load(directory), SystemClock()
    if not operator.has_enrolled():
        raise BadInput(f"no implementation has enrolled at {directory}: hanbit merchant probe enrol --directory {directory}")
    chores = Chores(operator, clock)
    done = 0

    def told(result: "Result") -> None:
        nonlocal done
        done += 1
        if not quiet:
            click.echo(f"{done:3}/{len(chosen)}  {result.name:28} {result.verdict.replace('_', ' ')}", err=True)

    async with AsyncExitStack() as stack:
        reached = await stack.enter_async_context(shop.opened())
        way, dials = await _way(stack, address, operator, chores)
        if not quiet:
            click.echo(f"waiting for {operator.merchant} …", err=True)
        return await Run(operator, way, chores, reached, clock, waits, dials, told).play(chosen)


async def _way(stack: AsyncExitStack, address: str, operator: "Operator", chores: "Chores") -> "tuple[Way, bool]":
    from hanbit.kernel.clock import SystemClock
    from hanbit.merchant.probe.ways import Listening, Posting

    if address.startswith("https://"):
        return await stack.enter_async_context(Posting(address, operator, SystemClock(), chores).opened()), False
    host, port = read_address(address, "ADDRESS")
    line = operator.registration.line
    if (host, port) != (line.host, line.port):
        click.echo(f"note: at its enrolment the implementation was told to dial {line.host}:{line.port}", err=True)
    return await stack.enter_async_context(Listening(operator, SystemClock(), chores).listening(host, port)), True
