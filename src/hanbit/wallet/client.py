"""HTTP to one payment server: sizes, times and redirects are limited, the session cookie lives in memory only.

Names under `.localhost` are the loopback address (RFC 6761), because many resolvers do not know them. Plain http is for loopback only.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

import aiohttp
import msgspec
from yarl import URL

from hanbit.kernel import fail_points
from hanbit.kernel.errors import BadInput, ProtocolViolation, Refused, TooManyTries, Unavailable
from hanbit.loopback import LoopbackResolver, is_local

ANSWER_MAX: Final = 256 * 1024
"""Bytes of one answer."""
ANSWER_TIMEOUT_S: Final = 30
"""For one exchange; the server itself waits 4 s for the shop and then answers "in progress"."""
CONNECT_TIMEOUT_S: Final = 5
RETRY_AFTER_MAX_S: Final = 3600
CONNECTIONS_MAX: Final = 256
ADDRESS_MAX: Final = 40 * 1024
COOKIE: Final = "__Host-hanbit"
_COOKIE_VALUE = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_CODE = re.compile(r"[a-z_]{1,40}")
_NOT_PRINTABLE = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SEE_OTHER = range(300, 400)
_ERROR = 400
_TOO_MANY = 429
_SERVER_ERROR = 500

T = TypeVar("T")


class GatewayRefused(Refused):
    """The payment server said no, in words for the person; `problem` is its stable code and `reference` what to quote."""

    code = "gateway_refused"

    def __init__(self, problem: str, detail: str, *, answered: int, advice: str = "", reference: str = "") -> None:
        super().__init__(detail)
        self.problem = problem
        self.answered = answered
        self.gateway_advice = advice
        self.reference = reference

    def __str__(self) -> str:
        return f"{self.problem}: {self.detail}"


class MovedOn(GatewayRefused):
    """The payment has another state than the request expected; `path` is the page of its true state."""

    code = "moved_on"

    def __init__(self, path: str) -> None:
        super().__init__("moved_on", "this payment has moved on", answered=303)
        self.path = path


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    title: str = ""
    detail: str = ""
    advice: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a payment server."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{self.host}" + ("" if self.port == usual else f":{self.port}")


def read_address(url: str) -> tuple[Origin, SplitResult]:
    """The origin and the parts of a payment server's address; http only where it cannot leave this computer, else BadInput."""
    if len(url) > ADDRESS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise BadInput("the address is too long or has characters that no address has")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").lower()
    except ValueError as error:
        raise BadInput("this is not an address") from error
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc:
        raise BadInput("an address begins with https:// and the payment server's name")
    if parts.scheme == "http" and not is_local(host):
        raise BadInput("plain http is for this computer only: use the https address")
    return Origin(parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme]), parts


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request, unverified; `cookie` is the session cookie's value where the server set one."""

    status: int
    content_type: str
    content: bytes
    retry_after: str = ""
    location: str = ""
    cookie: str | None = None


