"""Each write of the shop happens once: its Idempotency-Key is kept for 24 hours with the answer that it got.

The key is written down before the act and the answer after it. The act itself goes under a number of its own (`work`), which the order
book keeps for ever: after a crash, or an answer that could not be stored, the same request finds what it did and does not do it again.

| answered | the key is then |
| --- | --- |
| 2xx | done: the same request gets the same bytes again, another one 409 |
| 4xx | free: nothing has changed; send the corrected request under the same key or a new one |
| 503, or the agent died | open: the same request takes the work up again, another one gets 409 |
"""

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from hanbit.kernel import fail_points, ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Refused
from hanbit.merchant.agent.faults import KeyReused, StillRunning
from hanbit.merchant.agent.store import Store

KEPT_S: Final = 24 * 3600
PURGED_AT_ONCE: Final = 500
"""So few that nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the caller: status, JSON bytes and, for something new, where it is."""

    status: int
    body: bytes
    location: str | None = None
    replayed: bool = False


class Once:
    """Every keyed write goes through `run`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[str, str] = {}
        """key → fingerprint of the request that is at work in this process"""

    async def run(self, key: str, request: bytes, act: Callable[[str], Awaitable[Answer]]) -> Answer:
        """The answer to this request, from `act(work)` or as it was stored. Raises KeyReused and StillRunning."""
        fingerprint = ids.digest(request)
        at_work = self._running.get(key)
        if at_work is not None:
            raise StillRunning if at_work == fingerprint else KeyReused
        self._running[key] = fingerprint
        try:
            work, answer = await self._store.write(partial(_claim, key, fingerprint, ids.new_token(), self._clock.now()))
            if answer is not None:
                return answer
            fail_points.reach("agent.key.kept")
            try:
                answer = await act(work)
            except Refused:
                await self._store.write(partial(_release, key))
                raise
            fail_points.reach("agent.act.done")
            await self._store.write(partial(_finish, key, answer))
            return answer
        finally:
            del self._running[key]

    async def purge(self) -> bool:
        """Forget a portion of the keys older than 24 hours; True while there may be more."""
        return await self._store.write(partial(_purge, self._clock.now() - KEPT_S)) == PURGED_AT_ONCE


def _claim(key: str, fingerprint: str, work: str, at: int, connection: sqlite3.Connection) -> tuple[str, Answer | None]:
    """The work's number, and the answer where the request was answered before."""
    connection.execute("DELETE FROM requests WHERE key = ? AND at <= ?", (key, at - KEPT_S))
    row = connection.execute("SELECT fingerprint, work, status, body, location FROM requests WHERE key = ?", (key,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO requests (key, fingerprint, work, at) VALUES (?, ?, ?, ?)", (key, fingerprint, work, at))
        return work, None
    if row[0] != fingerprint:
        raise KeyReused
    return row[1], Answer(row[2], row[3], row[4], replayed=True) if row[2] is not None else None


def _finish(key: str, answer: Answer, connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE requests SET status = ?, body = ?, location = ? WHERE key = ?", (answer.status, answer.body, answer.location, key)
    )


def _release(key: str, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM requests WHERE key = ? AND status IS NULL", (key,))


def _purge(before: int, connection: sqlite3.Connection) -> int:
    return connection.execute(
        "DELETE FROM requests WHERE key IN (SELECT key FROM requests WHERE at <= ? ORDER BY at LIMIT ?)", (before, PURGED_AT_ONCE)
    ).rowcount
