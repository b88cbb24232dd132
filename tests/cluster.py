"""A PostgreSQL cluster of one's own from the system's binaries, in a temporary folder, and databases in it for tests.

`initdb` refuses root: where the tests run as root the server runs as the first of USERS that this machine has. It listens on a Unix socket
and on a free loopback port, and is as durable as a real one (fsync on): no test cuts the power, so it lies in memory where there is room.
Nothing of it outlives the process that started it.
"""

import atexit
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests import memory

USERS = ("postgres", "nobody")
"""Whom root lends the cluster to."""
START_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0
SUPERUSER, OWNER, PASSWORD = "tests", "hanbit", "sample password"
OPTIONS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "5s",
    "log_statement": "none",
    "wal_level": "replica",
    "max_wal_size": "256MB",
}


def binaries() -> Path:
    """Folder of initdb and postgres of the newest PostgreSQL that is installed; LookupError without any."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent  # a link from elsewhere does not lead to its neighbours
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not versions:
        raise LookupError("PostgreSQL")
    return versions[-1].parent


def unprivileged() -> pwd.struct_passwd | None:
    """Who runs the server where the tests run as root; None where they do not, LookupError where there is nobody."""
    if os.geteuid() != 0:
        return None
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError(f"no user of {', '.join(USERS)} to run PostgreSQL as")


@dataclass
class Cluster:
    """A running server."""

    binaries: Path
    folder: Path
    port: int
    user: pwd.struct_passwd | None
    command: list[str]
    process: subprocess.Popen[bytes] = field(init=False)
    watcher: subprocess.Popen[bytes] = field(init=False)

    @property
    def lent(self) -> dict[str, Any]:
        """As whom its programs run, and where."""
        if self.user is None:
            return {"cwd": self.folder}
        return {"cwd": self.folder, "user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def launch(self) -> None:
        """Start the server on its files as they are, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.lent)
        ready = [str(self.binaries / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        deadline = time.monotonic() + START_WITHIN_S
        while subprocess.run(ready, check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                told = (self.folder / "log").read_text("utf-8", "replace")
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start: {told}")
            time.sleep(0.05)

    def watch(self) -> None:
        """Let somebody clear up behind us should this process be killed: the pipe from which he reads ends with whoever holds it."""
        self.watcher = subprocess.Popen(["sh", "-c", _WATCH, str(self.folder)], stdin=subprocess.PIPE, **self.lent | {"cwd": "/"})

    def crash(self) -> None:
        """An immediate shutdown: what is not in the write-ahead log is gone, and `launch` recovers from there."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def url(self, database: str, *, owner: str = OWNER, tcp: bool = False, **options: str) -> str:
        """The address of a database: by its socket, or by TCP with the owner's password."""
        said = "".join(f"&{name}={value}" for name, value in options.items())
        if tcp:
            return f"postgresql://{owner}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}?sslmode=disable{said}"
        return f"postgresql:///{database}?host={self.folder}&port={self.port}&user={owner}{said}"

    def sql(self, text: str, database: str = "postgres") -> str:
        """One or more statements as the superuser, by psql; what they print."""
        command = [str(self.binaries / "psql"), "-XqtA", "-v", "ON_ERROR_STOP=1", "-d", self.url(database, owner=SUPERUSER), "-c", text]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return str(done.stdout).strip()

    def create(self, *, template: str = "template0", name: str = "") -> str:
        """A new database that belongs to OWNER; its name."""
        name = name or f"book_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}" + (" ENCODING 'UTF8'" if template == "template0" else ""))
        return name

    def drop(self, name: str) -> None:
        """The database goes, whoever is still connected."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def signal(self, number: signal.Signals) -> None:
        """To the postmaster."""
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        """Stop at once and remove everything."""
        self.watcher.kill()
        self.watcher.communicate()
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)


_WATCH = """
read -r _
pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null)
kill -QUIT "$pid" 2>/dev/null
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
rm -rf "$0"
"""


@cache
def shared(folder: Path) -> Cluster:
    """One cluster a process, started when it is first asked for; LookupError where nobody may run it."""
    return start(folder)


def start(programs: Path, **options: str) -> Cluster:
    """Make a cluster and start it; the caller stops it."""
    user, folder = _folder()
    data, secret = folder / "data", folder / "password"
    secret.write_text(PASSWORD, "ascii")
    secret.chmod(0o644)
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER, "--auth-local=trust", "--auth-host=scram-sha-256"]
    cluster = _cluster(programs, folder, user, options)
    subprocess.run([*initdb, "--pwfile", str(secret), "-E", "UTF8", "--locale=C.UTF-8"], check=True, capture_output=True, **cluster.lent)
    _begin(cluster)
    cluster.sql(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'")
    return cluster


def standby(primary: Cluster) -> Cluster:
    """A second server that follows this one, and without which it acknowledges nothing from here on; the caller stops it."""
    user, folder = _folder()
    cluster = _cluster(primary.binaries, folder, user, {})
    source = ["-h", str(primary.folder), "-p", str(primary.port), "-U", SUPERUSER]
    basebackup = [str(primary.binaries / "pg_basebackup"), *source, "-D", str(folder / "data"), "-R", "-X", "stream", "-c", "fast"]
    subprocess.run(basebackup, check=True, capture_output=True, **cluster.lent)
    _begin(cluster)
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.sql("SELECT pg_reload_conf()")
    deadline = time.monotonic() + START_WITHIN_S
    while primary.sql("SELECT sync_state FROM pg_stat_replication") != "sync":
        assert time.monotonic() < deadline, "it does not follow"
        time.sleep(0.05)
    return cluster


def _folder() -> tuple[pwd.struct_passwd | None, Path]:
    """Whose, and where."""
    user = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="hanbit-pg-", dir=memory.roomy()))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o711)  # the socket's folder: whoever runs the tests goes through it
    return user, folder


def _cluster(programs: Path, folder: Path, user: pwd.struct_passwd | None, options: dict[str, str]) -> Cluster:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    said = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder)} | OPTIONS | options
    command = [str(programs / "postgres"), "-D", str(folder / "data")]
    command += [part for name, value in said.items() for part in ("-c", f"{name}={value}")]
    return Cluster(programs, folder, port, user, command)


def _begin(cluster: Cluster) -> None:
    atexit.register(cluster.stop)
    cluster.watch()
    cluster.launch()
