"""The operator limits a merchant: the largest single payment, and what all payments of one of the operator's days may come to.

The day is not added up for each payment. The merchant's row says what its account had been credited with when the day began; a hold may
bring the account so far above that, and the batch compares it under the book lock with the account's own counters. So no two payments at
once exceed a day together, none waits for another, and what is voided gives its part back by itself. The first payment of a day moves
the row on. Money that comes to the account without a payment (a payout that the bank sent back) would count too: before anybody is
turned away for the day, it is counted anew from the payments alone: one merchant at a time, and each every half minute at most, so that a
flood of payments above a limit reads a day of payments no more often than that.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from hanbit.db.change import Change, Put, Require, Stale, Value
from hanbit.db.reading import Reader, Row
from hanbit.db.schema import LISTED
from hanbit.kernel.days import begins_at, day_of
from hanbit.kernel.errors import BadInput, Declined, NotFound
from hanbit.kernel.money import Money, parse_money
from hanbit.ledger.chart import merchant_account
from hanbit.ledger.entry import Ceiling
from hanbit.parties import merchants
from hanbit.parties.merchants import Merchant
from hanbit.payments.gateway import Gateway
from hanbit.payments.open_order import Opening
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act
from hanbit.protocols.redirect.gateway import ORDER_LIFE_MAX_S

REASON: Final = "merchant_limit"
_OF_THE_DAY: Final = "merchant_limit: this shop may not take so much in a day"
ACT: Final = "order above a limit"
_NOTED: Final = "SELECT 1 FROM audit WHERE merchant = ? AND at >= ? AND tid = ? AND act = ? LIMIT 1"
_ALL_NOTED: Final = "SELECT at, tid FROM audit WHERE merchant = ? AND at >= ? AND act = ? ORDER BY at DESC LIMIT ?"
NONE: Final = "none"
"""How a command takes a limit away."""
_COUNTED: Final = f"""
SELECT l.credits_posted, l.credits_pending, coalesce((
    SELECT sum(p.captured) FROM payments p WHERE p.merchant = ? AND p.{LISTED} AND p.opened_at >= ? AND p.state = 'captured'
    AND EXISTS (SELECT 1 FROM attempts a WHERE a.payment = p.id AND a.result = 'held' AND a.at >= ?)
), 0) AS captured FROM ledger_accounts l WHERE l.id = ?
"""  # noqa: S608 - words of our own
"""One statement, so that counters and payments are of one moment. What is held from the day before counts until it is decided."""


RECOUNTED_EVERY_S: Final = 30
"""A count that agreed with the merchant's row is not made again before, unless the row has moved on."""


@dataclass(frozen=True, slots=True)
class Within:
    """What a Change that holds money for this merchant needs, so that its limits are kept under the book lock too."""

    requires: tuple[Require, ...]
    puts: tuple[Put, ...] = ()
    ceiling: Ceiling | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """A merchant's limits as people are told them, and what has counted of the day that runs."""

    payment: Money | None
    day: Money | None
    taken: Money | None


def check_payment(merchant: Merchant, money: Money) -> None:
    """Declined if one payment may not be so large; known before anybody has logged in."""
    if merchant.limit_payment is not None and money.amount_minor > merchant.limit_payment:
        raise Declined(REASON, "merchant_limit: this shop may not take so much at once")


def within(gateway: Gateway, merchant: Merchant, money: Money, at: int) -> Within:
    """The limits must still be those that were read; Declined("merchant_limit") if this payment alone exceeds one."""
    check_payment(merchant, money)
    unchanged = Require("merchants", merchant.id, "version", merchant.version, Stale("merchants"))
    if merchant.limit_day is None:
        return Within((unchanged,))
    if money.amount_minor > merchant.limit_day:
        raise Declined(REASON, _OF_THE_DAY)
    account = merchant_account(merchant.id, merchant.currency)
    assert merchant.day_from is not None and merchant.day_until is not None, merchant
    if at < merchant.day_until:
        return Within((unchanged,), (), Ceiling(account, merchant.day_from + merchant.limit_day, REASON, _OF_THE_DAY))
    row = gateway.reader.one("SELECT credits_posted FROM ledger_accounts WHERE id = ?", account)
    assert row is not None, account
    began = int(row["credits_posted"])
    begun = _put(gateway, merchant, {"day_from": began, "day_until": _day(gateway, at)[1]})
    return Within((), (begun,), Ceiling(account, began + merchant.limit_day, REASON, _OF_THE_DAY))


@asynccontextmanager
async def counted_anew(gateway: Gateway, merchant_id: str) -> AsyncIterator[None]:
    """Whoever is turned away in this block for the day's sum is counted once more; Stale where that has moved the limit."""
    try:
        yield
    except Declined as declined:
        merchant = merchants.by_id(gateway.reader, merchant_id)
        if declined.reason != REASON or merchant is None or merchant.limit_day is None:
            raise
        recounted = gateway.recounted
        async with recounted.turn:
            moment = gateway.clock.monotonic()
            if recounted.agreed(merchant.id, merchant.version, moment):
                raise
            counted = await _count(gateway, merchant, gateway.clock.now())
            if (counted["day_from"], counted["day_until"]) == (merchant.day_from, merchant.day_until):
                recounted.note(merchant.id, merchant.version, moment + RECOUNTED_EVERY_S)
                raise
        await gateway.book.commit(Change(puts=(_put(gateway, merchant, counted),)))
        raise Stale("merchants") from declined


