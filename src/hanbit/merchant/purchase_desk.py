"""The shop's side of the dual-signature checkout: opens sessions, checks purchases with its own half, asks the gateway, takes its answer.

    D2 ─▶ session and temporary certificate, durable ─▶ D3
    D5 ─▶ verified against session, order and lines ─▶ the shop's say ─▶ signed D6, durable ─▶ line ─▶ D7 verified, durable ─▶ D8

The book decides: one purchase a session, one at a time an order, and nothing of an order changes before the verified answer is stored. The
same D6 and envelope go out until it is, after a restart too; then the envelope is dropped. Goods go out on an approval, on nothing else.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from hanbit.crypto.certificates import Authority
from hanbit.kernel import fail_points, ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import ProtocolViolation, Unavailable, WrongState
from hanbit.merchant import purchase as rows
from hanbit.merchant.changes import AnswerPurchase, AnySigned, AskPurchase, LookAtPurchase, OpenSession, Reject, Stale
from hanbit.merchant.handlers import OnConfirm, ask_shop
from hanbit.merchant.line import LineToGateway
from hanbit.merchant.order import Order
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.order_desk import OrderDesk
from hanbit.merchant.purchase import Exchange, ExchangeState, OpenedSession, PurchaseResult, fingerprint
from hanbit.merchant.sending import Sender
from hanbit.merchant.states import Event, State
from hanbit.protocols import signed
from hanbit.protocols.dual_signature.digests import join_frame, split_frame
from hanbit.protocols.dual_signature.merchant import Merchant, SessionFacts
from hanbit.protocols.dual_signature.messages import (
    Authorization,
    AuthorizationRequest,
    Purchase,
    Session,
    SessionAnswer,
)
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.redirect.merchant import REFUSAL_REASONS, Objection
from hanbit.protocols.redirect.messages import Status
from hanbit.protocols.signed import SignedMessage

TRIES_MAX: Final = 3
FIRST_ANSWER_S: Final = 10.0
"""How long a customer's window waits for the gateway's word; later it is told `pending`, and asks the gateway itself."""
KEPT_AFTER_S: Final = 600
"""A session stays so long after it has ended: whoever is late is told so, and not that there was none."""
OPEN_PAGE: Final = 500
NOT_NOW: Final = frozenset({"error", "in_progress", "payments_halted", "stale", "too_many", "too_many_tries", "unavailable"})
"""Codes with which the gateway's line says that it has not decided. With any other it has: those bytes are refused for ever."""
CONTRADICTION: Final = "contradiction"
"""The gateway approves what it had ended otherwise: the exchange rests until somebody has looked at it."""
_KEY_IS_GOOD_NO_MORE: Final = frozenset({"certificate_dates", "revoked"})
_log = logging.getLogger("hanbit.merchant")


class _Unwanted(Exception):
    """The shop does not stand to this order: nothing is asked."""

    def __init__(self, objection: Objection) -> None:
        super().__init__(objection.reason)
        self.result = PurchaseResult(
            result="declined", reason=objection.reason, message=objection.message or REFUSAL_REASONS[objection.reason]
        )


@dataclass(frozen=True, slots=True)
class Issuing:
    """What a shop needs for this checkout beside what it has for the other: its role, and by what it certifies its customers' keys."""

    role: Merchant
    authority: Callable[[int], Authority]
    """The session authority that is good at this moment; Unavailable where there is none."""


