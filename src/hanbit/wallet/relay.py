"""The shop's side as the installed program meets it: the relay behind the button, by which a shop passes the messages of a purchase on.

Nothing that comes from here is believed: the order is verified against the pinned root, every answer by the customer's role.
"""

from html.parser import HTMLParser
from typing import Annotated, Final, Self, TypeVar
from urllib.parse import urljoin

import msgspec

from hanbit.kernel.errors import BadInput, ProtocolViolation, Refused, Unavailable
from hanbit.protocols.dual_signature.messages import LINES_MAX, Purchase, SessionAnswer
from hanbit.protocols.fields import Code
from hanbit.wallet.client import ADDRESS_MAX, Answer, Http, Origin, decode, printable, read_address

ATTRIBUTE: Final = "data-hanbit-relay"
_JSON = "application/json"
_ERROR, _SERVER_ERROR = 400, 500
_SEE_OTHER = range(300, 400)

T = TypeVar("T")


class ShopRefused(Refused):
    """The shop does not take this payment, or not here."""

    code = "shop_refused"
    advice = "Look at the order at the shop, or ask the shop."


class DishonestShop(ProtocolViolation):
    """What the shop answered is not what was asked for; nothing has been sealed or signed by then, so nothing can have been paid."""

    code = "dishonest_shop"
    advice = "Nothing was paid. Do not buy at this shop in this way; tell the operator."


class ShopCheckout(msgspec.Struct, frozen=True):
    """D1 as the shop tells it, unverified."""

    order: Annotated[str, msgspec.Meta(max_length=32 * 1024)]
    lines: Annotated[str, msgspec.Meta(max_length=LINES_MAX)]
    lines_salt: Annotated[str, msgspec.Meta(max_length=64)]
    redirect: Annotated[str, msgspec.Meta(max_length=ADDRESS_MAX)]


class SaidByShop(msgspec.Struct, frozen=True):
    """The shop's own words, in both languages."""

    ko: Annotated[str, msgspec.Meta(max_length=200)]
    en: Annotated[str, msgspec.Meta(max_length=200)]


class ShopResult(msgspec.Struct, frozen=True):
    """D8 as the shop tells it, unverified: only a receipt that proves itself is worth anything."""

    result: Annotated[str, msgspec.Meta(max_length=20)]
    reason: Code | None = None
    receipt: str | None = None
    message: SaidByShop | None = None


class Relay:
    """One order's relay at one shop."""

    def __init__(self, http: Http, origin: Origin, target: str) -> None:
        self.origin = origin
        self._http = http
        self._target = target

    @classmethod
    async def find(cls, http: Http, url: str) -> "tuple[Self, ShopCheckout]":
        """The relay at this address, or the one that the button on the page at this address names; it must be on the same origin."""
        origin, parts = read_address(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        answer = await _ask(http, origin, "GET", target, None, accept=f"{_JSON}, text/html;q=0.5")
        if answer.content_type == "text/html":
            relay_origin, relay = read_address(urljoin(f"{origin}{target}", _named_relay(answer.content)))
            if relay_origin != origin:
                raise BadInput(f"the button on this page leads to {relay_origin}: give that address if you mean it")
            target = relay.path + (f"?{relay.query}" if relay.query else "")
            answer = await _ask(http, origin, "GET", target, None)
        found = cls(http, origin, target)
        return found, found.read(answer, ShopCheckout)

    async def session(self, request: str) -> SessionAnswer:
        """D2, D3."""
        return await self._post("/sessions", {"session_request": request}, SessionAnswer)

    async def purchase(self, purchase: Purchase) -> ShopResult:
        """D5, D8; the same purchase may be handed over again."""
        return await self._post("/purchases", msgspec.structs.asdict(purchase), ShopResult)

    def read(self, answer: Answer, kind: type[T]) -> T:
        """An answer of this shape, else DishonestShop."""
        if answer.content_type != _JSON:
            raise DishonestShop("answer", f"JSON was expected from {self.origin}")
        try:
            return decode(answer.content, kind)
        except ProtocolViolation as error:
            raise DishonestShop(error.rule, error.detail) from error

    async def _post(self, step: str, body: dict[str, str], kind: type[T]) -> T:
        path, mark, query = self._target.partition("?")
        target = path.rstrip("/") + step + mark + query
        return self.read(await _ask(self._http, self.origin, "POST", target, msgspec.json.encode(body)), kind)


async def _ask(http: Http, origin: Origin, method: str, target: str, body: bytes | None, *, accept: str = _JSON) -> Answer:
    headers = {"Accept": accept} | ({} if body is None else {"Content-Type": _JSON, "Origin": str(origin)})
    answer = await http.exchange(origin, method, target, headers, body)
    if answer.status >= _SERVER_ERROR:
        raise Unavailable(f"the shop at {origin} cannot take this payment now")
    if answer.status >= _ERROR or answer.status in _SEE_OTHER:
        said = "leads elsewhere" if answer.status in _SEE_OTHER else f"says {answer.status}"
        raise ShopRefused(f"the shop at {origin} {said}: it does not offer this order's payment at this address")
    return answer


class _Buttons(HTMLParser):
    """The first relay that a page's button names."""

    relay = ""

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Look for the attribute on any element, as the script does."""
        self.relay = self.relay or dict(attributes).get(ATTRIBUTE) or ""


def _named_relay(page: bytes) -> str:
    parser = _Buttons()
    parser.feed(page.decode("utf-8", "replace"))
    if not parser.relay:
        raise BadInput("there is no Hanbit button on this page: give the address of an order's relay, or of the page with its button")
    return printable(parser.relay, ADDRESS_MAX)
