"""Decides one batch in memory, in order, under the book lock: each Change holds whole or is turned away whole. Pure: rows in, rows out.

What is decided here for every Change:

 1. every required value still stands
 2. every row to be changed is at the version that the Change was computed from
 3. every entry id is new; a capture or void ends a hold that exists, has not ended and is not smaller
 4. no limited account goes below zero counting holds; one currency an entry; what an entry was to empty is empty behind it
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache

import msgspec

from hanbit.crypto.leaves import digest, write_leaf
from hanbit.crypto.merkle import Frontier, Tile, leaf_hash
from hanbit.db import schema
from hanbit.db.change import Acknowledge, Append, Change, Delete, Put, Stale, StoredMessage, Value
from hanbit.db.covered import COLUMNS, COVERED, INDEXED, KEY, KEYS, VALUES, Row
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Conflict, Declined, HanbitError
from hanbit.ledger.chart import KINDS
from hanbit.ledger.entry import HOLD, Entry, Posting

Key = tuple[Value, ...]
Items = list[tuple[str, Key, bytes]]
"""What one Change has written so far: table, key and hash of each row."""
_HEADERS_KEPT = 4096


@dataclass(slots=True)
class Counters:
    """One ledger account while the batch is decided."""

    currency: str
    limited: bool
    credit_normal: bool
    credit_limit: int
    debits_pending: int
    credits_pending: int
    debits_posted: int
    credits_posted: int

    def move(self, leg: Posting) -> int:
        """Add one leg; the posted balance behind it. Declined("no_funds") if a limited account would go below zero counting holds."""
        if leg.side == "D":
            pending, posted = self.debits_pending + leg.pending, self.debits_posted + leg.posted
            if self.limited and leg.pending + leg.posted > 0 and self.credits_posted + self.credit_limit < pending + posted:
                raise Declined("no_funds")
            self.debits_pending, self.debits_posted = pending, posted
        else:
            self.credits_pending += leg.pending
            self.credits_posted += leg.posted
        balance = self.credits_posted - self.debits_posted
        return balance if self.credit_normal else -balance

    def take_back(self, leg: Posting) -> None:
        """As if the leg had never been."""
        if leg.side == "D":
            self.debits_pending -= leg.pending
            self.debits_posted -= leg.posted
        else:
            self.credits_pending -= leg.pending
            self.credits_posted -= leg.posted

    @property
    def left(self) -> int:
        """What a limited account can still give, counting holds and its credit line."""
        return self.credits_posted + self.credit_limit - self.debits_posted - self.debits_pending


@dataclass(slots=True)
class KnownEntry:
    """An entry that the batch refers to: its number, amount and currency, and whether a capture or void has ended it."""

    number: int
    kind: str
    amount: int
    currency: str
    ended: bool


@dataclass(slots=True)
class Loaded:
    """What the batch's Changes are compared with, as it stands under the book lock: of each row the columns that one of them names."""

    next_entry: int
    frontier: Frontier
    time: int
    rows: dict[tuple[str, Key], dict[str, Value]]
    accounts: dict[str, Counters]
    entries: dict[str, KnownEntry]


@dataclass(slots=True)
class Writes:
    """The net effect of a batch, table by table, in column order."""

    puts: dict[str, dict[Key, tuple[tuple[str, ...] | None, Row]]] = field(default_factory=dict)
    """Of each row also columns in which the one that stands says the same; None where none stands yet."""
    appends: dict[str, list[Row]] = field(default_factory=dict)
    entries: list[Row] = field(default_factory=list)
    postings: list[Row] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)
    messages: list[Row] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    leaves: list[Row] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    deletes: dict[str, dict[Key, None]] = field(default_factory=dict)


