"""The merchant's role in the redirect checkout: makes orders, compares notices with them, accepts outcomes; no I/O.

What the shop does with each message (numbers as in `docs/protocol/redirect.md`):

    R3   make_order            its own order, signed and stored before the customer leaves
    R8   verify_notice         signature, sender, audience; `exp` bounds the first acceptance
         compare               with the shop's own stored order: tid, amount, currency, order hash, state
    R9   answer_notice         confirmation, or refusal with a reason and words for the customer; cannot be made without `compare`
    R11  verify_outcome        settled, voided or closed
         check_outcome         its chain: settled answers my confirmation, voided my refusal or the notice, closed my order
         make_acknowledgement  up to 100 stored outcomes
    RQ   make_inquiry, read_status
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.protocols import signed
from hanbit.protocols.line import ACKNOWLEDGED_MAX, Acknowledgement
from hanbit.protocols.redirect.messages import (
    Closed,
    Confirmation,
    Inquiry,
    Notice,
    Order,
    Refusal,
    Settled,
    Status,
    Voided,
    Words,
)
from hanbit.protocols.signed import SignedMessage, Signer, Trust

INQUIRY_LIFETIME_S: Final = 120
OUTCOMES: Final[dict[str, type[Settled] | type[Voided] | type[Closed]]] = {kind.TYP: kind for kind in (Settled, Voided, Closed)}
"""The messages that end an order, by typ."""

Outcome: TypeAlias = SignedMessage[Settled | Voided | Closed]
Answer: TypeAlias = SignedMessage[Confirmation | Refusal]

_MISMATCH: Final = Words(
    ko="거래정보가 일치되지 않아서 지불이 되지 않았습니다. 다시 한번 구매신청을 하시거나 쇼핑몰에 문의하시기 바랍니다.",
    en="The transaction information does not match, so nothing was paid. Please order again or ask the shop.",
)
REFUSAL_REASONS: Final[dict[str, Words]] = {
    "unknown_order": Words(
        ko="쇼핑몰에 이 거래번호의 주문이 없습니다. 다시 한번 구매신청을 하시거나 쇼핑몰에 문의하시기 바랍니다.",
        en="The shop has no order with this transaction number. Please order again or ask the shop.",
    ),
    "amount_mismatch": _MISMATCH,
    "currency_mismatch": _MISMATCH,
    "order_mismatch": _MISMATCH,
    "withdrawn": Words(
        ko="쇼핑몰에서 이 주문을 거두었습니다. 자세한 것은 쇼핑몰에 문의하시기 바랍니다.",
        en="The shop has withdrawn this order. Please ask the shop.",
    ),
    "order_changed": Words(
        ko="이 주문은 그 사이에 변경되었습니다. 쇼핑몰로 돌아가서 바뀐 주문을 확인하고 다시 지불해 주십시오.",
        en="This order has been changed meanwhile. Go back to the shop, check the new order and pay that one.",
    ),
    "already_answered": Words(
        ko="이 주문에는 이미 다른 지불이 있습니다. 쇼핑몰에서 주문 상태를 확인하시기 바랍니다.",
        en="There is already another payment for this order. Please look at the order's state at the shop.",
    ),
    "expired": Words(
        ko="이 주문의 지불 기한이 지났습니다. 다시 한번 구매신청을 하시기 바랍니다.",
        en="The time to pay this order has passed. Please order again.",
    ),
    "shop_refused": Words(
        ko="쇼핑몰이 이 주문을 받아들이지 않았습니다. 쇼핑몰에 문의하시기 바랍니다.",
        en="The shop did not accept this order. Please ask the shop.",
    ),
    "shop_silent": Words(
        ko="쇼핑몰이 제때 답하지 못했습니다. 다시 한번 구매신청을 하시거나 쇼핑몰에 문의하시기 바랍니다.",
        en="The shop could not answer in time. Please order again or ask the shop.",
    ),
}
"""Why the shop says no at R9, with the words that the customer reads under the shop's name (page 62)."""


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """What the shop's own book says about an order: the only thing that a notice is compared with."""

    tid: str
    amount: Money
    order_hash: str
    answer_until: int
    """The last second at which a notice for it may be confirmed."""
    barred: str | None
    """Why no payment is taken any more (a code of REFUSAL_REASONS), None while the order is open."""
    plain: bool
    """True where its redirect carried no signed order."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One notice that was answered: what a later outcome for the same payment must continue."""

    notice: Notice
    notice_hash: str
    answer_hash: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Objection:
    """The shop's own no: a reason code and, if it likes, its own words for the customer."""

    reason: str = "shop_refused"
    message: Words | None = None


