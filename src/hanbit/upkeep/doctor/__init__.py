"""What is wrong with a data folder, its keys, its book, this machine and the server that runs on it, and what to do. Changes nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from hanbit import settings
from hanbit.folder import offset_of
from hanbit.kernel.errors import HanbitError
from hanbit.upkeep.doctor import book, folder, machine, server
from hanbit.upkeep.doctor.findings import Finding, Patient, good, holder, wrong

EXAMINATIONS: dict[str, Callable[[Patient], Iterator[Finding]]] = {
    "keys": folder.keys,
    "certificates": folder.certificates,
    "site": folder.site,
    "left over": folder.left_over,
    "SQLite": book.library,
    "book": book.book,
    "disk": machine.disk,
    "limits": machine.limits,
    "clock": machine.clock,
    "server": server.server,
}
"""In this order, after folder and settings."""


def examine(path: Path, at: int, say: Callable[[str], None] = lambda _what: None) -> Iterator[Finding]:
    """Every finding, from the folder outwards; what rests on something that is wrong is not looked at."""
    say("the folder")
    if not path.is_dir():
        yield wrong("folder_missing", "folder", f"{path} is no folder", f"Make one with: hanbit init {path}")
        return
    yield from folder.permissions(path)
    try:
        patient = Patient(path, settings.load(path), at, holder(path))
    except HanbitError as error:
        yield wrong("settings", "settings", error.detail, f"Correct {path / settings.FILE}")
        return
    yield good("settings", "settings", f"operator {patient.settings.operator}, {patient.settings.public_url}")
    if patient.settings.sandbox:
        offset_s = offset_of(path) or 0
        yield good("sandbox", "sandbox", f"a TEST operator, no real money; its clock is {offset_s} s ahead")
        patient = replace(patient, at=at + offset_s)
    for name, look in EXAMINATIONS.items():
        say(name)
        try:
            yield from look(patient)
        except (HanbitError, OSError, ValueError) as error:
            yield wrong(f"{name.lower().replace(' ', '_')}_damaged", name, str(error), "Restore what is damaged from a backup.")
