"""One world a test, proved when the test has ended."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """All parties, freshly enrolled; at the end every promise about money and evidence is checked from the store."""
    async with open_world(tmp_path) as opened:
        yield opened
        await opened.prove()
