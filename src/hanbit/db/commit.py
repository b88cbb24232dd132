"""`await book.commit(change)`: group commit under the book lock.

Whatever queues while the last batch is on its way to the disk goes with the next; there is no timer, so an idle book commits at once.
`commit` returns when the Change is durable and raises when it was turned away; nothing is cached between batches. A batch is decided and
written where the loop runs (short statements in memory), and made durable in the book's one thread, which waits for the disk.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hanbit.db.change import Change
from hanbit.db.sqlite import SqliteStore
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, Unavailable

BATCH_MAX = 1_024
"""Changes in one database transaction."""
WAITING_MAX = 8_192
"""Changes that may wait for the book; beyond it the answer is Unavailable."""

Answers = list[HanbitError | None] | BaseException
"""For each Change of a batch None or why it was turned away, or what broke for all of them."""


class Book:
    """The queue before the book lock, with the thread that writes."""

    def __init__(self, open_store: Callable[[], SqliteStore], clock: Clock, *, observe: Callable[[int, float], None] | None = None) -> None:
        self._clock = clock
        self._observe = observe
        self._waiting: deque[tuple[Change, asyncio.Future[None]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="book")
        self._running = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._store = self._thread.submit(open_store).result()

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
        self._waiting.append((change, done))
        if not self._running:
            self._running = True
            self._idle.clear()
            loop.call_soon(self._start_batch, loop)  # what else is ready in this turn of the loop goes with it
        # A caller that goes away takes nothing with it: the Change is in the queue and will be decided.
        await done

    def _start_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
        changes = [change for change, _ in batch]
        started, at = self._clock.monotonic(), self._clock.now()

        def finished(answers: Answers) -> None:
            if self._observe is not None:
                self._observe(len(batch), self._clock.monotonic() - started)
            self._answer(batch, answers)
            if self._waiting:
                self._start_batch(loop)
            else:
                self._running = False
                self._idle.set()

        def make_durable(prepared: list[HanbitError | None]) -> None:
            answers: Answers
            try:
                answers = self._store.commit(changes, prepared, at)
            except BaseException as error:  # noqa: BLE001 - handed to every waiting caller
                answers = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(finished, answers)

        try:
            prepared = self._store.prepare(changes, at)
        except Exception as error:  # noqa: BLE001 - a bug of ours is handed to every waiting caller, and the book goes on
            finished(error)
        else:
            self._thread.submit(make_durable, prepared)

    @staticmethod
    def _answer(batch: list[tuple[Change, asyncio.Future[None]]], answers: Answers) -> None:
        for index, (_, done) in enumerate(batch):
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
        self._thread.submit(self._store.close).result()
        self._thread.shutdown()

    async def close(self) -> None:
        """Finish what waits, then close the file."""
        await self.finish()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()
