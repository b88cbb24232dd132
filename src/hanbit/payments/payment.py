"""A payment: one merchant's tid, as it stands in the book. Frozen; its next version is made by `apply`."""

import msgspec

from hanbit.db.change import Put
from hanbit.db.reading import Reader, Row, columns
from hanbit.kernel.money import Money
from hanbit.ledger.chart import merchant_account
from hanbit.parties.merchants import Merchant
from hanbit.payments.states import FINAL, State
from hanbit.protocols.redirect.gateway import Offer


class Payment(msgspec.Struct, frozen=True, gc=False):
    """Every column of the table `payments`; `version` 0 is a payment that is not in the book yet."""

    merchant: str
    tid: str
    version: int
    id: str
    state: str
    reason: str | None
    order_hash: str
    amount: int
    currency: str
    payee: str
    text: str
    return_url: str
    pay_by: int
    opened_at: int
    attempts: int
    customer: str | None = None
    account: str | None = None
    method: str | None = None
    sid: str | None = None
    """The session of the dual-signature checkout in which it was approved; None for the redirect checkout."""
    notice_hash: str | None = None
    answer_hash: str | None = None
    outcome_hash: str | None = None
    receipt_hash: str | None = None
    refusal_message: str | None = None
    hold_until: int | None = None
    next_at: int | None = None
    tries: int = 0
    captured: int = 0
    refunded: int = 0
    ended_at: int | None = None

    @property
    def money(self) -> Money:
        """What is to be paid."""
        return Money(self.amount, self.currency)

    @property
    def target(self) -> str:
        """The merchant's ledger account."""
        return merchant_account(self.merchant, self.currency)

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to it by itself."""
        return self.state in FINAL

    def put(self, before: "Payment | None" = None) -> Put:
        """The row; `version` is the one that this value was computed from, `before` that version itself."""
        row = msgspec.structs.asdict(self)
        if before is None:
            return Put("payments", row, self.version)
        assert before.version == self.version, self
        stood = zip(row.items(), msgspec.structs.astuple(before), strict=True)
        return Put("payments", row, self.version, tuple([name for (name, value), old in stood if value != old]))


_SELECT = f"SELECT {columns('payments', Payment)} FROM payments "  # noqa: S608 - names of our own
_WITH_MERCHANT = (
    f"SELECT {columns('merchants', Merchant)}, {columns('payments', Payment)} FROM merchants "  # noqa: S608 - names of our own
    "LEFT JOIN payments ON payments.merchant = merchants.id AND payments.tid = ? WHERE merchants.id = ?"
)
_MERCHANT_COLUMNS = len(Merchant.__struct_fields__)
_WAITING = (
    f"SELECT {columns('payments', Payment)} FROM (SELECT *, row_number() OVER (PARTITION BY merchant ORDER BY next_at) AS place "  # noqa: S608 - names of our own
    "FROM payments WHERE next_at <= ? AND state = 'authorized' AND hold_until >= ?) AS payments WHERE place <= ? ORDER BY next_at LIMIT ?"
)


def new_payment(offer: Offer, *, payment_id: str, payee: str, pay_by: int, at: int) -> Payment:
    """A payment that is not in the book yet."""
    return Payment(
        merchant=offer.merchant,
        tid=offer.tid,
        version=0,
        id=payment_id,
        state=State.NEW,
        reason=None,
        order_hash=offer.order_hash,
        amount=offer.money.amount_minor,
        currency=offer.money.currency,
        payee=payee,
        text=offer.text,
        return_url=offer.return_url,
        pay_by=pay_by,
        opened_at=at,
        attempts=0,
    )


def unopened(merchant: Merchant, tid: str, *, order_hash: str, money: Money, payment_id: str, at: int) -> Payment:
    """A payment that no customer has opened and of which the gateway knows only what its merchant says; not in the book yet."""
    return Payment(
        merchant=merchant.id,
        tid=tid,
        version=0,
        id=payment_id,
        state=State.NEW,
        reason=None,
        order_hash=order_hash,
        amount=money.amount_minor,
        currency=money.currency,
        payee=merchant.name,
        text="",
        return_url=merchant.return_url,
        pay_by=at,
        opened_at=at,
        attempts=0,
    )


def find(reader: Reader, merchant: str, tid: str) -> Payment | None:
    """The payment of a merchant's tid, or None."""
    return _payment(reader.one(_SELECT + "WHERE merchant = ? AND tid = ?", merchant, tid))


def find_with_merchant(reader: Reader, merchant: str, tid: str) -> tuple[Merchant, Payment | None] | None:
    """A registered merchant with its payment of this tid, if the book has it; None if there is no such merchant."""
    row = reader.one(_WITH_MERCHANT, tid, merchant)
    if row is None:
        return None
    payment = None if row[_MERCHANT_COLUMNS] is None else Payment(*row[_MERCHANT_COLUMNS:])
    return Merchant(*row[:_MERCHANT_COLUMNS]), payment


def by_id(reader: Reader, payment_id: str) -> Payment | None:
    """The payment with our own id, or None."""
    return _payment(reader.one(_SELECT + "WHERE id = ?", payment_id))


def ending(reader: Reader, at: int, limit: int) -> list[Payment]:
    """Payments whose time has passed: unpaid at their `pay_by`, or unanswered at the end of their hold; the longest overdue first."""
    sql = _SELECT + "WHERE next_at <= ? AND (state = 'open' OR hold_until < ?) ORDER BY next_at LIMIT ?"
    return [Payment(*row) for row in reader.all(sql, at, at, limit)]


def waiting(reader: Reader, at: int, limit: int, share: int) -> list[Payment]:
    """Held payments whose merchant is to be asked again by now, at most `share` of one merchant: a silent one keeps no other waiting."""
    return [Payment(*row) for row in reader.all(_WAITING, at, at, share, limit)]


def waiting_for(reader: Reader, merchant: str, at: int, limit: int) -> list[Payment]:
    """Held payments of one merchant, whenever it would be asked; by what is unfinished, because of a merchant's payments most are not."""
    sql = _SELECT + "WHERE merchant || '' = ? AND next_at IS NOT NULL AND state = 'authorized' AND hold_until >= ? ORDER BY next_at LIMIT ?"
    return [Payment(*row) for row in reader.all(sql, merchant, at, limit)]


def _payment(row: Row | None) -> Payment | None:
    return None if row is None else Payment(*row)
