"""A cancellation as the shop's own book holds it: what was asked back (C1), and what the gateway answered (C3)."""

import sqlite3
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from hanbit.kernel.errors import BadInput, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant.order import REQUEST_KEY_MAX, Order
from hanbit.merchant.states import State

REASON_MAX: Final = 200
CANCELLATIONS_MAX: Final = 100
"""Of one order; a refund in more parts than that is a mistake of a program."""
EARLY_FIGURES: Final = frozenset({"amount_differs", "remaining_differs", "payment", "prev"})
"""Refusals of figures: a cancellation that was asked before the outcome was known is asked anew once the order is settled."""
TOO_OLD: Final = frozenset({"expired", "certificate_dates"})
"""The gateway had not taken it within its day, or under a key that has ended since: the same is asked anew at once."""
NEVER: Final = (
    TOO_OLD
    | EARLY_FIGURES
    | frozenset({"amount", "aud", "cancellation_reused", "claims", "currency", "exp", "jti", "revoked", "signature", "tid"})
    | frozenset({"unknown_key", "used_up"})
)
"""Codes with which the gateway's line turns away bytes that can never succeed. Whatever else it says, the same bytes are sent again."""


class CancellationState(StrEnum):
    """Where a cancellation stands; the last two are for ever."""

    ASKED = "asked"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class Goods(StrEnum):
    """Whether something is to come back from the customer; only a confirmed cancellation of a settled order awaits anything."""

    NONE = "none"
    AWAITED = "awaited"
    RETURNED = "returned"


class Cancellation(msgspec.Struct, frozen=True):
    """One row of the book; its C1 stood there before it was sent."""

    id: str
    tid: str
    state: CancellationState
    amount: Money
    remaining: Money
    """What the shop believed was left before it."""
    reason: str
    request_key: str | None
    early: bool
    """Asked before the outcome of the payment was known here."""
    asked_at: int
    changed_at: int
    goods: Goods
    message: int = 0
    """The journal's number of the C1."""
    answer: int | None = None
    refusal: str | None = None
    """A code of `protocols.cancellation.messages.REFUSALS`, or of `NEVER` where the line turned it away."""
    look: str | None = None
    """What somebody should look at: the gateway's figures are not ours."""
    replaced_by: str | None = None
    """It was asked anew, with the right figures, under this id."""

    @property
    def final(self) -> bool:
        """The gateway's answer is stored."""
        return self.state is not CancellationState.ASKED


def amount_to_cancel(order: Order, amount: Money | None, *, reason: str, request_key: str | None) -> Money:
    """What is asked back, None meaning all that is left; BadInput or WrongState where that cannot be asked."""
    if not 1 <= len(reason) <= REASON_MAX or not reason.isprintable():
        raise BadInput(f"reason: 1 to {REASON_MAX} printable characters")
    if request_key is not None and not 1 <= len(request_key) <= REQUEST_KEY_MAX:
        raise BadInput(f"request_key: 1 to {REQUEST_KEY_MAX} characters")
    if order.state in (State.REFUSED, State.VOIDED, State.CLOSED):
        raise WrongState(f"the order is {order.state}: nothing was paid, so there is nothing to cancel")
    if order.state is State.REQUESTED:
        raise WrongState("the payment server decides about a purchase of this order at this moment: cancel it when the answer is here")
    left = order.remaining
    if left.amount_minor == 0:
        raise WrongState("the order is cancelled: nothing is left of it")
    if amount is None:
        return left
    if amount.currency != left.currency or amount.amount_minor == 0:
        raise BadInput(f"amount: more than nothing, in {left.currency}")
    if amount.amount_minor > left.amount_minor:
        raise WrongState(f"{amount.text} is more than what is left of the order: {left.text} {left.currency}")
    if order.state in (State.PLACED, State.WITHDRAWN) and amount != left:
        raise WrongState("nothing is paid yet: before the payment only the whole order can be cancelled")
    return amount


# --- rows -----------------------------------------------------------------------------------------------------------------------------

