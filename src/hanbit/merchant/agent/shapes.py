"""Every body, query and answer of the agent's API: the same structs validate requests and describe themselves in /openapi.json.

Times are whole seconds since 1970, amounts texts of minor units, a signed message is its compact JWS.
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import AMOUNT_MAX, CURRENCY_EXPONENTS, Money, parse_money
from hanbit.merchant.agent.acts import Act, possible
from hanbit.merchant.cancellation import REASON_MAX, Cancellation, CancellationState, Goods
from hanbit.merchant.order import LINE_TEXT_MAX, LINES_MAX, QUANTITY_MAX, TEXT_MAX, Line, Order
from hanbit.merchant.purchase import Checkout
from hanbit.merchant.states import State
from hanbit.protocols.dual_signature.messages import ENVELOPE_MAX, OI_MAX
from hanbit.protocols.fields import Compact, Digest, Instant

WAIT_MAX_S = 25
LIST_MAX = 100
OWNER_MAX = 200
EVENT = r"^[a-z]+\.[a-z]+$"

Amount = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,14}$(?!\n)", description="Whole minor units (won, cent), never zero.")]
Currency = Annotated[str, msgspec.Meta(description="ISO 4217.", extra_json_schema={"enum": sorted(CURRENCY_EXPONENTS)})]
Tid = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22,64}$(?!\n)")]
Limit = Annotated[int, msgspec.Meta(ge=1, le=LIST_MAX)]
Owner = Annotated[str, msgspec.Meta(min_length=1, max_length=OWNER_MAX)]
Language = Literal["ko", "en"]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller sends: an unknown name is refused."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent answers."""

    LOCATION: ClassVar[str] = ""


# --- orders -------------------------------------------------------------------------------------------------------------------------


class OrderLine(Asked, frozen=True, kw_only=True):
    """What, how many, the price of one in minor units (below zero for a rebate). It never leaves the shop."""

    item: Annotated[str, msgspec.Meta(min_length=1, max_length=LINE_TEXT_MAX)]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=QUANTITY_MAX)]
    price_minor: Annotated[int, msgspec.Meta(ge=-AMOUNT_MAX, le=AMOUNT_MAX)]


class NewOrder(Asked, frozen=True, kw_only=True):
    """An order to be placed; the lines must add up to the amount."""

    lines: Annotated[tuple[OrderLine, ...], msgspec.Meta(min_length=1, max_length=LINES_MAX)]
    amount: Amount
    currency: Currency
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_MAX, description="What the payment page shows.")]
    return_url: Annotated[str, msgspec.Meta(min_length=8, max_length=700, description="The shop's page; it gets ?TID= and nothing else.")]
    language: Language | None = None
    owner: Owner | None = None
    """Whose order it is in the shop's own terms; only a hash is kept, and `GET /orders?owner=` finds it again."""
    refund_by: Instant | None = None

    @property
    def shop_order(self) -> dict[str, Any]:
        """The arguments of `Shop.create_order`; BadInput where a text cannot be shown."""
        if self.owner is not None and not self.owner.isprintable():
            raise BadInput("owner: printable characters")
        return {
            "lines": [Line(line.item, line.quantity, line.price_minor) for line in self.lines],
            "total": parse_money(self.amount, self.currency),
            "text": self.text,
            "return_url": self.return_url,
            "language": self.language,
            "owner": self.owner,
            "refund_by": self.refund_by,
        }


class OrderQuery(Asked, frozen=True, kw_only=True):
    """How long to wait for the outcome; answered as soon as it is there, else as the order stands then."""

    wait: Annotated[int, msgspec.Meta(ge=0, le=WAIT_MAX_S, description="Seconds.")] = 0


class RedirectQuery(Asked, frozen=True, kw_only=True):
    """The language in which the payment page opens."""

    language: Language | None = None


class OrdersQuery(Asked, frozen=True, kw_only=True):
    """Which orders: all, or those of an owner or in a state; `before` is `next` of the page before."""

    owner: Owner | None = None
    state: State | None = None
    limit: Limit = 50
    before: Tid | None = None


class OrderRow(Told, frozen=True, kw_only=True):
    """An order as the book holds it now. `can` lists what may be done; goods go out only where `may_deliver` is true."""

    tid: str
    state: State
    final: bool
    may_deliver: bool
    can: list[Act]
    amount: str
    currency: str
    refunded: str
    """What has gone back of the amount."""
    remaining: str
    """What can still go back; of a cancelled order nothing."""
    text: str
    placed_at: int
    pay_by: int
    changed_at: int
    payment: str | None
    """The payment's number at the payment server, once it has asked."""
    reason: str | None
    replaced_by: str | None
    test: bool
    """The operator is a sandbox: nothing that is paid is money, deliver nothing real."""


