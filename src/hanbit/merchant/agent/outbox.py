"""Events on their way to the shop's endpoints, as rows of agent.db: put once, numbered per endpoint, told until taken or three days old."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import msgspec

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import NotFound
from hanbit.merchant.agent.idempotency import PURGED_AT_ONCE
from hanbit.merchant.agent.settings import TEST, Endpoint
from hanbit.merchant.agent.shapes import AttemptView, DeliveriesQuery, DeliveryList, DeliveryView, EndpointList, EndpointView, Told
from hanbit.merchant.agent.store import Store
from hanbit.merchant.agent.webhooks import Called

TOLD_FOR_S: Final = 3 * 24 * 3600
"""An event that nobody took for so long is given up; it stays in the log and can be resent."""
PAUSES_S: Final = (5, 30, 120, 600, 1800, 3600)
"""Before the second, third … try; the last one is that of every further try."""
KEPT_S: Final = 90 * 24 * 3600
"""How long an event that was taken or given up stays in the log."""
ATTEMPTS_SHOWN: Final = 20
_COLUMNS: Final = "number, id, endpoint, sequence, type, tid, state, created_at, next_at"


Data = TypeVar("Data")


class Event(msgspec.Struct, Generic[Data], frozen=True, kw_only=True):
    """The body of a call-back."""

    type: str
    timestamp: str
    """When the event was put here, RFC 3339 in UTC."""
    sequence: int
    """Grows by one with each event for this endpoint: a gap is an event that is still on its way."""
    data: Data


class TrialData(Told, frozen=True, kw_only=True):
    """What a test event says."""

    test: str
    at: str


@dataclass(frozen=True, slots=True)
class Due:
    """An event to be sent now."""

    number: int
    id: str
    body: bytes
    tries: int
    until: int


class Outbox:
    """The rows; `delivery` sends what is due."""

    def __init__(self, store: Store, endpoints: Sequence[Endpoint], clock: Clock) -> None:
        self.store = store
        self._clock = clock
        self.endpoints = endpoints

    async def register(self) -> None:
        """Give each endpoint of agent.toml its row; one that was taken out of the file keeps its numbers for when it comes back."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR IGNORE INTO endpoints VALUES (?, 0)", [(endpoint.name,) for endpoint in self.endpoints])

        await self.store.write(work)

    async def put(self, kind: str, *, subject: str, tid: str | None, data: Told, only: str | None = None) -> list[str]:
        """Store the event for every endpoint that takes it; ids of its deliveries. The same (kind, subject) again changes nothing."""
        at = self._clock.now()
        takers = [
            endpoint.name for endpoint in self.endpoints if (kind in endpoint.events or kind == TEST) and only in (None, endpoint.name)
        ]

        def work(connection: sqlite3.Connection) -> list[str]:
            return [_put(connection, name, kind, subject=subject, tid=tid, data=data, at=at) for name in takers]

        return await self.store.write(work) if takers else []

    async def due(self, endpoint: str, limit: int, in_hand: Iterable[int]) -> list[Due]:
        """What is to be sent now, the longest waiting first; of one tid only its oldest event that still waits."""
        busy = set(in_hand)
        rows = await self.store.read(
            "SELECT number, id, body, tries, until FROM deliveries d WHERE endpoint = ? AND state = 'waiting' AND next_at <= ? "
            "AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.endpoint = d.endpoint AND e.tid = d.tid AND e.state = 'waiting' "
            "AND e.sequence < d.sequence) ORDER BY next_at, sequence LIMIT ?",
            *(endpoint, self._clock.now(), limit + len(busy)),
        )
        return [Due(*row) for row in rows if row[0] not in busy][:limit]

    async def next_at(self, endpoint: str) -> int | None:
        """When the next event of this endpoint is due."""
        rows = await self.store.read("SELECT min(next_at) FROM deliveries WHERE endpoint = ? AND state = 'waiting'", endpoint)
        return rows[0][0] if rows else None

    async def record(self, due: Due, called: Called, at: int) -> None:
        """Write the attempt down, and what follows from it."""
        tries = due.tries + 1
        next_at = at + PAUSES_S[min(tries, len(PAUSES_S)) - 1]
        state, next_at_or_none = (
            ("delivered", None) if called.taken else ("waiting", next_at) if next_at <= due.until else ("given_up", None)
        )

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO attempts (delivery, at, duration_ms, status, error) VALUES (?, ?, ?, ?, ?)",
                (due.number, at, called.duration_ms, called.status, called.error),
            )
            connection.execute(
                "UPDATE deliveries SET state = ?, tries = ?, next_at = ? WHERE number = ?", (state, tries, next_at_or_none, due.number)
            )

        await self.store.write(work)

    async def resend(self, delivery_id: str) -> DeliveryView:
        """Put an event on its way again, with the same id and bytes, whatever became of it; NotFound where there is none."""
        at = self._clock.now()

        def work(connection: sqlite3.Connection) -> None:
            changed = connection.execute(
                "UPDATE deliveries SET state = 'waiting', tries = 0, next_at = ?, until = ? WHERE id = ?",
                (at, at + TOLD_FOR_S, delivery_id),
            )
            if changed.rowcount == 0:
                raise NotFound("no such delivery")

        await self.store.write(work)
        return await self.delivery(delivery_id)

    async def delivery(self, delivery_id: str) -> DeliveryView:
        """One delivery with its latest attempts."""
        rows = await self.store.read(f"SELECT {_COLUMNS} FROM deliveries WHERE id = ?", delivery_id)  # noqa: S608 - our own columns
        if not rows:
            raise NotFound("no such delivery")
        return await self._view(rows[0])

    async def log(self, query: DeliveriesQuery) -> DeliveryList:
        """The delivery log, the newest first."""
        asked = {"tid": query.tid, "endpoint": query.endpoint, "state": query.state}
        where = [f"{name} = ?" for name, value in asked.items() if value is not None]
        values: list[object] = [value for value in asked.values() if value is not None]
        if query.before is not None:
            where.append("number < ?")
            values.append(query.before)
        condition = f"WHERE {' AND '.join(where)} " if where else ""
        rows = await self.store.read(
            f"SELECT {_COLUMNS} FROM deliveries {condition}ORDER BY number DESC LIMIT ?",  # noqa: S608 - our own columns
            *(*values, query.limit + 1),
        )
        shown = [await self._view(row) for row in rows[: query.limit]]
        return DeliveryList(deliveries=shown, next=rows[query.limit - 1][0] if len(rows) > query.limit else None)

    async def overview(self) -> EndpointList:
        """Every endpoint with the number of its latest event and how many wait."""
        views = []
        for endpoint in self.endpoints:
            ((sequence, waiting),) = await self.store.read(
                "SELECT (SELECT sequence FROM endpoints WHERE name = ?), "
                "(SELECT count(*) FROM deliveries WHERE endpoint = ? AND state = 'waiting')",
                *(endpoint.name, endpoint.name),
            )
            views.append(
                EndpointView(name=endpoint.name, url=endpoint.url, events=list(endpoint.events), sequence=sequence, waiting=waiting)
            )
        return EndpointList(endpoints=views)

    async def purge(self) -> bool:
        """Forget a portion of what was taken or given up long ago, with its attempts; True while there may be more."""
        before = self._clock.now() - KEPT_S

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "DELETE FROM deliveries WHERE number IN "
                "(SELECT number FROM deliveries WHERE state <> 'waiting' AND created_at < ? LIMIT ?)",
                (before, PURGED_AT_ONCE),
            ).rowcount

        return await self.store.write(work) == PURGED_AT_ONCE

    async def _view(self, row: tuple[Any, ...]) -> DeliveryView:
        number, delivery_id, endpoint, sequence, kind, tid, state, created_at, next_at = row
        attempts = await self.store.read(
            "SELECT at, duration_ms, status, error FROM attempts WHERE delivery = ? ORDER BY number DESC LIMIT ?", number, ATTEMPTS_SHOWN
        )
        return DeliveryView(
            id=delivery_id,
            endpoint=endpoint,
            sequence=sequence,
            type=kind,
            tid=tid,
            state=state,
            created_at=created_at,
            next_at=next_at,
            attempts=[AttemptView(at=at, duration_ms=ms, status=status, error=error) for at, ms, status, error in attempts],
        )


def rfc_3339(at: int) -> str:
    """As Standard Webhooks spells a time."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _put(connection: sqlite3.Connection, endpoint: str, kind: str, *, subject: str, tid: str | None, data: Told, at: int) -> str:
    known = connection.execute(
        "SELECT id FROM deliveries WHERE endpoint = ? AND type = ? AND subject = ?", (endpoint, kind, subject)
    ).fetchone()
    if known is not None:
        return str(known[0])
    connection.execute("UPDATE endpoints SET sequence = sequence + 1 WHERE name = ?", (endpoint,))
    sequence = connection.execute("SELECT sequence FROM endpoints WHERE name = ?", (endpoint,)).fetchone()[0]
    delivery_id = f"evt_{ids.new_token()}"
    body = msgspec.json.encode(Event(type=kind, timestamp=rfc_3339(at), sequence=sequence, data=data))
    connection.execute(
        "INSERT INTO deliveries (id, endpoint, sequence, type, subject, tid, body, created_at, until, state, tries, next_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', 0, ?)",
        (delivery_id, endpoint, sequence, kind, subject, tid, body, at, at + TOLD_FOR_S, at),
    )
    return delivery_id