_COLUMNS: Final = (
    "id, tid, state, amount_minor, currency, remaining_minor, reason, request_key, early, asked_at, changed_at, goods, message, answer, "
    "refusal, look, replaced_by"
)
BY_ID: Final = "c.id = ?"
BY_REQUEST_KEY: Final = "c.request_key = ? AND c.replaced_by IS NULL"
OF_AN_ORDER: Final = "c.tid = ? ORDER BY c.message"
OF_ORDERS: Final = "c.tid IN (SELECT value FROM json_each(?))"
BY_REQUEST_KEYS: Final = "c.request_key IN (SELECT value FROM json_each(?)) AND c.replaced_by IS NULL"
ASKED: Final = "c.state = 'asked' AND c.message > ? ORDER BY c.message LIMIT ?"
OF_CONSOLES: Final = "c.request_key >= ? AND c.request_key < ? AND c.asked_at > ? AND c.state <> 'refused'"
LOOKED: Final = "looked:"
"""Before a cancellation's id: the name under which the book holds that somebody has compared. What was said stays as it is."""
REFUND: Final = "refund:"
"""Before a tid: the name under which the book holds that a part has gone back of which the shop's handler has not heard."""
TO_LOOK_AT: Final = (
    "c.look IS NOT NULL AND NOT EXISTS (SELECT 1 FROM held h WHERE h.name = 'looked:' || c.id) ORDER BY c.changed_at DESC LIMIT ?"  # LOOKED
)
RENEWABLE: Final = (
    "c.state = 'refused' AND c.replaced_by IS NULL AND c.early = 1 "
    "AND c.refusal IN ('amount_differs', 'remaining_differs', 'payment', 'prev') "  # EARLY_FIGURES
    "AND EXISTS (SELECT 1 FROM orders o WHERE o.tid = c.tid AND o.state = 'settled') "
    # Somebody has asked again since: that, and nothing older, is what the shop wants.
    "AND NOT EXISTS (SELECT 1 FROM cancellations n WHERE n.tid = c.tid AND n.message > c.message) LIMIT ?"
)
"""Refused for their figures before the order was settled, and not asked anew by anybody."""


def select(connection: sqlite3.Connection, where: str, *parameters: object) -> list[Cancellation]:
    """The cancellations for which one of the conditions above holds."""
    columns = ", ".join(f"c.{column}" for column in _COLUMNS.split(", "))
    return [_read(row) for row in connection.execute(f"SELECT {columns} FROM cancellations c WHERE {where}", parameters)]  # noqa: S608 - our own columns, and constants of the callers


def insert(connection: sqlite3.Connection, rows: Iterable[Cancellation]) -> None:
    """New rows."""
    connection.executemany(f"INSERT INTO cancellations ({_COLUMNS}) VALUES ({', '.join('?' * 17)})", [_row(c) for c in rows])  # noqa: S608 - our own column list


def update(connection: sqlite3.Connection, rows: Iterable[Cancellation]) -> None:
    """What changes in a row: its answer, where the goods are, and what took its place."""
    connection.executemany(
        "UPDATE cancellations SET state = ?, changed_at = ?, goods = ?, answer = ?, refusal = ?, look = ?, replaced_by = ? WHERE id = ?",
        [(c.state, c.changed_at, c.goods, c.answer, c.refusal, c.look, c.replaced_by, c.id) for c in rows],
    )


def _read(row: Sequence[Any]) -> Cancellation:
    identity, tid, state, amount, currency, remaining, reason, key, early, asked_at, changed_at, goods, *rest = row
    money = Money(amount, currency), Money(remaining, currency)
    return Cancellation(
        identity, tid, CancellationState(state), *money, reason, key, bool(early), asked_at, changed_at, Goods(goods), *rest
    )


def _row(c: Cancellation) -> tuple[object, ...]:
    values = asdict(c)
    amount, remaining = values.pop("amount"), values.pop("remaining")
    values |= {"amount_minor": amount.amount_minor, "currency": amount.currency, "remaining_minor": remaining.amount_minor}
    return tuple(values[column] for column in _COLUMNS.split(", "))
