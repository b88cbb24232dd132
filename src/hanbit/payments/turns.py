"""Which process does which work of the background, where several run on one book: each piece of work has one holder at a time.

A holder keeps its work as long as it lives (`line/presence.py`); the row of one that does not is taken over, by whoever is first. Whoever
has more than its share gives one back. Two that take themselves for the holder for a moment do no harm: whatever a job does is computed
from versions, and the book turns the second one away.
"""

import logging
from contextlib import suppress
from math import ceil

from hanbit.db.change import Change, Delete, Put, Stale
from hanbit.db.commit import Book
from hanbit.db.reading import Reader
from hanbit.line.presence import Presence

_log = logging.getLogger("hanbit.recovery")


class Turns:
    """The jobs that are this process's now."""

    def __init__(self, book: Book, reader: Reader, presence: Presence, jobs: tuple[str, ...]) -> None:
        self._book = book
        self._reader = reader
        self._presence = presence
        self._jobs = jobs
        self.mine: frozenset[str] = frozenset()

    def is_mine(self, job: str) -> bool:
        """Whether this process is the one that does this."""
        return job in self.mine

    async def take(self) -> None:
        """Take over what nobody living holds, up to our share; give back one that is beyond it."""
        rows = {row["name"]: row for row in self._reader.all("SELECT name, version, holder FROM jobs LIMIT ?", len(self._jobs) * 2)}
        mine = [name for name, row in rows.items() if row["holder"] == self._presence.id and name in self._jobs]
        free = [name for name in self._jobs if name not in rows or not self._presence.is_alive(rows[name]["holder"])]
        share = ceil(len(self._jobs) / (1 + len(self._presence.others())))
        for name in free[: max(share - len(mine), 0)]:
            with suppress(Stale):  # somebody else was first
                version = rows[name]["version"] if name in rows else 0
                await self._book.commit(Change(puts=(Put("jobs", {"name": name, "holder": self._presence.id}, version),)))
                mine.append(name)
                _log.info("job_taken", extra={"job": name})
        self.mine = frozenset(mine)
        if len(mine) > share:
            given = max(mine)
            self.mine -= {given}
            with suppress(Stale):
                await self._book.commit(Change(deletes=(Delete("jobs", (given,), rows[given]["version"]),)))
