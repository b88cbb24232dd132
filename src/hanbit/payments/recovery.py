"""Finishes or undoes what a crash, an expiry or a lost answer left half way: every payment becomes final by itself.

Each of the `JOBS` has a loop of its own, so that none waits for another: a merchant that is silent holds up no end, no outcome, no key.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from msgspec.structs import replace

from hanbit.db.change import Change, Stale
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable, WrongState
from hanbit.payments import checkpoints, console_requests, outbox, own_keys, revocation
from hanbit.payments import payment as payments
from hanbit.payments.close import close
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.purge import purge
from hanbit.payments.redirect_flow import ask_again, note_refused, stored_notice
from hanbit.payments.states import Event, State
from hanbit.payments.void import void_expired

TICK_S = 0.5
AT_ONCE_MAX = 100
ASKED_A_MERCHANT_MAX = 25
LONGEST_RESEND_S = 30

log = logging.getLogger("hanbit.recovery")


class Job(Protocol):
    """One piece of the background's work, known by its name where several processes share it."""

    __name__: str

    async def __call__(self, gateway: Gateway) -> int:
        """Do what is due; how many payments and outcomes were looked at."""
        ...


async def run(gateway: Gateway, jobs: Iterable[Job], is_mine: Callable[[str], bool] = lambda _job: True) -> None:
    """The background: every job (by name) that is this process's twice a second, until cancelled."""
    await asyncio.gather(*(_repeat(gateway, job, is_mine) for job in jobs))


async def tick(gateway: Gateway) -> int:
    """Every job once; returns how many payments and outcomes were looked at."""
    return sum([await job(gateway) for job in JOBS])


async def _repeat(gateway: Gateway, job: Job, is_mine: Callable[[str], bool]) -> None:
    while True:
        try:
            if is_mine(job.__name__):
                await job(gateway)
        except HanbitError as error:  # the book is full or closing: the next tick tries again
            log.warning("recovery_waits", extra={"reason": str(error)})
        except Exception:  # a full disk under a new key, a bug of ours: nothing may end the loop on which what is unfinished waits
            log.exception("recovery_failed")
        await asyncio.sleep(TICK_S)


async def end_due(gateway: Gateway) -> int:
    """Close what nobody paid, void what nobody answered."""
    return await _move_all(gateway, payments.ending(gateway.reader, gateway.clock.now(), AT_ONCE_MAX))


async def ask_due(gateway: Gateway) -> int:
    """Ask for the answers that are missing."""
    return await _move_all(gateway, payments.waiting(gateway.reader, gateway.clock.now(), AT_ONCE_MAX, ASKED_A_MERCHANT_MAX))


JOBS: tuple[Job, ...] = (
    own_keys.renew_due,
    revocation.publish_due,
    end_due,
    ask_due,
    outbox.tell_due,
    console_requests.send_due,
    checkpoints.sign_due,
    purge,
)


async def merchant_connected(gateway: Gateway, merchant_id: str, unverified_checkpoint: str | None = None) -> None:
    """A line came up: the lists first, without which its merchant may believe nothing; judge the checkpoint that it holds; ask and tell."""
    await revocation.tell_latest(gateway, merchant_id)
    await checkpoints.merchant_connected(gateway, merchant_id, unverified_checkpoint)
    await _move_all(gateway, payments.waiting_for(gateway.reader, merchant_id, gateway.clock.now(), AT_ONCE_MAX))
    await outbox.tell_waiting(gateway, merchant_id)
    await console_requests.send_waiting(gateway, merchant_id)


async def _move_all(gateway: Gateway, found: list[Payment]) -> int:
    await asyncio.gather(*(_move_on(gateway, payment) for payment in found))
    return len(found)


async def _move_on(gateway: Gateway, payment: Payment) -> None:
    at = gateway.clock.now()
    scheduled = payment
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
        return  # somebody else has moved it on meanwhile
    except Unavailable:
        gateway.observe("answer", "unavailable")
        return
    except ProtocolViolation as error:
        await note_refused(gateway, payment.merchant, error, tid=payment.tid)
    except Exception:  # one payment that we cannot handle must not leave all others half way
        log.exception("recovery_failed", extra={"payment": payment.id})
    else:
        return
    if scheduled is payment:  # what failed before its next hour was written down would stand before all others for ever
        with suppress(Unavailable):
            await gateway.book.commit(Change(puts=(replace(payment, next_at=at + LONGEST_RESEND_S).put(),)))


async def _schedule(gateway: Gateway, payment: Payment, at: int) -> Payment:
    """Write down when to ask next, before asking: 2, 4, 8, 16, then every 30 seconds, never beyond the hold's end."""
    wait_s = min(2 << payment.tries, LONGEST_RESEND_S)
    later = replace(payment, next_at=min(at + wait_s, (payment.hold_until or at) + 1), tries=payment.tries + 1)
    await gateway.book.commit(Change(puts=(later.put(),)))
    return replace(later, version=payment.version + 1)
