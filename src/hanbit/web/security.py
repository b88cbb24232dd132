"""What stands around every address: reference, Origin check, limits on size and time of what is received, and the headers of answers.

    Guard (outermost)   reference and nonce · cross-site writes refused · headers on every answer · errors become pages or problem+json
    └── Limits          so many requests at once; a body has a largest size and a latest moment at which it must be complete
        └── the routes

Sessions: random tokens in a `__Host-` cookie, of which the book keeps only the hash. The deadline for a request's head is
`web.listener`'s, because no application is called before the head is complete.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hanbit.kernel.errors import BadInput, NotAllowed, Refused, TooLarge, TooManyTries, Unavailable
from hanbit.kernel.ids import new_reference
from hanbit.web.visitors import NOBODY, network_of

SESSION_COOKIE: Final = "__Host-hanbit"
"""The prefix makes the browser insist on Secure, Path=/ and no Domain: no neighbour site can set or see it."""
BODY_MAX: Final = 64 * 1024
"""Bytes of one request's body; four sealed and signed messages fit several times."""
BODY_DEADLINE_S: Final = 10.0
"""From the head to the last byte of the body."""
REQUESTS_AT_ONCE_MAX: Final = 1_500
"""Requests that are being answered; the next one is told to come again."""
REQUESTS_PER_ADDRESS_MAX: Final = 100
"""Of these, one client address's; `connections_per_address` in the settings."""
COME_AGAIN_S: Final = 2
WHOLE: Final = "hanbit.whole"
"""In a request's scope once its body has come to its end: what has come is not waited for."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_PERMISSIONS: Final = ", ".join(
    [f"{name}=()" for name in ("camera", "geolocation", "microphone", "payment", "usb", "display-capture", "screen-wake-lock")]
    + [f"publickey-credentials-{act}=(self)" for act in ("get", "create")]
)
FIXED_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": _PERMISSIONS,
}

OWN_HEADERS: Final = frozenset({b"cross-origin-opener-policy", b"cross-origin-resource-policy"})
"""What an answer may say itself: the payment window keeps its opener, the button's script is for other sites' pages. Nothing else does."""

_REFUSED: Final = 400
_log = structlog.get_logger("hanbit.web")


class TooSlow(Refused):
    """A body was not complete in time; the connection is closed, so that nobody holds places by sending slowly."""

    code = "too_slow"
    status = 408
    advice = "Check your connection and try again."


class TooManyRequests(TooManyTries):
    """One address asks for more at once than there is room for: behind a proxy its requests are counted, not its connections."""

    code = "too_many_requests"


def content_security_policy(nonce: str, *, forms: bool = False) -> str:
    """The policy of a page: one script by nonce (its imports inherit it), our own style and fonts, and no form target at all.

    `form-action 'none'`: only the payment program sends anything, and only sealed; a form that were sent by itself would send secrets.
    A console works by forms, which go to the console alone; so does the one page of the customers' site that is searched.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'nonce-{nonce}'",
            "style-src 'self'",
            "font-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'" if forms else "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types hanbit",
        )
    )


FORMS_HEADERS: Final[Mapping[str, str]] = {**FIXED_HEADERS, "Referrer-Policy": "same-origin"}
"""Where forms are sent: under `no-referrer` a browser says `Origin: null` with them, and nobody could tell ours from anybody's."""
DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""The policy of everything that is not a page."""
DATA_POLICY_BYTES: Final = DATA_POLICY.encode("ascii")


def session_token(request: Request) -> str | None:
    """The token in the session cookie, unverified."""
    return request.cookies.get(SESSION_COOKIE)


def set_session(response: Response, token: str) -> None:
    """Give the browser a session; Lax, because customers come from the shop's site by a redirect."""
    response.set_cookie(SESSION_COOKIE, token, path="/", secure=True, httponly=True, samesite="lax")


def end_session(response: Response) -> None:
    """Take the session away from the browser."""
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def check_same_origin(method: str, headers: Headers, origin: str, *, programs: bool = True) -> None:
    """A write must come from our own pages, or, where `programs` may write, from no browser at all (those send neither header)."""
    if method in SAFE_METHODS:
        return
    site, said = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in {None, "same-origin"} or said not in {None, origin}:
        raise NotAllowed("this comes from another site")
    if not programs and site is None and said is None:
        raise NotAllowed("this does not say from which page it comes")


def check_secure(scope: Scope, origin: str) -> None:
    """What one of our own proxies took in clear is not answered where the public address is https: a cookie would travel in clear."""
    if origin.startswith("https://") and scope["state"].get("came_by") == "http":
        raise NotAllowed("this address is served by https only")


