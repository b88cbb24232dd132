"""Runs a piece of a test in a forked child that may be killed anywhere, and may leave without closing anything."""

import asyncio
import os
import signal
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

CHILD_MAX_S: Final = 60
"""An alarm kills a child that hangs."""


def in_child(folder: Path, work: Callable[[], Coroutine[Any, Any, None]], before: Callable[[], None] = lambda: None) -> int:
    """Run `work` in a forked child on this folder and return its wait status; what goes wrong there is raised here.

    `work` leaves by `os._exit(0)` while everything is still open. This process runs no loop and has no file of the folder open.
    """
    trouble = folder / "trouble"
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(CHILD_MAX_S)
            before()
            asyncio.run(work())
        except BaseException:  # noqa: BLE001 - a child that went on would be a second test run
            trouble.write_text(traceback.format_exc(), "utf-8")
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert not trouble.exists(), trouble.read_text("utf-8")
    return status
