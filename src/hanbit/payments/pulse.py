"""The last hour of payments, read once: how many each minute, how they ended and why, what was taken, how long an approval took."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from hanbit.db.reading import Reader, Row
from hanbit.kernel.money import Money
from hanbit.payments.states import State

MINUTES: Final = 60
MINUTE_S: Final = 60
LOOKED_AT_MAX: Final = 5_000
"""So many payments are read, the newest: a page is shown at once, however busy the hour was. What is older is said to be left out."""
REASONS_MAX: Final = 50
_HOUR: Final = (
    "SELECT p.opened_at, p.state, p.reason, p.captured, p.refunded, p.currency, p.ended_at - a.at AS took FROM "
    "(SELECT id, attempts, opened_at, ended_at, state, reason, captured, refunded, currency FROM payments "
    "WHERE opened_at >= ? ORDER BY opened_at DESC LIMIT ?) AS p "
    "LEFT JOIN attempts a ON a.payment = p.id AND a.number = p.attempts AND a.result = 'held'"
)
_WITHOUT_MONEY: Final = frozenset({State.REFUSED, State.VOIDED, State.CLOSED})


@dataclass(frozen=True, slots=True)
class Minute:
    """The payments that were opened in one minute; seconds from the approval to the capture, None where nothing was captured."""

    at: int
    opened: int
    captured: int
    median_s: int | None
    slowest_s: int | None


@dataclass(frozen=True, slots=True)
class Pulse:
    """An hour; `since` is its first second that was read, `whole` whether that is all of it."""

    since: int
    whole: bool
    counts: dict[str, int]
    taken: list[Money]
    minutes: list[Minute]
    reasons: list[tuple[str, str, int]]
    """State, reason, how often; the most frequent first."""


async def last_hour(reader: Reader, now: int) -> Pulse:
    """The sixty minutes that end with this one."""
    begins = now - now % MINUTE_S - (MINUTES - 1) * MINUTE_S
    rows = await reader.scan(_HOUR, begins, LOOKED_AT_MAX)
    whole = len(rows) < LOOKED_AT_MAX
    since = begins if whole else min(row["opened_at"] for row in rows)
    states = Counter(row["state"] for row in rows)
    reasons = Counter((row["state"], row["reason"] or "") for row in rows if row["state"] in _WITHOUT_MONEY)
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:REASONS_MAX]
    return Pulse(
        since=since,
        whole=whole,
        counts={state.value: states[state.value] for state in State if state is not State.NEW},
        taken=_taken(rows),
        minutes=_minutes(rows, begins),
        reasons=[(state, reason, times) for (state, reason), times in ordered],
    )


def _taken(rows: Sequence[Row]) -> list[Money]:
    """What was captured and not given back, by currency."""
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row["currency"]] += row["captured"] - row["refunded"]
    return [Money(amount, currency) for currency, amount in sorted(sums.items()) if amount]


def _minutes(rows: Sequence[Row], begins: int) -> list[Minute]:
    opened, captured = Counter[int](), Counter[int]()
    took: dict[int, list[int]] = {}
    for row in rows:
        minute = (row["opened_at"] - begins) // MINUTE_S
        opened[minute] += 1
        if row["captured"]:
            captured[minute] += 1
            if row["took"] is not None:
                took.setdefault(minute, []).append(max(int(row["took"]), 0))
    return [
        Minute(
            begins + minute * MINUTE_S,
            opened[minute],
            captured[minute],
            median_low(took[minute]) if minute in took else None,
            max(took[minute]) if minute in took else None,
        )
        for minute in range(MINUTES)
    ]
