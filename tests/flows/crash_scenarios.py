"""Whole payments, each with a different end, as everybody lives them when nothing breaks; and what each may become when something does."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from hanbit.kernel.errors import Unavailable
from hanbit.kernel.money import Money
from hanbit.merchant.gateway_line import GatewayLine
from hanbit.merchant.handlers import No, Yes
from hanbit.merchant.order import Order
from hanbit.protocols.redirect.gateway import HOLD_LIFE_S
from tests.flows.crash_world import MERCHANT, Parties


async def paid(p: Parties) -> None:
    """Paid, settled, acknowledged; afterwards the shop asks once more (RQ)."""
    tid = await p.order()
    assert await p.submit(await p.open()) == "captured"
    await p.until_at_rest(tid)
    assert (await p.shop.inquire(tid)).state == "settled"


async def refused(p: Parties) -> None:
    """The shop says no (60)."""

    async def no(_order: Order) -> Yes | No:
        return No(ko="다 팔렸습니다.", en="Sold out.")

    p.on_confirm = no
    tid = await p.order()
    assert await p.submit(await p.open()) == "refused"
    await p.until_at_rest(tid)


async def cancelled(p: Parties) -> None:
    """The customer cancels before anything was held."""
    tid = await p.order()
    opened = await p.open()
    assert (await p.wallet.cancel(opened)).state == "closed"
    await p.until_at_rest(tid)


async def declined_then_paid(p: Parties) -> None:
    """Too little in one account (50), enough in another."""
    tid = await p.order()
    opened = await p.open()
    assert await p.submit(opened, "emoney") == "open"
    assert await p.submit(opened, "bank") == "captured"
    await p.until_at_rest(tid)


async def declined_five_times(p: Parties) -> None:
    """The fifth declined attempt closes the payment."""
    tid = await p.order()
    opened = await p.open()
    states = [await p.submit(opened, "emoney") for _ in range(5)]
    assert states == ["open"] * 4 + ["closed"]
    await let_it_end(p, tid)


async def left_open(p: Parties) -> None:
    """The customer logs in and goes away; `pay_by` passes."""
    tid = await p.order()
    await p.open()
    due = p.next_due(tid)
    assert due is not None
    p.clock.advance(due - p.clock.now())
    await p.until_at_rest(tid)


async def hold_expired(p: Parties) -> None:
    """The shop's line is gone when it is to be asked; the hold ends, and the shop hears of it when it is back."""
    tid = await p.order()
    opened = await p.open()
    line = p.shop.line
    assert isinstance(line, GatewayLine)
    await line.stop()
    await p.until_line(up=False)
    assert await p.submit(opened) == "authorized"
    p.clock.advance(HOLD_LIFE_S + 1)
    await p.until(lambda: _is(p, tid, "voided"))
    await line.start()
    await let_it_end(p, tid)


async def confirmed_too_late(p: Parties) -> None:
    """The shop stands to the order, but its answer is lost with the line and the hold ends first: voided, whatever it had said."""

    async def as_the_line_falls(_order: Order) -> Yes | No:
        p.running.line.drop(MERCHANT, "cut")
        p.clock.advance(HOLD_LIFE_S + 1)
        return Yes()

    p.on_confirm = as_the_line_falls
    tid = await p.order()
    assert await p.submit(await p.open()) in {"authorized", "voided"}
    await let_it_end(p, tid)


async def withdrawn_before_anybody_opened(p: Parties) -> None:
    """The shop cancels (C1) what no customer has seen."""
    tid = await p.order()
    await p.shop.cancel(tid, reason="sold out")
    await p.until_at_rest(tid)


async def withdrawn_while_open(p: Parties) -> None:
    """The shop cancels (C1) while a customer is at the payment screen."""
    tid = await p.order()
    await p.open()
    await p.shop.cancel(tid, reason="sold out")
    await p.until_at_rest(tid)


