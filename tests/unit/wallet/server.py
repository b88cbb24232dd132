"""A payment server on a real socket that says what a test tells it to say; it opens what the wallet seals with the real key."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from hanbit.crypto import certificates, envelopes, keys
from hanbit.kernel import ids
from hanbit.protocols import sealed, signed
from hanbit.protocols.redirect.messages import Keys
from hanbit.protocols.sealed import Core, Instruction
from hanbit.protocols.signed import PinnedTrust
from tests.unit.wallet.parties import AT, Operator, make_keys, make_opening, make_order, open_key, query, receipt_for

PAYMENT = "P" * 22
SCREEN = {
    "customer": {"name": "Hong Gildong"},
    "accounts": [
        {"id": "a1", "kind": "bank", "masked": "***-**-1234", "currency": "KRW"},
        {"id": "a2", "kind": "card", "masked": "123456******9876", "currency": "KRW"},
    ],
    "passkeys": False,
    "expires_at": AT + 300,
    "html": "<section></section>",
}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """One order, and the answers to it. `states` are the states that submit and then each poll report."""

    operator: Operator
    at: int = AT
    states: list[str] = field(default_factory=lambda: ["captured"])
    reason: str | None = None
    receipt_changes: dict[str, Any] = field(default_factory=dict)
    receipt_in_answer: bool = True
    lost_answers: int = 0
    instead: dict[str, Answer] = field(default_factory=dict)
    """Path → what is answered there in place of the honest answer."""
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    logins: list[dict[str, Any]] = field(default_factory=list)
    instructions: list[Instruction[Core]] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    enrolments: list[dict[str, Any]] = field(default_factory=list)
    customer: str = "hong"
    origin: str = ""

    def __post_init__(self) -> None:
        self.order = make_order(self.operator.shop, at=self.at)
        self.code = "one-time-code"

    @property
    def url(self) -> str:
        """Where the shop leads the customer."""
        return f"{self.origin}/pay?{query(self.order)}"

    def application(self) -> web.Application:
        """The addresses."""
        application = web.Application()
        application.add_routes([web.route("*", "/{path:.*}", self.answer)])
        return application

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Route by hand, so that a test can put anything anywhere."""
        path = request.path
        if "Cookie" in request.headers:
            self.cookies.append(request.headers["Cookie"])
        if request.method == "POST":
            body = await request.read()
            self.received.append(
                (path, msgspec.json.decode(body) if request.content_type == "application/json" else {"jwe": body.decode()})
            )
        if path in self.instead:
            return await self.instead[path](request)
        if path == "/pay":
            jws = make_keys(self.order, self.operator.gateway, at=self.at, seal=self.operator.seal)
            chain = [signed.encode_der(der) for der in self.operator.shop.chain]
            return _json(make_opening(self.order, jws, merchant_chain=chain))
        if path == f"/payments/{PAYMENT}/receipt":
            return web.Response(text=self._receipt(), content_type="application/jose")
        handler = {
            "/pay/login": self._login,
            "/pay/screen": lambda: {"screen": SCREEN},
            "/pay/submit": self._submit,
            "/pay/cancel": lambda: self._outcome("closed"),
            f"/payments/{PAYMENT}/state": lambda: {"state": self._next_state(), "reason": self.reason, "final": False},
            "/enrol/keys": self._enrol_keys,
            "/enrol/device": self._enrol,
        }[path]
        if path == "/pay/submit" and self.lost_answers:
            self.lost_answers -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        result = _json(handler())
        if path == "/pay/login":
            result.set_cookie("__Host-hanbit", "s" * 43, secure=True, httponly=True, samesite="Lax", path="/")
        return result

    def _claims(self) -> Keys:
        trust = PinnedTrust(self.operator.root, self.operator.name)
        audience = ids.urn(self.operator.name, "customer")
        return signed.verify(self.received[-1][1]["keys"], Keys, trust=trust, audience=audience, at=self.at).claims

    def _login(self) -> dict[str, Any]:
        body = self.received[-1][1]
        session = open_key(self.operator, body["key"], self._claims())
        self.logins.append(sealed.open_login(body["login"], session))
        return {"screen": SCREEN}

    def _submit(self) -> dict[str, Any]:
        body = self.received[-1][1]
        self.instructions.append(sealed.open_pay(body["pay"], open_key(self.operator, body["key"], self._claims())))
        return self._outcome(self._next_state())

    def _next_state(self) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def _outcome(self, state: str) -> dict[str, Any]:
        receipt = self._receipt() if state == "captured" and self.receipt_in_answer else None
        return {"payment": PAYMENT, "state": state, "reason": self.reason, "receipt": receipt, "next": f"/payments/{PAYMENT}", "html": None}

    def _receipt(self) -> str:
        claims = next(
            signed.verify(
                body["keys"],
                Keys,
                trust=PinnedTrust(self.operator.root, self.operator.name),
                audience=ids.urn(self.operator.name, "customer"),
                at=self.at,
            ).claims
            for _, body in reversed(self.received)
            if "keys" in body
        )
        return receipt_for(claims, self.operator.gateway, at=self.at, **self.receipt_changes)

    def _enrol_keys(self) -> dict[str, Any]:
        chain = (self.operator.seal, *self.operator.gateway_authority.chain)
        return {
            "gateway": ids.urn(self.operator.name, "gateway"),
            "operator": {"id": self.operator.name},
            "seal": [signed.encode_der(der) for der in chain],
        }

    def _enrol(self) -> dict[str, Any]:
        jwe = self.received[-1][1]["jwe"]
        plain = envelopes.open_with_key(
            jwe, self.operator.seal_key, typ=sealed.ENROL_TYP, expected_kid=certificates.kid(self.operator.seal)
        )
        self.enrolments.append(msgspec.json.decode(plain))
        request = certificates.read_request(ids.decode_base64url(self.enrolments[-1]["request"]))
        return self.enrolled(ids.urn(self.operator.name, "customer", self.customer), request.public)

    def enrolled(self, urn: str, public: Any = None, **changes: Any) -> dict[str, Any]:
        """The answer to an enrolment, with a certificate for this name and key."""
        leaf = certificates.make_leaf(
            self.operator.gateway_authority,
            urn=urn,
            purpose="customer-sign",
            public=public or keys.new_key().public_key(),
            at=self.at,
            lifetime_s=90 * 86_400,
        )
        chain = [signed.encode_der(der) for der in (leaf, *self.operator.gateway_authority.chain)]
        return {"customer": urn, "chain": chain, "gateway": ids.urn(self.operator.name, "gateway")} | changes


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None, **members: str) -> Answer:
    """An answer of problem+json."""

    async def answer(_: web.Request) -> web.StreamResponse:
        body = msgspec.json.encode({"type": "about:blank", "title": detail, "status": status, "code": code, "detail": detail} | members)
        return web.Response(status=status, body=body, content_type="application/problem+json", headers=headers)

    return answer


def always(make: Callable[[], web.StreamResponse]) -> Answer:
    """The same answer to everybody."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return make()

    return answer


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[Server]:
    """On a free port of the loopback address, in this loop."""
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.origin = f"http://pay.localhost:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def listening_apart(server: Server) -> Iterator[Server]:
    """In a thread of its own, for a command that runs its own loop."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        async with listening(server):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()