class Batch:
    """The loaded rows and the writes that the accepted Changes add up to."""

    def __init__(self, loaded: Loaded, at: int) -> None:
        self.loaded = loaded
        self.at = max(at, loaded.time)  # the book has one clock and it never goes back
        self.writes = Writes()

    def decide(self, change: Change) -> HanbitError | None:
        """Accept the Change into the writes, or say why it is turned away; nothing of a Change turned away stays."""
        items: Items = []
        try:
            self._check_requires(change)
            self._check_versions(change.puts)
            self._check_versions(change.deletes)
            self._post(change.entries, items)
        except HanbitError as error:
            return error
        for put in change.puts:
            self._put(put, items)
        for delete in change.deletes:
            self._delete(delete)
        for append in change.appends:
            self._append(append, items)
        for place, message in enumerate(change.messages):
            self._keep(message, place, items)
        for acknowledge in change.acknowledges:
            self._acknowledge(acknowledge, items)
        if items:
            self._add_leaf(items)
        return None

    def _check_requires(self, change: Change) -> None:
        for require in change.requires:
            row = self.loaded.rows.get((require.table, (require.key,)))
            if row is None or row[require.column] != require.value:
                raise require.error

    def _check_versions(self, changed: Iterable[Put | Delete]) -> None:
        for row_change in changed:
            row = self.loaded.rows.get((row_change.table, key_of(row_change)))
            if (0 if row is None else row["version"]) != row_change.version:
                raise Stale(row_change.table)

    def _put(self, put: Put, items: Items) -> None:
        key, table = key_of(put), put.table
        row = {**put.row, "version": put.version + 1}
        values, puts, same = VALUES[table](row), self.writes.puts.setdefault(table, {}), None
        if put.version:
            standing, earlier = self.loaded.rows[table, key], puts.get(key)
            if put.changed is None:
                same = tuple([column for column in INDEXED[table] if standing[column] == row[column]])
            else:
                same = unchanged(table, put.changed)
            if earlier is not None:  # the batch has changed this row before: what stands is what it found
                same = None if earlier[0] is None else tuple([column for column in same if column in earlier[0]])
        self.loaded.rows[table, key] = row
        puts[key] = same, values
        if table in COVERED:
            items.append((table, key, digest(table, values)))

    def _delete(self, delete: Delete) -> None:
        assert delete.table in schema.VOLATILE, delete.table
        self.loaded.rows.pop((delete.table, delete.key), None)
        self.writes.puts.get(delete.table, {}).pop(delete.key, None)  # deletes are written first; a put that follows makes a new row
        self.writes.deletes.setdefault(delete.table, {})[delete.key] = None

    def _append(self, append: Append, items: Items) -> None:
        table = append.table
        values = VALUES[table](append.row)
        self.writes.appends.setdefault(table, []).append(values)
        width = COVERED.get(table)
        if width:
            items.append((table, KEY[table](append.row), digest(table, values[:width])))

    def _keep(self, message: StoredMessage, place: int, items: Items) -> None:
        header = read_header(message.header)
        signer = self.loaded.rows.get(("certificates", (header.kid,)))
        self.writes.headers[header.id] = message.header
        leaf = self.loaded.frontier.size
        covered = (
            leaf,
            place,
            message.hash,
            message.typ,
            header.id,
            message.iss,
            message.jti,
            message.merchant,
            message.tid,
            self.at,
            None if signer is None else signer["revoked_at"],
        )
        self.writes.messages.append((*covered, message.payload, message.signature))
        items.append(("messages", (leaf, place), digest("messages", covered)))

    def _acknowledge(self, acknowledge: Acknowledge, items: Items) -> None:
        for outcome in acknowledge.hashes:
            row = self.loaded.rows.get(("outbox", (outcome,)))
            if row is not None and row["merchant"] == acknowledge.merchant and row["acknowledged_at"] is None:
                told = {**row, "acknowledged_at": self.at, "next_at": None}
                self._put(Put("outbox", told, int(row["version"] or 0)), items)

    def _add_leaf(self, items: Items) -> None:
        frontier = self.loaded.frontier
        data = write_leaf(frontier.size, self.at, items)
        hashed = leaf_hash(data)
        self.writes.leaves.append((frontier.size, ids.encode_base64url(hashed), data.decode("utf-8")))
        self.writes.tiles.extend(frontier.append(hashed))

    def _post(self, entries: tuple[Entry, ...], items: Items) -> None:
        loaded = self.loaded
        accounts, moved = loaded.accounts, list[tuple[Counters, Posting]]()
        begun: list[Entry] = []
        rows: list[tuple[Row, list[Row]]] = []
        try:
            for entry in entries:
                number = loaded.next_entry + len(rows)
                ends = self._begin(entry, number)
                begun.append(entry)
                amount, currency = entry.money.amount_minor, entry.money.currency
                legs: list[Row] = []
                for place, leg in enumerate(entry.postings):
                    account = accounts.get(leg.account)
                    if account is None or account.currency != currency:
                        raise Conflict(f"account {leg.account}")
                    legs.append((number, place, leg.account, leg.side, leg.pending, leg.posted, account.move(leg)))
                    moved.append((account, leg))
                if entry.empties is not None and accounts[entry.empties].left:
                    raise Stale(f"account {entry.empties}")
                rows.append(((number, entry.id, entry.kind, entry.payment, ends, amount, currency, self.at), legs))
        except HanbitError:
            for account, leg in moved:
                account.take_back(leg)
            for entry in reversed(begun):
                self._forget(entry)
            raise
        loaded.next_entry += len(rows)
        for row, legs in rows:
            items.append(("entries", (row[0],), digest("entries", row, *legs)))
            self.writes.entries.append(row)
            self.writes.postings.extend(legs)
        self.writes.accounts.update([leg.account for _, leg in moved])

    def _begin(self, entry: Entry, number: int) -> int | None:
        """Rule 3, then the entry is known to those behind it, also of its own Change; the number of the hold that it ends."""
        entries = self.loaded.entries
        if entry.id in entries:
            raise Conflict(f"entry {entry.id} exists")
        amount, currency = entry.money.amount_minor, entry.money.currency
        ends: int | None = None
        if entry.ends is not None:
            hold = entries.get(entry.ends)
            if hold is None or hold.kind != HOLD or hold.ended:
                raise Stale(f"hold {entry.ends}")
            if amount > hold.amount or currency != hold.currency:
                raise Conflict("more than was held")
            hold.ended, ends = True, hold.number
        entries[entry.id] = KnownEntry(number, entry.kind, amount, currency, ended=False)
        return ends

    def _forget(self, entry: Entry) -> None:
        """Its Change was turned away: the entry never was, and the hold that it ended goes on."""
        del self.loaded.entries[entry.id]
        if entry.ends is not None:
            self.loaded.entries[entry.ends].ended = False


