"""What a shop may do with an order now: one table state → acts, from which `can` is answered; a new act is a new row entry."""

from enum import StrEnum
from typing import Final

from hanbit.merchant.order import Order
from hanbit.merchant.states import State


class Act(StrEnum):
    """One thing that a shop may do with an order."""

    PAY = "pay"
    """Send the customer to the payment server (again): `GET /orders/{tid}/redirect`."""
    WITHDRAW = "withdraw"
    REPLACE = "replace"
    DELIVER = "deliver"
    """Hand the goods over: the settled message is verified and stored."""
    INQUIRE = "inquire"
    """Ask the payment server what it knows, now."""


ACTS: Final[dict[State, tuple[Act, ...]]] = {
    State.PLACED: (Act.PAY, Act.WITHDRAW, Act.REPLACE, Act.INQUIRE),
    State.WITHDRAWN: (Act.INQUIRE,),
    State.CONFIRMED: (Act.INQUIRE,),
    State.REFUSED: (Act.INQUIRE,),
    State.SETTLED: (Act.DELIVER,),
    State.VOIDED: (),
    State.CLOSED: (),
    State.CANCELLED: (),
}


def possible(order: Order, at: int) -> list[Act]:
    """The acts of the order's state; nobody is sent to pay after `pay_by` (a plain order's 30 minutes are the gateway's to count)."""
    too_late = not order.plain and at > order.pay_by
    return [act for act in ACTS[order.state] if not (act is Act.PAY and too_late)]
