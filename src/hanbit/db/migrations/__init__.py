"""Brings the book of an earlier release to today's schema, in one transaction: all of it, or nothing.

The book's own row says which schema it has; there is no second table that could say something else. Alembic keeps the revisions in order
and gives them their operations. A revision is frozen when its schema is released: the next one then brings a copy of the tables that it
leaves behind (`schema_1.py` is such a copy), so that an old revision never means the tables of a later day.
"""

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from hanbit.db import schema, sqlite_file
from hanbit.db.covered import fill_log
from hanbit.db.versions import check_version
from hanbit.kernel.errors import BadInput

FIRST_WITH_LOG = 2
"""Books of earlier schemas get the leaves of all their rows when they have their last form."""


FIRST_IN_A_DATABASE = 2
"""No earlier schema was ever on PostgreSQL."""


def version(path: Path) -> int:
    """The schema of a book; BadInput if the file is none."""
    connection = sqlite_file.open_for_reading(path)
    try:
        row = connection.execute("SELECT schema_version FROM book WHERE id = 1").fetchone()
    except sqlite_file.DatabaseError as error:
        raise BadInput(f"{path} cannot be read as a book: {error}") from error
    finally:
        connection.close()
    if row is None or not isinstance(row[0], int):
        raise BadInput(f"{path} is not a book")
    return int(row[0])


def migrate(path: Path) -> None:
    """Run every revision that this book has not seen. The caller holds the folder: nobody else has the file open."""
    engine = create_engine("sqlite://", module=sqlite_file.DRIVER, creator=lambda: sqlite_file.open_for_writing(path), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")  # the transaction is the driver's own; leaving this block without commit undoes it
        before = _version(connection)
        with Operations.context(MigrationContext.configure(connection)):
            for revision in _revisions():
                if int(revision.revision) > before:
                    revision.module.upgrade()
        if before < FIRST_WITH_LOG and _version(connection):
            fill_log(connection.connection.driver_connection)
        connection.commit()


def migrate_database(url: str) -> int:
    """The same for a book in a PostgreSQL database: under its lock, all or nothing. The schema that it had.

    A backup comes before: whoever looks after the database makes it there (docs/operating.md).
    """
    from hanbit.db import postgres_link  # noqa: PLC0415 - an extra

    engine = create_engine("postgresql+psycopg://", creator=lambda: postgres_link.open_plain(url), poolclass=NullPool)
    with engine.connect() as connection, connection.begin():
        if connection.exec_driver_sql("SELECT to_regclass('book')::text").scalar() is None:
            raise BadInput(f"{postgres_link.described(url)} has no book")
        connection.exec_driver_sql("LOCK TABLE book IN ACCESS EXCLUSIVE MODE")  # no gateway writes, and none reads what is half done
        before = connection.exec_driver_sql("SELECT schema_version FROM book WHERE id = 1").scalar()
        if not isinstance(before, int) or before < FIRST_IN_A_DATABASE:
            raise BadInput(f"{postgres_link.described(url)} is not a book of schema {FIRST_IN_A_DATABASE} or later")
        if before > schema.SCHEMA_VERSION:
            check_version(before, postgres_link.described(url), "DIR")
        with Operations.context(MigrationContext.configure(connection)):
            for revision in _revisions():
                if int(revision.revision) > before:
                    revision.module.upgrade()
    return before


def _revisions() -> list[Script]:
    """Oldest first; the last one is today's schema."""
    scripts = ScriptDirectory(str(Path(__file__).parent))
    revisions = list(scripts.walk_revisions())[::-1]
    assert int(revisions[-1].revision) == schema.SCHEMA_VERSION, "a schema without its revision"
    return revisions


def _version(connection: Connection) -> int:
    """0 for an empty file."""
    if connection.exec_driver_sql("SELECT 1 FROM sqlite_schema WHERE name = 'book'").first() is None:
        return 0
    row = connection.exec_driver_sql("SELECT schema_version FROM book WHERE id = 1").first()
    return 0 if row is None else int(row[0])
