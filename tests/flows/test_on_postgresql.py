"""An operator on PostgreSQL, by the commands alone: init, serve, doctor, checks, upgrade; and what each says where something is wrong."""

import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from alembic import op

from hanbit.db import migrations, schema
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput
from hanbit.settings import FILE, Settings, dump, load
from hanbit.upkeep import doctor
from hanbit.upkeep.doctor.findings import Finding
from hanbit.upkeep.upgrade import upgrade
from tests import cluster as clusters
from tests.cluster import OWNER, PASSWORD, SUPERUSER, Cluster
from tests.unit.cli.world import make_folder, run, run_json, serving, told


def findings(data: Path) -> dict[str, Finding]:
    found = list(doctor.examine(data, SystemClock().now()))
    assert all(finding.advice for finding in found if finding.severity != "ok")
    return {finding.code: finding for finding in found}


@pytest.mark.processes
def test_a_bank_is_made_served_and_proved_in_a_database(tmp_path: Path, database: str) -> None:
    data = make_folder(tmp_path / "bank", database=database)
    assert load(data).database == database
    assert (data / FILE).stat().st_mode & 0o777 == 0o600
    assert not list(data.glob("book*"))
    with serving(data):
        hong = ("hong", "--name", "Hong", "--password-fd", "0")
        made = run_json("customer", "create", *hong, "--data", data, answers="a long password\n")
        assert made["customer"]
        assert run_json("customer", "list", "--data", data)["customers"][0]["login"] == "hong"
        assert run_json("ledger", "check", "--data", data)["balanced"]
        assert run_json("evidence", "check", "--data", data)["whole"]
        found = findings(data)
        assert found["database"].severity == "ok"
        assert found["book"].severity == "ok"
        assert {code for code, finding in found.items() if finding.severity == "wrong"} == set()
    assert run("ledger", "statement", "operator:cash:KRW", "--data", data).exit_code == 0
    assert "pg_basebackup" in told(run("backup", "--data", data, "-o", tmp_path / "b"))[0]
    again = run("upgrade", "--data", data)
    assert again.exit_code == 0, again.output
    assert again.stdout.endswith("There is nothing to do.\n")


