"""The shop's side of Figure 4: asks for what is to be taken back (C1), with the same bytes until it is answered, and takes the answer (C3).

    ask ─▶ the book decides and stores the signed C1 ─▶ line ─▶ verify C3 ─▶ compare with the book ─▶ order struck or less left

What the gateway turns away for now (`in_progress`: the payment is being decided) is sent again after 2, 4, 8, 16, 30, 30 … s, and at once
when the line comes up or the order's outcome arrives. Nothing of an order changes before the verified answer is stored.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from msgspec.structs import replace

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import Conflict, NotFound, ProtocolViolation, Unavailable, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant import cancellation as rows
from hanbit.merchant.cancellation import Cancellation, CancellationState, Goods, amount_to_cancel
from hanbit.merchant.changes import AnswerCancellation, AskCancellation, Reject, Stale
from hanbit.merchant.line import LineToGateway
from hanbit.merchant.order import Order
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.sending import SENDING_MAX, Sender
from hanbit.merchant.states import TRANSITIONS, Event, State
from hanbit.protocols import signed
from hanbit.protocols.cancellation.merchant import ANSWERS, Merchant
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.signed import SignedMessage

TRIES_MAX: Final = 3
FIRST_ANSWER_S: Final = 5.0
"""How long `ask` stays for the first answer; later ones are heard by whoever looks at the book."""
OPEN_PAGE: Final = 500
_log = logging.getLogger("hanbit.merchant")


class _Verdict(NamedTuple):
    """What an answer does: to the cancellation, and to its order."""

    cancellation: Cancellation
    event: Event | None
    refunded_minor: int


class CancellationDesk:
    """Everything between the shop's wish and the gateway's signed word on it; `on_struck` hears the tid of each order that is struck."""

    def __init__(
        self,
        *,
        role: Callable[[], Merchant],
        book: OrderBook,
        clock: Clock,
        line: Callable[[], LineToGateway | None],
        has_outcome_handler: bool,
        tells_refunds: bool,
        on_struck: Callable[[str], None],
        on_refunded: Callable[[], None],
    ) -> None:
        self._role = role
        self._book = book
        self._clock = clock
        self._line = line
        self._has_outcome_handler = has_outcome_handler
        self._tells_refunds = tells_refunds
        self._on_struck = on_struck
        self._on_refunded = on_refunded
        self.sender: Final = Sender("cancellation", clock, self._send_what_is_due, goes_on=True)
        self._open_tids: set[str] = set()
        """Orders of which an outcome matters here; what every other order's outcome costs is one look into this set."""

    def on_ended(self, tid: str) -> None:
        """The outcome of this order is known here: what was asked before can be answered, or asked with the right figures, now."""
        if tid in self._open_tids:
            self.sender.ring()

    async def ask(self, tid: str, *, amount: Money | None, reason: str, request_key: str | None, goods: bool) -> Cancellation:
        """C1: decided and durable, then sent; returns as it stands after the first answer, or while that is still awaited."""
        asked = await self._store(tid, amount=amount, reason=reason, request_key=request_key, goods=goods)
        if not asked.final:
            sending = self._send_now(asked)
            await asyncio.wait((sending,), timeout=FIRST_ANSWER_S)
        return await self.latest(asked.id)

    async def latest(self, identity: str) -> Cancellation:
        """The cancellation of this id, or the one that took its place; NotFound where there is none."""
        found = await self._by_id(identity)
        while found.replaced_by is not None:
            found = await self._by_id(found.replaced_by)
        return found

    async def receive(self, unverified: str) -> None:
        """An answer that came by itself, late or a second time; ProtocolViolation where it does not fit what was asked."""
        claims = signed.peek_claims(unverified)
        identity = claims.get("cancellation")
        if not isinstance(identity, str) or not ids.TOKEN.fullmatch(identity):
            raise ProtocolViolation("cancellation", "not for a cancellation of this shop")
        try:
            asked = await self._by_id(identity)
        except NotFound as error:
            raise ProtocolViolation("cancellation", "this shop has not asked that") from error
        await self._take(unverified, asked)

    async def try_all(self) -> None:
        """Send every open cancellation now, whatever its pause, and return when each has had its try."""
        after = 0
        while page := await self._book.cancellations(rows.ASKED, after, OPEN_PAGE):
            for start in range(0, len(page), SENDING_MAX):
                await asyncio.wait([self._send_now(asked) for asked in page[start : start + SENDING_MAX]])
            after = page[-1].message

    # --- asking -----------------------------------------------------------------------------------------------------------------------

    async def _store(self, tid: str, *, amount: Money | None, reason: str, request_key: str | None, goods: bool) -> Cancellation:
        for _ in range(TRIES_MAX):
            if request_key is not None:
                known = await self._book.cancellations(rows.BY_REQUEST_KEY, request_key)
                if known:
                    return _same(known[0], tid, amount)
            order = await self._order(tid)
            money = amount_to_cancel(order, amount, reason=reason, request_key=request_key)
            change = self._make(order, money, reason=reason, request_key=request_key, goods=goods)
            try:
                await self._book.commit(change)
            except Stale:
                continue
            self._open_tids.add(tid)
            return await self._by_id(change.cancellation.id)
        raise Unavailable("the order changed three times meanwhile")

    def _make(
        self, order: Order, amount: Money, *, reason: str, request_key: str | None, goods: bool, replaces: str | None = None
    ) -> AskCancellation:
        at = self._clock.now()
        identity = ids.new_token_of(at)
        message = self._role().make_cancel(
            cancellation=identity,
            payment=order.payment,
            tid=order.tid,
            amount=amount,
            remaining=order.remaining,
            reason=reason,
            prev=order.outcome or order.order_hash,
            at=at,
        )
        asked = Cancellation(
            id=identity,
            tid=order.tid,
            state=CancellationState.ASKED,
            amount=amount,
            remaining=order.remaining,
            reason=reason,
            request_key=request_key,
            early=order.outcome is None,
            asked_at=at,
            changed_at=at,
            goods=Goods.AWAITED if goods else Goods.NONE,
        )
        return AskCancellation(asked, message, order.version, replaces, at)

    def _make_anew(self, refused: Cancellation, order: Order) -> AskCancellation | None:
        """The same wish with today's figures; None where it cannot be asked any more."""
        whole = refused.amount == refused.remaining
        try:
            amount = amount_to_cancel(order, None if whole else refused.amount, reason=refused.reason, request_key=refused.request_key)
        except WrongState:
            return None
        return self._make(
            order,
            amount,
            reason=refused.reason,
            request_key=refused.request_key,
            goods=refused.goods is Goods.AWAITED,
            replaces=refused.id,
        )

    # --- sending ----------------------------------------------------------------------------------------------------------------------

    async def _send_what_is_due(self) -> bool:
        """Send what is due; False if nothing is open."""
        for refused in await self._book.cancellations(rows.RENEWABLE, OPEN_PAGE):
            await self._ask_anew(refused)
        after, found = 0, False
        while page := await self._book.cancellations(rows.ASKED, after, OPEN_PAGE):
            found = True
            for asked in page:
                if self.sender.is_full:
                    return True
                self._open_tids.add(asked.tid)
                if self.sender.is_due(asked.id):
                    _ = self._send_now(asked)
            after = page[-1].message
        return found

    async def _ask_anew(self, refused: Cancellation) -> None:
        anew = self._make_anew(refused, await self._order(refused.tid))
        try:
            if anew is not None:
                await self._book.commit(anew)
        except (Stale, WrongState) as error:
            _log.info("a refused cancellation is not asked anew: %s", error)

    def _send_now(self, asked: Cancellation) -> asyncio.Task[None]:
        return self.sender.now(asked.id, partial(self._exchange, asked))

    async def _exchange(self, asked: Cancellation) -> str:
        """The stored bytes out, the answer in; why there is none yet, or an empty text."""
        line = self._line()
        if line is None:
            raise Unavailable("no line to the gateway")
        kept = await self._book.message(asked.message)
        return await self._take_kept(await line.ask(kept.compact), asked)

    # --- answers ----------------------------------------------------------------------------------------------------------------------

    async def _take_kept(self, unverified: str, asked: Cancellation) -> str:
        """Take an answer; what breaks a rule is kept apart, and the same bytes are sent again."""
        try:
            return await self._take(unverified, asked)
        except ProtocolViolation as violation:
            _log.warning("an answer to a cancellation was rejected: %s", violation.rule)
            await self._book.commit(Reject(unverified.encode(), violation.rule, violation.detail, self._clock.now()))
            raise

    async def _take(self, unverified: str, asked: Cancellation) -> str:
        """C3: verify, compare with the book, store; the line's code where it says no more than "not now", else an empty text."""
        cancel = signed.recall((await self._book.message(asked.message)).compact, Cancel)
        for _ in range(TRIES_MAX):
            order = await self._order(asked.tid)
            at = self._clock.now()
            if signed.peek_typ(unverified) == RefusedByGateway.TYP:
                turned_away = self._read_refused(unverified, cancel, at)
                if self._comes_again(turned_away.claims.code, cancel):
                    return turned_away.claims.code
                answer: SignedMessage[CancelConfirmation | CancelRefusal | RefusedByGateway] = turned_away
            else:
                answer = self._role().read_answer(unverified, cancel, settled=order.state is State.SETTLED, at=at)
            asked = await self._by_id(asked.id)
            if asked.answer is not None:
                if (await self._book.message(asked.answer)).hash != answer.hash:
                    raise ProtocolViolation("answered", "a second, other answer to the same cancellation")
                return ""
            verdict = _judge(answer.claims, asked, order, at)
            anew = self._make_anew(asked, order) if _is_asked_anew(verdict.cancellation, order) else None
            change = AnswerCancellation(
                cancellation=verdict.cancellation,
                request=cancel.hash,
                answer=answer,
                version=order.version,
                event=verdict.event,
                refunded_minor=verdict.refunded_minor,
                handled=not self._has_outcome_handler,
                tells=self._tells_refunds,
                anew=anew,
                at=at,
            )
            try:
                await self._book.commit(change)
            except Stale:
                continue
            _log.info("cancellation answered: %s", answer.claims.TYP, extra={"cancellation": asked.id})
            if anew is None and not (asked.early and verdict.cancellation.refusal in rows.EARLY_FIGURES):
                self._open_tids.discard(asked.tid)
            if verdict.event is Event.CANCELLED:
                self._on_struck(asked.tid)
            elif verdict.event is Event.REFUNDED:
                self._on_refunded()
            return ""
        raise Unavailable("the order changed three times meanwhile")

    def _read_refused(self, unverified: str, cancel: SignedMessage[Cancel], at: int) -> SignedMessage[RefusedByGateway]:
        role = self._role()
        refused = signed.verify(unverified, RefusedByGateway, trust=role.trust, audience=role.signer.urn, at=at, sender=role.gateway)
        if refused.claims.req != cancel.hash:
            raise ProtocolViolation("req", "not what this shop asked")
        return refused

    def _comes_again(self, code: str, cancel: SignedMessage[Cancel]) -> bool:
        """Whether the same bytes may still succeed; a new signature under the same old certificate would be refused as the old one was."""
        return code not in rows.NEVER or (code == "certificate_dates" and cancel.kid == self._role().signer.kid)

    async def _by_id(self, identity: str) -> Cancellation:
        found = await self._book.cancellations(rows.BY_ID, identity)
        if not found:
            raise NotFound("no such cancellation")
        return found[0]

    async def _order(self, tid: str) -> Order:
        order = await self._book.order(tid) if ids.TID.fullmatch(tid) else None
        if order is None:
            raise NotFound("no such order")
        return order