def hash_lines(salt: bytes, lines: bytes) -> str:
    """`oi`: the salted hash of the order's lines as exact JSON bytes, so that the gateway can neither see nor guess them."""
    if len(salt) < 32:  # noqa: PLR2004 - protocol.md: 256-bit salts
        raise AssertionError("a salt has 256 bits")
    return ids.digest(b"hanbit1 OI-lines\0" + salt + lines)


@dataclass(frozen=True, slots=True)
class Merchant:
    """A shop's identity for this protocol: its signing key, its one gateway, and whom it trusts."""

    signer: Signer
    gateway: str
    trust: Trust
    plain: bool = False
    """The registration `orders = "plain"`: redirects carry no signed order, so any browser can name any tid."""

    def make_order(
        self,
        *,
        tid: str,
        amount: Money,
        oi: str,
        text: str,
        return_url: str,
        pay_by: int,
        refund_by: int | None,
        at: int,
    ) -> SignedMessage[Order]:
        """R3: sign the order; stored before the customer is sent away."""
        return signed.sign(
            Order(
                **signed.head(self.signer, self.gateway, at),
                tid=tid,
                amount=amount.text,
                currency=amount.currency,
                oi=oi,
                text=text,
                return_url=return_url,
                pay_by=pay_by,
                refund_by=refund_by,
            ),
            self.signer,
        )

    def verify_notice(self, unverified: str | bytes, *, at: int) -> SignedMessage[Notice]:
        """R8: who signed it and for whom; the same bytes seen before never come here (they have their stored answer)."""
        notice = signed.verify(unverified, Notice, trust=self.trust, audience=self.signer.urn, at=at, sender=self.gateway)
        if at > notice.claims.exp:
            raise ProtocolViolation("expired", "the notice's hold has ended")
        if notice.claims.prev != notice.claims.order:
            raise ProtocolViolation("prev", "a notice continues its order")
        return notice

    def compare(self, notice: SignedMessage[Notice], order: OrderFacts | None, *, at: int) -> str | None:
        """R9: the document's comparison with the shop's own order; a code of REFUSAL_REASONS, or None where all is equal."""
        claims = notice.claims
        if order is None or order.tid != claims.tid:
            return "unknown_order"
        if order.amount.currency != claims.currency:
            return "currency_mismatch"
        if order.amount.text != claims.amount:
            return "amount_mismatch"
        if order.order_hash != claims.order:
            return "order_mismatch"
        if order.barred is not None:
            return order.barred
        return "expired" if at > order.answer_until else None

    def answer_notice(self, notice: SignedMessage[Notice], order: OrderFacts | None, objection: Objection | None, *, at: int) -> Answer:
        """R9: OS(confirm) only where `compare` finds nothing and the shop does not object, else OS(refusal) (26, 60)."""
        reason = self.compare(notice, order, at=at)
        message: Words | None = None
        if reason is None and objection is not None:
            reason, message = objection.reason, objection.message
        claims = notice.claims
        common = {
            **signed.head(self.signer, self.gateway, at),
            "payment": claims.payment,
            "tid": claims.tid,
            "amount": claims.amount,
            "currency": claims.currency,
            "order": claims.order,
            "req": notice.hash,
        }
        if reason is None:
            return signed.sign(Confirmation(**common), self.signer)
        words = message or REFUSAL_REASONS.get(reason, REFUSAL_REASONS["shop_refused"])
        return signed.sign(Refusal(**common, reason=reason, message=words), self.signer)

    def verify_outcome(self, unverified: str | bytes, *, at: int) -> Outcome:
        """R11: a settled, voided or closed message of the gateway; an answer has no `exp`, it is good whenever it comes."""
        kind = OUTCOMES.get(signed.peek_typ(unverified))
        if kind is None:
            raise ProtocolViolation("typ", "not an outcome")
        return signed.verify(unverified, kind, trust=self.trust, audience=self.signer.urn, at=at, sender=self.gateway)

    def vouched_outcome(self, status: SignedMessage[Status], *, at: int) -> Outcome:
        """RQ: the outcome in the gateway's answer to my own inquiry, although its key may have expired or been revoked since.

        A bare outcome under such a key is refused: whoever has stolen the key may have written it today and dated it back. Here the key
        that is good now says that these bytes are what the gateway stored; whoever holds that key needs no old one.
        """
        unverified = status.claims.outcome or ""
        kind = OUTCOMES.get(signed.peek_typ(unverified))
        if kind is None:
            raise ProtocolViolation("typ", "not an outcome")
        return signed.verify_as_signed(unverified, kind, trust=self.trust, audience=self.signer.urn, at=at, sender=self.gateway)

    def check_outcome(self, outcome: Outcome, order: OrderFacts | None, exchange: Exchange | None) -> None:
        """R11: the outcome continues what this shop itself said; raises ProtocolViolation where it does not."""
        claims = outcome.claims
        if isinstance(claims, Closed):
            _same(claims.prev, claims.order, "prev")
            self._check_unanswered(claims.order, order)
            return
        if exchange is not None:
            notice = exchange.notice
            _same(claims.payment, notice.payment, "payment")
            _same(claims.tid, notice.tid, "tid")
            _same(claims.amount, notice.amount, "amount")
            _same(claims.currency, notice.currency, "currency")
            _same(claims.order, notice.order, "order")
        if isinstance(claims, Settled):
            # Delivery hangs on this: no money can have moved rightly without the confirmation that this very shop signed.
            if exchange is None or not exchange.confirmed or claims.prev != exchange.answer_hash:
                raise ProtocolViolation("prev", "settled without my confirmation")
            return
        if exchange is None:
            # The notice never came; the hold has ended and the order with it.
            self._check_unanswered(claims.order, order)
        elif claims.prev not in (exchange.answer_hash, exchange.notice_hash):
            raise ProtocolViolation("prev", "voided for another notice")

    def _check_unanswered(self, order_hash: str, order: OrderFacts | None) -> None:
        """An end without any notice that was answered: it names my order, or in plain form whatever a browser once sent."""
        if order is None:
            if not self.plain:
                raise ProtocolViolation("unknown_order", "an outcome for an order that this shop never made")
        elif not order.plain:
            _same(order_hash, order.order_hash, "order")

    def make_acknowledgement(self, outcomes: tuple[str, ...], *, at: int) -> SignedMessage[Acknowledgement]:
        """R11: these outcomes (hashes, 1 to 100) are stored."""
        if not 1 <= len(outcomes) <= ACKNOWLEDGED_MAX:
            raise AssertionError("an acknowledgement answers 1 to 100 outcomes")
        return signed.sign(Acknowledgement(**signed.head(self.signer, self.gateway, at), req=outcomes), self.signer)

    def make_inquiry(self, tid: str, *, at: int) -> SignedMessage[Inquiry]:
        """RQ: what became of this tid?"""
        return signed.sign(Inquiry(**signed.head(self.signer, self.gateway, at), tid=tid, exp=at + INQUIRY_LIFETIME_S), self.signer)

    def read_status(self, unverified: str | bytes, inquiry: SignedMessage[Inquiry], *, at: int) -> SignedMessage[Status]:
        """RQ: the gateway's signed answer to this very inquiry."""
        status = signed.verify(unverified, Status, trust=self.trust, audience=self.signer.urn, at=at, sender=self.gateway)
        _same(status.claims.req, inquiry.hash, "req")
        _same(status.claims.tid, inquiry.claims.tid, "tid")
        return status


def _same(received: str, stored: str, what: str) -> None:
    if received != stored:
        raise ProtocolViolation(what, "differs from what this shop holds")
