"""A gateway and a shop in memory for the merchant's tests: real keys, certificates and files, no network."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from hanbit.crypto import certificates, keys
from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import Unavailable
from hanbit.kernel.money import Money
from hanbit.merchant import files
from hanbit.merchant.handlers import OnConfirm, OnOutcome, OnRefund
from hanbit.merchant.order import Line, Order
from hanbit.merchant.shop import Redirect, Shop
from hanbit.protocols import signed
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.line import Acknowledgement, RefusedByGateway
from hanbit.protocols.redirect.merchant import Merchant
from hanbit.protocols.redirect.messages import Closed, Confirmation, Inquiry, Notice, Refusal, Settled, Status, Voided
from hanbit.protocols.signed import PinnedTrust, SignedMessage, Signer

NOW = 1_800_000_000
OPERATOR = "demo"
GATEWAY = ids.urn(OPERATOR, "gateway")
SHOP = ids.urn(OPERATOR, "merchant", "shop")
PHONE = Money(220_000, "KRW")
RETURN_URL = "http://shop.localhost:8402/hanbit/return"
DAY_S = 86_400


@dataclass(frozen=True)
class Operator:
    """The operator's authority: issues whatever a test asks for."""

    name: str
    root: bytes
    gateway_authority: certificates.Authority
    merchant_authority: certificates.Authority

    @classmethod
    def make(cls, name: str = OPERATOR, at: int = NOW) -> "Operator":
        key = keys.new_key()
        root = certificates.make_root(name, key, at)
        above = certificates.Authority.of_root(key, root)
        return cls(name, root, _authority(above, name, "gateway", at), _authority(above, name, "merchant", at))

    def signer(self, urn: str, purpose: str, *, at: int = NOW, lifetime_s: int = 90 * DAY_S) -> Signer:
        key = keys.new_key()
        authority = self.gateway_authority if purpose.startswith(("gateway", "customer")) else self.merchant_authority
        leaf = certificates.make_leaf(authority, urn=urn, purpose=purpose, public=key.public_key(), at=at, lifetime_s=lifetime_s)
        chain = (leaf, *authority.chain)
        return Signer(urn=urn, purpose=purpose, kid=certificates.kid(leaf), chain=chain, key=key)


def _authority(root: certificates.Authority, operator: str, name: str, at: int) -> certificates.Authority:
    key = keys.new_key()
    der = certificates.make_authority(root, operator, name, key.public_key(), 1 if name == "merchant" else 0, at)
    return certificates.Authority.below_root(key, (der,))


def serial(signer: Signer) -> int:
    return x509.load_der_x509_certificate(signer.chain[0]).serial_number


@dataclass
class Parties:
    """One operator, its gateway's and the shop's keys, one clock."""

    operator: Operator = field(default_factory=Operator.make)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    revoked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.gateway = self.operator.signer(GATEWAY, "gateway-sign")
        self.shop = self.operator.signer(SHOP, "merchant-sign")
        self.trust = PinnedTrust(self.operator.root, OPERATOR, urn=GATEWAY, revoked=lambda: frozenset(self.revoked))
        self.gateways_trust = PinnedTrust(self.operator.root, OPERATOR, urn=SHOP)

    def role(self, *, plain: bool = False) -> Merchant:
        return Merchant(signer=self.shop, gateway=GATEWAY, trust=self.trust, plain=plain)

    @asynccontextmanager
    async def open_shop(
        self,
        folder: Path,
        *,
        plain: bool = False,
        on_confirm: OnConfirm | None = None,
        on_outcome: OnOutcome | None = None,
        on_refund: OnRefund | None = None,
    ) -> AsyncIterator[Shop]:
        registration = files.Registration(
            operator=OPERATOR,
            merchant=SHOP,
            gateway=GATEWAY,
            line=files.LineAddress("line.localhost", 8401),
            pay_url="http://pay.localhost:8400/pay",
            orders="plain" if plain else "signed",
        )
        async with Shop(
            registration=registration,
            role=self.role(plain=plain),
            book_path=folder / "orders.db",
            on_confirm=on_confirm,
            on_outcome=on_outcome,
            on_refund=on_refund,
            clock=self.clock,
        ) as shop:
            yield shop

    # What the gateway says

    def head(self, **changes: Any) -> dict[str, Any]:
        return {**signed.head(self.gateway, SHOP, self.clock.now()), **changes}

    def notice(self, order: Order, /, **changes: Any) -> SignedMessage[Notice]:
        """R8 for this order; any claim may be changed before it is signed."""
        claims = self.head(
            payment=ids.new_token(),
            tid=order.tid,
            amount=order.amount.text,
            currency=order.amount.currency,
            order=order.order_hash,
            exp=self.clock.now() + 600,
        )
        claims |= changes
        return signed.sign(Notice(**{"prev": claims["order"], **claims}), self.gateway)

    def settled(self, answered: Confirmation | Refusal | Notice, prev: str, /, **changes: Any) -> SignedMessage[Settled]:
        return signed.sign(Settled(**{**self._continues(answered, prev), **changes}), self.gateway)

    def voided(self, answered: Confirmation | Refusal | Notice, prev: str, /, **changes: Any) -> SignedMessage[Voided]:
        return signed.sign(Voided(**{**self._continues(answered, prev), "reason": "refused", **changes}), self.gateway)

    def closed(self, order: Order, /, **changes: Any) -> SignedMessage[Closed]:
        claims = self.head(tid=order.tid, order=order.order_hash, prev=order.order_hash, outcome="expired")
        return signed.sign(Closed(**{**claims, **changes}), self.gateway)

    def status(self, inquiry: SignedMessage[Inquiry], state: str, outcome: str | None, **changes: Any) -> SignedMessage[Status]:
        claims = self.head(tid=inquiry.claims.tid, req=inquiry.hash, state=state, outcome=outcome)
        return signed.sign(Status(**{**claims, **changes}), self.gateway)

    def cancelled(
        self, cancel: SignedMessage[Cancel], refunded: int, remaining: int, /, **changes: Any
    ) -> SignedMessage[CancelConfirmation]:
        """C3: done."""
        figures = {"refunded": str(refunded), "remaining": str(remaining)}
        return signed.sign(CancelConfirmation(**{**self._answers(cancel), **figures, **changes}), self.gateway)

    def not_cancelled(
        self, cancel: SignedMessage[Cancel], reason: str, refunded: int, remaining: int, /, **changes: Any
    ) -> SignedMessage[CancelRefusal]:
        """C3: nothing has moved."""
        figures = {"refunded": str(refunded), "remaining": str(remaining), "reason": reason}
        return signed.sign(CancelRefusal(**{**self._answers(cancel), **figures, **changes}), self.gateway)

    def turned_away(self, request: str, code: str, **changes: Any) -> SignedMessage[RefusedByGateway]:
        """What the gateway's line answers where there is no other answer."""
        return signed.sign(RefusedByGateway(**self.head(req=request, code=code, **changes)), self.gateway)

    def _answers(self, cancel: SignedMessage[Cancel]) -> dict[str, Any]:
        asked = cancel.claims
        names = ("cancellation", "payment", "tid", "amount", "currency")
        return self.head(req=cancel.hash, **{name: getattr(asked, name) for name in names})

    def _continues(self, message: Confirmation | Refusal | Notice, prev: str) -> dict[str, Any]:
        return self.head(
            payment=message.payment,
            tid=message.tid,
            amount=message.amount,
            currency=message.currency,
            order=message.order,
            prev=prev,
        )

    # What the gateway reads

    def read_confirmation(self, answer: str | None) -> SignedMessage[Confirmation]:
        return self._read(answer, Confirmation)

    def read_refusal(self, answer: str | None) -> SignedMessage[Refusal]:
        return self._read(answer, Refusal)

    def read_acknowledgement(self, answer: str | None) -> SignedMessage[Acknowledgement]:
        return self._read(answer, Acknowledgement)

    def read_cancel(self, message: str | None) -> SignedMessage[Cancel]:
        return self._read(message, Cancel)

    def _read(self, answer: str | None, kind: type[Any]) -> SignedMessage[Any]:
        assert answer is not None
        return signed.verify(answer, kind, trust=self.gateways_trust, audience=GATEWAY, at=self.clock.now(), sender=SHOP)


