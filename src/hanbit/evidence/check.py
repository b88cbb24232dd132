"""Verifies every stored message and the hash chain of every payment, from the store and the root alone.

For each message: the bytes hash to their name, and the signature verifies under a certificate that the operator issued for that party
and purpose (dates and revocation as of the moment when it was stored). For each payment, link by link:

    order ← keys ← (consent) ← notice ← confirmation ← settled ← receipt
                                      ← refusal ← voided          notice ← voided (expired)          order ← closed
    order ← keys ← (consent) ← authorization-request ← authorization ← receipt      (in a shop's own file: order ← session)
                                           └ the dual signature in each that was approved, by the temporary key of that session
    order or outcome ← cancel ← cancel-confirmation or cancel-refusal

Every link is for the same merchant, tid, order, amount and currency. Without a signed order the chain must begin at the hash of the
document's plain form, made again from those figures: so a signed order that is missing is missed. Only what a merchant cancels before
any customer has opened it begins with the cancellation.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from hanbit.evidence.cancellations import check_cancellations
from hanbit.evidence.purchases import Certified, approved
from hanbit.kernel import ids
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable
from hanbit.protocols import checkpoint, console, keys, line
from hanbit.protocols.cancellation import messages as cancellation
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.dual_signature import messages as dual_signature
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest, Session
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect import messages as redirect
from hanbit.protocols.redirect.messages import (
    Closed,
    Confirmation,
    Consent,
    Keys,
    Notice,
    Order,
    Receipt,
    Refusal,
    Settled,
    Voided,
)
from hanbit.protocols.signed import RegisteredKey, SignedMessage, Trust, peek_claims, peek_typ, verify

KINDS: tuple[type[Message], ...] = (
    *redirect.MESSAGES, *dual_signature.MESSAGES, *cancellation.MESSAGES, *line.MESSAGES, *keys.MESSAGES, *checkpoint.MESSAGES,
    *console.MESSAGES,
)  # fmt: skip
SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the store returns it."""

    merchant: str
    tid: str
    hash: str
    compact: str
    at: int


@dataclass(slots=True)
class Report:
    """What was verified and what was not; `broken` names message or payment and the rule."""

    messages: int = 0
    payments: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """Whether every message verifies and every chain is whole."""
        return not self.broken


def check(stored: Iterable[Stored], trust: Certified, order_hash: Callable[[str, str], str | None]) -> Report:
    """Check messages payment by payment, each oldest first; `order_hash` gives what the book's own row names as a payment's order.

    Only one payment's messages are held at a time, so that a large book needs no large memory.
    """
    report = Report()
    for (merchant, tid), items in groupby(stored, lambda item: (item.merchant, item.tid)):
        chain: list[SignedMessage[Message]] = []
        kept_at: dict[str, int] = {}
        for item in items:
            if (message := _checked(item, trust, report)) is not None and tid:
                chain.append(message)
                kept_at[message.hash] = item.at
        if not chain:
            continue
        report.payments += 1
        try:
            check_chain(merchant, tid, chain, order_hash(merchant, tid))
            approved(chain, kept_at, _CertifiedAsStored(trust))
        except ProtocolViolation as error:
            report.broken.append(f"payment {merchant}/{tid}: {error}")
    return report


def _checked(item: Stored, trust: Trust, report: Report) -> SignedMessage[Message] | None:
    report.messages += 1
    try:
        if ids.digest(item.compact.encode("ascii", "replace")) != item.hash:
            raise ProtocolViolation("hash", "the bytes are not those that were stored")
        return verify_stored(item, trust)
    except Unavailable:
        raise  # the book cannot be read: that says nothing about this message
    except HanbitError as error:
        report.broken.append(f"message {item.hash}: {error}")
        return None


@dataclass(frozen=True, slots=True)
class _AsStored:
    """The registry as it was when a message was stored.

    Nothing is stored under a revoked key, so what stands there with the very second of the revocation came before it.
    """

    trust: Trust

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The key; a revocation in the very second `at` came later."""
        key = self.trust.key(kid, chain, at)
        return replace(key, revoked_at=None) if key.revoked_at == at else key


@dataclass(frozen=True, slots=True)
class _CertifiedAsStored(_AsStored):
    """The same with the session authorities, as they were then."""

    trust: Certified

    @property
    def root(self) -> bytes:
        """The root certificate."""
        return self.trust.root

    def session_authority(self, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The authority; a revocation in the very second `at` came later."""
        key = self.trust.session_authority(chain, at)
        return replace(key, revoked_at=None) if key.revoked_at == at else key


def verify_stored(item: Stored, trust: Trust) -> SignedMessage[Message]:
    """Verified as of when it was stored: later expiry or revocation does not unsay it."""
    typ = peek_typ(item.compact)
    claims = peek_claims(item.compact)
    sender, audience = claims.get("iss"), claims.get("aud")
    for kind in KINDS:
        if typ == kind.TYP and isinstance(sender, str) and sender.split(":")[3:4] == [kind.SENDER]:
            return verify(item.compact, kind, trust=_AsStored(trust), audience=str(audience), at=item.at)
    raise ProtocolViolation("typ", typ)


