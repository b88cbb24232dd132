"""A running payment server for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faces.site import Site, running_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A fresh operator, customer and shop on a real folder and port."""
    async with running_site(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quiet_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One server for all tests of a module that must change nothing."""
    async with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running
