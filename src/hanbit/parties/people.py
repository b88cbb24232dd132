"""People who work in a console: the operator's staff and each merchant's, with one role each."""

import re
from typing import Final

import msgspec

from hanbit.db.change import Put, Value
from hanbit.db.reading import Reader, Row, columns
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.parties.customers import LANGUAGES, NAME_MAX

ROLES: Final[dict[str, tuple[str, ...]]] = {
    "operator": ("viewer", "support", "admin", "auditor"),
    "merchant": ("viewer", "cashier", "admin"),
}
"""Face → its roles. What each may do stands in `web/permissions.py`."""
LOGIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,62}[a-z0-9])?")
"""Small ASCII letters only: no two names of staff look alike."""
ADMIN: Final = "admin"
PEOPLE_MAX: Final = 500
"""People of one console that a list shows; an institution with more has a directory of its own."""


class Person(msgspec.Struct, frozen=True):
    """Somebody who works in a console; `merchant` is whose, in the merchants' console."""

    id: str
    version: int
    face: str
    merchant: str | None
    login: str
    name: str
    role: str
    password: str | None
    language: str
    webauthn_user: str
    state: str
    created_at: int
    handed_by: str | None
    """The actor who made the link by which password and factor were set."""
    confirmed_by: str | None
    """Who else has said that the account is his alone."""

    @property
    def actor(self) -> str:
        """Who did it, in the audit."""
        return f"person:{self.id}"

    @property
    def works(self) -> bool:
        """Whether he may log in."""
        return self.state == "active" and self.password is not None

    def put(self, **changed: str | None) -> Put:
        """The row with what changes."""
        return Put("people", msgspec.structs.asdict(msgspec.structs.replace(self, **changed)), self.version)


_SELECT = f"SELECT {columns('people', Person)} FROM people "  # noqa: S608 - names of our own


def _person(row: Row | None) -> Person | None:
    return None if row is None else Person(*row)


def by_login(reader: Reader, login: str) -> Person | None:
    """The person with this login name, in whichever console."""
    return _person(reader.one(_SELECT + "WHERE login = ?", login))


def by_id(reader: Reader, person_id: str) -> Person | None:
    """The person with this id."""
    return _person(reader.one(_SELECT + "WHERE id = ?", person_id))


def of_console(reader: Reader, merchant: str | None) -> list[Person]:
    """Everybody of the operator's console (None) or of one merchant's, oldest first."""
    sql = _SELECT + "WHERE merchant IS NULL ORDER BY created_at, id LIMIT ?"
    if merchant is None:
        return [Person(*row) for row in reader.all(sql, PEOPLE_MAX)]
    return [Person(*row) for row in reader.all(sql.replace("IS NULL", "= ?"), merchant, PEOPLE_MAX)]


def new_person(*, face: str, merchant: str | None, login: str, name: str, role: str, language: str, at: int) -> Put:
    """The row of somebody who is invited; he works once he has set a password and a second factor."""
    if role not in ROLES[face]:
        raise BadInput(f"role: {', '.join(ROLES[face])}")
    ids.check(LOGIN, login, "login: 1 to 64 of a-z, 0-9 and inner . _ @ + -")
    if not 1 <= len(name.strip()) <= NAME_MAX or not name.isprintable():
        raise BadInput(f"name: 1 to {NAME_MAX} characters")
    if language not in LANGUAGES:
        raise BadInput("language: ko or en")
    row: dict[str, Value] = {
        "id": ids.new_token(),
        "face": face,
        "merchant": merchant,
        "login": login,
        "name": name.strip(),
        "role": role,
        "password": None,
        "language": language,
        "webauthn_user": ids.new_token(),
        "state": "invited",
        "created_at": at,
        "handed_by": None,
        "confirmed_by": None,
    }
    return Put("people", row, version=0)