def test_a_base_backup_and_the_log_bring_back_what_was_committed_behind_it(tmp_path: Path, cluster: Cluster) -> None:
    """By the lines of docs/operating.md, PostgreSQL, Backups."""
    whole_or_not = "test ! -f ../archive/%f && cp %p ../archive/%f.part && mv ../archive/%f.part ../archive/%f"  # it may be killed half way
    own = clusters.start(cluster.binaries, archive_mode="on", archive_command=whole_or_not)
    archive = own.folder / "archive"
    try:
        subprocess.run(["mkdir", str(archive)], check=True, **own.lent)
        data = make_folder(tmp_path / "bank", database=own.url(own.create()))
        base, old = own.folder / "base", own.folder / "data"
        own.sql("CREATE ROLE backup LOGIN REPLICATION")
        source = ["-h", str(own.folder), "-p", str(own.port), "-U", "backup"]
        for command in (["pg_basebackup", *source, "-D", str(base), "-X", "stream", "-c", "fast"], ["pg_verifybackup", str(base)]):
            done = subprocess.run([str(own.binaries / command[0]), *command[1:]], check=False, capture_output=True, text=True, **own.lent)
            assert done.returncode == 0, done.stderr
        later = ("later", "--name", "Later", "--password-fd", "0")
        assert run("customer", "create", *later, "--data", data, answers="a long password\n").exit_code == 0
        segment = own.sql("SELECT pg_walfile_name(pg_switch_wal())")
        comes_to((archive / segment).exists)
        own.crash()
        shutil.rmtree(old)
        base.rename(old)
        with (old / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
            settings.write("restore_command = 'cp ../archive/%f %p'\n")
        subprocess.run(["touch", str(old / "recovery.signal")], check=True, **own.lent)
        own.launch()
        comes_to(lambda: own.sql("SELECT pg_is_in_recovery()") == "f")
        assert run_json("customer", "list", "--data", data)["customers"][0]["login"] == "later"
        assert run_json("evidence", "check", "--data", data)["whole"]
        assert findings(data)["database"].severity == "ok"
        assert "database_no_archive" not in findings(data)
    finally:
        own.stop()


@pytest.mark.processes
def test_a_server_outlives_its_database(tmp_path: Path, cluster: Cluster) -> None:
    """While the database says nothing the server answers 503; when it speaks again, so does the server, and takes changes."""
    own = clusters.start(cluster.binaries)
    try:
        data = make_folder(tmp_path / "bank", database=own.url(own.create()))
        port, kim = load(data).listen_port, ("customer", "create", "kim", "--name", "Kim", "--password-fd", "0")
        with serving(data):
            assert status(port) == 200
            frozen = [own.process.pid, *map(int, own.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'hanbit'").split())]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            comes_to(lambda: status(port) == 503)
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
            comes_to(lambda: status(port) == 200)
            own.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hanbit'")
            comes_to(lambda: run(*kim, "--data", data, answers=WORDS).exit_code == 0)
            comes_to(lambda: status(port) == 200)
        assert run_json("evidence", "check", "--data", data)["whole"]
    finally:
        own.stop()


WORDS = "a long password\n"
PATIENCE_S = 90.0


def status(port: int) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status


def comes_to(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_mistyped_address_leaves_no_folder_behind(tmp_path: Path, database: str, cluster: Cluster) -> None:
    for address, words in (
        ("postgresql://hanbit@127.0.0.1:1/hanbit", "port 1"),
        (cluster.url("nobody_made_it"), "does not exist"),
        (cluster.url(database.split("///")[1].split("?", maxsplit=1)[0], tcp=True).replace("sample", "wrong"), "password"),
        ("mysql://hanbit@db/hanbit", "postgresql://USER@HOST/DATABASE"),
    ):
        result = run("init", tmp_path / "bank", "--database", address)
        assert result.exit_code == 1
        assert words in result.output, result.output
        assert PASSWORD not in result.output
        assert not (tmp_path / "bank").exists()
        assert "psql with the same address" in result.output or "hanbit init --help" in result.output
    made = run("init", tmp_path / "bank", "--database", database)
    assert made.exit_code == 0
    assert "The book: database book_" in made.output
    assert "has a book already" in told(run("init", tmp_path / "other", "--database", database))[0]
    assert not (tmp_path / "other").exists()


def test_a_database_in_which_the_role_may_make_nothing_leaves_no_folder_behind(tmp_path: Path, cluster: Cluster) -> None:
    name, address = cluster.create(), str(tmp_path / "bank")
    cluster.sql(f"ALTER DATABASE {name} OWNER TO {SUPERUSER}")
    refused = told(run("init", address, "--database", cluster.url(name)))[0]
    assert f"ALTER DATABASE {name} OWNER TO {OWNER}" in refused
    assert not Path(address).exists()
    cluster.sql("GRANT CREATE ON SCHEMA public TO hanbit", name)  # tables, but no schema in which they could be held against today's
    assert f"ALTER DATABASE {name} OWNER TO {OWNER}" in told(run("init", address, "--database", cluster.url(name)))[0]
    cluster.sql("DROP SCHEMA public", name)
    assert "CREATE SCHEMA public" in told(run("init", address, "--database", cluster.url(name)))[0]
    assert not Path(address).exists()
    cluster.sql(f"ALTER DATABASE {name} OWNER TO {OWNER}")
    cluster.sql("CREATE SCHEMA public AUTHORIZATION pg_database_owner", name)
    assert run("init", address, "--database", cluster.url(name)).exit_code == 0
    cluster.drop(name)


def test_a_folder_whose_database_is_somebody_elses_is_not_served(tmp_path: Path, database: str, cluster: Cluster) -> None:
    data = make_folder(tmp_path / "bank", operator="first", database=database)
    name = cluster.create()
    other = make_folder(tmp_path / "other", operator="second", database=cluster.url(name))
    shutil.copy(data / FILE, other / FILE)
    path = other / FILE
    path.write_text(path.read_text("utf-8").replace('operator = "first"', 'operator = "second"'), "utf-8")
    assert "is the book of first" in told(run("customer", "list", "--data", other))[0]
    assert findings(other)["book_operator"].severity == "wrong"
    cluster.drop(name)


def test_the_doctor_says_what_is_wrong_with_the_database(tmp_path: Path, database: str) -> None:
    data = make_folder(tmp_path / "bank", database=database)
    found = findings(data)
    assert found["database_no_archive"].severity == "warning"
    (data / "book.sqlite").write_bytes(b"")
    (data / "book.sqlite").chmod(0o600)
    assert findings(data)["book_left_over"].severity == "warning"
    (data / "book.sqlite").unlink()
    for version, code in ((99, "book_newer"), (1, "book_old")):
        with psycopg.connect(database) as owner:
            owner.execute("UPDATE book SET schema_version = %s", (version,))
        assert findings(data)[code].severity == "wrong"
    path = data / FILE
    path.write_text(path.read_text("utf-8").replace(database, "postgresql://hanbit@127.0.0.1:1/hanbit"), "utf-8")
    found = findings(data)
    assert found["database_unreachable"].severity == "wrong"
    assert found["book_unreadable"].severity == "wrong"


def test_an_older_book_in_a_database_is_migrated_in_one_transaction(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_folder(tmp_path / "bank", database=database)
    assert upgrade(data, tmp_path / "unused", SystemClock()).backup is None
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 4)
    broken = [True]

    def third() -> None:
        op.execute("ALTER TABLE audit ADD COLUMN more text")

    def fourth() -> None:
        if broken[0]:
            raise BadInput("a revision that fails")
        op.execute("UPDATE book SET schema_version = 4")

    scripts = [SimpleNamespace(revision=name, module=SimpleNamespace(upgrade=act)) for name, act in (("0003", third), ("0004", fourth))]
    monkeypatch.setattr(migrations, "_revisions", lambda: scripts)
    with pytest.raises(BadInput, match="fails"):
        upgrade(data, tmp_path / "unused", SystemClock())
    with psycopg.connect(database) as owner:
        assert owner.execute("SELECT count(*) FROM information_schema.columns WHERE column_name = 'more'").fetchone() == (0,)
        assert owner.execute("SELECT schema_version FROM book").fetchone() == (2,)
    broken[0] = False
    done = upgrade(data, tmp_path / "unused", SystemClock())
    assert (done.before, done.after) == (2, 4)
    with psycopg.connect(database) as owner:
        assert owner.execute("SELECT schema_version FROM book").fetchone() == (4,)


def test_an_address_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    settings = Settings(database=f"postgresql://{OWNER}:p%22w\\x'@db1:5432,db2/hanbit?sslmode=verify-full")
    (tmp_path / FILE).write_text(dump(settings), "utf-8")
    assert load(tmp_path) == settings
