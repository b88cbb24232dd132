"""A run that is told to end before its time says so, and takes with it whatever it has started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hanbit.bench import cluster
from hanbit.bench.processes import children
from hanbit.kernel.errors import Unavailable

STOPPED = "Stopped before its end: this run has no figure.\n"


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_that_is_told_to_end_leaves_nothing_behind(number: signal.Signals, disk: Path) -> None:
    command = [sys.executable, "-m", "hanbit", "bench", "ledger", "--seconds", "3600", "--in-flight", "4", "--directory", str(disk)]
    with at_a_terminal(command) as run:
        assert run.stderr is not None
        assert any("pairs:" in line for line in run.stderr), "it says when it has begun"
        os.killpg(run.pid, number)
        assert run.stderr.read() == STOPPED
    assert run.returncode == 128 + number
    assert not list(disk.iterdir())


@pytest.mark.processes
def test_a_run_whose_parties_are_up_takes_them_all_with_it(disk: Path) -> None:
    try:
        cluster.binaries()
    except Unavailable:
        pytest.skip("there is no PostgreSQL here")
    disk.chmod(0o711)  # whoever PostgreSQL runs as for root goes through it
    options = ["--seconds", "3600", "--concurrency", "1", "--store", "postgresql", "--workers", "2", "--directory", str(disk)]
    command = [sys.executable, "-m", "hanbit", "bench", "memory", *options]
    with at_a_terminal(command) as run:
        assert run.stderr is not None
        assert any("checkouts" in line for line in run.stderr), "it says when it has begun"
        family = descendants(run.pid)
        assert len(family) > 5, "a database, a parent and two workers, a shop and its customers"
        os.killpg(run.pid, signal.SIGHUP)  # as where a terminal is closed
        assert run.stderr.read() == STOPPED
    assert run.returncode == 128 + signal.SIGHUP
    assert not list(disk.iterdir())
    assert not [process for process in family if Path(f"/proc/{process}").exists()]


def descendants(parent: int) -> list[int]:
    """Everybody below a process."""
    return [one for child in children(parent) for one in (child, *descendants(child))]


def at_a_terminal(command: list[str]) -> "subprocess.Popen[str]":
    """In a session of its own, where everybody hears of Ctrl-C, also where the tests run as a job behind `&`, which ignores it."""
    quiet, hearing = subprocess.DEVNULL, ["env", "--default-signal=INT,TERM,HUP"]
    return subprocess.Popen([*hearing, *command], stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, text=True, start_new_session=True)