class CheckoutView(Told, frozen=True, kw_only=True):
    """What the button of the dual-signature checkout needs of an order: the shop's page gets it as it is."""

    script: str
    """The button's script, on the payment server's own site."""
    order: str
    merchant_chain: list[str]
    lines: str
    lines_salt: str
    redirect: str
    """The same order's address, for browsers that open no window."""


class OrderView(OrderRow, frozen=True, kw_only=True):
    """An order with its lines and, once it is final, the payment server's signed last word."""

    lines: list[OrderLine]
    return_url: str
    outcome: str | None
    """Compact JWS of the settled, voided or closed message or the authorization, or of the status that ended an order nobody opened."""
    checkout: CheckoutView | None
    """What the button needs, while the order can be paid."""


class OrderList(Told, frozen=True, kw_only=True):
    """The newest first; a page may be shorter than asked for, and there is more while `next` is not null."""

    orders: list[OrderRow]
    next: str | None


class Placed(Told, frozen=True, kw_only=True):
    """Answer the customer with 303 See Other and `redirect` as Location."""

    tid: str
    redirect: str
    order: OrderView


class NewSession(Asked, frozen=True, kw_only=True):
    """D2: what the customer's window sends first, as it is."""

    session_request: Compact


class SessionOpened(Told, frozen=True, kw_only=True):
    """D3: the signed session and the certificate of the customer's fresh key; the same request gets the same answer."""

    session: str
    certificate: list[str]


class NewPurchase(Asked, frozen=True, kw_only=True):
    """D5: what the customer's window sends next, as it is. The envelope is sealed to the payment server."""

    oi: Annotated[str, msgspec.Meta(max_length=OI_MAX)]
    pimd: Digest
    dual: Compact
    envelope: Annotated[str, msgspec.Meta(max_length=ENVELOPE_MAX)]


class BothWords(Told, frozen=True, kw_only=True):
    """One plain text in both languages."""

    ko: str
    en: str


class Bought(Told, frozen=True, kw_only=True):
    """D8: what the customer's window is told; the same purchase gets the same answer, and later than `pending` the payment server's word.

    Deliver by the order's `may_deliver` or by `order.settled`, not by this.
    """

    result: Literal["approved", "declined", "pending"]
    reason: str | None
    receipt: str | None
    """The payment server's receipt for the customer, unchanged."""
    message: BothWords | None
    """The shop's own words where `order.confirm` said no: the window shows them under the shop's name."""


class Redirected(Told, frozen=True, kw_only=True):
    """The same order to the same address once more."""

    tid: str
    redirect: str


class Inquired(Told, frozen=True, kw_only=True):
    """What the payment server said of this tid just now, and the order as it stands after that."""

    gateway_state: str
    order: OrderView


# --- cancellations ------------------------------------------------------------------------------------------------------------------


class NewCancellation(Asked, frozen=True, kw_only=True):
    """What is to be taken back: all that is left, or `amount` of what was paid."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=REASON_MAX, description="Kept, signed and sent to the payment server.")]
    amount: Amount | None = None
    goods: bool = True
    """False where nothing is to come back from the customer, as after a download."""


class CancellationView(Told, frozen=True, kw_only=True):
    """A cancellation: `asked` until the payment server's signed answer is stored, then `confirmed` or `refused` for ever."""

    id: str
    tid: str
    state: CancellationState
    amount: str
    currency: str
    reason: str
    refusal: str | None
    """Why it was refused."""
    look: str | None
    """What somebody should look at: the payment server's figures are not those of the order book."""
    goods: Goods
    asked_at: int
    changed_at: int
    replaced_by: str | None
    """It was asked anew, with the right figures, under this id."""


class Cancelled(Told, frozen=True, kw_only=True):
    """The cancellation as it stands now, and its order: struck, or with less left, only once it is confirmed."""

    cancellation: CancellationView
    order: OrderView


class CancellationList(Told, frozen=True, kw_only=True):
    """Every cancellation of an order, the oldest first."""

    cancellations: list[CancellationView]


# --- evidence, the line, the agent ----------------------------------------------------------------------------------------------------


class MessageView(Told, frozen=True, kw_only=True):
    """One signed message with its exact bytes; `hash` is what other messages name it by."""

    number: int
    at: int
    direction: str
    typ: str
    hash: str
    message: str


