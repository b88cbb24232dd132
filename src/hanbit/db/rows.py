"""Reading from either engine in one way: a connection, a row, and rows that are too many to hold at once."""

from collections.abc import Iterator, Sequence
from typing import Any

Connection = Any
"""What answers `execute(statement, values)` with rows: SQLite's own connection, or a Link of `db/postgres_link.py`. A statement is
written once for both: `?` for a value, words that both know."""
Row = Any
"""A row by column name, by index and in order."""


def stream(connection: Connection, sql: str, values: Sequence[str | int | None] = ()) -> Iterator[Row]:
    """Rows as they are read; other statements may come in between. SQLite reads so anyway."""
    return iter(getattr(connection, "stream", connection.execute)(sql, values))
