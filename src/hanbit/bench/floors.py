"""What this machine can do at best, measured in the same run: every figure of a bench is read beside these."""

import os
import statistics
from collections.abc import Callable
from pathlib import Path

from hanbit.crypto import keys, signatures
from hanbit.db import sqlite, sqlite_file
from hanbit.db.change import Append, Change, Value
from hanbit.db.commit import BATCH_MAX
from hanbit.db.sqlite import SqliteStore
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput

SYNCS = 40
COMMITS = 40
SIGNATURES = 400
PLAIN_ACCOUNTS = 2_000
PLAIN_S = 1.0
_PLAIN_TABLES = """
CREATE TABLE accounts (id INTEGER PRIMARY KEY, pending INTEGER NOT NULL, posted INTEGER NOT NULL) STRICT;
CREATE TABLE transfers (id TEXT PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL) STRICT;
"""
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_FILE_SYSTEM_FIELD = 2
_BLOCK = bytes(4096)


def measure(directory: Path, clock: Clock) -> dict[str, float]:
    """Medians in µs: one fdatasync of a 4 KiB append, one durable commit of a one-row Change, one P-256 signature, one verification."""
    return {
        "fdatasync_us": round(_fdatasync_us(directory, clock), 1),
        "commit_us": round(_commit_us(directory, clock), 1),
        **{name: round(value, 1) for name, value in _p256_us(clock).items()},
    }


def ledger(directory: Path, clock: Clock, in_flight: int) -> dict[str, float]:
    """What a ledger of two tables in SQLite does a second with few checks: a batch of holds, a batch of captures, each durable."""
    path = directory / "floor.plain"
    connection = sqlite_file.open_for_writing(path)
    connection.executescript(_PLAIN_TABLES)
    connection.executemany("INSERT INTO accounts VALUES (?, 0, 0)", ((account,) for account in range(PLAIN_ACCOUNTS)))
    pairs, started = 0, clock.monotonic()
    try:
        while clock.monotonic() < started + PLAIN_S:
            names = [(ids.new_token(), (pairs + place) % PLAIN_ACCOUNTS) for place in range(min(in_flight, BATCH_MAX))]
            for kind, pending, posted in (("hold", 1, 0), ("capture", -1, 1)):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO transfers VALUES (?, ?, 1)", ((f"{kind}:{name}", account) for name, account in names))
                moves = [(pending, posted, account) for _, account in names]
                connection.executemany("UPDATE accounts SET pending = pending + ?, posted = posted + ? WHERE id = ?", moves)
                connection.execute("COMMIT")
            pairs += len(names)
        return {"plain_sqlite_pairs_per_s": round(pairs / (clock.monotonic() - started), 1)}
    finally:
        connection.close()


def check_disk(directory: Path) -> None:
    """BadInput where nothing would be durable: a folder that lives in memory."""
    kind = file_system(directory)
    if kind in _IN_MEMORY:
        raise BadInput(f"{directory} lives in memory ({kind}), so nothing there is durable: name a folder on a disk with --directory")


def file_system(directory: Path) -> str:
    """The kind of file system that holds the folder, as Linux names it; empty where there is no such list."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return ""
    target = directory.resolve()
    holding = [mount for mount in mounts if target.is_relative_to(mount[1])]
    return max(holding, key=lambda mount: len(mount[1]))[_FILE_SYSTEM_FIELD] if holding else ""


def _fdatasync_us(directory: Path, clock: Clock) -> float:
    path = directory / "floor"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:

        def append() -> None:
            os.write(descriptor, _BLOCK)
            os.fdatasync(descriptor)

        return _median_us(append, SYNCS, clock)
    finally:
        os.close(descriptor)
        path.unlink()


def _commit_us(directory: Path, clock: Clock) -> float:
    path = directory / "floor.sqlite"
    sqlite.create_book(path, "bench", clock.now())
    store = SqliteStore(path)
    at = clock.now()

    def commit() -> None:
        row: dict[str, Value] = {
            "id": ids.new_token(),
            "at": at,
            "actor": "bench",
            "act": "floor",
            "reason": "ok",
            "merchant": None,
            "tid": None,
        }
        (answer,) = store.write_batch([Change(appends=(Append("audit", row),))], at)
        assert answer is None, answer

    try:
        return _median_us(commit, COMMITS, clock)
    finally:
        store.close()


def _p256_us(clock: Clock) -> dict[str, float]:
    key = keys.new_key()
    public = key.public_key()
    data = bytes(512)
    signature = signatures.sign(key, data)
    return {
        "p256_sign_us": _median_us(lambda: signatures.sign(key, data), SIGNATURES, clock),
        "p256_verify_us": _median_us(lambda: signatures.verify(public, data, signature), SIGNATURES, clock),
    }


def _median_us(act: Callable[[], object], times: int, clock: Clock) -> float:
    spent = []
    for _ in range(times):
        started = clock.monotonic()
        act()
        spent.append(clock.monotonic() - started)
    return statistics.median(spent) * 1e6
