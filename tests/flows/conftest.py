"""The folders that real processes start from, and which files start any."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanbit.demo.world import Ports
from hanbit.kernel.clock import SystemClock
from tests import engine
from tests.flows.crash_world import make_folder

PROCESSES = {
    "test_agent",
    "test_agent_openapi",
    "test_backup",
    "test_checkpoint_processes",
    "test_crash_cancel",
    "test_crash_disk",
    "test_crash_points",
    "test_crash_processes",
    "test_demo",
    "test_deploy",
    "test_example_shops",
    "test_guide",
    "test_line_namespaces",
    "test_line_processes",
    "test_machine",
    "test_own_tls",
    "test_probe_processes",
    "test_sandbox",
    "test_slow_peers",
    "test_stop",
    "test_workers",
    "test_workers_failover",
    "test_workers_together",
}
"""Files whose tests start and kill real processes, or try hundreds of ways to stop: `make check` leaves them to `make test`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them by file."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.stem in PROCESSES:
            item.add_marker("processes")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ports]:
    """A folder that everybody starts from, for ports of its own."""
    folder, ports = tmp_path_factory.mktemp("prepared"), Ports.free()
    asyncio.run(make_folder(folder, SystemClock(), ports))
    return folder, ports


@pytest.fixture
def place(prepared: tuple[Path, Ports], tmp_path: Path) -> Iterator[tuple[Path, Ports]]:
    """A copy of it for one test."""
    with engine.copy(prepared[0], tmp_path / "site") as folder:
        yield folder, prepared[1]
