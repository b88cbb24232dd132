"""The Change: everything that one step makes durable together (state, money, proof, and what must still be told).

A Change is plain data. It names what it was computed from (versions, required values), so that the commit can decide under the book
lock whether it still holds; a Change that does not is turned away whole, by itself, and nothing of it stays.
"""

from collections.abc import Mapping

import msgspec

from hanbit.kernel.errors import HanbitError, Unavailable
from hanbit.ledger.entry import Entry

Value = str | int | None
Row = Mapping[str, Value]


class Put(msgspec.Struct, frozen=True):
    """The next version of a row that changes. `version` is the one it was computed from; 0 means that there must be none yet.

    `changed` may name the columns that differ from that version, so that only they are written; the log covers the whole row either way.
    `stamped` may name a column that takes the book's own time, where others are judged by when this came to stand.
    """

    table: str
    row: Row
    version: int
    changed: tuple[str, ...] | None = None
    stamped: str | None = None


class Append(msgspec.Struct, frozen=True):
    """A row of a table in which rows are only added."""

    table: str
    row: Row


class Delete(msgspec.Struct, frozen=True):
    """A row of a volatile table goes; turned away if it has moved on since `version` was read."""

    table: str
    key: tuple[str, ...]
    version: int


class Require(msgspec.Struct, frozen=True):
    """Under the book lock this row must exist and hold this value, else `error` turns the Change away."""

    table: str
    key: str
    column: str
    value: Value
    error: HanbitError


class Within(msgspec.Struct, frozen=True):
    """Under the book lock it is this second at the earliest and that at the latest, else `error` turns the Change away."""

    first: int
    last: int
    error: HanbitError


class Acknowledge(msgspec.Struct, frozen=True):
    """This merchant has stored these outcomes: the outbox need not tell them again. Those that are not its own do nothing."""

    merchant: str
    outcomes: tuple[tuple[str, str], ...]
    """Hash and tid of each."""


class StoredMessage(msgspec.Struct, frozen=True):
    """A signed message as the book keeps it: its header interned, its payload and signature as they were sent."""

    hash: str
    typ: str
    header: str
    payload: str
    signature: str
    iss: str
    jti: str
    merchant: str
    tid: str


class Change(msgspec.Struct, frozen=True):
    """One step's effect; empty parts cost nothing."""

    puts: tuple[Put, ...] = ()
    requires: tuple[Require, ...] = ()
    entries: tuple[Entry, ...] = ()
    messages: tuple[StoredMessage, ...] = ()
    appends: tuple[Append, ...] = ()
    acknowledges: tuple[Acknowledge, ...] = ()
    deletes: tuple[Delete, ...] = ()
    within: Within | None = None


class Stale(Unavailable):
    """A row that the Change was computed from has moved on: read again and compute again."""

    code = "stale"
