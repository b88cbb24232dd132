"""A book moves from its file into a PostgreSQL database whole, or not at all: the same rows, the same log, and payments go on."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from hanbit.db.sqlite import BOOK_FILE
from hanbit.folder import hold
from hanbit.settings import FILE, load
from hanbit.upkeep.migrate import Moved, migrate
from tests import engine
from tests.cluster import Cluster
from tests.unit.cli.world import installed, run, run_json, told
from tests.world import MERCHANTS, NOW, World, enrolled, open_world, opened

pytestmark = pytest.mark.skipif(engine.is_postgresql(), reason="begins with a file")


async def lived(folder: Path) -> Path:
    """A data folder with payments in every state; nobody has it open."""
    kept = folder / "lived"
    async with open_world(folder / "world") as world:
        assert (await (await world.visit()).pay()).state == "captured"
        assert (await (await world.visit(world.kim)).pay(method="code")).state == "captured"
        await (await world.visit()).cancel()
        world.line.links["shop"].up = False
        held = await world.visit()
        await held.pay()
        await world.prove()
        await world.close()
        shutil.copytree(world.folder, kept)
    return kept


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    return await lived(tmp_path)


def unchanged(data: Path) -> Callable[[], None]:
    """Called later: book and settings are what they were, and the book still opens."""
    before = {name: (data / name).read_bytes() for name in (BOOK_FILE, FILE)}

    def check() -> None:
        assert {name: (data / name).read_bytes() for name in (BOOK_FILE, FILE)} == before
        assert run("ledger", "check", "--data", data).exit_code == 0

    return check


async def goes_on(data: Path, tmp_path: Path) -> None:
    """The book in the database holds every promise, and the same customer pays again."""
    async with opened(data, enrolled(), {name: tmp_path / f"world/{name}.db" for name in MERCHANTS}, at=NOW + 60) as world:
        await world.prove()
        visit = await world.visit()
        assert (await visit.pay()).state == "captured"
        await world.tick(3600)
        await _states(world)


async def _states(world: World) -> None:
    states = sorted(row["state"] for row in world.rows("payments"))
    assert states.count("captured") >= 3
    assert "authorized" not in states


async def test_a_moved_book_is_the_same_and_payments_go_on(data: Path, database: str, tmp_path: Path) -> None:
    said: list[str] = []
    moved = migrate(data, database, said.append)
    assert isinstance(moved, Moved)
    assert any("copying payments" in line for line in said)
    assert load(data).database == database
    assert (data / FILE).stat().st_mode & 0o777 == 0o600
    assert not (data / BOOK_FILE).exists()
    with sqlite3.connect(f"file:{moved.kept}?mode=ro", uri=True) as old, psycopg.connect(database) as new:
        for table in moved.tables:
            sql = f"SELECT * FROM {table}"  # noqa: S608 - our own names
            assert sorted(map(repr, old.execute(sql))) == sorted(map(repr, new.execute(sql.encode())))
    old.close()
    result = run_json("evidence", "check", "--data", data)
    assert (result["whole"], result["root"]) == (True, moved.root)
    await goes_on(data, tmp_path)
    assert "in a database already" in told(run("migrate", "--data", data, "--database", database))[0]
    assert "pg_basebackup" in told(run("backup", "--data", data, "-o", tmp_path / "backup"))[0]


@pytest.mark.parametrize("point", ["before", "committed", "switched"])
@pytest.mark.processes
async def test_whoever_pulls_the_plug_leaves_the_file_in_force_or_the_database(
    point: str, data: Path, database: str, tmp_path: Path
) -> None:
    check = unchanged(data)
    command = ("migrate", "--data", data, "--database", database)
    died = installed(*command, env={**os.environ, "HANBIT_FAIL_AT": f"gateway.migrate.{point}"})
    assert died.returncode == -signal.SIGKILL, died.stderr
    if point != "switched":
        check()
        again = run(*command)
        assert again.exit_code == 0, again.output
    await goes_on(data, tmp_path)


def test_nothing_is_moved_onto_something_else(data: Path, database: str, cluster: Cluster) -> None:
    check = unchanged(data)
    with psycopg.connect(database) as owner:
        owner.execute("CREATE TABLE notes (x int)")
    assert "is not empty" in told(run("migrate", "--data", data, "--database", database))[0]
    check()
    with psycopg.connect(database) as owner:
        assert owner.execute("SELECT count(*) FROM pg_class WHERE relname = 'book'").fetchone() == (0,)
    other = cluster.create()
    try:
        assert run("init", data.parent / "other", "--operator", "other", "--database", cluster.url(other)).exit_code == 0
        assert "has another book" in told(run("migrate", "--data", data, "--database", cluster.url(other)))[0]
    finally:
        cluster.drop(other)
    check()


def test_nothing_is_moved_to_an_address_that_no_settings_may_name(data: Path, database: str) -> None:
    check = unchanged(data)
    for address in ("", make_conninfo(database, application_name="hanbit")):
        assert "postgresql://USER@HOST/DATABASE" in told(run("migrate", "--data", data, "--database", address))[0]
        check()
    with psycopg.connect(database) as owner:
        assert owner.execute("SELECT count(*) FROM pg_class WHERE relname = 'book'").fetchone() == (0,)


def test_a_book_that_is_served_or_broken_is_not_moved(data: Path, database: str) -> None:
    check = unchanged(data)
    with hold(data):
        assert "is held by process" in told(run("migrate", "--data", data, "--database", database))[0]
    check()
    with sqlite3.connect(data / BOOK_FILE) as forger:
        forger.execute("DROP TRIGGER what_moved_is_never_unsaid")
        forger.execute("UPDATE payments SET captured = 0 WHERE state = 'captured'")
    forger.close()
    assert "does not hold" in told(run("migrate", "--data", data, "--database", database))[0]
    assert load(data).database == ""
    with psycopg.connect(database) as owner:
        assert owner.execute("SELECT count(*) FROM pg_class WHERE relname = 'book'").fetchone() == (0,)
