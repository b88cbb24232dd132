"""Where what the tests make lies: in memory where there is room for it, for each commit of theirs waits for its disk as a real one does.

No test cuts the power, and a killed process takes nothing with it of what the kernel holds: on a disk they would wait for most of their
time and find nothing more.
"""

import shutil
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/dev/shm")
LEAST: Final = 2 * 1024**3
"""Bytes that must be free there."""


def roomy() -> Path | None:
    """The folder in memory; None where there is none, or too little room in it."""
    return FOLDER if FOLDER.is_dir() and shutil.disk_usage(FOLDER).free >= LEAST else None
