"""The ledger's bench drives real Changes, expects what must be turned away, and has no figure where its audit finds something."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from hanbit.bench import cluster, ledger, ledger_audit
from hanbit.bench.ledger_deals import MERCHANTS, POOR, Deals, Dice, Draw
from hanbit.cli import main
from hanbit.db.change import Change
from hanbit.db.commit import Book
from hanbit.db.sqlite import BOOK_FILE, SqliteStore, create_book
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import Unavailable

NOW = 1_800_000_000


@pytest.mark.parametrize("options", [(), ("--with-evidence", "--merchants", "zipf"), ("--merchants", "hot", "--shape", "pairs")])
def test_a_short_run_is_audited_and_prints_one_object(options: tuple[str, ...], disk: Path) -> None:
    asked = ["bench", "ledger", "--seconds", "1", "--in-flight", "128", "--directory", str(disk), "--json", *options]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["audit"] == "passed"
    assert (report["in_flight"], report["store"], report["with_evidence"]) == (128, "sqlite", "--with-evidence" in options)
    assert report["pairs"] > 0
    assert report["pairs_per_s"] > 0
    assert report["p50_ms"] <= report["p99_ms"]
    assert (report["transfers_per_s"] is None) is ("--shape" in options)
    assert {"fdatasync_us", "commit_us", "plain_sqlite_pairs_per_s", "making_us", "p256_sign_us"} <= set(report["floors"])
    assert not list(disk.iterdir()), "nothing of the run is left"


async def opened(folder: Path, *, with_evidence: bool = True) -> tuple[Book, Deals]:
    """A book with everybody's accounts and ten captured payments."""
    create_book(folder / BOOK_FILE, "bench", NOW)
    book, deals = Book(lambda: SqliteStore(folder / BOOK_FILE), SystemClock()), Deals("hot", with_evidence, NOW)
    await ledger.open_accounts(book, deals)
    for _ in range(10):
        pair = deals.pair()
        await book.commit(pair.hold)
        await book.commit(pair.capture)
        deals.was_captured(pair)
    transfer = deals.transfer()
    await book.commit(transfer)
    deals.was_transferred(transfer)
    return book, deals


@pytest.mark.parametrize("with_evidence", [False, True])
async def test_every_promise_is_held_against_the_book(tmp_path: Path, *, with_evidence: bool) -> None:
    book, deals = await opened(tmp_path, with_evidence=with_evidence)
    await book.close()
    assert await ledger_audit.prove(tmp_path / BOOK_FILE, deals) == []


DOCTORED = {
    "a balance": ("UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE kind = 'merchant'", "ledger: balances"),
    "a leg": ("UPDATE postings SET posted = posted + 1 WHERE entry = 5 AND leg = 0", "ledger: entries_balance"),
    "a payment": ("UPDATE payments SET state = 'authorized' WHERE rowid = 1", "payments captured"),
    "a payment's text": ("UPDATE payments SET text = 'other' WHERE rowid = 1", "log: payments"),
    "a message": ("UPDATE messages SET payload = 'other' WHERE place = 0", "log: messages"),
}


@pytest.mark.parametrize("what", DOCTORED)
async def test_a_doctored_book_fails_the_audit(tmp_path: Path, what: str) -> None:
    book, deals = await opened(tmp_path)
    await book.close()
    statement, told = DOCTORED[what]
    with closing(sqlite3.connect(tmp_path / BOOK_FILE)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement)
        connection.commit()
    broken = await ledger_audit.prove(tmp_path / BOOK_FILE, deals)
    assert any(told in line for line in broken), broken


async def test_money_that_nobody_handed_in_fails_the_audit(tmp_path: Path) -> None:
    book, deals = await opened(tmp_path)
    await book.commit(deals.transfer())
    await book.close()
    broken = await ledger_audit.prove(tmp_path / BOOK_FILE, deals)
    assert len(broken) == 3, "two accounts and the number of transfers"


def test_a_run_whose_audit_fails_has_no_figure_and_fails(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    async def found(_path: Path, _deals: Deals) -> list[str]:
        return ["ledger: entries_balance"]

    monkeypatch.setattr(ledger_audit, "prove", found)
    asked = ["bench", "ledger", "--seconds", "1", "--in-flight", "1", "--directory", str(disk), "--json"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["audit"] == "failed"
    assert {report[name] for name in ledger.FIGURES} == {None}
    assert "entries_balance" in result.stderr


async def test_a_book_that_takes_a_payment_twice_ends_the_run(tmp_path: Path) -> None:
    book, deals = await opened(tmp_path)
    callers = ledger.Callers(book, deals, SystemClock())
    with pytest.raises(Unavailable, match="must turn away"):
        await callers._turned_away("duplicates", Unavailable, Change())
    await callers._pair(ledger._TWICE, ledger.Phase())
    await callers._pair(ledger._WITHOUT_MONEY, ledger.Phase())
    await callers._transfer(ledger._TWICE, ledger.Phase())
    await callers._transfer(ledger._WITHOUT_MONEY, ledger.Phase())
    assert callers.turned_away == {"duplicates": 2, "short_of_funds": 2}
    await book.close()
    assert deals.expected[POOR] == 0
    assert await ledger_audit.prove(tmp_path / BOOK_FILE, deals) == []


@pytest.mark.processes
def test_the_same_run_on_postgresql_beside_row_locks() -> None:
    try:
        cluster.binaries()
    except Unavailable:
        pytest.skip("there is no PostgreSQL here")
    asked = ["bench", "ledger", "--seconds", "1", "--in-flight", "32", "--store", "postgresql", "--yard-stick", "--with-evidence"]
    result = CliRunner().invoke(main, [*asked, "--json"])  # where whoever runs the server may go, unlike into a test's own folder
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["audit"], report["store"]) == ("passed", "postgresql")
    assert report["row_lock_pairs_per_s"] > 0
    assert set(report["cpu_us_per_pair"]) == {"book_and_callers", "database"}


def test_nothing_is_measured_in_a_database_that_is_not_empty(database: str) -> None:
    with psycopg.connect(database) as owner:
        owner.execute("CREATE TABLE somebodys (x int)")
    result = CliRunner().invoke(main, ["bench", "ledger", "--seconds", "1", "--yard-stick", "--database", database])
    assert result.exit_code == 1
    assert "is not empty" in result.stderr
    assert "measuring" not in result.stderr
    nobody = "postgresql://hanbit@127.0.0.1:1/nobody"
    result = CliRunner().invoke(main, ["bench", "ledger", "--seconds", "1", "--yard-stick", "--database", nobody])
    assert "Error: database nobody at 127.0.0.1 port 1: " in result.stderr


def test_merchants_are_drawn_as_asked_for() -> None:
    assert {Draw("hot", Dice()).next() for _ in range(20)} == {"shop-0"}
    assert len({draw.next() for draw in [Draw("uniform", Dice())] for _ in range(20_000)}) == MERCHANTS
    by_zipf = Counter(draw.next() for draw in [Draw("zipf", Dice())] for _ in range(20_000))
    assert 2_300 < by_zipf["shop-0"] < 3_050, "1 / H(1000) = 13.4 %"
    assert 1_100 < by_zipf["shop-1"] < 1_550
