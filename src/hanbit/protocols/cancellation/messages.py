"""The signed messages of a cancellation (C1 to C3); each class is one typ."""

from typing import ClassVar

from hanbit.protocols.fields import Amount, Code, Currency, Digest, Instant, Message, Text, Tid, Token


class Cancel(Message, frozen=True, kw_only=True):
    """C1: OS(cancel) (40): take this much of the order back; `remaining` is what the shop believes is left of the payment."""

    TYP: ClassVar[str] = "hanbit-cancel"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    cancellation: Token
    payment: Token | None = None
    """Absent before any notice or authorization."""
    tid: Tid
    amount: Amount
    currency: Currency
    remaining: Amount
    reason: Text
    prev: Digest
    """The last outcome that the shop holds, else its order."""
    exp: Instant
    """Bounds the first acceptance."""


class CancelConfirmation(Message, frozen=True, kw_only=True):
    """C3: OS(cancel confirmation) (42): done; `refunded` is the sum of all refunds so far, `remaining` what is left."""

    TYP: ClassVar[str] = "hanbit-cancel-confirmation"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    cancellation: Token
    payment: Token | None = None
    tid: Tid
    amount: Amount
    currency: Currency
    refunded: Amount
    remaining: Amount
    req: Digest


class CancelRefusal(Message, frozen=True, kw_only=True):
    """C3: the cancellation is not made and nothing has moved; `reason` is one of `REFUSALS`."""

    TYP: ClassVar[str] = "hanbit-cancel-refusal"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    cancellation: Token
    payment: Token | None = None
    tid: Tid
    amount: Amount
    currency: Currency
    refunded: Amount
    remaining: Amount
    reason: Code
    req: Digest


REFUSALS: dict[str, str] = {
    "amount_differs": "before the capture only the whole order can be cancelled",
    "remaining_differs": "the shop believes that another amount is left",
    "too_much": "more than what is left of the payment",
    "too_late": "the order's refund deadline has passed",
    "merchant_funds": "the merchant's account (and the reserve, where the operator lends it) cannot cover the refund",
}
"""Why a cancellation is refused."""

MESSAGES: tuple[type[Message], ...] = (Cancel, CancelConfirmation, CancelRefusal)
