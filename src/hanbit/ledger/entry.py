"""Journal entries: balanced or impossible.

An entry has two or more postings (legs). A posting moves one account's counters on one side: `pending` changes what is held, `posted`
what is moved. Over an entry the debit and credit legs are equal, pending with pending and posted with posted, in one currency.
"""

import msgspec

from hanbit.kernel.money import Money

HOLD, CAPTURE, VOID, REFUND, TRANSFER = "hold", "capture", "void", "refund", "transfer"
ENTRY_KINDS = (HOLD, CAPTURE, VOID, REFUND, TRANSFER)


class Posting(msgspec.Struct, frozen=True, gc=False):
    """One leg: `side` is "D" or "C"; `pending` and `posted` are signed changes in minor units of the entry's currency."""

    account: str
    side: str
    pending: int
    posted: int


class Ceiling(msgspec.Struct, frozen=True, gc=False):
    """What an account may ever have been credited with behind an entry, what is held for it counted; above it the Change is declined so."""

    account: str
    credited: int
    reason: str
    detail: str


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One journal entry. `id` makes it happen at most once; `ends` is the id of the hold that a capture or void ends.

    `empties` is an account that must have nothing left to give behind this entry: it was reckoned from what stood there.
    `ceiling` is what its merchant may have been paid: see `payments/merchant_limits.py`.
    """

    id: str
    kind: str
    money: Money
    postings: tuple[Posting, ...]
    payment: str | None = None
    ends: str | None = None
    empties: str | None = None
    ceiling: Ceiling | None = None

    def __post_init__(self) -> None:
        assert self.kind in ENTRY_KINDS and self.money.amount_minor > 0 and len(self.postings) > 1, self
        assert (self.ends is not None) is (self.kind in (CAPTURE, VOID)), self
        assert self.empties is None or self.empties in {leg.account for leg in self.postings}, self
        assert self.ceiling is None or self.ceiling.account in {leg.account for leg in self.postings}, self
        pending = posted = 0
        for leg in self.postings:
            assert leg.side in ("D", "C") and (leg.pending or leg.posted), leg
            sign = 1 if leg.side == "D" else -1
            pending += sign * leg.pending
            posted += sign * leg.posted
        assert pending == 0 and posted == 0, self
