"""Fills a book before a run: payments of the past with their evidence rows, so that growth is measured on what has grown.

They are captured and told, between accounts and merchants of their own. Nobody signed their messages: the audit of evidence leaves them
out, those of ledger and log do not.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from hanbit.bench.ledger_deals import CASH, Deals
from hanbit.db.change import Append, Change
from hanbit.db.commit import Book
from hanbit.db.place import Place, open_store
from hanbit.kernel.clock import Clock

AT_ONCE: Final = 1_000
SAY_EVERY: Final = 10_000


async def preload(place: Place, count: int, clock: Clock, say: Callable[[str], None]) -> None:
    """So many captured payments with evidence into the book at this place, which nobody else holds."""
    deals, book = Deals("uniform", with_evidence=True, at=clock.now()), Book(lambda: open_store(place), clock)
    try:
        accounts, *openings = deals.openings()
        await book.commit(replace(accounts, puts=(), appends=tuple(one for one in accounts.appends if one.row["id"] != CASH)))
        await _together(book, [change for change in openings if change.entries])
        await pay(book, deals, count, clock, say, requires=False)
    finally:
        await book.close()


async def pay(
    book: Book,
    deals: Deals,
    count: int,
    clock: Clock,
    say: Callable[[str], None],
    *,
    requires: bool = True,
    latest: float = math.inf,
) -> None:
    """So many payments, held, captured and told, or as many as fit until `latest`.

    Without what they require where customers and shops have no rows of their own.
    """
    started = clock.monotonic()
    for done in range(0, count, AT_ONCE):
        if clock.monotonic() >= latest:
            break
        deals.at = clock.now()
        pairs = [deals.pair() for _ in range(min(AT_ONCE, count - done))]
        await _together(book, [pair.hold if requires else replace(pair.hold, requires=()) for pair in pairs])
        await _together(book, [_finished(pair.capture, requires=requires) for pair in pairs])
        for pair in pairs:
            deals.was_captured(pair)
        if done % SAY_EVERY == 0:
            filled = done + len(pairs)
            left_s = (clock.monotonic() - started) * (count - filled) / filled
            say(f"filling: {filled:,} of {count:,} payments; at this rate some {math.ceil(left_s / 60)} minutes more")


async def _together(book: Book, changes: list[Change]) -> None:
    for start in range(0, len(changes), AT_ONCE):
        await asyncio.gather(*(book.commit(change) for change in changes[start : start + AT_ONCE]))


def _finished(capture: Change, *, requires: bool) -> Change:
    told = tuple(_told(append) for append in capture.appends)
    return replace(capture, requires=capture.requires if requires else (), appends=told)


def _told(append: Append) -> Append:
    """The outcome as its merchant has acknowledged it."""
    return Append(append.table, {**append.row, "next_at": None, "acknowledged_at": append.row["stored_at"]})