async def place(shop: Shop, **changes: Any) -> Redirect:
    """The order of Figure 6."""
    order: dict[str, Any] = {"lines": [Line("SK휴대폰 IM-1100", 1, 220_000)], "total": PHONE, "text": "IM-1100", "return_url": RETURN_URL}
    return await shop.create_order(**{**order, **changes})


async def confirmed(parties: Parties, shop: Shop) -> tuple[Order, SignedMessage[Notice], SignedMessage[Confirmation]]:
    """An order whose notice the shop has confirmed."""
    order = await shop.order((await place(shop)).tid)
    notice = parties.notice(order)
    confirmation = parties.read_confirmation(await shop.receive(notice.compact))
    return await shop.order(order.tid), notice, confirmation


async def settled(parties: Parties, shop: Shop) -> Order:
    """An order that is paid."""
    order, _, confirmation = await confirmed(parties, shop)
    await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact)
    return await shop.order(order.tid)


def kinds(messages: list[Any]) -> list[str]:
    return [message.typ.removeprefix("hanbit-") for message in messages]


class GatewayLine:
    """The line of a shop to a gateway that answers inquiries as a test likes."""

    def __init__(self, parties: Parties) -> None:
        self.connected = asyncio.Event()
        self.connected.set()
        self.asked: list[SignedMessage[Inquiry]] = []
        self.told: list[str] = []
        self.answer: Callable[[SignedMessage[Inquiry]], str | None] = lambda _: None
        self.cancels: list[SignedMessage[Cancel]] = []
        self.judge: Callable[[SignedMessage[Cancel]], str | None] = lambda _: None
        self._parties = parties

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        if signed.peek_typ(message) == Cancel.TYP:
            cancel = self._parties.read_cancel(message)
            self.cancels.append(cancel)
            verdict = self.judge(cancel)
            if verdict is None:
                raise Unavailable("the line is down")
            return verdict
        inquiry = signed.verify(
            message, Inquiry, trust=self._parties.gateways_trust, audience=GATEWAY, at=self._parties.clock.now(), sender=SHOP
        )
        self.asked.append(inquiry)
        answer = self.answer(inquiry)
        if answer is None:
            raise Unavailable("the line is down")
        return answer

    async def tell(self, message: str) -> None:
        self.told.append(message)


@dataclass(frozen=True)
class Answered:
    """What an ASGI application answered."""

    status: int
    headers: dict[str, str]
    cookies: list[str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def call(app: Any, target: str, *, method: str = "GET", body: bytes = b"", **headers: str) -> Answered:
    """One HTTP request to an ASGI application, without a server; header names with _ for -."""
    path, _, query = target.partition("?")
    given = {"host": "shop.localhost", **({"content-length": str(len(body))} if method == "POST" else {})}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("shop.localhost", 80),
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    pairs = [(name.decode().lower(), value.decode("latin-1")) for name, value in start["headers"]]
    cookies = [value for name, value in pairs if name == "set-cookie"]
    return Answered(start["status"], dict(pairs), cookies, b"".join(message.get("body", b"") for message in sent[1:]))
