"""The only reader of time: whole seconds since 1970-01-01 UTC, and a monotonic counter for waits."""

import time
from typing import Protocol


class Clock(Protocol):
    """What everything that needs the time is given."""

    def now(self) -> int:
        """Whole seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Whole seconds since 1970-01-01 UTC."""
        return int(time.time())

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class ManualClock:
    """A clock that only its owner moves (tests, sandbox)."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        """The time that was set."""
        return self._now

    def monotonic(self) -> float:
        """Follows the set time."""
        return float(self._now)

    def advance(self, seconds: int) -> None:
        """Move forwards (or, to test a jump, backwards)."""
        self._now += seconds
