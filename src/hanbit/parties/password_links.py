"""One-time links by which a customer who has forgotten his log-in password sets a new one; the operator's staff hands them over.

They lie among the enrolment codes, as hashes, under a name that is no party's: no code is a link, and no link a code.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from hanbit.db.change import Put, Value
from hanbit.db.reading import Reader
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound
from hanbit.parties import customers
from hanbit.parties.customers import Customer

TOKEN_BYTES: Final = 32
TOKEN_MAX: Final = 64
LIFE_S: Final = 3600
OPEN_MAX: Final = 20
"""Links of one customer that a new one takes the place of."""
_FOR: Final = "password:"


@dataclass(frozen=True, slots=True)
class PasswordLink:
    """A link that is known, unused and not too old: whose, and the row that uses it up."""

    token_hash: str
    customer: Customer
    used: Put


def new(customer_id: str, at: int) -> tuple[str, Put]:
    """A fresh link's token, and the row that holds its hash."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return token, _put(_hash(token), customer_id, at + LIFE_S, None, 0)


def find(reader: Reader, token: str, at: int) -> PasswordLink:
    """The link with this token; otherwise one NotFound, whatever is wrong with it."""
    row = None
    if len(token) <= TOKEN_MAX and token.isascii():
        row = reader.one("SELECT * FROM enrolments WHERE code_hash = ?", _hash(token))
    whose = "" if row is None else str(row["urn"])
    customer = customers.by_id(reader, whose.removeprefix(_FOR)) if whose.startswith(_FOR) else None
    if row is None or customer is None or customer.state != "active" or row["used_at"] is not None or at > row["expires_at"]:
        raise NotFound("this link is unknown, used or too old")
    return PasswordLink(row["code_hash"], customer, _put(row["code_hash"], customer.id, row["expires_at"], at, row["version"]))


def taken_back(reader: Reader, customer_id: str, at: int) -> tuple[Put, ...]:
    """The rows by which every open link of a customer stops working."""
    sql = "SELECT * FROM enrolments WHERE urn = ? AND used_at IS NULL AND expires_at >= ? ORDER BY expires_at LIMIT ?"
    rows = reader.all(sql, _FOR + customer_id, at, OPEN_MAX)
    return tuple(_put(row["code_hash"], customer_id, row["expires_at"], at, row["version"]) for row in rows)


def _put(token_hash: str, customer_id: str, expires_at: int, used_at: int | None, version: int) -> Put:
    row: dict[str, Value] = {"code_hash": token_hash, "urn": _FOR + customer_id, "expires_at": expires_at, "used_at": used_at}
    return Put("enrolments", row, version)


def _hash(token: str) -> str:
    return ids.digest(b"hanbit password link\0" + token.encode("ascii"))
