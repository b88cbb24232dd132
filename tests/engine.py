"""Which engine the books of all in-process tests are on: SQLite, or PostgreSQL with HANBIT_TEST_ENGINE=postgresql.

Whoever makes a data folder takes `database()` for its setting, and whoever copies one, `copied(folder)` or `copy(prepared, folder)`; on
SQLite there is nothing to be done for that.
What a test does to a book behind its program's back (raw SQL, an older copy put back) is here in both engines' words.
"""

import os
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from hanbit.db import postgres_link, sqlite_file
from hanbit.db.rows import Connection
from hanbit.db.schema import metadata
from hanbit.db.sqlite import BOOK_FILE
from hanbit.folder import place_at
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
    own, before = cluster.shared(cluster.binaries()), _name(address)
    name = own.create(template=before)
    path = folder / FILE
    path.write_text(path.read_text("utf-8").replace(f"/{before}?", f"/{name}?"), "utf-8")
    try:
        yield
    finally:
        _ended.append(name)
        while len(_ended) > KEPT_MAX:
            own.drop(_ended.popleft())


@contextmanager
def copy(prepared: Path, folder: Path, data: str = "gateway") -> Iterator[Path]:
    """A copy of a prepared site, and of the book of the data folder in it; the copy's folder."""
    shutil.copytree(prepared, folder)
    with copied(folder / data):
        yield folder


@contextmanager
def owner(folder: Path, *, unguarded: bool = False, lasting: bool = True) -> Iterator[Connection]:
    """The connection of whoever owns a folder's book, for one transaction of raw SQL; `lasting`: which is committed at the end.

    `unguarded`: with every trigger taken away first.
    """
    place = place_at(folder)
    connection: Connection = (
        sqlite_file.open_for_writing(place) if isinstance(place, Path) else postgres_link.connect(place, wait_s=None, session={})
    )
    try:
        connection.execute("BEGIN")
        if isinstance(place, Path):
            connection.row_factory = sqlite_file.DRIVER.Row
        for (trigger,) in connection.execute(_TRIGGERS[isinstance(place, Path)]).fetchall() if unguarded else ():
            connection.execute(f"DROP TRIGGER {trigger}")
        yield connection
        connection.execute("COMMIT" if lasting else "ROLLBACK")
    finally:
        connection.close()


_TRIGGERS = {
    True: "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    False: "SELECT format('%I ON %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal",
}


def beside(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What of a folder's book is not below the folder: every row of its database, as PostgreSQL spells it; a file is there."""
    place = place_at(folder)
    if isinstance(place, str):
        with psycopg.connect(place) as connection, connection.cursor() as cursor:
            for table in metadata.tables:
                with cursor.copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as rows:
                    yield f"rows of {table}", b"".join(bytes(row) for row in rows)


def keep(folder: Path, copy: Path) -> None:
    """A copy of a folder's book, as a file, or as a database whose name is in the file. Nobody has the book open."""
    place = place_at(folder)
    if isinstance(place, Path):
        with sqlite_file.DRIVER.connect(place) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
        connection.close()
    else:
        copy.write_text(cluster.shared(cluster.binaries()).create(template=_name(place)), "ascii")


def put_back(folder: Path, copy: Path) -> None:
    """What `keep` has kept takes the place of the present book. Nobody has that open."""
    place = place_at(folder)
    if isinstance(place, Path):
        for path in folder.glob(f"{BOOK_FILE}*"):
            path.unlink()
        shutil.copy(copy, place)
    else:
        own = cluster.shared(cluster.binaries())
        own.drop(_name(place))
        own.create(template=copy.read_text("ascii"), name=_name(place))


def _name(address: str) -> str:
    return urlsplit(address).path.lstrip("/")
