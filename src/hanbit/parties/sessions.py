"""Web sessions of customers: a random token in a cookie, its hash in the book, an end after five idle minutes."""

import secrets

import msgspec

from hanbit.db.change import Put
from hanbit.db.reading import Reader, columns
from hanbit.kernel import ids
from hanbit.parties.customers import Customer
from hanbit.parties.visits import DISOWNED, REASONS, Whence

NOWHERE = Whence()

TOKEN_BYTES = 32
TOKEN_MAX = 64
LIFE_MAX_S = 12 * 3600
"""However busy, a session ends half a day after its login."""
TOUCH_EVERY_S = 30
"""`seen_at` is written at most so often: a request is not worth a commit each."""


class WebSession(msgspec.Struct, frozen=True):
    """A live browser login."""

    token_hash: str
    version: int
    customer: str
    method: str
    created_at: int
    seen_at: int
    ended_at: int | None
    browser: str | None = None
    network: str | None = None
    unusual: str | None = None
    """Why this log-in was unusual, or what its owner has said since (`visits.py`)."""


_WITH_CUSTOMER = (
    f"SELECT {columns('sessions', WebSession)}, {columns('customers', Customer)} "  # noqa: S608 - names of our own
    "FROM sessions JOIN customers ON customers.id = sessions.customer WHERE sessions.token_hash = ?"
)
_OF_CUSTOMER = (
    f"SELECT {columns('sessions', WebSession)} FROM sessions "  # noqa: S608 - names of our own
    "WHERE customer = ? AND ended_at IS NULL AND seen_at >= ? AND created_at >= ? ORDER BY created_at DESC LIMIT ?"
)
_UNUSUAL = (
    f"SELECT {columns('sessions', WebSession)} FROM sessions "  # noqa: S608 - names of our own
    f"WHERE customer = ? AND unusual IN ({', '.join('?' * len(REASONS))}) ORDER BY created_at DESC LIMIT ?"
)
_SESSION_COLUMNS = len(WebSession.__struct_fields__)


def open_session(customer: str, method: str, at: int, whence: Whence = NOWHERE, unusual: str | None = None) -> tuple[str, Put]:
    """A fresh token for the cookie, and the row that holds its hash."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    session = WebSession(ids.digest(token.encode("ascii")), 0, customer, method, at, at, None, whence.browser, whence.network, unusual)
    return token, _put(session)


def find(reader: Reader, token: str | None, *, at: int, idle_s: int) -> tuple[WebSession, Customer] | None:
    """The live session of a cookie's token with its customer, or None."""
    if not token or len(token) > TOKEN_MAX or not token.isascii():
        return None
    row = reader.one(_WITH_CUSTOMER, ids.digest(token.encode("ascii")))
    if row is None:
        return None
    session = WebSession(*row[:_SESSION_COLUMNS])
    if session.ended_at is not None or at > min(session.seen_at + idle_s, session.created_at + LIFE_MAX_S):
        return None
    return session, Customer(*row[_SESSION_COLUMNS:])


def of_customer(reader: Reader, customer: str, *, at: int, idle_s: int, at_most: int) -> list[WebSession]:
    """A customer's live sessions, the latest log-in first."""
    rows = reader.all(_OF_CUSTOMER, customer, at - idle_s, at - LIFE_MAX_S, at_most)
    return [WebSession(*row) for row in rows]


def touch(session: WebSession, at: int) -> Put | None:
    """The row that keeps the session alive, when it is time to write one."""
    if at < session.seen_at + TOUCH_EVERY_S:
        return None
    return _put(msgspec.structs.replace(session, seen_at=at))


def end(session: WebSession, at: int) -> Put:
    """The row that ends the session."""
    return _put(msgspec.structs.replace(session, ended_at=at))


def answered(session: WebSession, answer: str, at: int) -> Put:
    """What the owner says of an unusual log-in; one that he disowns ends."""
    ended_at = session.ended_at or at if answer == DISOWNED else session.ended_at
    return _put(msgspec.structs.replace(session, unusual=answer, ended_at=ended_at))


def unusual_of(reader: Reader, customer: str, at_most: int) -> list[WebSession]:
    """A customer's unusual log-ins of which he has said nothing yet, the latest first."""
    return [WebSession(*row) for row in reader.all(_UNUSUAL, customer, *REASONS, at_most)]


def _put(session: WebSession) -> Put:
    return Put("sessions", msgspec.structs.asdict(session), session.version)
