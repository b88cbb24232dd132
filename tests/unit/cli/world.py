"""A data folder made once, copies of it, and the command as a person types it."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from hanbit import folder
from hanbit.cli import main
from hanbit.demo.world import Ports
from hanbit.kernel.clock import SystemClock
from hanbit.settings import Settings

HANBIT = Path(sys.executable).with_name("hanbit")
PASSWORD = "correct horse battery"
CARD = "4000001234567899"


def make_folder(path: Path, **settings: Any) -> Path:
    """A fresh operator on free ports."""
    ports = Ports.free()
    given: dict[str, Any] = {
        "public_url": f"http://pay.localhost:{ports.pay}",
        "listen_port": ports.pay,
        "line_port": ports.line,
        "metrics_port": ports.metrics,
    }
    asyncio.run(folder.create(path, Settings(**(given | settings)), SystemClock(), root_key=None, root_passphrase=None))
    return path


@contextmanager
def serving(data: Path) -> Iterator[Path]:
    """A real `hanbit serve` on this folder; its log goes to a file, for a pipe that nobody empties would hold it up."""
    log = data.with_name("log")
    with log.open("wb") as file:
        process = subprocess.Popen([HANBIT, "serve", "--data", data], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file)
    try:
        for _ in range(600):
            if b"serving http" in log.read_bytes() or process.poll() is not None:
                break
            time.sleep(0.05)
        assert process.poll() is None, log.read_text("utf-8")
        yield data
    finally:
        process.terminate()
        process.wait(timeout=20)


def copy_of(original: Path, to: Path) -> Path:
    """The same folder once more, to be spoiled."""
    shutil.copytree(original, to)
    return to


def run(*arguments: str | Path, answers: str = "") -> Result:
    """The command in this process, standard output and error apart; `--…-fd 0` is a pipe that holds the answers."""
    reading, writing = os.pipe()
    try:
        os.write(writing, answers.encode("utf-8"))
        os.close(writing)
        given = [str(argument) for argument in arguments]
        for at, argument in enumerate(given[:-1]):
            if argument.endswith("-fd") and given[at + 1] == "0":
                given[at + 1] = str(reading)
        return CliRunner().invoke(main, given)
    finally:
        os.close(reading)


def run_json(*arguments: str | Path, answers: str = "") -> Any:
    """What the command prints with `--json`; anything beside the JSON makes this fail."""
    result = run(*arguments, "--json", answers=answers)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def installed(*arguments: str | Path, answers: bytes = b"", **more: Any) -> subprocess.CompletedProcess[bytes]:
    """The installed command as a process of its own; the answers come on standard input."""
    return subprocess.run([HANBIT, *arguments], input=answers, capture_output=True, check=False, timeout=30, **more)


def told(result: Result) -> list[str]:
    """The lines of an error: what is wrong, what to do; never more, never a traceback."""
    assert result.exit_code != 0, result.output
    assert result.stdout == "", result.stdout
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    assert 1 <= len(lines) <= 2, result.stderr
    return lines
