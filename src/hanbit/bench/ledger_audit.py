"""The audit of `hanbit bench ledger`: the ledger's own check, the log held against every row, and the sums that the callers count on."""

import asyncio

from hanbit.bench.ledger_deals import Deals
from hanbit.db.place import Place
from hanbit.db.reading import Reader
from hanbit.evidence.log_check import check as check_log
from hanbit.ledger.check import check as check_ledger

SHOWN_MAX = 3
OF_EVIDENCE = frozenset({"no_money_moves_without_a_stored_confirmation", "every_outcome_is_stored_and_told"})
"""Promises that a book without messages cannot keep; with evidence they are checked like the others."""


async def prove(book: Place, deals: Deals) -> list[str]:
    """What is wrong with the book; empty where every promise holds and every account has what its accepted deals add up to."""
    found = await asyncio.gather(*(asyncio.to_thread(look, book, deals) for look in (_ledger, _log, _sums)))
    return [line for lines in found for line in lines]


def _ledger(book: Place, deals: Deals) -> list[str]:
    reader = Reader(book, patient=True)
    try:
        with reader.snapshot() as connection:
            broken = check_ledger(connection).broken
    finally:
        reader.close()
    skipped = frozenset() if deals.with_evidence else OF_EVIDENCE
    return [f"ledger: {promise}" for promise in broken if promise not in skipped]


def _log(book: Place, deals: Deals) -> list[str]:
    del deals
    reader = Reader(book, patient=True)
    try:
        with reader.snapshot() as connection:
            return [f"log: {finding}" for finding in check_log(connection).findings[:SHOWN_MAX]]
    finally:
        reader.close()


def _sums(book: Place, deals: Deals) -> list[str]:
    """Each account by itself, and how many payments and transfers there are."""
    reader = Reader(book, patient=True)
    try:
        rows = reader.all("SELECT id, credits_posted - debits_posted, debits_pending + credits_pending FROM ledger_accounts")
        (payments,) = reader.all("SELECT count(*), count(CASE state WHEN 'captured' THEN 1 END) FROM payments")
        (transfers,) = reader.all("SELECT count(*) FROM entries WHERE kind = 'transfer' AND id LIKE 'transfer:%'")
    finally:
        reader.close()
    held = {row[0]: (row[1], row[2]) for row in rows}
    broken = [
        f"account {account}: {held.get(account)} for ({sum_}, 0)"
        for account, sum_ in deals.expected.items()
        if held.get(account) != (sum_, 0)
    ][:SHOWN_MAX]
    broken += [f"account {account} is nobody's" for account in held.keys() - deals.expected.keys()][:SHOWN_MAX]
    if tuple(payments) != (deals.captured, deals.captured):
        broken.append(f"{payments[1]} of {payments[0]} payments captured for {deals.captured} that were")
    if transfers[0] != deals.transferred:
        broken.append(f"{transfers[0]} transfers for {deals.transferred}")
    return broken