class Guard:
    """Gives each request a reference and a nonce, refuses cross-site writes, answers for every error, sets every header."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        origin: str,
        answer: Callable[[Request, Exception], Response],
        routes: Iterable[BaseRoute] = (),
        forms: bool = False,
        observe: Callable[[str, int, float], None] = lambda _route, _status, _seconds: None,
    ) -> None:
        """`origin` is the public one: no Host header decides anything. `answer` makes the page or problem of an error.

        `forms`: our pages send forms, and nobody but browsers writes. `observe` is told the route's pattern, the status and the seconds
        of each answer.
        """
        self._app = app
        self._origin = origin
        fixed = FORMS_HEADERS if forms else FIXED_HEADERS
        self._fixed = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in fixed.items()]
        if origin.startswith("https://"):
            self._fixed.append((b"strict-transport-security", b"max-age=63072000; includeSubDomains"))
        self._answer = answer
        self._forms = forms
        self._patterns = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reference, nonce = new_reference(), secrets.token_urlsafe(16)
        scope.setdefault("state", {}).update(reference=reference, nonce=nonce)
        structlog.contextvars.clear_contextvars()  # a request that follows on its connection may begin in the context of the one before
        structlog.contextvars.bind_contextvars(reference=reference)
        started, status = asyncio.get_running_loop().time(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                searched = bool(scope["state"].get("searched"))
                message["headers"] = self._with_fixed(message["headers"], nonce, reference, searched=searched)
            await send(message)

        try:
            check_secure(scope, self._origin)
            check_same_origin(scope["method"], Headers(scope=scope), self._origin, programs=not self._forms)
            await self._app(scope, receive, send_guarded)
        except (Exception, asyncio.CancelledError) as error:
            if status:
                raise
            # Only the server's stop cancels a request, when it has waited long enough: what becomes of a payment is then recovery's to say.
            known = Unavailable("the server stops") if isinstance(error, asyncio.CancelledError) else error
            response = self._answer(Request(scope), known)
            if isinstance(error, TooSlow):
                response.headers["Connection"] = "close"  # what is still on its way is not waited for
            await response(scope, receive, send_guarded)
        finally:
            route = self._patterns.get(scope["endpoint"], "none") if "endpoint" in scope else "none"
            seconds = asyncio.get_running_loop().time() - started
            self._observe(route, status, seconds)
            # An address is somebody's: it is written down only where something was refused.
            who = {"client": _client(scope)} if status >= _REFUSED else {}
            _log.info("request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1), **who)
            structlog.contextvars.clear_contextvars()

    def _with_fixed(
        self, headers: Iterable[tuple[bytes, bytes]], nonce: str, reference: str, *, searched: bool
    ) -> list[tuple[bytes, bytes]]:
        """The answer's own headers (ASGI has their names in lower case) and those that every answer has."""
        own = dict(headers)
        page = own.get(b"content-type", b"").startswith(b"text/html")
        fixed = self._fixed if own.keys().isdisjoint(OWN_HEADERS) else [pair for pair in self._fixed if pair[0] not in own]
        result = [*headers, *fixed, (b"x-reference", reference.encode("ascii"))]
        policy = content_security_policy(nonce, forms=self._forms or searched).encode("ascii") if page else DATA_POLICY_BYTES
        result.append((b"content-security-policy", policy))
        if b"cache-control" not in own:
            result.append((b"cache-control", b"no-store"))
        return result


class Limits:
    """Turns away what there is no room for; cuts a body that is too large or comes too slowly."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_max: int = BODY_MAX,
        deadline_s: float = BODY_DEADLINE_S,
        at_once_max: int = REQUESTS_AT_ONCE_MAX,
        per_address_max: int = REQUESTS_PER_ADDRESS_MAX,
    ) -> None:
        self._app = app
        self._at_once = 0
        self._by_address: Counter[str] = Counter()
        self._at_once_max = at_once_max
        self._per_address_max = per_address_max
        self._body_max = body_max
        self._deadline_s = deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._at_once >= self._at_once_max:
            raise Unavailable("too many requests at once")
        network = network_of(_client(scope))
        if self._by_address[network] >= self._per_address_max:
            raise TooManyRequests("too many requests of this address at once", retry_after_s=COME_AGAIN_S)
        self._at_once += 1
        self._by_address[network] += 1
        try:
            await self._limited(scope, receive, send)
        finally:
            self._at_once -= 1
            self._by_address[network] -= 1
            if not self._by_address[network]:
                del self._by_address[network]

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = Headers(scope=scope).get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise BadInput("Content-Length")
        if len(length) > len(str(self._body_max)) or int(length) > self._body_max:
            raise TooLarge(f"at most {self._body_max} bytes")
        latest = asyncio.get_running_loop().time() + self._deadline_s
        received, complete = 0, False

        async def receive_limited() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # only the news that the client has gone can follow
            try:
                if WHOLE in scope:
                    message = await receive()
                else:
                    async with asyncio.timeout_at(latest):
                        message = await receive()
            except TimeoutError as error:
                raise TooSlow(f"a body must be complete within {self._deadline_s:g} seconds") from error
            if message["type"] == "http.disconnect":
                raise BadInput("the body ended before it was complete")
            received += len(message.get("body", b""))
            if received > self._body_max:
                raise TooLarge(f"at most {self._body_max} bytes")
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_limited, send)


def _client(scope: Scope) -> str:
    """The client's address, as `visitors.Forwarded` found it."""
    return str(scope["client"][0]) if scope.get("client") else NOBODY
