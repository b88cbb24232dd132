"""A systemd of one's own as process 1 of its own namespaces: it starts the units of `deploy/` as they are, with every restriction.

Nothing of the machine's own systemd, units, users or cgroups is touched: /etc, /run, /opt and /var/lib are private copies or empty, the
cgroups lie below one that is made for it. It needs root and unshare(2); where that is not to be had the caller is told why.
"""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SYSTEMD: Final = Path("/lib/systemd/systemd")
CGROUPS: Final = Path("/sys/fs/cgroup")
TARGETS: Final = ("sysinit", "basic", "shutdown", "multi-user", "network-online")
PATIENCE_S: Final = 60
LOOK_EVERY_S: Final = 0.1
_NAMESPACES: Final = ("--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "--mount-proc")
_START: Final = """
set -e
mount --make-rprivate /
cp -a /etc "$PLACE/etc"
mount -t tmpfs tmpfs /run
mount --bind "$PLACE/etc" /etc
mount -t tmpfs tmpfs /opt
mkdir -p /opt/hanbit/bin /opt/python /opt/packages /opt/src /opt/logs
mount --bind "$PYTHON_FOLDER" /opt/python
mount --bind "$PACKAGES" /opt/packages
mount --bind "$SOURCE" /opt/src
mount --bind "$PLACE/logs" /opt/logs
cp "$PLACE/hanbit-program" /opt/hanbit/bin/hanbit
mount -t tmpfs tmpfs /var/lib
for name in hanbit hanbit-agent; do mkdir "/var/lib/$name"; mount --bind "$PLACE/$name" "/var/lib/$name"; done
if [ -d /sys/fs/cgroup/systemd ]; then
    umount -R /sys/fs/cgroup
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
else
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
systemd-sysusers "$SOURCE/../deploy/sysusers.conf"
exec env -i PATH="$PATH" container=hanbit-test SYSTEMD_UNIT_PATH="$PLACE/units" \\
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
"""
_PROGRAM: Final = """#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONHOME=/opt/python PYTHONPATH=/opt/src:/opt/packages
exec /opt/python/{python} -m hanbit "$@"
"""


class NotPossible(Exception):
    """Why this machine cannot do it."""


@dataclass(frozen=True)
class Systemd:
    """The running process 1."""

    pid: int
    place: Path

    async def control(self, *arguments: str) -> str:
        """`systemctl` inside; what it prints. It fails loudly unless the command is a question."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "systemctl", *arguments]
        process = await asyncio.create_subprocess_exec(*enter, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 0 or arguments[0] in {"is-active", "is-system-running"}, said.decode() + self.log()
        return said.decode().strip()

    async def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return await self.control("show", unit, f"--property={name}", "--value")

    def log(self) -> str:
        """What systemd and the services have said."""
        return "\n".join(path.read_text("utf-8", "replace")[-4000:] for path in sorted((self.place / "logs").iterdir()))


@asynccontextmanager
async def systemd(place: Path) -> AsyncIterator[Systemd]:
    """Start it on `place/hanbit` and `place/hanbit-agent` as the services' data folders; all of it is gone at the end."""
    _prepare(place)
    group = _own_cgroup()
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PLACE": str(place),
        "PYTHON_FOLDER": sys.base_prefix,
        "PACKAGES": sysconfig.get_path("purelib"),
        "SOURCE": str(ROOT / "src"),
    }
    with (place / "logs" / "systemd.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("unshare", *_NAMESPACES, "sh", "-c", _START),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=group.enter,
        )
    try:
        child = await _child_of(process.pid)
        running = Systemd(child, place)
        async with asyncio.timeout(PATIENCE_S):
            while await running.control("is-system-running") not in {"running", "degraded"}:
                if process.returncode is not None:
                    raise NotPossible(f"systemd did not start: {running.log()[-500:]}")
                await asyncio.sleep(LOOK_EVERY_S)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        for _ in range(50):
            if group.remove():
                break
            await asyncio.sleep(LOOK_EVERY_S)


def _prepare(place: Path) -> None:
    if os.geteuid() != 0:
        raise NotPossible("only root can make the namespaces")
    missing = [name for name in ("unshare", "nsenter", "systemd-sysusers") if shutil.which(name) is None]
    if missing or not SYSTEMD.exists():
        raise NotPossible(f"{', '.join(missing) or 'systemd'} is not installed")
    tried = subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise NotPossible(f"namespaces are not allowed here: {tried.stderr.strip()}")
    for name in ("units", "logs", "hanbit", "hanbit-agent"):
        (place / name).mkdir(exist_ok=True)
    for name in TARGETS:
        (place / "units" / f"{name}.target").write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n", "ascii")
    for name in ("hanbit", "hanbit-agent"):
        shutil.copy(ROOT / "deploy" / f"{name}.service", place / "units")
        extra = place / "units" / f"{name}.service.d"
        extra.mkdir(exist_ok=True)
        # There is no journal here; nothing else of the unit is changed.
        told = f"append:/opt/logs/{name}.log"
        (extra / "log.conf").write_text(f"[Service]\nStandardOutput={told}\nStandardError={told}\n", "ascii")
    python = Path(sys.executable).resolve().relative_to(Path(sys.base_prefix).resolve())
    program = place / "hanbit-program"
    program.write_text(_PROGRAM.format(python=python), "ascii")
    program.chmod(0o755)


class _Group:
    """One cgroup in each hierarchy that systemd uses, above everything that it makes."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def enter(self) -> None:
        """In the child, before it becomes another program."""
        for path in self._paths:
            (path / "cgroup.procs").write_text("0", "ascii")

    def remove(self) -> bool:
        """False while the kernel has not seen the last process go."""
        for path in self._paths:
            for folder, _, _ in os.walk(path, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        return not any(path.exists() for path in self._paths)


def _own_cgroup() -> _Group:
    hierarchies = [CGROUPS / "systemd", CGROUPS / "unified"] if (CGROUPS / "systemd").is_dir() else [CGROUPS]
    paths = [hierarchy / f"hanbit-test-{os.getpid()}" for hierarchy in hierarchies]
    try:
        for path in paths:
            path.mkdir()
    except OSError as error:
        raise NotPossible(f"no cgroup can be made: {error}") from error
    return _Group(paths)


async def _child_of(pid: int) -> int:
    """Process 1 of the new namespace, as it is called out here."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = _children(pid)
            if found is None:
                raise NotPossible("unshare ended at once")
            if found:
                return found[0]
            await asyncio.sleep(LOOK_EVERY_S)


def _children(pid: int) -> list[int] | None:
    """None if the process itself has gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return None


def main_process(inner: str) -> Path:
    """The folder in /proc of the process that is called so inside: the one whose innermost number this is."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            numbers = re.search(r"NSpid:\t([0-9]+)\t([0-9]+)\n", status.read_text("utf-8"))
            if numbers is not None and numbers[2] == inner:
                return status.parent
    raise LookupError(inner)
