"""What can be done to the shop's book, and how a batch of it is decided in memory before one transaction writes it.

A change names the version of the order from which its signed messages were computed. If the order has moved on it is turned away
as Stale: the caller reads again, computes again and signs again. Nothing that was turned away leaves a trace.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace

from hanbit.kernel.errors import BadInput, Conflict, HanbitError, NotFound, ProtocolViolation, WrongState
from hanbit.merchant.order import Order
from hanbit.merchant.states import Event, State, step
from hanbit.protocols.fields import Message
from hanbit.protocols.line import ACKNOWLEDGED_MAX
from hanbit.protocols.redirect.merchant import Answer, Outcome
from hanbit.protocols.redirect.messages import Confirmation, Notice, Refusal
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
class Keep:
    """RQ: a message sent, or the answer to it."""

    message: AnySigned
    sent: bool
    tid: str
    answers: str | None
    at: int


@dataclass(frozen=True, slots=True)
class MarkHandled:
    """The shop's handler has taken the order in this state; one that was struck meanwhile is handed over once more."""

    tid: str
    state: State
    at: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Bytes that broke a rule, kept for the operator."""

    unverified: bytes
    rule: str
    detail: str
    at: int


@dataclass(frozen=True, slots=True)
class Hold:
    """The latest of what the shop holds under a name (a revocation list, the last checkpoint)."""

    name: str
    content: str
    at: int


Change: TypeAlias = Place | Withdraw | AnswerNotice | Conclude | Keep | MarkHandled | Hold | Reject


@dataclass(slots=True)
class Loaded:
    """Every row that the changes of a batch read, loaded under the book's lock."""

    orders: dict[str, Order]
    request_keys: dict[str, str]
    """request key → tid"""
    received: dict[str, str]
    """jti of a message of the gateway → its hash"""
    payments: set[str]
    """those whose notice was answered"""
    next_number: int
    """of the journal"""


class JournalRow(NamedTuple):
    """A message, a step of an order, or the message that made a step."""

    number: int
    at: int
    tid: str | None
    message: AnySigned | None = None
    sent: bool = False
    version: int | None = None
    event: str | None = None
    state: State | None = None


@dataclass(slots=True)
class Rows:
    """What one transaction writes, one list a table."""

    new_orders: list[Order] = field(default_factory=list)
    moved_orders: dict[str, Order] = field(default_factory=dict)
    journal: list[JournalRow] = field(default_factory=list)
    answers: list[tuple[str, int]] = field(default_factory=list)
    notices: list[tuple[str, int, int, int]] = field(default_factory=list)
    held: list[Hold] = field(default_factory=list)
    rejected: list[tuple[int, str, str, bytes]] = field(default_factory=list)


