"""What is put in, taken out or altered round a book's tables on PostgreSQL is named; what its program made is not."""

from contextlib import closing

import psycopg
import pytest

from hanbit.db import place as places
from hanbit.db import postgres_shape
from hanbit.kernel.errors import Unavailable

ALTERED = {
    "ALTER TABLE payments ADD COLUMN more text": "payments",
    "ALTER TABLE payments ALTER amount TYPE numeric": "payments",
    "ALTER TABLE audit ALTER act SET DEFAULT 'x'": "audit",
    "ALTER TABLE audit ALTER act DROP NOT NULL": "audit",
    "ALTER TABLE audit ENABLE ROW LEVEL SECURITY": "audit",
    'ALTER TABLE audit ALTER act TYPE text COLLATE "POSIX"': "audit",
    "CREATE TABLE extra (x int)": "extra",
    "CREATE VIEW more AS SELECT 1 AS one": "more",
    "ALTER TABLE ledger_accounts DROP CONSTRAINT never_below_zero": "ledger_accounts.never_below_zero",
    "ALTER TABLE entries DROP CONSTRAINT one_effect": "entries.one_effect",
    "DROP INDEX payments_due": "payments_due",
    "CREATE INDEX extra ON audit (actor)": "extra",
    "DROP TRIGGER entries_no_update ON entries": "entries.entries_no_update",
    "ALTER TABLE postings DISABLE TRIGGER postings_no_delete": "postings.postings_no_delete",
    "ALTER TABLE postings ENABLE REPLICA TRIGGER postings_no_delete": "postings.postings_no_delete",
    "CREATE TRIGGER extra BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION never_deleted()": "audit.extra",
    "CREATE OR REPLACE FUNCTION never_deleted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'": "never_deleted()",
    "CREATE FUNCTION extra() RETURNS int LANGUAGE sql AS 'SELECT 1'": "extra()",
    "CREATE RULE extra AS ON INSERT TO audit DO INSTEAD NOTHING": "audit.extra",
    "CREATE POLICY extra ON audit USING (true)": "audit.extra",
}


def test_every_alteration_round_the_tables_is_named_and_nothing_else_is(database: str) -> None:
    places.create(database, "bank", 1)
    with closing(places.open_for_reading(database, patient=True)) as connection, psycopg.connect(database) as owner:
        assert list(places.shape_faults(connection)) == []
        for statement, name in ALTERED.items():
            with owner.transaction(force_rollback=True):
                owner.execute(statement.encode())
                assert name in {fault for _, fault, _ in places.shape_faults(_Same(owner, database))}, statement
        assert list(places.shape_faults(connection)) == []


class _Same:
    """The owner's connection, in the transaction in which it has altered something."""

    def __init__(self, owner: "psycopg.Connection[tuple[object, ...]]", url: str) -> None:
        self._owner = owner
        self.url = url

    def execute(self, sql: str) -> "psycopg.Cursor[tuple[object, ...]]":
        return self._owner.execute(sql.encode())


def test_a_role_that_may_not_make_a_schema_is_told_so(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    places.create(database, "bank", 1)
    monkeypatch.setattr(postgres_shape, "_EXPECTED", {})
    monkeypatch.setattr(postgres_shape, "make_tables", lambda link: link.command("SET ROLE nobody_there"))
    with pytest.raises(Unavailable, match="held against the schema"):
        postgres_shape.expected(database, "1")
