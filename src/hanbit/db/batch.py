"""Decides one batch in memory, in order, under the book lock: each Change holds whole or is turned away whole. Pure: rows in, rows out.

What is decided here for every Change:

 1. every required value still stands
 2. every row to be changed is at the version that the Change was computed from
 3. every entry id is new; a capture or void ends a hold that exists, has not ended and is not smaller
 4. no limited account goes below zero counting holds; one currency an entry; what an entry was to empty is empty behind it
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from hanbit.crypto.leaves import digest, write_leaf
from hanbit.crypto.merkle import Frontier, Tile, leaf_hash
from hanbit.db import schema
from hanbit.db.change import Acknowledge, Append, Change, Delete, Put, Stale, StoredMessage, Value
from hanbit.db.covered import COVERED, INDEXED, KEY, VALUES, Row
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Conflict, Declined, HanbitError
from hanbit.ledger.chart import KINDS, normal_balance
from hanbit.ledger.entry import HOLD, Entry

Key = tuple[Value, ...]
Items = list[tuple[str, Key, bytes]]
"""What one Change has written so far: table, key and hash of each row."""
_HEADERS_KEPT = 4096


@dataclass(slots=True)
class Counters:
    """One ledger account while the batch is decided."""

    kind: str
    currency: str
    limited: bool
    credit_limit: int
    debits_pending: int
    credits_pending: int
    debits_posted: int
    credits_posted: int


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
    """Of each row also the indexed columns in which the one that stands says the same; None where none stands yet."""
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
            same = tuple([column for column in INDEXED[table] if standing[column] == row[column]])
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
        undo: list[tuple[Counters, int, int, int, int]] = []
        begun: list[Entry] = []
        rows: list[tuple[Row, list[Row]]] = []
        try:
            for entry in entries:
                number = loaded.next_entry + len(rows)
                ends = self._begin(entry, number)
                begun.append(entry)
                legs: list[Row] = []
                for leg_number, leg in enumerate(entry.postings):
                    account = loaded.accounts.get(leg.account)
                    if account is None or account.currency != entry.money.currency:
                        raise Conflict(f"account {leg.account}")
                    undo.append((account, account.debits_pending, account.credits_pending, account.debits_posted, account.credits_posted))
                    move(account, leg.side, leg.pending, leg.posted)
                    balance = normal_balance(account.kind, account.debits_posted, account.credits_posted)
                    legs.append((number, leg_number, leg.account, leg.side, leg.pending, leg.posted, balance))
                if entry.empties is not None and left(loaded.accounts[entry.empties]):
                    raise Stale(f"account {entry.empties}")
                amount, currency = entry.money.amount_minor, entry.money.currency
                rows.append(((number, entry.id, entry.kind, entry.payment, ends, amount, currency, self.at), legs))
        except HanbitError:
            for account, *counters in reversed(undo):
                account.debits_pending, account.credits_pending, account.debits_posted, account.credits_posted = counters
            for entry in reversed(begun):
                self._forget(entry)
            raise
        loaded.next_entry += len(rows)
        for row, legs in rows:
            items.append(("entries", (row[0],), digest("entries", row, *legs)))
            self.writes.entries.append(row)
            self.writes.postings.extend(legs)
            self.writes.accounts.update(str(leg[2]) for leg in legs)

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


def move(account: Counters, side: str, pending: int, posted: int) -> None:
    """Add one leg to an account's counters; Declined("no_funds") if a limited account would go below zero counting holds."""
    if side == "D":
        account.debits_pending += pending
        account.debits_posted += posted
        if account.limited and pending + posted > 0 and left(account) < 0:
            account.debits_pending -= pending
            account.debits_posted -= posted
            raise Declined("no_funds")
    else:
        account.credits_pending += pending
        account.credits_posted += posted


def left(account: Counters) -> int:
    """What a limited account can still give, counting holds and its credit line."""
    return account.credits_posted + account.credit_limit - account.debits_posted - account.debits_pending


def key_of(put: Put | Delete) -> Key:
    """The primary key of the row that is put or goes."""
    if isinstance(put, Delete):
        return put.key
    return KEY[put.table](put.row)


def new_counters(row: Mapping[str, Value]) -> Counters:
    """An account's counters from its row."""
    return Counters(
        kind=str(row["kind"]),
        currency=str(row["currency"]),
        limited=KINDS[str(row["kind"])].limited,
        credit_limit=int(row["credit_limit"] or 0),
        debits_pending=int(row["debits_pending"] or 0),
        credits_pending=int(row["credits_pending"] or 0),
        debits_posted=int(row["debits_posted"] or 0),
        credits_posted=int(row["credits_posted"] or 0),
    )
