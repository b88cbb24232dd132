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


class SandboxClock:
    """Another clock and what a sandbox is ahead of it; waits are as long as they are."""

    def __init__(self, base: Clock, offset_s: int = 0) -> None:
        self.base = base
        self.offset_s = offset_s
        """How far ahead; whoever moves it has made that durable first."""

    def now(self) -> int:
        """The sandbox's time."""
        return self.base.now() + self.offset_s

    def monotonic(self) -> float:
        """The other clock's: moving the time of day makes no wait shorter."""
        return self.base.monotonic()


class ManualClock:
    """A clock that only its owner moves (tests)."""

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
