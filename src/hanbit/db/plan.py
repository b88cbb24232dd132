"""What a batch reads under the book lock, and in which order it writes: said once, whichever engine carries it out."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from hanbit.db.batch import Batch, Counters, Key, KnownEntry, Standing, Writes, read_header
from hanbit.db.change import Change, Value
from hanbit.db.covered import COLUMNS, INDEXED, KEY, KEYS, Row, dump_frontier
from hanbit.kernel import ids

SELECT_BOOK = "SELECT next_entry, next_leaf, frontier, time FROM book WHERE id = 1"
UPDATE_BOOK = "UPDATE book SET next_entry = ?, next_leaf = ?, frontier = ?, time = ? WHERE id = 1"
ACCOUNT = Counters.__struct_fields__
SIGNER = ("revoked_at", "not_before", "not_after", "purpose")
"""What a message's signer is compared by, and what is kept beside it."""
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
    keys, columns, accounts, entries = defaultdict[str, set[Key]](set), defaultdict[str, set[str]](set), found.accounts, found.entries
    found.keys, found.columns = keys, columns
    for change in changes:
        for put in change.puts:
            table = put.table
            keys[table].add(KEY[table](put.row))
            columns[table].add("version")
            if put.version and put.changed is None:
                columns[table].update(INDEXED[table])
        for entry in change.entries:
            entries.add(entry.id)
            if entry.ends is not None:
                entries.add(entry.ends)
            for leg in entry.postings:
                accounts.add(leg.account)
        for require in change.requires:
            keys[require.table].add((require.key,))
            columns[require.table].add(require.column)
        for message in change.messages:
            keys["certificates"].add((read_header(message.header).kid,))
            columns["certificates"].update(SIGNER)
        for delete in change.deletes:
            keys[delete.table].add(delete.key)
            columns[delete.table].add("version")
        for acknowledge in change.acknowledges:
            if not acknowledge.outcomes:  # what it names is told already, or was never this merchant's
                continue
            keys["outbox"].update((outcome, acknowledge.merchant, tid) for outcome, tid in acknowledge.outcomes)
            columns["outbox"].update(COLUMNS["outbox"])
    return found


def standing(table: str, compared: tuple[str, ...], rows: Sequence[Row]) -> Standing:
    """What was read of a table (its key, then the compared columns) as a batch looks it up."""
    width = len(KEYS[table])
    return Standing(compared, {row[:width]: row[width:] for row in rows})


def accounts(rows: Sequence[Sequence[Any]]) -> dict[str, Counters]:
    """The ledger accounts of these rows, of the columns of ACCOUNT."""
    return {row[0]: Counters(*row) for row in rows}


def known_entries(rows: Sequence[Sequence[Any]]) -> dict[str, KnownEntry]:
    """Entries, each from id, number, kind, amount, currency and whether a capture or void has ended it."""
    return {entry: KnownEntry(*known) for entry, *known in rows}


def deletes(writes: Writes) -> Iterator[tuple[str, list[Value]]]:
    """Table and keys of the rows that go; they go first, because a put that follows makes a new row."""
    for table, keys in writes.deletes.items():
        yield table, [key for (key,) in keys]


def inserts(writes: Writes, known_headers: AbstractSet[str]) -> Iterator[Insert]:
    """All rows in the order in which they are written: payments before entries, so that a refund finds its own Change's figures."""
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


def account_rows(writes: Writes) -> list[Row]:
    """Id and counters of the accounts that moved."""
    return [
        (name, account.debits_pending, account.credits_pending, account.debits_posted, account.credits_posted)
        for name, account in writes.accounts.items()
    ]


def entry_range(writes: Writes) -> tuple[int, int] | None:
    """First and last number of the new entries: over these the database adds up what was written before it commits."""
    entries = writes.entries
    return (int(entries[0][0] or 0), int(entries[-1][0] or 0)) if entries else None


def book_row(batch: Batch) -> Row | None:
    """The values of UPDATE_BOOK, None where nothing is covered.

    The book's time is that of its last leaf, so that it can be checked; what is not covered moves nothing here.
    """
    if not batch.writes.leaves:
        return None
    frontier = batch.loaded.frontier
    return (batch.loaded.next_entry, frontier.size, dump_frontier(frontier), batch.at)