class PurchaseDesk:
    """Everything between a customer's fresh key and the gateway's signed word on his purchase."""

    def __init__(
        self,
        *,
        issuing: Issuing | None,
        orders: OrderDesk,
        book: OrderBook,
        clock: Clock,
        line: Callable[[], LineToGateway | None],
        on_confirm: OnConfirm | None,
        has_outcome_handler: bool,
        attended: bool,
        on_ended: Callable[[str], None],
        on_unproven: Callable[[str], None],
    ) -> None:
        """`on_ended` hears the tid of each order that is paid; `on_unproven` of an answer under a key that is good no more."""
        self._issuing = issuing
        self._orders = orders
        self._book = book
        self._clock = clock
        self._line = line
        self._on_confirm = on_confirm
        self._has_outcome_handler = has_outcome_handler
        self._attended = attended
        self._on_ended = on_ended
        self._on_unproven = on_unproven
        self.sender: Final = Sender("purchase", clock, self._send_what_is_due, goes_on=False)

    # --- what customers ask -------------------------------------------------------------------------------------------------------------

    async def open_session(self, tid: str, unverified_request: str) -> SessionAnswer:
        """D2, D3: the same request gets the same answer; ProtocolViolation names what is wrong with one, and nothing has changed.

        WrongState where no payment of this order is taken, TooManyTries where it has its sessions already.
        """
        issuing = self._at_the_counter()
        known_by = ids.digest(unverified_request.encode("utf-8", "replace"))
        for _ in range(TRIES_MAX):
            order = await self._orders.order(tid)
            known = await self._book.session(request=known_by)
            if known is not None:
                if known.tid != tid:
                    raise ProtocolViolation("order", "a session for another order")
                return msgspec.json.decode(known.answer, type=SessionAnswer)
            at = self._clock.now()
            request = issuing.role.verify_session_request(unverified_request, at=at)
            opened = issuing.role.answer_session_request(request, order.purchase_facts, issuing.authority(at), at=at)
            claims = opened.session.claims
            answer = msgspec.json.encode(opened.answer).decode()
            session = OpenedSession(claims.sid, tid, known_by, answer, claims.exp + KEPT_AFTER_S)
            try:
                await self._book.commit(OpenSession(session, at))
            except Stale:
                continue
            return opened.answer
        raise Unavailable("the same request was answered three times meanwhile")

    async def buy(self, tid: str, purchase: Purchase) -> PurchaseResult:
        """D5 to D8: verified, asked, and answered with the gateway's word, or `pending` where that is not here yet.

        The same purchase gets the same answer. ProtocolViolation names the check that it failed, WrongState says that the order is open no
        more: then the gateway was asked nothing, and nothing has changed.
        """
        self._at_the_counter()
        for _ in range(TRIES_MAX):
            order = await self._orders.order(tid)
            sid = _named_session(purchase)
            known = await self._known(order, purchase, sid)
            try:
                exchange = known or await self._ask(order, purchase, sid)
            except Stale:
                continue
            except _Unwanted as no:
                return no.result
            if not exchange.final:
                await asyncio.wait((self._send_now(exchange),), timeout=FIRST_ANSWER_S)
            return (await self._by_sid(exchange.sid)).result
        raise Unavailable("the order changed three times meanwhile")

    async def _known(self, order: Order, purchase: Purchase, sid: str) -> Exchange | None:
        """The exchange of these very bytes; ProtocolViolation where their session is used for others: one attempt, one session."""
        found = await self._book.exchanges(rows.BY_SID, sid)
        if not found:
            return None
        if (found[0].tid, found[0].purchase) != (order.tid, fingerprint(purchase)):
            raise ProtocolViolation("sid", "not an open session of this shop")
        return found[0]

    async def _ask(self, order: Order, purchase: Purchase, sid: str) -> Exchange:
        """D6, durable; _Unwanted where the shop itself says no, Stale where something moved meanwhile."""
        issuing = self._at_the_counter()
        at = self._clock.now()
        answered = await self._answered(sid, order)
        if answered is None:
            raise ProtocolViolation("sid", "not an open session of this shop")
        session = signed.recall(answered.session, Session)
        facts = SessionFacts(session.claims, session.hash, used=False, issued=signed.decode_chain(answered.certificate))
        purchased = issuing.role.verify_purchase(purchase, facts, order.purchase_facts, order.lines_json, at=at)
        objection = await ask_shop(self._on_confirm, order)
        if objection is not None:
            raise _Unwanted(objection)
        at = self._clock.now()
        request = issuing.role.make_authorization_request(purchased, at=at)
        exchange = Exchange(
            sid=purchased.session.sid,
            tid=order.tid,
            state=ExchangeState.ASKED,
            purchase=fingerprint(purchase),
            oi=purchased.oi,
            envelope=purchased.envelope,
            asked_at=at,
            changed_at=at,
        )
        await self._book.commit(AskPurchase(exchange, session, request, order.version, at))
        return await self._by_sid(exchange.sid)

    async def _answered(self, sid: str, order: Order) -> SessionAnswer | None:
        """Our own D3 out of our own book, where this order has it."""
        known = await self._book.session(sid=sid)
        return msgspec.json.decode(known.answer, type=SessionAnswer) if known is not None and known.tid == order.tid else None

    # --- asking the gateway ---------------------------------------------------------------------------------------------------------------

    async def _send_what_is_due(self) -> bool:
        """Send what is due; False if nothing is open."""
        after, found = 0, False
        while page := await self._book.exchanges(rows.ASKED, after, OPEN_PAGE):
            found = True
            for asked in page:
                if self.sender.is_full:
                    return True
                if self.sender.is_due(asked.sid):
                    _ = self._send_now(asked)
            after = page[-1].request
        return found

    def _send_now(self, asked: Exchange) -> asyncio.Task[None]:
        return self.sender.now(asked.sid, partial(self._exchange, asked))

    async def _exchange(self, asked: Exchange) -> str:
        """The stored bytes out, the answer in; why there is none yet, or an empty text."""
        line = self._line()
        if asked.envelope is None or asked.look is not None:
            return ""
        if line is None:
            raise Unavailable("no line to the gateway")
        request = await self._request(asked)
        unverified = await line.ask(join_frame(request.compact, asked.envelope))
        try:
            acknowledgement, turned_away = await self._take(unverified, asked, request, None)
        except ProtocolViolation as violation:
            _log.warning("an answer to a purchase was rejected: %s", violation.rule)
            await self._book.commit(Reject(unverified.encode("utf-8", "replace"), violation.rule, violation.detail, self._clock.now()))
            raise
        if acknowledgement is not None:
            await line.tell(acknowledgement)
        return turned_away

    # --- answers --------------------------------------------------------------------------------------------------------------------------

    async def receive(self, unverified: str, vouched_by: SignedMessage[Status] | None) -> str | None:
        """An authorization that came by itself, late, told as an outcome or within a status; what to send back.

        ProtocolViolation where it does not answer what this shop asked.
        """
        message = unverified.partition("\n")[0]
        known = await self._book.known(ids.digest(message.encode("utf-8", "replace")), None, None)
        sid = signed.peek_claims(message).get("sid")
        found = await self._book.exchanges(rows.BY_SID, sid) if isinstance(sid, str) and ids.TOKEN.fullmatch(sid) else []
        if not found:
            raise ProtocolViolation("sid", "this shop has not asked that")
        if known.answer is not None:
            # Told again because nobody heard: a commit whose success was lost has woken nobody here either.
            self._on_ended(found[0].tid)
            return known.answer
        return (await self._take(unverified, found[0], await self._request(found[0]), vouched_by))[0]

    async def _request(self, asked: Exchange) -> SignedMessage[AuthorizationRequest]:
        """Our own D6 out of our own book."""
        return signed.recall((await self._book.message(asked.request)).compact, AuthorizationRequest)

    async def _take(
        self, unverified: str, asked: Exchange, request: SignedMessage[AuthorizationRequest], vouched_by: SignedMessage[Status] | None
    ) -> tuple[str | None, str]:
        """D7: verify, compare with the request, store; the acknowledgement to send, and the line's code where it says "not now"."""
        for _ in range(TRIES_MAX):
            at = self._clock.now()
            answered = self._read(unverified, request, vouched_by, at)
            if isinstance(answered, str):
                return None, answered
            change = await self._judge(answered, request, asked, at)
            if change is None:
                return (await self._book.known(answered.message.hash, None, None)).answer, ""
            fail_points.reach("merchant.authorization.verified")
            try:
                acknowledgement = await self._book.commit(change)
            except Stale:
                asked = await self._by_sid(asked.sid)
                continue
            _log.info("purchase %s", change.exchange.state, extra={"payment": change.payment})
            if change.approves:
                self._on_ended(asked.tid)
            return acknowledgement, ""
        raise Unavailable("the order changed three times meanwhile")

    def _read(
        self, unverified: str, request: SignedMessage[AuthorizationRequest], vouched_by: SignedMessage[Status] | None, at: int
    ) -> "_Answered | str":
        """The verified answer to this very request; the line's code where it has not decided."""
        role = self._role
        message, beside = split_frame(unverified)
        if signed.peek_typ(message) == RefusedByGateway.TYP:
            refused = signed.verify(message, RefusedByGateway, trust=role.trust, audience=role.signer.urn, at=at, sender=role.gateway)
            if refused.claims.req != request.hash:
                raise ProtocolViolation("req", "not what this shop asked")
            return refused.claims.code if refused.claims.code in NOT_NOW else _Answered(refused, None, refused.claims.code, None)
        authorization = self._verified(message, request.claims.tid, vouched_by, at)
        role.check_authorization(authorization.claims, request.claims, request.hash)
        claims = authorization.claims
        receipt = None
        if beside and claims.payment is not None:
            receipt = role.read_receipt(beside, authorization, at=at).compact
        return _Answered(authorization, claims.payment, claims.reason, receipt)

    def _verified(self, message: str, tid: str, vouched_by: SignedMessage[Status] | None, at: int) -> SignedMessage[Authorization]:
        if vouched_by is not None:
            return self._role.vouched_authorization(vouched_by, at=at)
        try:
            return self._role.verify_authorization(message, at=at)
        except ProtocolViolation as violation:
            if violation.rule in _KEY_IS_GOOD_NO_MORE:  # the gateway is to say under its present key what it stored
                self._on_unproven(tid)
            raise

    async def _judge(
        self, answered: "_Answered", request: SignedMessage[AuthorizationRequest], asked: Exchange, at: int
    ) -> AnswerPurchase | None:
        """What the answer does; None where it is known. A second, other answer is a contradiction, whatever it says."""
        if asked.answer is not None:
            if (await self._book.message(asked.answer)).hash != answered.message.hash:
                raise ProtocolViolation("answered", "a second, other answer to the same request")
            return None
        order = await self._orders.order(asked.tid)
        approved = answered.payment is not None
        if approved and order.state is not State.REQUESTED:
            with suppress(Stale):  # it is known already
                await self._book.commit(LookAtPurchase(replace(asked, look=CONTRADICTION), at))
            raise ProtocolViolation("state", f"approved, of an order that is {order.state}")
        event = (Event.AUTHORIZED if approved else Event.DECLINED) if order.state is State.REQUESTED else None
        exchange = replace(
            asked,
            state=ExchangeState.APPROVED if approved else ExchangeState.DECLINED,
            envelope=None,
            changed_at=at,
            receipt=answered.receipt,
            reason=None if approved else answered.reason or "declined",
        )
        return AnswerPurchase(
            exchange=exchange,
            request=request.hash,
            answer=answered.message,
            version=order.version,
            event=event,
            payment=answered.payment,
            handled=not self._has_outcome_handler,
            at=at,
        )

    async def _by_sid(self, sid: str) -> Exchange:
        return (await self._book.exchanges(rows.BY_SID, sid))[0]

    @property
    def _role(self) -> Merchant:
        return self._part().role

    def _part(self) -> Issuing:
        if self._issuing is None:
            raise WrongState("this shop has no part in the dual-signature checkout")
        return self._issuing

    def _at_the_counter(self) -> Issuing:
        if not self._attended:
            raise Unavailable("the shop's own program opens sessions and takes purchases, not this tool beside it")
        return self._part()


def _named_session(purchase: Purchase) -> str:
    """The session that the dual signature names, unverified: to look up whose it is."""
    sid = signed.peek_claims(purchase.dual).get("sid")
    if not isinstance(sid, str) or not ids.TOKEN.fullmatch(sid):
        raise ProtocolViolation("sid", "no session of this shop")
    return sid


@dataclass(frozen=True, slots=True)
class _Answered:
    """A verified answer and what it says."""

    message: AnySigned
    payment: str | None
    reason: str | None
    receipt: str | None
