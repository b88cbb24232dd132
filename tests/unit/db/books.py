"""Empty books with a few ledger accounts, for tests of the store on either engine."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from hanbit.db import place as places
from hanbit.db import sqlite_file
from hanbit.db.change import Append, Change
from hanbit.db.commit import Store
from hanbit.db.place import Place
from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE
from hanbit.kernel.errors import HanbitError
from hanbit.kernel.money import Money
from hanbit.ledger import rules
from hanbit.ledger.check import check
from hanbit.ledger.entry import Entry
from hanbit.parties.customers import ledger_account

NOW = 1_800_000_000
CASH, HONG, KIM, CARD, SHOP = "operator:cash:KRW", "hong", "kim", "card", "merchant:shop:KRW"


REFUSALS = (sqlite_file.DatabaseError, psycopg.Error)
"""What a database raises that does not do what it is told."""


@dataclass
class Desk:
    """An open book, and a way round its program: raw SQL by whoever owns the database."""

    place: Place
    store: Store

    def write_batch(self, changes: Sequence[Change], at: int) -> list[HanbitError | None]:
        return asyncio.run(self.store.write(changes, at))

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """All in one transaction of another connection; what the last one returns."""
        if isinstance(self.place, Path):
            with closing(sqlite_file.open_for_writing(self.place)) as other:
                other.execute("BEGIN IMMEDIATE")
                found = [list(map(tuple, other.execute(statement))) for statement in statements]
                other.execute("COMMIT")
            return found[-1]
        with psycopg.connect(self.place) as owner:
            cursors = [owner.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []

    def close(self) -> None:
        self.store.close()


def open_book(where: Place, balance: int = 1000) -> Desk:
    """Two bank accounts with this balance, a card with this credit line, a merchant and the operator's cash; in a folder or in a place."""
    place = where / BOOK_FILE if isinstance(where, Path) and where.is_dir() else where
    places.create(place, "bank", NOW)
    store = Desk(place, places.open_store(place))
    accounts = (
        ledger_account(CASH, "operator_cash", "KRW", limited=False),
        ledger_account(HONG, "customer_bank", "KRW", limited=True),
        ledger_account(KIM, "customer_bank", "KRW", limited=True),
        ledger_account(CARD, "customer_card", "KRW", credit_limit=balance, limited=True),
        ledger_account(SHOP, "merchant", "KRW", limited=True),
        ledger_account("dollars", "customer_bank", "USD", limited=True),
    )
    entries = [fund(f"fund:{name}", name, balance) for name in (HONG, KIM)]
    assert store.write_batch([Change(appends=accounts)], NOW) == [None]
    assert store.write_batch([Change(entries=tuple(entries))], NOW) == [None]
    return store


def fund(name: str, account: str, amount: int) -> Entry:
    return rules.transfer(id=name, debit=CASH, credit=account, money=Money(amount, "KRW"))


def hold(payment: str, source: str, amount: int, currency: str = "KRW") -> Entry:
    return rules.hold(payment=payment, attempt=1, source=source, target=SHOP, money=Money(amount, currency))


def capture(payment: str, source: str, amount: int) -> Entry:
    return rules.capture(payment=payment, attempt=1, source=source, target=SHOP, money=Money(amount, "KRW"))


def void(payment: str, source: str, amount: int) -> Entry:
    return rules.void(payment=payment, attempt=1, source=source, target=SHOP, money=Money(amount, "KRW"))


def note(name: str, at: int = NOW) -> Append:
    """A row that only says that its Change is there."""
    return Append("audit", {"id": name, "at": at, "actor": "test", "act": "note", "reason": "ok", "merchant": None, "tid": None})


def write(store: Desk, *changes: Change, at: int = NOW) -> list[str]:
    """The answers' codes; empty where the Change is durable."""
    return [_code(answer) for answer in store.write_batch(list(changes), at)]


def _code(answer: HanbitError | None) -> str:
    if answer is None:
        return ""
    return str(getattr(answer, "reason", getattr(answer, "rule", answer.code)))


def rows(store: Desk, sql: str) -> list[tuple[Any, ...]]:
    """What another connection sees."""
    with closing(Reader(store.place)) as reader:
        return [tuple(row) for row in reader.all(sql)]


def notes(store: Desk) -> set[str]:
    return {row[0] for row in rows(store, "SELECT id FROM audit")}


def prove(store: Desk) -> None:
    """The ledger's check, but for the one promise that needs payments, which these books have none of."""
    with closing(Reader(store.place)) as reader:
        report = check(reader.connection)
    broken = {promise: rows for promise, rows in report.broken.items() if promise != "holds_belong_to_payments"}
    assert not broken, broken
