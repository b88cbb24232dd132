"""Reads the kept messages: one of a payment by its hash or number, all of a payment in the order in which they were stored.

What belongs to no payment has an empty tid; what belongs to no merchant either has both empty.
"""

import json
from collections.abc import Iterator

from hanbit.db.reading import Reader
from hanbit.db.rows import Row, stream
from hanbit.db.schema import OF_KEYS
from hanbit.evidence.check import Stored
from hanbit.evidence.record import rebuild

_SELECT = (
    "SELECT m.leaf, m.place, m.hash, m.typ, m.merchant, m.tid, m.at, h.segment, m.payload, m.signature "
    "FROM messages m JOIN headers h ON h.id = m.header "
)
_LAST = 126
"""The last letter that a tid may have."""
_BY_PAYMENT = "ORDER BY m.tid, m.merchant, m.leaf, m.place"
_SELECT_NEXT = _SELECT + "WHERE (m.leaf, m.place) > (?, ?) ORDER BY m.leaf, m.place LIMIT 1"


def compact(reader: Reader, merchant: str, tid: str, message_hash: str) -> str | None:
    """The very bytes of a kept message of this payment, or None."""
    row = reader.one(_SELECT + "WHERE m.tid = ? AND m.merchant = ? AND m.hash = ?", tid, merchant, message_hash)
    return None if row is None else rebuild(row["segment"], row["payload"], row["signature"])


def numbered(reader: Reader, iss: str, jti: str) -> str | None:
    """The very bytes of a party's message under this number, or None."""
    row = reader.one(_SELECT + "WHERE m.jti = ? AND m.iss = ?", jti, iss)
    return None if row is None else rebuild(row["segment"], row["payload"], row["signature"])


def is_known(reader: Reader, merchant: str, tid: str, message_hash: str) -> bool:
    """Whether these very bytes are in the evidence of this payment, that is: were verified before."""
    sql = "SELECT 1 FROM messages WHERE tid = ? AND merchant = ? AND hash = ?"
    return reader.one(sql, tid, merchant, message_hash) is not None


def are_kept(reader: Reader, merchant: str, tid: str, typ: str, number: int) -> bool:
    """Whether so many messages of this typ are kept of a payment (not for an empty tid, under which there are too many to look at)."""
    sql = "SELECT count(*) FROM (SELECT 1 FROM messages WHERE tid = ? AND merchant = ? AND typ = ? LIMIT ?) AS found"
    row = reader.one(sql, tid, merchant, typ, number)
    return row is not None and row[0] >= number


def are_kept_about_keys(reader: Reader, merchant: str, typ: str, number: int) -> bool:
    """Whether so many messages of this typ, one of those about keys, are kept of a merchant."""
    sql = f"SELECT count(*) FROM messages WHERE {OF_KEYS} AND merchant = ? AND typ = ?"  # noqa: S608 - our own words
    row = reader.one(sql, merchant, typ)
    return row is not None and row[0] >= number


def number_is_used(reader: Reader, iss: str, jti: str) -> bool:
    """Whether a kept message of this party has this number: another one with it can never be kept."""
    return reader.one("SELECT 1 FROM messages WHERE jti = ? AND iss = ?", jti, iss) is not None


def answer_to(reader: Reader, merchant: str, tid: str, request_hash: str, typ: str) -> str | None:
    """The very bytes of the answer of this typ that was stored with a request, or None if none was.

    A request and its answer are neighbours, because one Change stored both: however often a merchant asks, one row is read.
    """
    sql = "SELECT leaf, place FROM messages WHERE tid = ? AND merchant = ? AND hash = ?"
    request = reader.one(sql, tid, merchant, request_hash)
    row = None if request is None else reader.one(_SELECT_NEXT, request["leaf"], request["place"])
    if row is None or row["typ"] != typ or json.loads(row["payload"]).get("req") != request_hash:
        return None
    return rebuild(row["segment"], row["payload"], row["signature"])


def of_payment(reader: Reader, merchant: str, tid: str) -> list[tuple[str, str]]:
    """Typ and compact bytes of every message of a payment, oldest first."""
    rows = reader.all(_SELECT + "WHERE m.merchant = ? AND m.tid = ? ORDER BY m.leaf, m.place", merchant, tid)
    return [(row["typ"], rebuild(row["segment"], row["payload"], row["signature"])) for row in rows]


def stored_of_payment(reader: Reader, merchant: str, tid: str) -> list[Stored]:
    """Every message of a payment as it stands in the store, oldest first, to be verified anew."""
    rows = reader.all(_SELECT + "WHERE m.merchant = ? AND m.tid = ? ORDER BY m.leaf, m.place", merchant, tid)
    return [_stored(row) for row in rows]


def share(reader: Reader, part: int, parts: int) -> Iterator[Stored]:
    """Every kept message of one of `parts` shares of the payments, payment by payment; what belongs to none is in the first share.

    Read while it is asked for, so that a large book needs no large memory.
    """
    letters = [chr(number) for number in range(1, _LAST + 1) if number % parts == part]
    chosen = f"substr(m.tid, 1, 1) IN ({', '.join('?' * len(letters))})"
    if part == 0:
        chosen = f"({chosen} OR m.tid = '' OR substr(m.tid, 1, 1) > ?)"  # and what no tid may begin with: nothing goes unseen
        letters.append(chr(_LAST))
    for row in stream(reader.connection, f"{_SELECT}WHERE {chosen} {_BY_PAYMENT}", letters):
        yield _stored(row)


def _stored(row: Row) -> Stored:
    return Stored(row["merchant"], row["tid"], row["hash"], rebuild(row["segment"], row["payload"], row["signature"]), row["at"])
