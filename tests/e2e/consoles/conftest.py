"""One browser for the consoles, and both consoles on real ports in this process: empty ones, and a stage full of payments."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.checkout.conftest import browser  # noqa: F401 - the same browser, asked for by its name
from tests.faces.consoles import Consoles, running_consoles
from tests.faces.stage import Stage, staged


@pytest.fixture(autouse=True)
def _axe_is_there(node: str) -> None:
    """axe-core comes with the packages of tests/node."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def consoles(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consoles]:
    """One operator with its shop, a second merchant, and both consoles."""
    async with running_consoles(tmp_path_factory.mktemp("consoles")) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Payments in every state, closed days, exceptions, and everybody who looks at them; every page says that it is a test."""
    async with staged(tmp_path_factory.mktemp("stage"), test_mode=True) as running:
        yield running
