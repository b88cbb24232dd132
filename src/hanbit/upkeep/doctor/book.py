"""The book: can it be read, does it hold what it promises, and is anything in it that should have ended."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from hanbit.db import place as places
from hanbit.db import schema, sqlite_file
from hanbit.db.sqlite import BOOK_FILE
from hanbit.db.versions import NewerBook, OldBook
from hanbit.kernel.errors import BadInput, Unavailable
from hanbit.ledger.check import check
from hanbit.payments.halt import HALTED
from hanbit.upkeep.commands import LAST_BACKUP
from hanbit.upkeep.doctor.findings import DAY_S, Finding, Patient, good, warning, wrong
from hanbit.upkeep.doctor.folder import about_to_end

RESTORE = "Stop the server and restore the book from a backup: hanbit restore --help"
OVERDUE_S = 15 * 60
"""After `pay_by` and so much more every payment is final by itself."""
CLOCK_BEHIND_S = 60
"""Beyond a minute a line counts as down."""
BACKUP_WARNING_S = 2 * DAY_S


def library(patient: Patient) -> Iterator[Finding]:
    """Which SQLite or PostgreSQL it is, and whether the book is kept there as it must be."""
    if patient.settings.database:
        from hanbit.upkeep.doctor.database import database  # noqa: PLC0415 - an extra

        yield from database(patient)
        return
    version = ".".join(map(str, sqlite_file.library_version()))
    if not sqlite_file.wal_is_safe():
        advice = "pip install pysqlite3, where it has wheels"
        yield warning("sqlite_old", "SQLite", f"{version}: no write-ahead log below 3.51.3, the book is slower", advice)
        return
    yield good("sqlite", "SQLite", f"{version}, write-ahead log")
    if patient.holder is not None and (patient.folder / BOOK_FILE).exists():
        with closing(sqlite_file.open_for_reading(patient.folder / BOOK_FILE)) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal":
            advice = "Another program has changed it, or an older library serves it: stop whatever else opens this file, restart the server"
            yield wrong("journal_mode", "SQLite", f"the served book is in {mode} mode", advice)


def book(patient: Patient) -> Iterator[Finding]:
    """The file, its schema, its owner, its clock, the money in it, and what should have ended."""
    path = patient.folder / BOOK_FILE
    if patient.settings.database:
        yield from _in_database(patient, patient.settings.database)
        return
    if not path.exists():
        yield wrong("book_missing", "book", f"{path} is missing", "Restore it from a backup; never start a new one under old keys")
        return
    try:
        with closing(sqlite_file.open_for_reading(path)) as connection:
            yield from _examine(patient, path, connection)
    except sqlite_file.DatabaseError as error:
        yield wrong("book_unreadable", "book", f"{path} cannot be read: {error}", RESTORE)


def _in_database(patient: Patient, url: str) -> Iterator[Finding]:
    if (patient.folder / BOOK_FILE).exists():
        found = f"{patient.folder / BOOK_FILE} lies beside the settings of a book in a database"
        yield warning("book_left_over", "book", found, "It is the book before `hanbit migrate`: put it away, so that nobody serves it")
    try:
        connection = places.open_for_reading(url, patient=True)
    except OldBook as error:
        yield wrong("book_old", "book", error.detail, f"Stop the server, then: hanbit upgrade --data {patient.folder}")
    except NewerBook as error:
        yield wrong("book_newer", "book", error.detail, "Install the version of hanbit that wrote it")
    except (BadInput, Unavailable) as error:
        yield wrong("book_unreadable", "book", error.detail, "The lines about PostgreSQL say more")
    else:
        with closing(connection):
            yield from _examine(patient, places.shown(url), connection)


def _examine(patient: Patient, path: object, connection: Any) -> Iterator[Finding]:
    if isinstance(path, Path):
        damage = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        if damage != ["ok"]:
            yield wrong("book_damaged", "book", f"damaged: {damage[0]}", RESTORE)
            return
    row = connection.execute("SELECT schema_version, operator, time FROM book WHERE id = 1").fetchone()
    if row is None:
        yield wrong("book_unreadable", "book", f"{path} is no book", RESTORE)
        return
    if row["schema_version"] < schema.SCHEMA_VERSION:
        found = f"of schema {row['schema_version']}, this program needs {schema.SCHEMA_VERSION}"
        yield wrong("book_old", "book", found, f"Stop the server, then: hanbit upgrade --data {patient.folder}")
        return
    if row["schema_version"] > schema.SCHEMA_VERSION:
        found = f"of schema {row['schema_version']}, newer than this program ({schema.SCHEMA_VERSION})"
        yield wrong("book_newer", "book", found, "Install the version of hanbit that wrote it")
        return
    if row["operator"] != patient.settings.operator:
        advice = "The setting `operator` cannot change after `hanbit init`"
        yield wrong("book_operator", "book", f"it is {row['operator']}'s", advice)
    is_sandbox = connection.execute("SELECT 1 FROM settings WHERE name = ?", (schema.SANDBOX,)).fetchone() is not None
    if is_sandbox != patient.settings.sandbox:
        advice = "Live and test never mix: put back the book or the settings that belong here"
        yield wrong("sandbox_mixed", "book", f"it is {'a sandbox' if is_sandbox else 'a live book'}, the settings say otherwise", advice)
    yield from _clock(patient, row["time"])
    report = check(connection)
    if report.balanced:
        yield good("book", "book", f"{report.entries} entries, {report.accounts} accounts, every promise holds")
    else:
        advice = f"Stop the server; hanbit ledger check --data {patient.folder}"
        yield wrong("ledger_broken", "book", f"broken: {', '.join(report.broken)}", advice)
    yield from _halted(connection)
    yield from _unfinished(patient, connection)
    yield from _merchants_certificates(patient, connection)
    if isinstance(path, Path):
        yield from _backups(patient, connection)


def _clock(patient: Patient, book_time: int) -> Iterator[Finding]:
    behind_s = book_time - patient.at
    if behind_s > CLOCK_BEHIND_S:
        found = f"this machine is {behind_s} s behind the book's last commit"
        yield wrong("clock_behind", "clock", found, "Correct the clock (timedatectl), then restart the server")
    else:
        yield good("clock", "clock", "not behind the book's last commit")


def _halted(connection: Any) -> Iterator[Finding]:
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (HALTED,)).fetchone()
    if row is None or row["value"]:
        why = {} if row is None else json.loads(row["value"])
        advice = "The book may not be the one that merchants were promised: read docs/operating.md, what an older copy means"
        yield wrong("payments_halted", "payments", f"none are taken: {why.get('reason', 'the row that allows them is missing')}", advice)


def _unfinished(patient: Patient, connection: Any) -> Iterator[Finding]:
    sql = "SELECT count(*) FROM payments WHERE state IN ('open', 'authorized') AND pay_by < ?"
    overdue = connection.execute(sql, (patient.at - OVERDUE_S,)).fetchone()[0]
    if overdue and patient.holder is not None:
        advice = "Look at the server's log for `recovery_waits`, then restart it"
        yield wrong("payments_overdue", "payments", f"{overdue} should be final and are not", advice)
    elif overdue:
        advice = f"They end by themselves when the server runs: hanbit serve --data {patient.folder}"
        yield warning("payments_wait", "payments", f"{overdue} wait to be ended", advice)
    sql = "SELECT DISTINCT merchant FROM outbox WHERE acknowledged_at IS NULL AND stored_at < ? LIMIT 5"
    for row in connection.execute(sql, (patient.at - DAY_S,)):
        found = f"{row[0]} has not acknowledged an outcome for more than a day"
        yield warning("outbox_waits", "outbox", found, "Ask the merchant whether its shop is connected")


def _merchants_certificates(patient: Patient, connection: Any) -> Iterator[Finding]:
    sql = (
        "SELECT urn, purpose, max(not_after) AS ends FROM certificates WHERE revoked_at IS NULL AND urn LIKE '%:merchant:%' "
        "GROUP BY urn, purpose HAVING max(not_after) <= ? ORDER BY ends LIMIT 20"
    )
    for row in connection.execute(sql, (patient.at + 30 * DAY_S,)):
        merchant = row["urn"].rpartition(":")[2]
        advice = f"hanbit merchant enrol-code {merchant} --data {patient.folder}, and let the shop enrol again"
        yield from about_to_end(f"{row['purpose']} of {merchant}", row["ends"], patient.at, advice)
    sql = "SELECT count(*) FROM certificates WHERE revoked_at IS NULL AND purpose = 'customer-sign' AND not_after BETWEEN ? AND ?"
    devices = connection.execute(sql, (patient.at, patient.at + 30 * DAY_S)).fetchone()[0]
    if devices:
        yield good("devices_ending", "certificates", f"{devices} customers' devices end within 30 days; they enrol again")


def _backups(patient: Patient, connection: Any) -> Iterator[Finding]:
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (LAST_BACKUP,)).fetchone()
    first = connection.execute("SELECT min(issued_at) FROM certificates").fetchone()[0]
    advice = f"hanbit backup --data {patient.folder} -o FILE, on another disk, each night"
    if row is None:
        if first is not None and patient.at > first + DAY_S:
            yield warning("backup_never", "backup", "none was ever made", advice)
        return
    last = json.loads(row["value"])
    age_s = patient.at - last["at"]
    if age_s > BACKUP_WARNING_S:
        yield warning("backup_old", "backup", f"the last one, {last['file']}, is {age_s // DAY_S} days old", advice)
    else:
        yield good("backup", "backup", f"{last['file']}, {max(age_s, 0) // 3600} hours old")
