"""`hanbit backup`: one file with a consistent copy of the book, made while the server runs, read back and proved before it counts.

A running server copies its own book (see `db/copying.py`) into the data folder, and this process proves that copy and packs it; a free
folder is held for so long and its book packed as it lies there, byte for byte. Private keys and pepper are never in a backup unless asked
for, and then under a passphrase: whoever finds a backup can read the book but cannot log in, sign or open anything.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanbit import __version__, control, settings
from hanbit.crypto.certificates import load_chain_pem
from hanbit.db import copying, sqlite_file
from hanbit.db.sqlite import BOOK_FILE
from hanbit.folder import KEYS_FOLDER, hold, place_at
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, Conflict, Unavailable
from hanbit.upkeep import archive, keys
from hanbit.upkeep.archive import Manifest, Writer
from hanbit.upkeep.proof import Proof, prove

ASK_EVERY_S = 0.1
LOCK_FILE = "backup.lock"
Say = Callable[[str], None]


def silent(_what: str) -> None:
    """Nobody is told what happens."""


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made and read back."""

    path: Path
    sha256: str
    """Of its manifest, which names the digests of everything else: write it down where the backup is not."""
    made_at: int
    size: int
    proof: Proof
    keys: bool

    def shown(self) -> dict[str, Any]:
        """For people and programs at a terminal."""
        found = {"backup": str(self.path), "sha256": self.sha256, "size": self.size, "made_at": self.made_at, "keys": self.keys}
        return found | self.proof.shown()


def backup(folder: Path, target: Path, clock: Clock, *, passphrase: str | None, say: Say = silent) -> Made:
    """Back the folder up to a new file. With a passphrase the keys are in it too, sealed under it."""
    if not isinstance(place_at(folder), Path):
        raise BadInput(
            "the book is in a PostgreSQL database, which has backups of its own (pg_basebackup with its log); "
            f"save {folder / settings.FILE} and {folder / KEYS_FOLDER} beside them: docs/operating.md says how"
        )
    if target.exists():
        raise Conflict(f"{target} exists")
    if not target.parent.is_dir():
        raise BadInput(f"{target.parent} is no folder")
    try:
        with hold(folder):
            settle(folder / BOOK_FILE)
            made = pack(folder, folder / BOOK_FILE, target, clock, passphrase=passphrase, say=say)
    except Conflict as error:
        if "is held by process" not in error.detail:
            raise
        with _alone(folder):
            made = _online(folder, target, clock, passphrase=passphrase, say=say)
    note(folder, made)
    return made


def note(folder: Path, made: Made) -> None:
    """Write into the book that a backup was made."""
    name = str(made.path).encode("utf-8", "replace").decode("utf-8")
    asyncio.run(control.run(folder, "note_backup", file=name, sha256=made.sha256, at=str(made.made_at)))


def _online(folder: Path, target: Path, clock: Clock, *, passphrase: str | None, say: Say) -> Made:
    asyncio.run(control.send(folder, "copy_book", {}))
    try:
        while True:
            copied = asyncio.run(control.send(folder, "copy_progress", {}))
            if copied["done"]:
                break
            pages = copied["pages"] or 1
            say(f"copying the book: {100 * (pages - copied['left']) // pages} %")
            time.sleep(ASK_EVERY_S)
        if copied["error"]:
            raise Unavailable(f"the server could not copy its book: {copied['error']}")
        copy = folder / copying.FOLDER / BOOK_FILE
        return pack(folder, copy, target, clock, passphrase=passphrase, say=say)
    finally:
        copying.clear(folder / copying.FOLDER)


def pack(folder: Path, book: Path, target: Path, clock: Clock, *, passphrase: str | None, say: Say) -> Made:
    """Prove a book that nobody writes to, put it with the rest into `target`, and read that back."""
    own, found = settings.load(folder), keys.read(folder / KEYS_FOLDER)
    proof = prove(book, load_chain_pem(folder / KEYS_FOLDER / "root.pem")[0], say)
    if proof.operator != own.operator:
        raise BadInput(f"{book} is {proof.operator}'s, {folder / settings.FILE} says {own.operator}")
    size = book.stat().st_size
    copying.need_room(target.parent, size)
    manifest = Manifest("hanbit-backup-1", __version__, own.operator, proof.schema, clock.now(), keys.fingerprints(found), ())
    small = {archive.SETTINGS: (folder / settings.FILE).read_bytes(), archive.ROOT: found["root.pem"]}
    if passphrase is not None:
        say("sealing the keys")
        small[archive.KEYS] = keys.seal(found, passphrase, manifest.bound_to)
    with Writer(target, manifest.made_at) as writer:
        say("writing the backup")
        with book.open("rb") as file:
            writer.add(archive.BOOK, size, archive.read_chunks(file))
        for name, content in small.items():
            writer.add(name, len(content), (content,))
        sha256 = writer.finish(manifest)
    say("reading the backup")
    archive.check(target)
    return Made(target, sha256, manifest.made_at, target.stat().st_size, proof, keys=passphrase is not None)


def verify(path: Path, scratch: Path, say: Say = silent) -> tuple[Manifest, Proof]:
    """Read every byte of a backup and prove its book, in a scratch folder that the caller removes."""
    say("reading the backup")
    copying.need_room(scratch, path.stat().st_size)
    copy = scratch / archive.BOOK
    with os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        manifest, small = archive.check(path, {archive.BOOK: file})
        file.flush()
        os.fsync(file.fileno())
    (scratch / archive.ROOT).write_bytes(small[archive.ROOT])
    proof = prove(copy, load_chain_pem(scratch / archive.ROOT)[0], say)
    if (proof.operator, proof.schema) != (manifest.operator, manifest.db_schema):
        raise archive.BadBackup("its book is not the one that the manifest describes")
    return manifest, proof


def settle(book: Path) -> None:
    """Put what a stopped server has left in the book's log or journal into the book; the caller holds the folder."""
    if not book.exists():
        raise BadInput(f"{book} is missing")
    left = [book.with_name(f"{book.name}-{kind}") for kind in ("wal", "journal")]
    if any(path.exists() and path.stat().st_size for path in left):
        try:
            connection = sqlite_file.open_for_writing(book)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
        except sqlite_file.DatabaseError as error:
            raise BadInput(f"{book} cannot be read as a book: {error}") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One backup at a time on a folder that a server holds; ends with this process, however that ends."""
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Conflict("another backup of this folder is being made") from error
    finally:
        os.close(descriptor)
