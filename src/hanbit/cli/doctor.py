"""`hanbit doctor`: what is wrong with a data folder, its keys, its book, this machine and the server that runs on it, and what to do."""

import contextlib
import fcntl
import http.client
import os
import resource
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from hanbit.cli.options import data_option, json_option, show

if TYPE_CHECKING:
    from hanbit.settings import Settings

DAY_S = 24 * 3600
CERTIFICATE_WARNING_S = 30 * DAY_S
DISK_WARNING_BYTES, DISK_LEAST_BYTES = 2 << 30, 200 << 20
FILES_LEAST = 4096
ANSWER_WITHIN_S = 3.0
OVERDUE_S = 15 * 60
"""After `pay_by` and so much more every payment is final by itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: good, worth a warning, or wrong; and what to do about it."""

    what: str
    state: Literal["ok", "warning", "wrong"]
    found: str
    advice: str = ""


def good(what: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(what, "ok", found)


def warning(what: str, found: str, advice: str) -> Finding:
    """It works, but not for ever or not for real money."""
    return Finding(what, "warning", found, advice)


def wrong(what: str, found: str, advice: str) -> Finding:
    """It does not work, or must not."""
    return Finding(what, "wrong", found, advice)


@dataclass(frozen=True, slots=True)
class Patient:
    """What the examinations look at."""

    folder: Path
    settings: "Settings"
    at: int
    holder: int | None
    """The process that holds the folder, None if it is free."""


@click.command()
@data_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, data: Path, as_json: bool) -> None:
    """Find what is wrong with a data folder and its server, and say what to do. Changes nothing; exit status 1 if something is wrong.

    \b
    Example:
      hanbit doctor --data /srv/hanbit
      hanbit doctor --data /srv/hanbit --json
    """
    from rich.console import Console

    from hanbit.kernel.clock import SystemClock

    with Console(stderr=True).status("looking") as status:
        findings = list(examine(data, SystemClock().now(), lambda what: status.update(f"looking at {what}")))
    healthy = not any(finding.state == "wrong" for finding in findings)
    if as_json:
        show({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}, as_json=True)
    else:
        for finding in findings:
            click.echo(f"{finding.state.upper() if finding.state == 'wrong' else finding.state:<8} {finding.what}: {finding.found}")
            if finding.advice:
                click.echo(f"         → {finding.advice}")
        click.echo("Nothing is wrong." if healthy else "Something is wrong; do what stands after →.")
    ctx.exit(0 if healthy else 1)


def examine(folder: Path, at: int, say: Callable[[str], None] = lambda _what: None) -> Iterator[Finding]:
    """Every finding, from the folder outwards; what rests on something that is wrong is not looked at."""
    from hanbit import settings
    from hanbit.kernel.errors import HanbitError

    say("the folder")
    if not folder.is_dir():
        yield wrong("folder", f"{folder} is no folder", f"Make one with: hanbit init {folder}")
        return
    yield from _permissions(folder)
    try:
        patient = Patient(folder, settings.load(folder), at, _holder(folder))
    except HanbitError as error:
        yield wrong("settings", error.detail, f"Correct {folder / settings.FILE}")
        return
    yield good("settings", f"operator {patient.settings.operator}, {patient.settings.public_url}")
    for name, look in EXAMINATIONS.items():
        say(name)
        try:
            yield from look(patient)
        except (HanbitError, OSError, ValueError) as error:
            yield wrong(name, str(error), "Restore what is damaged from a backup.")


def _permissions(folder: Path) -> Iterator[Finding]:
    open_to_others = []
    for path in (folder, *sorted(folder.rglob("*"))):
        found = path.lstat()
        if found.st_uid != os.geteuid():
            yield wrong("owner", f"{path} belongs to user {found.st_uid}", f"Run this as that user, or: chown {os.geteuid()} {path}")
        if stat.S_IMODE(found.st_mode) & 0o077 and not stat.S_ISLNK(found.st_mode):
            open_to_others.append(path)
    for path in open_to_others:
        mode = "700" if path.is_dir() else "600"
        yield wrong("permissions", f"{path} is open to other users", f"chmod {mode} {path}")
    if not open_to_others:
        yield good("permissions", "only the owner can read the folder and its keys")


