"""By which index a row is found: its key's, also where PostgreSQL plans while the book is empty and keeps the plan while it fills."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Table, UniqueConstraint

from hanbit.db import place, postgres, schema
from hanbit.db.covered import COLUMNS, KEYS
from hanbit.db.place import Place
from hanbit.db.reading import Reader, Row
from hanbit.db.sqlite import BOOK_FILE
from hanbit.evidence import store as evidence
from hanbit.payments import payment, search

NOT_MANY = frozenset({"settlements_by_day", "console_requests_by_payment", "console_requests_by_time"})
"""May be taken for the key's: of a merchant's day there is a row a currency, and of what its people ask in a console hundreds."""


def _keys(table: Table) -> Iterator[tuple[str, ...]]:
    yield tuple(column.name for column in table.primary_key.columns)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield tuple(column.name for column in constraint.columns)


def test_no_index_of_many_rows_can_be_taken_for_that_of_a_key() -> None:
    tempting = {
        str(index.name)
        for table in schema.metadata.tables.values()
        for key in _keys(table)
        for index in table.indexes
        if len(key) > 1 and index.columns.keys()[0] in key and index.dialect_options["postgresql"]["where"] is None
    }
    assert tempting == NOT_MANY


def test_the_first_plan_of_each_statement_of_a_batch_finds_its_rows_by_their_whole_key(database: str) -> None:
    place.create(database, "bank", 1)
    with closing(postgres.open_link(database)) as link:
        for table, key in KEYS.items():
            if table in {"settlements", "console_requests"}:  # see NOT_MANY
                continue
            columns = COLUMNS[table]
            row = tuple("a" if column in postgres._TEXTS[table] else 1 for column in columns)
            found = [("SELECT", postgres._select(table, columns[-1:]), key), ("UPDATE", postgres._update(table, columns), columns)]
            for verb, sql, named in found:
                taken = [row[: len(named)]] if named is columns else [tuple(row[columns.index(column)] for column in named)]
                plan = "\n".join(str(line[0]) for line in link.execute(f"EXPLAIN {sql}", postgres._arrays(table, named, taken)))
                (condition,) = [line for line in plan.splitlines() if "Index Cond" in line]
                assert all(f"({column} = " in condition for column in key), (verb, plan)


def test_the_first_plan_of_each_read_on_the_way_of_a_payment_looks_at_no_row_of_another(database: str) -> None:
    place.create(database, "bank", 1)
    with closing(Reader(database)) as reader, _asked(reader) as plans:
        payment.find(reader, "shop", "tid")
        payment.find_with_merchant(reader, "shop", "tid")
        evidence.is_known(reader, "shop", "tid", "hash")
        reader.one("SELECT * FROM exchanges WHERE merchant = ? AND sid = ?", "shop", "sid")
        reader.one("SELECT * FROM cancellations WHERE merchant = ? AND id = ?", "shop", "id")
    found = [[line.split(":", 1)[1] for line in plan.splitlines() if "Index Cond" in line] for plan in plans]
    by_key = ["(merchant = ", "(tid = "], ["(id = ", "(merchant = ", "(tid = "], ["(tid = ", "(merchant = ", "(hash = "]
    for conditions, expected in zip(found, (*by_key, ["(merchant = ", "(sid = "], ["(merchant = ", "(id = "]), strict=True):
        assert all(part in " ".join(conditions) for part in expected), plans
        assert not any("merchant" in condition and " AND " not in condition for condition in conditions), plans


async def test_what_lists_a_merchants_payments_goes_by_their_index(tmp_path: Path) -> None:
    book: Place = tmp_path / BOOK_FILE
    place.create(book, "bank", 1)
    with closing(Reader(book)) as reader:
        asked: list[tuple[str, tuple[str | int | None, ...]]] = []

        async def noted(sql: str, *values: str | int | None) -> list[Row]:
            asked.append((sql, values))
            return []

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(reader, "scan", noted)
            await search.listed(reader, search.Wanted(merchant="shop"), 10)
            await search.listed(reader, search.Wanted(merchant="shop", since=1, until=2, cursor="1.AAAAAAAAAAAAAAAAAAAAAA"), 10)
            await search.tallied(reader, "shop", 1)
        for sql, values in asked:
            plan = " ".join(str(row[3]) for row in reader.all(f"EXPLAIN QUERY PLAN {sql}", *values))
            assert "USING INDEX payments_by_merchant (merchant=? AND opened_at" in plan, plan


@contextmanager
def _asked(reader: Reader) -> Iterator[list[str]]:
    """The plan of each statement that is read meanwhile, as the reader's own connection makes it."""
    plans: list[str] = []
    one = reader.one

    def explained(sql: str, *values: str | int | None) -> Row | None:
        plans.append("\n".join(str(row[0]) for row in reader.all(f"EXPLAIN {sql}", *values)))
        return one(sql, *values)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reader, "one", explained)
        yield plans
