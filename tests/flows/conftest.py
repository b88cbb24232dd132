"""One world a test, proved when the test has ended."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.world import World, open_world

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


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """All parties, freshly enrolled; at the end every promise about money and evidence is checked from the store."""
    async with open_world(tmp_path) as opened:
        yield opened
        await opened.prove()
