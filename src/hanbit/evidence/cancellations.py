"""Checks the cancellations of one payment's chain: what each continues, that each is answered once, and that the sums are those signed.

    order or outcome ← cancel ← cancel-confirmation or cancel-refusal

Before the capture nothing goes back; after it the confirmed amounts add up, and each answer says the sum so far and what is left.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.dual_signature.messages import Authorization
from hanbit.protocols.fields import Message
from hanbit.protocols.redirect.messages import Closed, Keys, Notice, Order, Settled, Voided, plain_order_hash
from hanbit.protocols.signed import SignedMessage


def check_cancellations(chain: Iterable[SignedMessage[Message]], *, order: str | None, currency: str | None) -> None:
    """The messages of one tid in the order in which they were stored; ProtocolViolation("link" or "amount") where they do not fit."""
    so_far = _SoFar(order, currency)
    for message in chain:
        claims = message.claims
        if isinstance(claims, Order | Keys | Notice | Closed):
            so_far.opened = True
            so_far.closing.discard(claims.order if isinstance(claims, Closed) else "")
        if isinstance(claims, Settled | Voided | Closed) or is_approved(claims):
            so_far.links.add(message.hash)
            so_far.captured += int(claims.amount) if isinstance(claims, Settled | Authorization) else 0
        elif isinstance(claims, Cancel):
            so_far.ask(message.hash, claims)
        elif isinstance(claims, CancelConfirmation | CancelRefusal):
            so_far.answer(claims)
    if so_far.closing:
        raise ProtocolViolation("link", "a cancellation was confirmed and its order not closed")
    if so_far.waiting:
        raise ProtocolViolation("link", "a cancellation without its answer")


def is_approved(claims: Message) -> bool:
    """Whether this is what `settled` is in the redirect checkout: the gateway's word that the money has moved."""
    return isinstance(claims, Authorization) and claims.result == "approved"


@dataclass(slots=True)
class _SoFar:
    """What was stored before the message that is looked at."""

    order: str | None
    currency: str | None
    opened: bool = False
    """Whether the payment server knew any order of this tid."""
    closing: set[str] = field(default_factory=set)
    """The order that a cancellation ended before any customer had opened it: it is closed next."""
    links: set[str] = field(default_factory=set)
    """The outcomes that a cancellation may continue."""
    waiting: dict[str, Cancel] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    captured: int = 0
    refunded: int = 0

    def ask(self, name: str, asked: Cancel) -> None:
        """A new id; continues the order or an outcome (a shop in plain form its own order, whatever a browser had named).

        Before any customer has opened the tid nobody can say which order is the right one: if it is closed then, it is this one.
        """
        if asked.cancellation in self.used:
            raise ProtocolViolation("link", "one cancellation has two requests")
        # The merchant's name in its own URN is what the book calls it: the chain's names were compared before.
        plain = plain_order_hash(asked.iss.rpartition(":")[2], asked.tid, asked.remaining, asked.currency)
        if self.opened and asked.prev not in {self.order, plain, *self.links}:
            raise ProtocolViolation("link", "a cancellation continues nothing that is stored")
        if self.currency not in (None, asked.currency):
            raise ProtocolViolation("link", "a cancellation says another currency")
        self.used.add(asked.cancellation)
        self.waiting[name] = asked

    def answer(self, said: CancelConfirmation | CancelRefusal) -> None:
        """To a request that waits, with its figures; the sums follow from what was confirmed before."""
        asked = self.waiting.pop(said.req, None)
        if asked is None or _repeated(asked) != _repeated(said):
            raise ProtocolViolation("link", f"{said.TYP} answers no request that is stored")
        if isinstance(said, CancelConfirmation) and not self.opened:
            self.closing.add(asked.prev)
        if isinstance(said, CancelConfirmation) and self.captured:
            if int(asked.remaining) != self.captured - self.refunded:
                raise ProtocolViolation("amount", "confirmed although another amount was left")
            self.refunded += int(asked.amount)
        if int(said.refunded) != self.refunded or self.refunded > self.captured:
            raise ProtocolViolation("amount", f"{said.TYP} says another sum than what was refunded")
        if self.captured and int(said.remaining) != self.captured - self.refunded:
            raise ProtocolViolation("amount", f"{said.TYP} says another rest than what is left")


def _repeated(claims: Cancel | CancelConfirmation | CancelRefusal) -> tuple[str, str | None, str, str, str]:
    return claims.cancellation, claims.payment, claims.tid, claims.amount, claims.currency
