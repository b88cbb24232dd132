"""Where a book lies: a SQLite file (a Path), or a PostgreSQL database (its address, a str); the engine is picked here."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hanbit.db import sqlite, sqlite_file
from hanbit.db.commit import Store
from hanbit.kernel.errors import BadInput, Conflict

Place = Path | str


def open_store(place: Place) -> Store:
    """The book's writer; BadInput where there is no book of this program, Unavailable where it cannot be reached."""
    if isinstance(place, Path):
        try:
            return sqlite.SqliteStore(place)
        except sqlite_file.DatabaseError as error:
            raise BadInput(f"{place} cannot be read as a book: {error}") from error
    from hanbit.db.postgres import PostgresStore  # noqa: PLC0415 - an extra

    return PostgresStore(place)


def open_for_reading(place: Place, *, patient: bool = False) -> Any:
    """A connection that cannot write, spoken to as SQLite's is; `patient` for checks and long reads, else for point reads in a loop."""
    if isinstance(place, Path):
        return sqlite_file.open_for_reading(place)
    from hanbit.db.postgres_reading import Circuit, PatientConnection  # noqa: PLC0415 - an extra

    return PatientConnection(place) if patient else Circuit(place)


def check_empty(place: Place) -> None:
    """Conflict where there is a book, or anything else in the database; Unavailable and BadInput say why none can be made there."""
    if isinstance(place, Path):
        if place.exists():
            raise Conflict(f"{place} exists")
        return
    from hanbit.db.postgres import open_empty  # noqa: PLC0415 - an extra

    open_empty(place).close()


def create(place: Place, operator: str, at: int, *, sandbox: bool = False) -> None:
    """An empty book; Conflict where there is something already. A sandbox's says for ever that it is one."""
    if isinstance(place, Path):
        sqlite.create_book(place, operator, at, sandbox=sandbox)
        return
    from hanbit.db.postgres import create_book  # noqa: PLC0415 - an extra

    create_book(place, operator, at, sandbox=sandbox)


def shape_faults(connection: Any) -> Iterator[tuple[str, str, str]]:
    """Where the tables are kept, name, and what is wrong with it: something that is no part of the schema, is missing, or was altered."""
    url = getattr(connection, "url", None)
    if url is None:
        yield from _faults("sqlite_schema", sqlite.describe(connection), sqlite.expected())
        return
    from hanbit.db import postgres_shape  # noqa: PLC0415 - an extra

    version = str(connection.execute("SELECT current_setting('server_version_num')").fetchall()[0][0])
    yield from _faults("pg_catalog", postgres_shape.describe(connection), postgres_shape.expected(url, version))


def _faults(where: str, there: Mapping[tuple[str, str], str], expected: Mapping[tuple[str, str], str]) -> Iterator[tuple[str, str, str]]:
    for (kind, name), text in sorted(there.items()):
        if expected.get((kind, name)) != text:
            yield where, name, f"no {kind} of this schema: it was put in or altered from outside"
    for (kind, name), text in sorted(expected.items()):
        if there.get((kind, name)) != text:
            yield where, name, f"this {kind} is missing or altered"


def shown(place: Place) -> str:
    """For people and logs: no secret of an address."""
    if isinstance(place, Path):
        return str(place)
    from hanbit.db.postgres_link import described  # noqa: PLC0415 - an extra

    return described(place)
