"""The demo shop's pages: shelf, login, order screen (Figure 6), orders, download; and the JSON that `hanbit demo --once` speaks."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from importlib import resources
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import jinja2
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from hanbit.demo.shop.catalogue import CURRENCY, ITEMS, QUANTITY_MAX, Item, song
from hanbit.demo.shop.forms import local, read_form
from hanbit.demo.shop.guard import App, Guard
from hanbit.demo.shop.relay import Relay
from hanbit.demo.shop.session import ACCOUNTS, COOKIE, LANGUAGE_COOKIE, LIFETIME_S, Sessions, cookie
from hanbit.demo.shop.staff import Staff
from hanbit.demo.shop.staff_pages import StaffPages
from hanbit.demo.shop.words import WORDS, Language, say, won
from hanbit.kernel.errors import BadInput, HanbitError, NotFound, WrongMediaType, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant.order import Line, Order, owner_hash
from hanbit.merchant.return_page import ReturnPage
from hanbit.merchant.shop import Redirect, Shop
from hanbit.merchant.states import State

TIMEZONE: Final = ZoneInfo("Asia/Seoul")
TELEPHONE: Final = "02-555-0100"
METHODS: Final = ("hanbit", "window", "deposit")
RETURN_PATH: Final = "/hanbit/return"
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "woff2": "font/woff2"}
_SVG: Final = {item: resources.files(__package__).joinpath("pictures", f"{item}.svg").read_text("utf-8") for item in ITEMS}


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    item: str
    quantity: int = 1


class ShopPages:
    """Every address of the demo shop."""

    def __init__(self, shop: Shop, sessions: Sessions, staff: Staff, *, public_url: str) -> None:
        self._shop = shop
        self._sessions = sessions
        self._staff = staff
        self._public_url = public_url
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("hanbit.demo.shop"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
        )
        gateway = urlsplit(shop.registration.pay_url)
        self._gateway_origin = f"{gateway.scheme}://{gateway.netloc}"
        return_page = ReturnPage(
            shop,
            owner_of=sessions.account,
            page_of=lambda tid: f"/orders/{tid}",
            language_of=self._language,
            stylesheet="/static/shop.css",
        )
        routes = [
            Route("/", self.shelf),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/language/{language}", self.language),
            Route("/items/{item}", self.order_screen),
            Route("/deposit", self.deposit),
            Route("/orders", self.orders),
            Route("/orders", self.place, methods=["POST"]),
            Route("/orders/{tid}", self.order),
            Route("/orders/{tid}/pay", self.pay),
            Route("/orders/{tid}/download", self.download),
            *Relay(shop, self._own_order).routes,
            *StaffPages(shop, sessions, staff, self._page).routes,
            Route("/staff/orders/{tid}/withdraw", self.staff_withdraw, methods=["POST"]),
            Route("/staff/orders/{tid}/change", self.staff_change, methods=["POST"]),
            Route("/staff/answer", self.staff_answer, methods=["POST"]),
            Route("/static/{name}", self.static),
            Route("/healthz", self.healthz),
            Mount("/hanbit", return_page),
        ]
        handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {HanbitError: self._refused, HTTPException: self._no_page}
        app = Starlette(routes=routes, exception_handlers=cast("Any", handlers))
        self.app = Guard(
            cast("App", app),
            origin=public_url,
            gateway_origin=self._gateway_origin,
            refuse=self._refuse_write,
        )

    # --- pages ------------------------------------------------------------------------------------------------------------------------

    async def shelf(self, request: Request) -> Response:
        """The catalogue."""
        return self._page(request, "shelf.html", items=list(ITEMS.values()))

    async def login(self, request: Request) -> Response:
        """The shop's own login; a new cookie each time."""
        onward = local(request.query_params.get("next", "/"))
        if request.method == "GET":
            return self._page(request, "login.html", failed=False, onward=onward, accounts=ACCOUNTS)
        form = await read_form(request)
        value = self._sessions.log_in(form.get("id", ""), form.get("password", ""))
        if value is None:
            return self._page(request, "login.html", status=401, failed=True, onward=onward, accounts=ACCOUNTS)
        response = RedirectResponse(onward, HTTPStatus.SEE_OTHER)
        response.set_cookie(COOKIE, value, max_age=LIFETIME_S, path="/", secure=True, httponly=True, samesite="lax")
        return response

    async def logout(self, _request: Request) -> Response:
        """Forget the cookie."""
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        return response

    async def language(self, request: Request) -> Response:
        """Korean or English from now on."""
        if request.path_params["language"] not in {"ko", "en"}:
            raise NotFound
        response = RedirectResponse(local(request.query_params.get("next", "/")), HTTPStatus.SEE_OTHER)
        response.set_cookie(LANGUAGE_COOKIE, request.path_params["language"], path="/", secure=True, httponly=True, samesite="lax")
        return response

    async def order_screen(self, request: Request) -> Response:
        """Figure 6: item, quantity, price, payment method, OK, cancel."""
        item = ITEMS.get(request.path_params["item"])
        if item is None:
            raise NotFound
        if self._sessions.account(request.scope) is None:
            return _to_login(request)
        return self._page(request, "order_screen.html", item=item, methods=METHODS, quantity_max=QUANTITY_MAX)

    async def deposit(self, request: Request) -> Response:
        """The payment method that is not ours."""
        return self._page(request, "deposit.html")

    async def place(self, request: Request) -> Response:
        """R1 to R3: make the order durable, then 303 to the payment server, or to the page with its button; JSON gets the address."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        language = self._language(request.scope)
        if kind == "application/json":
            asked = _json(await request.body())
            redirect = await self._place(_item(asked.item), asked.quantity, None, language)
            return JSONResponse({"tid": redirect.tid, "location": redirect.location}, HTTPStatus.CREATED, {"Cache-Control": "no-store"})
        if kind != "application/x-www-form-urlencoded":
            raise WrongMediaType("a form or JSON")
        account = self._sessions.account(request.scope)
        if account is None:
            return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        form = await read_form(request)
        if form.get("method") not in METHODS:
            raise BadInput("method")
        if form["method"] == "deposit":
            return RedirectResponse("/deposit", HTTPStatus.SEE_OTHER)
        quantity = form.get("quantity", "")
        if not (quantity.isascii() and quantity.isdigit() and len(quantity) == 1):
            raise BadInput("quantity")
        redirect = await self._place(_item(form.get("item", "")), int(quantity), account, language)
        onward = f"/orders/{redirect.tid}" if form["method"] == "window" else redirect.location
        return RedirectResponse(onward, HTTPStatus.SEE_OTHER)

    async def orders(self, request: Request) -> Response:
        """What this customer ordered, the newest first."""
        account = self._sessions.account(request.scope)
        if account is None:
            return _to_login(request)
        return self._page(request, "orders.html", orders=await self._shop.orders_of(account))

    async def order(self, request: Request) -> Response:
        """One order's true state; the page asks its own server until the order is final."""
        json = "application/json" in request.headers.get("accept", "")
        if not json and self._sessions.account(request.scope) is None:
            return _to_login(request)
        order = await self._own_order(request)
        if not json:
            cancellations = await self._shop.cancellations(order.tid)
            waiting = any(not cancellation.final for cancellation in cancellations)
            button = None if order.plain else f"{self._gateway_origin}/button.js"
            return self._page(request, "order.html", order=order, digital=_is_digital(order), cancelling=waiting, button=button)
        if request.query_params.get("wait") == "1":
            order = await self._shop.wait_outcome(order.tid, 10)
        answer = {"tid": order.tid, "state": order.state, "final": order.final, "reason": order.reason, "may_deliver": order.may_deliver}
        answer |= {"refunded": order.refunded.text, "remaining": order.remaining.text}
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    async def pay(self, request: Request) -> Response:
        """Back to the payment server with the same order, if it is still open."""
        order = await self._own_order(request)
        if order.state is not State.PLACED:
            return RedirectResponse(f"/orders/{order.tid}", HTTPStatus.SEE_OTHER)
        redirect = await self._shop.redirect(order.tid, language=self._language(request.scope))
        return RedirectResponse(redirect.location, HTTPStatus.SEE_OTHER)

    async def download(self, request: Request) -> Response:
        """The digital item: only after the settled message."""
        order = await self._own_order(request)
        if not _is_digital(order):
            raise NotFound
        try:
            await self._shop.deliverable(order.tid)
        except WrongState:
            return self._page(request, "ended.html" if order.state is State.CANCELLED else "not_yet.html", status=403, order=order)
        return Response(
            song(),
            media_type="audio/wav",
            headers={"Content-Disposition": 'attachment; filename="hanbit.wav"', "Cache-Control": "no-store"},
        )

    # --- staff: what the cases of the demo and the tests need -----------------------------------------------------------------------------

    async def staff_withdraw(self, request: Request) -> Response:
        """The shop takes an order back after it was signed."""
        self._staff.check(request)
        order = await self._shop.withdraw(request.path_params["tid"])
        return JSONResponse({"tid": order.tid, "state": order.state})

    async def staff_change(self, request: Request) -> Response:
        """The shop changes an order after it was signed: another takes its place."""
        self._staff.check(request)
        asked = _json(await request.body())
        old = await self._shop.order(request.path_params["tid"])
        redirect = await self._place(_item(asked.item), asked.quantity, None, self._language(request.scope), replaces=old.tid)
        return JSONResponse({"tid": redirect.tid, "location": redirect.location, "replaces": old.tid})

    async def staff_answer(self, request: Request) -> Response:
        """How the shop answers notices from now on: yes, no, silent or error."""
        self._staff.check(request)
        self._staff.set_answer((await request.body()).decode("ascii", "replace"))
        return JSONResponse({"answer": self._staff.answer})

    # --- small things -------------------------------------------------------------------------------------------------------------------

    async def static(self, request: Request) -> Response:
        """The stylesheet, two small scripts and the font."""
        name = request.path_params["name"]
        folder = "hanbit.web" if name.endswith(".woff2") else "hanbit.demo.shop"
        parts = ("static", "fonts", name) if name.endswith(".woff2") else ("static", name)
        kind = _KINDS.get(name.rpartition(".")[2])
        file = resources.files(folder).joinpath(*parts)
        if kind is None or not file.is_file():
            raise NotFound
        return Response(file.read_bytes(), media_type=kind, headers={"Cache-Control": "max-age=3600"})

    async def healthz(self, _request: Request) -> Response:
        """The shop runs; whether its line is up stands beside it."""
        line = self._shop.line
        return JSONResponse({"shop": "up", "line": "up" if line is not None and line.connected.is_set() else "down"})

    async def _place(self, item: Item, quantity: int, account: str | None, language: Language, *, replaces: str | None = None) -> Redirect:
        if not 1 <= quantity <= (1 if item.digital else QUANTITY_MAX):
            raise BadInput("quantity")
        name = item.name(language)
        order: dict[str, Any] = {
            "lines": [Line(item.id, quantity, item.price_minor)],
            "total": Money(item.price_minor * quantity, CURRENCY),
            "text": name if quantity == 1 else f"{name} × {quantity}",
            "return_url": f"{self._public_url}{RETURN_PATH}",
            "owner": account,
            "language": language,
        }
        return await (self._shop.create_order(**order) if replaces is None else self._shop.replace_order(replaces, **order))

    async def _own_order(self, request: Request) -> Order:
        """Orders of an account are its own; an order of nobody (made by JSON) is open to whoever knows its 128 random bits."""
        order = await self._shop.order(request.path_params["tid"])
        if order.owner is not None and order.owner != owner_hash(self._sessions.account(request.scope)):
            raise NotFound("no such order")
        return order

    def _language(self, scope: Any) -> Language:
        chosen = cookie(scope, LANGUAGE_COOKIE)
        if chosen in {"ko", "en"}:
            return cast("Language", chosen)
        accepted = next((value for name, value in scope["headers"] if name == b"accept-language"), b"")
        return "en" if accepted[:2].lower() == b"en" else "ko"

    def _page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        language = self._language(request.scope)
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        html = self._templates.get_template(template).render(
            language=language,
            other="en" if language == "ko" else "ko",
            here=quote(here, safe="/"),
            account=self._sessions.account(request.scope),
            say=lambda key: say(key, language),
            knows=WORDS.__contains__,
            won=lambda money: won(money, language),
            clock=_local_time,
            picture=_SVG,
            catalogue=ITEMS,
            telephone=TELEPHONE,
            **values,
        )
        return HTMLResponse(html, status, {"Cache-Control": "no-store"})

    async def _refused(self, request: Request, error: HanbitError) -> Response:
        if "application/json" in request.headers.get("accept", "") or request.headers.get("content-type", "").startswith(
            "application/json"
        ):
            return JSONResponse({"code": error.code, "detail": error.detail, "advice": error.advice}, error.status)
        return self._error(request, error.status)

    async def _no_page(self, request: Request, error: HTTPException) -> Response:
        return self._error(request, error.status_code)

    def _refuse_write(self, scope: Any, status: int) -> App:
        return cast("App", self._error(Request(scope), status))

    def _error(self, request: Request, status: int) -> Response:
        texts = {403: "foreign_text", 404: "not_found_text", 503: "busy_text"}
        title = "not_found" if status == HTTPStatus.NOT_FOUND else "error"
        return self._page(request, "error.html", status=status, title=title, text=texts.get(status, "bad_input_text"))


def _item(name: str) -> Item:
    item = ITEMS.get(name)
    if item is None:
        raise BadInput("item")
    return item


def _is_digital(order: Order) -> bool:
    return any(line.item in ITEMS and ITEMS[line.item].digital for line in order.lines)


def _json(body: bytes) -> _Asked:
    try:
        return msgspec.json.decode(body, type=_Asked)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput('JSON: {"item": …, "quantity": …}') from error


def _to_login(request: Request) -> Response:
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(here, safe='/')}", HTTPStatus.SEE_OTHER)


def _local_time(at: int) -> str:
    return datetime.fromtimestamp(at, TIMEZONE).strftime("%Y-%m-%d %H:%M")
