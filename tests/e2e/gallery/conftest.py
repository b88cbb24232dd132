"""One Chromium and one populated site for all pages."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.checkout.conftest import browser  # noqa: F401 - the same browser, asked for by its name
from tests.faces.stage import Stage, staged


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Payments in every state, and everybody who looks at them."""
    async with staged(tmp_path_factory.mktemp("gallery")) as running:
        yield running
