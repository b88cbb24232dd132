"""The gateway's role in a cancellation: takes a merchant's own request, compares it with the payment, signs the answer; no I/O.

C1   verify_cancel         who signed it; something is asked, and no more than the merchant believes is left
     check_fresh           `exp` bounds the first acceptance; bytes that were answered before get the stored answer without it
     compare               with the payment as the book has it: tid, payment, currency, the message that it continues
C2   whole_is_asked        before the capture: nothing but the whole order can be cancelled
     refund_is_possible    after it: what is left, as both sides see it, and the order's deadline
C3   make_confirmation, make_refusal
"""

from dataclasses import dataclass
from typing import Final

from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.cancellation.messages import REFUSALS, Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.signed import SignedMessage, Signer, Trust, head, sign, verify

LIFETIME_MAX_S: Final = 24 * 3600
"""No cancellation may be accepted for the first time later than so long after it was signed."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the book says about the payment that is to be cancelled."""

    tid: str
    payment: str | None
    """None where no customer has opened the tid: then the merchant cannot know a payment either."""
    currency: str
    links: frozenset[str]
    """The messages that a cancellation may continue: the order, and the outcome once there is one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What has gone back so far, and what is left of the payment."""

    refunded: int
    remaining: int


NOTHING: Final = Figures(refunded=0, remaining=0)
"""Nothing was captured, and nothing will be."""


def verify_cancel(unverified: str, *, trust: Trust, gateway: str, merchant_urn: str, at: int) -> SignedMessage[Cancel]:
    """C1: a cancellation that this merchant signed; its grammar admits figures that mean nothing, which are refused here."""
    cancel = verify(unverified, Cancel, trust=trust, audience=gateway, at=at, sender=merchant_urn)
    if not int(cancel.claims.amount) > 0:
        raise ProtocolViolation("amount", "a cancellation of nothing")
    return cancel


def check_fresh(cancel: SignedMessage[Cancel], at: int) -> None:
    """C1: `exp` bounds the first acceptance, and lies at most a day after the signature."""
    if not 0 <= cancel.claims.exp - cancel.claims.iat <= LIFETIME_MAX_S:
        raise ProtocolViolation("exp", "more than a day after it was signed")
    if at > cancel.claims.exp:
        raise ProtocolViolation("expired", "cancel")


def compare(cancel: SignedMessage[Cancel], known: Facts) -> None:
    """C2: the cancellation is of this payment; its figures are judged afterwards and answered by a signed refusal."""
    asked = cancel.claims
    if asked.tid != known.tid:
        raise ProtocolViolation("tid", "another transaction")
    if asked.payment not in (None, known.payment):
        raise ProtocolViolation("payment", "not this transaction's payment")
    if asked.currency != known.currency:
        raise ProtocolViolation("currency", "not the payment's currency")
    if asked.prev not in known.links:
        raise ProtocolViolation("prev", "continues neither the order nor the outcome")


def whole_is_asked(cancel: SignedMessage[Cancel], amount: int | None) -> str | None:
    """C2, before the capture: a code of REFUSALS, or None. `amount` is the order's, None where the gateway never saw the order."""
    asked, left = int(cancel.claims.amount), int(cancel.claims.remaining)
    return None if asked == left and amount in (None, asked) else "amount_differs"


def refund_is_possible(cancel: SignedMessage[Cancel], figures: Figures, *, refund_by: int | None, at: int) -> str | None:
    """C2, after the capture: a code of REFUSALS, or None; whether the merchant's account can cover it is decided with the entry."""
    if int(cancel.claims.remaining) != figures.remaining:
        return "remaining_differs"
    if int(cancel.claims.amount) > figures.remaining:
        return "too_much"
    return "too_late" if refund_by is not None and at > refund_by else None


def make_confirmation(cancel: SignedMessage[Cancel], figures: Figures, *, signer: Signer, at: int) -> SignedMessage[CancelConfirmation]:
    """C3: OS(cancel confirmation) (42); the figures are those after this cancellation."""
    asked = cancel.claims
    claims = CancelConfirmation(
        **head(signer, asked.iss, at),
        cancellation=asked.cancellation,
        payment=asked.payment,
        tid=asked.tid,
        amount=asked.amount,
        currency=asked.currency,
        refunded=str(figures.refunded),
        remaining=str(figures.remaining),
        req=cancel.hash,
    )
    return sign(claims, signer)


def make_refusal(cancel: SignedMessage[Cancel], figures: Figures, reason: str, *, signer: Signer, at: int) -> SignedMessage[CancelRefusal]:
    """C3: nothing has moved; the figures are those that still stand."""
    assert reason in REFUSALS, reason
    asked = cancel.claims
    claims = CancelRefusal(
        **head(signer, asked.iss, at),
        cancellation=asked.cancellation,
        payment=asked.payment,
        tid=asked.tid,
        amount=asked.amount,
        currency=asked.currency,
        refunded=str(figures.refunded),
        remaining=str(figures.remaining),
        reason=reason,
        req=cancel.hash,
    )
    return sign(claims, signer)
