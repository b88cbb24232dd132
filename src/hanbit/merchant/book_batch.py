"""How a batch of changes is decided in memory, in order, before one transaction writes it."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from hanbit.kernel.errors import BadInput, Conflict, HanbitError, NotFound, ProtocolViolation, TooLarge, TooManyTries, WrongState
from hanbit.merchant.cancellation import CANCELLATIONS_MAX, LOOKED, REFUND, Cancellation, CancellationState, Goods
from hanbit.merchant.changes import (
    HELD_MAX,
    Acknowledge,
    AnswerCancellation,
    AnswerNotice,
    AnswerPurchase,
    AnySigned,
    AskCancellation,
    AskPurchase,
    Change,
    CloseUnopened,
    Conclude,
    Hold,
    Keep,
    LookAtPurchase,
    MarkHandled,
    MarkLooked,
    MarkRefundTold,
    MarkReturned,
    OpenSession,
    Place,
    Reject,
    Stale,
    Withdraw,
)
from hanbit.merchant.order import Order
from hanbit.merchant.purchase import EXCHANGES_MAX, SESSIONS_MAX, Exchange, OpenedSession
from hanbit.merchant.states import Event, State, step
from hanbit.protocols.line import ACKNOWLEDGED_MAX
from hanbit.protocols.redirect.merchant import Outcome
from hanbit.protocols.redirect.messages import Confirmation, Refusal


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
    cancellations: dict[str, Cancellation]
    """all of the orders concerned, and those under the request keys concerned; by id"""
    exchanges: dict[str, Exchange]
    """all of the orders concerned, by sid"""
    sessions: list[OpenedSession]
    """those of the orders concerned"""
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
    new_cancellations: list[Cancellation] = field(default_factory=list)
    moved_cancellations: dict[str, Cancellation] = field(default_factory=dict)
    new_sessions: list[OpenedSession] = field(default_factory=list)
    new_exchanges: list[Exchange] = field(default_factory=list)
    moved_exchanges: dict[str, Exchange] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    """Names under which nothing waits any more to be told."""
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
                case CloseUnopened():
                    self._close_unopened(change)
                case Keep():
                    self._keep(change)
                case MarkHandled() | MarkRefundTold():
                    self._mark_told(change)
                case AskCancellation() | AnswerCancellation() | MarkReturned() | MarkLooked():
                    self._decide_cancellation(change)
                case OpenSession() | AskPurchase() | AnswerPurchase() | LookAtPurchase():
                    self._decide_purchase(change)
                case Hold() | Reject():
                    self._set_aside(change)
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
            _check_refunded(order, change.event)
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

    def _close_unopened(self, change: CloseUnopened) -> None:
        order = self._unmoved(change.tid, change.version)
        if order is None:
            raise NotFound("no such order")
        following = step(order.state, Event.CLOSED)
        handled_at = change.at if change.handled else None
        self._move(order, Event.CLOSED, following, None, change.at, outcome=change.status, reason=change.reason, handled_at=handled_at)

    def _keep(self, change: Keep) -> None:
        if not change.sent:
            self._check_new(change.message)
        number = self._write(change.at, change.tid, change.message, sent=change.sent)
        if change.answers is not None:
            self.rows.answers.append((change.answers, number))

    def _mark_told(self, change: MarkHandled | MarkRefundTold) -> None:
        order = self._loaded.orders.get(change.tid)
        if isinstance(change, MarkRefundTold):
            if order is not None and order.refunded_minor == change.refunded_minor:  # else more went back meanwhile, and waits to be told
                self.rows.told.append(REFUND + order.tid)
        elif order is not None and order.final and order.state is change.state and order.handled_at is None:
            self._put(replace(order, handled_at=change.at))

    def _decide_cancellation(self, change: AskCancellation | AnswerCancellation | MarkReturned | MarkLooked) -> None:
        match change:
            case AskCancellation():
                self._ask_cancellation(change)
            case AnswerCancellation():
                self._answer_cancellation(change)
            case MarkReturned():
                self._mark_returned(change)
            case MarkLooked():
                self._mark_looked(change)

    def _ask_cancellation(self, change: AskCancellation) -> None:
        order = self._may_be_asked(change)
        asked = change.cancellation
        if order.state is State.PLACED:
            following = step(order.state, Event.WITHDRAWN)
            number = self._move(order, Event.WITHDRAWN, following, change.message, change.at, sent=True, reason="withdrawn")
        else:
            number = self._write(change.at, order.tid, change.message, sent=True)
        if change.replaces is not None:
            replaced = replace(self._loaded.cancellations[change.replaces], replaced_by=asked.id)
            self._put_cancellation(replaced)
        stored = replace(asked, message=number)
        self._loaded.cancellations[stored.id] = stored
        self.rows.new_cancellations.append(stored)

    def _may_be_asked(self, change: AskCancellation) -> Order:
        """The order, if the book has nothing against this cancellation of it."""
        order = self._unmoved(change.cancellation.tid, change.version)
        if order is None:
            raise NotFound("no such order")
        asked = change.cancellation
        others = list(self._loaded.cancellations.values())
        rivals = [other for other in others if other.replaced_by is None and other.id != change.replaces]
        if asked.request_key is not None and any(other.request_key == asked.request_key for other in rivals):
            raise Stale
        own = [other for other in others if other.tid == order.tid]
        # The one rule by which several cancellations can never ask for more than is left: the next is signed when the last is answered.
        if any(not other.final for other in own):
            raise WrongState("a cancellation of this order waits for its answer")
        if len(own) >= CANCELLATIONS_MAX:
            raise TooLarge(f"an order has at most {CANCELLATIONS_MAX} cancellations")
        if asked.remaining != order.remaining or asked.amount > asked.remaining:
            raise Stale
        return order

    def _answer_cancellation(self, change: AnswerCancellation) -> None:
        answered = change.cancellation
        asked = self._loaded.cancellations.get(answered.id)
        order = self._unmoved(answered.tid, change.version)
        if order is None or asked is None:
            raise NotFound("no such cancellation")
        if asked.final:
            raise Stale
        self._check_new(change.answer)
        following = step(order.state, change.event) if change.event is not None else None
        if change.event is not None and following is not None:
            handled_at = order.handled_at
            if following is State.CANCELLED and not change.handled:
                handled_at = None  # taken as settled or not at all: the shop is told that it was struck
            columns = {"refunded_minor": change.refunded_minor, "handled_at": handled_at}
            number = self._move(order, change.event, following, change.answer, change.at, sent=False, **columns)
        else:
            number = self._write(change.at, order.tid, change.answer)
        if change.tells and change.event is Event.REFUNDED:
            self.rows.held.append(Hold(REFUND + order.tid, str(change.refunded_minor), change.at))
        self._put_cancellation(replace(answered, message=asked.message, answer=number))
        self.rows.answers.append((change.request, number))
        if change.anew is not None:
            # The answer is an answer whatever the book has against asking once more; what raises here has written nothing.
            with suppress(Stale, HanbitError):
                self._ask_cancellation(change.anew)

    def _mark_returned(self, change: MarkReturned) -> None:
        own = [c for c in self._loaded.cancellations.values() if c.tid == change.tid and c.state is CancellationState.CONFIRMED]
        if not any(c.goods is not Goods.NONE for c in own):
            raise WrongState("nothing is awaited back for this order")
        for awaited in [c for c in own if c.goods is Goods.AWAITED]:
            self._put_cancellation(replace(awaited, goods=Goods.RETURNED, changed_at=change.at))

    def _mark_looked(self, change: MarkLooked) -> None:
        flagged = [c for c in self._loaded.cancellations.values() if c.tid == change.tid and c.look is not None]
        if not flagged:
            raise NotFound("no cancellation of this order waits for a look")
        self.rows.held += [Hold(LOOKED + one.id, change.by, change.at) for one in flagged]

    def _decide_purchase(self, change: OpenSession | AskPurchase | AnswerPurchase | LookAtPurchase) -> None:
        match change:
            case OpenSession():
                self._open_session(change)
            case AskPurchase():
                self._ask_purchase(change)
            case AnswerPurchase():
                self._answer_purchase(change)
            case LookAtPurchase():
                self._look_at_purchase(change)

    def _open_session(self, change: OpenSession) -> None:
        opened = change.session
        if any(known.request == opened.request for known in self._loaded.sessions):
            raise Stale
        live = [known for known in self._loaded.sessions if known.tid == opened.tid and known.expires_at >= change.at]
        if len(live) >= SESSIONS_MAX:
            raise TooManyTries(
                f"an order has at most {SESSIONS_MAX} sessions at once",
                retry_after_s=min(known.expires_at for known in live) - change.at + 1,
            )
        self._loaded.sessions.append(opened)
        self.rows.new_sessions.append(opened)

    def _ask_purchase(self, change: AskPurchase) -> None:
        asked = change.exchange
        own = [known for known in self._loaded.exchanges.values() if known.tid == asked.tid]
        if asked.sid in self._loaded.exchanges:
            raise Stale
        order = self._unmoved(asked.tid, change.version)
        if order is None:
            raise NotFound("no such order")
        if len(own) >= EXCHANGES_MAX:
            raise TooLarge(f"an order has at most {EXCHANGES_MAX} purchases")
        following = step(order.state, Event.AUTHORIZATION_REQUESTED)
        session = self._write(change.at, order.tid, change.session, sent=True)
        request = self._move(order, Event.AUTHORIZATION_REQUESTED, following, change.request, change.at, sent=True)
        stored = replace(asked, session=session, request=request)
        self._loaded.exchanges[stored.sid] = stored
        self.rows.new_exchanges.append(stored)

    def _answer_purchase(self, change: AnswerPurchase) -> None:
        answered = change.exchange
        asked = self._loaded.exchanges.get(answered.sid)
        order = self._unmoved(answered.tid, change.version)
        if order is None or asked is None:
            raise NotFound("no such exchange")
        if asked.final:
            raise Stale
        self._check_new(change.answer)
        if change.event is None:
            number = self._write(change.at, order.tid, change.answer)
        else:
            try:
                following = step(order.state, change.event)
            except WrongState as error:
                raise ProtocolViolation("state", error.detail) from error
            outcome, handled_at = (change.answer.hash, change.at if change.handled else None) if change.approves else (None, None)
            number = self._move(
                *(order, change.event, following, change.answer, change.at), payment=change.payment, outcome=outcome, handled_at=handled_at
            )
        moved = replace(answered, session=asked.session, request=asked.request, answer=number)
        self._loaded.exchanges[moved.sid] = moved
        self.rows.moved_exchanges[moved.sid] = moved
        self.rows.answers.append((change.request, number))
        if change.approves:
            self._to_acknowledge.append(change.answer.hash)

    def _look_at_purchase(self, change: LookAtPurchase) -> None:
        asked = self._loaded.exchanges.get(change.exchange.sid)
        if asked is None:
            raise NotFound("no such exchange")
        if asked.final or asked.look is not None:
            raise Stale
        moved = replace(asked, look=change.exchange.look, changed_at=change.at)
        self._loaded.exchanges[moved.sid] = moved
        self.rows.moved_exchanges[moved.sid] = moved

    def _set_aside(self, change: Hold | Reject) -> None:
        if isinstance(change, Reject):
            self.rows.rejected.append((change.at, change.rule, change.detail, change.unverified))
            return
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

    def _put_cancellation(self, cancellation: Cancellation) -> None:
        self._loaded.cancellations[cancellation.id] = cancellation
        self.rows.moved_cancellations[cancellation.id] = cancellation

    def _put(self, order: Order) -> None:
        self._loaded.orders[order.tid] = order
        self.rows.moved_orders[order.tid] = order


def _check_refunded(order: Order, event: Event) -> None:
    """The gateway's word on the payment fits its word on the refund, whichever of the two came first."""
    if event is Event.SETTLED and order.state is State.CANCELLED and order.refunded_minor == 0:
        raise ProtocolViolation("state", "settled, of an order of which no money was there to refund")
    if event is not Event.SETTLED and order.refunded_minor > 0:
        raise ProtocolViolation("state", "nothing was paid, of an order of which money was refunded")


def _reason(outcome: Outcome) -> str | None:
    """The gateway's word on why nothing was paid; None for a settled message."""
    claims = outcome.claims
    return getattr(claims, "reason", None) or getattr(claims, "outcome", None)
