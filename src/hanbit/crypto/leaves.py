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
_encode = msgspec.json.Encoder().encode

Key = tuple[str | int, ...]


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


def read_leaf(unverified: bytes) -> Leaf:
    """Take a leaf's data apart; ProtocolViolation if these bytes are none."""
    try:
        number, at, items = _decoder.decode(unverified)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("leaf", "these bytes are no leaf") from error
    return Leaf(number, at, tuple(Item(table, key, hashed) for table, key, hashed in items))


_decoder = msgspec.json.Decoder(tuple[int, int, list[tuple[str, Key, bytes]]])
