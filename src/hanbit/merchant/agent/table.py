"""Every address of the agent: what it takes, what it answers, who does it. The router, the checks and /openapi.json read this one table."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from hanbit.merchant.agent import shapes
from hanbit.merchant.agent.calls import Call, Calls

BODY_MAX: Final = 128 * 1024
"""Bytes of one body: an order of 100 lines, each character of which takes six, fits."""
PURCHASE_MAX: Final = 512 * 1024
"""A purchase names the lines once more, as text within a text."""
Handler = Callable[[Calls, Call], Awaitable[shapes.Told]]


class NoQuery(shapes.Asked, frozen=True, kw_only=True):
    """No query is taken."""


@dataclass(frozen=True, slots=True)
class Address:
    """One method of one path; `{tid}` or `{id}` stands for one segment."""

    method: str
    path: str
    summary: str
    call: Handler
    answer: type[shapes.Told]
    status: int = 200
    query: type[shapes.Asked] = NoQuery
    body: type[shapes.Asked] | None = None
    is_open: bool = False
    """Answered without the token."""
    refusals: tuple[int, ...] = ()
    """HTTP statuses besides those that every call of its kind may get."""
    is_signed: bool = False
    """The body is signed by whoever made it and done once by itself: the same bytes get the same answer, without an Idempotency-Key."""
    body_max: int = BODY_MAX
    """Bytes of the body."""
    location: str = ""
    """Where what was made is, with its `{tid}`."""

    @property
    def writes(self) -> bool:
        """Needs an Idempotency-Key."""
        return self.method == "POST" and not self.is_signed

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's parts."""
        return tuple(self.path.strip("/").split("/"))


class Empty(shapes.Asked, frozen=True, kw_only=True):
    """No field is needed: `{}` or an empty body."""


ADDRESSES: Final = (
    Address(
        "POST",
        "/orders",
        "Place an order and get the address to which the customer is sent.",
        Calls.place,
        shapes.Placed,
        status=201,
        body=shapes.NewOrder,
        location="/orders/{tid}",
    ),
    Address("GET", "/orders", "List orders, the newest first.", Calls.orders, shapes.OrderList, query=shapes.OrdersQuery),
    Address(
        "GET",
        "/orders/{tid}",
        "Read an order; with wait, as soon as its outcome is there.",
        Calls.order,
        shapes.OrderView,
        query=shapes.OrderQuery,
        refusals=(404,),
    ),
    Address(
        "GET",
        "/orders/{tid}/redirect",
        "The payment address of an order that is still open, once more.",
        Calls.redirect,
        shapes.Redirected,
        query=shapes.RedirectQuery,
        refusals=(404, 409),
    ),
    Address(
        "POST",
        "/orders/{tid}/withdraw",
        "Take back an order that is not being paid yet; a later notice for it is refused.",
        Calls.withdraw,
        shapes.OrderView,
        body=Empty,
        refusals=(404,),
    ),
    Address(
        "POST",
        "/orders/{tid}/replace",
        "Put another order in the place of one that is not being paid yet.",
        Calls.replace,
        shapes.Placed,
        status=201,
        body=shapes.NewOrder,
        refusals=(404,),
        location="/orders/{tid}",
    ),
    Address(
        "POST",
        "/orders/{tid}/inquiries",
        "Ask the payment server now what became of an order.",
        Calls.inquire,
        shapes.Inquired,
        body=Empty,
        refusals=(404,),
    ),
    Address(
        "POST",
        "/orders/{tid}/sessions",
        "Open a session for the customer's window (dual-signature checkout): pass on what the button sends.",
        Calls.open_session,
        shapes.SessionOpened,
        body=shapes.NewSession,
        refusals=(404, 429),
        is_signed=True,
    ),
    Address(
        "POST",
        "/orders/{tid}/purchases",
        "Buy in that session: pass on what the button sends, and give it the answer.",
        Calls.buy,
        shapes.Bought,
        body=shapes.NewPurchase,
        refusals=(404,),
        is_signed=True,
        body_max=PURCHASE_MAX,
    ),
    Address(
        "POST",
        "/orders/{tid}/cancellations",
        "Take back what is left of an order, or a part of what was paid.",
        Calls.cancel,
        shapes.Cancelled,
        status=201,
        body=shapes.NewCancellation,
        refusals=(404,),
    ),
    Address(
        "GET",
        "/orders/{tid}/cancellations",
        "Every cancellation of an order, as it stands now.",
        Calls.cancellations,
        shapes.CancellationList,
        refusals=(404,),
    ),
    Address(
        "POST",
        "/orders/{tid}/returned",
        "The goods of a cancelled order have come back.",
        Calls.returned,
        shapes.CancellationList,
        body=Empty,
        refusals=(404,),
    ),
    Address("GET", "/orders/{tid}/messages", "Every signed message about an order.", Calls.messages, shapes.MessageList, refusals=(404,)),
    Address("GET", "/line", "Whether the private line is up.", Calls.line, shapes.LineView),
    Address("GET", "/callbacks", "The endpoints that agent.toml registers.", Calls.endpoints, shapes.EndpointList),
    Address(
        "GET",
        "/callbacks/deliveries",
        "The delivery log, the newest first.",
        Calls.deliveries,
        shapes.DeliveryList,
        query=shapes.DeliveriesQuery,
    ),
    Address(
        "POST",
        "/callbacks/deliveries/{id}/resend",
        "Send an event again now, with the same id and bytes.",
        Calls.resend_delivery,
        shapes.DeliveryView,
        status=202,
        body=Empty,
        refusals=(404,),
    ),
    Address(
        "POST",
        "/callbacks/test",
        "Send a test event to one endpoint or to all.",
        Calls.send_test,
        shapes.DeliveryList,
        status=202,
        body=shapes.TrialAsked,
    ),
    Address("GET", "/health", "The agent answers, and whether its line is up.", Calls.health, shapes.Health, is_open=True),
)


class NoMatch(msgspec.Struct, frozen=True):
    """No address answers; `allowed` names the methods of this path, empty where there is no such path."""

    allowed: tuple[str, ...]


def find(method: str, path: str) -> tuple[Address, str] | NoMatch:
    """The address of this method and path with the id in the path, compared segment by segment: nothing is decoded or normalised."""
    parts = tuple(path.removeprefix("/").split("/"))
    allowed = []
    for address in ADDRESSES:
        found = _match(address.segments, parts)
        if found is None:
            continue
        if address.method == method:
            return address, found
        allowed.append(address.method)
    return NoMatch(tuple(allowed))


def _match(segments: tuple[str, ...], parts: tuple[str, ...]) -> str | None:
    if len(segments) != len(parts):
        return None
    found = ""
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith("{"):
            found = part
        elif segment != part:
            return None
    return found
