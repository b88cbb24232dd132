"""Which rows of the book the log covers, each by table, key and hash; and the first leaves of a book whose rows are older than its log."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Table, UniqueConstraint

from hanbit.crypto.leaves import Item, digest, write_leaf
from hanbit.crypto.merkle import Frontier, leaf_hash
from hanbit.db import schema
from hanbit.db.change import Value
from hanbit.db.rows import Connection, stream
from hanbit.kernel import ids

Row = tuple[Value, ...]
KEYS: dict[str, tuple[str, ...]] = {
    name: tuple(c.name for c in table.columns if c.primary_key) for name, table in schema.metadata.tables.items()
}
"""Table → its key, in the order of the columns: so a leaf names a row."""
STORED: dict[str, str] = {name: ", ".join(c.name for c in table.primary_key) for name, table in schema.metadata.tables.items()}
"""Table → the order in which its rows can be read without being sorted."""
COLUMNS: dict[str, tuple[str, ...]] = {name: tuple(c.name for c in table.columns) for name, table in schema.metadata.tables.items()}


def _indexed(table: Table) -> tuple[str, ...]:
    found = {column.name for index in table.indexes for column in index.columns}
    found |= {column.name for rule in table.constraints if isinstance(rule, UniqueConstraint) for column in rule.columns}
    return tuple(sorted(found - {column.name for column in table.primary_key}))


INDEXED: dict[str, tuple[str, ...]] = {name: _indexed(table) for name, table in schema.metadata.tables.items()}
"""Table → its columns, but for the key, that an index is made of: to write one again unchanged would write its index again."""


def getter(names: tuple[str, ...]) -> Callable[[Mapping[str, Value]], Row]:
    """These columns of a row by name, as a tuple; twice as fast as asking for each."""
    if len(names) == 1:
        (name,) = names
        return lambda row: (row[name],)
    return itemgetter(*names)


VALUES: dict[str, Callable[[Mapping[str, Value]], Row]] = {name: getter(columns) for name, columns in COLUMNS.items()}
"""Table → a row's values in the order of its columns."""
KEY: dict[str, Callable[[Mapping[str, Value]], Row]] = {name: getter(columns) for name, columns in KEYS.items()}
"""Table → a row's primary key."""
COVERED: dict[str, int] = {
    name: schema.DERIVED.get(name, len(columns))
    for name, columns in COLUMNS.items()
    if name not in schema.VOLATILE and schema.DERIVED.get(name) != 0
}
"""Table → how many of its columns, from the first, the hash of a row is made of."""
PORTION = 500
"""Rows in each of the first leaves of a book that is older than its log."""


def present(connection: Connection) -> Iterator[Item]:
    """Every covered row as it stands in the book: messages first, in their order, then table by table in the order in which they are kept.

    A leg whose entry is missing is returned by itself: no leaf names one.
    """
    for table in ("messages", *(name for name in COVERED if name != "messages")):
        yield from _entries(connection) if table == "entries" else _rows(connection, table)


def fill_log(connection: Connection) -> None:
    """Give a book without a log its first leaves, which name every row that stands in it; in the caller's transaction.

    Its messages must stand where these leaves will name them: the old running number n, from 0, is leaf n // PORTION, place n % PORTION.
    """
    at, size = connection.execute("SELECT time, next_leaf FROM book WHERE id = 1").fetchone()
    assert size == 0, "this book has a log"
    connection.execute("INSERT INTO settings (name, version, value) VALUES ('halted', 1, '')")
    frontier = Frontier()
    for portion in _portions(present(connection)):
        assert portion[0].table != "messages" or portion[0].key[0] == frontier.size, portion[0]
        data = write_leaf(frontier.size, at, portion)
        hashed = leaf_hash(data)
        row = (frontier.size, ids.encode_base64url(hashed), data.decode("utf-8"))
        connection.execute("INSERT INTO log (leaf, hash, data) VALUES (?, ?, ?)", row)
        for tile in frontier.append(hashed):
            tile_row = (tile.level, tile.number, ids.encode_base64url(tile.root))
            connection.execute("INSERT INTO tiles (level, number, root) VALUES (?, ?, ?)", tile_row)
    connection.execute("UPDATE book SET next_leaf = ?, frontier = ? WHERE id = 1", (frontier.size, dump_frontier(frontier)))


def dump_frontier(frontier: Frontier) -> str:
    """The frontier's nodes as the book's row keeps them."""
    return ".".join(map(ids.encode_base64url, frontier.nodes))


def load_frontier(size: int, text: str) -> Frontier:
    """The frontier as it was kept."""
    return Frontier(size, [ids.decode_base64url(node) for node in text.split(".")] if text else [])


def _portions(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Messages leaf by leaf, then everything else in portions of their own."""
    for leaf, group in groupby(items, lambda item: item.key[0] if item.table == "messages" else None):
        if leaf is not None:
            yield list(group)
            continue
        portion: list[Item] = []
        for item in group:
            portion.append(item)
            if len(portion) == PORTION:
                yield portion
                portion = []
        if portion:
            yield portion


def _rows(connection: Connection, table: str) -> Iterator[Item]:
    columns, keys = COLUMNS[table][: COVERED[table]], KEYS[table]
    places = [columns.index(key) for key in keys]
    sql = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {STORED[table]}"  # noqa: S608 - names from our own schema
    for row in stream(connection, sql):
        values = tuple(row)
        yield Item(table, tuple(values[place] for place in places), digest(table, values))


def _entries(connection: Connection) -> Iterator[Item]:
    legs: Iterator[Sequence[str | int | None]] = map(tuple, stream(connection, _select("postings")))
    leg = next(legs, None)
    for row in stream(connection, _select("entries")):
        entry, own = tuple(row), []
        while leg is not None and leg[0] <= entry[0]:
            if leg[0] == entry[0]:
                own.append(leg)
            else:
                yield _stray(leg)
            leg = next(legs, None)
        yield Item("entries", (entry[0],), digest("entries", entry, *own))
    while leg is not None:
        yield _stray(leg)
        leg = next(legs, None)


def _stray(leg: Sequence[str | int | None]) -> Item:
    return Item("postings", (leg[0], leg[1]), digest("postings", leg))  # type: ignore[arg-type]  # no key is NULL


def _select(table: str) -> str:
    return f"SELECT {', '.join(COLUMNS[table])} FROM {table} ORDER BY {STORED[table]}"  # noqa: S608 - names from our own schema
