"""What every test may ask for: all parties in one world, the programs of others, vectors; and how long hypothesis searches."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
import structlog
from hypothesis import HealthCheck, settings

from hanbit.cli.bench import ON_DISK
from hanbit.db.place import Place
from hanbit.db.sqlite import BOOK_FILE
from tests import cluster as clusters
from tests import engine, memory
from tests.cluster import Cluster
from tests.world import World, open_world

# A shared two-core machine has slow moments, so no example has a deadline; the suite as a whole is what must stay quick.
settings.register_profile("usual", deadline=None, max_examples=60, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("usual"), max_examples=2_000)
settings.load_profile("usual")

# pytest's own word for where tmp_path lies; a --basetemp on the command line goes before it.
if (_in_memory := memory.roomy()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_in_memory))


def pytest_sessionstart() -> None:
    """A run on PostgreSQL has nothing to do where there is none."""
    if engine.is_postgresql():
        try:
            clusters.binaries()
        except LookupError as error:
            missing = bool(os.environ.get("HANBIT_REQUIRE_PROGRAMS"))
            pytest.exit(f"{error} is missing; `make test` installs it where it may", returncode=int(missing))


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """No test finds another's payment in its log lines, and none leaves a process that logs otherwise."""
    structlog.contextvars.clear_contextvars()
    before = structlog.get_config()
    yield
    assert structlog.get_config() == before


def _absent(what: str) -> NoReturn:
    """Skip, or fail where the machine promises to have everything."""
    if os.environ.get("HANBIT_REQUIRE_PROGRAMS"):
        pytest.fail(f"{what} is missing and HANBIT_REQUIRE_PROGRAMS is set")
    pytest.skip(f"{what} is missing; `make test` installs it where it may")


def _program(name: str) -> str:
    path = shutil.which(name)
    return path if path is not None else _absent(name)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the distribution's Chromium (Playwright would fetch a build of its own)."""
    return _program("chromium")


@pytest.fixture(scope="session")
def openssl() -> str:
    """Path of the openssl command."""
    return _program("openssl")


@pytest.fixture(scope="session")
def hledger() -> str:
    """Path of the hledger command."""
    return _program("hledger")


@pytest.fixture(scope="session")
def nginx() -> str:
    """Path of nginx, which Debian keeps where only root looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or _absent("nginx")


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """Path of systemd-analyze."""
    return _program("systemd-analyze")


@pytest.fixture(scope="session")
def node() -> str:
    """Path of Node, with panva's `jose` and axe-core installed in tests/node."""
    if not (Path(__file__).parent / "node/node_modules/jose/package.json").is_file():
        _absent("tests/node/node_modules")
    return _program("node")


@pytest.fixture(scope="session")
def postgresql_bin() -> Path:
    """Folder of initdb and postgres of the newest PostgreSQL that is installed."""
    try:
        return clusters.binaries()
    except LookupError as error:
        _absent(str(error))


@pytest.fixture(scope="session")
def cluster(postgresql_bin: Path) -> Cluster:
    """A PostgreSQL server of the tests' own; the same one for every test of this process."""
    try:
        return clusters.shared(postgresql_bin)
    except LookupError as error:
        _absent(str(error))


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The address of an empty database, gone after the test."""
    name = cluster.create()
    yield cluster.url(name)
    cluster.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a test makes a book: once a file, once a database."""
    if request.param == "sqlite":
        return tmp_path / BOOK_FILE
    address: str = request.getfixturevalue("database")
    return address


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder outside memory: for a bench, which takes nothing there for durable, and a systemd, which mounts another /dev/shm."""
    with TemporaryDirectory(dir=ON_DISK, prefix="hanbit-tests-") as made:
        yield Path(made)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """All parties, freshly enrolled; at the end every promise about money and evidence is checked from the store."""
    async with open_world(tmp_path) as opened:
        yield opened
        await opened.prove()


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Folder of Project Wycheproof's vectors, which HANBIT_VECTORS names; they are no part of the project."""
    folder = os.environ.get("HANBIT_VECTORS", "")
    if not folder:
        pytest.skip("HANBIT_VECTORS names no folder of Wycheproof vectors")
    path = Path(folder)
    assert path.is_dir(), f"HANBIT_VECTORS: {folder} is no folder"
    return path
