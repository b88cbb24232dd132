"""HTTP around the calls: token, routing, limits on what is received, idempotency, and problem+json for every error.

head complete in time? ─▶ no browser ─▶ token ─▶ address ─▶ query ─▶ key, body (size, deadline, JSON of its shape) ─▶ once ─▶ call
"""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from hanbit.crypto.envelopes import equal
from hanbit.kernel.errors import BadInput, NotFound, ProtocolViolation, TooLarge, Unavailable, WrongMediaType
from hanbit.loopback import is_this_computer
from hanbit.merchant.agent import openapi, shapes
from hanbit.merchant.agent.calls import Call, Calls
from hanbit.merchant.agent.faults import PROBLEM_TYPE, KeyMissing, TokenMissing, TooSlow, WebPage, WrongMethod, told
from hanbit.merchant.agent.idempotency import Answer, Once
from hanbit.merchant.agent.table import Address, NoMatch, find
from hanbit.protocols.signed import check_strict_json

BODY_DEADLINE_S: Final = 5.0
HEAD_DEADLINE_S: Final = 30.0
"""From the connection, or from the last answer on it, to the end of the next head; a silent connection is closed then too."""
SEND_DEADLINE_S: Final = 30.0
"""For an answer to be read by whoever asked."""
REQUESTS_AT_ONCE_MAX: Final = 512
CONNECTIONS_MAX: Final = 1_000
QUERY_MAX: Final = 2_000
OPENAPI_PATH: Final = "/openapi.json"
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_HOST_PORT = re.compile(r":[0-9]{1,5}\Z")
_BEARER: Final = "Bearer "
_log = logging.getLogger("hanbit.merchant.agent")

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class _Sent:
    """An answer on its way out."""

    status: int
    body: bytes
    headers: dict[str, str]
    route: str


