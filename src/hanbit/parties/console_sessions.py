"""Log-ins of people in consoles: a random token in a cookie, its hash in the book, an end after fifteen idle minutes.

password right ──▶ half a session (no second factor yet, five minutes) ──▶ a session under a new token
                                                 step-up once more ──────▶ the same under a new token
"""

import secrets
from typing import Final

import msgspec

from hanbit.db.change import Put
from hanbit.db.reading import Reader, columns
from hanbit.kernel import ids
from hanbit.parties.people import Person
from hanbit.parties.sessions import LIFE_MAX_S, TOKEN_BYTES, TOKEN_MAX, TOUCH_EVERY_S

IDLE_S: Final = 15 * 60
HALF_LIFE_S: Final = 5 * 60
"""How long somebody may take between password and second factor."""
FRESH_S: Final = 5 * 60
"""For so long after the second factor was shown dangerous acts are open."""
SESSIONS_SHOWN_MAX: Final = 50
SESSIONS_ENDED_MAX: Final = 10_000
"""Far more than can be opened while they live: whoever opens many hides none behind them when all are to end."""


class ConsoleSession(msgspec.Struct, frozen=True):
    """One browser's log-in; `stepped_up_at` is when the second factor was shown last, None while it is still to come."""

    token_hash: str
    version: int
    person: str
    face: str
    created_at: int
    seen_at: int
    stepped_up_at: int | None
    ended_at: int | None

    @property
    def whole(self) -> bool:
        """Whether both factors were shown."""
        return self.stepped_up_at is not None

    def is_fresh(self, at: int) -> bool:
        """Whether dangerous acts are open."""
        return self.stepped_up_at is not None and at <= self.stepped_up_at + FRESH_S

    def put(self, **changed: int) -> Put:
        """The row with what changes."""
        return Put("console_sessions", msgspec.structs.asdict(msgspec.structs.replace(self, **changed)), self.version)


_WITH_PERSON = (
    f"SELECT {columns('console_sessions', ConsoleSession)}, {columns('people', Person)} "  # noqa: S608 - names of our own
    "FROM console_sessions JOIN people ON people.id = console_sessions.person WHERE console_sessions.token_hash = ?"
)
_OF_PERSON = (
    f"SELECT {columns('console_sessions', ConsoleSession)} FROM console_sessions "  # noqa: S608 - names of our own
    "WHERE person = ? AND ended_at IS NULL AND seen_at >= ? ORDER BY created_at DESC LIMIT ?"
)
_SESSION_COLUMNS = len(ConsoleSession.__struct_fields__)


def open_session(person: Person, at: int, *, stepped_up: bool, since: int | None = None) -> tuple[str, Put]:
    """A fresh token for the cookie, and the row that holds its hash; `since` is when this log-in began, if it goes on from another."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    began = at if since is None else since
    token_hash = ids.digest(token.encode("ascii"))
    return token, ConsoleSession(token_hash, 0, person.id, person.face, began, at, at if stepped_up else None, None).put()


def find(reader: Reader, token: str | None, *, face: str, at: int) -> tuple[ConsoleSession, Person] | None:
    """The live session of a cookie's token in this console, with its person; None also when he may not work any more."""
    if not token or len(token) > TOKEN_MAX or not token.isascii():
        return None
    row = reader.one(_WITH_PERSON, ids.digest(token.encode("ascii")))
    if row is None:
        return None
    session, person = ConsoleSession(*row[:_SESSION_COLUMNS]), Person(*row[_SESSION_COLUMNS:])
    return (session, person) if session.face == person.face == face and person.works and _is_live(session, at) else None


def of_person(reader: Reader, person_id: str, at: int, at_most: int = SESSIONS_ENDED_MAX) -> list[ConsoleSession]:
    """The live sessions of somebody, newest first."""
    rows = (ConsoleSession(*row) for row in reader.all(_OF_PERSON, person_id, at - IDLE_S, at_most))
    return [session for session in rows if _is_live(session, at)]


def touch(session: ConsoleSession, at: int) -> Put | None:
    """The row that keeps the session alive, when it is time to write one; half a session is not kept alive."""
    return session.put(seen_at=at) if session.whole and at >= session.seen_at + TOUCH_EVERY_S else None


def _is_live(session: ConsoleSession, at: int) -> bool:
    idle_s = IDLE_S if session.whole else HALF_LIFE_S
    return session.ended_at is None and at <= min(session.seen_at + idle_s, session.created_at + LIFE_MAX_S)
