"""Keeps the magic customer who waits waiting: the row that five wrong passwords would have written is written anew before it ends."""

import asyncio
from contextlib import suppress
from typing import Final

from hanbit.db.change import Change, Stale
from hanbit.kernel.errors import HanbitError
from hanbit.parties import customers, throttle
from hanbit.parties.throttle import FREE_TRIES, LONGEST_WAIT_S, Tries
from hanbit.payments.gateway import Gateway
from hanbit.sandbox import magic

LOOK_S: Final = 20.0
LEAST_S: Final = LONGEST_WAIT_S // 2


async def run(gateway: Gateway) -> None:
    """Until cancelled."""
    while True:
        with suppress(HanbitError):  # the book is full or closing: the next look tries again
            await keep_waiting(gateway)
        await asyncio.sleep(LOOK_S)


async def keep_waiting(gateway: Gateway) -> None:
    """Whoever is to wait waits for at least half an hour more."""
    at = gateway.clock.now()
    for person in magic.PEOPLE:
        customer = customers.by_login(gateway.reader, person.login)
        if not person.waits or customer is None:
            continue
        found = throttle.read(gateway.reader, f"login:{customer.id}")
        if found.wait_until < at + LEAST_S:
            later = Tries(found.factor, found.version, FREE_TRIES, at + LONGEST_WAIT_S)
            with suppress(Stale):
                await gateway.book.commit(Change(puts=(throttle.put(later),)))
