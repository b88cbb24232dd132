"""The staff limits an account: what one payment and what all of a day may come to; at once, whatever its customer has chosen."""

from hanbit.db.change import Change
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.kernel.money import parse_money
from hanbit.parties import accounts, limits
from hanbit.parties.limits import Limits
from hanbit.payments.gateway import Gateway
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act


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


def _typed(text: str, currency: str, field: str) -> int | None:
    if not text:
        return None
    try:
        return parse_money(text, currency).amount_minor
    except BadInput as error:
        raise BadInput(field) from error
