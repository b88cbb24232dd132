"""What a merchant's statement is made of: each entry of its account on that day, with the payment that it belongs to."""

from dataclasses import dataclass
from typing import Final

from hanbit.db.reading import Reader
from hanbit.ledger.chart import merchant_account
from hanbit.ledger.entry import TRANSFER
from hanbit.payments.settlement import Statement

LINES_MAX: Final = 50_000
"""Lines of one sheet; a day with more is read from the book (`hanbit ledger`)."""
_LINES: Final = (
    "SELECT e.number, e.id, e.at, e.kind, p.side, p.posted, e.payment, t.tid, t.text FROM postings p JOIN entries e ON e.number = p.entry "
    "LEFT JOIN payments t ON t.id = e.payment WHERE p.account = ? AND p.entry BETWEEN ? AND ? AND p.posted > 0 ORDER BY p.entry LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry: what came in is above zero. `kind` is capture, refund, or what else moved the account (fee, repay, payout, …)."""

    entry: int
    at: int
    kind: str
    minor: int
    payment: str | None
    tid: str | None
    text: str | None


async def of(reader: Reader, statement: Statement) -> list[StatementLine]:
    """Every line of the statement, in the order of the book."""
    account = merchant_account(statement.merchant, statement.currency)
    rows = await reader.scan(_LINES, account, statement.first_entry, statement.last_entry, LINES_MAX)
    return [
        StatementLine(
            row["number"],
            row["at"],
            row["kind"] if row["kind"] != TRANSFER else str(row["id"]).partition(":")[0],
            row["posted"] if row["side"] == "C" else -row["posted"],
            row["payment"],
            row["tid"],
            row["text"],
        )
        for row in rows
    ]
