"""Hold and capture pairs a second through the book's own commit path, ledger rows only: `python bench/ledger_pairs.py [FOLDER]`.

No messages, no payment rows, no network: what one batch of so many Changes costs under the book lock, durable. Each pair is two Changes in
two batches, as in a payment; 1,000 customers' accounts pay one merchant.
"""

import sys
import tempfile
from pathlib import Path

from hanbit.db import sqlite
from hanbit.db.change import Change
from hanbit.db.reading import Reader
from hanbit.db.sqlite import SqliteStore
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.money import Money
from hanbit.ledger import rules
from hanbit.ledger.chart import merchant_account, operator_account
from hanbit.ledger.check import check
from hanbit.parties.customers import ledger_account

ACCOUNTS = 1_000
SECONDS = 4.0
AMOUNT = Money(1_000, "KRW")
FUNDS = Money(900_000_000_000, "KRW")


def main(folder: Path) -> None:
    """Measure batches of several sizes, then prove the book."""
    clock = SystemClock()
    path = folder / "pairs.sqlite"
    sqlite.create_book(path, "bench", clock.now())
    store = SqliteStore(path)
    cash, merchant = operator_account("cash", "KRW"), merchant_account("shop", "KRW")
    customers = [ids.new_token() for _ in range(ACCOUNTS)]
    rows = [
        ledger_account(cash, "operator_cash", "KRW", limited=False),
        ledger_account(merchant, "merchant", "KRW", limited=True),
        *(ledger_account(account, "customer_bank", "KRW", limited=True) for account in customers),
    ]
    funding = [rules.transfer(id=f"fund:{account}", debit=cash, credit=account, money=FUNDS) for account in customers]
    write(store, [Change(appends=tuple(rows))], clock.now())
    write(store, [Change(entries=(entry,)) for entry in funding], clock.now())
    for size in (1, 64, 512):
        pairs, started = 0, clock.monotonic()
        while clock.monotonic() < started + SECONDS:
            names = [(ids.new_token(), customers[(pairs + place) % ACCOUNTS]) for place in range(size)]
            for rule in (rules.hold, rules.capture):
                entries = [rule(payment=name, attempt=1, source=account, target=merchant, money=AMOUNT) for name, account in names]
                write(store, [Change(entries=(entry,)) for entry in entries], clock.now())
            pairs += size
        print(f"{size:>4} in a batch: {pairs / (clock.monotonic() - started):>8,.0f} pairs/s")
    store.close()
    prove(path)


def write(store: SqliteStore, changes: list[Change], at: int) -> None:
    """Commit a batch, every Change of which must hold."""
    refused = [answer for answer in store.write_batch(changes, at) if answer is not None]
    assert not refused, refused[:3]


def prove(path: Path) -> None:
    """The entries balance and are what the accounts say."""
    reader = Reader(path)
    report = check(reader.snapshot())
    reader.close()
    kept = {promise for promise in report.broken if not promise.startswith("payments_")}
    assert not kept, kept
    print(f"{report.entries:,} entries proved")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="hanbit-pairs-", dir=sys.argv[1] if len(sys.argv) > 1 else None) as temporary:
        main(Path(temporary))
