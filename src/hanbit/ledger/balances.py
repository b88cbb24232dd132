"""Reads of the ledger by which a flow decides first, before the book lock decides: what an account can give or owes; the trial balance."""

from hanbit.db.reading import Reader, Row
from hanbit.ledger.rules import COVER, REPAY


def available(reader: Reader, account: str) -> int:
    """What may be taken of a limited account now, counting holds and its credit line."""
    sql = "SELECT credits_posted + credit_limit - debits_posted - debits_pending FROM ledger_accounts WHERE id = ?"
    row = reader.one(sql, account)
    return 0 if row is None else int(row[0])


async def lent(reader: Reader) -> dict[str, int]:
    """Merchant's ledger account → what the operator's reserve has lent it for refunds and it still owes."""
    sql = (
        "SELECT p.account, sum(CASE p.side WHEN 'C' THEN p.posted ELSE -p.posted END) "
        "FROM entries e JOIN postings p ON p.entry = e.number WHERE (e.id >= ? AND e.id < ? AND p.side = 'C') "
        "OR (e.id >= ? AND e.id < ? AND p.side = 'D') GROUP BY p.account ORDER BY p.account"
    )
    return {row[0]: owed for row in await reader.scan(sql, *_beginning(COVER), *_beginning(REPAY)) if (owed := int(row[1]))}


async def owed_to_reserve(reader: Reader, merchant: str, account: str) -> int:
    """The same of one merchant's account."""
    sql = (
        "SELECT coalesce(sum(CASE p.side WHEN 'C' THEN p.posted ELSE -p.posted END), 0) "
        "FROM entries e JOIN postings p ON p.entry = e.number AND p.account = ? WHERE (e.id >= ? AND e.id < ?) OR (e.id >= ? AND e.id < ?)"
    )
    (row,) = await reader.scan(sql, account, *_beginning(f"{COVER}{merchant}:"), *_beginning(f"{REPAY}{account}:"))
    return int(row[0])


async def trial_balance(reader: Reader) -> list[Row]:
    """Every kind of account in every currency with its accounts' sums, all as of one moment: kind, currency, accounts and four counters."""
    sql = (
        "SELECT currency, kind, count(*) AS accounts, sum(debits_posted) AS debits, sum(credits_posted) AS credits, "
        "sum(debits_pending) AS debits_held, sum(credits_pending) AS credits_held FROM ledger_accounts GROUP BY currency, kind "
        "ORDER BY currency, kind"
    )
    return await reader.scan(sql)


def _beginning(text: str) -> tuple[str, str]:
    """The bounds of all ids that begin so: an index on ids then finds them without looking at others."""
    return text, text[:-1] + chr(ord(text[-1]) + 1)
