"""R11: outcomes that a merchant must hear, told from the book until they are acknowledged."""

from hanbit.db.change import Acknowledge, Change, Put
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel.errors import Unavailable
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.protocols.redirect import gateway as role

LONGEST_WAIT_S = 300
EXCEPTION_AFTER_S = 24 * 3600
"""An outcome without acknowledgement for so long is shown to the operator as an exception."""
TOLD_AT_ONCE_MAX = 200


async def tell(gateway: Gateway, merchant_id: str, outcome: str) -> None:
    """Send an outcome that has just been stored; if the line is down the outbox tells it later."""
    try:
        await gateway.line.tell(merchant_id, outcome)
    except Unavailable:
        gateway.observe("outbox", "line_down")


async def tell_again(gateway: Gateway, payment: Payment) -> None:
    """Send the stored outcome of a decided payment once more: the very same bytes."""
    compact = None if payment.outcome_hash is None else evidence.compact(gateway.reader, payment.outcome_hash)
    if compact is not None:
        await tell(gateway, payment.merchant, compact)


async def tell_due(gateway: Gateway) -> int:
    """Tell what is due, oldest first; returns how many outcomes were tried."""
    at = gateway.clock.now()
    rows = gateway.reader.all("SELECT * FROM outbox WHERE next_at <= ? ORDER BY next_at LIMIT ?", at, TOLD_AT_ONCE_MAX)
    puts = []
    for row in rows:
        wait_s = min(2 << min(row["tries"], 10), LONGEST_WAIT_S)
        later = {name: row[name] for name in row.keys()} | {"next_at": at + wait_s, "tries": row["tries"] + 1}  # noqa: SIM118 - a database row
        puts.append(Put("outbox", later, row["version"]))
    if puts:
        await gateway.book.commit(Change(puts=tuple(puts)))
    for row in rows:
        if gateway.line.connected(row["merchant"]):
            compact = evidence.compact(gateway.reader, row["hash"])
            assert compact is not None, row["hash"]
            await tell(gateway, row["merchant"], compact)
    return len(rows)


async def take_acknowledgement(gateway: Gateway, merchant_id: str, unverified: str) -> None:
    """The merchant has stored these outcomes: they need not be told again. Hashes that are not its own change nothing."""
    urn = gateway.settings.merchant_urn(merchant_id)
    at = gateway.clock.now()
    message = role.verify_acknowledgement(unverified, trust=gateway.registry, gateway=gateway.urn, merchant_urn=urn, at=at)
    if evidence.is_known(gateway.reader, message.hash):
        return
    acknowledge = Acknowledge(merchant=merchant_id, hashes=message.claims.req)
    await gateway.book.commit(Change(acknowledges=(acknowledge,), messages=(record(message, merchant=merchant_id, tid=""),)))
