"""One-time links by which somebody sets his password and second factor: the first time, or anew when they are lost."""

import secrets
from dataclasses import dataclass
from typing import Final

from hanbit.db.change import Put, Value
from hanbit.db.reading import Reader, Row
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound
from hanbit.parties import people
from hanbit.parties.people import Person

TOKEN_BYTES: Final = 32
TOKEN_MAX: Final = 64
LIFE_S: Final = 24 * 3600
OPEN_MAX: Final = 20
"""Links of one person that a new one takes the place of."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link that is known, unused and not too old: whose, and the row that uses it up."""

    token_hash: str
    person: Person
    made_by: str | None
    used: Put


def new(person_id: str, by: str, at: int) -> tuple[str, Put]:
    """A fresh link's token, and the row that holds its hash and who has it in hand."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    row: dict[str, Value] = {"token_hash": _hash(token), "person": person_id, "made_by": by, "expires_at": at + LIFE_S, "used_at": None}
    return token, Put("invitations", row, 0)


def find(reader: Reader, token: str, at: int) -> Invitation:
    """The invitation of a link; otherwise one NotFound, whatever is wrong with it."""
    row = None
    if len(token) <= TOKEN_MAX and token.isascii():
        row = reader.one("SELECT * FROM invitations WHERE token_hash = ?", _hash(token))
    person = None if row is None else people.by_id(reader, row["person"])
    if row is None or person is None or person.state == "suspended" or row["used_at"] is not None or at > row["expires_at"]:
        raise NotFound("this link is unknown, used or too old")
    return Invitation(row["token_hash"], person, row["made_by"], _used(row, at))


def taken_back(reader: Reader, person_id: str, at: int) -> tuple[Put, ...]:
    """The rows by which every open link of somebody stops working."""
    sql = "SELECT * FROM invitations WHERE person = ? AND used_at IS NULL AND expires_at >= ? LIMIT ?"
    rows = reader.all(sql, person_id, at, OPEN_MAX)
    return tuple(_used(row, at) for row in rows)


def _used(row: Row, at: int) -> Put:
    kept = {name: row[name] for name in ("token_hash", "person", "made_by", "expires_at")}
    return Put("invitations", kept | {"used_at": at}, row["version"])


def _hash(token: str) -> str:
    return ids.digest(b"hanbit invitation\0" + token.encode("ascii"))
