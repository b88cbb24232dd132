"""One run from an empty folder to its figures: set up, openings, payments, checkouts, audit.

set up     operator's folder, gateway, shop and customers as processes; each customer logs in and pays once
openings   R3 to R6 of each payment, counted by themselves; of the dual-signature checkout D1 and the same page and screen
payments   R7 (key and pay) to R12, or D2 to D8, until the shop has acknowledged the last outcome: what the clock measures
refunds    C1 to C3 of each n-th payment, half and then the rest, while the others are paid (only where asked for)
logins     R5 of so many people a second beside the second half of the payments (only where asked for)
checkouts  R3 to R12, or D1 to D8, for a short while, with the receipts verified
audit      ledger and evidence from the store, both sides' counts, every receipt
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from hanbit.bench import audit, figures, floors
from hanbit.bench.world import SHOPS, Plan, World, database_of, drained, opened
from hanbit.db.reading import Reader
from hanbit.folder import place_at
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Unavailable
from hanbit.merchant.files import ORDER_BOOK

OPENINGS_SHARE: Final = 0.8
"""Of --seconds: an opening costs about what a payment costs, so nearly all that is prepared is used."""
CHECKOUTS_SHARE: Final = 0.15
OPENINGS_LEFT, PAYMENTS_LEFT, CHECKOUTS_LEFT = 0.3, 0.45, 0.15
"""Of the time that is left when each phase begins: on a machine that is busy otherwise the phases grow shorter, the audit does not."""
RATE_MAX: Final = {"device": 2_000, "password": 160}
"""More payments a second than two cores can make, to prepare no more than can be used."""
STEPS: Final = {"redirect": ("R3 to R6", "R7 to R12", "R3 to R12"), "dual-signature": ("D1", "D2 to D8", "D1 to D8")}
"""By protocol: what openings, payments and checkouts are."""
FIGURES: Final = frozenset(
    {"payments_per_s", "openings_per_s", "checkouts_per_s", "p50_ms", "p99_ms", "refunds_per_s", "refund_p50_ms", "refund_p99_ms", "memory"}
)
"""What a run that failed does not have."""


class Measure(Protocol):
    """What is done with the parties once they are up; the figures of it."""

    async def __call__(self, world: World, plan: Plan, clock: Clock, latest: float, say: Callable[[str], None]) -> dict[str, Any]:
        """All of it must have been done by `latest`, on the monotonic clock."""
        ...


async def run(
    directory: Path, plan: Plan, clock: Clock, say: Callable[[str], None], measure: Measure | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The figures and what is wrong with the run; where anything is, the figures are None. Without a `measure` the payments are."""
    floors.check_disk(directory)
    latest = clock.monotonic() + plan.whole_s
    say("measuring floors")
    found = floors.measure(directory, clock)
    with database_of(directory, plan, clock, say) as database:
        async with contextlib.AsyncExitStack() as stack:
            world = await opened(stack, directory, plan, clock, say, database)
            result = await (measure or _measure)(world, plan, clock, latest, say)
            say("verifying receipts, proving book and evidence")
            receipts, broken = await asyncio.gather(world.customer.ask("verify"), audit.prove(world.data))
            unfinished = audit.unfinished(world.data)
        broken += _disagreements(directory, plan)  # once the shops have closed their books
    broken += receipts["shown"] + [f"not finished: {count} {what}" for what, count in unfinished.items() if count]
    errors = receipts["errors"] + sum(unfinished.values())
    asked = {"protocol": plan.protocol, "factor": plan.factor, "concurrency": plan.concurrency, "seconds": plan.seconds}
    if plan.logins:
        asked["logins_asked_per_s"] = plan.logins
    asked |= {"merchants": plan.merchants, "preload": plan.preload, "store": plan.store, "workers": plan.workers}
    if plan.open_loop:
        asked["open_loop_per_s"] = plan.open_loop
    report = {**result, **asked, "errors": errors, "floors": found}
    if broken or errors:
        report |= dict.fromkeys(FIGURES & report.keys())
    return report, broken


def _disagreements(directory: Path, plan: Plan) -> list[str]:
    """What gateway and shops have different counts of."""
    data = directory / "gateway"
    order_books = [directory / SHOPS / shop / ORDER_BOOK for shop in plan.shops]
    captured, settled = _captured(data) - plan.preload, sum(audit.settled_orders(order_book) for order_book in order_books)
    broken = [] if settled == captured else [f"the gateway captured {captured}, the shop may deliver {settled}"]
    if plan.by_relay:
        broken += audit.purchases_agree(data, order_books[0], captured)
    if plan.refund_every:
        broken += audit.refunds_agree(data, *order_books)
    return broken


