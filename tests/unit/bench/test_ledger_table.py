"""The table of the ledger's bench: each row is a run that the command knows, and what it printed is told as it is."""

import pytest

from hanbit.bench import ledger_table
from hanbit.cli.bench import ledger

REPORT = {
    "pairs_per_s": 4321.6,
    "transfers_per_s": None,
    "p50_ms": 9.94,
    "p99_ms": 120.4,
    "cpu_us_per_pair": {"book_and_callers": 151.2, "database": 119.7},
    "floors": {"making_us": 17.4, "plain_sqlite_pairs_per_s": 40_123.4, "fdatasync_us": 201.6},
    "row_lock_pairs_per_s": 440.1,
    "row_lock_p50_ms": 100.0,
    "row_lock_p99_ms": 300.0,
}


def test_every_row_is_a_run_that_the_command_knows() -> None:
    made = list(ledger_table.rows(list(ledger_table.ENGINES)))
    assert len(made) == len({name for name, _ in made}) == 19
    for _, options in made:
        ledger.make_context("ledger", [*options, "--seconds", "5", "--json"])


@pytest.mark.parametrize(
    ("by_hand", "cells"),
    [
        (False, ["4,322", "–", "9.9 / 120", "151 (17) / 120", "40,123, 202"]),
        (True, ["440", "–", "100 / 300", "–", "40,123, 202"]),
    ],
)
def test_figures_are_told_as_they_are(by_hand: bool, cells: list[str]) -> None:
    assert ledger_table.cells(REPORT, by_hand=by_hand) == cells
