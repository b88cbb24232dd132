"""PAGES: which page shows which state of a payment. Every address looks here first, so that a wrong state is a page and not an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hanbit.kernel.money import Money
from hanbit.payments.states import State

PAGES: Final[Mapping[str, frozenset[State]]] = {
    "login": frozenset({State.NEW, State.OPEN}),
    "payment": frozenset({State.NEW, State.OPEN}),
    "decline": frozenset({State.OPEN}),
    "in_progress": frozenset({State.AUTHORIZED}),
    "receipt": frozenset({State.CAPTURED}),
    "already_paid": frozenset({State.CAPTURED}),
    "mismatch": frozenset({State.REFUSED}),
    "refused": frozenset({State.REFUSED}),
    "voided": frozenset({State.VOIDED}),
    "cancelled": frozenset({State.CLOSED}),
    "withdrawn": frozenset({State.CLOSED}),
    "declined": frozenset({State.CLOSED}),
    "expired": frozenset({State.CLOSED}),
}
"""Page → states in which it may be shown; pages without a payment (not_opened, merchant_limit, expired_order, …) are not here."""

MISMATCHES: Final = frozenset({"amount_mismatch", "currency_mismatch", "order_mismatch", "unknown_order"})
"""The refusals of page 62: the shop's own order says something else."""
_CLOSED: Final = {"cancelled_by_customer": "cancelled", "cancelled_by_merchant": "withdrawn", "expired": "expired"}


@dataclass(frozen=True, slots=True)
class OrderCard:
    """What every page of a payment says about its order."""

    merchant_name: str
    merchant_telephone: str
    money: Money
    text: str
    tid: str
    return_url: str


@dataclass(frozen=True, slots=True)
class ReceiptCard:
    """What the receipt adds; `masked` and `kind` are the account's, `signed` says whether the customer signed."""

    payment: str
    kind: str
    customer_name: str
    masked: str
    time: int
    signed: bool
    offer_passkey: bool
    refunded: Money | None = None
    """What has gone back to the account, None where nothing has."""


def page_of(state: State, reason: str | None, *, owner: bool) -> str:
    """The page of the true state; only the payment's own customer is shown a receipt."""
    if state is State.CAPTURED:
        page = "receipt" if owner else "already_paid"
    elif state is State.REFUSED:
        page = "mismatch" if reason in MISMATCHES else "refused"
    elif state is State.CLOSED:
        page = _CLOSED.get(reason or "", "declined")
    else:
        page = {State.AUTHORIZED: "in_progress", State.VOIDED: "voided"}.get(state, "login")
    assert state in PAGES[page], (state, page)
    return page
