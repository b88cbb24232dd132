"""The page to which the gateway sends the customer back: plain ASGI, to be mounted in any shop; it believes no status from the address.

    GET <mount>/return?TID=…   waits in the customer's own browser session of this shop, then goes on to the shop's page of the order
    GET <mount>/state?TID=…    JSON {"state", "final"}; answers as soon as the order is final, else after 15 s

The tid in the address proves nothing: the order must belong to whom the shop's own session names, else the page says
"not found" as for a tid that never was. The truth comes from the order book; if it is not there yet the shop asks the gateway (RQ).
"""

import html
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qs

import msgspec

from hanbit.kernel.errors import HanbitError, NotFound
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop

WAIT_S: Final = 15.0
_QUERY_MAX: Final = 512

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
OwnerOf: TypeAlias = Callable[[Scope], str | None]
"""Whose request it is by the shop's own session, as it was given to `create_order(owner=…)`; None where there is none."""
PageOf: TypeAlias = Callable[[str], str]
"""tid → address of the shop's own page of that order."""
LanguageOf: TypeAlias = Callable[[Scope], Literal["ko", "en"]]

_WORDS: Final = {
    "ko": ("지불 결과를 확인하고 있습니다", "결제서버의 대답을 기다립니다. 이 창을 그대로 두십시오.", "주문 상태 보기"),
    "en": ("Checking your payment", "We are waiting for the payment server's word. Please leave this page open.", "See the order"),
}
_UNKNOWN: Final = {"ko": "그런 주문이 없습니다.", "en": "There is no such order."}
_PAGE: Final = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{style}</head>
<body><main><section class="sheet"><h1>{title}</h1><p role="status">{text}</p><p><a href="{page}">{link}</a></p></section></main>
<script nonce="{nonce}">
const ask = () => fetch({state_js}).then((answer) => answer.json()).then(
  (order) => (order.final ? location.replace({page_js}) : ask()), () => setTimeout(ask, 2000));
ask();
</script></body></html>
"""
_STYLE: Final = (
    """<style nonce="{nonce}">body{{font:1.125rem/1.6 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem}}</style>"""
)


class ReturnPage:
    """The ASGI application of both addresses."""

    def __init__(
        self, shop: Shop, *, owner_of: OwnerOf, page_of: PageOf, language_of: LanguageOf | None = None, stylesheet: str | None = None
    ) -> None:
        """Without `language_of` the browser's own first wish decides; `stylesheet` is an address of the shop's own site."""
        self._stylesheet = stylesheet
        self._shop = shop
        self._language_of = language_of or _language
        self._owner_of = owner_of
        self._page_of = page_of

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """One HTTP request."""
        if scope["type"] != "http":
            return
        name = scope["path"].rpartition("/")[2]
        try:
            if scope["method"] not in {"GET", "HEAD"} or name not in {"return", "state"}:
                raise NotFound
            order = await self._own_order(scope)
            if name == "state":
                await self._state(order, send)
            else:
                await self._return(order, scope, send)
        except HanbitError as error:
            language = self._language_of(scope)
            status = HTTPStatus.NOT_FOUND if isinstance(error, NotFound) else HTTPStatus(error.status)
            text = _UNKNOWN[language] if status is HTTPStatus.NOT_FOUND else status.phrase
            page = f'<!doctype html><html lang="{language}"><title>{text}</title><h1>{text}</h1></html>'
            await _answer(send, status, page.encode(), "text/html; charset=utf-8")

    async def _own_order(self, scope: Scope) -> Order:
        query = scope["query_string"]
        tids = parse_qs(query.decode("ascii", "replace")).get("TID", []) if len(query) <= _QUERY_MAX else []
        if len(tids) != 1:
            raise NotFound
        order = await self._shop.order(tids[0])
        if not order.belongs_to(self._owner_of(scope) or None):
            raise NotFound
        return order

    async def _state(self, order: Order, send: Send) -> None:
        order = await self._shop.wait_outcome(order.tid, WAIT_S)
        body = msgspec.json.encode({"state": order.state, "final": order.final})
        await _answer(send, HTTPStatus.OK, body, "application/json")

    async def _return(self, order: Order, scope: Scope, send: Send) -> None:
        page = self._page_of(order.tid)
        if order.final:
            await _answer(send, HTTPStatus.SEE_OTHER, b"", "text/plain", location=page)
            return
        language, nonce = self._language_of(scope), secrets.token_urlsafe(16)
        title, text, link = _WORDS[language]
        body = _PAGE.format(
            language=language,
            title=title,
            text=text,
            link=link,
            nonce=nonce,
            style=self._style(nonce),
            page=html.escape(page),
            page_js=_script_text(page),
            state_js=_script_text(f"state?TID={order.tid}"),
        )
        await _answer(send, HTTPStatus.OK, body.encode(), "text/html; charset=utf-8", nonce=nonce)

    def _style(self, nonce: str) -> str:
        if self._stylesheet is None:
            return _STYLE.format(nonce=nonce)
        return f'<link rel="stylesheet" href="{html.escape(self._stylesheet)}">'


def _script_text(text: str) -> str:
    """A JavaScript string that cannot end the script element."""
    return msgspec.json.encode(text).decode().replace("<", "\\u003c")


def _language(scope: Scope) -> Literal["ko", "en"]:
    """The browser's first wish; Korean where it has none that we speak."""
    accepted = next((value for name, value in scope["headers"] if name == b"accept-language"), b"")
    return "en" if accepted[:2].lower() == b"en" else "ko"


async def _answer(send: Send, status: HTTPStatus, body: bytes, kind: str, *, nonce: str = "", location: str = "") -> None:
    policy = (
        "default-src 'none'; base-uri 'none'; connect-src 'self'; font-src 'self'; frame-ancestors 'none'; img-src 'self'; "
        f"script-src 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'"
    )
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", policy.encode() if nonce else b"default-src 'none'; frame-ancestors 'none'"),
    ]
    if location:
        headers.append((b"location", location.encode()))
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
