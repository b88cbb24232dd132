"""What can be done to the shop's book, one class each.

A change names the version of the order from which its signed messages were computed. If the order has moved on it is turned away
as Stale: the caller reads again, computes again and signs again. Nothing that was turned away leaves a trace.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hanbit.merchant.cancellation import Cancellation
from hanbit.merchant.order import Order
from hanbit.merchant.purchase import Exchange, ExchangeState, OpenedSession
from hanbit.merchant.states import Event, State
from hanbit.protocols.cancellation.messages import Cancel
from hanbit.protocols.dual_signature.messages import AuthorizationRequest, Session
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect.merchant import Answer, Outcome
from hanbit.protocols.redirect.messages import Notice
from hanbit.protocols.signed import SignedMessage

AnySigned: TypeAlias = SignedMessage[Message]
Acknowledge: TypeAlias = Callable[[tuple[str, ...], int], AnySigned]

HELD_MAX: Final = 1024 * 1024
"""Characters of one thing that the shop holds for the gateway or against it."""


class Stale(Exception):
    """The order has moved on since this change was computed."""


@dataclass(frozen=True, slots=True)
class Place:
    """R2: a new order, with its signed message where the merchant is not registered as plain."""

    order: Order
    message: AnySigned | None
    at: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The shop takes an open order back, or puts another in its place."""

    tid: str
    version: int
    replacement: Place | None
    at: int


@dataclass(frozen=True, slots=True)
class AnswerNotice:
    """R8, R9: the notice and the signed answer to it, stored together before the answer leaves."""

    tid: str
    version: int | None
    """None where the book has no such order."""
    event: Event | None
    """None where the order is decided by another payment already."""
    notice: SignedMessage[Notice]
    answer: Answer
    at: int


@dataclass(frozen=True, slots=True)
class Conclude:
    """R11: an outcome; its acknowledgement is signed for the whole batch and stored with it."""

    tid: str
    version: int | None
    event: Event | None
    outcome: Outcome
    payment: str | None
    handled: bool
    """True where no handler of the shop waits for it."""
    at: int


@dataclass(frozen=True, slots=True)
class CloseUnopened:
    """RQ: the gateway's stored status says that it knows no such transaction, and none can begin any more."""

    tid: str
    version: int
    status: str
    """hash of that message"""
    reason: str
    handled: bool
    at: int


@dataclass(frozen=True, slots=True)
class Keep:
    """RQ and messages about keys: one that was sent, or the answer to it. `tid` is None where it concerns no order."""

    message: AnySigned
    sent: bool
    tid: str | None
    answers: str | None
    at: int


@dataclass(frozen=True, slots=True)
class MarkHandled:
    """The shop's handler has taken the order in this state; one that was struck meanwhile is handed over once more."""

    tid: str
    state: State
    at: int


@dataclass(frozen=True, slots=True)
class MarkRefundTold:
    """The shop's handler knows that so much of the order has gone back; what goes back later is told by itself."""

    tid: str
    refunded_minor: int
    at: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Bytes that broke a rule, kept for the operator."""

    unverified: bytes
    rule: str
    detail: str
    at: int


@dataclass(frozen=True, slots=True)
class AskCancellation:
    """C1: what is asked back, stored with its signed message before that is sent; an order that nobody has paid is withdrawn with it."""

    cancellation: Cancellation
    message: SignedMessage[Cancel]
    version: int
    """of the order from which its figures were computed"""
    replaces: str | None
    """the refused cancellation that is asked anew"""
    at: int


@dataclass(frozen=True, slots=True)
class AnswerCancellation:
    """C3: the gateway's answer, and what it does to the order; with it, in the same commit, the cancellation that is asked anew."""

    cancellation: Cancellation
    """as it stands with its answer"""
    request: str
    """hash of the C1"""
    answer: AnySigned
    version: int
    event: Event | None
    """None where the order does not move"""
    refunded_minor: int
    """of the order, with this one"""
    tells: bool
    """True where a handler of the shop is to hear of a part that has gone back."""
    handled: bool
    """True where no handler of the shop waits for a struck order."""
    anew: AskCancellation | None
    at: int


@dataclass(frozen=True, slots=True)
class MarkReturned:
    """What was delivered under a cancelled order has come back."""

    tid: str
    at: int


@dataclass(frozen=True, slots=True)
class MarkLooked:
    """Somebody has looked at what the gateway said of this order's cancellations, and compared."""

    tid: str
    by: str
    at: int


@dataclass(frozen=True, slots=True)
class OpenSession:
    """D3: a session with the answer that its customer gets."""

    session: OpenedSession
    at: int


@dataclass(frozen=True, slots=True)
class AskPurchase:
    """D6: the shop asks the gateway for a purchase that it has verified; by the same bytes it confirms its order."""

    exchange: Exchange
    session: SignedMessage[Session]
    request: SignedMessage[AuthorizationRequest]
    version: int
    at: int


@dataclass(frozen=True, slots=True)
class AnswerPurchase:
    """D7: the gateway's answer, and what it does to the order; one that approves is acknowledged like every outcome."""

    exchange: Exchange
    """as it stands with its answer"""
    request: str
    """hash of the D6"""
    answer: AnySigned
    version: int
    event: Event | None
    """None where the order has gone another way meanwhile"""
    payment: str | None
    handled: bool
    """True where no handler of the shop waits for it."""
    at: int

    @property
    def approves(self) -> bool:
        """Whether money has moved."""
        return self.exchange.state is ExchangeState.APPROVED


@dataclass(frozen=True, slots=True)
class LookAtPurchase:
    """The gateway's signed answer contradicts the order: the exchange rests, and somebody must look at it."""

    exchange: Exchange
    """with the reason in `look`"""
    at: int


@dataclass(frozen=True, slots=True)
class Hold:
    """The latest of what the shop holds under a name (a revocation list, the last checkpoint)."""

    name: str
    content: str
    at: int


Change: TypeAlias = (
    Place
    | Withdraw
    | AnswerNotice
    | Conclude
    | CloseUnopened
    | Keep
    | MarkHandled
    | MarkRefundTold
    | AskCancellation
    | AnswerCancellation
    | MarkReturned
    | MarkLooked
    | OpenSession
    | AskPurchase
    | AnswerPurchase
    | LookAtPurchase
    | Hold
    | Reject
)
