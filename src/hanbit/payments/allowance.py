"""How many frames that cost storage and that nobody asked for a merchant may send: what is beyond is answered and not kept."""

from collections.abc import Callable
from dataclasses import dataclass

TOO_MANY = "too_many"
"""The code of what is beyond an allowance."""
MINUTE_S = 60.0


@dataclass(slots=True)
class _Purse:
    """What is left of a minute's worth, and when that was counted."""

    left: float
    counted_at: float


class Allowances:
    """One purse for each merchant and kind of frame; it holds a minute's worth and fills again evenly.

    In memory, because the rows that it saves are what it is for. Only registered merchants have purses, so their number is bounded.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._purses: dict[tuple[str, str], _Purse] = {}

    def spend(self, merchant_id: str, kind: str, a_minute: int) -> bool:
        """Take one frame from the purse; False if it is empty."""
        now = self._monotonic()
        purse = self._purses.setdefault((merchant_id, kind), _Purse(float(a_minute), now))
        purse.left = min(float(a_minute), purse.left + max(now - purse.counted_at, 0.0) * a_minute / MINUTE_S)
        purse.counted_at = now
        if purse.left < 1:
            return False
        purse.left -= 1
        return True
