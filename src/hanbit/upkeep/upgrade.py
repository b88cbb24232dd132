"""`hanbit upgrade`: brings the book of an earlier release to today's schema, with a backup first.

The book itself is not touched until everything is proved: a copy of it is migrated in one transaction and checked, and then takes its name
in one step. Whatever stops this in between leaves the old book, which the old program serves as before.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanbit.crypto.certificates import load_chain_pem
from hanbit.db import copying, migrations, schema
from hanbit.db.sqlite import BOOK_FILE
from hanbit.db.versions import NewerBook
from hanbit.folder import KEYS_FOLDER, hold, place_at
from hanbit.kernel import fail_points
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Conflict
from hanbit.upkeep import archive
from hanbit.upkeep.backup import Made, Say, note, pack, settle, silent
from hanbit.upkeep.proof import Proof, prove

WORK_FILE = "book.upgrading"


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What was done; `backup` and `proof` are None where there was nothing to do."""

    before: int
    after: int
    backup: Made | None = None
    proof: Proof | None = None

    def shown(self) -> dict[str, Any]:
        """For people and programs at a terminal."""
        found: dict[str, Any] = {"from": self.before, "to": self.after}
        if self.backup is not None and self.proof is not None:
            found |= {"backup": str(self.backup.path), "sha256": self.backup.sha256}
            found |= {"entries": self.proof.entries, "leaves": self.proof.leaves, "messages": self.proof.messages}
        return found


def upgrade(folder: Path, target: Path, clock: Clock, say: Say = silent) -> Upgraded:
    """Back up to `target`, migrate, prove. Conflict while a server holds the folder; NewerBook if a later release wrote the book."""
    with hold(folder):
        place = place_at(folder)
        if not isinstance(place, Path):
            before = migrations.migrate_database(place)
            return Upgraded(before, schema.SCHEMA_VERSION)
        book = folder / BOOK_FILE
        copying.clear(folder / copying.FOLDER)  # of an upgrade or a backup that was cut short
        settle(book)
        before = migrations.version(book)
        if before == schema.SCHEMA_VERSION:
            return Upgraded(before, before)
        if before > schema.SCHEMA_VERSION:
            raise NewerBook(f"{book} is of schema {before}, newer than this program ({schema.SCHEMA_VERSION})")
        if target.exists():
            raise Conflict(f"{target} exists")
        made = pack(folder, book, target, clock, passphrase=None, say=say)
        proof = _migrate(folder, book, say)
    note(folder, made)
    return Upgraded(before, schema.SCHEMA_VERSION, made, proof)


def _migrate(folder: Path, book: Path, say: Say) -> Proof:
    work = folder / copying.FOLDER / WORK_FILE
    copying.need_room(folder, 2 * book.stat().st_size)  # the copy, and what it writes anew
    work.parent.mkdir(mode=0o700)
    try:
        say("copying the book")
        shutil.copyfile(book, work)
        work.chmod(0o600)
        say("migrating")
        migrations.migrate(work)
        settle(work)
        proof = prove(work, load_chain_pem(folder / KEYS_FOLDER / "root.pem")[0], say)
        with work.open("rb") as file:
            os.fsync(file.fileno())
        fail_points.reach("gateway.upgrade.before")
        for left in ("-wal", "-shm"):  # of the old book, empty: they must not lie beside the new one
            book.with_name(book.name + left).unlink(missing_ok=True)
        work.rename(book)
        archive.sync_folder(folder)
        fail_points.reach("gateway.upgrade.after")
    finally:
        copying.clear(work.parent)
    return proof