async def _measure(world: World, plan: Plan, clock: Clock, latest: float, say: Callable[[str], None]) -> dict[str, Any]:
    load = {"concurrency": plan.concurrency}

    def time_for(wanted_s: float, part: float) -> float:
        return max(min(wanted_s, part * (latest - clock.monotonic())), 0.5)

    openings, payments, checkouts = STEPS[plan.protocol]
    say(f"opening payments ({openings})")
    # One at a time still opens with several in flight: what is prepared is not what is measured.
    opening = {"concurrency": max(plan.concurrency, 16), "most": plan.seconds * (plan.open_loop or RATE_MAX[plan.factor])}
    prepared = await world.customer.ask("open", seconds=time_for(plan.seconds * OPENINGS_SHARE, OPENINGS_LEFT), **opening)
    also = f", each {plan.refund_every}th given back (C1 to C3)" if plan.refund_every else ""
    say(f"paying {prepared['openings']} payments ({payments}){also}")
    if plan.refund_every:
        await world.merchant.ask("begin", every=plan.refund_every)
    load_s, alone = time_for(plan.seconds, PAYMENTS_LEFT), None
    if plan.logins:
        load_s /= 2
        alone = await world.customer.ask("pay", seconds=load_s, open_loop=plan.open_loop, **load)
        say(f"the same while {plan.logins} people a second log in")
        await world.customer.ask("begin_logins", rate=plan.logins)
    before, cpu_before = await world.metrics(), world.cpu_s()
    paid = await world.customer.ask("pay", seconds=load_s, open_loop=plan.open_loop, **load)
    beside = {} if alone is None else _login_figures(alone, await world.customer.ask("end_logins"))
    if plan.open_loop:
        beside["open_loop_s"] = round(paid["begun_s"], 2)
    drained_s = await drained(world, clock)
    refunds, refunded_s = await _refunds(world, plan, clock)
    whole_s = paid["seconds"] + drained_s + refunded_s
    cpu_after, after = world.cpu_s(), await world.metrics()
    say(f"whole checkouts ({checkouts})")
    checked = await world.customer.ask("checkout", seconds=time_for(max(plan.seconds * CHECKOUTS_SHARE, 1.0), CHECKOUTS_LEFT), **load)
    await drained(world, clock)
    return {
        "payments_per_s": figures.rate(paid["payments"], whole_s),
        "openings_per_s": figures.rate(prepared["openings"], prepared["seconds"]),
        "checkouts_per_s": figures.rate(checked["checkouts"], checked["seconds"]),
        **paid["latencies"],
        "cpu_ms_per_payment": figures.cpu_ms(cpu_before, cpu_after, paid["payments"]),
        "commit_batch": figures.commit_batch(before, after),
        "payments": paid["payments"],
        **({} if refunds is None else _refund_figures(refunds, whole_s)),
        **beside,
    }


def _login_figures(alone: dict[str, Any], logins: dict[str, Any]) -> dict[str, Any]:
    """What those who log in waited, and those who paid before anybody logged in."""
    if logins["errors"]:
        raise Unavailable(f"logins did not come out as they must: {logins['errors']}")
    waited = {f"login_{name}": value for name, value in logins["latencies"].items()}
    before = {f"{name.removesuffix('_ms')}_alone_ms": value for name, value in alone["latencies"].items()}
    return {"logins_per_s": figures.rate(logins["logins"], logins["seconds"]), **waited, **before}


async def _refunds(world: World, plan: Plan, clock: Clock) -> tuple[dict[str, Any] | None, float]:
    """What the shop says of them once the last is answered; the seconds that this took after the last payment."""
    if not plan.refund_every:
        return None, 0.0
    started = clock.monotonic()
    refunds = await world.merchant.ask("end")
    if refunds["errors"]:
        raise Unavailable(f"refunds did not come out as they must: {refunds['errors']}")
    return refunds, clock.monotonic() - started


def _refund_figures(refunds: dict[str, Any], whole_s: float) -> dict[str, Any]:
    latencies = {f"refund_{name}": value for name, value in refunds["latencies"].items()}
    return {"refunds_per_s": figures.rate(refunds["refunds"], whole_s), **latencies, "refunds": refunds["refunds"]}


def _captured(data: Path) -> int:
    reader = Reader(place_at(data))
    try:
        return int(reader.all("SELECT count(*) FROM payments WHERE state = 'captured'")[0][0])
    finally:
        reader.close()
