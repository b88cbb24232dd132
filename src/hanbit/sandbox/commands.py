"""The operator's commands that only a sandbox has; the running server takes them through its control socket like every other."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from hanbit.db import schema
from hanbit.db.change import Change, Put
from hanbit.evidence import store as evidence
from hanbit.kernel.clock import SandboxClock
from hanbit.kernel.errors import BadInput, NotFound, WrongState
from hanbit.kernel.money import Money
from hanbit.parties import merchants
from hanbit.payments import payment as payments
from hanbit.payments.gateway import Gateway
from hanbit.payments.operations import ACTOR
from hanbit.payments.payment import Payment
from hanbit.payments.sign_in import act
from hanbit.payments.states import State
from hanbit.sandbox import line, waiting

Result = dict[str, Any]
STEP_MAX_S: Final = 25 * 86_400
"""Keys live 90 days and are renewed in the last 30: whoever is connected between two steps is never left behind."""
AHEAD_MAX_S: Final = 10 * 365 * 86_400
"""A sandbox's own root and authorities live twenty years."""
ELSE: Final = ": give its payment address with --address, or the shop's folder with --shop"


async def sandbox_clock(gateway: Gateway, *, by: str = "0") -> Result:
    """Move the clock forward by so many seconds and say what time it is; 0 only says it. Never back: the book's time does not."""
    clock = _clock(gateway)
    if not by.isascii() or not by.isdigit() or int(by[:12]) > STEP_MAX_S:
        raise BadInput(f"a clock moves forward, by at most {STEP_MAX_S // 86_400} days at once: between two steps all renew their keys")
    seconds = int(by)
    if seconds:
        row = gateway.reader.one("SELECT version, value FROM settings WHERE name = ?", schema.SANDBOX)
        assert row is not None  # open_gateway would have refused
        ahead_s = int(row["value"]) + seconds
        if ahead_s > AHEAD_MAX_S:
            raise BadInput(f"this clock is {clock.offset_s // 86_400} days ahead; at most {AHEAD_MAX_S // 86_400}")
        moved = Put("settings", {"name": schema.SANDBOX, "value": str(ahead_s)}, row["version"])
        await gateway.book.commit(Change(puts=(moved,), appends=(act(clock.now(), ACTOR, "move the clock", f"+{seconds} s"),)))
        clock.offset_s = ahead_s
        await waiting.keep_waiting(gateway)
        # Each shop learns the time by its hello; until then it would refuse what we sign, and we what it signs.
        for merchant in gateway.reader.all("SELECT id FROM merchants"):
            gateway.line.drop(merchant["id"], "clock_moved")
    at = clock.now()
    return {"now": at, "time": datetime.fromtimestamp(at, UTC).isoformat(), "ahead_s": clock.offset_s}


async def sandbox_order(gateway: Gateway, *, merchant: str, tid: str = "") -> Result:
    """The payment address of an order that a customer has opened: this one, or the merchant's newest that is open."""
    _clock(gateway)
    found = merchants.by_id(gateway.reader, merchant)
    if found is None:
        raise NotFound(f"no merchant {merchant}")
    payment = _open_payment(gateway, merchant, tid)
    fields = {"MID": merchant, "TID": payment.tid, "AMOUNT": Money(payment.amount, payment.currency).text, "CUR": payment.currency}
    order = evidence.compact(gateway.reader, payment.merchant, payment.tid, payment.order_hash)
    if order is not None:
        fields["ORDER"] = order
    return {"tid": payment.tid, "address": f"{gateway.settings.public_url}/pay?{urlencode(fields)}"}


async def sandbox_silence(gateway: Gateway, *, merchant: str, tid: str) -> Result:
    """Let no notice of this payment reach its shop."""
    _clock(gateway)
    line.of(gateway).silence(merchant, tid)
    return {"merchant": merchant, "tid": tid}


async def sandbox_payment(gateway: Gateway, *, merchant: str, tid: str) -> Result:
    """Where a payment stands."""
    _clock(gateway)
    payment = payments.find(gateway.reader, merchant, tid)
    return {"tid": tid, "state": "new" if payment is None else payment.state, "reason": None if payment is None else payment.reason}


COMMANDS: dict[str, Callable[..., Awaitable[Result]]] = {
    command.__name__: command for command in (sandbox_clock, sandbox_order, sandbox_silence, sandbox_payment)
}


def _clock(gateway: Gateway) -> SandboxClock:
    if not gateway.settings.sandbox or not isinstance(gateway.clock, SandboxClock):
        raise BadInput("this is no sandbox")
    return gateway.clock


def _open_payment(gateway: Gateway, merchant: str, tid: str) -> Payment:
    if not tid:
        sql = f"SELECT tid FROM payments WHERE merchant = ? AND {schema.LISTED} AND state = 'open' ORDER BY opened_at DESC LIMIT 1"  # noqa: S608 - words of our own
        row = gateway.reader.one(sql, merchant)
        if row is None:
            raise NotFound(f"no customer has an order of {merchant} open{ELSE}")
        tid = str(row["tid"])
    payment = payments.find(gateway.reader, merchant, tid)
    if payment is None:
        raise NotFound(f"no customer has opened {tid}{ELSE}")
    if payment.state != State.OPEN:
        raise WrongState(f"{tid} is {payment.state}")
    return payment