def _keys(patient: Patient) -> Iterator[Finding]:
    from hanbit.parties import keyring

    keys = patient.folder / "keys"
    ring = keyring.load(keys, patient.settings)
    if (keys / "root.key").exists():
        yield warning(
            "root key",
            "it lies in the folder, unencrypted",
            "Good for a trial only; for real money: hanbit init --root-key on another medium",
        )
    else:
        yield good("root key", "not on this machine's data folder")
    if not ring.seals:
        yield warning("seal key", "there is none", "The server makes one when it starts; if it runs, restart it")
        return
    age_s = patient.at - max(made_at for made_at, _ in ring.seals.values())
    if age_s <= keyring.SEAL_LIFE_S:
        yield good("seal key", f"{age_s // 3600} hours old, {len(ring.seals)} kept")
    elif patient.holder is None:
        yield warning("seal key", f"{age_s // 3600} hours old", "The server makes a new one when it starts")
    else:
        yield wrong("seal key", f"{age_s // 3600} hours old: the server does not renew it", "Restart the server and look at its log")


def _certificates(patient: Patient) -> Iterator[Finding]:
    from cryptography import x509

    from hanbit.crypto.certificates import load_chain_pem

    before = None
    for name in ("root", "gateway-authority", "merchant-authority", "gateway-sign", "line"):
        ends = int(
            x509.load_der_x509_certificate(load_chain_pem(patient.folder / "keys" / f"{name}.pem")[0]).not_valid_after_utc.timestamp()
        )
        before = ends if before is None else min(before, ends)
        yield from _about_to_end(name, ends, patient.at, "Renew it before it ends: without it no payment can be made")
    if before is not None and before > patient.at + CERTIFICATE_WARNING_S:
        yield good("certificates", f"the first of the operator's own ends in {(before - patient.at) // DAY_S} days")


def _about_to_end(name: str, ends: int, at: int, advice: str) -> Iterator[Finding]:
    if ends <= at:
        yield wrong("certificates", f"{name} has ended {(at - ends) // DAY_S} days ago", advice)
    elif ends <= at + CERTIFICATE_WARNING_S:
        yield warning("certificates", f"{name} ends in {(ends - at) // DAY_S} days", advice)


def _library(patient: Patient) -> Iterator[Finding]:
    from hanbit.db import sqlite_file

    del patient
    version = ".".join(map(str, sqlite_file.library_version()))
    if sqlite_file.wal_is_safe():
        yield good("SQLite", f"{version}, write-ahead log")
    else:
        yield warning(
            "SQLite", f"{version}: no write-ahead log below 3.51.3, the book is slower", "pip install pysqlite3, where it has wheels"
        )


def _book(patient: Patient) -> Iterator[Finding]:
    from hanbit.db import schema, sqlite_file
    from hanbit.db.sqlite import BOOK_FILE
    from hanbit.ledger.check import check

    path = patient.folder / BOOK_FILE
    if not path.exists():
        yield wrong("book", f"{path} is missing", "Restore it from a backup; never start a new one under old keys")
        return
    connection = sqlite_file.open_for_reading(path)
    try:
        damage = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        if damage != ["ok"]:
            yield wrong("book", f"damaged: {damage[0]}", "Stop the server and restore the book from a backup")
            return
        row = connection.execute("SELECT schema_version, operator, time FROM book WHERE id = 1").fetchone()
        if row is None or row["schema_version"] != schema.SCHEMA_VERSION:
            yield wrong("book", f"not a book of schema {schema.SCHEMA_VERSION}", "Install the version of hanbit that wrote it")
            return
        if row["operator"] != patient.settings.operator:
            yield wrong("book", f"it is {row['operator']}'s", "The setting `operator` cannot change after `hanbit init`")
        yield from _clock(patient, row["time"])
        report = check(connection)
        if report.balanced:
            yield good("book", f"{report.entries} entries, {report.accounts} accounts, every promise holds")
        else:
            yield wrong("book", f"broken: {', '.join(report.broken)}", f"Stop the server; hanbit ledger check --data {patient.folder}")
        yield from _left_over(patient, connection)
    except sqlite_file.DatabaseError as error:
        yield wrong("book", f"{path} cannot be read: {error}", "Stop the server and restore the book from a backup")
    finally:
        connection.close()


def _clock(patient: Patient, book_time: int) -> Iterator[Finding]:
    behind_s = book_time - patient.at
    if behind_s > 60:  # noqa: PLR2004 - beyond a minute the line counts as down
        yield wrong(
            "clock",
            f"this machine is {behind_s} s behind the book's last commit",
            "Correct the clock (timedatectl), then restart the server",
        )
    else:
        yield good("clock", "not behind the book's last commit")


