"""One browser for the customer's home, and a site with one customer for each test: what he does there changes what the next would find."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.e2e.checkout.conftest import browser  # noqa: F401 - the same browser, asked for by its name
from tests.faces.site import Site, running_site


@pytest_asyncio.fixture(loop_scope="session")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A fresh operator, customer and shop on a real folder and port."""
    async with running_site(tmp_path) as running:
        yield running
