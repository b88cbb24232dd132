"""Where a book lies: a SQLite file (a Path), or a PostgreSQL database (its address, a str); the engine is picked here."""

from pathlib import Path
from typing import Any

from hanbit.db import sqlite, sqlite_file
from hanbit.db.commit import Store
from hanbit.kernel.errors import BadInput

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


def create(place: Place, operator: str, at: int, *, sandbox: bool = False) -> None:
    """An empty book; Conflict where there is something already. A sandbox's says for ever that it is one."""
    if isinstance(place, Path):
        sqlite.create_book(place, operator, at, sandbox=sandbox)
        return
    from hanbit.db.postgres import create_book  # noqa: PLC0415 - an extra

    create_book(place, operator, at, sandbox=sandbox)


def shown(place: Place) -> str:
    """For people and logs: no secret of an address."""
    if isinstance(place, Path):
        return str(place)
    from hanbit.db.postgres_link import described  # noqa: PLC0415 - an extra

    return described(place)
