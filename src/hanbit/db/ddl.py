"""The statements that make a book's tables, indexes and triggers on SQLite, in the very words in which they stand there."""

from collections.abc import Collection, Mapping

from sqlalchemy import Index, MetaData, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

_DIALECT = sqlite.dialect()


def table_text(table: Table) -> str:
    """CREATE TABLE."""
    return str(CreateTable(table).compile(dialect=_DIALECT)).strip()


def index_text(index: Index) -> str:
    """CREATE INDEX."""
    return str(CreateIndex(index).compile(dialect=_DIALECT)).strip()


def trigger_texts(*, history: Collection[str], kept: Collection[str], guards: Mapping[str, str]) -> dict[str, str]:
    """Name → CREATE TRIGGER: `history` is never changed or removed, `kept` never removed, `guards` say what else is refused."""
    texts = {name: f"CREATE TRIGGER {name} {guard}" for name, guard in guards.items()}
    for table in history:
        for verb in ("UPDATE", "DELETE"):
            name = f"{table}_no_{verb.lower()}"
            texts[name] = (
                f"CREATE TRIGGER {name} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'history is never edited: {table}'); END"
            )
    for table in kept:
        name = f"{table}_no_delete"
        texts[name] = f"CREATE TRIGGER {name} BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, 'never deleted: {table}'); END"
    return texts


def statements(metadata: MetaData, *, history: Collection[str], kept: Collection[str], guards: Mapping[str, str]) -> list[str]:
    """Everything that makes an empty book."""
    tables = metadata.sorted_tables
    made = [text for table in tables for text in (table_text(table), *(index_text(index) for index in table.indexes))]
    return [*made, *trigger_texts(history=history, kept=kept, guards=guards).values()]
