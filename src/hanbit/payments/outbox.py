"""R11: outcomes that a merchant must hear, told from the book until they are acknowledged."""

import asyncio
from contextlib import suppress

from hanbit.db.change import Acknowledge, Append, Change, Put, Stale, Value
from hanbit.db.reading import Row
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel.errors import Unavailable
from hanbit.payments.gateway import Gateway, spend_unasked
from hanbit.payments.payment import Payment
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.signed import SignedMessage

TELL_AGAIN_S = 2
"""What was not acknowledged is told again after so long, then ever more rarely."""
LONGEST_WAIT_S = 300
ABSENT_WAIT_S = 3600
"""Whoever is away is told when its line comes up: until then each look at an outcome is a row written for nothing."""
TOLD_AT_ONCE_MAX = 200
TOLD_TO_ONE_MAX = 10_000


def to_tell(message: SignedMessage[Message], *, merchant: str, tid: str, at: int) -> Append:
    """The row by which this merchant is told this message until it acknowledges it."""
    row: dict[str, Value] = {
        "hash": message.hash,
        "version": 1,
        "merchant": merchant,
        "tid": tid,
        "next_at": at + TELL_AGAIN_S,
        "tries": 0,
        "stored_at": at,
        "acknowledged_at": None,
    }
    return Append("outbox", row)


async def tell(gateway: Gateway, merchant_id: str, outcome: str) -> None:
    """Send an outcome that has just been stored; if the line is down the outbox tells it later."""
    try:
        await gateway.line.tell(merchant_id, outcome)
    except Unavailable:
        gateway.observe("outbox", "line_down")


async def tell_again(gateway: Gateway, payment: Payment) -> None:
    """Send the stored outcome of a decided payment once more: the very same bytes."""
    outcome = payment.outcome_hash
    compact = None if outcome is None else evidence.compact(gateway.reader, payment.merchant, payment.tid, outcome)
    if compact is not None:
        await tell(gateway, payment.merchant, compact)


async def tell_due(gateway: Gateway) -> int:
    """Tell what is due, oldest first; returns how many outcomes were tried."""
    at = gateway.clock.now()
    sql = "SELECT * FROM outbox WHERE next_at <= ? ORDER BY next_at LIMIT ?"
    return await _tell_rows(gateway, gateway.reader.all(sql, at, TOLD_AT_ONCE_MAX))


async def tell_waiting(gateway: Gateway, merchant_id: str) -> int:
    """A line came up: tell its merchant what was not acknowledged, whenever it would have been due, for as long as the line is up."""
    sql = "SELECT * FROM outbox WHERE next_at IS NOT NULL AND merchant = ? ORDER BY next_at LIMIT ?"
    rows = gateway.reader.all(sql, merchant_id, TOLD_TO_ONE_MAX)
    told = 0
    while told < len(rows) and gateway.line.connected(merchant_id):
        told += await _tell_rows(gateway, rows[told : told + TOLD_AT_ONCE_MAX])
    return told


async def _tell_rows(gateway: Gateway, rows: list[Row]) -> int:
    await asyncio.gather(*(_tell_row(gateway, row) for row in rows))
    return len(rows)


async def _tell_row(gateway: Gateway, row: Row) -> None:
    """Write down when to tell it next, then tell it; each row by itself, so that one acknowledged meanwhile holds up no other."""
    is_there = gateway.line.connected(row["merchant"])
    wait_s = min(2 << min(row["tries"], 11), LONGEST_WAIT_S if is_there else ABSENT_WAIT_S)
    again = {"next_at": gateway.clock.now() + wait_s, "tries": row["tries"] + 1}
    later = {name: row[name] for name in row.keys()} | again  # noqa: SIM118 - a database row
    try:
        await gateway.book.commit(Change(puts=(Put("outbox", later, row["version"]),)))
    except Stale:
        return  # acknowledged, or told by somebody else, meanwhile
    if gateway.line.connected(row["merchant"]):
        compact = evidence.compact(gateway.reader, row["merchant"], row["tid"], row["hash"])
        assert compact is not None, row["hash"]
        await tell(gateway, row["merchant"], compact)


async def take_acknowledgement(gateway: Gateway, merchant_id: str, unverified: str) -> None:
    """The merchant has stored these outcomes: they need not be told again. Hashes that are not its own change nothing."""
    urn = gateway.settings.merchant_urn(merchant_id)
    at = gateway.clock.now()
    message = role.verify_acknowledgement(unverified, trust=gateway.registry, gateway=gateway.urn, merchant_urn=urn, at=at)
    if gateway.acknowledged_every_s:
        # To the next beat, at which all that came since the last one goes into one batch. What is lost by a stop is told again.
        await asyncio.sleep(gateway.acknowledged_every_s - gateway.clock.monotonic() % gateway.acknowledged_every_s)
    if evidence.is_known(gateway.reader, merchant_id, "", message.hash):
        return
    waiting = _waiting(gateway, merchant_id, message.claims.req)
    if not waiting:
        spend_unasked(gateway, merchant_id)
    acknowledge = Acknowledge(merchant=merchant_id, outcomes=waiting)
    with suppress(Stale):  # these very bytes came twice at once
        await gateway.book.commit(Change(acknowledges=(acknowledge,), messages=(record(message, merchant=merchant_id, tid=""),)))


def _waiting(gateway: Gateway, merchant_id: str, hashes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Hash and tid of those of these outcomes that are this merchant's and still to be acknowledged.

    Whoever acknowledges an outcome was told it, so it is in every snapshot; whether it still waits is decided under the book lock.
    """
    places = ", ".join("?" * len(hashes)) or "NULL"
    sql = f"SELECT hash, tid FROM outbox WHERE next_at IS NOT NULL AND merchant = ? AND hash IN ({places})"  # noqa: S608 - question marks
    return tuple((row["hash"], row["tid"]) for row in gateway.reader.all(sql, merchant_id, *hashes))