class Batch:
    """Decides changes in order; each is turned away by itself, never because of its neighbours."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._to_acknowledge: list[str] = []
        self.rows = Rows()

    def decide(self, change: Change) -> Exception | None:
        """Take the change into the rows, or say why not; a change is taken wholly or not at all."""
        try:
            match change:
                case Place():
                    self._place(change)
                case Withdraw():
                    self._withdraw(change)
                case AnswerNotice():
                    self._answer_notice(change)
                case Conclude():
                    self._conclude(change)
                case Keep():
                    self._keep(change)
                case MarkHandled():
                    self._mark_handled(change)
                case Hold():
                    self._hold(change)
                case Reject():
                    self.rows.rejected.append((change.at, change.rule, change.detail, change.unverified))
        except (Stale, HanbitError) as turned_away:
            return turned_away
        return None

    def acknowledge(self, sign: Acknowledge, at: int) -> list[AnySigned]:
        """Sign for every outcome of this batch, up to 100 in one message; the same transaction stores both."""
        signed_now = []
        for start in range(0, len(self._to_acknowledge), ACKNOWLEDGED_MAX):
            outcomes = tuple(self._to_acknowledge[start : start + ACKNOWLEDGED_MAX])
            acknowledgement = sign(outcomes, at)
            number = self._write(at, None, acknowledgement, sent=True)
            self.rows.answers.extend((outcome, number) for outcome in outcomes)
            signed_now.append(acknowledgement)
        return signed_now

    def _place(self, change: Place) -> None:
        order = change.order
        if order.tid in self._loaded.orders:
            raise Conflict("this tid is taken for ever")
        if order.request_key is not None:
            if order.request_key in self._loaded.request_keys:
                raise Stale
            self._loaded.request_keys[order.request_key] = order.tid
        self._loaded.orders[order.tid] = order
        self.rows.new_orders.append(order)
        self._write(change.at, order.tid, change.message, sent=True, version=order.version, event="placed", state=order.state)

    def _withdraw(self, change: Withdraw) -> None:
        order = self._unmoved(change.tid, change.version)
        if order is None:
            raise NotFound("no such order")
        following = step(order.state, Event.WITHDRAWN)
        replaced_by = None
        if change.replacement is not None:
            self._place(change.replacement)
            replaced_by = change.replacement.order.tid
        self._move(order, Event.WITHDRAWN, following, None, change.at, reason="withdrawn", replaced_by=replaced_by)

    def _answer_notice(self, change: AnswerNotice) -> None:
        order = self._unmoved(change.tid, change.version)
        claims, answer = change.notice.claims, change.answer
        self._check_new(change.notice)
        if claims.payment in self._loaded.payments:
            raise ProtocolViolation("payment", "another notice for the same payment")
        following = step(order.state, change.event) if order is not None and change.event is not None else None
        self._loaded.payments.add(claims.payment)
        notice_number = self._write(change.at, claims.tid, change.notice)
        if order is not None and change.event is not None and following is not None:
            reason = answer.claims.reason if isinstance(answer.claims, Refusal) else None
            answer_number = self._move(order, change.event, following, answer, change.at, sent=True, payment=claims.payment, reason=reason)
        else:
            answer_number = self._write(change.at, claims.tid, answer, sent=True)
        self.rows.answers.append((change.notice.hash, answer_number))
        self.rows.notices.append((claims.payment, notice_number, answer_number, int(isinstance(answer.claims, Confirmation))))

    def _conclude(self, change: Conclude) -> None:
        order = self._unmoved(change.tid, change.version)
        self._check_new(change.outcome)
        if order is None or change.event is None:
            self._write(change.at, change.tid, change.outcome)
        else:
            if order.outcome is not None:
                raise ProtocolViolation("state", "the order has its outcome")
            try:
                following = step(order.state, change.event)
            except WrongState as error:
                raise ProtocolViolation("state", error.detail) from error
            self._move(
                order,
                change.event,
                following,
                change.outcome,
                change.at,
                payment=change.payment or order.payment,
                outcome=change.outcome.hash,
                reason=_reason(change.outcome) or order.reason,
                # A struck order was, or will be, handed to the shop as such; the outcome that was overtaken changes nothing for it.
                handled_at=order.handled_at if following is State.CANCELLED else change.at if change.handled else None,
            )
        self._to_acknowledge.append(change.outcome.hash)

    def _keep(self, change: Keep) -> None:
        if not change.sent:
            self._check_new(change.message)
        number = self._write(change.at, change.tid, change.message, sent=change.sent)
        if change.answers is not None:
            self.rows.answers.append((change.answers, number))

    def _mark_handled(self, change: MarkHandled) -> None:
        order = self._loaded.orders.get(change.tid)
        if order is not None and order.final and order.state is change.state and order.handled_at is None:
            self._put(replace(order, handled_at=change.at))

    def _hold(self, change: Hold) -> None:
        if not change.name or len(change.content) > HELD_MAX:
            raise BadInput(f"what is held has a name and at most {HELD_MAX} characters")
        self.rows.held.append(change)

    def _unmoved(self, tid: str, version: int | None) -> Order | None:
        """The order as the caller saw it; None where there was and is none."""
        order = self._loaded.orders.get(tid)
        if (order.version if order is not None else None) != version:
            raise Stale
        return order

    def _check_new(self, message: AnySigned) -> None:
        """A jti of the gateway's names one message for ever: the same bytes are an old acquaintance, other bytes a fraud."""
        known = self._loaded.received.get(message.claims.jti)
        if known == message.hash:
            raise Stale
        if known is not None:
            raise ProtocolViolation("jti", "this number was used for another message")

    def _write(
        self,
        at: int,
        tid: str | None,
        message: AnySigned | None,
        *,
        sent: bool = False,
        version: int | None = None,
        event: str | None = None,
        state: State | None = None,
    ) -> int:
        """One row of the journal; its number."""
        number = self._loaded.next_number
        self._loaded.next_number += 1
        if message is not None and not sent:
            self._loaded.received[message.claims.jti] = message.hash
        self.rows.journal.append(JournalRow(number, at, tid, message, sent, version, event, state))
        return number

    def _move(
        self, order: Order, event: Event, following: State, message: AnySigned | None, at: int, *, sent: bool = False, **columns: object
    ) -> int:
        moved = replace(order, state=following, version=order.version + 1, changed_at=at, **columns)
        self._put(moved)
        return self._write(at, order.tid, message, sent=sent, version=moved.version, event=event, state=following)

    def _put(self, order: Order) -> None:
        self._loaded.orders[order.tid] = order
        self.rows.moved_orders[order.tid] = order


def _reason(outcome: Outcome) -> str | None:
    """The gateway's word on why nothing was paid; None for a settled message."""
    claims = outcome.claims
    return getattr(claims, "reason", None) or getattr(claims, "outcome", None)
