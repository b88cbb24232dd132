"""Empty books with a few ledger accounts, for tests of the store."""

import sqlite3
from pathlib import Path
from typing import Any

from hanbit.db.change import Append, Change
from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE, SqliteStore, create_book
from hanbit.kernel.errors import HanbitError
from hanbit.kernel.money import Money
from hanbit.ledger import rules
from hanbit.ledger.check import check
from hanbit.ledger.entry import Entry
from hanbit.parties.customers import ledger_account

NOW = 1_800_000_000
CASH, HONG, KIM, CARD, SHOP = "operator:cash:KRW", "hong", "kim", "card", "merchant:shop:KRW"


def open_book(folder: Path, balance: int = 1000) -> SqliteStore:
    """Two bank accounts with this balance, a card with this credit line, a merchant and the operator's cash."""
    create_book(folder / BOOK_FILE, "bank", NOW)
    store = SqliteStore(folder / BOOK_FILE)
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


def write(store: SqliteStore, *changes: Change, at: int = NOW) -> list[str]:
    """The answers' codes; empty where the Change is durable."""
    return [_code(answer) for answer in store.write_batch(list(changes), at)]


def _code(answer: HanbitError | None) -> str:
    if answer is None:
        return ""
    return str(getattr(answer, "reason", getattr(answer, "rule", answer.code)))


def rows(store: SqliteStore, sql: str) -> list[tuple[Any, ...]]:
    """What another connection of another library sees."""
    other = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
    try:
        return [tuple(row) for row in other.execute(sql)]
    finally:
        other.close()


def notes(store: SqliteStore) -> set[str]:
    return {row[0] for row in rows(store, "SELECT id FROM audit")}


def prove(store: SqliteStore) -> None:
    """The ledger's check, but for the one promise that needs payments, which these books have none of."""
    reader = Reader(store.path)
    try:
        report = check(reader.connection)
    finally:
        reader.close()
    broken = {promise: rows for promise, rows in report.broken.items() if promise != "holds_belong_to_payments"}
    assert not broken, broken
