"""The life of an order in the shop's book: one table (state, event) → state; what is not in it cannot happen.

placed ──notice_confirmed──▶ confirmed ──settled──▶ settled     deliver
  │  │                           └──────voided────▶ voided      release the goods
  │  ├──notice_refused─────▶ refused ───voided────▶ voided
  │  ├──closed───────────────────────────────────▶ closed       ended unpaid before any notice
  │  └──voided───────────────────────────────────▶ voided       its notice never reached the shop
  └─withdrawn────▶ withdrawn ──notice_refused──▶ withdrawn      then voided or closed as above
"""

from enum import StrEnum
from typing import Final

from hanbit.kernel.errors import WrongState


class State(StrEnum):
    """Where an order stands."""

    PLACED = "placed"
    WITHDRAWN = "withdrawn"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    SETTLED = "settled"
    VOIDED = "voided"
    CLOSED = "closed"


class Event(StrEnum):
    """What moves an order."""

    NOTICE_CONFIRMED = "notice_confirmed"
    NOTICE_REFUSED = "notice_refused"
    WITHDRAWN = "withdrawn"
    SETTLED = "settled"
    VOIDED = "voided"
    CLOSED = "closed"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.PLACED: {
        Event.NOTICE_CONFIRMED: State.CONFIRMED,
        Event.NOTICE_REFUSED: State.REFUSED,
        Event.WITHDRAWN: State.WITHDRAWN,
        Event.VOIDED: State.VOIDED,
        Event.CLOSED: State.CLOSED,
    },
    State.WITHDRAWN: {
        Event.NOTICE_REFUSED: State.WITHDRAWN,
        Event.VOIDED: State.VOIDED,
        Event.CLOSED: State.CLOSED,
    },
    State.CONFIRMED: {
        Event.SETTLED: State.SETTLED,
        Event.VOIDED: State.VOIDED,
    },
    State.REFUSED: {
        Event.VOIDED: State.VOIDED,
    },
    State.SETTLED: {},
    State.VOIDED: {},
    State.CLOSED: {},
}
FINAL: Final = frozenset(state for state, events in TRANSITIONS.items() if not events)
"""Nothing moves an order any more: its outcome is known and stored."""


def step(state: State, event: Event) -> State:
    """The state after this event, or WrongState."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise WrongState(f"{event} cannot happen to an order that is {state}")
    return following
