"""What `hanbit backup` and `hanbit doctor` ask of a running server, through the folder's socket."""

import json
import resource
from collections.abc import Awaitable, Callable
from typing import Any

from hanbit.db.change import Change, Put
from hanbit.payments.gateway import Gateway
from hanbit.payments.operations import ACTOR
from hanbit.payments.sign_in import act

LAST_BACKUP = "last_backup"
"""The row of `settings` that says when a backup was last made: {"at", "file", "sha256"}."""
Result = dict[str, Any]


async def copy_book(gateway: Gateway) -> Result:
    """Begin to copy the book into the data folder."""
    gateway.copier.start()
    return {}


async def copy_progress(gateway: Gateway) -> Result:
    """How far that is."""
    progress = gateway.copier.progress
    return {"pages": progress.pages, "left": progress.left, "done": progress.done, "error": progress.error}


async def note_backup(gateway: Gateway, *, file: str, sha256: str, at: str) -> Result:
    """A backup was made and proved: who looks after this folder sees how old the last one is."""
    row = gateway.reader.one("SELECT version FROM settings WHERE name = ?", LAST_BACKUP)
    value = json.dumps({"at": int(at), "file": file, "sha256": sha256}, ensure_ascii=False)
    put = Put("settings", {"name": LAST_BACKUP, "value": value}, 0 if row is None else row["version"])
    await gateway.book.commit(Change(puts=(put,), appends=(act(gateway.clock.now(), ACTOR, f"backup to {file}", sha256),)))
    return {}


async def health(gateway: Gateway) -> Result:
    """What only the running server knows: its clock, its limits, its merchants' lines."""
    merchants = [row[0] for row in gateway.reader.all("SELECT id FROM merchants WHERE state = 'active' ORDER BY id LIMIT 1000")]
    figures = {merchant: gateway.line.figures(merchant) for merchant in merchants}
    lines = {
        merchant: {
            "up": found.up or found.post == "up",
            "connections": found.connections,
            "offset_s": found.offset_s,
            "reason": found.down_reason,
        }
        for merchant, found in figures.items()
    }
    return {
        "now": gateway.clock.now(),
        "waiting": gateway.book.waiting,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "lines": lines,
    }


COMMANDS: dict[str, Callable[..., Awaitable[Result]]] = {
    command.__name__: command for command in (copy_book, copy_progress, note_backup, health)
}
