"""What every process that serves asks of the machine before it reads a key: that its memory stays its own, and enough open files."""

import ctypes
import resource
import sys

PR_SET_DUMPABLE = 4
"""prctl(2): a process that is not dumpable leaves no core and cannot be read by another process of the same user."""


def no_core_dumps() -> None:
    """Keys, passwords and session keys pass through this memory: it must never be written to a file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # A core_pattern that pipes to a program ignores the limit; this it does not.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def many_files() -> None:
    """As many open files as the machine allows: each visitor and each merchant is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
