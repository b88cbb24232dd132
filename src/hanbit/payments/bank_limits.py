"""The staff limits an account: what one payment and what all of a day may come to; at once, whatever its customer has chosen."""

from typing import Any, Final

from hanbit.db.change import Change
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.kernel.money import parse_money
from hanbit.parties import accounts, limits
from hanbit.parties.limits import Limits
from hanbit.payments.gateway import Gateway
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act

NONE: Final = "none"
"""How a command takes a limit away."""


async def set_bank_limits(gateway: Gateway, by: str, *, account: str, payment: str, day: str, reason: str) -> None:
    """Minor units of the account's currency; empty is no limit. BadInput names the field."""
    check_reason(reason)
    found = accounts.by_id(gateway.reader, account)
    if found is None:
        raise NotFound(f"no account {account}")
    wanted = Limits(_typed(payment, found.currency, "payment"), _typed(day, found.currency, "day"))
    row = limits.put(gateway.reader, account, limits.of_account(gateway.reader, account).with_banks(wanted))
    audit = act(gateway.clock.now(), by, f"bank limits of {account}: {payment or '-'} a payment, {day or '-'} a day", reason.strip())
    await gateway.book.commit(Change(puts=(row,), appends=(audit,)))


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
