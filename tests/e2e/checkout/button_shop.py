"""A shop with the button on its page, under as strict a policy as a page can have; a test may make it say anything under its own keys."""

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.line_requests import routes as line_requests
from hanbit.protocols import signed
from hanbit.protocols.dual_signature.digests import split_frame
from hanbit.protocols.dual_signature.merchant import Merchant, SessionFacts, frame
from hanbit.protocols.dual_signature.messages import Purchase, Session, SessionAnswer
from hanbit.protocols.keys import make_session_authority_request, read_session_authority
from hanbit.protocols.redirect.merchant import hash_lines
from hanbit.protocols.signed import PinnedTrust, encode_der, peek_claims
from tests.faces.site import SHOP, Site, running_site

ITEMS: Final = [
    {"item": "SK휴대폰 IM-1100", "quantity": 1, "price_minor": 200_000},
    {"item": "케이스", "quantity": 2, "price_minor": 10_000},
]
LINES: Final = json.dumps(ITEMS, ensure_ascii=False, separators=(",", ":"))
POLICY: Final = (
    "default-src 'none'; script-src 'self' {gateway}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE: Final = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>가람전자</title>
<script src="{gateway}/button.js" defer></script><script src="/page.js" defer></script></head>
<body><main><h1>가람전자</h1>
<button id="pay" data-hanbit-relay="/hanbit/{tid}">Hanbit</button><p id="state" role="status">-</p></main></body></html>
"""
SCRIPT: Final = """
globalThis.seen = [];
for (const kind of ["open", "result", "closed", "blocked", "error"]) {
  addEventListener(`hanbit:${kind}`, ({ detail }) => {
    seen.push({ kind, ...detail });
    document.getElementById("state").textContent = kind === "result" ? detail.result : kind;
  });
}
"""

Answer = dict[str, Any]


@dataclass
class ButtonShop:
    """The shop's server: its page, its relay, its half of the protocol."""

    site: Site
    merchant: Merchant
    authority: Authority
    orders: dict[str, dict[str, str]] = field(default_factory=dict)
    salts: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, SessionFacts] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    """Every body that came to the relay."""
    answers: list[Answer] = field(default_factory=list)
    on_session: Callable[[Session], Session] = field(default=lambda session: session)
    on_answer: Callable[[Answer], Answer] = field(default=lambda answer: answer)
    on_result: Callable[[Answer], Answer] = field(default=lambda answer: answer)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asks_gateway: bool = True

    @property
    def url(self) -> str:
        return self.site.shop.url

    def honest(self) -> None:
        """As every test begins."""
        self.on_session, self.on_answer, self.on_result = (lambda session: session), (lambda answer: answer), (lambda answer: answer)
        self.asks_gateway = True
        self.heard.clear()
        self.answers.clear()
        self.gate.set()

    def order(self) -> str:
        """A new order; its tid."""
        salt = secrets.token_bytes(32)
        made = self.site.shop.order(oi=hash_lines(salt, LINES.encode()))
        tid = made["TID"]
        self.orders[tid], self.salts[tid] = made, ids.encode_base64url(salt)
        return tid

    def page(self, tid: str, language: str = "ko") -> str:
        """The address of the page with this order's button."""
        return f"{self.url}/orders/{tid}?lang={language}"

    async def show(self, request: web.Request) -> web.Response:
        page = PAGE.format(gateway=self.site.base, tid=request.match_info["tid"], language=request.query.get("lang", "ko"))
        policy = POLICY.format(gateway=self.site.base)
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": policy})

    async def script(self, _: web.Request) -> web.Response:
        return web.Response(text=SCRIPT, content_type="text/javascript")

    async def returned(self, _: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>back</title><p id=back>back</p>", content_type="text/html")

    async def checkout(self, request: web.Request) -> web.Response:
        """D1"""
        tid = request.match_info["tid"]
        if tid not in self.orders:
            raise web.HTTPNotFound
        order = self.orders[tid]
        chain = [encode_der(der) for der in self.merchant.signer.chain]
        redirect = self.site.address(order)
        said = {"order": order["ORDER"], "merchant_chain": chain, "lines": LINES, "lines_salt": self.salts[tid], "redirect": redirect}
        return web.json_response(said)

    async def session(self, request: web.Request) -> web.Response:
        """D2, D3"""
        body = await request.text()
        self.heard.append(body)
        await self.gate.wait()
        at, facts = SystemClock().now(), self.site.shop.orders[request.match_info["tid"]]
        asked = self.merchant.verify_session_request(json.loads(body)["session_request"], at=at)
        opened = self.merchant.answer_session_request(asked, facts, self.authority, at=at)
        said = signed.sign(self.on_session(opened.session.claims), self.merchant.signer)
        self.sessions[said.claims.sid] = SessionFacts(said.claims, said.hash, used=False)
        answer: Answer = msgspec.to_builtins(SessionAnswer(session=said.compact, certificate=opened.answer.certificate))
        self.answers.append(answer)
        return web.json_response(self.on_answer(answer))

    async def purchase(self, request: web.Request) -> web.Response:
        """D5 to D8"""
        body = await request.text()
        self.heard.append(body)
        if not self.asks_gateway:
            return web.json_response(self.on_result({"result": "pending"}))
        at, facts = SystemClock().now(), self.site.shop.orders[request.match_info["tid"]]
        purchase = msgspec.json.decode(body, type=Purchase)
        session = self.sessions[str(peek_claims(purchase.dual)["sid"])]
        purchased = self.merchant.verify_purchase(purchase, session, facts, LINES, at=at)
        asked = self.merchant.make_authorization_request(purchased, at=at)
        answer = await line_requests.answer(self.site.gateway, SHOP, frame(asked.compact, purchased.envelope))
        assert answer is not None
        told, receipt = split_frame(answer)
        authorization = self.merchant.verify_authorization(told, at=SystemClock().now())
        self.merchant.check_authorization(authorization.claims, asked.claims, asked.hash)
        said: Answer = {"result": authorization.claims.result}
        said |= {"receipt": receipt} if receipt else {"reason": authorization.claims.reason}
        return web.json_response(self.on_result(said))


@asynccontextmanager
async def button_shop(folder: Path) -> AsyncIterator[ButtonShop]:
    """Payment server and shop on free ports, both in this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://shop.localhost:{listener.getsockname()[1]}"
    async with running_site(folder, shop_url=url) as site:
        signer, gateway = site.shop.merchant.signer, site.gateway
        trust, root = site.shop.merchant.trust, site.gateway.keyring.root
        shop = ButtonShop(site, Merchant(signer, gateway.urn, trust, root), await _session_authority(site))
        shop.honest()
        app = web.Application()
        app.router.add_get("/orders/{tid}", shop.show)
        app.router.add_get("/page.js", shop.script)
        app.router.add_get("/return", shop.returned)
        app.router.add_get("/hanbit/{tid}", shop.checkout)
        app.router.add_post("/hanbit/{tid}/sessions", shop.session)
        app.router.add_post("/hanbit/{tid}/purchases", shop.purchase)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        try:
            yield shop
        finally:
            await runner.cleanup()


async def _session_authority(site: Site) -> Authority:
    signer, gateway, key, at = site.shop.merchant.signer, site.gateway, new_key(), SystemClock().now()
    request = make_session_authority_request(signer, gateway.urn, key, at=at)
    answer = await line_requests.answer(gateway, SHOP, request.compact)
    assert answer is not None
    trust = PinnedTrust(gateway.keyring.root, gateway.settings.operator, urn=gateway.urn)
    found = read_session_authority(answer, trust=trust, root=gateway.keyring.root, gateway=gateway.urn, owner=signer.urn, at=at)
    return Authority.below_root(key, found.certificate.chain)
