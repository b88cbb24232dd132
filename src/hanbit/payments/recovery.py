"""Finishes or undoes what a crash, an expiry or a lost answer left half way: every payment becomes final by itself."""

import asyncio
import logging

from msgspec.structs import replace

from hanbit.db.change import Change, Stale
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable, WrongState
from hanbit.payments import outbox
from hanbit.payments import payment as payments
from hanbit.payments.close import close
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.redirect_flow import ask_again, note_refused, stored_notice
from hanbit.payments.states import Event, State
from hanbit.payments.void import void_expired

TICK_S = 0.5
AT_ONCE_MAX = 100
LONGEST_RESEND_S = 30

log = logging.getLogger("hanbit.recovery")


async def run(gateway: Gateway) -> None:
    """The one loop of the background: what is due, twice a second, until cancelled."""
    while True:
        try:
            await tick(gateway)
        except HanbitError as error:  # the book is full or closing: the next tick tries again
            log.warning("recovery_waits", extra={"reason": str(error)})
        except Exception:  # a full disk under a new key, a bug of ours: nothing may end the one loop on which everything unfinished waits
            log.exception("recovery_failed")
        await asyncio.sleep(TICK_S)


async def tick(gateway: Gateway) -> int:
    """Do everything that is due now; returns how many payments and outcomes were looked at."""
    found = payments.due(gateway.reader, gateway.clock.now(), AT_ONCE_MAX)
    await asyncio.gather(*(_move_on(gateway, payment) for payment in found))
    told = await outbox.tell_due(gateway)
    seal = gateway.keyring.rotate_seal(gateway.clock.now())
    if seal is not None:
        await gateway.book.commit(Change(puts=(seal,)))
    return len(found) + told


async def merchant_connected(gateway: Gateway, merchant_id: str) -> None:
    """A line came up: ask and tell at once what waits for this merchant."""
    at = gateway.clock.now()
    rows = gateway.reader.all(
        "SELECT id FROM payments WHERE merchant = ? AND state = 'authorized' ORDER BY next_at LIMIT ?", merchant_id, AT_ONCE_MAX
    )
    waiting = [payment for row in rows if (payment := payments.by_id(gateway.reader, row["id"]))]
    await asyncio.gather(*(_move_on(gateway, payment) for payment in waiting if at <= (payment.hold_until or 0)))
    await outbox.tell_waiting(gateway, merchant_id)


async def _move_on(gateway: Gateway, payment: Payment) -> None:
    at = gateway.clock.now()
    try:
        if payment.state == State.OPEN:
            _, outcome = await close(gateway, payment, Event.PAY_BY_PASSED)
            await outbox.tell(gateway, payment.merchant, outcome)
        elif payment.state == State.AUTHORIZED and at > (payment.hold_until or 0):
            _, outcome = await void_expired(gateway, payment, stored_notice(gateway, payment))
            await outbox.tell(gateway, payment.merchant, outcome)
        elif payment.state == State.AUTHORIZED:
            scheduled = await _schedule(gateway, payment, at)
            await ask_again(gateway, scheduled)
    except (Stale, WrongState):
        pass  # somebody else has moved it on meanwhile
    except Unavailable:
        gateway.observe("answer", "unavailable")
    except ProtocolViolation as error:
        await note_refused(gateway, payment.merchant, error, tid=payment.tid)
    except Exception:  # one payment that we cannot handle must not leave all others half way
        log.exception("recovery_failed", extra={"payment": payment.id})


async def _schedule(gateway: Gateway, payment: Payment, at: int) -> Payment:
    """Write down when to ask next, before asking: 2, 4, 8, 16, then every 30 seconds, never beyond the hold's end."""
    wait_s = min(2 << payment.tries, LONGEST_RESEND_S)
    later = replace(payment, next_at=min(at + wait_s, (payment.hold_until or at) + 1), tries=payment.tries + 1)
    await gateway.book.commit(Change(puts=(later.put(),)))
    return replace(later, version=payment.version + 1)
