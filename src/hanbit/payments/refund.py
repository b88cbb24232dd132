"""C2 after the capture: what may go back, until when, and out of whose pocket where the merchant's own account is short."""

from dataclasses import dataclass

from msgspec.structs import replace

from hanbit.db.change import Put, Require, Stale
from hanbit.evidence import store as evidence
from hanbit.kernel.money import Money
from hanbit.ledger import rules
from hanbit.ledger.balances import available
from hanbit.ledger.chart import operator_account
from hanbit.ledger.entry import Entry
from hanbit.parties.merchants import Merchant
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.protocols.signed import peek_claims


@dataclass(frozen=True, slots=True)
class Source:
    """The entries by which the money goes back, and what must still be true when they are made."""

    entries: tuple[Entry, ...]
    requires: tuple[Require, ...] = ()


def source_of(gateway: Gateway, payment: Payment, merchant: Merchant, cancellation: str, money: Money) -> Source | None:
    """The reverse entry, with what the reserve lends before it where the merchant is short; None where neither can cover it.

    The money goes back to the account that it came from, also where that account, its customer or the merchant is suspended: a suspended
    account cannot spend what comes in, and a suspended merchant gives back its own money. Only the reserve lends nothing to a suspended
    merchant. What is read here is decided again under the book lock, where a balance that has moved turns the Change away: one that has
    fallen as well as one that has risen, for which the reserve would lend too much.
    """
    assert payment.account is not None, payment
    entry = rules.refund(
        payment=payment.id, merchant=merchant.id, cancellation=cancellation, source=payment.target, target=payment.account, money=money
    )
    short = money.amount_minor - available(gateway.reader, payment.target)
    if short <= 0:
        return Source((entry,))
    reserve = operator_account("reserve", money.currency)
    lends = gateway.settings.refund_shortfall == "reserve" and merchant.state == "active"
    if not lends or available(gateway.reader, reserve) < short:
        return None
    lent = rules.cover(
        merchant=merchant.id, cancellation=cancellation, reserve=reserve, target=payment.target, money=Money(short, money.currency)
    )
    return Source(
        (lent, replace(entry, empties=payment.target)), (Require("merchants", merchant.id, "state", "active", Stale("merchant")),)
    )


def refund_by(gateway: Gateway, payment: Payment) -> int | None:
    """The last second of a refund: the order's own deadline, or a later one that the operator has allowed; None where there is none."""
    order = evidence.compact(gateway.reader, payment.merchant, payment.tid, payment.order_hash)
    deadline = None if order is None else peek_claims(order).get("refund_by")  # verified when it was stored
    if deadline is None:
        return None
    allowed = gateway.reader.one("SELECT value FROM settings WHERE name = ?", _allowance(payment))
    return int(deadline) if allowed is None else max(int(deadline), int(allowed["value"]))


def allow_until(gateway: Gateway, payment: Payment, until: int) -> Put:
    """The row by which the operator lets a refund of this payment be made until then, whatever the order says."""
    name = _allowance(payment)
    known = gateway.reader.one("SELECT version FROM settings WHERE name = ?", name)
    return Put("settings", {"name": name, "value": str(until)}, 0 if known is None else known["version"])


def _allowance(payment: Payment) -> str:
    return f"refund_until:{payment.merchant}:{payment.tid}"
