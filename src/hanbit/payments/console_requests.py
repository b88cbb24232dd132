"""What people of a merchant ask their shop from the console: sent over its line, answered by the shop's own word; see ADR 0028.

    ask ──▶ waiting ──▶ send (again, the same bytes, until there is an answer) ──▶ done | refused

The gateway never signs for a shop. What it signs is that somebody asked, with one id; a refund happens only by the shop's own C1. What a
shop says here is shown as its word and decides nothing: whether money went back stands in the book.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

import msgspec

from hanbit.db.change import Change, Put, Stale
from hanbit.db.reading import Reader, columns
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel.errors import Conflict, HanbitError, NotFound, ProtocolViolation, TooManyTries, Unavailable, WrongState
from hanbit.kernel.money import Money
from hanbit.parties.people import Person
from hanbit.payments import payment as payments
from hanbit.payments.apply import signing_still
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.sign_in import act as audited
from hanbit.payments.states import State
from hanbit.protocols import console
from hanbit.protocols.console import DONE, NOT_OFFERED, About, Act, ConsoleDone, ConsoleRows
from hanbit.protocols.line import RefusedByMerchant
from hanbit.protocols.signed import SignedMessage, peek_typ, verify

WAITING: Final = "waiting"
AGAIN_S: Final = 5
LONGEST_WAIT_S: Final = 300
AT_ONCE_MAX: Final = 50
LISTED_MAX: Final = 20
A_MINUTE: Final = 60
"""Acts and questions of one merchant's people; each is a frame on its line."""
SPEECHLESS_S: Final = 600
"""How long a shop that does not know these messages is not asked again: it counts what it refuses, and hangs up on a flood."""
UNKNOWN_THERE: Final = "typ"
"""The code with which an older shop refuses a message that it does not know."""


class AlreadyAsked(WrongState):
    """A wish about this payment waits for the shop's answer, or was asked at this very moment."""

    code = "already_asked"
    advice = "Look at the request that was made; another one can be made when it is answered."


class ConsoleRequest(msgspec.Struct, frozen=True):
    """One row; `result` is the shop's word: done, or why not."""

    merchant: str
    id: str
    version: int
    act: str
    tid: str | None
    turn: int | None
    amount: int | None
    currency: str | None
    delivery: str | None
    person: str
    reason: str
    state: str
    result: str | None
    cancellation: str | None
    request_hash: str
    answer_hash: str | None
    asked_at: int
    next_at: int | None
    tries: int
    decided_at: int | None

    @property
    def money(self) -> Money | None:
        """A part, or None for all that is left."""
        return None if self.amount is None or self.currency is None else Money(self.amount, self.currency)

    def put(self, **changed: Any) -> Put:
        """The row with what changes."""
        row = msgspec.structs.asdict(msgspec.structs.replace(self, **changed))
        del row["version"]
        return Put("console_requests", row, self.version)


_SELECT: Final = f"SELECT {columns('console_requests', ConsoleRequest)} FROM console_requests "  # noqa: S608 - names of our own


def find(reader: Reader, merchant: str, request: str) -> ConsoleRequest | None:
    """A merchant's own request."""
    row = reader.one(_SELECT + "WHERE merchant = ? AND id = ?", merchant, request)
    return None if row is None else ConsoleRequest(*row)


def of_payment(reader: Reader, merchant: str, tid: str) -> list[ConsoleRequest]:
    """What was asked of this order last, oldest first."""
    rows = reader.all(_SELECT + "WHERE merchant = ? AND tid = ? ORDER BY asked_at DESC, id LIMIT ?", merchant, tid, LISTED_MAX)
    return [ConsoleRequest(*row) for row in reversed(rows)]


def latest(reader: Reader, merchant: str) -> list[ConsoleRequest]:
    """What was asked last, newest first."""
    rows = reader.all(_SELECT + "WHERE merchant = ? ORDER BY asked_at DESC, id LIMIT ?", merchant, LISTED_MAX)
    return [ConsoleRequest(*row) for row in rows]


