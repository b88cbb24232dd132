"""THE TABLE: (state, event) → state, journal rule, evidence; a payment changes only by a row of this page.

Diagrams and pages are drawn from it. A missing row is the error: `step` refuses it and nothing changes.
"""

from dataclasses import dataclass
from enum import StrEnum

from hanbit.kernel.errors import WrongState


class State(StrEnum):
    """Where a payment stands. The last four are final for its tid: nothing leads out of them, but what was captured may go back."""

    NEW = "new"
    """Not in the book yet: nothing sealed has been opened for this tid."""
    OPEN = "open"
    """Attempts are possible until `pay_by`; no merchant has been asked."""
    AUTHORIZED = "authorized"
    """The money is held and the notice is stored; only the merchant's answer or the deadline decides now."""
    CAPTURED = "captured"
    REFUSED = "refused"
    VOIDED = "voided"
    CLOSED = "closed"


FINAL = frozenset({State.CAPTURED, State.REFUSED, State.VOIDED, State.CLOSED})


class Event(StrEnum):
    """What can happen to a payment; past tense."""

    OPENED = "opened"
    DECLINED = "declined"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    CUSTOMER_CANCELLED = "customer_cancelled"
    PAY_BY_PASSED = "pay_by_passed"
    AUTHORIZED = "authorized"
    MERCHANT_CONFIRMED = "merchant_confirmed"
    MERCHANT_REFUSED = "merchant_refused"
    HOLD_EXPIRED = "hold_expired"
    MERCHANT_CANCELLED = "merchant_cancelled"
    """C2 where nothing was captured: the order ends, or had ended already and nothing is left to cancel."""
    REFUNDED = "refunded"
    """C2 after the capture: all or part of the money went back to where it came from."""
    CANCELLATION_REFUSED = "cancellation_refused"
    """C3: the merchant has a signed no, and nothing has moved."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: the next state, the rule of `ledger/rules.py` that makes the entry, the typs of the messages stored with it."""

    to: State
    rule: str | None
    evidence: tuple[str, ...]


ASKED_BY_SHOP = ("authorization-request", "authorization")
"""What an attempt of the dual-signature checkout brings: the shop's request, which is its confirmation, and the signed answer (D6, D7)."""

TABLE: dict[State, dict[Event, Transition]] = {
    State.NEW: {
        Event.OPENED: Transition(State.OPEN, None, ("order", "keys")),
        Event.MERCHANT_CANCELLED: Transition(State.CLOSED, None, ("cancel", "cancel-confirmation", "closed")),
    },
    State.OPEN: {
        Event.DECLINED: Transition(State.OPEN, None, ("keys", *ASKED_BY_SHOP)),
        Event.ATTEMPTS_EXHAUSTED: Transition(State.CLOSED, None, ("keys", *ASKED_BY_SHOP, "closed")),
        Event.CUSTOMER_CANCELLED: Transition(State.CLOSED, None, ("closed",)),
        Event.PAY_BY_PASSED: Transition(State.CLOSED, None, ("closed",)),
        Event.AUTHORIZED: Transition(State.AUTHORIZED, "hold", ("keys", "consent", "notice")),
        Event.MERCHANT_CANCELLED: Transition(State.CLOSED, None, ("cancel", "cancel-confirmation", "closed")),
        Event.CANCELLATION_REFUSED: Transition(State.OPEN, None, ("cancel", "cancel-refusal")),
    },
    State.AUTHORIZED: {
        Event.MERCHANT_CONFIRMED: Transition(State.CAPTURED, "capture", ("confirmation", "settled", *ASKED_BY_SHOP, "receipt")),
        Event.MERCHANT_REFUSED: Transition(State.REFUSED, "void", ("refusal", "voided")),
        Event.HOLD_EXPIRED: Transition(State.VOIDED, "void", ("voided",)),
    },
    State.CAPTURED: {
        Event.REFUNDED: Transition(State.CAPTURED, "refund", ("cancel", "cancel-confirmation")),
        Event.CANCELLATION_REFUSED: Transition(State.CAPTURED, None, ("cancel", "cancel-refusal")),
    },
    State.REFUSED: {Event.MERCHANT_CANCELLED: Transition(State.REFUSED, None, ("cancel", "cancel-confirmation"))},
    State.VOIDED: {Event.MERCHANT_CANCELLED: Transition(State.VOIDED, None, ("cancel", "cancel-confirmation"))},
    State.CLOSED: {Event.MERCHANT_CANCELLED: Transition(State.CLOSED, None, ("cancel", "cancel-confirmation"))},
}

ATTEMPTS_MAX = 5
"""The fifth declined attempt closes the payment."""

DECLINE_REASONS = (
    "wrong_factor",
    "factor_waits",
    "unknown_account",
    "no_funds",
    "account_suspended",
    "customer_suspended",
    "merchant_suspended",
    "unsigned_limit",
    "limit",
    "merchant_limit",
)
"""Why an attempt was declined (50); only `no_funds` and the suspensions are told, and only after the factor was right."""

IN_MERCHANT_WORDS = {
    State.NEW: "unknown",
    State.OPEN: "open",
    State.AUTHORIZED: "in_progress",
    State.CAPTURED: "settled",
    State.REFUSED: "voided",
    State.VOIDED: "voided",
    State.CLOSED: "closed",
}
"""The state as `status` (RQ) tells it to the merchant."""


class InProgress(WrongState):
    """What is asked hangs on what is being decided at this moment: a hold without its answer, or the same request beside this one."""

    code = "in_progress"
    advice = "Ask again with the same bytes: the payment is being decided at this moment."


def step(state: State, event: Event) -> Transition:
    """The row for this event in this state, or WrongState."""
    row = TABLE[state].get(event)
    if row is None:
        raise WrongState(f"{event} is not possible when the payment is {state}")
    return row
