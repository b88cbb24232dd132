"""What staff do with a shop from a terminal, in words that travel as JSON: list, cancel, take goods back, reconcile."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final, Protocol, TypeAlias

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.kernel.money import Money, parse_amount
from hanbit.merchant import own_evidence
from hanbit.merchant.cancellation import Cancellation
from hanbit.merchant.order import Order
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.order_desk import Redirect
from hanbit.merchant.reconciliation import Progress, Report
from hanbit.merchant.states import State
from hanbit.merchant.witness import Witness
from hanbit.protocols.checkpoint import read_held

LIST_MAX: Final = 1_000
Answer: TypeAlias = dict[str, Any]


class Staffed(Protocol):
    """What staff need of a shop; `Shop` has it."""

    book: OrderBook
    witness: Witness

    async def order(self, tid: str) -> Order:
        """The order, or NotFound."""
        ...

    async def redirect(self, tid: str) -> Redirect:
        """R3 once more."""
        ...

    async def cancel(self, tid: str, *, amount: Money | None, reason: str, request_key: str | None, goods: bool) -> Cancellation:
        """C1."""
        ...

    async def mark_goods_returned(self, tid: str) -> list[Cancellation]:
        """What was delivered has come back."""
        ...

    async def reconcile(self, progress: Progress | None = None) -> Report:
        """Ask about whatever is open."""
        ...


async def orders(shop: Staffed, _: Progress, *, state: str = "", limit: str = "50") -> Answer:
    """The newest orders, of one state or of any."""
    if state and state not in set(State):
        raise BadInput(f"state: one of {', '.join(State)}")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= LIST_MAX):
        raise BadInput(f"limit: 1 to {LIST_MAX}")
    found: list[Order] = []
    before: str | None = None
    while len(found) < int(limit):
        page, before = await shop.book.listed(None, State(state) if state else None, int(limit) - len(found), before)
        found += page
        if before is None:
            break
    return {"orders": [order_view(order) for order in found]}


async def cancel(
    shop: Staffed, _: Progress, *, tid: str, reason: str, amount: str = "", request_key: str = "", goods: str = "awaited"
) -> Answer:
    """C1: all that is left, or `amount` minor units of it."""
    if goods not in ("awaited", "none"):
        raise BadInput("goods: awaited or none")
    order = await shop.order(tid)
    money = Money(parse_amount(amount), order.amount.currency) if amount else None
    done = await shop.cancel(tid, amount=money, reason=reason, request_key=request_key or None, goods=goods == "awaited")
    return {"cancellation": cancellation_view(done), "order": order_view(await shop.order(tid))}


async def returned(shop: Staffed, _: Progress, *, tid: str) -> Answer:
    """What was delivered under a cancelled order has come back."""
    return {"cancellations": [cancellation_view(one) for one in await shop.mark_goods_returned(tid)]}


async def redirect(shop: Staffed, _: Progress, *, tid: str) -> Answer:
    """The payment address of an order that is still open, once more."""
    return {"tid": tid, "address": (await shop.redirect(tid)).location}


async def reconcile(shop: Staffed, progress: Progress) -> Answer:
    """Ask the gateway about every open order and cancellation."""
    report = await shop.reconcile(progress)
    return {
        "asked": report.asked,
        "ended": [{"tid": tid, "state": state} for tid, state in report.ended],
        "waiting": [asdict(finding) for finding in report.waiting],
        "unresolved": [asdict(finding) for finding in report.unresolved],
    }


async def checkpoint(shop: Staffed, _: Progress, *, accept: str = "") -> Answer:
    """What this shop holds the payment server to, and what contradicts it; `accept` is the name of a contradiction to go on from."""
    witness = shop.witness
    if accept:
        await witness.accept(accept)
    if witness.compact is None:
        raise NotFound("this shop holds no checkpoint yet: it gets one when its line is up")
    held = read_held(witness.compact)
    contradiction = witness.contradiction
    return {
        "checkpoint": witness.compact,
        "size": held.size,
        "root": held.root,
        "time": held.time,
        "contradiction": contradiction,
        "contradiction_name": None if contradiction is None else ids.digest(contradiction.encode("ascii")),
    }


async def evidence(shop: Staffed, _: Progress, *, tid: str) -> Answer:
    """What the shop holds of an order, for its evidence file."""
    return await own_evidence.collect(await shop.order(tid), shop.book, shop.witness)


COMMANDS: Final[dict[str, Callable[..., Awaitable[Answer]]]] = {
    "orders": orders,
    "cancel": cancel,
    "returned": returned,
    "redirect": redirect,
    "reconcile": reconcile,
    "checkpoint": checkpoint,
    "evidence": evidence,
}


async def call(shop: Staffed, progress: Progress, command: object, arguments: object) -> Answer:
    """Run one of `COMMANDS`; BadInput where command or arguments are none."""
    function = COMMANDS.get(command) if isinstance(command, str) else None
    if function is None or not isinstance(arguments, dict) or not all(isinstance(value, str) for value in arguments.values()):
        raise BadInput("command")
    known = {name: item.default for name, item in inspect.signature(function).parameters.items() if item.kind is item.KEYWORD_ONLY}
    needed = {name for name, default in known.items() if default is inspect.Parameter.empty}
    if not needed <= set(arguments) <= set(known):
        raise BadInput(f"arguments of {command}: {', '.join(sorted(known))}")
    return await function(shop, progress, **arguments)


def order_view(order: Order) -> Answer:
    """An order on one line."""
    return {
        "tid": order.tid,
        "state": order.state,
        "amount": order.amount.text,
        "refunded": order.refunded.text,
        "remaining": order.remaining.text,
        "currency": order.amount.currency,
        "text": order.text,
        "placed_at": order.placed_at,
    }


def cancellation_view(cancellation: Cancellation) -> Answer:
    """A cancellation on one line."""
    return {
        "cancellation": cancellation.id,
        "tid": cancellation.tid,
        "state": cancellation.state,
        "amount": cancellation.amount.text,
        "currency": cancellation.amount.currency,
        "reason": cancellation.reason,
        "refusal": cancellation.refusal,
        "goods": cancellation.goods,
        "look": cancellation.look,
        "asked_at": cancellation.asked_at,
    }
