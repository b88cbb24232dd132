"""A customer's own limits of an account: lower than the bank's, lowered at once, raised only after a day.

Whoever has got hold of a session and a password must wait a day before he can take more than the owner had allowed, and the owner has
that day to notice. A limit counts minor units of the account's currency; None is no limit of one's own.
"""

from dataclasses import dataclass

import msgspec

from hanbit.db.change import Put, Require, Row, Stale
from hanbit.db.reading import Reader, columns
from hanbit.db.reading import Row as DatabaseRow
from hanbit.kernel.errors import Declined
from hanbit.kernel.money import Money
from hanbit.protocols.redirect.gateway import ORDER_LIFE_MAX_S

RAISE_DELAY_S = 24 * 3600
"""So long after it was asked for, a higher limit begins to count."""
DAY_S = 24 * 3600
"""What was paid in the last so many seconds counts towards the limit of a day, so that no midnight doubles it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one payment, and all payments of a day together, may come to."""

    payment: int | None = None
    day: int | None = None


class OwnLimits(msgspec.Struct, frozen=True):
    """The columns of an account's row: the customer's limits, those that will count from `later_at` on, and the bank's.

    Without a `later_at` nothing is to change. What the bank's staff sets counts at once.
    """

    limit_payment: int | None
    limit_day: int | None
    later_payment: int | None
    later_day: int | None
    later_at: int | None
    bank_payment: int | None = None
    bank_day: int | None = None

    def at(self, moment: int) -> Limits:
        """The limits that count at this moment: of the customer's and the bank's the lower."""
        own = self.own_at(moment)
        return self._with_banks(own.payment, own.day)

    def own_at(self, moment: int) -> Limits:
        """The customer's alone: what he wishes is held against these, so that the bank's never become his."""
        if self.later_at is not None and moment >= self.later_at:
            return Limits(self.later_payment, self.later_day)
        return Limits(self.limit_payment, self.limit_day)

    def _with_banks(self, payment: int | None, day: int | None) -> Limits:
        return Limits(_lower(payment, self.bank_payment), _lower(day, self.bank_day))

    def waiting(self, moment: int) -> tuple[Limits, int] | None:
        """What will count, and from when; None where nothing is to change any more."""
        if self.later_at is None or moment >= self.later_at:
            return None
        return self._with_banks(self.later_payment, self.later_day), self.later_at

    def wish(self, wanted: Limits, moment: int) -> "OwnLimits":
        """The row after this wish: what is lower counts now, what is higher in a day; an earlier wish that still waits is given up."""
        now = self.own_at(moment)
        counts = Limits(_lower(now.payment, wanted.payment), _lower(now.day, wanted.day))
        if counts == wanted:
            return self._own(wanted, None, None)
        return self._own(counts, wanted, moment + RAISE_DELAY_S)

    def _own(self, now: Limits, later: Limits | None, later_at: int | None) -> "OwnLimits":
        then = later or Limits()
        return OwnLimits(now.payment, now.day, then.payment, then.day, later_at, self.bank_payment, self.bank_day)

    def with_banks(self, bank: Limits) -> "OwnLimits":
        """The row after the bank has set these; the customer's own stay."""
        return msgspec.structs.replace(self, bank_payment=bank.payment, bank_day=bank.day)

    def raises(self, wanted: Limits, moment: int) -> bool:
        """Whether any of these is higher than the customer's own of now."""
        now = self.own_at(moment)
        return _lower(now.payment, wanted.payment) != wanted.payment or _lower(now.day, wanted.day) != wanted.day


NO_LIMITS = OwnLimits(None, None, None, None, None)
_SELECT = f"SELECT {columns('accounts', OwnLimits)} FROM accounts WHERE id = ?"  # noqa: S608 - names of our own
_PAID = """
SELECT coalesce(sum(p.amount), 0) FROM payments p
WHERE p.customer = ? AND p.opened_at >= ? AND p.account = ? AND p.state IN ('authorized', 'captured')
AND EXISTS (SELECT 1 FROM attempts a WHERE a.payment = p.id AND a.result = 'held' AND a.at > ?)
"""
"""By the customer's own recent payments, which an index holds; the moment that counts is that of the approval."""


def of_account(reader: Reader, account: str) -> OwnLimits:
    """An account's own limits; an account that is not there has none."""
    row = reader.one(_SELECT, account)
    return NO_LIMITS if row is None else OwnLimits(*row)


def paid(reader: Reader, customer: str, account: str, at: int) -> int:
    """What this account has paid or holds, approved in the last day; a refund gives nothing back to the day."""
    since = at - DAY_S
    row = reader.one(_PAID, customer, since - ORDER_LIFE_MAX_S, account, since)
    return 0 if row is None else int(row[0])


def within(reader: Reader, *, customer: str, account: str, money: Money, at: int) -> tuple[tuple[Require, ...], tuple[Put, ...]]:
    """What a Change that holds this money needs so that no limit is exceeded under the book lock either; Declined("limit") if one is.

    The limits must still be those that were read. Where a day is limited the account's row moves on with every payment, so that of two
    payments at once the second finds it changed, and counts the first.
    """
    row = reader.one("SELECT * FROM accounts WHERE id = ?", account)
    if row is None:
        raise Declined("unknown_account")
    own = OwnLimits(*(row[name] for name in OwnLimits.__struct_fields__)).at(at)
    if own.payment is not None and money.amount_minor > own.payment:
        raise Declined("limit", "one payment")
    if own.day is None:
        return (Require("accounts", account, "version", row["version"], Stale("accounts")),), ()
    if paid(reader, customer, account, at) + money.amount_minor > own.day:
        raise Declined("limit", "a day")
    return (), (Put("accounts", _row(row), row["version"], changed=()),)


def put(reader: Reader, account: str, own: OwnLimits) -> Put:
    """The account's row with these limits."""
    row = reader.one("SELECT * FROM accounts WHERE id = ?", account)
    assert row is not None, account
    return Put("accounts", {**_row(row), **msgspec.structs.asdict(own)}, row["version"], changed=tuple(OwnLimits.__struct_fields__))


def _row(row: DatabaseRow) -> Row:
    return {name: row[name] for name in row.keys() if name != "version"}  # noqa: SIM118 - a row is no mapping


def _lower(one: int | None, other: int | None) -> int | None:
    """The lower of two limits."""
    found = [limit for limit in (one, other) if limit is not None]
    return min(found) if found else None
