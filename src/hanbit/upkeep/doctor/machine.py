"""The machine: room on the disk, open files, whether somebody sets its clock."""

import ctypes
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from hanbit.upkeep.doctor.findings import Finding, Patient, good, warning, wrong

DISK_WARNING_BYTES, DISK_LEAST_BYTES = 2 << 30, 200 << 20
INODES_WARNING, INODES_LEAST = 10_000, 500
FILES_LEAST = 4096
NOT_SYNCHRONIZED = 5
"""What adjtimex(2) returns where nobody sets the clock (TIME_ERROR)."""
TIMESYNC_MARK = Path("/run/systemd/timesync/synchronized")


class _Timex(ctypes.Structure):
    """struct timex of Linux, asked with modes = 0: nothing is set. The tail is longer than the kernel's on every machine."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 512))


def disk(patient: Patient) -> Iterator[Finding]:
    """Bytes and file names that the book's disk still has."""
    free = shutil.disk_usage(patient.folder).free
    text = f"{free >> 20} MiB free"
    if free < DISK_LEAST_BYTES:
        yield wrong("disk_full", "disk", text, "Make room: a full disk stops every payment")
    elif free < DISK_WARNING_BYTES:
        yield warning("disk_low", "disk", text, "Make room before it is full")
    else:
        yield good("disk", "disk", text)
    found = os.statvfs(patient.folder)
    if not found.f_files:
        return  # a file system that does not count them
    text = f"{found.f_favail} more files can be made"
    if found.f_favail < INODES_LEAST:
        yield wrong("inodes_full", "disk", text, "Remove small files: without a name for its journal the book cannot be written")
    elif found.f_favail < INODES_WARNING:
        yield warning("inodes_low", "disk", text, "Remove small files before there is room for none")


def limits(patient: Patient) -> Iterator[Finding]:
    """What the system allows a process; the server raises its own to the hard limit."""
    del patient
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < FILES_LEAST:
        advice = f"Raise the limit to {FILES_LEAST} or more (ulimit -n, LimitNOFILE=)"
        yield warning("open_files_low", "open files", f"at most {files}", advice)
    else:
        yield good("open_files", "open files", f"up to {files}")
    if os.environ.get("PYTHONOPTIMIZE") or sys.flags.optimize:
        advice = "Unset PYTHONOPTIMIZE: asserts are part of the checks, and hanbit refuses to start without them"
        yield wrong("python_optimized", "Python", "it is told to leave asserts out", advice)


def clock(patient: Patient) -> Iterator[Finding]:
    """Whether somebody keeps this machine's clock right."""
    del patient
    if not sys.platform.startswith("linux"):
        return
    timex = _Timex(modes=0)
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) == NOT_SYNCHRONIZED and not TIMESYNC_MARK.exists():
        advice = "Let chrony or systemd-timesyncd set it: beyond a minute from its merchants a gateway has no line"
        yield warning("clock_unsynchronized", "clock", "nobody sets this machine's clock", advice)
    else:
        yield good("clock_synchronized", "clock", "set by a time service")
