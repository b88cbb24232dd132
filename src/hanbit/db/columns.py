"""What the tables of the book are written with (`schema.py`): columns that mean the same on both engines."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, PrimaryKeyConstraint, Table, Text, UniqueConstraint
from sqlalchemy import text as expression

metadata = MetaData()
MONEY_MAX = 999_999_999_999_999_999
"""Bound of every counter: sums of amounts stay far inside 64 bits."""
_BY_KEY = frozenset({"ledger_accounts", "postings", "outbox", "tiles"})
"""Narrow tables that are written with every payment: stored in the order of their key, one tree instead of two."""
_Whole = BigInteger().with_variant(Integer(), "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")
"""In the order of its bytes on both engines, whatever language the database was made for."""


def text(name: str, *, key: bool = False, null: bool = False) -> Column[str]:
    """A column of text."""
    return Column(name, _Text, primary_key=key, nullable=null)


def whole(name: str, *, key: bool = False, null: bool = False) -> Column[int]:
    """A column of whole numbers."""
    return Column(name, _Whole, primary_key=key, nullable=null, autoincrement=False)


def stored_by(*names: str) -> PrimaryKeyConstraint:
    """A key in another order than its columns: first what begins with its second, so that new rows stand beside one another."""
    return PrimaryKeyConstraint(*names)


def table(name: str, *items: Column[str] | Column[int] | CheckConstraint | UniqueConstraint | PrimaryKeyConstraint | Index) -> Table:
    """One table of the book."""
    return Table(name, metadata, *items, sqlite_strict=True, sqlite_with_rowid=name not in _BY_KEY)


def some(name: str, column: str, *, unique: bool = False) -> Index:
    """An index of the few rows that have this column at all: the others are in it neither when they are written nor when they change."""
    return where(name, f"{column} IS NOT NULL", column, unique=unique)


def where(name: str, condition: str, *columns: str, unique: bool = False) -> Index:
    """An index of the rows that meet a condition; a query that is to use it must say the condition in the same words."""
    there = expression(condition)
    return Index(name, *columns, unique=unique, sqlite_where=there, postgresql_where=there)
