"""Decides one batch in memory, in order, under the book lock: each Change holds whole or is turned away whole. Pure: rows in, rows out.

What is decided here for every Change:

 1. every required value still stands
 2. every row to be changed is at the version that the Change was computed from
 3. every entry id is new; a capture or void ends a hold that exists, has not ended and is not smaller
 4. no limited account goes below zero counting holds; one currency an entry; what an entry was to empty is empty behind it, and what it
    was to fill has not been credited with more than the entry allows
 5. each registered key by which a message was signed that is kept is good now, neither ended nor revoked, and it is no later than the
    Change allows: evidence is verified as of when it was stored
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache

import msgspec

from hanbit.crypto.leaves import Written, write_leaves
from hanbit.crypto.merkle import Frontier, Tile, leaf_hash
from hanbit.db import schema
from hanbit.db.change import Acknowledge, Append, Change, Delete, Put, Stale, StoredMessage, Value
from hanbit.db.covered import COLUMNS, COVERED, INDEXED, KEY, KEYS, VALUES, Row, getter
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Conflict, Declined, HanbitError, ProtocolViolation, Unavailable
from hanbit.ledger.chart import KINDS
from hanbit.ledger.entry import HOLD, Entry, Posting

Key = tuple[Value, ...]
_HEADERS_KEPT = 4096
_LIMITED = frozenset(kind.name for kind in KINDS.values() if kind.limited)
_CREDIT_NORMAL = frozenset(kind.name for kind in KINDS.values() if kind.normal == "C")


class Counters(msgspec.Struct, gc=False):
    """One ledger account while the batch is decided: its row, but for whether it is limited, which its kind says."""

    id: str
    kind: str
    currency: str
    credit_limit: int
    debits_pending: int
    credits_pending: int
    debits_posted: int
    credits_posted: int

    def move(self, leg: Posting) -> int:
        """Add one leg; the posted balance behind it. Declined("no_funds") if a limited account would go below zero counting holds."""
        if leg.side == "D":
            pending, posted = self.debits_pending + leg.pending, self.debits_posted + leg.posted
            if leg.pending + leg.posted > 0 and self.kind in _LIMITED and self.credits_posted + self.credit_limit < pending + posted:
                raise Declined("no_funds")
            self.debits_pending, self.debits_posted = pending, posted
        else:
            self.credits_pending += leg.pending
            self.credits_posted += leg.posted
        balance = self.credits_posted - self.debits_posted
        return balance if self.kind in _CREDIT_NORMAL else -balance

    def take_back(self, leg: Posting) -> None:
        """As if the leg had never been."""
        if leg.side == "D":
            self.debits_pending -= leg.pending
            self.debits_posted -= leg.posted
        else:
            self.credits_pending -= leg.pending
            self.credits_posted -= leg.posted

    @property
    def credited(self) -> int:
        """All that it was ever credited with, what is held for it among it."""
        return self.credits_posted + self.credits_pending

    @property
    def left(self) -> int:
        """What a limited account can still give, counting holds and its credit line."""
        return self.credits_posted + self.credit_limit - self.debits_posted - self.debits_pending


class KnownEntry(msgspec.Struct, gc=False):
    """An entry that the batch refers to: its number, amount and currency, and whether a capture or void has ended it (1 or 0)."""

    number: int
    kind: str
    amount: int
    currency: str
    ended: int


class Standing:
    """The rows of one table that the batch's Changes are compared with: of each the columns that one of them names."""

    __slots__ = ("place", "rows", "take")

    def __init__(self, columns: tuple[str, ...], rows: dict[Key, Row]) -> None:
        self.rows = rows
        self.place = {column: place for place, column in enumerate(columns)}
        """Column → where it stands in these rows."""
        self.take: Callable[[Mapping[str, Value]], Row] = getter(columns)
        """A whole row → what is compared of it."""


