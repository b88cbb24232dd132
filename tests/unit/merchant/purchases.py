"""A shop of the dual-signature checkout with a customer and a gateway that play the real roles, honest until a test says otherwise."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import Unavailable
from hanbit.kernel.money import Money
from hanbit.merchant import files
from hanbit.merchant.handlers import OnConfirm, OnOutcome, OnRefund
from hanbit.merchant.order import Line
from hanbit.merchant.purchase_desk import Issuing
from hanbit.merchant.shop import Shop
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import customer, gateway
from hanbit.protocols.dual_signature.customer import Asking, OpenSession
from hanbit.protocols.dual_signature.digests import split_frame
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest, Purchase
from hanbit.protocols.line import Acknowledgement, RefusedByGateway
from hanbit.protocols.redirect import customer as redirect_customer
from hanbit.protocols.redirect.customer import Opening
from hanbit.protocols.redirect.gateway import signed_offer
from hanbit.protocols.redirect.merchant import Merchant
from hanbit.protocols.redirect.messages import Inquiry, Order, Status
from hanbit.protocols.signed import PinnedTrust, SignedMessage
from tests.protocol.dual_signature.parties import GRANT, check, merchant, session_authority
from tests.unit.wallet.parties import AT, bank, make_keys, make_opening, redirect

GATEWAY = ids.urn("bank", "gateway")
PRICE = Money(220_000, "KRW")
PAYMENT = "P" * 22


@dataclass
class Till:
    """The gateway's end of the line: what it was asked, and what it says to each frame (None: nothing comes back)."""

    connected: asyncio.Event = field(default_factory=asyncio.Event)
    frames: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    decide: Callable[["Till", str], str | None] = lambda till, frame: till.approve(frame)
    status: Callable[[SignedMessage[Inquiry]], str | None] = lambda _: None
    answers: dict[str, str] = field(default_factory=dict)
    """frame → what it was answered, for ever"""
    orders: dict[str, SignedMessage[Order]] = field(default_factory=dict)

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        if signed.peek_typ(message.partition("\n")[0]) == Inquiry.TYP:
            asked = signed.verify(message, Inquiry, trust=PinnedTrust(bank().root, "bank"), audience=GATEWAY, at=AT)
            answer = self.status(asked)
        else:
            self.frames.append(message)
            answer = self.answers.get(message) or self.decide(self, message)
        if answer is None:
            raise Unavailable("the line is down")
        return answer

    async def tell(self, message: str) -> None:
        self.told.append(message)

    def request(self, frame: str | None = None) -> SignedMessage[AuthorizationRequest]:
        """D6 as it came, with every check of the gateway's role."""
        message, envelope = split_frame(frame or self.frames[-1])
        claims = signed.peek_claims(message)
        order = self.orders[str(claims["tid"])]
        return check(message, envelope, signed_offer(order, merchant="shop", merchant_urn=bank().shop.urn, at=AT)).request

    def authorize(self, frame: str, *, approved: bool = True, **changes: Any) -> SignedMessage[Authorization]:
        """D7 for this frame; any claim may be changed before it is signed."""
        made = gateway.make_authorization(
            self.request(frame),
            signer=bank().gateway,
            payment=PAYMENT if approved else None,
            reason=None if approved else "declined",
            at=AT,
        )
        return made if not changes else signed.sign(msgspec.structs.replace(made.claims, **changes), bank().gateway)

    def approve(self, frame: str, **changes: Any) -> str:
        """Approved, with the receipt beside it, and the same bytes for ever."""
        authorization = self.authorize(frame, **changes)
        customer_urn = ids.urn("bank", "customer")
        receipt = gateway.make_receipt(authorization, signer=bank().gateway, customer=customer_urn, payee="Hanbit Books", at=AT)
        return self.answers.setdefault(frame, gateway.frame(authorization.compact, receipt.compact))

    def decline(self, frame: str) -> str:
        """Declined, and the same bytes for ever."""
        return self.answers.setdefault(frame, self.authorize(frame, approved=False).compact)

    def turn_away(self, frame: str, code: str) -> str:
        """`refused`: nothing was decided, or these bytes never will be."""
        claims = signed.head(bank().gateway, bank().shop.urn, AT)
        request = ids.digest(frame.partition("\n")[0].encode())
        return signed.sign(RefusedByGateway(**claims, req=request, code=code), bank().gateway).compact

    def in_status(self, inquiry: SignedMessage[Inquiry], outcome: str) -> str:
        """RQ answered with this outcome."""
        claims = signed.head(bank().gateway, bank().shop.urn, AT)
        return signed.sign(
            Status(**claims, tid=inquiry.claims.tid, req=inquiry.hash, state="captured", outcome=outcome), bank().gateway
        ).compact

    def acknowledged(self) -> list[str]:
        """The hashes of what the shop has acknowledged."""
        return [
            name for message in self.told if signed.peek_typ(message) == Acknowledgement.TYP for name in signed.peek_claims(message)["req"]
        ]


