"""Reads of the ledger by which a flow decides first, before the book lock decides: what an account can give, what the reserve has lent."""

from hanbit.db.reading import Reader
from hanbit.ledger.rules import COVER

_AFTER_COVER = COVER[:-1] + chr(ord(COVER[-1]) + 1)
"""The first text after every id that begins with COVER: the index on ids then finds them without looking at others."""


def available(reader: Reader, account: str) -> int:
    """What may be taken of a limited account now, counting holds and its credit line."""
    sql = "SELECT credits_posted + credit_limit - debits_posted - debits_pending FROM ledger_accounts WHERE id = ?"
    row = reader.one(sql, account)
    return 0 if row is None else int(row[0])


async def lent(reader: Reader) -> dict[str, int]:
    """Merchant's ledger account → what the operator's reserve has lent it for refunds, to be taken back when the merchant is settled."""
    sql = (
        "SELECT p.account, sum(p.posted) FROM entries e JOIN postings p ON p.entry = e.number AND p.side = 'C' "
        "WHERE e.id >= ? AND e.id < ? GROUP BY p.account ORDER BY p.account"
    )
    return {row[0]: int(row[1]) for row in await reader.scan(sql, COVER, _AFTER_COVER)}
