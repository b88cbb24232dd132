"""A payment server on a real folder and port, with one shop at the other end of an in-process line; what the face tests stand on."""

import hashlib
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from starlette.applications import Starlette

from hanbit.crypto import certificates
from hanbit.crypto.keys import new_key
from hanbit.folder import close_gateway, create, hold, open_gateway
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock, SandboxClock, SystemClock
from hanbit.kernel.errors import Unavailable
from hanbit.kernel.money import Money
from hanbit.line.figures import LineFigures
from hanbit.loopback import LoopbackResolver
from hanbit.payments import operations
from hanbit.payments.gateway import Gateway
from hanbit.protocols import console
from hanbit.protocols.line import RefusedByMerchant
from hanbit.protocols.redirect.merchant import Merchant, Objection, OrderFacts
from hanbit.protocols.signed import PinnedTrust, Signer, decode_chain, encode_der, head, peek_typ, recall, sign
from hanbit.settings import Settings
from hanbit.web import application
from hanbit.web.serving import serving
from hanbit.web.visitors import Places, Proxies
from tests import engine

SHOP, SHOP_URL = "garam", "http://shop.localhost:8500"
LOGIN, PASSWORD, ACCOUNT_PASSWORD = "hong", "correct horse battery", "2580"
NUMBERS = {"bank": "11012345678890", "card": "4012888888881881", "emoney": "5550001112"}
BALANCES = {"bank": "1000000", "emoney": "1000"}


@dataclass
class Shop:
    """The shop's half of the line: its own orders, and how it answers."""

    merchant: Merchant
    url: str = SHOP_URL
    orders: dict[str, OrderFacts] = field(default_factory=dict)
    objection: Objection | None = None
    up: bool = True
    silent: bool = False
    deaf: bool = False
    told: list[str] = field(default_factory=list)
    looks: tuple[console.Look, ...] = ()
    callbacks: tuple[console.CallBack, ...] = ()
    acts: list[console.ConsoleAct] = field(default_factory=list)
    """What people asked from the console; `result` is the shop's word on it, and `is_old` a program that knows of no console."""
    result: str = console.DONE
    is_old: bool = False
    clock: Clock = field(default_factory=SystemClock)

    def order(self, amount: int = 220_000, text: str = "SK휴대폰 IM-1100", oi: str | None = None, **changed: Any) -> dict[str, str]:
        """R3: a new order as the redirect's query."""
        tid, at = ids.new_token(), self.clock.now()
        money = Money(amount, "KRW")
        order = self.merchant.make_order(
            tid=tid,
            amount=money,
            oi=oi or ids.digest(secrets.token_bytes(32)),
            text=text,
            return_url=f"{self.url}/return?order={tid}",
            pay_by=at + 1800,
            refund_by=changed.pop("refund_by", None),
            at=at,
            **changed,
        )
        self.orders[tid] = OrderFacts(tid, money, order.hash, at + 3600, barred=None, plain=False)
        return {"MID": SHOP, "TID": tid, "AMOUNT": money.text, "CUR": "KRW", "ORDER": order.compact}

    async def ask(self, merchant_id: str, message: str) -> str:
        """R8 in, R9 out."""
        if merchant_id != SHOP or self.silent or not self.up:
            raise Unavailable("no answer")
        at = self.clock.now()
        if peek_typ(message) in {console.ConsoleAct.TYP, console.ConsoleQuestion.TYP}:
            return self._answer_console(message, at)
        notice = self.merchant.verify_notice(message, at=at)
        return self.merchant.answer_notice(notice, self.orders.get(notice.claims.tid), self.objection, at=at).compact

    def _answer_console(self, message: str, at: int) -> str:
        """What people ask from the console: a word on an act, rows of one's own book; an older program knows neither."""
        signer, gateway = self.merchant.signer, self.merchant.gateway
        if self.is_old:
            return sign(RefusedByMerchant(**head(signer, gateway, at), req=ids.digest(message.encode()), code="typ"), signer).compact
        if peek_typ(message) == console.ConsoleAct.TYP:
            act = recall(message, console.ConsoleAct)
            self.acts.append(act.claims)
            return console.make_done(signer, act, self.result, at=at).compact
        question = recall(message, console.ConsoleQuestion)
        if question.claims.about == "orders":
            return console.make_rows(signer, question, at=at, looks=self.looks).compact
        return console.make_rows(signer, question, at=at, callbacks=self.callbacks).compact

    async def tell(self, merchant_id: str, message: str) -> None:
        """R11; another merchant has no line."""
        if merchant_id != SHOP or self.deaf:
            raise Unavailable("no line")
        self.told.append(message)

    def connected(self, merchant_id: str) -> bool:
        """Whether the line is up."""
        return self.up and merchant_id == SHOP

    def drop(self, merchant_id: str, reason: str) -> None:
        """Hang up."""
        self.up = self.up and merchant_id != SHOP


