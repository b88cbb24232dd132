"""The ledger as a plain-text journal that other programs read and prove: hledger's, or beancount's.

What is posted is in it, entry by entry; what is only held is not. Amounts are exact to the minor unit, debits positive, credits negative.
A journal that begins later begins with the balances of then, and each ends with a balance assertion for every account: a program that
reads it adds the entries up once more. Rows are read by number, a few at a time: entries are never changed and none gets in between, so no
snapshot of the book is held meanwhile, however large it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo
from typing import Any, Protocol
from urllib.parse import quote

from hanbit.kernel.days import begins_at, day_of
from hanbit.kernel.money import CURRENCY_EXPONENTS
from hanbit.ledger.chart import normal_balance

Connection = Any
"""A DB-API connection that reads the store."""
PAGE = 2_000
"""Rows in memory at once."""
BRANCHES = {
    "customer_bank": "Liabilities:Customers:Bank",
    "customer_card": "Liabilities:Customers:Card",
    "customer_emoney": "Liabilities:Customers:Emoney",
    "merchant": "Liabilities:Merchants",
    "operator_cash": "Assets:Operator:Cash",
    "operator_equity": "Equity:Operator",
    "operator_reserve": "Equity:Reserve",
    "operator_fees": "Income:Fees",
    "operator_payouts": "Liabilities:Payouts",
}
"""Where each kind of account stands in the tree that those programs expect."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One line of a transaction: a debit is positive."""

    account: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """What was posted by one entry, or the balances with which a journal begins."""

    day: date
    number: int
    id: str
    kind: str
    payment: str | None
    legs: tuple[Leg, ...]


class Form(Protocol):
    """A way of writing: each part in the order in which it stands in the file."""

    def head(self, operator: str, zone: str) -> str:
        """What the journal is of."""

    def account(self, name: str, currency: str, day: date) -> str:
        """An account that is in the journal, before its first use."""

    def opening(self, day: date, legs: Iterator[Leg]) -> Iterator[str]:
        """The balances with which the journal begins."""

    def transaction(self, transaction: Transaction) -> str:
        """What one entry posted."""

    def closing(self, day: date, legs: Iterator[Leg]) -> Iterator[str]:
        """The balances with which it ends on that day, as assertions."""


class Hledger:
    """The journal format of hledger."""

    def head(self, operator: str, zone: str) -> str:
        """Commodities with their digits, so that `hledger check --strict` knows them."""
        marks = "".join(f"commodity 1000.{'0' * digits} {currency}\n" for currency, digits in CURRENCY_EXPONENTS.items())
        return f"; the ledger of {operator}, days of {zone}\ndecimal-mark .\n{marks}"

    def account(self, name: str, currency: str, day: date) -> str:
        """A directive without a date."""
        del currency, day
        return f"account {name}\n"

    def opening(self, day: date, legs: Iterator[Leg]) -> Iterator[str]:
        """One transaction."""
        yield f"\n{day} * opening balances\n"
        yield from map(_line, legs)

    def transaction(self, transaction: Transaction) -> str:
        """The entry's number as code; its id and payment as tags."""
        tags = f"id:{_plain(transaction.id)}" + (f", payment:{_plain(transaction.payment)}" if transaction.payment else "")
        head = f"\n{transaction.day} * ({transaction.number}) {transaction.kind}  ; {tags}\n"
        return head + "".join(map(_line, transaction.legs))

    def closing(self, day: date, legs: Iterator[Leg]) -> Iterator[str]:
        """One transaction of nothing, each leg of which asserts a balance."""
        yield f"\n{day} * closing balances\n"
        for leg in legs:
            yield f"    {leg.account}  {_amount(0, leg.currency)} = {_amount(leg.amount_minor, leg.currency)}\n"


class Beancount:
    """The format of beancount; a balance is asserted at the beginning of a day, so the closing ones stand on the day after."""

    def head(self, operator: str, zone: str) -> str:
        """The journal's title."""
        return f'option "title" "the ledger of {operator}, days of {zone}"\n'

    def account(self, name: str, currency: str, day: date) -> str:
        """Opened for its one currency."""
        return f"{day} open {name} {currency}\n"

    def opening(self, day: date, legs: Iterator[Leg]) -> Iterator[str]:
        """One transaction."""
        yield f'\n{day} * "opening balances"\n'
        yield from map(_line, legs)

    def transaction(self, transaction: Transaction) -> str:
        """The entry's number, id and payment as metadata."""
        payment = f'  payment: "{_plain(transaction.payment)}"\n' if transaction.payment else ""
        head = f'\n{transaction.day} * "{transaction.kind}"\n  entry: {transaction.number}\n  id: "{_plain(transaction.id)}"\n'
        return head + payment + "".join(map(_line, transaction.legs))

    def closing(self, day: date, legs: Iterator[Leg]) -> Iterator[str]:
        """Assertions with a tolerance of nothing: left to itself beancount lets a minor unit pass."""
        yield "\n"
        after = day + timedelta(days=1)
        for leg in legs:
            exact = f"{_decimal(leg.amount_minor, leg.currency)} ~ {_decimal(0, leg.currency)} {leg.currency}"
            yield f"{after} balance {leg.account}  {exact}\n"


FORMS: dict[str, type[Form]] = {"hledger": Hledger, "beancount": Beancount}


