"""What a leaf of the log says: which rows one Change wrote, each by table, key and hash. Pure, and readable without this program.

    leaf  = [number, time, [[table, [key, …], base64 SHA-256 of the row], …]]
    row   = [table, [column, …]]                       an entry is one row with its legs: ["entries", [column, …], [leg's column, …], …]

Both are JSON without spaces in UTF-8 (RFC 8259; no escape that is not needed), hashes in plain base64, as `openssl base64` prints them.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hanbit.kernel.errors import ProtocolViolation

DATA_MAX = 8 * 1024 * 1024
"""Bytes of one leaf; what was in a book before its log is filed in leaves of 500 rows."""
_encoder = msgspec.json.Encoder()
_encode, _encode_lines = _encoder.encode, _encoder.encode_lines

Key = tuple[str | int, ...]
Written = tuple[str, Sequence[str | int | None], tuple[str | Sequence[str | int | None], ...]]
"""A row that a Change has written: its table, its key, and all of it as it is hashed, the table first."""


_sha256 = hashlib.sha256


class Item(NamedTuple):
    """One row as a leaf names it."""

    table: str
    key: Key
    digest: bytes


class Leaf(NamedTuple):
    """One Change: which, when, and what it wrote."""

    number: int
    at: int
    items: tuple[Item, ...]


def digest(table: str, *rows: Sequence[str | int | None]) -> bytes:
    """The hash of a row (of an entry: with its legs) in canonical bytes."""
    return hashlib.sha256(_encode((table, *rows))).digest()


def write_leaf(number: int, at: int, items: Sequence[tuple[str, Sequence[str | int | None], bytes]]) -> bytes:
    """The data of a leaf."""
    return _encode((number, at, items))


def write_leaves(first: int, at: int, changes: Sequence[Sequence[Written]]) -> list[bytes]:
    """The data of the leaves of a batch's Changes, the first of which has this number: what `digest` and `write_leaf` make, in one go."""
    rows = [row for change in changes for _, _, row in change]
    digests = iter([_sha256(line).digest() for line in _encode_lines(rows).splitlines()])
    leaves = [(number, at, [(table, key, next(digests)) for table, key, _ in change]) for number, change in enumerate(changes, first)]
    return _encode_lines(leaves).splitlines()


def read_leaf(unverified: bytes) -> Leaf:
    """Take a leaf's data apart; ProtocolViolation if these bytes are none."""
    try:
        number, at, items = _decoder.decode(unverified)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("leaf", "these bytes are no leaf") from error
    return Leaf(number, at, tuple(Item(table, key, hashed) for table, key, hashed in items))


_decoder = msgspec.json.Decoder(tuple[int, int, list[tuple[str, Key, bytes]]])
