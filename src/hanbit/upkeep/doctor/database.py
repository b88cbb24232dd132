"""The PostgreSQL server in which the book lies: reached, new enough, durable, archived, with a clock like ours, and not in plain sight."""

from collections.abc import Iterator
from contextlib import closing

from hanbit.db import postgres_link
from hanbit.db.postgres import VERSION_LEAST
from hanbit.db.postgres_link import described
from hanbit.kernel.errors import BadInput, Unavailable
from hanbit.upkeep.doctor.findings import Finding, Patient, good, warning, wrong

CLOCK_WARNING_S, CLOCK_WRONG_S = 5, 30
ANSWER_WITHIN_S = 10.0
_FACTS = """
SELECT current_setting('server_version_num') AS version, current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages,
current_setting('archive_mode') AS archive, extract(epoch FROM clock_timestamp())::bigint AS clock,
coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS secret,
inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1' AS here,
(SELECT count(*) FROM pg_stat_replication) AS copies,
(SELECT failed_count FROM pg_stat_archiver WHERE last_failed_time > coalesce(last_archived_time, '-infinity')) AS unarchived
"""


def database(patient: Patient) -> Iterator[Finding]:
    """Everything that can be seen of the server from here."""
    url = patient.settings.database
    try:
        link = postgres_link.connect(url, wait_s=ANSWER_WITHIN_S, session={})
    except (Unavailable, BadInput) as error:
        advice = f"Start it, or correct `database` in {patient.folder / 'hanbit.toml'}; psql with the same address says more"
        yield wrong("database_unreachable", "PostgreSQL", error.detail, advice)
        return
    with closing(link):
        (facts,) = link.execute(_FACTS).fetchall()
    version = int(facts["version"]) // 10_000
    if version < VERSION_LEAST:
        yield wrong("database_old", "PostgreSQL", f"{described(url)} runs {version}", f"Use {VERSION_LEAST} or newer")
    elif facts["fsync"] != "on" or facts["pages"] != "on":
        advice = "Turn both on: a crash would lose money"
        yield wrong("database_not_durable", "PostgreSQL", f"{described(url)} has fsync or full_page_writes off", advice)
    else:
        yield good("database", "PostgreSQL", f"{version}, {described(url)}")
    if not facts["here"] and not facts["secret"]:
        advice = "Add sslmode=verify-full to the address: who pays whom goes over the network"
        yield warning("database_plain", "PostgreSQL", "the connection is not encrypted", advice)
    yield from _copies(facts["archive"], int(facts["copies"]), int(facts["unarchived"] or 0))
    if not patient.settings.sandbox:
        yield from _clock(int(facts["clock"]) - patient.at)


def _copies(archive: str, copies: int, unarchived: int) -> Iterator[Finding]:
    if unarchived:
        advice = "Look at archive_command: without the log a base backup is only as new as itself"
        yield wrong("database_not_archived", "backup", f"the last {unarchived} tries to archive the log failed", advice)
    elif archive == "off" and not copies:
        advice = "Archive the log (archive_mode) and make base backups: docs/operating.md, PostgreSQL"
        yield warning("database_no_archive", "backup", "the log is not archived and no standby follows", advice)
    else:
        yield good("database_archive", "backup", f"log archived: {archive}; standbys: {copies}")


def _clock(ahead_s: int) -> Iterator[Finding]:
    found, advice = f"the database's is {ahead_s:+d} s from this machine's", "Let chrony set both: several gateways write into one book"
    if abs(ahead_s) > CLOCK_WRONG_S:
        yield wrong("database_clock", "clock", found, advice)
    elif abs(ahead_s) > CLOCK_WARNING_S:
        yield warning("database_clock", "clock", found, advice)
