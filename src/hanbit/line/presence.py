"""Who else runs on this book and whose line each of them holds, as rows that every process writes anew every few seconds.

No clock is compared with another machine's: a process lives as long as the version of its row moves, by the watch of whoever looks, and
counts as gone at once when nothing listens at its address any more. Everything here may be late or lost: a merchant who is not found is
asked again by recovery, and what two processes do twice is turned away the second time by the book.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hanbit.db.change import Change, Delete, Put, Stale
from hanbit.db.commit import Book
from hanbit.db.reading import Reader
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError

BEAT_S: Final = 1.5
SILENT_MAX_S: Final = 8.0
"""A row that did not move for so long belongs to a process that has died or hangs."""
FORGOTTEN_S: Final = 60.0
"""After so long its rows are removed, by whoever sees it."""
PROCESSES_MAX: Final = 64
HOLDERS_MAX: Final = 4
"""A merchant's connections at once, so at most so many processes."""
ROWS_AT_ONCE: Final = 500
log = logging.getLogger("hanbit.line")


@dataclass(frozen=True, slots=True)
class Process:
    """One running process of this gateway."""

    id: str
    number: int
    machine: str
    address: str


@dataclass(slots=True)
class _Watched:
    process: Process
    version: int
    moved_at: float
    is_gone: bool = False


