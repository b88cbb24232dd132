"""Named places at which a test kills this very process, so that every crash can be tried on real files.

A place is reached by name, for example `gateway.commit.after`; `HANBIT_FAIL_AT=name:3` kills the process with SIGKILL the third time.
"""

import os
import signal

_name, _, _count = os.environ.get("HANBIT_FAIL_AT", "").partition(":")
_left = [int(_count) if _count.isdigit() else 1]


def arm(name: str, count: int) -> None:
    """Set the place and count in a forked child (the environment was read at import)."""
    global _name  # noqa: PLW0603 - one process, one place
    _name = name
    _left[0] = count


def reach(name: str) -> None:
    """Die here, at once and without clean-up, if this place was armed."""
    if name == _name:
        _left[0] -= 1
        if _left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