@cache
def unchanged(table: str, changed: tuple[str, ...]) -> tuple[str, ...]:
    """The other columns of a table."""
    return tuple(column for column in COLUMNS[table] if column not in {*changed, *KEYS[table], "version"})


class Header(msgspec.Struct, frozen=True):
    """A header segment: the name under which it is interned (its hash), and the key that signed, empty where the message itself has it."""

    id: str
    kid: str


class _Kid(msgspec.Struct):
    kid: str = ""


@lru_cache(maxsize=_HEADERS_KEPT)
def read_header(segment: str) -> Header:
    """A party's header of one typ is the same bytes every time, so each is read once."""
    try:
        kid = msgspec.json.decode(ids.decode_base64url(segment), type=_Kid).kid
    except (BadInput, msgspec.MsgspecError, UnicodeError, RecursionError):
        kid = ""
    return Header(ids.digest(segment.encode("ascii")), kid)


def key_of(put: Put | Delete) -> Key:
    """The primary key of the row that is put or goes."""
    if isinstance(put, Delete):
        return put.key
    return KEY[put.table](put.row)


def new_counters(kind: str, currency: str, credit_limit: int, counters: tuple[int, int, int, int]) -> Counters:
    """A ledger account of this kind with its four counters: debits and credits pending, debits and credits posted."""
    known = KINDS[kind]
    return Counters(currency, known.limited, known.normal == "C", credit_limit, *counters)
