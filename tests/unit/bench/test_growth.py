"""The growth of a book is measured in turns with an empty one, at each size, and the full one is proved."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hanbit.bench import cluster, ledger_audit
from hanbit.bench.growth import GrowthPlan
from hanbit.bench.ledger_deals import Deals
from hanbit.cli import main
from hanbit.kernel.errors import Unavailable

SHORT = ("bench", "growth", "--payments", "100", "--seconds", "1", "--rounds", "1", "--in-flight", "16")


def test_the_sizes_are_shares_of_what_was_asked_for() -> None:
    assert GrowthPlan(2_000_000, 3, 6, 512).sizes == [100_000, 500_000, 1_000_000, 2_000_000]
    assert GrowthPlan(20, 3, 6, 512).sizes == [1, 5, 10, 20]


def test_a_short_run_measures_a_growing_book_beside_empty_ones(disk: Path) -> None:
    result = CliRunner().invoke(main, [*SHORT, "--ledger-only", "--directory", str(disk), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["audit"], report["with_evidence"], report["store"]) == ("passed", False, "sqlite")
    assert 1 <= len(report["sizes"]) <= 4, "what is measured is in the book too, and may jump over a size"
    assert report["sizes"][-1]["payments"] >= 100
    for size in report["sizes"]:
        assert size["grown"]["pairs_per_s"] > 0
        assert size["empty"]["cpu_us_book_and_callers"] > 0
        assert min(size["rate_kept"], size["cpu_kept"], size["book_mb"], size["rss_mb"]) > 0
    assert "payments: " in result.stderr
    assert "{" not in result.stderr
    assert not list(disk.iterdir()), "nothing of the run is left"


def test_a_full_book_that_fails_its_audit_has_no_figure(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    async def found(_path: Path, _deals: Deals) -> list[str]:
        return ["ledger: entries_balance"]

    monkeypatch.setattr(ledger_audit, "prove", found)
    result = CliRunner().invoke(main, [*SHORT, "--directory", str(disk), "--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["audit"], report["sizes"]) == ("failed", None)


@pytest.mark.processes
def test_a_book_on_postgresql_grows_too() -> None:
    try:
        cluster.binaries()
    except Unavailable:
        pytest.skip("there is no PostgreSQL here")
    result = CliRunner().invoke(main, [*SHORT, "--store", "postgresql"])
    assert result.exit_code == 0, result.output
    assert "cpu_us_database" in result.stdout
