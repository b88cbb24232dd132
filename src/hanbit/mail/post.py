"""The job that empties `mails`: write down that a letter is about to leave, hand it over, write down that it has left.

Every letter leaves once, whichever of several processes sends it, because the row's version decides who does. Only a process that ends
between the mail server's yes and the second row leaves the letter waiting: it goes a second time, the same bytes under the same Message-ID.
"""

from contextlib import suppress
from typing import Any, Final

from hanbit.db.change import Change, Put, Stale
from hanbit.db.reading import Row
from hanbit.kernel import fail_points
from hanbit.kernel.errors import BadInput
from hanbit.mail.letters import write
from hanbit.mail.smtp import Connection, NotNow, Refused, Waits
from hanbit.parties import brand
from hanbit.payments import contact
from hanbit.payments.gateway import Gateway
from hanbit.payments.mails import link_token

AT_ONCE_MAX: Final = 20
FIRST_WAIT_S: Final = 120
"""Longer than one letter can take, so that nobody else sends it meanwhile; then twice as long each time."""
LONGEST_WAIT_S: Final = 3_600
GIVEN_UP_S: Final = 48 * 3_600
"""A letter that could not be delivered for so long is given up, and the operator sees it among the exceptions."""
_DUE: Final = "SELECT * FROM mails WHERE next_at <= ? ORDER BY next_at, id LIMIT ?"


async def post_due(gateway: Gateway) -> int:
    """Hand over what is due, oldest first; returns how many letters were looked at."""
    if not gateway.settings.smtp_host:
        return 0
    rows = gateway.reader.all(_DUE, gateway.clock.now(), AT_ONCE_MAX)
    if not rows:
        return 0
    connection = Connection(gateway.settings)
    try:
        for number, row in enumerate(rows):
            try:
                await _send(gateway, connection, row)
            except NotNow:
                await _put_off(gateway, rows[number + 1 :])
                break
    finally:
        await connection.close()
    return len(rows)


async def _send(gateway: Gateway, connection: Connection, row: Row) -> None:
    """One letter; NotNow where the server cannot be talked to at all."""
    at = gateway.clock.now()
    wait_s = min(FIRST_WAIT_S << min(row["tries"], 8), LONGEST_WAIT_S)
    leaving = _columns(row) | {"next_at": at + wait_s, "tries": row["tries"] + 1}
    try:
        await gateway.book.commit(Change(puts=(Put("mails", leaving, row["version"]), *contact.link_of(gateway, row, at))))
    except Stale:
        return  # another process sends it, or its link was used at this moment
    leaving["version"] = row["version"] + 1
    try:
        shown = brand.of(gateway.reader, gateway.settings)
        await connection.send(write(gateway.settings, shown, leaving, token=link_token(gateway, row["id"])))
    except BadInput:
        await _end(gateway, leaving, "given_up", "not_a_letter")
    except Refused as error:
        await _end(gateway, leaving, "given_up", f"refused {error}")
    except NotNow as error:
        if at - row["stored_at"] >= GIVEN_UP_S:
            await _end(gateway, leaving, "given_up", f"not_delivered {error}")
        else:
            gateway.observe("mail", "later")
        if not isinstance(error, Waits):
            raise
    else:
        fail_points.reach("mail.accepted")
        await _end(gateway, leaving, "sent", None)


async def _end(gateway: Gateway, row: dict[str, Any], state: str, why: str | None) -> None:
    ended = row | {"state": state, "why": why, "next_at": None, "ended_at": gateway.clock.now()}
    with suppress(Stale):  # so slow that its next hour came, and another process has sent it meanwhile
        await gateway.book.commit(Change(puts=(Put("mails", ended, row["version"]),)))
    gateway.observe("mail", state)


async def _put_off(gateway: Gateway, rows: list[Row]) -> None:
    """What stands behind a letter that found nobody waits too: one look at a server that is away is enough."""
    later = gateway.clock.now() + FIRST_WAIT_S
    if rows:
        with suppress(Stale):
            puts = tuple(Put("mails", _columns(row) | {"next_at": later}, row["version"]) for row in rows)
            await gateway.book.commit(Change(puts=puts))


def _columns(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in row.keys()}  # noqa: SIM118 - a database row
