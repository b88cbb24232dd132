"""A data folder for the commands, and a server that holds one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.world import make_folder, serving


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder; tests copy it and leave it alone."""
    return make_folder(tmp_path_factory.mktemp("cli") / "data")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that a real `hanbit serve` holds; tests add parties to it."""
    with serving(make_folder(tmp_path_factory.mktemp("served") / "data")) as data:
        yield data
