"""The staff limits an account: what one payment and what all of a day may come to, whatever its customer has chosen.

A lower limit counts at once. A higher one is money that can be lost: in the console it is a proposal (`proposals.change_limits`); the
commands of the data folder set either.
"""

from typing import Any, Final

from hanbit.db.change import Append, Change, Put
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.kernel.money import parse_money
from hanbit.parties import accounts, limits
from hanbit.parties.limits import Limits, OwnLimits
from hanbit.payments.gateway import Gateway
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act

NAMES: Final = ("payment", "day")
NONE: Final = "none"
"""How a command takes a limit away."""


async def set_bank_limits(gateway: Gateway, by: str, *, account: str, payment: str, day: str, reason: str) -> None:
    """Minor units of the account's currency; empty is no limit. BadInput names the field."""
    check_reason(reason)
    row, audit = to_set(gateway, by, account, read(gateway, account, payment=payment, day=day), reason)
    await gateway.book.commit(Change(puts=(row,), appends=(audit,)))


def read(gateway: Gateway, account: str, *, payment: str, day: str) -> Limits:
    """What was typed; NotFound, or BadInput that names the field."""
    found = accounts.by_id(gateway.reader, account)
    if found is None:
        raise NotFound(f"no account {account}")
    return Limits(_typed(payment, found.currency, "payment"), _typed(day, found.currency, "day"))


def split(now: OwnLimits, wanted: Limits) -> tuple[Limits, dict[str, int | None]]:
    """What can be set at once, and which limits are to be higher than they are."""
    stands = Limits(now.bank_payment, now.bank_day)
    raised = {name: getattr(wanted, name) for name in NAMES if _is_higher(getattr(wanted, name), getattr(stands, name))}
    return Limits(**{name: getattr(stands if name in raised else wanted, name) for name in NAMES}), raised


def to_set(gateway: Gateway, by: str, account: str, wanted: Limits, reason: str) -> tuple[Put, Append]:
    """The account's row with these limits, and the audit of it."""
    row = limits.put(gateway.reader, account, limits.of_account(gateway.reader, account).with_banks(wanted))
    told = f"{_told(wanted.payment)} a payment, {_told(wanted.day)} a day"
    return row, act(gateway.clock.now(), by, f"bank limits of {account}: {told}", reason.strip())


async def set_account_limits(
    gateway: Gateway, by: str = "operator", *, account: str, payment: str = "", day: str = "", reason: str
) -> dict[str, Any]:
    """As a command says it: empty as it was, "none" for no limit."""
    if not payment and not day:
        raise BadInput("a limit: for one payment, or for a day")
    now = limits.of_account(gateway.reader, account)
    wanted = {"payment": _wanted(payment, now.bank_payment), "day": _wanted(day, now.bank_day)}
    await set_bank_limits(gateway, by, account=account, reason=reason, **wanted)
    set_to = limits.of_account(gateway.reader, account)
    return {"account": account, "payment": set_to.bank_payment, "day": set_to.bank_day}


def _is_higher(wanted: int | None, stands: int | None) -> bool:
    return stands is not None and (wanted is None or wanted > stands)


def _told(limit: int | None) -> str:
    return "-" if limit is None else str(limit)


def _wanted(text: str, now: int | None) -> str:
    """What `set_bank_limits` takes for it."""
    kept = "" if now is None else str(now)
    return "" if text == NONE else text or kept


def _typed(text: str, currency: str, field: str) -> int | None:
    if not text:
        return None
    try:
        return parse_money(text, currency).amount_minor
    except BadInput as error:
        raise BadInput(field) from error
