"""The ledger as a child would keep it: for each tid what was held, paid and given back; everything else is added up from that."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Key = tuple[str, str]
"""merchant, tid"""
ENDS: Final = frozenset({"captured", "refused", "voided", "closed"})
MAY_BECOME: Final = {
    "new": {"open", "authorized", *ENDS},
    "open": {"authorized", *ENDS},
    "authorized": {"captured", "refused", "voided"},
    **{end: set[str]() for end in ENDS},
}
"""Where a payment may be when it is looked at next; several steps may lie between two looks."""


@dataclass(frozen=True, slots=True)
class Paid:
    """One tid."""

    state: str = "new"
    amount: int = 0
    account: str | None = None
    captured: int = 0
    refunded: int = 0
    outcome: str | None = None


@dataclass
class Model:
    """What was there at the beginning, what each tid has come to, and what anybody was told for good."""

    opening: dict[str, int]
    """Customer's account → what he could spend."""
    paid: dict[Key, Paid] = field(default_factory=lambda: defaultdict(Paid))
    amounts: dict[Key, int] = field(default_factory=dict)
    """What the shop wants for it."""
    chosen: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Accounts from which a customer has approved to pay it."""
    told: dict[Key, str] = field(default_factory=dict)
    """The end that a customer was told."""
    confirmed: dict[str, int] = field(default_factory=dict)
    """Cancellation → what a shop was told has gone back."""

    def look(self, payments: Iterable[Mapping[str, Any]], cancellations: Iterable[Mapping[str, Any]]) -> None:
        """Take over what the store shows now; AssertionError where that cannot have come of what it showed before."""
        back: dict[Key, int] = defaultdict(int)
        by_id = {row["id"]: row for row in cancellations}
        for row in by_id.values():
            back[row["merchant"], row["tid"]] += row["refunded"]
        seen = set()
        for row in payments:
            key = row["merchant"], row["tid"]
            seen.add(key)
            was, now = (
                self.paid[key],
                Paid(row["state"], *(row[name] for name in ("amount", "account", "captured", "refunded", "outcome_hash"))),
            )
            assert now.state == was.state or now.state in MAY_BECOME[was.state], (key, was, now)
            assert now.captured == (now.amount if now.state == "captured" else 0), (key, now)
            assert was.refunded <= now.refunded <= now.captured, (key, was, now)
            assert now.refunded == back[key], (key, now, back[key])
            assert was.state not in ENDS or (was.account, was.captured, was.outcome) == (now.account, now.captured, now.outcome), (key, was)
            if now.state in ("authorized", "captured"):
                assert now.amount == self.amounts[key], "the shop wanted another amount"
                assert now.account in self.chosen[key], "no customer has approved that"
            self.paid[key] = now
        assert {key for key, paid in self.paid.items() if paid.state != "new"} <= seen, "a payment has gone"
        for key, end in self.told.items():
            assert self.paid[key].state == end, (key, end, self.paid[key])
        for name, amount in self.confirmed.items():
            assert by_id[name]["refunded"] == amount, (name, amount, dict(by_id[name]))

    def available(self) -> dict[str, int]:
        """What each account could spend now, customers' and merchants'."""
        left = dict(self.opening)
        for (merchant, _), paid in self.paid.items():
            if paid.account is not None:
                held = paid.amount if paid.state == "authorized" else 0
                left[paid.account] -= held + paid.captured - paid.refunded
            left[f"merchant:{merchant}:KRW"] = left.get(f"merchant:{merchant}:KRW", 0) + paid.captured - paid.refunded
        return left