class Http:
    """One pool of connections; any number of `GatewayClient`s, each with its own session, share it."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, connections: int = CONNECTIONS_MAX) -> None:
        self._tls = tls
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Made at the first use, inside the running loop. It keeps no cookie and takes no compressed body (a small one could grow)."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=LoopbackResolver(), ssl=self._tls or True, limit=self._connections, limit_per_host=self._connections
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
                headers={"Accept-Encoding": "identity", "User-Agent": "hanbit-wallet"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def exchange(self, origin: Origin, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send one request and read its whole answer; Unavailable where none comes. Nothing is followed."""
        fail_points.reach("wallet.asks")
        try:
            async with self.session.request(
                method, URL(f"{origin}{target}", encoded=True), data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await _read(answer)
        except TimeoutError as error:
            raise Unavailable(f"{origin} has not answered in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{origin} cannot be reached") from error
        fail_points.reach("wallet.answered")
        cookie = answer.cookies.get(COOKIE)
        return Answer(
            status=answer.status,
            content_type=answer.content_type,
            content=content,
            retry_after=answer.headers.get("Retry-After", ""),
            location=answer.headers.get("Location", ""),
            cookie=None if cookie is None else cookie.value,
        )


class GatewayClient:
    """One customer's conversation with one payment server."""

    def __init__(self, http: Http, origin: Origin) -> None:
        self.origin = origin
        self._http = http
        self._cookie = ""

    @property
    def has_session(self) -> bool:
        """Whether the server has given this conversation a session."""
        return bool(self._cookie)

    async def get(self, target: str, accept: str = "application/json") -> bytes:
        """The body at this path and query, which must be answered as `accept`."""
        return await self._exchange("GET", target, accept, None, None)

    async def post(self, path: str, body: dict[str, str]) -> bytes:
        """The JSON answer to a JSON object."""
        return await self._exchange("POST", path, "application/json", msgspec.json.encode(body), "application/json")

    async def post_compact(self, path: str, compact: str, accept: str = "application/json") -> bytes:
        """The answer to one sealed or signed message."""
        return await self._exchange("POST", path, accept, compact.encode("ascii"), "application/jose")

    async def _exchange(self, method: str, target: str, accept: str, body: bytes | None, content_type: str | None) -> bytes:
        headers = {"Accept": accept}
        if content_type is not None:
            headers["Content-Type"] = content_type
        if self._cookie:
            headers["Cookie"] = f"{COOKIE}={self._cookie}"
        answer = await self._http.exchange(self.origin, method, target, headers, body)
        if answer.status >= _ERROR:
            raise _refusal(answer.status, answer.retry_after, answer.content)
        if answer.status in _SEE_OTHER:
            raise self._moved(answer.location)
        if answer.content_type != accept:
            raise ProtocolViolation("answer", f"{accept} was expected from {self.origin}")
        if answer.cookie is not None:
            self._keep(answer.cookie)
        return answer.content

    def _keep(self, unverified_cookie: str) -> None:
        """An empty value ends the session, as at a logout."""
        if unverified_cookie and not _COOKIE_VALUE.fullmatch(unverified_cookie):
            raise ProtocolViolation("answer", "the session cookie has another shape")
        self._cookie = unverified_cookie

    def _moved(self, unverified_location: str) -> MovedOn:
        """Nothing is followed; what lies elsewhere is not even named, as it may be made to look right."""
        if unverified_location.startswith("/") and not unverified_location.startswith("//"):
            return MovedOn(printable(unverified_location, 200))
        try:
            origin, parts = read_address(unverified_location)
        except BadInput as error:
            raise ProtocolViolation("answer", f"{self.origin} leads to something that is no address") from error
        if origin != self.origin:
            raise ProtocolViolation("other_origin", f"{self.origin} leads to another server")
        return MovedOn(printable(parts.path, 200))


def printable(unverified: str, longest: int = 400) -> str:
    """Foreign words for a terminal or an error: no control characters, no change of direction, not too long."""
    return _NOT_PRINTABLE.sub(" ", unverified)[:longest]


def decode(unverified: bytes, kind: type[T]) -> T:
    """An answer of this shape, else ProtocolViolation."""
    try:
        return msgspec.json.decode(unverified, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise ProtocolViolation("answer", printable(str(error), 200)) from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    if "Content-Encoding" in answer.headers:
        raise ProtocolViolation("answer", "a compressed body was not asked for")
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > ANSWER_MAX:
            raise ProtocolViolation("size", "the answer is too large")
    return bytes(body)


def _refusal(status: int, retry_after: str, content: bytes) -> Refused | Unavailable:
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        problem = _Problem()
    code = problem.code if _CODE.fullmatch(problem.code) else f"http_{status}"
    detail = printable(problem.detail or problem.title or f"the payment server answered {status}")
    wait_s = min(int(retry_after), RETRY_AFTER_MAX_S) if re.fullmatch(r"[0-9]{1,6}", retry_after) else 2
    if status == _TOO_MANY:
        return TooManyTries(detail, retry_after_s=wait_s)
    if status >= _SERVER_ERROR:
        return Unavailable(detail, retry_after_s=wait_s)
    return GatewayRefused(code, detail, answered=status, advice=printable(problem.advice), reference=printable(problem.reference, 60))
