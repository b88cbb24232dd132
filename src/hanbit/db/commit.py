"""`await book.commit(change)`: group commit under the book lock.

Whatever queues while the last batch is on its way to the disk goes with the next; there is no timer, so an idle book commits at once.
`commit` returns when the Change is durable and raises when it was turned away; nothing is cached between batches. How a batch gets there is
the engine's (`db/sqlite.py`, `db/postgres.py`); neither holds up the loop while the disk or the database is waited for.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from hanbit.db.change import Change
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, Unavailable

BATCH_MAX = 1_024
"""Changes in one database transaction."""
WAITING_MAX = 8_192
"""Changes that may wait for the book; beyond it the answer is Unavailable."""

Answers = list[HanbitError | None] | BaseException
"""For each Change of a batch None or why it was turned away, or what broke for all of them."""


_Waiting = tuple[Change, int, asyncio.Future[None]]
"""A Change, when it was queued, and who waits for its answer."""


class Store(Protocol):
    """What carries a batch to the disk; one batch at a time."""

    async def write(self, changes: Sequence[Change], at: int) -> list[HanbitError | None]:
        """Commit the Changes that hold, together; the answer says for each whether it is durable (None) or turned away, and why."""
        ...

    def close(self) -> None:
        """Give file or connection back; whatever was acknowledged is on the disk already."""
        ...


class Book:
    """The queue before the book lock."""

    def __init__(self, open_store: Callable[[], Store], clock: Clock, *, observe: Callable[[int, float], None] | None = None) -> None:
        self._clock = clock
        self._observe = observe
        self._waiting: deque[_Waiting] = deque()
        self._running: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._store = open_store()

    @property
    def waiting(self) -> int:
        """Changes that have not been taken into a batch yet."""
        return len(self._waiting)

    async def commit(self, change: Change) -> None:
        """Make the Change durable, or raise why it was turned away (then nothing of it is there)."""
        if self._closed or len(self._waiting) >= WAITING_MAX:
            raise Unavailable("the book is closing" if self._closed else "too many changes wait")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((change, self._clock.now(), done))
        if self._running is None:
            self._idle.clear()
            self._running = loop.create_task(self._run(), name="book")  # what else is ready in this turn of the loop goes with it
        # A caller that goes away takes nothing with it: the Change is in the queue and will be decided.
        await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._write([self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))])
        finally:
            self._running = None
            self._idle.set()

    async def _write(self, batch: list[_Waiting]) -> None:
        # Where the clock was set back meanwhile: what was verified then must not seem to have been stored before it was signed.
        started, at = self._clock.monotonic(), max(self._clock.now(), *(queued for _, queued, _ in batch))
        answers: Answers
        try:
            answers = await self._store.write([change for change, _, _ in batch], at)
        except asyncio.CancelledError:  # the loop itself ends: whether this batch is there shows when the book is opened again
            self._answer(batch, Unavailable("the server is stopping"))
            raise
        except BaseException as error:  # noqa: BLE001 - a bug of ours is handed to every waiting caller, and the book goes on
            answers = error
        if self._observe is not None:
            self._observe(len(batch), self._clock.monotonic() - started)
        self._answer(batch, answers)

    @staticmethod
    def _answer(batch: list[_Waiting], answers: Answers) -> None:
        for index, (_, _, done) in enumerate(batch):
            if done.done():
                continue
            answer = answers if isinstance(answers, BaseException) else answers[index]
            if answer is None:
                done.set_result(None)
            else:
                done.set_exception(answer)
                done.exception()  # seen: a caller that went away must not make the loop complain

    async def finish(self) -> None:
        """Take no further Change, and wait until those that were taken are decided."""
        self._closed = True
        await self._idle.wait()

    def discard(self) -> None:
        """Close a book in which nothing was begun."""
        self._closed = True
        self._store.close()

    async def close(self) -> None:
        """Finish what waits, then close the store; putting a log away takes its time, so not where the loop runs."""
        await self.finish()
        await asyncio.to_thread(self._store.close)