class Api:
    """The agent's API; `handle` answers every request that is HTTP at all."""

    def __init__(self, calls: Calls, once: Once, token: str) -> None:
        self._calls = calls
        self._once = once
        self._token = token.encode("ascii")
        self._at_work = 0

    def server(self) -> web.Server:
        """What listens hands its connections to this."""
        return _Server(self.handle)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request; never raises but for a connection that is gone."""
        began = asyncio.get_running_loop().time()
        self._at_work += 1
        try:
            sent = await self._answer(request)
        except Exception as error:  # noqa: BLE001 - every error has its answer; an unknown one is logged there
            sent = _problem(error)
        finally:
            self._at_work -= 1
        took_ms = round((asyncio.get_running_loop().time() - began) * 1000)
        _log.info(
            "request",
            extra={
                "method": request.method[:10],
                "route": sent.route,
                "status": sent.status,
                "ms": took_ms,
                "reference": sent.headers.get("X-Reference"),
            },
        )
        response = web.Response(status=sent.status, body=sent.body, headers=sent.headers)
        if not request.content.is_eof():
            response.force_close()  # the rest of a body that nobody reads
        try:
            async with asyncio.timeout(SEND_DEADLINE_S):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("nobody reads the answer") from error
        return response

    async def _answer(self, request: web.BaseRequest) -> _Sent:
        if self._at_work > REQUESTS_AT_ONCE_MAX:
            raise Unavailable("too many requests at once")
        _check_caller(request)
        path, _, query = request.path_qs.partition("?") if request.path_qs.startswith("/") else ("", "", "")
        if (request.method, path) == ("GET", OPENAPI_PATH):
            return _Sent(200, openapi.description(), _headers("application/json"), OPENAPI_PATH)
        found = find(request.method, path)
        if isinstance(found, NoMatch) or not found[0].is_open:
            self._check_token(request)
        if isinstance(found, NoMatch):
            if path == OPENAPI_PATH:
                raise _not_allowed(("GET",))
            raise _not_allowed(found.allowed) if found.allowed else NotFound("no such address")
        address, named = found
        call = Call(id=named, query=_query(query, address.query))
        if address.body is None:
            answer = Answer(address.status, msgspec.json.encode(await address.call(self._calls, call)))
        elif address.is_signed:
            body = _decode(await _body(request, address.body_max) or b"{}", address.body)
            answer = Answer(address.status, msgspec.json.encode(await address.call(self._calls, Call(call.id, call.query, body))))
        else:
            answer = await self._write(request, address, call)
        headers = _headers("application/json")
        if answer.location is not None:
            headers["Location"] = answer.location
        if answer.replayed:
            headers["Idempotent-Replayed"] = "true"
        return _Sent(answer.status, answer.body, headers, address.path)

    async def _write(self, request: web.BaseRequest, address: Address, call: Call) -> Answer:
        keys = request.headers.getall("Idempotency-Key", [])
        if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
            raise KeyMissing("Idempotency-Key: one, of 1 to 200 visible ASCII characters")
        assert address.body is not None
        raw = await _body(request, address.body_max)
        body = _decode(raw or b"{}", address.body)

        async def act(work: str) -> Answer:
            made = await address.call(self._calls, Call(call.id, call.query, body, work))
            location = address.location.format(tid=made.tid) if isinstance(made, shapes.Placed) else None
            return Answer(address.status, msgspec.json.encode(made), location)

        return await self._once.run(keys[0], b"\0".join((request.method.encode(), request.path_qs.encode(), raw)), act)

    def _check_token(self, request: web.BaseRequest) -> None:
        given = request.headers.getall("Authorization", [])
        if len(given) != 1 or given[0][: len(_BEARER)].lower() != _BEARER.lower():
            raise TokenMissing("Authorization: Bearer TOKEN")
        if not equal(self._token, given[0][len(_BEARER) :].encode("utf-8", "replace")):
            raise TokenMissing("another token")
        if isinstance(request.protocol, _Handler):
            request.protocol.has_shown_token = True


class _Handler(RequestHandler):
    """aiohttp's HTTP/1.1; what is no HTTP is answered like everything else."""

    has_shown_token = False
    """Whoever is at the other end may use the API: it loses its connection to nobody who may not."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The parser's refusals, which no handler sees."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer has begun already")
        error: Exception = BadInput("this is no HTTP request") if status < 500 or not isinstance(exc, Exception) else exc  # noqa: PLR2004 - HTTP's errors
        sent = _problem(error)
        response = web.Response(status=sent.status, body=sent.body, headers=sent.headers)
        response.force_close()
        return response


class _Server(web.Server):
    """Limits on connections; the deadline for a head is the one for silence, which aiohttp counts from the connection on."""

    def __init__(self, handler: Callable[[web.BaseRequest], Any]) -> None:
        super().__init__(handler)
        self._limits: dict[str, Any] = {
            "keepalive_timeout": HEAD_DEADLINE_S,
            "lingering_time": 1.0,
            "auto_decompress": False,
            "access_log": None,
            "logger": logging.getLogger("hanbit.merchant.agent.http"),
        }

    def __call__(self) -> RequestHandler:
        """The protocol of a new connection."""
        return _Handler(self, loop=self._loop, **self._limits)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """One too many costs the oldest that has never shown the token its place; where all have, it is told so and closed."""
        super().connection_made(handler, transport)
        if len(self._connections) <= CONNECTIONS_MAX:
            return
        strangers = (old for old in self._connections if isinstance(old, _Handler) and not old.has_shown_token)
        oldest = next(strangers, None)
        if oldest is not None and oldest is not handler:
            if oldest.transport is not None:
                oldest.transport.abort()
        else:
            sent = _problem(Unavailable("too many connections"))
            head = [f"HTTP/1.1 {sent.status} Service Unavailable", f"content-length: {len(sent.body)}", "connection: close"]
            head += [f"{name}: {value}" for name, value in sent.headers.items()]
            transport.write("\r\n".join([*head, "", ""]).encode("ascii") + sent.body)
            transport.close()


def _check_caller(request: web.BaseRequest) -> None:
    """Neither a script of a page that a visitor has open on this computer, nor a name of the internet that was made to lead here."""
    if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
        raise WebPage("a browser calls on behalf of a page")
    hosts = request.headers.getall("Host", [])
    is_tcp = request.transport is not None and isinstance(request.transport.get_extra_info("sockname"), tuple)
    if is_tcp and (len(hosts) != 1 or not is_this_computer(_HOST_PORT.sub("", hosts[0]))):
        raise WebPage("Host: this computer's, by address or as localhost")


def _problem(error: Exception) -> _Sent:
    problem, headers = told(error)
    allow = {"Allow": error.detail} if isinstance(error, WrongMethod) else {}
    body = msgspec.json.encode(problem)
    return _Sent(problem.status, body, {**_headers(PROBLEM_TYPE), **headers, **allow, "X-Reference": problem.reference}, "problem")


def _headers(kind: str) -> dict[str, str]:
    return {"Content-Type": kind, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "hanbit"}


def _not_allowed(methods: tuple[str, ...]) -> WrongMethod:
    return WrongMethod(", ".join(methods))


def _query(text: str, kind: type[T]) -> T:
    if len(text) > QUERY_MAX:
        raise BadInput(f"the query has more than {QUERY_MAX} characters")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), encoding="utf-8", errors="strict", max_num_fields=20)
    except ValueError as error:
        raise BadInput("query: name=value pairs in UTF-8") from error
    numbers = _numbers(kind)
    fields = {name: int(value) if name in numbers and _NUMBER.fullmatch(value) else value for name, value in pairs}
    if len(fields) != len(pairs):
        raise BadInput("query: a name twice")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"query: {error}") from error


@cache
def _numbers(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields of a query that are whole numbers; msgspec's own lax reading would also take `null` for nothing."""
    found = set()
    for field in msgspec.structs.fields(kind):
        info = msgspec.inspect.type_info(field.type)
        kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
        plain = [one.type if isinstance(one, msgspec.inspect.Metadata) else one for one in kinds]
        if any(isinstance(one, msgspec.inspect.IntType) for one in plain):
            found.add(field.name)
    return frozenset(found)


async def _body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body, in time and within its limit."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise WrongMediaType("a body is sent as it is, not compressed")
    if (request.content_length or 0) > limit:
        raise TooLarge(f"a body has at most {limit} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > limit:
                    raise TooLarge(f"a body has at most {limit} bytes")
    except TimeoutError as error:
        raise TooSlow(f"a body is complete within {BODY_DEADLINE_S:g} s") from error
    except web.RequestPayloadError as error:
        raise BadInput("the body is not as its headers say") from error
    if body and request.content_type != "application/json":
        raise WrongMediaType("application/json")
    return bytes(body)


def _decode(raw: bytes, kind: type[T]) -> T:
    try:
        body = msgspec.json.decode(raw, type=kind)
        check_strict_json(raw, "body")
    except ProtocolViolation as error:
        raise BadInput("body: a name twice, or a number that is not written as a whole one") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise BadInput(f"body: {error}") from error
    return body