def _left_over(patient: Patient, connection: Any) -> Iterator[Finding]:
    """What should have ended by itself: payments, outcomes that nobody acknowledges, merchants' certificates."""
    sql = "SELECT count(*) FROM payments WHERE state IN ('open', 'authorized') AND pay_by < ?"
    overdue = connection.execute(sql, (patient.at - OVERDUE_S,)).fetchone()[0]
    if overdue and patient.holder is not None:
        yield wrong("payments", f"{overdue} should be final and are not", "Look at the server's log for `recovery_waits`, then restart it")
    elif overdue:
        yield warning(
            "payments", f"{overdue} wait to be ended", f"They end by themselves when the server runs: hanbit serve --data {patient.folder}"
        )
    sql = "SELECT DISTINCT merchant FROM outbox WHERE acknowledged_at IS NULL AND stored_at < ? LIMIT 5"
    for row in connection.execute(sql, (patient.at - DAY_S,)):
        yield warning(
            "outbox", f"{row[0]} has not acknowledged an outcome for more than a day", "Ask the merchant whether its shop is connected"
        )
    sql = (
        "SELECT urn, purpose, max(not_after) AS ends FROM certificates WHERE revoked_at IS NULL AND urn LIKE '%:merchant:%' "
        "GROUP BY urn, purpose HAVING ends <= ? ORDER BY ends LIMIT 20"
    )
    for row in connection.execute(sql, (patient.at + CERTIFICATE_WARNING_S,)):
        merchant = row["urn"].rpartition(":")[2]
        advice = f"hanbit merchant enrol-code {merchant} --data {patient.folder}, and let the shop enrol again"
        yield from _about_to_end(f"{row['purpose']} of {merchant}", row["ends"], patient.at, advice)


def _machine(patient: Patient) -> Iterator[Finding]:
    free = shutil.disk_usage(patient.folder).free
    text = f"{free >> 20} MiB free"
    if free < DISK_LEAST_BYTES:
        yield wrong("disk", text, "Make room: a full disk stops every payment")
    elif free < DISK_WARNING_BYTES:
        yield warning("disk", text, "Make room before it is full")
    else:
        yield good("disk", text)
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < FILES_LEAST:
        yield warning("open files", f"at most {files}", f"Raise the limit to {FILES_LEAST} or more (ulimit -n, LimitNOFILE=)")
    else:
        yield good("open files", f"up to {files}")


def _server(patient: Patient) -> Iterator[Finding]:
    settings = patient.settings
    if patient.holder is None:
        yield good("server", "not running")
        places = (("listen_port", settings.listen_host, settings.listen_port), ("line_port", settings.line_host, settings.line_port))
        for name, host, port in (*places, ("metrics_port", "127.0.0.1", settings.metrics_port)):
            fault = _cannot_listen(host, port)
            if fault:
                yield wrong("ports", f"{host}:{port}: {fault}", f"Stop whoever listens there, or change {name} in hanbit.toml")
        return
    if settings.listen_port:
        yield _ask_ready(patient)
    if settings.metrics_port:
        yield from _lines(patient)


def _ask_ready(patient: Patient) -> Finding:
    host, port = patient.settings.listen_host, patient.settings.listen_port
    try:
        status = _get(host, port, "/readyz")[0]
    except (OSError, http.client.HTTPException) as error:
        return wrong("server", f"process {patient.holder} holds the folder but does not answer at {host}:{port}: {error}", "Restart it")
    if status != http.HTTPStatus.OK:
        return wrong("server", f"process {patient.holder} is not ready ({status})", "Look at its log, then restart it")
    return good("server", f"process {patient.holder} is ready at {host}:{port}")


def _lines(patient: Patient) -> Iterator[Finding]:
    try:
        _, text = _get("127.0.0.1", patient.settings.metrics_port, "/metrics")
    except (OSError, http.client.HTTPException) as error:
        yield warning("line", f"the metrics do not answer: {error}", "Restart the server")
        return
    counted = [line.split()[1] for line in text.splitlines() if line.startswith("hanbit_line_connections ")]
    connections = int(float(counted[0])) if counted else 0
    if connections:
        yield good("line", f"{connections} connections of merchants")
    else:
        port = patient.settings.line_port
        yield warning("line", "no merchant is connected", f"Nobody can pay now; shops dial port {port}: is it reachable for them?")


def _get(host: str, port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20).decode("utf-8", "replace")
    finally:
        connection.close()


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what is listened on, not where we listen


def _cannot_listen(host: str, port: int) -> str | None:
    if not port:
        return None
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None


def _holder(folder: Path) -> int | None:
    """The process that holds the folder; asked with a shared lock that is given back at once."""
    from hanbit.folder import LOCK_FILE

    with contextlib.suppress(FileNotFoundError), (folder / LOCK_FILE).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            text = file.read(20).decode("ascii", "replace").strip()
            return int(text) if text.isascii() and text.isdigit() else 0
    return None


EXAMINATIONS: dict[str, Callable[[Patient], Iterator[Finding]]] = {
    "keys": _keys,
    "certificates": _certificates,
    "SQLite": _library,
    "book": _book,
    "machine": _machine,
    "server": _server,
}
"""In this order, after folder and settings."""
