"""Which engine the books of all in-process tests are on: SQLite, or PostgreSQL with HANBIT_TEST_ENGINE=postgresql.

Whoever makes a data folder takes `database()` for its setting, and whoever copies one, `copied(folder)`; on SQLite neither does anything.
"""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from hanbit.settings import FILE, load
from tests import cluster

VARIABLE = "HANBIT_TEST_ENGINE"
KEPT_MAX = 8
"""Databases that are kept of tests that have ended."""
_ended: deque[str] = deque()


def is_postgresql() -> bool:
    """Whether the run is on PostgreSQL."""
    name = os.environ.get(VARIABLE, "sqlite")
    assert name in {"sqlite", "postgresql"}, f"{VARIABLE}: sqlite or postgresql, not {name}"
    return name == "postgresql"


def database() -> str:
    """The setting `database` of a new data folder: empty, or the address of a new empty database that lasts as long as this process."""
    if not is_postgresql():
        return ""
    own = cluster.shared(cluster.binaries())
    return own.url(own.create())


@contextmanager
def copied(folder: Path) -> Iterator[None]:
    """Give a copied data folder a copy of its book too (a file was copied with it). Nobody has either open.

    The copy outlasts this by a while, as a file would: a test may open the folder once more.
    """
    address = load(folder).database
    if not address:
        yield
        return
    own, before = cluster.shared(cluster.binaries()), urlsplit(address).path.lstrip("/")
    name = own.create(template=before)
    path = folder / FILE
    path.write_text(path.read_text("utf-8").replace(f"/{before}?", f"/{name}?"), "utf-8")
    try:
        yield
    finally:
        _ended.append(name)
        while len(_ended) > KEPT_MAX:
            own.drop(_ended.popleft())
