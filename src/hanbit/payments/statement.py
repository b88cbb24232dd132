"""What a customer reads at home: balances with what is held apart, the statement of one account, his latest payments.

A statement goes by the numbers of the ledger's entries, newest first, a page at a time. Days become numbers by halving, because the book's
clock never goes back; so a page costs the same in an account of ten entries and of a million.
"""

import re
from dataclasses import dataclass
from typing import Final

from hanbit.db.reading import Reader, Row
from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import Money

SCANNED_MAX: Final = 5_000
"""Entries that one search looks through before it offers to go on further back."""
ACCOUNTS_MAX: Final = 50
HELD_MAX: Final = 20
HELD_SINCE_S: Final = 3 * 24 * 3600
"""A hold ends long before: nothing older is held."""
_CURSOR: Final = re.compile(r"[0-9]{1,15}")
_PAYMENT: Final = "y.id, y.payee, y.text"


@dataclass(frozen=True, slots=True)
class Balance:
    """One account with its money; `owed`: the balance is what a card owes. `free` may be spent now, counting holds and a credit line."""

    id: str
    kind: str
    masked: str
    state: str
    balance: Money
    owed: bool
    held: Money
    free: Money


@dataclass(frozen=True, slots=True)
class Line:
    """One movement, and the balance behind it, which is `owed` below zero; `payment` is empty where it was none."""

    number: int
    at: int
    kind: str
    moved: Money
    came_in: bool
    balance: Money
    owed: bool
    payment: str
    payee: str
    text: str


@dataclass(frozen=True, slots=True)
class Bought:
    """One payment in a list."""

    id: str
    opened_at: int
    payee: str
    text: str
    money: Money
    state: str
    refunded: Money | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a statement is narrowed to; `until` is the first second that is too late, `words` stand in payee or text."""

    since: int | None = None
    until: int | None = None
    words: str = ""
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, newest first, and where the next page begins; empty after the last one."""

    lines: list[Line]
    following: str


def balances(reader: Reader, customer: str) -> list[Balance]:
    """A customer's accounts, oldest first."""
    sql = (
        "SELECT a.id, a.kind, a.masked, a.state, a.currency, l.credits_posted - l.debits_posted AS balance, l.debits_pending AS held, "
        "l.credits_posted + l.credit_limit - l.debits_posted - l.debits_pending AS free "
        "FROM accounts a JOIN ledger_accounts l ON l.id = a.id WHERE a.customer = ? ORDER BY a.created_at, a.kind, a.id LIMIT ?"
    )
    return [
        Balance(
            row["id"],
            row["kind"],
            row["masked"],
            row["state"],
            Money(abs(row["balance"]), row["currency"]),
            row["balance"] < 0,
            Money(row["held"], row["currency"]),
            Money(max(row["free"], 0), row["currency"]),
        )
        for row in reader.all(sql, customer, ACCOUNTS_MAX)
    ]


def held(reader: Reader, customer: str, at: int) -> list[Bought]:
    """Payments whose money is set aside while the shop has not answered."""
    sql = (
        "SELECT id, opened_at, payee, text, amount, currency, state, refunded FROM payments "
        "WHERE customer = ? AND opened_at >= ? AND state = 'authorized' ORDER BY opened_at DESC LIMIT ?"
    )
    return [_bought(row) for row in reader.all(sql, customer, at - HELD_SINCE_S, HELD_MAX)]


def latest(reader: Reader, customer: str, rows: int) -> list[Bought]:
    """A customer's latest payments, whatever became of them."""
    sql = (
        "SELECT id, opened_at, payee, text, amount, currency, state, refunded FROM payments "
        "WHERE customer = ? ORDER BY opened_at DESC LIMIT ?"
    )
    return [_bought(row) for row in reader.all(sql, customer, rows)]


async def page(reader: Reader, account: str, wanted: Wanted, rows: int) -> Page:
    """One page of an account's statement: what was posted; what is only held is not on it."""
    if wanted.cursor and _CURSOR.fullmatch(wanted.cursor) is None:
        raise BadInput("after")
    top = _next_entry(reader)
    below = min(int(wanted.cursor or top), top if wanted.until is None else _first_since(reader, wanted.until, top))
    above = 0 if wanted.since is None else _first_since(reader, wanted.since, top)
    narrowed = ""
    values: tuple[str, ...] = ()
    if wanted.words:
        pattern = f"%{_escaped(wanted.words.lower())}%"
        narrowed = "WHERE (lower(y.payee) LIKE ? ESCAPE '!' OR lower(y.text) LIKE ? ESCAPE '!')"
        values = (pattern, pattern)
    legs = (
        "SELECT entry, side, posted, balance FROM postings WHERE account = ? AND entry < ? AND entry >= ? AND posted > 0 "
        "ORDER BY entry DESC LIMIT ?"
    )
    sql = (
        f"SELECT p.entry, p.side, p.posted, p.balance, e.kind, e.at, e.currency, {_PAYMENT} FROM ({legs}) p "  # noqa: S608 - words of our own
        f"JOIN entries e ON e.number = p.entry LEFT JOIN payments y ON y.id = e.payment {narrowed} "
        "ORDER BY p.entry DESC LIMIT ?"
    )
    found = [_line(row) for row in await reader.scan(sql, account, below, above, SCANNED_MAX, *values, rows + 1)]
    if len(found) > rows:
        return Page(found[:rows], str(found[rows - 1].number))
    looked = await reader.scan(f"SELECT count(*), min(entry) FROM ({legs}) p", account, below, above, SCANNED_MAX)  # noqa: S608 - as above
    return Page(found, str(looked[0][1]) if looked[0][0] == SCANNED_MAX else "")


def _next_entry(reader: Reader) -> int:
    row = reader.one("SELECT next_entry FROM book WHERE id = 1")
    assert row is not None
    return int(row[0])


def _first_since(reader: Reader, at: int, top: int) -> int:
    """The number of the first entry not before this moment; `top` where there is none."""
    low, high = 0, top
    while low < high:
        middle = (low + high) // 2
        row = reader.one("SELECT at FROM entries WHERE number >= ? ORDER BY number LIMIT 1", middle)
        if row is None or row[0] >= at:
            high = middle
        else:
            low = middle + 1
    return low


def _escaped(words: str) -> str:
    return words.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _line(row: Row) -> Line:
    currency = row["currency"]
    return Line(
        number=row["entry"],
        at=row["at"],
        kind=row["kind"],
        moved=Money(row["posted"], currency),
        came_in=row["side"] == "C",
        balance=Money(abs(row["balance"]), currency),
        owed=row["balance"] < 0,
        payment=row["id"] or "",
        payee=row["payee"] or "",
        text=row["text"] or "",
    )


def _bought(row: Row) -> Bought:
    return Bought(
        row["id"],
        row["opened_at"],
        row["payee"],
        row["text"],
        Money(row["amount"], row["currency"]),
        row["state"],
        Money(row["refunded"], row["currency"]) if row["refunded"] else None,
    )
