"""What a batch reads under the book lock, and in which order it writes: said once, whichever engine carries it out."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from hanbit.db.batch import Batch, Counters, Key, KnownEntry, key_of, new_counters, read_header
from hanbit.db.change import Change, Delete, Put, Value
from hanbit.db.covered import COLUMNS, INDEXED, KEYS, Row, dump_frontier
from hanbit.kernel import ids

SELECT_BOOK = "SELECT next_entry, next_leaf, frontier, time FROM book WHERE id = 1"
UPDATE_BOOK = "UPDATE book SET next_entry = ?, next_leaf = ?, frontier = ?, time = ? WHERE id = 1"
COUNTERS = ("debits_pending", "credits_pending", "debits_posted", "credits_posted")


@dataclass(slots=True)
class Wanted:
    """The rows that a batch's Changes are compared with: of each table the keys, and the columns that one of them names."""

    keys: dict[str, set[Key]] = field(default_factory=dict)
    columns: dict[str, set[str]] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=set)
    entries: set[str] = field(default_factory=set)

    def tables(self) -> Iterator[tuple[str, tuple[str, ...], set[Key]]]:
        """Table, compared columns, keys."""
        for table, keys in self.keys.items():
            yield table, tuple(sorted(self.columns[table])), keys


class Insert(NamedTuple):
    """Rows of one table, in the order of its columns."""

    table: str
    rows: Sequence[Row]
    how: Literal["new", "replace", "keep"]
    """New rows only; the row that stands is replaced; or it is kept, because it says the same."""
    same: tuple[str, ...] = ()
    """Columns in which the rows that stand say the same already: they need not be written, nor their index."""


def wanted(changes: Sequence[Change]) -> Wanted:
    """Everything that these Changes read."""
    found = Wanted()
    keys, columns = found.keys, found.columns
    signers: set[str] = set()
    changing: dict[str, set[str]] = {}
    for change in changes:
        changed: tuple[Put | Delete, ...] = (*change.puts, *change.deletes)
        for put in changed:
            keys.setdefault(put.table, set()).add(key_of(put))
            changing.setdefault(put.table, {"version"})
            if isinstance(put, Put) and put.changed is None:
                changing[put.table].update(INDEXED[put.table])
        for require in change.requires:
            keys.setdefault(require.table, set()).add((require.key,))
            columns.setdefault(require.table, set()).add(require.column)
        signers.update(read_header(message.header).kid for message in change.messages)
        for acknowledge in change.acknowledges:
            keys.setdefault("outbox", set()).update((outcome,) for outcome in acknowledge.hashes)
            columns.setdefault("outbox", set()).update(COLUMNS["outbox"])
        for entry in change.entries:
            found.accounts.update(leg.account for leg in entry.postings)
            found.entries.add(entry.id)
            if entry.ends is not None:
                found.entries.add(entry.ends)
    for table, compared in changing.items():
        columns.setdefault(table, set()).update(compared)
    if signers:
        keys.setdefault("certificates", set()).update((kid,) for kid in signers)
        columns.setdefault("certificates", set()).add("revoked_at")
    return found


def compared_rows(table: str, compared: tuple[str, ...], rows: Sequence[Row]) -> Iterator[tuple[tuple[str, Key], dict[str, Value]]]:
    """What was read of a table (its key, then the compared columns) as a batch looks it up."""
    width = len(KEYS[table])
    for row in rows:
        yield (table, row[:width]), dict(zip(compared, row[width:], strict=True))


def counters(row: Sequence[Any]) -> tuple[str, Counters]:
    """A ledger account from its id followed by its whole row."""
    name, _, kind, currency, _, credit_limit, *standing = row
    return name, new_counters(kind, currency, credit_limit, tuple(standing))


def known_entry(row: Sequence[Any]) -> tuple[str, KnownEntry]:
    """An entry from id, number, kind, amount, currency and whether a capture or void has ended it."""
    entry, number, kind, amount, currency, ended = row
    return entry, KnownEntry(number, kind, amount, currency, ended=bool(ended))


def deletes(batch: Batch) -> Iterator[tuple[str, list[Value]]]:
    """Table and keys of the rows that go; they go first, because a put that follows makes a new row."""
    for table, keys in batch.writes.deletes.items():
        yield table, [key for (key,) in keys]


def inserts(batch: Batch, known_headers: AbstractSet[str]) -> Iterator[Insert]:
    """All rows in the order in which they are written: payments before entries, so that a refund finds its own Change's figures."""
    writes = batch.writes
    for table, puts in writes.puts.items():
        alike: dict[tuple[str, ...] | None, list[Row]] = {}
        for same, row in puts.values():
            alike.setdefault(same, []).append(row)
        for same, rows in alike.items():
            yield Insert(table, rows, "new" if same is None else "replace", same or ())
    for table, appends in writes.appends.items():
        yield Insert(table, appends, "new")
    yield Insert("headers", [(name, segment) for name, segment in writes.headers.items() if name not in known_headers], "keep")
    yield Insert("messages", writes.messages, "new")
    yield Insert("entries", writes.entries, "new")
    yield Insert("postings", writes.postings, "new")
    yield Insert("log", writes.leaves, "new")
    yield Insert("tiles", [(tile.level, tile.number, ids.encode_base64url(tile.root)) for tile in writes.tiles], "new")


def account_rows(batch: Batch) -> list[Row]:
    """Id and counters of the accounts that moved."""
    accounts: Mapping[str, Counters] = batch.loaded.accounts
    return [
        (name, account.debits_pending, account.credits_pending, account.debits_posted, account.credits_posted)
        for name in batch.writes.accounts
        for account in (accounts[name],)
    ]


def entry_range(batch: Batch) -> tuple[int, int] | None:
    """First and last number of the new entries: over these the database adds up what was written before it commits."""
    entries = batch.writes.entries
    return (int(entries[0][0] or 0), int(entries[-1][0] or 0)) if entries else None


def book_row(batch: Batch) -> Row | None:
    """The values of UPDATE_BOOK, None where nothing is covered.

    The book's time is that of its last leaf, so that it can be checked; what is not covered moves nothing here.
    """
    if not batch.writes.leaves:
        return None
    frontier = batch.loaded.frontier
    return (batch.loaded.next_entry, frontier.size, dump_frontier(frontier), batch.at)