async def refunded_in_parts(p: Parties) -> None:
    """Paid, then a part and then the rest goes back (C1 to C3)."""
    tid = await p.order()
    assert await p.submit(await p.open()) == "captured"
    await p.until_at_rest(tid)
    await p.shop.cancel(tid, amount=Money(20_000, "KRW"), reason="one was broken")
    await p.until_at_rest(tid)
    await p.shop.cancel(tid, reason="the rest too")
    await p.until_at_rest(tid)


async def cancelled_as_it_was_confirmed(p: Parties) -> None:
    """The shop confirms and regrets it at once: its cancellation finds the payment in progress, or just captured."""
    asked: list[asyncio.Task[object]] = []

    async def yes_but(order: Order) -> Yes | No:
        asked.append(asyncio.create_task(p.shop.cancel(order.tid, reason="changed our mind")))
        return Yes()

    p.on_confirm = yes_but
    tid = await p.order()
    assert await p.submit(await p.open()) in {"captured", "refused"}  # a cancellation that is stored first bars the confirmation
    await asyncio.gather(*asked, return_exceptions=True)
    await let_it_end(p, tid)


async def _is(p: Parties, tid: str, state: str) -> bool:
    payment = p.payment(tid)
    return payment is not None and payment.state == state


async def _known(p: Parties, tid: str) -> bool:
    return p.payment(tid) is not None


async def _let_time_pass(p: Parties, tid: str) -> None:
    """On to the moment at which the book itself wants to do something; then wait until it has."""
    due = p.next_due(tid)
    if due is not None and due > p.clock.now():
        p.clock.advance(due - p.clock.now())

    async def moved() -> bool:
        return p.next_due(tid) != due or await p.at_rest(tid)

    await p.until(moved)
    await p.until(lambda: _quiet(p))


async def _quiet(p: Parties) -> bool:
    """Nothing is on its way over the line or into the book."""
    asked = sum(merchant.pending for merchant in p.running.line.stats().merchants.values())
    return asked == 0 and p.gateway.book.waiting == 0


async def let_it_end(p: Parties, tid: str, *, at_the_gateway_only: bool = False, longer_s: int = 0) -> None:
    """Nobody does anything any more; only time passes. Unavailable if that does not end it within `pay_by` + 15 minutes."""
    if p.payment(tid) is None and await p.asks(tid):
        await p.until(lambda: _known(p, tid))  # the shop had asked durably, and asks again by itself
    latest = max((await p.shop.order(tid)).pay_by, p.clock.now()) + 15 * 60 + longer_s
    while (payment := p.payment(tid)) is not None and not await p.at_rest(tid):
        if at_the_gateway_only and payment.is_final:
            return
        await _let_time_pass(p, tid)
        if p.clock.now() > latest:
            raise Unavailable(f"not final in time: {p.payment(tid)}, {await p.shop.order(tid)}")
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Scenario:
    """How it is played, and in which states it may end when everything was killed on the way and nobody helps."""

    play: Callable[[Parties], Awaitable[None]]
    ends: frozenset[str]


SCENARIOS: Final = {
    "paid": Scenario(paid, frozenset({"captured", "closed"})),
    "refused": Scenario(refused, frozenset({"refused", "captured", "closed"})),  # killed before it said no, the shop says yes afterwards
    "cancelled": Scenario(cancelled, frozenset({"closed"})),
    "declined_then_paid": Scenario(declined_then_paid, frozenset({"captured", "closed"})),
    "declined_five_times": Scenario(declined_five_times, frozenset({"closed"})),
    "left_open": Scenario(left_open, frozenset({"closed"})),
    "hold_expired": Scenario(hold_expired, frozenset({"voided", "captured", "closed"})),
    "withdrawn_before_anybody_opened": Scenario(withdrawn_before_anybody_opened, frozenset({"closed"})),
    "withdrawn_while_open": Scenario(withdrawn_while_open, frozenset({"closed"})),
    "refunded_in_parts": Scenario(refunded_in_parts, frozenset({"captured", "closed"})),
    "cancelled_as_it_was_confirmed": Scenario(cancelled_as_it_was_confirmed, frozenset({"captured", "refused", "closed"})),
    "confirmed_too_late": Scenario(confirmed_too_late, frozenset({"voided", "captured", "closed"})),
}