async def note_above(gateway: Gateway, opening: Opening) -> None:
    """A signed order above the limit was turned away before the log-in: its merchant sees it, once for each order."""
    order = opening.offer.order
    if order is None:
        return  # in plain form anybody can name any tid
    at, tid = gateway.clock.now(), opening.offer.tid
    known = gateway.reader.one(_NOTED, opening.merchant.id, at - ORDER_LIFE_MAX_S, tid, ACT)
    if known is None:
        row = act(at, order.claims.iss, ACT, REASON, opening.merchant.id, tid)
        await gateway.book.commit(Change(appends=(row,)))


async def noted(reader: Reader, merchant: str, since: int, limit: int) -> list[Row]:
    """Those orders: when they were first tried, and their numbers; the newest first."""
    return await reader.scan(_ALL_NOTED, merchant, since, ACT, limit)


async def set_merchant_limits(
    gateway: Gateway, by: str = "operator", *, merchant: str, payment: str = "", day: str = "", reason: str
) -> dict[str, Any]:
    """Minor units of the merchant's currency, empty as it was, "none" for no limit; from the next payment on. BadInput names the field."""
    check_reason(reason)
    known = merchants.by_id(gateway.reader, merchant)
    if known is None:
        raise NotFound(f"no merchant {merchant}")
    if not payment and not day:
        raise BadInput("a limit: for one payment, or for a day")
    limits: dict[str, Value] = {
        "limit_payment": _typed(payment, known.currency, "payment") if payment else known.limit_payment,
        "limit_day": _typed(day, known.currency, "day") if day else known.limit_day,
        "day_from": None,
        "day_until": None,
    }
    at = gateway.clock.now()
    if limits["limit_day"] is not None:
        limits |= await _count(gateway, known, at)
    told = f"{_told(limits['limit_payment'])} a payment, {_told(limits['limit_day'])} a day"
    audit = act(at, by, f"limits of merchant {merchant}: {told}", reason.strip(), merchant)
    await gateway.book.commit(Change(puts=(_put(gateway, known, limits),), appends=(audit,)))
    return {"merchant": merchant, "payment": limits["limit_payment"], "day": limits["limit_day"], "currency": known.currency}


def counted(gateway: Gateway, merchant: Merchant, at: int) -> Counted:
    """For pages: the limits, and what the day that runs has come to, as the next payment is measured by it."""
    money = [None if limit is None else Money(limit, merchant.currency) for limit in (merchant.limit_payment, merchant.limit_day)]
    if merchant.limit_day is None:
        return Counted(money[0], money[1], None)
    account = merchant_account(merchant.id, merchant.currency)
    row = gateway.reader.one("SELECT credits_posted, credits_pending FROM ledger_accounts WHERE id = ?", account)
    assert row is not None and merchant.day_until is not None, merchant
    began = merchant.day_from if at < merchant.day_until else row["credits_posted"]
    return Counted(money[0], money[1], Money(max(int(row["credits_posted"] + row["credits_pending"] - began), 0), merchant.currency))


async def _count(gateway: Gateway, merchant: Merchant, at: int) -> dict[str, Value]:
    """Where the day that runs began, from its payments alone."""
    begins, until = _day(gateway, at)
    account = merchant_account(merchant.id, merchant.currency)
    (row,) = await gateway.reader.scan(_COUNTED, merchant.id, begins - ORDER_LIFE_MAX_S, begins, account)
    return {"day_from": int(row["credits_posted"]) - int(row["captured"]), "day_until": until}


def _day(gateway: Gateway, at: int) -> tuple[int, int]:
    """The operator's day of this moment: its first second, and that of the next one."""
    zone = gateway.settings.zone
    day = day_of(at, zone)
    return begins_at(day, zone), begins_at(day + timedelta(days=1), zone)


def _put(gateway: Gateway, merchant: Merchant, columns: dict[str, Value]) -> Put:
    """The merchant's row with these columns; the book lock turns it away if the row has moved on since the merchant was read."""
    row = gateway.reader.one("SELECT * FROM merchants WHERE id = ?", merchant.id)
    assert row is not None, merchant
    kept = {name: row[name] for name in row.keys() if name != "version"}  # noqa: SIM118 - a row is no mapping
    return Put("merchants", kept | columns, merchant.version, changed=tuple(columns))


def _typed(text: str, currency: str, field: str) -> int | None:
    if text == NONE:
        return None
    try:
        return parse_money(text, currency).amount_minor
    except BadInput as error:
        raise BadInput(field) from error


def _told(limit: Value) -> str:
    return "-" if limit is None else str(limit)
