"""A data folder for the commands, and a server that holds one."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.world import HANBIT, make_folder


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder; tests copy it and leave it alone."""
    return make_folder(tmp_path_factory.mktemp("cli") / "data")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that a real `hanbit serve` holds."""
    data = make_folder(tmp_path_factory.mktemp("served") / "data")
    with (data.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [HANBIT, "serve", "--data", data], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        for line in process.stderr:
            log.write(line)
            if b"serving http" in line:
                break
        assert process.poll() is None, (data.parent / "log").read_text("utf-8")
        try:
            yield data
        finally:
            process.terminate()
            process.communicate(timeout=20)