def check_chain(merchant: str, tid: str, chain: Sequence[SignedMessage[Message]], booked: str | None) -> None:
    """Hold the messages of one tid, oldest first, against one another; `booked` is what the book's own row names as its order, if known.

    ProtocolViolation where one does not continue what it must continue, or is for something else.
    """
    by_hash = {message.hash: message.claims for message in chain}
    first = _first_link(merchant, tid, chain)
    if booked is not None and first is not None and first.order != booked:
        raise ProtocolViolation("link", "the book names another order")
    for message in chain:
        claims = message.claims
        _check_names(claims, merchant, tid)
        if isinstance(claims, Order | redirect.Inquiry | redirect.Status | Cancel | CancelConfirmation | CancelRefusal):
            continue
        if isinstance(claims, AuthorizationRequest | Authorization):
            _check_purchase(message, claims, by_hash, first)
            continue
        _check_link(claims, by_hash, first)
    check_cancellations(chain, order=None if first is None else first.order, currency=None if first is None else first.currency)


def _check_link(claims: Message, by_hash: dict[str, Message], first: "_FirstLink | None") -> None:
    """A message of the redirect checkout, or one that both have, continues what it must continue and says the same figures."""
    if not isinstance(claims, Keys | Consent | Notice | Closed | Confirmation | Refusal | Settled | Voided | Receipt | Session):
        raise ProtocolViolation("link", f"{claims.TYP} belongs to no payment")
    if first is None or claims.order != first.order:
        raise ProtocolViolation("link", f"{claims.TYP} is for another order")
    if not isinstance(claims, Consent | Closed) and (claims.amount, claims.currency) != (first.amount, first.currency):
        raise ProtocolViolation("link", f"{claims.TYP} says another amount")
    if isinstance(claims, Notice | Closed) and claims.prev != first.order:
        raise ProtocolViolation("link", f"{claims.TYP} does not follow the order")
    if isinstance(claims, Confirmation | Refusal):
        _follows(claims.TYP, claims.req, by_hash, Notice)
    if isinstance(claims, Settled):
        _follows(claims.TYP, claims.prev, by_hash, Confirmation)
    if isinstance(claims, Voided):
        _follows(claims.TYP, claims.prev, by_hash, Refusal, Notice)
    if isinstance(claims, Receipt):
        _follows(claims.TYP, claims.prev, by_hash, Settled, Authorization)


def _check_purchase(
    message: SignedMessage[Message], claims: AuthorizationRequest | Authorization, by_hash: dict[str, Message], first: "_FirstLink | None"
) -> None:
    """D6, D7: a request continues the dual signature that it carries, an answer its request; what was approved is what was ordered.

    A declined one may name an order that no customer has opened, or another amount: that is why it was declined.
    """
    if isinstance(claims, AuthorizationRequest):
        answers = [other for other in by_hash.values() if isinstance(other, Authorization) and other.req == message.hash]
        if not answers:
            raise ProtocolViolation("link", f"{claims.TYP} without its answer")
        if answers[0].result == "approved" and ids.digest(claims.dual.encode("ascii", "replace")) != claims.prev:
            raise ProtocolViolation("link", f"{claims.TYP} does not follow the dual signature that it carries")
        return
    asked = by_hash.get(claims.req)
    if not isinstance(asked, AuthorizationRequest) or _purchase(asked) != _purchase(claims):
        raise ProtocolViolation("link", f"{claims.TYP} answers no request that is stored")
    if claims.result == "approved" and first != _FirstLink(claims.order, claims.amount, claims.currency):
        raise ProtocolViolation("link", f"{claims.TYP} approves something else than what was ordered")


def _purchase(claims: AuthorizationRequest | Authorization) -> tuple[str, str, str, str, str]:
    return claims.sid, claims.tid, claims.order, claims.amount, claims.currency


@dataclass(frozen=True, slots=True)
class _FirstLink:
    """Where a payment's chain begins, and what it is for."""

    order: str
    amount: str
    currency: str


def _first_link(merchant: str, tid: str, chain: Sequence[SignedMessage[Message]]) -> _FirstLink | None:
    """The merchant's signed order; without one the plain form's hash, made again from the figures that the gateway first signed.

    A tid that its merchant cancelled before any customer had opened it has neither: then what was closed is what was cancelled. A second
    order, which a merchant has signed under the same tid, is kept beside them: it is the one that the gateway's own words do not name.
    """
    named = next((message.claims for message in chain if isinstance(message.claims, Keys | Notice | Closed)), None)
    order = the_order(chain)
    if order is not None:
        return _FirstLink(order.hash, order.claims.amount, order.claims.currency)
    if isinstance(named, Keys | Notice):
        return _FirstLink(redirect.plain_order_hash(merchant, tid, named.amount, named.currency), named.amount, named.currency)
    if named is not None:
        for message in chain:
            if isinstance(message.claims, Cancel) and message.claims.prev == named.order:
                return _FirstLink(named.order, message.claims.amount, message.claims.currency)
    return None


def the_order(chain: Sequence[SignedMessage[Message]]) -> SignedMessage[Order] | None:
    """The order that these messages are about: the one that the gateway's first word names, or where it has said none the first."""
    named = next((message.claims.order for message in chain if isinstance(message.claims, Keys | Notice | Closed)), None)
    for message in chain:
        if isinstance(message.claims, Order) and named in (None, message.hash):
            return message  # type: ignore[return-value]  # narrowed by its claims
    return None


def _check_names(claims: Message, merchant: str, tid: str) -> None:
    """What a message says of merchant and tid is the payment under which it is kept."""
    shops = [name for name in (claims.iss, claims.aud) if name.split(":")[3:4] == ["merchant"]]
    if any(name.split(":")[4:] != [merchant] for name in shops) or getattr(claims, "tid", tid) != tid:
        raise ProtocolViolation("link", f"{claims.TYP} belongs to another payment")


def _follows(typ: str, previous: str, by_hash: dict[str, Message], *kinds: type[Message]) -> None:
    if not isinstance(by_hash.get(previous), kinds):
        raise ProtocolViolation("link", f"{typ} follows nothing that is stored")
