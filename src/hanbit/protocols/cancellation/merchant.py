"""The merchant's role in a cancellation: asks for it, and takes only the answer to its own request; no I/O.

C1   make_cancel      stored before it is sent; a retry sends the same bytes
C3   read_answer      confirmation or refusal: signature, sender, audience, then the request repeated and the figures plausible
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from hanbit.kernel.errors import ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.protocols import signed
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.signed import SignedMessage, Signer, Trust

CANCEL_LIFETIME_S: Final = 24 * 3600
"""How long a cancellation may be on its way before it is accepted for the first time."""
ANSWERS: Final[dict[str, type[CancelConfirmation] | type[CancelRefusal]]] = {kind.TYP: kind for kind in (CancelConfirmation, CancelRefusal)}
"""The messages that answer a cancellation, by typ."""

Answer: TypeAlias = SignedMessage[CancelConfirmation | CancelRefusal]


@dataclass(frozen=True, slots=True)
class Merchant:
    """A shop's identity for this protocol: its signing key, its one gateway, and whom it trusts."""

    signer: Signer
    gateway: str
    trust: Trust

    def make_cancel(
        self,
        *,
        cancellation: str,
        payment: str | None,
        tid: str,
        amount: Money,
        remaining: Money,
        reason: str,
        prev: str,
        at: int,
    ) -> SignedMessage[Cancel]:
        """C1: OS(cancel) (40). `remaining` is what the shop believes is left: the whole order until something was refunded.

        `payment` is the number in the notice, None where no notice came; `prev` the outcome that the shop holds (settled, voided or
        closed), else its order (in plain form the order hash that the shop makes from its own figures).
        """
        if not 0 < amount.amount_minor <= remaining.amount_minor or amount.currency != remaining.currency:
            raise AssertionError("a cancellation is of something, and of no more than what is left")
        return signed.sign(
            Cancel(
                **signed.head(self.signer, self.gateway, at),
                cancellation=cancellation,
                payment=payment,
                tid=tid,
                amount=amount.text,
                currency=amount.currency,
                remaining=remaining.text,
                reason=reason,
                prev=prev,
                exp=at + CANCEL_LIFETIME_S,
            ),
            self.signer,
        )

    def read_answer(self, unverified: str | bytes, cancel: SignedMessage[Cancel], *, settled: bool, at: int) -> Answer:
        """C3: the gateway's answer to this very request; it has no `exp`, so it is good whenever it comes.

        `settled` says whether the shop holds the settled message: then something was captured, and an answer that nothing was is none.
        """
        kind = ANSWERS.get(signed.peek_typ(unverified))
        if kind is None:
            raise ProtocolViolation("typ", "no answer to a cancellation")
        answer: Answer = signed.verify(unverified, kind, trust=self.trust, audience=self.signer.urn, at=at, sender=self.gateway)
        said, asked = answer.claims, cancel.claims
        _same(said.req, cancel.hash, "req")
        _same(said.cancellation, asked.cancellation, "cancellation")
        _same(said.payment, asked.payment, "payment")
        _same(said.tid, asked.tid, "tid")
        _same(said.amount, asked.amount, "amount")
        _same(said.currency, asked.currency, "currency")
        if isinstance(said, CancelConfirmation):
            _check_confirmed(said, asked, settled=settled)
        else:
            _check_refused(said, asked)
        return answer


def _check_confirmed(said: CancelConfirmation, asked: Cancel, *, settled: bool) -> None:
    """Either nothing was ever captured (0 and 0), or this much less is left than the shop believed."""
    refunded, remaining = int(said.refunded), int(said.remaining)
    if refunded == 0:
        if remaining or settled:
            raise ProtocolViolation("refunded", "money was captured and nothing came back")
    elif asked.payment is None:
        raise ProtocolViolation("refunded", "a refund of a payment that this shop never confirmed")
    elif refunded < int(asked.amount) or remaining != int(asked.remaining) - int(asked.amount):
        raise ProtocolViolation("remaining", "does not follow from what was asked")


def _check_refused(said: CancelRefusal, asked: Cancel) -> None:
    """The figures bear out the reason where the reason is one of figures."""
    as_believed = said.remaining == asked.remaining
    if (said.reason == "remaining_differs" and as_believed) or (said.reason == "too_much" and int(asked.amount) <= int(said.remaining)):
        raise ProtocolViolation("remaining", f"does not bear out {said.reason}")
    if said.reason in ("too_late", "merchant_funds") and not as_believed:
        raise ProtocolViolation("remaining", f"another amount is left, yet the reason is {said.reason}")


def _same(received: str | None, stored: str | None, what: str) -> None:
    if received != stored:
        raise ProtocolViolation(what, "differs from what this shop asked")