@dataclass(frozen=True, slots=True)
class Span:
    """What a journal is of: entries by number, both ends in it, and the days of its first and last line."""

    first: int
    last: int
    begins: date
    ends: date


def span(connection: Connection, zone: tzinfo, since: date | None, until: date | None) -> Span:
    """The entries of these days, both in it; of the whole book as it stands where they are None."""
    end = first_from(connection, None if until is None else begins_at(until + timedelta(days=1), zone))
    first = 1 if since is None else first_from(connection, begins_at(since, zone))
    begins = since or _day(connection, min(first, end - 1), zone)
    return Span(first, end - 1, begins, until or max(begins, _day(connection, end - 1, zone)))


def write(connection: Connection, form: Form, of: Span, *, operator: str, zone: str, days: tzinfo) -> Iterator[str]:
    """The journal's text, a few lines at a time."""
    yield form.head(operator, zone)
    for leg in _balances(connection, of.last):
        yield form.account(leg.account, leg.currency, of.begins)
    if of.first > 1:
        yield from form.opening(of.begins, (leg for leg in _balances(connection, of.first - 1) if leg.amount_minor))
    for transaction in _transactions(connection, of, days):
        yield form.transaction(transaction)
    if of.last:
        yield from form.closing(of.ends, _balances(connection, of.last))


def account_name(account: str, kind: str, currency: str) -> str:
    """A ledger account's place in the tree; no two have the same, whatever their ids."""
    branch = BRANCHES[kind]
    if kind.startswith("operator_"):
        return f"{branch}:{currency}"
    if kind == "merchant":
        name = account.split(":")[1]
        return f"{branch}:{name[:1].upper()}{name[1:]}:{currency}"  # ids of merchants are of small letters
    # A part of a name begins with a capital letter and has no underscore.
    return f"{branch}:A{account.replace('-', '--').replace('_', '-u')}"


def _transactions(connection: Connection, of: Span, zone: tzinfo) -> Iterator[Transaction]:
    """What was posted, in the order of the book."""
    sql = (
        "SELECT e.number, e.at, e.id, e.kind, e.payment, e.currency, p.account, p.side, p.posted, a.kind AS branch FROM entries e "
        "JOIN postings p ON p.entry = e.number JOIN ledger_accounts a ON a.id = p.account "
        "WHERE e.number BETWEEN ? AND ? AND p.posted > 0 ORDER BY e.number, p.leg"
    )
    for start in range(of.first, of.last + 1, PAGE):
        entries: dict[int, tuple[Any, list[Leg]]] = {}
        for row in connection.execute(sql, (start, min(start + PAGE - 1, of.last))):
            name = account_name(row["account"], row["branch"], row["currency"])
            amount = row["posted"] if row["side"] == "D" else -row["posted"]
            entries.setdefault(row["number"], (row, []))[1].append(Leg(name, amount, row["currency"]))
        for number, (row, legs) in entries.items():
            yield Transaction(day_of(row["at"], zone), number, row["id"], row["kind"], row["payment"], tuple(legs))


def _balances(connection: Connection, number: int) -> Iterator[Leg]:
    """Every account that had a leg by then, with its balance behind that entry."""
    accounts = "SELECT id, kind, currency FROM ledger_accounts WHERE id > ? ORDER BY id LIMIT ?"
    standing = "SELECT balance FROM postings WHERE account = ? AND entry <= ? AND posted > 0 ORDER BY entry DESC, leg DESC LIMIT 1"
    after = ""
    while page := list(connection.execute(accounts, (after, PAGE))):
        for row in page:
            last = connection.execute(standing, (row["id"], number)).fetchone()
            if last is not None:
                amount = normal_balance(row["kind"], last["balance"], 0)  # debits are positive
                yield Leg(account_name(row["id"], row["kind"], row["currency"]), amount, row["currency"])
        after = page[-1]["id"]


def first_from(connection: Connection, at: int | None) -> int:
    """The number of the first entry at or after an instant, else one more than the last: the book's time never goes back."""
    low, high = 1, int(connection.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()[0]) + 1
    if at is None:
        return high
    while low < high:
        middle = (low + high) // 2
        if connection.execute("SELECT at FROM entries WHERE number = ?", (middle,)).fetchone()[0] < at:
            low = middle + 1
        else:
            high = middle
    return low


def _day(connection: Connection, number: int, zone: tzinfo) -> date:
    """The day of this entry, or of the book's last moment if there is none."""
    row = connection.execute("SELECT at FROM entries WHERE number = ?", (number,)).fetchone()
    return day_of(int((row or connection.execute("SELECT time FROM book").fetchone())[0]), zone)


def _line(leg: Leg) -> str:
    return f"    {leg.account}  {_amount(leg.amount_minor, leg.currency)}\n"


def _amount(minor: int, currency: str) -> str:
    return f"{_decimal(minor, currency)} {currency}"


def _decimal(minor: int, currency: str) -> str:
    """Every digit that the currency has, and no other sign than a minus and a point."""
    digits = CURRENCY_EXPONENTS[currency]
    whole, part = divmod(abs(minor), 10**digits)
    return ("-" if minor < 0 else "") + (f"{whole}.{part:0{digits}}" if digits else str(whole))


def _plain(text: str) -> str:
    """An id in signs that mean nothing to either program; what a person typed may have any."""
    return quote(text, safe=":.")
