"""Removes what can matter to nobody any more: used openings, ended sessions, old enrolment codes, throttles at rest.

Why nothing comes back with them:

openings    A row keeps a recorded login from being opened twice. It bears the later of the login's moment and its sealing key's, and
            goes when every sealing key that is left is younger: the one under which that login was sealed is destroyed, so its
            bytes open no more, whatever a clock says later.
sessions    `sessions.find` refuses a session half a day after its login, and one that it does not find; `console_sessions.find` too. A
            customer's sessions stay for three months, so that a log-in from elsewhere is noticed (`parties/visits.py`).
mails       A letter has left or was given up a month ago; one that waits has no end and stays.
email_links `contact.confirm` refuses a link after its day, used or not, and one that it does not find.
invitations `invitations.find` refuses a link after its day, used or not, and one that it does not find, in the same words.
enrolments  `enrolment.use_code` refuses a code after its day, used or not, and one that it does not find, in the same words.
throttles   A factor that was left alone for a day: whoever guesses gets five tries for that day instead of the 24 that he had by
            trying once an hour, so forgetting gives nothing away. A count that was cleared says no more than no row; it rests as long.
"""

from contextlib import suppress
from dataclasses import dataclass

from hanbit.db.change import Change, Delete, Stale
from hanbit.parties import enrolment, invitations, sessions, throttle, visits
from hanbit.payments.gateway import Gateway

PURGED_AT_ONCE_MAX = 100
"""Rows of a table that one Change removes: a book that was left alone for a year is cleared without holding up a payment."""
MARGIN_S = 3600
"""After the last moment at which a row can matter, for whoever looks at what happened an hour ago."""
MAIL_KEPT_S = 30 * 24 * 3600
"""A letter that has left, or was given up: so long the staff can see that."""
THROTTLE_KEPT_S = 24 * throttle.LONGEST_WAIT_S


@dataclass(frozen=True, slots=True)
class Rest:
    """When the rows of a table are at rest: `instant` lies before the bound."""

    key: str
    instant: str
    kept_s: int


RESTS: dict[str, Rest] = {
    "openings": Rest("ctx", "at", MARGIN_S),
    "sessions": Rest("token_hash", "created_at", visits.KNOWN_S),
    "grants": Rest("grant_hash", "expires_at", MARGIN_S),
    "console_sessions": Rest("token_hash", "created_at", sessions.LIFE_MAX_S + MARGIN_S),
    "invitations": Rest("token_hash", "expires_at", invitations.LIFE_S),
    "enrolments": Rest("code_hash", "expires_at", enrolment.CODE_LIFE_S),
    "throttles": Rest("factor", "wait_until", THROTTLE_KEPT_S),
    "mails": Rest("id", "ended_at", MAIL_KEPT_S),
    "email_links": Rest("token_hash", "expires_at", MARGIN_S),
}


async def purge(gateway: Gateway) -> int:
    """Remove a bounded portion of each table; whatever is at rest beyond it goes at the next tick."""
    for table, rest in RESTS.items():
        before = gateway.clock.now() - rest.kept_s
        if table == "openings":
            before = min(before, gateway.keyring.oldest_seal_at)
        sql = f"SELECT {rest.key}, version FROM {table} WHERE {rest.instant} < ? ORDER BY {rest.instant} LIMIT ?"  # noqa: S608 - names of our own
        rows = gateway.reader.all(sql, before, PURGED_AT_ONCE_MAX)
        if rows:
            with suppress(Stale):  # another process removes them, or one was used at this moment: the next tick looks again
                await gateway.book.commit(Change(deletes=tuple(Delete(table, (row[0],), row[1]) for row in rows)))
    await _forget_unknown(gateway)
    return 0


async def _forget_unknown(gateway: Gateway) -> None:
    """Counts of names that belong to nobody beyond the number that is kept; in the order of their MACs, so nobody chooses which."""
    sql = "SELECT factor, version FROM throttles WHERE factor >= ? AND factor < ? ORDER BY factor LIMIT ? OFFSET ?"
    rows = gateway.reader.all(sql, throttle.UNKNOWN, throttle.UNKNOWN_END, PURGED_AT_ONCE_MAX, throttle.UNKNOWN_KEPT)
    if rows:
        with suppress(Stale):  # one was tried once more at this moment: the next tick forgets the others
            await gateway.book.commit(Change(deletes=tuple(Delete("throttles", (row[0],), row[1]) for row in rows)))
