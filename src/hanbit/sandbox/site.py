"""What a sandbox adds to the customers' site: a page with the magic table, and somebody on the way who alters an amount."""

from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hanbit.kernel import ids
from hanbit.payments.gateway import Gateway
from hanbit.sandbox import magic
from hanbit.sandbox.magic import Trick
from hanbit.web.application import Extension
from hanbit.web.faults import json_response, visit_of, wants_page
from hanbit.web.pages import Pages

PATH: Final = "/sandbox"
AMOUNT_MAX: Final = 15
"""Digits of an amount (see kernel/money.py)."""


def extension(gateway: Gateway) -> Extension:
    """The sandbox's page, and the alteration of amounts that end in 003."""

    def routes(pages: Pages) -> list[BaseRoute]:
        async def show(request: Request) -> Response:
            return _page(request, pages, gateway.clock.now())

        return [Route(PATH, show)]

    return Extension(routes, (Middleware(AlteredOnItsWay),))


def _page(request: Request, pages: Pages, at: int) -> Response:
    if not wants_page(request):
        return json_response({"test": True, "now": at, **magic.as_json()})
    visit = visit_of(request, pages)
    code = visit.language.code
    people = [{"login": one.login, "password": one.password, "does": getattr(one.does, code)} for one in magic.PEOPLE]
    accounts = [
        {"login": one.login, "kind": one.kind, "number": one.number, "password": one.password, "does": getattr(one.does, code)}
        for one in magic.ACCOUNTS
    ]
    amounts = [{"ending": one.ending, "does": getattr(one.does, code)} for one in magic.AMOUNTS]
    wrong = getattr(magic.WRONG_PASSWORD, code)
    return HTMLResponse(pages.render("sandbox.html", visit, people=people, accounts=accounts, amounts=amounts, wrong=wrong, at=at))


class AlteredOnItsWay:
    """Sends a browser that opens a magic payment address to another: as a dishonest network would, so that all evidence stays true.

    Everything behind it is the ordinary site, which has to find out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        target = _altered_target(scope) if scope["type"] == "http" else None
        if target is None:
            await self._app(scope, receive, send)
            return
        await RedirectResponse(target, 303)(scope, receive, send)


def _altered_target(scope: Scope) -> str | None:
    """The address with another amount, None where this is no page that is opened with a magic amount."""
    if scope["path"] != "/pay" or scope["method"] != "GET" or "text/html" not in Headers(scope=scope).get("accept", ""):
        return None
    try:
        query = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=10)
    except ValueError:
        return None  # the site says what is wrong with it
    named = dict(query)
    amount = named.get("AMOUNT", "")
    plain = amount.isascii() and amount.isdigit() and len(amount) <= AMOUNT_MAX and ids.PARTY_ID.fullmatch(named.get("MID", "")) is not None
    if not plain or magic.trick_of(amount) is not Trick.MISMATCH:
        return None
    return "/pay?" + urlencode([(name, magic.altered(value) if name == "AMOUNT" else value) for name, value in query])
