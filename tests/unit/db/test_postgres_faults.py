"""What goes wrong between a process and its database: lost answers, stopped and vanished peers, texts that PostgreSQL cannot hold."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from hanbit.db import place as places
from hanbit.db import postgres, postgres_link, postgres_reading
from hanbit.db.change import Change, Delete, Put, Value
from hanbit.db.postgres import PostgresStore, texts, wholes
from hanbit.db.postgres_link import address, connect, described, dollars
from hanbit.db.reading import Reader
from hanbit.kernel.errors import BadInput, Conflict, Unavailable
from tests import cluster as clusters
from tests.cluster import OWNER, Cluster
from tests.unit.db.books import HONG, NOW, Desk, capture, hold, note, notes, open_book, prove, rows, write
from tests.wire import Wire

PATIENCE_S = 60.0


@pytest.fixture
def desk(database: str) -> Iterator[Desk]:
    made = open_book(database)
    yield made
    made.close()


def waits_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def wire(cluster: Cluster) -> Iterator[Wire]:
    made = Wire(cluster)
    yield made
    made.close()


def test_a_commit_whose_answer_is_lost_is_looked_up_and_not_run_again(desk: Desk, wire: Wire) -> None:
    with closing(PostgresStore(wire.to(str(desk.place)))) as store:
        other = Desk(desk.place, store)
        assert write(other, Change(entries=(hold("p0", HONG, 1),))) == [""]  # COMMIT is prepared, and known by its name from here on
        wire.lose_answer_to = b"commit_"
        answers = write(other, Change(entries=(hold("p1", HONG, 100),), appends=(note("one"),)), Change(entries=(hold("p2", HONG, 9999),)))
        assert wire.lost == 1
        assert answers == ["", "no_funds"], "it is there, and whoever was turned away still is"
        assert notes(desk) == {"one"}
        assert rows(desk, "SELECT count(*) FROM entries WHERE id = 'hold:p1:1'") == [(1,)]
        assert write(other, Change(entries=(capture("p1", HONG, 100),))) == [""]
    prove(desk)


@pytest.mark.parametrize("kind", ["put", "delete"])
def test_a_lost_commit_of_rows_that_no_log_covers_is_looked_up_too(desk: Desk, wire: Wire, kind: str) -> None:
    row: dict[str, Value] = {"factor": "f", "failures": 1, "wait_until": NOW}
    with closing(PostgresStore(wire.to(str(desk.place)))) as store:
        other = Desk(desk.place, store)
        assert write(other, Change(puts=(Put("throttles", row, 0),))) == [""]
        wire.lose_answer_to = b"commit_"
        change = (
            Change(puts=(Put("throttles", row | {"failures": 2}, 1),))
            if kind == "put"
            else Change(deletes=(Delete("throttles", ("f",), 1),))
        )
        assert write(other, change) == [""]
        assert wire.lost == 1
    assert rows(desk, "SELECT failures, version FROM throttles") == ([(2, 2)] if kind == "put" else [])


def test_what_was_not_committed_when_the_connection_broke_is_said_not_to_be_there(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    def cut(_name: str) -> None:
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hanbit' AND state LIKE 'idle in%'")

    with monkeypatch.context() as cutting:
        cutting.setattr("hanbit.kernel.fail_points.reach", cut)
        assert write(desk, Change(entries=(hold("p1", HONG, 100),), appends=(note("one"),))) == ["unavailable"]
    assert notes(desk) == set()
    assert write(desk, Change(entries=(hold("p1", HONG, 100),), appends=(note("one"),))) == [""]
    prove(desk)


def test_a_database_that_was_restarted_between_two_batches_costs_nobody_an_error(desk: Desk, cluster: Cluster) -> None:
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hanbit'")
    assert write(desk, Change(entries=(hold("p1", HONG, 100),))) == [""]
    prove(desk)


def test_a_process_that_stops_while_it_holds_the_book_loses_it(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres.SESSION, "idle_in_transaction_session_timeout", "500")
    desk = open_book(database)
    stopped = connect(database, wait_s=None, session=postgres.SESSION)
    try:
        stopped.execute("BEGIN")
        stopped.execute("SELECT 1 FROM book WHERE id = 1 FOR UPDATE")
        assert write(desk, Change(entries=(hold("p1", HONG, 100),))) == [""], "after half a second the book was free"
        with pytest.raises(postgres_link.Lost):
            stopped.execute("COMMIT")
    finally:
        stopped.close()
        desk.close()


def test_whoever_waits_too_long_for_the_book_is_told_and_tries_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres.SESSION, "lock_timeout", "200")
    desk = open_book(database)
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM book FOR UPDATE")
        assert write(desk, Change(entries=(hold("p1", HONG, 100),))) == ["unavailable"]
        other.rollback()
    assert write(desk, Change(entries=(hold("p1", HONG, 100),))) == [""]
    desk.close()


def test_two_processes_on_one_book_take_turns_and_miss_nothing(desk: Desk) -> None:
    async def race() -> list[str]:
        stores = [PostgresStore(str(desk.place)) for _ in range(3)]
        found: list[str] = []

        async def spend(store: PostgresStore, who: int) -> None:
            for at in range(20):
                (answer,) = await store.write([Change(entries=(hold(f"p{who}-{at}", HONG, 30),))], NOW)
                found.append("" if answer is None else getattr(answer, "reason", answer.code))

        await asyncio.gather(*(spend(store, who) for who, store in enumerate(stores)))
        for store in stores:
            store.close()
        return found

    answers = asyncio.run(race())
    assert sorted(answers) == [""] * 33 + ["no_funds"] * 27
    prove(desk)


def test_texts_that_postgresql_cannot_hold_turn_away_their_own_change_only(desk: Desk) -> None:
    answers = write(desk, Change(appends=(note("good"),)), Change(appends=(note("b\0d"),)))
    assert answers == ["", "conflict"]
    assert notes(desk) == {"good"}
    quoted = 'a "quoted" \\ text, {with} NULL'
    assert write(desk, Change(appends=(note(quoted), note("NULL"), note("")))) == [""]
    assert notes(desk) == {"good", quoted, "NULL", ""}
    with closing(Reader(desk.place)) as reader:
        assert [row["id"] for row in reader.all("SELECT id FROM audit WHERE id = ?", quoted)] == [quoted]
        with pytest.raises(BadInput):
            reader.one("SELECT id FROM audit WHERE id = ?", "good\0x")
        with pytest.raises(BadInput):
            reader.one("SELECT id FROM entries WHERE number = ?", 1 << 70)


# --- reads ----------------------------------------------------------------------------------------------------------------------------


@contextmanager
def own_cluster(postgresql: Cluster, **options: str) -> Iterator[Cluster]:
    made = clusters.start(postgresql.binaries, **options)
    try:
        yield made
    finally:
        made.stop()


def test_a_database_that_falls_silent_costs_the_loop_one_wait_and_then_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_reading, "READ_WAIT_S", 0.5)
    with own_cluster(cluster) as own:
        url = own.url(own.create())
        places.create(url, "bank", NOW)
        with closing(Reader(url)) as reader:
            assert _reads(reader)
            backends = own.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'hanbit'").split()
            for pid in (own.process.pid, *map(int, backends)):
                os.kill(pid, signal.SIGSTOP)
            with pytest.raises(Unavailable):
                reader.one("SELECT operator FROM book")
            for _ in range(1000):
                with pytest.raises(Unavailable):
                    reader.one("SELECT operator FROM book")
            for pid in (own.process.pid, *map(int, backends)):
                os.kill(pid, signal.SIGCONT)
            waits_for(lambda: _reads(reader))


def _reads(reader: Reader) -> bool:
    try:
        return reader.one("SELECT operator FROM book") is not None
    except Unavailable:
        return False


async def test_a_reader_comes_back_after_its_database_and_so_does_a_long_read(desk: Desk, cluster: Cluster) -> None:
    with closing(Reader(desk.place)) as reader:
        assert len(await reader.scan("SELECT * FROM ledger_accounts")) == 6
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hanbit'")
        with pytest.raises(Unavailable):
            await reader.scan("SELECT * FROM ledger_accounts")
        with pytest.raises(Unavailable):
            reader.one("SELECT operator FROM book")
        waits_for(lambda: _reads(reader))
        assert len(await reader.scan("SELECT * FROM ledger_accounts")) == 6


def test_a_snapshot_holds_the_book_still_and_streams_lie_side_by_side(desk: Desk) -> None:
    with closing(Reader(desk.place)) as reader:
        with reader.snapshot() as connection:
            before = connection.execute("SELECT count(*) FROM audit").fetchone()[0]
            assert write(desk, Change(appends=tuple(note(f"n{at:05}") for at in range(4_500)))) == [""]
            assert connection.execute("SELECT count(*) FROM audit").fetchone()[0] == before
        one = connection.stream("SELECT id FROM audit ORDER BY id")
        other = connection.stream("SELECT id FROM audit ORDER BY id DESC")
        both = list(zip(one, other, strict=True))
        assert len(both) == 4_500
        assert both[0] == (("n00000",), ("n04499",))
        (row,) = reader.all("SELECT id, at, tid FROM audit WHERE id = ?", "n00007")
        assert dict(row) == {"id": "n00007", "at": NOW, "tid": None}
        assert (row[0], row["at"], *row[1:]) == ("n00007", NOW, NOW, None)


# --- what an operator gets wrong ------------------------------------------------------------------------------------------------------


def test_each_database_in_which_there_can_be_no_book_is_refused_in_its_own_words(database: str, cluster: Cluster) -> None:
    with pytest.raises(BadInput, match="no book"):
        places.open_store(database)
    with pytest.raises(BadInput, match="no book"):
        Reader(database)
    places.create(database, "bank", NOW)
    with pytest.raises(Conflict, match="has a book already"):
        places.create(database, "bank", NOW)
    with psycopg.connect(database) as owner:
        owner.execute("UPDATE book SET schema_version = 99")
    for opened in (places.open_store, Reader):
        with pytest.raises(BadInput, match="newer than this program"):
            opened(database)
    with psycopg.connect(database) as owner:
        owner.execute("UPDATE book SET schema_version = 1")
    with pytest.raises(BadInput, match="hanbit upgrade"):
        places.open_store(database)
    name = cluster.create()
    cluster.sql(f"DROP DATABASE {name}")
    cluster.sql(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(BadInput, match="LATIN1"):
        places.create(cluster.url(name), "bank", NOW)
    cluster.drop(name)
    with pytest.raises(Unavailable, match="does not exist"):
        places.create(cluster.url("nobody_made_it"), "bank", NOW)
    with pytest.raises(Unavailable, match=r"at 127\.0\.0\.1 port 1"):
        places.create("postgresql://hanbit@127.0.0.1:1/hanbit", "bank", NOW)
    with pytest.raises(BadInput):
        places.create("postgresql://hanbit@host/hanbit?no_such_option=1", "bank", NOW)


def test_a_server_that_is_too_old_is_refused_with_the_version_that_is_needed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "VERSION_LEAST", 99)
    with pytest.raises(BadInput, match=r"runs PostgreSQL \d\d; Hanbit needs 99 or newer"):
        places.create(database, "bank", NOW)
    with psycopg.connect(database) as owner:
        assert owner.execute("SELECT count(*) FROM pg_class WHERE relname = 'book'").fetchone() == (0,)


def test_a_database_that_cannot_be_written_to_or_may_lose_money_is_refused(cluster: Cluster) -> None:
    with own_cluster(cluster, fsync="off") as own:
        url = own.url(own.create())
        with pytest.raises(BadInput, match="fsync"):
            places.create(url, "bank", NOW)
        own.sql(f"ALTER ROLE {OWNER} SET default_transaction_read_only = on")
        with pytest.raises(Unavailable, match="read-only"):
            places.create(url, "bank", NOW)


def test_commits_are_durable_whatever_the_servers_default_is(desk: Desk, cluster: Cluster) -> None:
    cluster.sql(f"ALTER ROLE {OWNER} SET synchronous_commit = off")
    try:
        with closing(PostgresStore(str(desk.place))) as store:
            assert store._link is not None
            assert store._link.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        cluster.sql(f"ALTER ROLE {OWNER} RESET synchronous_commit")


def test_no_password_is_shown_and_the_primary_is_asked_for() -> None:
    url = "postgresql://hanbit:s3cret@db1:5432,db2:5433/hanbit?target_session_attrs=any&connect_timeout=9"
    assert described(url) == "database hanbit at db1,db2 port 5432,5433"
    assert "target_session_attrs=read-write" in address(url)
    assert "connect_timeout=9" in address(url)
    with pytest.raises(BadInput) as refused:
        address("postgresql://hanbit:s3cret@[db1")
    assert "s3cret" not in str(refused.value)


def test_values_are_marked_and_quoted_question_marks_are_not() -> None:
    assert dollars("SELECT '?', 'it''s ?' FROM t WHERE a = ? AND b = ?") == "SELECT '?', 'it''s ?' FROM t WHERE a = $1 AND b = $2"


@pytest.mark.parametrize(
    "values",
    [
        ["plain", "other"],
        ["", ""],
        [""],
        [],
        [None],
        ["NULL", None, "null"],
        ['a "quoted"', "back\\slash", "{braces}", "com,ma", " space "],
        ["\x1f", "a\x1fb", "c"],
        ["\x1f", ""],
        ["한빛", "line\nend", "tab\t", '\\"', "\\"],
    ],
)
def test_an_array_says_what_was_put_into_it(database: str, values: list[str | None]) -> None:
    with psycopg.connect(database) as owner:
        assert owner.execute("SELECT %s::text[]", (texts(values).decode(),)).fetchone() == (values,)
        wanted = [None if value is None else at for at, value in enumerate(values)]
        assert owner.execute("SELECT %s::bigint[]", (wholes(wanted).decode(),)).fetchone() == (wanted,)
