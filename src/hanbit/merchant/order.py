"""An order as the shop's own book holds it, and the facts of it that a notice is compared with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from hanbit.crypto.envelopes import equal
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import AMOUNT_MAX, Money
from hanbit.merchant.states import FINAL, State
from hanbit.protocols.redirect.merchant import OrderFacts

LINES_MAX = 100
LINE_TEXT_MAX = 200
QUANTITY_MAX = 1_000_000
TEXT_MAX = 200
REQUEST_KEY_MAX = 200
_RETURN_URL = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,400})?")


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of an order: what, how many, the price of one in minor units. Only the shop ever sees it."""

    item: str
    quantity: int
    price_minor: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.item) <= LINE_TEXT_MAX or not self.item.isprintable():
            raise BadInput("item")
        if not 1 <= self.quantity <= QUANTITY_MAX:
            raise BadInput("quantity")
        if abs(self.price_minor) > AMOUNT_MAX:  # a rebate is a line below zero
            raise BadInput("price")


class Order(msgspec.Struct, frozen=True):
    """One row of the book; `version` grows by one with every step. (A struct: two are made for each message, twenty times as fast.)"""

    tid: str
    version: int
    state: State
    plain: bool
    amount: Money
    text: str
    return_url: str
    lines_json: str
    salt: str
    order_hash: str
    request_key: str | None
    owner: str | None
    placed_at: int
    pay_by: int
    answer_until: int
    changed_at: int
    payment: str | None = None
    reason: str | None = None
    replaced_by: str | None = None
    outcome: str | None = None
    handled_at: int | None = None
    refunded_minor: int = 0

    @property
    def lines(self) -> tuple[Line, ...]:
        """What was ordered."""
        return msgspec.json.decode(self.lines_json, type=tuple[Line, ...])

    @property
    def final(self) -> bool:
        """What became of the payment is known and stored; only a cancellation of the shop's own still changes the order."""
        return self.state in FINAL

    @property
    def may_deliver(self) -> bool:
        """True only once the signed settled message or authorization is verified and stored, until the order is struck; see `refunded`."""
        return self.state is State.SETTLED

    @property
    def refunded(self) -> Money:
        """What has gone back to the customer, by the gateway's signed confirmations."""
        return Money(self.refunded_minor, self.amount.currency)

    @property
    def remaining(self) -> Money:
        """What is left of the order's amount: nothing once it is struck."""
        left = 0 if self.state is State.CANCELLED else self.amount.amount_minor - self.refunded_minor
        return Money(left, self.amount.currency)

    def belongs_to(self, owner: str | None) -> bool:
        """Whether this is who placed it; an order without an owner is nobody's."""
        return self.owner is not None and owner is not None and equal(self.owner.encode(), (owner_hash(owner) or "").encode())

    @property
    def barred(self) -> str | None:
        """Why no payment is taken for it any more, None while it is open."""
        if self.state in (State.PLACED, State.REQUESTED):
            return None
        if self.state is State.WITHDRAWN:
            return "order_changed" if self.replaced_by else "withdrawn"
        if self.state is State.CANCELLED and self.payment is None:
            return "withdrawn"
        return "expired" if self.state in (State.VOIDED, State.CLOSED) else "already_answered"

    @property
    def purchase_facts(self) -> OrderFacts:
        """What a purchase of the dual-signature checkout must agree with: one attempt at a time."""
        barred = "already_answered" if self.state is State.REQUESTED else self.barred
        return replace(self.facts, barred=barred)

    @property
    def facts(self) -> OrderFacts:
        """What a notice for this order must say."""
        return OrderFacts(
            tid=self.tid,
            amount=self.amount,
            order_hash=self.order_hash,
            answer_until=self.answer_until,
            barred=self.barred,
            plain=self.plain,
        )


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What a shop says to place an order; BadInput where it does not add up."""

    lines: Sequence[Line]
    total: Money
    text: str
    return_url: str
    refund_by: int | None
    request_key: str | None
    owner: str | None

    def __post_init__(self) -> None:
        if not 1 <= len(self.lines) <= LINES_MAX:
            raise BadInput(f"an order has 1 to {LINES_MAX} lines")
        if self.total.amount_minor == 0 or sum(line.quantity * line.price_minor for line in self.lines) != self.total.amount_minor:
            raise BadInput("total: the lines add up to another amount")
        if not 1 <= len(self.text) <= TEXT_MAX or not self.text.isprintable():
            raise BadInput(f"text: 1 to {TEXT_MAX} printable characters")
        if not _RETURN_URL.fullmatch(self.return_url):
            raise BadInput("return_url: an absolute http(s) address without query and fragment")
        if self.request_key is not None and not 1 <= len(self.request_key) <= REQUEST_KEY_MAX:
            raise BadInput(f"request_key: 1 to {REQUEST_KEY_MAX} characters")

    @property
    def lines_json(self) -> str:
        """The lines as the exact JSON that `oi` is the salted hash of."""
        return msgspec.json.encode(list(self.lines)).decode()

    def same_as(self, order: Order) -> bool:
        """True if this would place the very order that stands in the book."""
        return (self.lines_json, self.total, self.text, self.return_url, owner_hash(self.owner)) == (
            order.lines_json,
            order.amount,
            order.text,
            order.return_url,
            order.owner,
        )


def owner_hash(owner: str | None) -> str | None:
    """How the book knows whose order it is, without holding the secret of a session."""
    if owner is None:
        return None
    if not owner:
        raise BadInput("owner: an empty session would be everybody's")
    return ids.digest(b"hanbit1 owner\0" + owner.encode())
