"""Fills a book before a run: payments of the past with their evidence rows, so that growth is measured on what has grown.

They are captured and told, between accounts and merchants of their own. Nobody signed their messages: the audit of evidence leaves them
out, those of ledger and log do not.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from hanbit.bench.ledger_deals import CASH, Deals
from hanbit.db.change import Append, Change
from hanbit.db.commit import Book
from hanbit.db.place import Place, open_store
from hanbit.kernel.clock import Clock

AT_ONCE: Final = 1_000
SAY_EVERY: Final = 50_000


async def preload(place: Place, count: int, clock: Clock, say: Callable[[str], None]) -> None:
    """So many captured payments with evidence into the book at this place, which nobody else holds."""
    deals, book = Deals("uniform", with_evidence=True, at=clock.now()), Book(lambda: open_store(place), clock)
    try:
        accounts, *openings = deals.openings()
        await book.commit(replace(accounts, puts=(), appends=tuple(one for one in accounts.appends if one.row["id"] != CASH)))
        await _together(book, [change for change in openings if change.entries])
        for done in range(0, count, AT_ONCE):
            pairs = [deals.pair() for _ in range(min(AT_ONCE, count - done))]
            await _together(book, [replace(pair.hold, requires=()) for pair in pairs])
            told = (tuple(_told(append) for append in pair.capture.appends) for pair in pairs)
            await _together(book, [replace(pair.capture, requires=(), appends=rows) for pair, rows in zip(pairs, told, strict=True)])
            if done % SAY_EVERY == 0:
                say(f"preloading: {done:,} of {count:,} payments")
    finally:
        await book.close()


async def _together(book: Book, changes: list[Change]) -> None:
    for start in range(0, len(changes), AT_ONCE):
        await asyncio.gather(*(book.commit(change) for change in changes[start : start + AT_ONCE]))


def _told(append: Append) -> Append:
    """The outcome as its merchant has acknowledged it."""
    return Append(append.table, {**append.row, "next_at": None, "acknowledged_at": append.row["stored_at"]})
