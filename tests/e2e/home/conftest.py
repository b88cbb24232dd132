"""One browser for the customer's home; a site that many journeys share, each with a customer of its own, and one for a test alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.checkout.conftest import browser  # noqa: F401 - the same browser, asked for by its name
from tests.e2e.home.guests import Place
from tests.faces.site import Site, client, running_site
from tests.mailbox import mailbox


@pytest_asyncio.fixture(loop_scope="session")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A fresh operator, customer and shop on a real folder and port."""
    async with running_site(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """An operator that writes letters, and whose pages say that this is a test."""
    folder = tmp_path_factory.mktemp("home")
    with mailbox(folder / "mail") as box:
        async with running_site(folder, test_mode=True, **box.settings()) as running, client() as http:
            yield Place(running, box, http)
