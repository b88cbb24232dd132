"""What a look at a data folder finds: each finding with a code that stays the same, how bad it is, and what to do."""

import fcntl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hanbit.folder import LOCK_FILE
from hanbit.settings import Settings

Severity = Literal["ok", "warning", "wrong"]
DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: good, worth a warning, or wrong; and what to do about it."""

    code: str
    severity: Severity
    what: str
    found: str
    advice: str = ""


def good(code: str, what: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(code, "ok", what, found)


def warning(code: str, what: str, found: str, advice: str) -> Finding:
    """It works, but not for ever or not for real money."""
    return Finding(code, "warning", what, found, advice)


def wrong(code: str, what: str, found: str, advice: str) -> Finding:
    """It does not work, or must not."""
    return Finding(code, "wrong", what, found, advice)


@dataclass(frozen=True, slots=True)
class Patient:
    """What the examinations look at."""

    folder: Path
    settings: Settings
    at: int
    holder: int | None
    """The process that holds the folder, None if it is free."""


def holder(folder: Path) -> int | None:
    """The process that holds the folder; asked with a shared lock that is given back at once."""
    with suppress(FileNotFoundError), (folder / LOCK_FILE).open("rb") as file:
        if is_locked(file.fileno()):
            text = file.read(20).decode("ascii", "replace").strip()
            return int(text) if text.isascii() and text.isdigit() else 0
    return None


def is_locked(descriptor: int) -> bool:
    """Whether somebody holds this file alone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