# --- asking -----------------------------------------------------------------------------------------------------------------------


async def ask_refund(gateway: Gateway, who: Person, payment: Payment, *, request: str, amount: Money | None, reason: str) -> ConsoleRequest:
    """C1 is wished for: all that is left, or a part of what was paid. WrongState where nothing is left.

    AlreadyAsked where another wish still waits, or came at this moment: `last_wish` is the one.
    """
    known = _known_as(gateway, payment.merchant, request, "cancel", payment.tid, amount, None)
    if known is not None:
        return known  # the same form sent twice
    left = remaining(payment)
    if left.amount_minor == 0:
        raise WrongState("nothing is left of this payment")
    last = last_wish(gateway.reader, payment)
    if last is not None and last.state == WAITING:
        raise AlreadyAsked("the shop is still being asked about this payment")
    turn = 1 if last is None else (last.turn or 0) + 1
    if amount is not None and (amount.amount_minor > left.amount_minor or payment.state != State.CAPTURED):
        raise WrongState("more than is left of this payment")
    try:
        return await ask(gateway, who, "cancel", request=request, reason=reason, tid=payment.tid, turn=turn, amount=amount)
    except Conflict as error:  # two people's forms at the same moment, at whichever process: the book gives each turn once
        raise AlreadyAsked("somebody asked at the same moment") from error


async def ask(
    gateway: Gateway,
    who: Person,
    act: Act,
    *,
    request: str,
    reason: str,
    tid: str | None = None,
    turn: int | None = None,
    amount: Money | None = None,
    delivery: str | None = None,
) -> ConsoleRequest:
    """Sign, store, send once; as it stands then. The same id again is the same request."""
    merchant, at = who.merchant, gateway.clock.now()
    assert merchant is not None, "only a merchant's people ask a shop"
    known = _known_as(gateway, merchant, request, act, tid, amount, delivery)
    if known is not None:
        return known
    _spend(gateway, merchant)
    urn = gateway.settings.merchant_urn(merchant)
    message = console.make_act(
        gateway.signer, urn, request=request, act=act, person=who.actor, reason=reason, at=at, tid=tid, amount=amount, delivery=delivery
    )
    row = ConsoleRequest(
        merchant=merchant,
        id=request,
        version=0,
        act=act,
        tid=tid,
        turn=turn,
        amount=None if amount is None else amount.amount_minor,
        currency=None if amount is None else amount.currency,
        delivery=delivery,
        person=who.actor,
        reason=reason,
        state=WAITING,
        result=None,
        cancellation=None,
        request_hash=message.hash,
        answer_hash=None,
        asked_at=at,
        next_at=at + AGAIN_S,
        tries=0,
        decided_at=None,
    )
    audit = audited(at, who.actor, f"ask the shop: {act}", reason, merchant, tid)
    kept = record(message, merchant=merchant, tid="")
    with suppress(Stale):  # the same form beside this one
        await gateway.book.commit(Change(requires=(signing_still(gateway),), puts=(row.put(),), messages=(kept,), appends=(audit,)))
    return await send(gateway, merchant, request)


async def send(gateway: Gateway, merchant: str, request: str) -> ConsoleRequest:
    """The stored bytes out once, the answer in; as it stands then, which is still waiting where the shop could not be heard."""
    waiting = _known(gateway, merchant, request)
    mark = f"console:{merchant}:{request}"
    if waiting.state != WAITING or mark in gateway.deciding:
        return waiting
    gateway.deciding.add(mark)
    try:
        compact = evidence.compact(gateway.reader, merchant, "", waiting.request_hash)
        assert compact is not None, request
        await take_answer(gateway, merchant, await gateway.line.ask(merchant, compact))
    except Unavailable:
        gateway.observe("console", "unavailable")
    except ProtocolViolation as error:  # the shop's answer is none: it is asked again, and somebody can read why
        gateway.observe("console", "refused")
        audit = audited(gateway.clock.now(), gateway.settings.merchant_urn(merchant), "answer to a console", error.rule, merchant)
        await gateway.book.commit(Change(appends=(audit,)))
    finally:
        gateway.deciding.discard(mark)
    return _known(gateway, merchant, request)