def is_answer(typ: str) -> bool:
    """Whether a message of this typ answers a cancellation."""
    return typ in ANSWERS


def _judge(said: CancelConfirmation | CancelRefusal | RefusedByGateway, asked: Cancellation, order: Order, at: int) -> _Verdict:
    """What a verified answer means; figures of the gateway are compared with ours and never taken over."""
    if isinstance(said, RefusedByGateway):
        return _Verdict(_refused(asked, said.code, None, at), None, order.refunded_minor)
    if isinstance(said, CancelRefusal):
        look = None
        if said.reason in rows.EARLY_FIGURES and not asked.early:
            look = f"the gateway says: {said.refunded} refunded, {said.remaining} left; this book has {_figures(order)}"
        return _Verdict(_refused(asked, said.reason, look, at), None, order.refunded_minor)
    refunded, remaining = int(said.refunded), int(said.remaining)
    # Nothing was ever captured, and nothing will be: the whole order has ended.
    amount = asked.amount.amount_minor if refunded else 0
    ours = order.refunded_minor + amount
    left = order.amount.amount_minor - ours if refunded else 0
    event: Event | None = Event.REFUNDED if left else Event.CANCELLED
    look = None
    if (refunded, remaining) != (ours, left):
        look = f"the gateway says: {refunded} refunded, {remaining} left; this book has {ours} refunded, {left} left"
    possible = order.state in (State.CONFIRMED, State.SETTLED) if refunded else order.refunded_minor == 0
    if not possible or event not in TRANSITIONS[order.state]:
        look, event, ours = f"the gateway says: {refunded} refunded, of an order that is {order.state} here", None, order.refunded_minor
    goods = asked.goods if order.state is State.SETTLED else Goods.NONE
    confirmed = replace(asked, state=CancellationState.CONFIRMED, goods=goods, look=look, changed_at=at)
    return _Verdict(confirmed, event, ours)


def _refused(asked: Cancellation, reason: str, look: str | None, at: int) -> Cancellation:
    return replace(asked, state=CancellationState.REFUSED, refusal=reason, look=look, changed_at=at)


def _is_asked_anew(answered: Cancellation, order: Order) -> bool:
    """Refused for what time has mended: it came too late, or its figures were those from before the payment was settled."""
    if answered.refusal in rows.TOO_OLD:
        return True
    return answered.refusal in rows.EARLY_FIGURES and answered.early and order.state is State.SETTLED


def _figures(order: Order) -> str:
    return f"{order.refunded_minor} refunded, {order.remaining.text} left"


def _same(known: Cancellation, tid: str, amount: Money | None) -> Cancellation:
    if known.tid != tid or amount not in (None, known.amount):
        raise Conflict("this request_key was used for another cancellation")
    return known