@dataclass
class Site:
    """The running payment server."""

    gateway: Gateway
    shop: Shop
    base: str
    port: int
    seen: list[tuple[str, int]]
    app: Starlette
    places: Places

    def address(self, query: dict[str, str], **more: str) -> str:
        """R3's address."""
        return f"{self.base}/pay?{urlencode({**query, **more})}"


class _Metrics:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def request(self, route: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((route, status))


class _LateShop:
    """The line is needed to make the gateway, and the gateway to make the shop's keys."""

    shop: Shop

    async def ask(self, merchant_id: str, message: str) -> str:
        return await self.shop.ask(merchant_id, message)

    async def tell(self, merchant_id: str, message: str) -> None:
        await self.shop.tell(merchant_id, message)

    def connected(self, merchant_id: str) -> bool:
        return self.shop.connected(merchant_id)

    def drop(self, merchant_id: str, reason: str) -> None:
        self.shop.drop(merchant_id, reason)

    def figures(self, merchant_id: str) -> LineFigures:
        return LineFigures(up=self.connected(merchant_id))


@asynccontextmanager
async def running_site(folder: Path, *, shop_url: str = SHOP_URL, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Site]:
    """A fresh operator with one customer (three accounts) and one shop, enrolled over HTTP."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    base = f"http://pay.localhost:{port}"
    clock, line, metrics = clock or SandboxClock(SystemClock()), _LateShop(), _Metrics()  # a test may move the time of day on
    data = folder / "data"
    await create(data, Settings(public_url=base, **{"database": engine.database(), **settings}), clock, root_key=None, root_passphrase=None)
    with hold(data):
        gateway = open_gateway(data, clock, line=lambda *_: line)
        try:
            await _people(gateway)
            places = Places(gateway.settings.connections_max, gateway.settings.connections_per_address, Proxies(()))
            async with _serving(gateway, metrics, listener, places) as app:
                line.shop = Shop(await _enrol_shop(gateway, base, shop_url), shop_url, clock=clock)
                yield Site(gateway, line.shop, base, port, metrics.seen, app, places)
        finally:
            await close_gateway(gateway)


async def _people(gateway: Gateway) -> None:
    await operations.create_customer(gateway, login=LOGIN, name="홍길동", password=PASSWORD)
    for kind, number in NUMBERS.items():
        limit = "500000" if kind == "card" else "0"
        made = await operations.create_account(
            gateway, login=LOGIN, kind=kind, number=number, password=ACCOUNT_PASSWORD, credit_limit=limit
        )
        if kind in BALANCES:
            await operations.fund(gateway, account=made["account"], amount=BALANCES[kind])


async def _enrol_shop(gateway: Gateway, base: str, shop_url: str) -> Merchant:
    made = await operations.create_merchant(gateway, id=SHOP, name="가람전자", telephone="02-555-0123", return_url=f"{shop_url}/return")
    urn = gateway.settings.merchant_urn(SHOP)
    keys = {purpose: new_key() for purpose in ("merchant-sign", "line")}
    requests = {purpose: ids.encode_base64url(certificates.certificate_request(key, urn, purpose)) for purpose, key in keys.items()}
    async with client() as http, http.post(f"{base}/enrol/merchant", json={"code": made["code"], "requests": requests}) as answer:
        answered = await answer.json()
        assert answer.status == 200, answered
    chain = decode_chain(answered["chains"]["merchant-sign"])
    signer = Signer(urn=urn, purpose="merchant-sign", kid=certificates.kid(chain[0]), chain=chain, key=keys["merchant-sign"])
    assert answered["root"] == encode_der(gateway.keyring.root)
    trust = PinnedTrust(gateway.keyring.root, gateway.settings.operator, urn=gateway.urn)
    return Merchant(signer=signer, gateway=gateway.urn, trust=trust)


@asynccontextmanager
async def _serving(gateway: Gateway, metrics: _Metrics, listener: socket.socket, places: Places) -> AsyncIterator[Starlette]:
    app = application.create(gateway, metrics, is_ready=lambda: True)
    async with serving(app, listener, clock=gateway.clock, places=places):
        yield app


@asynccontextmanager
async def client(**headers: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client that keeps no cookies and follows nothing by itself."""
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=headers) as session:
        yield session


USED = {("sessions", "seen_at"), ("sessions", "version")}
"""What moves with every use of a session, refused or not."""


def changes(gateway: Gateway) -> str:
    """A digest of everything that a refused request must not change; that a session is in use may be written down at any time."""
    tables = ("payments", "attempts", "entries", "messages", "outbox", "ledger_accounts", "sessions", "devices", "certificates")
    whole = {
        table: [
            {name: row[name] for name in row.keys() if (table, name) not in USED}  # noqa: SIM118 - a database row
            for row in gateway.reader.all(f"SELECT * FROM {table}")  # noqa: S608 - a name of our own
        ]
        for table in tables
    }
    return hashlib.sha256(json.dumps(whole, default=repr, sort_keys=True).encode()).hexdigest()