async def take_answer(gateway: Gateway, merchant: str, unverified: str) -> None:
    """The shop's word on one of its requests: stored with it, once; ProtocolViolation where it is none."""
    urn, at = gateway.settings.merchant_urn(merchant), gateway.clock.now()
    if peek_typ(unverified) == RefusedByMerchant.TYP:
        refused = verify(unverified, RefusedByMerchant, trust=gateway.registry, audience=gateway.urn, sender=urn, at=at)
        if refused.claims.code != UNKNOWN_THERE:
            raise Unavailable(f"the shop's program says {refused.claims.code}")
        await _decide(gateway, _by_hash(gateway, merchant, refused.claims.req), refused, NOT_OFFERED, None)
        return
    done = console.read_done(unverified, trust=gateway.registry, gateway=gateway.urn, merchant=urn, at=at)
    waiting = _by_hash(gateway, merchant, done.claims.req)
    if waiting.id != done.claims.request:
        raise ProtocolViolation("request", "the answer names another request")
    await _decide(gateway, waiting, done, done.claims.result, done.claims.cancellation)


async def send_due(gateway: Gateway) -> int:
    """Ask again what has no answer, ever more rarely; how many were looked at. All at once: a silent shop holds up no other one's."""
    rows = gateway.reader.all(_SELECT + "WHERE next_at <= ? ORDER BY next_at LIMIT ?", gateway.clock.now(), AT_ONCE_MAX)
    await asyncio.gather(*(_send_again(gateway, ConsoleRequest(*row)) for row in rows))
    return len(rows)


async def _send_again(gateway: Gateway, waiting: ConsoleRequest) -> None:
    """Write down when to ask next, then ask."""
    later = gateway.clock.now() + min(AGAIN_S << min(waiting.tries + 1, 10), LONGEST_WAIT_S)
    try:
        await gateway.book.commit(Change(puts=(waiting.put(next_at=later, tries=waiting.tries + 1),)))
    except Stale:
        return  # answered, or asked by another process, meanwhile
    if gateway.line.connected(waiting.merchant):
        await send(gateway, waiting.merchant, waiting.id)


async def send_waiting(gateway: Gateway, merchant: str) -> None:
    """A line came up: whatever waits for this shop is asked now; found by what waits, because of all that was ever asked most does not."""
    gateway.speechless.pop(merchant, None)
    waiting_here = _SELECT + "WHERE merchant || '' = ? AND next_at IS NOT NULL ORDER BY next_at LIMIT ?"
    rows = gateway.reader.all(waiting_here, merchant, AT_ONCE_MAX)
    for waiting in (ConsoleRequest(*row) for row in rows):
        await send(gateway, merchant, waiting.id)


# --- looking ----------------------------------------------------------------------------------------------------------------------


async def look(gateway: Gateway, merchant: str, about: About) -> ConsoleRows | None:
    """A page of the shop's own book, None where its program shows none; Unavailable while it cannot be asked.

    What a shop says is verified and of the right shape, or it is Unavailable: a page never breaks by what a shop answers.
    """
    at, urn = gateway.clock.now(), gateway.settings.merchant_urn(merchant)
    if gateway.speechless.get(merchant, 0) > at:
        return None
    if not gateway.line.connected(merchant):
        raise Unavailable("the shop's line is down")
    _spend(gateway, merchant)
    question = console.make_question(gateway.signer, urn, about, at=at)
    answer = await gateway.line.ask(merchant, question.compact)
    try:
        if peek_typ(answer) == RefusedByMerchant.TYP:
            refused = verify(answer, RefusedByMerchant, trust=gateway.registry, audience=gateway.urn, sender=urn, at=at).claims
            if refused.code != UNKNOWN_THERE or refused.req != question.hash:
                raise Unavailable(f"the shop's program says {refused.code}")
            gateway.speechless[merchant] = at + SPEECHLESS_S
            return None
        rows = console.read_rows(answer, question, trust=gateway.registry, at=gateway.clock.now())
    except ProtocolViolation as error:
        gateway.observe("console", "refused")
        raise Unavailable("the shop's program has answered what cannot be read") from error
    return rows if rows.offered else None


