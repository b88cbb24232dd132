"""The one entrance of bytes from the gateway: known bytes get their stored answer, new ones are verified, decided, stored, answered.

    frame ─▶ size ─▶ known? ─▶ verify (protocols/signed) ─▶ compare with the order book ─▶ the shop's say ─▶ sign ─▶ commit ─▶ answer

What is turned away as stale (the order moved on meanwhile) is computed and signed again; what breaks a rule is kept apart.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from hanbit.kernel import fail_points, ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, HanbitError, ProtocolViolation, Unavailable
from hanbit.merchant.cancel_desk import CancellationDesk, is_answer
from hanbit.merchant.changes import AnswerNotice, Conclude, Reject, Stale
from hanbit.merchant.console_desk import TYPS, ConsoleDesk
from hanbit.merchant.handlers import OnConfirm, ask_shop
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.purchase_desk import PurchaseDesk
from hanbit.merchant.reconciliation import NEVER_OPENED
from hanbit.merchant.states import TRANSITIONS, Event
from hanbit.protocols import signed
from hanbit.protocols.dual_signature.messages import Authorization
from hanbit.protocols.keys import Certificates, Crl, SessionAuthority
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.redirect.merchant import OUTCOMES, Merchant, Outcome
from hanbit.protocols.redirect.messages import Closed, Confirmation, Notice, Settled, Status
from hanbit.protocols.signed import SignedMessage

TRIES_MAX: Final = 3
_HEADERS_KEPT: Final = 64
_ABOUT_KEYS: Final = frozenset({Certificates.TYP, Crl.TYP, SessionAuthority.TYP})
_KEY_IS_GOOD_NO_MORE: Final = frozenset({"certificate_dates", "revoked"})
_log = logging.getLogger("hanbit.merchant")


class Inbox:
    """What a shop does with a frame; `on_ended` hears the tid of each order whose outcome has just been stored.

    `attended` is False in a tool beside the shop: it answers no notice that the shop has not answered before.
    """

    def __init__(
        self,
        *,
        role: Merchant,
        book: OrderBook,
        clock: Clock,
        on_confirm: OnConfirm | None,
        has_outcome_handler: bool,
        on_ended: Callable[[str], None],
        desk: CancellationDesk,
        purchases: PurchaseDesk,
        attended: bool = True,
        on_unproven: Callable[[str], None] = lambda _tid: None,
        on_keys: Callable[[str, str], Awaitable[str | None]] | None = None,
        console: ConsoleDesk | None = None,
    ) -> None:
        """`on_unproven` hears the tid of an outcome under a key that is good no more; `on_keys` takes messages about keys (typ, bytes)."""
        self._role = role
        self._book = book
        self._clock = clock
        self._on_confirm = on_confirm
        self._has_outcome_handler = has_outcome_handler
        self._on_ended = on_ended
        self._desk = desk
        self._purchases = purchases
        self._attended = attended
        self._on_unproven = on_unproven
        self._on_keys = on_keys
        self._console = console
        self._answering: dict[str, asyncio.Future[str | None]] = {}

    async def receive(self, unverified: str, *, vouched_by: SignedMessage[Status] | None = None) -> str | None:
        """The one entrance of bytes from the gateway: the stored answer to known bytes, else verify, decide, store, answer.

        `vouched_by` is the verified status in which an outcome came.

        Raises ProtocolViolation (the bytes are kept) for what breaks a rule, Unavailable where nothing could be stored.
        """
        if len(unverified) > signed.MESSAGE_MAX:
            raise ProtocolViolation("size")
        request = ids.digest(unverified.encode("utf-8", "replace"))
        under_way = self._answering.get(request)
        if under_way is not None:
            return await asyncio.shield(under_way)
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._answering[request] = answer
        try:
            result = await self._receive(unverified, request, vouched_by)
        except BaseException as error:
            answer.set_exception(error if isinstance(error, HanbitError) else Unavailable("the first answer failed"))
            answer.exception()  # seen: most often nobody else waits
            raise
        else:
            answer.set_result(result)
            return result
        finally:
            del self._answering[request]

    async def _receive(self, unverified: str, request: str, vouched_by: SignedMessage[Status] | None) -> str | None:
        try:
            route = _route(unverified, request)
            for _ in range(TRIES_MAX):
                try:
                    if route.typ == Notice.TYP:
                        return await self._on_notice(unverified, route)
                    if route.typ in OUTCOMES:
                        return await self._on_outcome_message(unverified, route, vouched_by)
                    if route.typ == Authorization.TYP:
                        return await self._purchases.receive(unverified, vouched_by)
                    if is_answer(route.typ):
                        await self._desk.receive(unverified)
                        return None
                    if route.typ in _ABOUT_KEYS and self._on_keys is not None:
                        return await self._on_keys(route.typ, unverified)
                    return await self._on_others(unverified, route)
                except Stale:
                    continue
        except ProtocolViolation as violation:
            _log.warning("a message was rejected: %s", violation.rule)
            await self._book.commit(Reject(unverified.encode(), violation.rule, violation.detail, self._clock.now()))
            raise
        raise Unavailable("the order changed three times meanwhile")

    async def _on_others(self, unverified: str, route: "_Route") -> str | None:
        """What is no step of a payment."""
        if route.typ in TYPS and self._console is not None:
            if not self._attended:
                raise Unavailable("the shop's own program answers its console, not this tool beside it")
            return await self._console.receive(route.typ, unverified, route.request)
        if route.typ in (Status.TYP, RefusedByGateway.TYP):
            _log.info("an answer came that nobody waits for any more: %s", route.typ)
            return None
        raise ProtocolViolation("typ", "not for a shop")

    async def _on_notice(self, unverified: str, route: "_Route") -> str:
        """R8, R9."""
        known = await self._book.known(route.request, route.tid, route.payment)
        if known.answer is not None:
            return known.answer
        if not self._attended:
            raise Unavailable("the shop's own program answers notices, not this tool beside it")
        at = self._clock.now()
        notice = self._role.verify_notice(unverified, at=at)
        facts = known.order.facts if known.order is not None else None
        objection = None
        if known.order is not None and self._role.compare(notice, facts, at=at) is None:
            objection = await ask_shop(self._on_confirm, known.order)
        answer = self._role.answer_notice(notice, facts, objection, at=at)
        event = None
        if isinstance(answer.claims, Confirmation):
            event = Event.NOTICE_CONFIRMED
        elif known.order is not None and known.order.payment is None and Event.NOTICE_REFUSED in TRANSITIONS[known.order.state]:
            event = Event.NOTICE_REFUSED
        version = known.order.version if known.order is not None else None
        await self._book.commit(AnswerNotice(notice.claims.tid, version, event, notice, answer, at))
        _log.info("notice answered: %s", answer.claims.TYP, extra={"payment": notice.claims.payment})
        return answer.compact

    async def _on_outcome_message(self, unverified: str, route: "_Route", vouched_by: SignedMessage[Status] | None) -> str | None:
        """R11: stored, and acknowledged by what this returns; None where another of the same batch carries the acknowledgement."""
        known = await self._book.known(route.request, route.tid, route.payment)
        if known.answer is not None:
            # Told again because nobody heard: a commit whose success was lost has woken nobody here either.
            self._on_ended(route.tid)
            return known.answer
        at = self._clock.now()
        if vouched_by is not None:
            outcome = self._role.vouched_outcome(vouched_by, at=at)
        else:
            outcome = self._verified_outcome(unverified, route.tid, at)
        order = known.order
        self._role.check_outcome(outcome, order.facts if order is not None else None, known.exchange)
        fail_points.reach("merchant.outcome.verified")
        claims = outcome.claims
        if isinstance(claims, Closed):
            event, payment = Event.CLOSED, None
        else:
            event, payment = (Event.SETTLED if isinstance(claims, Settled) else Event.VOIDED), claims.payment
        # The order belongs to one payment; the end of another (a second attempt that was refused) is kept and moves nothing.
        # So is what comes for an order that the gateway knew nothing of when its time had passed: no payment of it can succeed any more.
        concerns = order is not None and order.reason != NEVER_OPENED and (payment is None or order.payment in (None, payment))
        acknowledgement = await self._book.commit(
            Conclude(
                tid=claims.tid,
                version=order.version if order is not None else None,
                event=event if concerns else None,
                outcome=outcome,
                payment=payment,
                handled=not self._has_outcome_handler,
                at=at,
            )
        )
        _log.info("outcome stored: %s", claims.TYP, extra={"payment": payment})
        self._on_ended(claims.tid)
        return acknowledgement

    def _verified_outcome(self, unverified: str, tid: str, at: int) -> Outcome:
        try:
            return self._role.verify_outcome(unverified, at=at)
        except ProtocolViolation as violation:
            if violation.rule in _KEY_IS_GOOD_NO_MORE:  # the gateway is to say under its present key what it stored
                self._on_unproven(tid)
            raise


class _Header(msgspec.Struct):
    typ: str


class _Claims(msgspec.Struct):
    tid: str = ""
    payment: str | None = None


class _Route(NamedTuple):
    """What unverified bytes say about themselves: which rows to read and whom to ask, before and never instead of verifying."""

    request: str
    typ: str
    tid: str
    payment: str | None


def _route(unverified: str, request: str) -> _Route:
    header, _, rest = unverified.partition(".")
    try:
        claims = msgspec.json.decode(ids.decode_base64url(rest.partition(".")[0]), type=_Claims)
        return _Route(request, _typ(header), claims.tid, claims.payment)
    except (msgspec.MsgspecError, BadInput, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("shape", "no message of a known shape") from error


@lru_cache(maxsize=_HEADERS_KEPT)
def _typ(header: str) -> str:
    """The gateway's headers of one typ are the same bytes until its certificate changes."""
    return msgspec.json.decode(ids.decode_base64url(header), type=_Header).typ
