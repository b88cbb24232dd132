"""What stands before every page of the demo shop: foreign writes are refused, bodies are bounded, answers carry the same strict headers."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

BODY_MAX: Final = 64 * 1024
"""Bytes: a purchase holds an order's lines, three certificates and an envelope."""
_WRITES: Final = {"POST", "PUT", "PATCH", "DELETE"}

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Refuse = Callable[[Message, int], App]


class Guard:
    """ASGI middleware; `refuse` gives the page for a status."""

    def __init__(self, app: App, *, origin: str, gateway_origin: str, refuse: Refuse) -> None:
        self._app = app
        self._origin = origin
        self._refuse = refuse
        # A form's answer may redirect to the payment server only: form-action is checked on redirects too.
        policy = (
            f"default-src 'none'; script-src 'self' {gateway_origin}; style-src 'self'; img-src 'self'; font-src 'self'; "
            f"connect-src 'self'; "
            f"form-action 'self' {gateway_origin}; frame-ancestors 'none'; base-uri 'none'"
        )
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"cross-origin-opener-policy", b"same-origin-allow-popups"),  # the payment window is one
            (b"referrer-policy", b"same-origin"),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(header for header in self._headers if header[0] not in present)]
            await send(message)

        app = self._app
        if scope["method"] in _WRITES:
            headers = dict(scope["headers"])
            length = headers.get(b"content-length", b"")
            if not self._is_own(headers):
                app = self._refuse(scope, 403)
            elif not length.isdigit() or len(length) > len(str(BODY_MAX)) or int(length) > BODY_MAX:
                app = self._refuse(scope, 413 if length.isdigit() else 411)
        await app(scope, receive, send_guarded)

    def _is_own(self, headers: dict[bytes, bytes]) -> bool:
        """Browsers say where a write comes from; a program that says nothing carries no cookie of anybody."""
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None:
            return b"cookie" not in headers
        return site in {None, b"same-origin"} and origin in {None, self._origin.encode()}
