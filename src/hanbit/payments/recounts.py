"""Which merchants' days have just been counted and were right, so that a flood of refusals does not count them again and again."""

import asyncio
from typing import Final

MERCHANTS_MAX: Final = 1_000
"""So many are remembered; beyond it the one that was counted first is counted once more."""


class Recounts:
    """In this process's memory: whoever forgets one counts it again."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        """One count at a time: those who wait behind it find its result."""
        self._agreed: dict[str, tuple[int, float]] = {}

    def agreed(self, merchant: str, version: int, moment: float) -> bool:
        """Whether this version of the merchant's row was found right a moment ago."""
        known, until = self._agreed.get(merchant, (0, 0.0))
        return known == version and moment < until

    def note(self, merchant: str, version: int, until: float) -> None:
        """This version is right, and is taken for right until then (on the clock that is never put back)."""
        self._agreed.pop(merchant, None)
        if len(self._agreed) >= MERCHANTS_MAX:
            del self._agreed[next(iter(self._agreed))]
        self._agreed[merchant] = version, until
