"""A PostgreSQL cluster of the run's own, from the system's binaries, in the run's folder: as durable as a real one, gone when it ends.

`initdb` refuses root: where the bench runs as root the server runs as the first of USERS that this machine has.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hanbit.bench.processes import children, cpu_s
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, Unavailable

USERS: Final = ("postgres", "nobody")
BINARIES: Final = Path("/usr/lib/postgresql")
"""Where Debian and its descendants keep them, a folder a version; elsewhere they are on the PATH."""
SUPERUSER: Final = "hanbit"
PORT: Final = 5432
"""Names the socket in the cluster's own folder; no port is listened on."""
LOG: Final = "postgresql.log"
START_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 30.0
LOOK_EVERY_S: Final = 0.05
OPTIONS: Final = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "100",
    "shared_buffers": "512MB",
    "max_wal_size": "2GB",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server."""

    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, database: str = "postgres") -> str:
        """The address of a database, by the socket."""
        return f"postgresql:///{database}?host={self.folder}&port={PORT}&user={SUPERUSER}"

    def cpu_s(self) -> float:
        """Processor seconds of the server and of each of its processes that still runs."""
        spent = cpu_s(self.process.pid)
        for process in children(self.process.pid):
            with contextlib.suppress(OSError):  # one that ends at this moment
                spent += cpu_s(process)
        return spent

    def create(self, name: str) -> str:
        """Another empty database; its address."""
        made = [str(binaries() / "createdb"), "-h", str(self.folder), "-p", str(PORT), "-U", SUPERUSER, "-T", "template0", name]
        subprocess.run(made, check=True)  # noqa: S603 - the system's own program
        return self.url(name)


def binaries() -> Path:
    """The folder of the newest `initdb` here; Unavailable where there is none."""
    versions = sorted(BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which("initdb")
    if found is None:
        raise Unavailable("there is no initdb of PostgreSQL on this machine: install the server, or name a database with --database")
    return Path(found).parent


@contextmanager
def started(directory: Path, clock: Clock) -> Iterator[Cluster]:
    """Make a cluster in the directory and start it; it ends with us."""
    folder, programs, lent = directory / "postgresql", binaries(), _lent()
    folder.mkdir(mode=0o711)
    if "user" in lent:
        directory.chmod(0o711)  # whoever the server runs as goes through it to its own folder
        os.chown(folder, lent["user"], lent["group"])
    data = str(folder / "data")
    initdb = [str(programs / "initdb"), "-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
    made = subprocess.run(initdb, check=False, capture_output=True, cwd=folder, **lent)  # noqa: S603 - the system's own program
    if made.returncode:
        why = " ".join(made.stderr.decode("utf-8", "replace").split())
        if "user" in lent and "Permission denied" in why:
            raise BadInput(
                f"{directory.parent} is closed to {_name(lent['user'])}, as whom PostgreSQL runs for root: name another --directory"
            )
        raise Unavailable(f"initdb failed: {why}")
    options = {"port": str(PORT), "unix_socket_directories": str(folder)} | OPTIONS
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    server = [str(programs / "postgres"), "-D", data, *arguments]
    with (directory / LOG).open("wb") as log:
        process = subprocess.Popen(server, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **lent)  # noqa: S603 - as above
    cluster = Cluster(folder, process)
    try:
        _wait_until_ready(cluster, programs, clock)
        yield cluster
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown; nothing where it has ended
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(cluster: Cluster, programs: Path, clock: Clock) -> None:
    latest = clock.monotonic() + START_WITHIN_S
    ready = [str(programs / "pg_isready"), "-q", "-h", str(cluster.folder), "-p", str(PORT)]
    while cluster.process.poll() is None and clock.monotonic() < latest:
        if subprocess.run(ready, check=False).returncode == 0:  # noqa: S603 - the system's own program
            return
        time.sleep(LOOK_EVERY_S)
    raise Unavailable(f"PostgreSQL did not start: {(cluster.folder.parent / LOG).read_text('utf-8', 'replace')}")


def _name(user: int) -> str:
    return pwd.getpwuid(user).pw_name


def _lent() -> dict[str, Any]:
    """Out of reach of the terminal's Ctrl-C, which is ours to act on; and as whom the server runs where we are root."""
    own: dict[str, Any] = {"start_new_session": True}
    if os.geteuid() != 0:
        return own
    for name in USERS:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return own | {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise Unavailable(f"PostgreSQL does not run as root, and there is none of {', '.join(USERS)}")
