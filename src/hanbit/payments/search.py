"""Payments as consoles list and find them: newest first, a page at a time, everybody's or one merchant's."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from hanbit.db.reading import Reader, Row
from hanbit.db.schema import LISTED, WITHOUT_MONEY
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import Money
from hanbit.payments.payment import Payment
from hanbit.payments.states import State

STATES: Final = tuple(state.value for state in State if state is not State.NEW)
FOUND_MAX: Final = 50
_LIVE: Final = frozenset({State.OPEN, State.AUTHORIZED})
"""What is in these states has an hour at which it is looked at again: none stays there."""
_CURSOR: Final = re.compile(r"([0-9]{1,15})\.([A-Za-z0-9_-]{22})")
_SHORT: Final = re.compile(r"[A-Za-z0-9_-]{8,21}")
_COLUMNS: Final = "id, merchant, tid, state, reason, amount, currency, payee, text, opened_at, ended_at, captured, refunded, method"
_SELECT: Final = f"SELECT {_COLUMNS} FROM payments"  # noqa: S608 - names of our own


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is narrowed to; `merchant` None is everybody's. `until` is the first second that is too late."""

    merchant: str | None = None
    state: str = ""
    since: int | None = None
    until: int | None = None
    cursor: str = ""
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list."""

    id: str
    merchant: str
    tid: str
    state: str
    reason: str | None
    money: Money
    payee: str
    text: str
    opened_at: int
    ended_at: int | None
    refunded: Money | None
    method: str | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A cancellation that its shop has signed: what it asked for, what went back, and why not where nothing did."""

    id: str
    at: int
    asked: Money
    refunded: Money
    result: str
    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, newest first, and the cursor of the next page; empty after the last one."""

    rows: list[Listed]
    following: str


async def listed(reader: Reader, wanted: Wanted, rows: int) -> Page:
    """One page. It goes by the time of opening, which an index holds for all payments, for each merchant's and each customer's.

    Payments that ended without money have such indexes of their own; those that wait for something are few and are looked up by that.
    """
    where, values = _conditions(wanted)
    sql = f"SELECT {_COLUMNS} FROM payments {where} ORDER BY opened_at DESC, id DESC LIMIT ?"  # noqa: S608 - names and marks of our own
    found = [_listed(row) for row in await reader.scan(sql, *values, rows + 1)]
    following = f"{found[rows - 1].opened_at}.{found[rows - 1].id}" if len(found) > rows else ""
    return Page(found[:rows], following)


def numbered(reader: Reader, text: str, merchant: str | None) -> list[Listed]:
    """The payments that somebody means by a number: our own id, the first eight characters of it, or a merchant's tid."""
    number = text.strip()
    rows: list[Row] = []
    if ids.TOKEN.fullmatch(number) or ids.TID.fullmatch(number):
        merchants = "(SELECT id FROM merchants)" if merchant is None else "(?)"
        whose = () if merchant is None else (merchant,)
        rows = reader.all(f"{_SELECT} WHERE id = ?", number)
        rows += reader.all(f"{_SELECT} WHERE merchant IN {merchants} AND tid = ? AND id <> ? LIMIT ?", *whose, number, number, FOUND_MAX)
    elif _SHORT.fullmatch(number):
        rows = reader.all(f"{_SELECT} WHERE id >= ? AND id < ? LIMIT ?", number, number + "\x7f", FOUND_MAX)
    found = [_listed(row) for row in rows if merchant in {None, row["merchant"]}]
    return sorted(found, key=lambda one: one.opened_at, reverse=True)


def cancellations(reader: Reader, payment: Payment) -> list[Cancelled]:
    """What its shop has asked back of a payment, oldest first, and what came of it."""
    columns = "id, at, amount, currency, refunded, result, reason"
    sql = f"SELECT {columns} FROM cancellations WHERE merchant = ? AND tid = ? ORDER BY at, id LIMIT ?"  # noqa: S608 - names of our own
    rows = reader.all(sql, payment.merchant, payment.tid, FOUND_MAX)
    return [
        Cancelled(
            row["id"],
            row["at"],
            Money(row["amount"], row["currency"]),
            Money(row["refunded"], row["currency"]),
            row["result"],
            row["reason"],
        )
        for row in rows
    ]


async def tallied(reader: Reader, merchant: str, since: int) -> tuple[dict[str, int], list[Money]]:
    """A merchant's payments opened since then: how many are in each state now, and what they have captured and not given back."""
    sql = (
        "SELECT state, currency, count(*) AS n, sum(captured - refunded) AS taken FROM payments "  # noqa: S608 - words of our own
        f"WHERE merchant = ? AND {LISTED} AND opened_at >= ? GROUP BY state, currency"
    )
    counts, sums = dict.fromkeys(STATES, 0), Counter[str]()
    for row in await reader.scan(sql, merchant, since):
        counts[row["state"]] += int(row["n"])
        sums[row["currency"]] += int(row["taken"])
    return counts, [Money(amount, currency) for currency, amount in sorted(sums.items()) if amount]


def _state_conditions(state: str) -> tuple[str, ...]:
    """The words by which the engines know their indexes of few rows, each with one mark for the state."""
    if not state:
        return ()
    if state in _LIVE:
        return ("(merchant, tid) IN (SELECT merchant, tid FROM payments WHERE next_at IS NOT NULL AND state = ?)",)
    return ("state = ?",) if state == State.CAPTURED else (f"{WITHOUT_MONEY} AND state = ?",)


def _listing(state: str) -> str:
    """The word of the index of a merchant's payments; what ended without money has one that knows the state, and SQLite takes but one."""
    return "" if state and state not in {*_LIVE, State.CAPTURED} else f" AND {LISTED}"


def _conditions(wanted: Wanted) -> tuple[str, tuple[str | int, ...]]:
    parts: list[str] = []
    values: list[str | int] = []
    for condition, value in (
        (f"merchant = ?{_listing(wanted.state)}", wanted.merchant),
        ("customer = ?", wanted.customer),
        *((condition, wanted.state) for condition in _state_conditions(wanted.state)),
        ("opened_at >= ?", wanted.since or 0),  # always said: without a bound SQLite reads every payment of a state and sorts them
        ("opened_at < ?", wanted.until),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    if wanted.cursor:
        match = _CURSOR.fullmatch(wanted.cursor)
        if match is None:
            raise BadInput("after")
        parts.append("(opened_at, id) < (?, ?)")
        values += [int(match[1]), match[2]]
    return ("WHERE " + " AND ".join(parts) if parts else ""), tuple(values)


def _listed(row: Row) -> Listed:
    currency = row["currency"]
    return Listed(
        id=row["id"],
        merchant=row["merchant"],
        tid=row["tid"],
        state=row["state"],
        reason=row["reason"],
        money=Money(row["amount"], currency),
        payee=row["payee"],
        text=row["text"],
        opened_at=row["opened_at"],
        ended_at=row["ended_at"],
        refunded=Money(row["refunded"], currency) if row["refunded"] else None,
        method=row["method"],
    )