class Presence:
    """This process's own rows, and what it sees of the others."""

    def __init__(self, book: Book, reader: Reader, clock: Clock, *, number: int, machine: str) -> None:
        self._book = book
        self._reader = reader
        self._clock = clock
        self._number = number
        self._machine = machine
        self._held: Callable[[], frozenset[str]] = frozenset
        self._on_gone: Callable[[Process], None] = _ignore
        self._watched: dict[str, _Watched] = {}
        self._address = ""
        self._version = 0
        self._due = asyncio.Event()
        self._started_at = clock.now()
        self.id = ids.new_token()

    @property
    def process(self) -> Process:
        """This one."""
        return Process(self.id, self._number, self._machine, self._address)

    def others(self) -> list[Process]:
        """Every other process that lives, as far as is known here."""
        return [seen.process for seen in self._watched.values() if seen.process.id != self.id and self._lives(seen)]

    def is_alive(self, process_id: str) -> bool:
        """Whether this process lives, as far as is known here."""
        seen = self._watched.get(process_id)
        return process_id == self.id or (seen is not None and self._lives(seen))

    def holders(self, merchant_id: str) -> list[Process]:
        """The other living processes that hold this merchant's line, the newest first."""
        sql = "SELECT process FROM lines WHERE merchant = ? ORDER BY since DESC LIMIT ?"
        found = [self._watched.get(row["process"]) for row in self._reader.all(sql, merchant_id, HOLDERS_MAX * 2)]
        return [seen.process for seen in found if seen is not None and seen.process.id != self.id and self._lives(seen)]

    def suspect(self, process_id: str) -> None:
        """Nothing listens at its address: it is gone unless its row moves again."""
        seen = self._watched.get(process_id)
        if seen is not None and not seen.is_gone:
            seen.is_gone = True
            log.warning("process_gone", extra={"number": seen.process.number, "machine": seen.process.machine})
            self._due.set()

    def moved(self) -> None:
        """A merchant came or went: the others should know soon."""
        self._due.set()

    async def start(self, address: str, held: Callable[[], frozenset[str]], on_gone: Callable[[Process], None]) -> None:
        """Write our first row and see who is there."""
        self._address, self._held, self._on_gone = address, held, on_gone
        with suppress(HanbitError):  # the database is away: the next beat tries again
            await self.beat()

    async def run(self, after: Callable[[], Awaitable[None]]) -> None:
        """Beat until cancelled, and do this after every beat."""
        while True:
            self._due.clear()
            try:
                await self.beat()
                await after()
            except HanbitError as error:
                log.info("presence_waits", extra={"reason": str(error)})
            except Exception:  # whatever it is, the others must not think that we are gone for it
                log.exception("presence_failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._due.wait()

    async def beat(self) -> None:
        """Write our rows, look at everybody's, clear away those of the dead."""
        row: dict[str, str | int | None] = {
            "id": self.id,
            "number": self._number,
            "machine": self._machine,
            "address": self._address,
            "started_at": self._started_at,
            "seen_at": self._clock.now(),
        }
        try:
            await self._book.commit(Change(puts=(Put("processes", row, self._version), *self._lines_wanted()), deletes=self._lines_gone()))
            self._version += 1
        except Stale:  # somebody took us for dead and has cleared our rows away, or a lost answer was a commit after all
            own = self._reader.one("SELECT version FROM processes WHERE id = ?", self.id)
            self._version = 0 if own is None else own["version"]
            self._due.set()
        self._look()
        await self._clear_away()

    async def leave(self) -> None:
        """We are about to stop: our rows go, and with them whatever work was ours."""
        with suppress(HanbitError):
            await self._forget(self.process)

    def _own_lines(self) -> dict[str, int]:
        """Merchant → version of our row that says that we hold his line."""
        sql = "SELECT merchant, version FROM lines WHERE process = ? LIMIT ?"
        return {row["merchant"]: row["version"] for row in self._reader.all(sql, self.id, ROWS_AT_ONCE * 4)}

    def _lines_wanted(self) -> tuple[Put, ...]:
        new = sorted(self._held() - self._own_lines().keys())[:ROWS_AT_ONCE]
        return tuple(Put("lines", self._line(merchant), 0) for merchant in new)

    def _lines_gone(self) -> tuple[Delete, ...]:
        held = self._held()
        gone = [(merchant, version) for merchant, version in self._own_lines().items() if merchant not in held]
        return tuple(Delete("lines", (f"{merchant} {self.id}",), version) for merchant, version in gone[:ROWS_AT_ONCE])

    def _line(self, merchant: str) -> dict[str, str | int | None]:
        return {"id": f"{merchant} {self.id}", "merchant": merchant, "process": self.id, "since": self._clock.now()}

    def _look(self) -> None:
        """Whose row has moved since we last looked?"""
        now, there = self._clock.monotonic(), set[str]()
        for row in self._reader.all("SELECT id, version, number, machine, address FROM processes ORDER BY id LIMIT ?", PROCESSES_MAX):
            process = Process(row["id"], row["number"], row["machine"], row["address"])
            there.add(process.id)
            seen = self._watched.get(process.id)
            if seen is None:
                self._watched[process.id] = _Watched(process, row["version"], now)
            elif seen.version != row["version"]:
                seen.version, seen.moved_at, seen.is_gone = row["version"], now, False
        for process_id in self._watched.keys() - there:
            self._on_gone(self._watched.pop(process_id).process)

    async def _clear_away(self) -> None:
        now = self._clock.monotonic()
        for seen in tuple(self._watched.values()):
            if seen.process.id != self.id and now - seen.moved_at > FORGOTTEN_S:
                with suppress(Stale):  # it has moved after all, or somebody else clears it away
                    await self._forget(seen.process, seen.version)

    async def _forget(self, process: Process, version: int | None = None) -> None:
        lines = self._reader.all("SELECT id, version FROM lines WHERE process = ? LIMIT ?", process.id, ROWS_AT_ONCE)
        jobs = self._reader.all("SELECT name, version FROM jobs WHERE holder = ?", process.id)
        own = self._reader.one("SELECT version FROM processes WHERE id = ?", process.id)
        gone = [Delete("lines", (row["id"],), row["version"]) for row in lines]
        gone += [Delete("jobs", (row["name"],), row["version"]) for row in jobs]
        if own is not None:
            gone.append(Delete("processes", (process.id,), own["version"] if version is None else version))
        if gone:
            await self._book.commit(Change(deletes=tuple(gone)))

    def _lives(self, seen: _Watched) -> bool:
        return not seen.is_gone and self._clock.monotonic() - seen.moved_at <= SILENT_MAX_S


def _ignore(_process: Process) -> None:
    """Nobody asks."""
