"""The statements that make a book's tables, indexes and triggers, in each engine's words.

SQLite keeps the very words, so that a book can be held against them (`evidence/log_check.py`). On PostgreSQL the same constraints and
triggers have the same names and refuse the same; there is one more verb to refuse, TRUNCATE.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import Index, MetaData, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from hanbit.db.guards import Guard

_SQLITE = sqlite.dialect()
_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own constructor is not annotated
_REFUSED = "USING ERRCODE = 'integrity_constraint_violation'"


def table_text(table: Table) -> str:
    """CREATE TABLE."""
    return str(CreateTable(table).compile(dialect=_SQLITE)).strip()


def index_text(index: Index) -> str:
    """CREATE INDEX."""
    return str(CreateIndex(index).compile(dialect=_SQLITE)).strip()


def trigger_texts(*, history: Collection[str], kept: Collection[str], guards: Mapping[str, Guard]) -> dict[str, str]:
    """Name → CREATE TRIGGER: `history` is never changed or removed, `kept` never removed, `guards` say what else is refused."""
    texts = {}
    for name, guard in guards.items():
        unless = f" WHERE NOT {guard.unless}" if guard.unless else ""
        texts[name] = f"CREATE TRIGGER {name} {guard.on} WHEN {guard.when} BEGIN SELECT RAISE(ABORT, '{guard.says}'){unless}; END"
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


def statements(metadata: MetaData, *, history: Collection[str], kept: Collection[str], guards: Mapping[str, Guard]) -> list[str]:
    """Everything that makes an empty book on SQLite."""
    tables = metadata.sorted_tables
    made = [text for table in tables for text in (table_text(table), *(index_text(index) for index in table.indexes))]
    return [*made, *trigger_texts(history=history, kept=kept, guards=guards).values()]


def postgresql_statements(metadata: MetaData, *, history: Collection[str], kept: Collection[str], guards: Mapping[str, Guard]) -> list[str]:
    """Everything that makes an empty book on PostgreSQL, in the schema that comes first on the session's path."""
    made = []
    for table in metadata.sorted_tables:
        made.append(str(CreateTable(table).compile(dialect=_POSTGRESQL)).strip())
        made += [str(CreateIndex(index).compile(dialect=_POSTGRESQL)).strip() for index in table.indexes]
    functions = {
        "history_is_never_edited": f"RAISE EXCEPTION 'history is never edited: %', TG_TABLE_NAME {_REFUSED};",
        "never_deleted": f"RAISE EXCEPTION 'never deleted: %', TG_TABLE_NAME {_REFUSED};",
    }
    for name, guard in guards.items():
        refusal = f"RAISE EXCEPTION '{guard.says}' {_REFUSED};"
        body = f"IF NOT {guard.unless} THEN {refusal} END IF; RETURN NEW;" if guard.unless else refusal
        functions[name] = body
    made += [f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$" for name, body in functions.items()]
    made += [f"CREATE TRIGGER {name} {g.on} FOR EACH ROW WHEN ({g.when}) EXECUTE FUNCTION {name}()" for name, g in guards.items()]
    made += [_refusal(table, verb, "history_is_never_edited") for table in history for verb in ("UPDATE", "DELETE", "TRUNCATE")]
    made += [_refusal(table, verb, "never_deleted") for table in kept for verb in ("DELETE", "TRUNCATE")]
    return made


def _refusal(table: str, verb: str, function: str) -> str:
    each = "STATEMENT" if verb == "TRUNCATE" else "ROW"
    return f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} FOR EACH {each} EXECUTE FUNCTION {function}()"
