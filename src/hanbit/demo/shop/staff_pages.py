"""The staff's pages of the demo shop: every order, and one form to cancel it or to give a part of the money back (Figure 4)."""

from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hanbit.demo.shop.catalogue import ITEMS
from hanbit.demo.shop.forms import read_form
from hanbit.demo.shop.session import LIFETIME_S, STAFF_COOKIE, Sessions
from hanbit.demo.shop.staff import Staff
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Refused, WrongState
from hanbit.kernel.money import Money, parse_amount
from hanbit.merchant.operations import cancellation_view, order_view
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State

ORDERS_SHOWN: Final = 50
CANCELLABLE: Final = (State.PLACED, State.WITHDRAWN, State.CONFIRMED, State.SETTLED)
REFUNDABLE: Final = (State.CONFIRMED, State.SETTLED)
"""Paid, or about to be: also a part can be given back."""


class Page(Protocol):
    """How a template becomes an answer."""

    def __call__(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """One page."""
        ...


class _Cancel(msgspec.Struct, forbid_unknown_fields=True):
    amount: str = ""
    reason: str = "cancelled by the shop"
    request_key: str | None = None
    goods: bool = True


class StaffPages:
    """The addresses below `/staff`; in a browser with the staff's cookie, for programs with the token of the shop's folder."""

    def __init__(self, shop: Shop, sessions: Sessions, staff: Staff, page: Page) -> None:
        self._shop = shop
        self._sessions = sessions
        self._staff = staff
        self._page = page
        self.routes = [
            Route("/staff", self.orders),
            Route("/staff/login", self.login, methods=["GET", "POST"]),
            Route("/staff/logout", self.logout, methods=["POST"]),
            Route("/staff/orders/{tid}", self.order),
            Route("/staff/orders/{tid}/cancel", self.cancel, methods=["POST"]),
            Route("/staff/orders/{tid}/returned", self.returned, methods=["POST"]),
        ]

    async def login(self, request: Request) -> Response:
        """The staff's token, once a shift."""
        failed = False
        if request.method == "POST":
            if self._staff.is_token((await read_form(request)).get("token", "")):
                response = RedirectResponse("/staff", HTTPStatus.SEE_OTHER)
                value = self._sessions.for_staff()
                response.set_cookie(STAFF_COOKIE, value, max_age=LIFETIME_S, path="/", secure=True, httponly=True, samesite="strict")
                return response
            failed = True
        return self._page(request, "staff_login.html", status=401 if failed else 200, failed=failed)

    async def logout(self, _request: Request) -> Response:
        """Forget the cookie."""
        response = RedirectResponse("/staff/login", HTTPStatus.SEE_OTHER)
        response.delete_cookie(STAFF_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return response

    async def orders(self, request: Request) -> Response:
        """The newest orders of everybody."""
        if not self._sessions.is_staff(request.scope):
            return _to_login()
        found, _ = await self._shop.book.listed(None, None, ORDERS_SHOWN, None)
        return self._page(request, "staff_orders.html", orders=found)

    async def order(self, request: Request) -> Response:
        """One order, what was taken back of it, and the form to take back more."""
        if not self._sessions.is_staff(request.scope):
            return _to_login()
        return await self._show(request, await self._shop.order(request.path_params["tid"]))

    async def cancel(self, request: Request) -> Response:
        """C1: the whole or a part; the same form sent twice is one cancellation."""
        tid = request.path_params["tid"]
        if "authorization" in request.headers:
            self._staff.check(request)
            asked = _json(await request.body())
            order, amount = await self._shop.order(tid), asked.amount
        else:
            if not self._sessions.is_staff(request.scope):
                return _to_login()
            form = await read_form(request)
            order, amount = await self._shop.order(tid), form.get("amount", "")
            asked = _Cancel(reason=form.get("reason", "").strip(), request_key=form.get("key") or None, goods="goods" in form)
        try:
            money = Money(parse_amount(amount), order.amount.currency) if amount else None
            goods = asked.goods and not _is_download(order)
            done = await self._shop.cancel(tid, amount=money, reason=asked.reason, request_key=asked.request_key, goods=goods)
        except Refused as error:
            if "authorization" in request.headers:
                raise
            trouble = "staff_changed" if isinstance(error, WrongState) else "staff_wrong"
            return await self._show(request, await self._shop.order(tid), trouble=trouble, status=error.status)
        if "authorization" in request.headers:
            answer = {"cancellation": cancellation_view(done), "order": order_view(await self._shop.order(tid))}
            return JSONResponse(answer, headers={"Cache-Control": "no-store"})
        return RedirectResponse(f"/staff/orders/{tid}", HTTPStatus.SEE_OTHER)

    async def returned(self, request: Request) -> Response:
        """The goods are back on the shelf."""
        if not self._sessions.is_staff(request.scope):
            return _to_login()
        tid = request.path_params["tid"]
        await self._shop.mark_goods_returned(tid)
        return RedirectResponse(f"/staff/orders/{tid}", HTTPStatus.SEE_OTHER)

    async def _show(self, request: Request, order: Order, *, trouble: str = "", status: int = 200) -> Response:
        cancellations = await self._shop.cancellations(order.tid)
        return self._page(
            request,
            "staff_order.html",
            status=status,
            order=order,
            cancellations=cancellations,
            waiting=any(not cancellation.final for cancellation in cancellations),
            awaited=any(cancellation.goods == "awaited" and cancellation.state == "confirmed" for cancellation in cancellations),
            can_cancel=order.state in CANCELLABLE and order.remaining.amount_minor > 0,
            can_refund=order.state in REFUNDABLE,
            digital=_is_download(order),
            key=ids.new_token(),
            trouble=trouble,
        )


def _is_download(order: Order) -> bool:
    return any(line.item in ITEMS and ITEMS[line.item].digital for line in order.lines)


def _json(body: bytes) -> _Cancel:
    try:
        return msgspec.json.decode(body or b"{}", type=_Cancel)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput('JSON: {"amount": …, "reason": …}') from error


def _to_login() -> Response:
    return RedirectResponse("/staff/login", HTTPStatus.SEE_OTHER)
