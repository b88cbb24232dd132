"""Makes every table of a SQLite book what a schema says: new ones are made, changed ones rebuilt with their rows, the same ones left alone.

SQLite cannot change a CHECK, a key or the order of columns in place. The old table steps aside, the new one is made in the very words with
which a fresh book is made, rows are copied, the old one goes with its indexes and triggers, and both are made again.
"""

from collections.abc import Collection, Mapping, Sequence

from alembic import op
from sqlalchemy import Connection, MetaData, Table, inspect

from hanbit.db.ddl import index_text, table_text, trigger_texts
from hanbit.db.guards import Guard

ASIDE = "_before"


def become(
    metadata: MetaData,
    *,
    history: Collection[str],
    kept: Collection[str],
    guards: Mapping[str, Guard],
    values: Mapping[tuple[str, str], str],
) -> None:
    """Make the book what `metadata` says; `values`: an expression over the old row for each (table, column) that is not simply copied."""
    connection = op.get_bind()
    there = _texts(connection, "table")
    for table in metadata.sorted_tables:
        text = table_text(table)
        if table.name not in there:
            op.execute(text)
        elif there[table.name] != text:
            _rebuild(connection, table, text, values)
    for name in there.keys() - metadata.tables.keys():
        op.drop_table(name)
    _make_indexes(connection, metadata.sorted_tables)
    _make_triggers(connection, trigger_texts(history=history, kept=kept, guards=guards))


def _rebuild(connection: Connection, table: Table, text: str, values: Mapping[tuple[str, str], str]) -> None:
    before = {column["name"] for column in inspect(connection).get_columns(table.name)}
    columns = [column.name for column in table.columns if column.name in before or (table.name, column.name) in values]
    taken = [values.get((table.name, column), column) for column in columns]
    op.rename_table(table.name, table.name + ASIDE)
    op.execute(text)
    op.execute(f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(taken)} FROM {table.name}{ASIDE}")  # noqa: S608 - our own names
    op.drop_table(table.name + ASIDE)


def _make_indexes(connection: Connection, tables: Sequence[Table]) -> None:
    there = _texts(connection, "index")
    wanted = {str(index.name): index_text(index) for table in tables for index in table.indexes}
    for name in there.keys() - wanted.keys():
        op.drop_index(name)
    for name, text in wanted.items():
        if name in there and there[name] != text:
            op.drop_index(name)
        if there.get(name) != text:
            op.execute(text)


def _make_triggers(connection: Connection, wanted: Mapping[str, str]) -> None:
    there = _texts(connection, "trigger")
    for name, text in there.items():
        if wanted.get(name) != text:
            op.execute(f"DROP TRIGGER {name}")
    for name, text in wanted.items():
        if there.get(name) != text:
            op.execute(text)


def _texts(connection: Connection, kind: str) -> dict[str, str]:
    """Name → statement of what the book has of this kind; SQLite's own indexes have no statement."""
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL", (kind,))
    return {row.name: row.sql for row in rows}
