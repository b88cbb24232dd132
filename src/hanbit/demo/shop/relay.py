"""The relay of the button (docs/button.md): three addresses that pass what the customer's window sends and gets on, as it is.

GET  /hanbit/{tid}             what the button needs of this order
POST /hanbit/{tid}/sessions    D2, D3
POST /hanbit/{tid}/purchases   D5, D8

Whoever may see the order may pay it; nothing that passes here says who he is.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, WrongMediaType
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.protocols.dual_signature.messages import Purchase

T = TypeVar("T", bound=msgspec.Struct)


class _Tid(Convertor[str]):
    """A transaction number in an address; `return` and `state`, beside which it stands, are none."""

    regex = ids.TID.pattern

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("tid", _Tid())


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    session_request: str


class Relay:
    """The handlers; `own_order` finds the visitor's own order or answers that there is none."""

    def __init__(self, shop: Shop, own_order: Callable[[Request], Awaitable[Order]]) -> None:
        self._shop = shop
        self._own_order = own_order

    @property
    def routes(self) -> list[BaseRoute]:
        """The addresses of this module."""
        return [
            Route("/hanbit/{tid:tid}", self.checkout),
            Route("/hanbit/{tid:tid}/sessions", self.open_session, methods=["POST"]),
            Route("/hanbit/{tid:tid}/purchases", self.buy, methods=["POST"]),
        ]

    async def checkout(self, request: Request) -> Response:
        """D1"""
        order = await self._own_order(request)
        return _json(await self._shop.checkout(order.tid))

    async def open_session(self, request: Request) -> Response:
        """D2, D3"""
        order = await self._own_order(request)
        asked = await _read(request, _Asked)
        return _json(await self._shop.open_session(order.tid, asked.session_request))

    async def buy(self, request: Request) -> Response:
        """D5 to D8"""
        order = await self._own_order(request)
        return _json(await self._shop.purchase(order.tid, await _read(request, Purchase)))


async def _read(request: Request, kind: type[T]) -> T:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise WrongMediaType("JSON")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput(str(error)[:200]) from error


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers={"Cache-Control": "no-store"})
