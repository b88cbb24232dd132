"""The life of an order in the shop's book: one table (state, event) → state; what is not in it cannot happen.

placed ──notice_confirmed──▶ confirmed ──settled──▶ settled     deliver
  │  │                           └──────voided────▶ voided      release the goods
  │  ├──notice_refused─────▶ refused ───voided────▶ voided
  │  ├──closed───────────────────────────────────▶ closed       ended unpaid before any notice
  │  └──voided───────────────────────────────────▶ voided       its notice never reached the shop
  ├─withdrawn────▶ withdrawn ──notice_refused──▶ withdrawn      then voided or closed as above
  └─authorization_requested──▶ requested ──authorized──▶ settled     deliver: in the dual-signature checkout one message asks and confirms
                                   └──────declined────▶ placed      that attempt is over, another may follow

settled (confirmed) ──refunded──▶ the same state, with less left
settled, confirmed, withdrawn, voided, closed ──cancelled──▶ cancelled     struck: the gateway has confirmed that nothing is left

While an authorization is requested the customer may still go the other way, by redirect: the gateway lets one attempt through, and its
notice is answered as if the order were placed. The gateway's answer to a cancellation may overtake the outcome: an order can be struck
first and hear settled, voided or closed after it.
"""

from enum import StrEnum
from typing import Final

from hanbit.kernel.errors import WrongState


class State(StrEnum):
    """Where an order stands."""

    PLACED = "placed"
    WITHDRAWN = "withdrawn"
    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    SETTLED = "settled"
    VOIDED = "voided"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What moves an order."""

    NOTICE_CONFIRMED = "notice_confirmed"
    NOTICE_REFUSED = "notice_refused"
    AUTHORIZATION_REQUESTED = "authorization_requested"
    AUTHORIZED = "authorized"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    SETTLED = "settled"
    VOIDED = "voided"
    CLOSED = "closed"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.PLACED: {
        Event.NOTICE_CONFIRMED: State.CONFIRMED,
        Event.NOTICE_REFUSED: State.REFUSED,
        Event.AUTHORIZATION_REQUESTED: State.REQUESTED,
        Event.WITHDRAWN: State.WITHDRAWN,
        Event.VOIDED: State.VOIDED,
        Event.CLOSED: State.CLOSED,
    },
    State.REQUESTED: {
        Event.AUTHORIZED: State.SETTLED,
        Event.DECLINED: State.PLACED,
        Event.NOTICE_CONFIRMED: State.CONFIRMED,
        Event.VOIDED: State.VOIDED,
        Event.CLOSED: State.CLOSED,
    },
    State.WITHDRAWN: {
        Event.NOTICE_REFUSED: State.WITHDRAWN,
        Event.VOIDED: State.VOIDED,
        Event.CLOSED: State.CLOSED,
        Event.CANCELLED: State.CANCELLED,
    },
    State.CONFIRMED: {
        Event.SETTLED: State.SETTLED,
        Event.VOIDED: State.VOIDED,
        Event.REFUNDED: State.CONFIRMED,
        Event.CANCELLED: State.CANCELLED,
    },
    State.REFUSED: {
        Event.VOIDED: State.VOIDED,
    },
    State.SETTLED: {
        Event.REFUNDED: State.SETTLED,
        Event.CANCELLED: State.CANCELLED,
    },
    State.VOIDED: {
        Event.CANCELLED: State.CANCELLED,
    },
    State.CLOSED: {
        Event.CANCELLED: State.CANCELLED,
    },
    State.CANCELLED: {
        Event.SETTLED: State.CANCELLED,
        Event.VOIDED: State.CANCELLED,
        Event.CLOSED: State.CANCELLED,
    },
}
FINAL: Final = frozenset({State.SETTLED, State.VOIDED, State.CLOSED, State.CANCELLED})
"""What became of the payment is known and stored; only the shop's own cancellation still moves such an order."""


def step(state: State, event: Event) -> State:
    """The state after this event, or WrongState."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise WrongState(f"{event} cannot happen to an order that is {state}")
    return following