@dataclass(slots=True)
class Loaded:
    """What the batch's Changes are compared with, as it stands under the book lock."""

    next_entry: int
    frontier: Frontier
    time: int
    rows: dict[str, Standing]
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
    accounts: dict[str, Counters] = field(default_factory=dict)
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
        self._leaves: list[list[Written]] = []

    def decide(self, change: Change) -> HanbitError | None:
        """Accept the Change into the writes, or say why it is turned away; nothing of a Change turned away stays."""
        items: list[Written] = []
        puts = change.puts
        try:
            if change.requires or change.within is not None:
                self._check_requires(change)
            if change.messages:
                self._check_certificates(change.messages)
            keys = [self._check_version(put, KEY[put.table](put.row)) for put in puts]
            for delete in change.deletes:
                self._check_version(delete, delete.key)
            if change.entries:
                self._post(change.entries, items)
        except HanbitError as error:
            return error
        for put, key in zip(puts, keys, strict=True):
            self._put(put, key, items)
        for delete in change.deletes:
            self._delete(delete)
        for append in change.appends:
            self._append(append, items)
        for place, message in enumerate(change.messages):
            self._keep(message, place, items)
        for acknowledge in change.acknowledges:
            self._acknowledge(acknowledge, items)
        if items:
            self._leaves.append(items)
        return None

    def finish(self) -> Writes:
        """Write the leaves of all accepted Changes, and the tree over them; the net effect of the batch is whole."""
        frontier, writes = self.loaded.frontier, self.writes
        data = write_leaves(frontier.size, self.at, self._leaves)
        hashes = [leaf_hash(leaf) for leaf in data]
        texts = [leaf.decode("utf-8") for leaf in data]
        writes.leaves += zip(range(frontier.size, frontier.size + len(data)), ids.encode_digests(hashes), texts, strict=True)
        writes.tiles += frontier.extend(hashes)
        self._leaves.clear()
        return writes

    def _check_requires(self, change: Change) -> None:
        within = change.within
        if within is not None and not within.first <= self.at <= within.last:
            raise within.error
        rows = self.loaded.rows
        for require in change.requires:
            standing = rows[require.table]
            row = standing.rows.get((require.key,))
            if row is None or row[standing.place[require.column]] != require.value:
                raise require.error

    def _check_certificates(self, messages: tuple[StoredMessage, ...]) -> None:
        """What was verified a moment ago may have waited beyond the end of its certificate, or behind its revocation."""
        certificates = self.loaded.rows["certificates"]
        for message in messages:
            signer = certificates.rows.get((read_header(message.header).kid,))
            if signer is None:
                continue
            good = int(signer[certificates.place["not_before"]] or 0) <= self.at <= int(signer[certificates.place["not_after"]] or 0)
            if good and signer[certificates.place["revoked_at"]] is None:
                continue
            if signer[certificates.place["purpose"]] == "gateway-sign":
                raise Unavailable("the payment server's signing key has ended or is revoked")
            raise ProtocolViolation("revoked" if good else "certificate_dates")

    def _check_version(self, changing: Put | Delete, key: Key) -> Key:
        standing = self.loaded.rows[changing.table]
        row = standing.rows.get(key)
        if (0 if row is None else row[standing.place["version"]]) != changing.version:
            raise Stale(changing.table)
        return key

    def _put(self, put: Put, key: Key, items: list[Written]) -> None:
        table, standing = put.table, self.loaded.rows[put.table]
        row = {**put.row, "version": put.version + 1}
        if put.stamped is not None:
            row[put.stamped] = self.at
        values, puts, same = VALUES[table](row), self.writes.puts.setdefault(table, {}), None
        if put.version:
            if put.changed is None:
                stands, place = standing.rows[key], standing.place
                same = tuple([column for column in INDEXED[table] if stands[place[column]] == row[column]])
            else:
                same = unchanged(table, put.changed)
            earlier = puts.get(key)
            if earlier is not None:  # the batch has changed this row before: what stands is what it found
                same = None if earlier[0] is None else tuple([column for column in same if column in earlier[0]])
        standing.rows[key] = standing.take(row)
        puts[key] = same, values
        if table in COVERED:
            items.append((table, key, (table, values)))

    def _delete(self, delete: Delete) -> None:
        assert delete.table in schema.VOLATILE, delete.table
        self.loaded.rows[delete.table].rows.pop(delete.key, None)
        self.writes.puts.get(delete.table, {}).pop(delete.key, None)  # deletes are written first; a put that follows makes a new row
        self.writes.deletes.setdefault(delete.table, {})[delete.key] = None

    def _append(self, append: Append, items: list[Written]) -> None:
        table = append.table
        values = VALUES[table](append.row)
        self.writes.appends.setdefault(table, []).append(values)
        width = COVERED.get(table)
        if width:
            items.append((table, KEY[table](append.row), (table, values[:width])))

    def _keep(self, message: StoredMessage, place: int, items: list[Written]) -> None:
        header, certificates = read_header(message.header), self.loaded.rows["certificates"]
        signer = certificates.rows.get((header.kid,))
        self.writes.headers[header.id] = message.header
        leaf = self.loaded.frontier.size + len(self._leaves)
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
            None if signer is None else signer[certificates.place["revoked_at"]],
        )
        self.writes.messages.append((*covered, message.payload, message.signature))
        items.append(("messages", (leaf, place), ("messages", covered)))

    def _acknowledge(self, acknowledge: Acknowledge, items: list[Written]) -> None:
        for outcome, tid in acknowledge.outcomes:
            outbox = self.loaded.rows["outbox"]
            key = (outcome, acknowledge.merchant, tid)
            stands = outbox.rows.get(key)
            if stands is None:
                continue
            row = dict(zip(outbox.place, stands, strict=True))
            if row["acknowledged_at"] is None:
                told = {**row, "acknowledged_at": self.at, "next_at": None}
                self._put(Put("outbox", told, int(row["version"] or 0)), key, items)

    def _post(self, entries: tuple[Entry, ...], items: list[Written]) -> None:
        loaded, writes = self.loaded, self.writes
        accounts, moved = loaded.accounts, list[tuple[Counters, Posting]]()
        begun: list[Entry] = []
        rows: list[tuple[Row, list[Row]]] = []
        number = loaded.next_entry
        try:
            for entry in entries:
                ends = self._begin(entry, number)
                begun.append(entry)
                money = entry.money
                currency = money.currency
                legs: list[Row] = []
                for leg in entry.postings:
                    name = leg.account
                    account = accounts.get(name)
                    if account is None or account.currency != currency:
                        raise Conflict(f"account {name}")
                    legs.append((number, len(legs), name, leg.side, leg.pending, leg.posted, account.move(leg)))
                    moved.append((account, leg))
                if entry.empties is not None and accounts[entry.empties].left:
                    raise Stale(f"account {entry.empties}")
                if entry.ceiling is not None and accounts[entry.ceiling.account].credited > entry.ceiling.credited:
                    raise Declined(entry.ceiling.reason, entry.ceiling.detail)
                rows.append(((number, entry.id, entry.kind, entry.payment, ends, money.amount_minor, currency, self.at), legs))
                number += 1
        except HanbitError:
            for account, leg in moved:
                account.take_back(leg)
            for entry in reversed(begun):
                self._forget(entry)
            raise
        loaded.next_entry = number
        for row, legs in rows:
            items.append(("entries", (row[0],), ("entries", row, *legs)))
            writes.entries.append(row)
            writes.postings += legs
        for account, _ in moved:
            writes.accounts[account.id] = account

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
            hold.ended, ends = 1, hold.number
        entries[entry.id] = KnownEntry(number, entry.kind, amount, currency, 0)
        return ends

    def _forget(self, entry: Entry) -> None:
        """Its Change was turned away: the entry never was, and the hold that it ended goes on."""
        del self.loaded.entries[entry.id]
        if entry.ends is not None:
            self.loaded.entries[entry.ends].ended = 0


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
