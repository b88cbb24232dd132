"""`hanbit serve --workers N` with a shop on a PostgreSQL book, and the workers below it as the test sees them."""

import os
import signal
from pathlib import Path

from hanbit.db.reading import Reader
from hanbit.folder import place_at
from tests.flows.crash_processes import Site
from tests.waiting import until


def workers(s: Site) -> dict[int, int]:
    """Number → process id of the workers that run now."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text("ascii").rpartition(")")[2].split()[1])
            plan = (path / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, UnicodeDecodeError):  # it has just ended
            continue
        if parent == s.gateway.process.pid and b"hanbit.workers.child" in plan:
            found[int(plan[-2].partition(b'"number":')[2].partition(b",")[0])] = int(path.name)
    return found


def rows(s: Site, sql: str) -> list[tuple[str | int | None, ...]]:
    """What the book says now."""
    reader = Reader(place_at(s.folder / "gateway"))
    try:
        return [tuple(row) for row in reader.all(sql)]
    finally:
        reader.close()


def holders(s: Site) -> set[int]:
    """Numbers of the workers that hold a line."""
    return {int(number or 0) for (number,) in rows(s, "SELECT p.number FROM lines l JOIN processes p ON p.id = l.process")}


def job_holders(s: Site) -> dict[str, int]:
    """Job → number of the worker whose it is."""
    return {
        str(name): int(number or 0) for name, number in rows(s, "SELECT j.name, p.number FROM jobs j JOIN processes p ON p.id = j.holder")
    }


async def end(s: Site, number: int, how: signal.Signals) -> int:
    """One worker gets this signal; the id of the one that took its place, once it serves."""
    before = workers(s)[number]
    os.kill(before, how)
    await until(lambda: workers(s).get(number, before) != before)
    after = workers(s)[number]
    await until(lambda: f'"worker":{number},"pid":{after}' in s.gateway._log.read_text("utf-8", "replace"))
    return after