@asynccontextmanager
async def opened(
    folder: Path,
    till: Till,
    *,
    clock: ManualClock | None = None,
    on_confirm: OnConfirm | None = None,
    on_outcome: OnOutcome | None = None,
    on_refund: OnRefund | None = None,
    attended: bool = True,
    up: bool = True,
) -> AsyncIterator[Shop]:
    """The shop on its book, with this till at the other end of the line."""
    registration = files.Registration(
        operator="bank",
        merchant=bank().shop.urn,
        gateway=GATEWAY,
        line=files.LineAddress("line.localhost", 8401),
        pay_url="https://pay.localhost:8400/pay",
    )
    trust = PinnedTrust(bank().root, "bank", urn=GATEWAY)
    async with Shop(
        registration=registration,
        role=Merchant(signer=bank().shop, gateway=GATEWAY, trust=trust),
        book_path=folder / "orders.db",
        on_confirm=on_confirm,
        on_outcome=on_outcome,
        on_refund=on_refund,
        attended=attended,
        clock=clock or ManualClock(AT),
        issuing=Issuing(merchant(), lambda _: session_authority()),
    ) as shop:
        shop.line = till
        if up:
            till.connected.set()
        yield shop


@dataclass
class Customer:
    """D1 to D5 of one customer at one order, by the real role."""

    shop: Shop
    tid: str
    opening: Opening
    lines: str

    @classmethod
    async def come(cls, shop: Shop, till: Till, tid: str | None = None) -> "Customer":
        """An order (a new one where none is named) and somebody who wants to buy it."""
        if tid is None:
            made = await shop.create_order(
                lines=[Line("송사의 동작", 1, PRICE.amount_minor)], total=PRICE, text="a book", return_url="https://shop.localhost/return"
            )
            tid = made.tid
        shown = await shop.checkout(tid)
        claims = msgspec.convert(signed.peek_claims(shown.order), Order)
        order = SignedMessage(shown.order, ids.digest(shown.order.encode()), signed.peek_kid(shown.order), claims)
        till.orders[tid] = order
        opening = redirect_customer.verify_opening(
            msgspec.json.encode(make_opening(order, make_keys(order))), redirect=redirect(order), pin=bank().pin, at=AT
        )
        return cls(shop, tid, opening, customer.verify_lines(opening, shown.lines, shown.lines_salt))

    def ask(self) -> Asking:
        """D2 with a fresh key."""
        return customer.make_session_request(self.opening, at=AT)

    async def session(self) -> OpenSession:
        """D2 to D4."""
        asking = self.ask()
        answer = await self.shop.open_session(self.tid, asking.request.compact)
        return customer.verify_session(answer, asking, pin=bank().pin, at=AT)

    async def purchase(self) -> Purchase:
        """D2 to D5, not sent."""
        return self.signed_in(await self.session())

    def signed_in(self, session: OpenSession, password: str = "2580") -> Purchase:
        """D5 in this session."""
        return self.buying(session, customer.make_order_information(session, self.lines), password)

    def buying(self, session: OpenSession, oi: str, password: str = "2580") -> Purchase:
        """D5 with this order information."""
        core = customer.make_core(session, account="a1", grant=GRANT, oi=oi)
        return customer.make_purchase(session, oi=oi, core=core, auth=redirect_customer.auth_password(password), at=AT)


def dump(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the shop's book but those that say that bytes were rejected."""
    import sqlite3  # noqa: PLC0415 - only here, read by another connection on purpose

    # The book lets no second connection in while it is open: its file and log are read as a crash would leave them.
    with TemporaryDirectory() as copied:
        for file in folder.glob("orders.db*"):
            shutil.copy(file, copied)
        with closing(sqlite3.connect(Path(copied) / "orders.db")) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'rejected'")]
            return {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}  # noqa: S608 - the book's own tables