class MessageList(Told, frozen=True, kw_only=True):
    """Every message about this tid in the order of storing: the shop's half of the evidence."""

    messages: list[MessageView]


class LineView(Told, frozen=True, kw_only=True):
    """The private line; while it is down, or nothing that comes by it is believed, customers cannot pay."""

    up: bool
    down_reason: str | None
    stopped: str | None
    """Why nothing of the payment server's is believed although the line may be up: its list of revoked certificates is too old."""
    strange_certificates: int
    """Certificates in the shop's name that it never asked for: above 0 somebody else can speak for it; ask the operator at once."""
    offset_s: int | None
    """The payment server's clock minus ours; beyond 60 the line counts as down."""
    round_trip_ms: float | None


class Health(Told, frozen=True, kw_only=True):
    """The agent answers; whether its line is up stands beside it."""

    agent: str
    line: str
    test: bool
    """The operator is a sandbox: nothing that is paid is money."""


# --- call-backs -----------------------------------------------------------------------------------------------------------------------


class DeliveriesQuery(Asked, frozen=True, kw_only=True):
    """Which deliveries; `before` is `next` of the page before."""

    tid: Tid | None = None
    endpoint: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    state: Literal["waiting", "delivered", "given_up"] | None = None
    limit: Limit = 50
    before: Annotated[int, msgspec.Meta(ge=1, le=2**62)] | None = None


class AttemptView(Told, frozen=True, kw_only=True):
    """One call of an endpoint: its HTTP status, or the error where none came."""

    at: int
    duration_ms: int
    status: int | None
    error: str | None


class DeliveryView(Told, frozen=True, kw_only=True):
    """One event for one endpoint, with its latest attempts, the newest first; `id` is the webhook-id that every attempt carries."""

    id: str
    endpoint: str
    sequence: int
    type: str
    tid: str | None
    state: str
    created_at: int
    next_at: int | None
    attempts: list[AttemptView]


class DeliveryList(Told, frozen=True, kw_only=True):
    """The newest first; there is more while `next` is not null."""

    deliveries: list[DeliveryView]
    next: int | None


class EndpointView(Told, frozen=True, kw_only=True):
    """One registered endpoint; `sequence` is the number of its latest event."""

    name: str
    url: str
    events: list[str]
    sequence: int
    waiting: int


class EndpointList(Told, frozen=True, kw_only=True):
    """Every endpoint of agent.toml."""

    endpoints: list[EndpointView]


class TrialAsked(Asked, frozen=True, kw_only=True):
    """Which endpoint is to get a test event; all of them without a name."""

    endpoint: Annotated[str, msgspec.Meta(max_length=40)] | None = None


# --- from the book ----------------------------------------------------------------------------------------------------------------------


def order_row(order: Order, cancellations: Iterable[Cancellation], at: int, *, test: bool) -> OrderRow:
    """The order for a list."""
    return OrderRow(test=test, **_common(order, cancellations, at))


def order_view(
    order: Order, cancellations: Iterable[Cancellation], outcome: str | None, checkout: Checkout | None, at: int, *, test: bool
) -> OrderView:
    """The whole order; `outcome` is the stored message that its hash names."""
    return OrderView(
        **_common(order, cancellations, at),
        test=test,
        lines=[OrderLine(item=line.item, quantity=line.quantity, price_minor=line.price_minor) for line in order.lines],
        return_url=order.return_url,
        outcome=outcome,
        checkout=None if checkout is None else CheckoutView(**msgspec.structs.asdict(checkout)),
    )


def cancellation_view(one: Cancellation) -> CancellationView:
    """A row of the book."""
    return CancellationView(
        id=one.id,
        tid=one.tid,
        state=one.state,
        amount=one.amount.text,
        currency=one.amount.currency,
        reason=one.reason,
        refusal=one.refusal,
        look=one.look,
        goods=one.goods,
        asked_at=one.asked_at,
        changed_at=one.changed_at,
        replaced_by=one.replaced_by,
    )


def _common(order: Order, cancellations: Iterable[Cancellation], at: int) -> dict[str, Any]:
    amount: Money = order.amount
    return {
        "tid": order.tid,
        "state": order.state,
        "final": order.final,
        "may_deliver": order.may_deliver,
        "can": possible(order, cancellations, at),
        "amount": amount.text,
        "currency": amount.currency,
        "refunded": order.refunded.text,
        "remaining": order.remaining.text,
        "text": order.text,
        "placed_at": order.placed_at,
        "pay_by": order.pay_by,
        "changed_at": order.changed_at,
        "payment": order.payment,
        "reason": order.reason,
        "replaced_by": order.replaced_by,
    }
