"""People who log in while others pay: so many a second, each at its own moment, each a whole R5 with its argon2id at the gateway."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hanbit.bench.figures import Latencies
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError
from hanbit.wallet.pay import Opened, Wallet

PEOPLE_MAX: Final = 32
"""People who log in again and again in turn; the right password of one clears his own count of tries alone."""
ERRORS_SHOWN: Final = 3
WAITING_MAX: Final = 1_000
"""Logins that have begun and are not answered."""


@dataclass(slots=True)
class Person:
    """A wallet of its own in front of an order, which it pays when nobody logs in any more."""

    wallet: Wallet
    opened: Opened
    """A page is good for one login."""
    login: str
    password: str
    load: Callable[[], Awaitable[Opened]]
    """The same order's page once more."""
    pay: Callable[[Opened], Awaitable[object]]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Nobody logs in twice at once: whoever is due again before he is in begins late, and is timed from his moment."""


@dataclass(slots=True)
class Logins:
    """Begun with a rate, ended with what they took; each is timed from its own moment, so that whoever begins it late hides nothing."""

    clock: Clock
    _latencies: Latencies = field(default_factory=Latencies)
    _errors: list[str] = field(default_factory=list)
    _inside: dict[str, Person] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _driver: asyncio.Task[None] | None = None
    _started: float = 0.0

    def begin(self, people: list[Person], rate: int) -> None:
        """From now on so many log in each second."""
        self._started = self.clock.monotonic()
        self._driver = asyncio.create_task(self._drive(people, rate))

    async def end(self) -> dict[str, Any]:
        """Nobody new; how many came in a second, what each waited, and what went wrong."""
        assert self._driver is not None
        self._driver.cancel()
        await asyncio.gather(self._driver, return_exceptions=True)
        seconds = self.clock.monotonic() - self._started
        await asyncio.gather(*self._tasks)
        for person in self._inside.values():  # a login opens a payment, and the run leaves none unfinished
            await person.pay(person.opened)
        return {
            "logins": len(self._latencies.seconds),
            "seconds": seconds,
            "latencies": self._latencies.summary(),
            "errors": self._errors[:ERRORS_SHOWN],
        }

    async def _drive(self, people: list[Person], rate: int) -> None:
        for number, person in enumerate(itertools.cycle(people)):
            due = self._started + number / rate
            await asyncio.sleep(max(due - self.clock.monotonic(), 0))
            if len(self._tasks) >= WAITING_MAX:
                self._errors.append(f"more than {WAITING_MAX} logins wait: the rate is beyond what is served")
                return
            task = asyncio.create_task(self._log_in(person, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _log_in(self, person: Person, due: float) -> None:
        try:
            async with person.turn:
                if person.login in self._inside:
                    began = self.clock.monotonic()
                    person.opened = await person.load()
                    due += self.clock.monotonic() - began  # R4 is no part of a login
                await person.wallet.login(person.opened, person.login, person.password)
                self._inside[person.login] = person
        except HanbitError as error:
            self._errors.append(f"{type(error).__name__}: {error}")
        else:
            self._latencies.add(self.clock.monotonic() - due)
