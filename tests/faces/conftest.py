"""A running payment server for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faces.site import Site, running_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A fresh operator, customer and shop on a real folder and port."""
    async with running_site(tmp_path) as running:
        yield running
