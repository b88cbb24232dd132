"""Everything that happened to one payment, in order: tries, signed messages verified anew, ledger entries, acts of people.

A merchant sees what it signed or was sent; what passed between customer and gateway is not its business.
"""

from dataclasses import dataclass
from typing import Literal

from hanbit.evidence import store as evidence
from hanbit.evidence.check import check_chain, verify_stored
from hanbit.kernel import ids
from hanbit.kernel.errors import HanbitError, ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.protocols.signed import peek_claims, peek_kid, peek_typ

ACTS_MAX = 200
TYP_PREFIX = "hanbit-"
Kind = Literal["message", "attempt", "entry", "act"]
_ORDER: dict[Kind, int] = {"act": 0, "attempt": 1, "entry": 2}
_BEFORE: dict[str, tuple[str, ...]] = {
    "attempt": ("notice", "confirmation", "refusal", "authorization", "settled", "voided", "closed"),
    "hold": ("notice", "confirmation", "refusal", "authorization", "settled", "voided"),
    "capture": ("settled", "receipt", "authorization"),
    "void": ("voided", "closed", "cancel-confirmation"),
    "refund": ("cancel-confirmation",),
}
"""Where a try or an entry belongs among the messages of its second: before the first of these, which tells of it or follows from it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. `name` is a message's typ without its prefix, an attempt's result, an entry's kind, or what was done."""

    at: int
    kind: Kind
    name: str
    who: str = ""
    detail: str = ""
    method: str = ""
    """By what an attempt was approved."""
    money: Money | None = None
    hash: str = ""
    kid: str = ""
    broken: str = ""
    """Why a message does not verify; empty where it does."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All steps, oldest first; `broken` says what is wrong with the chain as a whole, empty where nothing is."""

    steps: list[Step]
    broken: str


def of(gateway: Gateway, payment: Payment, *, for_merchant: bool = False) -> Timeline:
    """The time line; every signature and the whole chain are verified as it is made."""
    messages, broken = _messages(gateway, payment, for_merchant=for_merchant)
    steps = [*messages, *_entries(gateway, payment)]
    if not for_merchant:
        steps += [*_attempts(gateway, payment), *_acts(gateway, payment)]
    return Timeline(_in_order(steps), broken)


def for_customer(gateway: Gateway, payment: Payment) -> Timeline:
    """The same for the payment's own customer, without what people of the operator did and what others tried on this order."""
    messages, broken = _messages(gateway, payment, for_merchant=False)
    steps = [*messages, *_entries(gateway, payment), *_attempts(gateway, payment, payment.customer)]
    return Timeline(_in_order(steps), broken)


def _in_order(steps: list[Step]) -> list[Step]:
    """By time; within a second as one thing follows from another. Messages keep the order in which they were stored."""
    placed = sorted((step for step in steps if step.kind == "message"), key=lambda step: step.at)
    for step in sorted((step for step in steps if step.kind != "message"), key=lambda step: (step.at, _ORDER[step.kind])):
        followers = _BEFORE.get("attempt" if step.kind == "attempt" else step.name, ())
        place = next((place for place, other in enumerate(placed) if _follows(step, other, followers, placed[place - 1])), len(placed))
        placed.insert(place, step)
    return placed


def _follows(step: Step, other: Step, followers: tuple[str, ...], before_it: Step) -> bool:
    if other.at != step.at or step.kind == "act":
        return other.at >= step.at
    is_told = step.kind == "entry" and (before_it.kind, before_it.name) == ("entry", step.name)  # of two refunds at once each has its own
    return other.kind == "message" and other.name in followers and not is_told


def message(gateway: Gateway, payment: Payment, message_hash: str, *, for_merchant: bool = False) -> str | None:
    """The very bytes of one message of this payment, if he who asks may see it."""
    for stored in evidence.stored_of_payment(gateway.reader, payment.merchant, payment.tid):
        if stored.hash == message_hash:
            return stored.compact if not for_merchant or _is_the_merchants(gateway, payment, stored.compact) else None
    return None


def _messages(gateway: Gateway, payment: Payment, *, for_merchant: bool) -> tuple[list[Step], str]:
    steps, chain, broken = [], [], ""
    for stored in evidence.stored_of_payment(gateway.reader, payment.merchant, payment.tid):
        why = ""
        try:
            if ids.digest(stored.compact.encode("ascii", "replace")) != stored.hash:
                raise ProtocolViolation("hash", "the bytes are not those that were stored")
            chain.append(verify_stored(stored, gateway.registry))
        except HanbitError as error:
            why = str(error)
            broken = broken or why
        if not for_merchant or _is_the_merchants(gateway, payment, stored.compact):
            name, sender, kid = _told(stored.compact)
            steps.append(Step(stored.at, "message", name, who=sender, hash=stored.hash, kid=kid, broken=why))
    if chain and not broken:
        try:
            check_chain(payment.merchant, payment.tid, chain, payment.order_hash)
        except ProtocolViolation as error:
            broken = str(error)
    return steps, broken


def _told(compact: str) -> tuple[str, str, str]:
    """What a message says of itself: its typ, its sender, its key. Bytes that somebody has spoilt in the book say nothing."""
    try:
        return peek_typ(compact).removeprefix(TYP_PREFIX), str(peek_claims(compact).get("iss", "")), peek_kid(compact)
    except ProtocolViolation:
        return "spoilt", "", ""


def _is_the_merchants(gateway: Gateway, payment: Payment, compact: str) -> bool:
    try:
        claims = peek_claims(compact)
    except ProtocolViolation:
        return False
    return gateway.settings.merchant_urn(payment.merchant) in (claims.get("iss"), claims.get("aud"))


def _attempts(gateway: Gateway, payment: Payment, customer: str | None = None) -> list[Step]:
    sql = (
        "SELECT a.at, a.number, a.method, a.result, c.login, n.masked FROM attempts a LEFT JOIN customers c ON c.id = a.customer "
        "LEFT JOIN accounts n ON n.id = a.account WHERE a.payment = ? AND a.customer = coalesce(?, a.customer) ORDER BY a.number LIMIT ?"
    )
    rows = gateway.reader.all(sql, payment.id, customer, ACTS_MAX)
    return [
        Step(row["at"], "attempt", row["result"], who=row["login"] or "", method=row["method"], detail=row["masked"] or "") for row in rows
    ]


def _entries(gateway: Gateway, payment: Payment) -> list[Step]:
    rows = gateway.reader.all("SELECT number, kind, amount, currency, at FROM entries WHERE payment = ? ORDER BY number", payment.id)
    return [Step(row["at"], "entry", row["kind"], detail=str(row["number"]), money=Money(row["amount"], row["currency"])) for row in rows]


def _acts(gateway: Gateway, payment: Payment) -> list[Step]:
    sql = "SELECT at, actor, act, reason FROM audit WHERE merchant = ? AND tid = ? ORDER BY at LIMIT ?"
    rows = gateway.reader.all(sql, payment.merchant, payment.tid, ACTS_MAX)
    return [Step(row["at"], "act", row["act"], who=row["actor"], detail=row["reason"]) for row in rows]
