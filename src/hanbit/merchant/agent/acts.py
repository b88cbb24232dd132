"""What a shop may do with an order now: one table state → acts, from which `can` is answered; a new act is a new row entry."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from hanbit.merchant.cancellation import Cancellation, CancellationState, Goods
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
    CANCEL = "cancel"
    """Take back what is left, or a part of what was paid: `POST /orders/{tid}/cancellations`."""
    RETURNED = "returned"
    INQUIRE = "inquire"
    """Ask the payment server what it knows, now."""


ACTS: Final[dict[State, tuple[Act, ...]]] = {
    State.PLACED: (Act.PAY, Act.WITHDRAW, Act.REPLACE, Act.CANCEL, Act.INQUIRE),
    State.WITHDRAWN: (Act.CANCEL, Act.INQUIRE),
    State.REQUESTED: (Act.INQUIRE,),
    State.CONFIRMED: (Act.CANCEL, Act.INQUIRE),
    State.REFUSED: (Act.INQUIRE,),
    State.SETTLED: (Act.DELIVER, Act.CANCEL, Act.RETURNED),
    State.VOIDED: (),
    State.CLOSED: (),
    State.CANCELLED: (Act.RETURNED,),
}


def possible(order: Order, cancellations: Iterable[Cancellation], at: int) -> list[Act]:
    """The acts of the order's state, without those that its deadline or its cancellations rule out.

    Nobody is sent to pay after `pay_by` (a plain order's 30 minutes are the gateway's to count), or while a cancellation is open; one
    cancellation is open at a time; goods come back only where some are awaited.
    """
    told = list(cancellations)
    is_open = any(not one.final for one in told)
    ruled_out = {
        Act.PAY: is_open or (not order.plain and at > order.pay_by),
        Act.CANCEL: is_open,
        Act.RETURNED: all(one.goods is not Goods.AWAITED or one.state is not CancellationState.CONFIRMED for one in told),
    }
    return [act for act in ACTS[order.state] if not ruled_out.get(act, False)]