def payment_of(gateway: Gateway, asked: ConsoleRequest) -> Payment | None:
    """The payment of the order that a request is about."""
    return None if asked.tid is None else payments.find(gateway.reader, asked.merchant, asked.tid)


def last_wish(reader: Reader, payment: Payment) -> ConsoleRequest | None:
    """The latest wish for this payment's cancellation: the only one that may still wait for its shop's answer."""
    row = reader.one(
        _SELECT + "WHERE merchant = ? AND tid = ? AND turn IS NOT NULL ORDER BY turn DESC LIMIT 1", payment.merchant, payment.tid
    )
    return None if row is None else ConsoleRequest(*row)


def still_waits(reader: Reader, payment: Payment) -> ConsoleRequest | None:
    """The wish about this payment to which its shop has given no answer."""
    last = last_wish(reader, payment)
    return last if last is not None and last.state == WAITING else None


def may_be_asked(reader: Reader, payment: Payment) -> bool:
    """Whether something is left, and no wish about it waits for the shop."""
    return remaining(payment).amount_minor > 0 and still_waits(reader, payment) is None


# --- inside -----------------------------------------------------------------------------------------------------------------------


def remaining(payment: Payment) -> Money:
    """What can still be taken back: of a payment that was captured what is left, of one that is open the whole."""
    if payment.state == State.CAPTURED:
        return Money(payment.captured - payment.refunded, payment.currency)
    return Money(payment.amount if payment.state == State.OPEN else 0, payment.currency)


def _known_as(
    gateway: Gateway, merchant: str, request: str, act: Act, tid: str | None, amount: Money | None, delivery: str | None
) -> ConsoleRequest | None:
    """The request of this id; WrongState where it was for something else: a form that was corrected and sent again asks for nothing new."""
    known = find(gateway.reader, merchant, request)
    if known is not None and (known.act, known.tid, known.money, known.delivery) != (act, tid, amount, delivery):
        raise WrongState("this form was sent before, with other content: load the page again")
    return known


def _spend(gateway: Gateway, merchant: str) -> None:
    if not gateway.allowances.spend(merchant, "console", A_MINUTE):
        raise TooManyTries("the shop is asked no more than once a second", retry_after_s=1)


def _known(gateway: Gateway, merchant: str, request: str) -> ConsoleRequest:
    found = find(gateway.reader, merchant, request)
    if found is None:
        raise NotFound("no such request")
    return found


def _by_hash(gateway: Gateway, merchant: str, request_hash: str) -> ConsoleRequest:
    compact = evidence.compact(gateway.reader, merchant, "", request_hash)
    claims = None if compact is None or peek_typ(compact) != console.ConsoleAct.TYP else console.recall_act(compact)
    found = None if claims is None else find(gateway.reader, merchant, claims.request)
    if found is None or found.request_hash != request_hash:
        raise ProtocolViolation("req", "the answer to no request of this shop's console")
    return found


async def _decide(
    gateway: Gateway,
    waiting: ConsoleRequest,
    said: SignedMessage[ConsoleDone] | SignedMessage[RefusedByMerchant],
    result: str,
    cancellation: str | None,
) -> None:
    """The first answer counts; another one changes nothing."""
    if waiting.state != WAITING:
        return
    put = waiting.put(
        state="done" if result == DONE else "refused",
        result=result,
        cancellation=cancellation,
        answer_hash=said.hash,
        next_at=None,
        decided_at=gateway.clock.now(),
    )
    try:
        await gateway.book.commit(Change(puts=(put,), messages=(record(said, merchant=waiting.merchant, tid=""),)))
    except Stale:
        return  # the same answer came twice at once
    except HanbitError as error:
        raise Unavailable("the answer could not be stored") from error
