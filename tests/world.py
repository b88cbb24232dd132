"""All parties in one process on a real book: a gateway, shops with their order books, customers, a line that fails on demand.

The book is a SQLite file, or with HANBIT_TEST_ENGINE=postgresql a database of the tests' own cluster (`tests/engine.py`).

Nothing here listens on a socket or reads the machine's clock: the clock is moved by hand, recovery ticks by hand, and customers call the
flows' functions with the bytes that their payment program makes. One set of parties is enrolled per process; each test gets a copy.
"""

import asyncio
import atexit
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hanbit.crypto import certificates
from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key
from hanbit.db import schema
from hanbit.db.change import Change, Put
from hanbit.db.sqlite import BOOK_FILE, SqliteStore
from hanbit.evidence import store as evidence
from hanbit.evidence.check import check as check_evidence
from hanbit.evidence.log_check import check as check_log
from hanbit.folder import close_gateway, create, hold, open_gateway
from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock
from hanbit.kernel.errors import HanbitError, Unavailable
from hanbit.kernel.money import Money
from hanbit.ledger.check import check as check_ledger
from hanbit.line.figures import LineFigures
from hanbit.line_requests import routes as line_requests
from hanbit.merchant import files
from hanbit.merchant.handlers import No, Yes
from hanbit.merchant.order import Line as OrderLine
from hanbit.merchant.order import Order as ShopOrder
from hanbit.merchant.purchase_desk import Issuing
from hanbit.merchant.shop import Shop
from hanbit.parties import customers, enrolment, sessions
from hanbit.payments import grants, open_order, operations, recovery, redirect_flow, sign_in
from hanbit.payments import payment as payments
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from hanbit.payments.redirect_flow import SignedIn
from hanbit.payments.states import FINAL, State
from hanbit.protocols import signed
from hanbit.protocols.checkpoint import Checkpoint
from hanbit.protocols.dual_signature.merchant import Merchant as DualSignatureMerchant
from hanbit.protocols.keys import Crl
from hanbit.protocols.line import RefusedByMerchant
from hanbit.protocols.redirect import customer as role
from hanbit.protocols.redirect.merchant import Merchant
from hanbit.protocols.redirect.messages import Settled, Voided
from hanbit.protocols.signed import PinnedTrust, Signer, peek_typ
from hanbit.settings import Settings
from tests import engine

NOW = 1_800_000_000
PRICE = 220_000
RETURN_URL = "https://shop.localhost/orders"
OPERATOR = "bank"


# --- the parties ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """One of a customer's accounts, with what only he knows of it."""

    id: str
    kind: str
    number: str
    password: str


@dataclass(frozen=True)
class Person:
    """A customer: what he knows, and the device that he enrolled."""

    id: str
    login: str
    password: str
    accounts: dict[str, Account]
    device: Signer
    code_secret: bytes = field(repr=False)

    @property
    def urn(self) -> str:
        return ids.urn(OPERATOR, "customer", self.id)


@dataclass(frozen=True)
class Enrolled:
    """What is made once per process: a data folder, and what the other parties hold."""

    folder: Path
    root: bytes
    people: dict[str, Person]
    merchants: dict[str, Signer]
    line_keys: dict[str, Signer]
    gateway_authority: Authority
    merchant_authority: Authority


PEOPLE: dict[str, tuple[str, dict[str, tuple[str, str, int]]]] = {
    # login: (password, {kind: (number, account password, balance or credit line)})
    "hong": (
        "hong's long password",
        {
            "bank": ("11012345678890", "2580", 1_000_000),
            "card": ("4012888888881881", "1470", 500_000),
            "emoney": ("5550001112", "3690", 50_000),
        },
    ),
    "kim": ("kim's long password", {"bank": ("11098765432100", "8520", 300_000)}),
}
MERCHANTS = {"shop": "signed", "other": "signed", "plain": "plain"}


@cache
def enrolled() -> Enrolled:
    """The parties, enrolled once; made in a thread of its own because the caller's loop may be running."""
    made = Path(tempfile.mkdtemp(prefix="hanbit-world-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    folder = made / "gateway"
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _enrol(folder)).result()


async def _enrol(folder: Path) -> Enrolled:
    clock = ManualClock(NOW)
    await create(folder, Settings(operator=OPERATOR, database=engine.database()), clock, root_key=None, root_passphrase=None)
    with hold(folder):
        gateway = open_gateway(folder, clock)
        try:
            people = {login: await _enrol_person(gateway, login) for login in PEOPLE}
            merchants = {name: await _enrol_merchant(gateway, name, orders) for name, orders in MERCHANTS.items()}
        finally:
            await close_gateway(gateway)
    keys = gateway.keyring
    return Enrolled(
        folder,
        keys.root,
        people,
        {name: signers["merchant-sign"] for name, signers in merchants.items()},
        {name: signers["line"] for name, signers in merchants.items()},
        keys.gateway_authority,
        keys.merchant_authority,
    )


async def _enrol_person(gateway: Gateway, login: str) -> Person:
    password, known = PEOPLE[login]
    made = await operations.create_customer(gateway, login=login, name=f"{login} gildong", password=password)
    accounts = {}
    for kind, (number, secret, amount) in known.items():
        limit = str(amount) if kind == "card" else "0"
        row = await operations.create_account(gateway, login=login, kind=kind, number=number, password=secret, credit_limit=limit)
        if kind != "card":
            await operations.fund(gateway, account=row["account"], amount=str(amount))
        accounts[kind] = Account(row["account"], kind, number, secret)
    device, secret_of_codes = await enrol_device(gateway, login)
    return Person(made["customer"], login, password, accounts, device, secret_of_codes)


async def enrol_device(gateway: Gateway, login: str) -> tuple[Signer, bytes]:
    """A device key with its one-time-code secret, enrolled with a fresh code."""
    code = (await operations.enrol_code(gateway, login=login))["code"]
    at, key, secret = gateway.clock.now(), new_key(), secrets.token_bytes(32)
    found = enrolment.use_code(gateway.reader, code, "customer", at)
    request = certificates.certificate_request(key, "", "customer-sign")
    chain, rows = enrolment.issue_for_device(gateway.keyring, found, request, secret, at)
    await gateway.book.commit(Change(puts=tuple(rows)))
    return Signer(urn=found.urn, purpose="customer-sign", kid=certificates.kid(chain[0]), chain=chain, key=key), secret


async def _enrol_merchant(gateway: Gateway, name: str, orders: str) -> dict[str, Signer]:
    made = await operations.create_merchant(
        gateway, id=name, name=f"The {name} company", telephone="02-555-0123", return_url=RETURN_URL, orders=orders
    )
    at = gateway.clock.now()
    found = enrolment.use_code(gateway.reader, made["code"], "merchant", at)
    keys = {purpose: new_key() for purpose in enrolment.MERCHANT_PURPOSES}
    requests = {purpose: ids.encode_base64url(certificates.certificate_request(key, "", purpose)) for purpose, key in keys.items()}
    chains, rows = enrolment.issue_for_merchant(gateway.keyring, found, requests, at)
    await gateway.book.commit(Change(puts=tuple(rows)))
    return {
        purpose: Signer(urn=found.urn, purpose=purpose, kid=certificates.kid(chain[0]), chain=chain, key=keys[purpose])
        for purpose, chain in chains.items()
    }


# --- the line ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Link:
    """One merchant's line. `plan` says what happens to the next requests, `tell_plan` to the next outcomes; then all is well."""

    merchant: str
    shop: Shop
    signer: Signer
    gateway: Gateway
    up: bool = True
    plan: "deque[Fault]" = field(default_factory=deque)
    tell_plan: "deque[Fault]" = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    """What the gateway sent back to frames that came by themselves."""
    lists: list[str] = field(default_factory=list)
    """Lists of revoked certificates that came."""
    held: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    lost: "deque[str]" = field(default_factory=deque)
    """What the line does with the shop's next requests: `request` or `answer` is lost, anything else arrives."""

    async def to_shop(self, message: str) -> str | None:
        """One frame to the shop, with what it sends back; a broken rule is answered `refused`, as its line client does."""
        try:
            answer = await self.shop.receive(message)
        except HanbitError as error:
            at = self.gateway.clock.now()
            head = signed.head(self.signer, self.gateway.urn, at)
            code = getattr(error, "rule", error.code)
            answer = signed.sign(RefusedByMerchant(**head, req=ids.digest(message.encode("ascii")), code=code), self.signer).compact
        if answer is not None:
            self.answers.append(answer)
        return answer

    async def to_gateway(self, frame: str) -> str | None:
        """One frame that comes to the gateway by itself, with what it sends back."""
        reply = await line_requests.answer(self.gateway, self.merchant, frame)
        if reply is not None:
            self.replies.append(reply)
        return reply

    async def deliver_late(self) -> None:
        """What was held arrives now."""
        while self.held:
            answer = await self.to_shop(self.held.pop(0))
            if answer is not None:
                self.late.append(answer)
        while self.late:
            await self.to_gateway(self.late.pop(0))


Fault = Callable[[Link, str], Awaitable[str | None]]
"""What the line does with one message; returns the answer that comes back, or raises Unavailable."""


async def lose_request(link: Link, message: str) -> str | None:
    """It never arrives."""
    raise Unavailable("lost")


async def lose_answer(link: Link, message: str) -> str | None:
    """It arrives; the answer does not."""
    await link.to_shop(message)
    raise Unavailable("lost")


async def delay_request(link: Link, message: str) -> str | None:
    """It arrives when the test says so."""
    link.held.append(message)
    raise Unavailable("slow")


async def delay_answer(link: Link, message: str) -> str | None:
    """The answer arrives when the test says so."""
    answer = await link.to_shop(message)
    assert answer is not None
    link.late.append(answer)
    raise Unavailable("slow")


async def duplicate_request(link: Link, message: str) -> str | None:
    """It arrives twice."""
    first = await link.to_shop(message)
    assert await link.to_shop(message) == first
    return first


async def duplicate_answer(link: Link, message: str) -> str | None:
    """The answer arrives twice, the first time by itself."""
    answer = await link.to_shop(message)
    assert answer is not None
    await link.to_gateway(answer)
    return answer


async def cut(link: Link, message: str) -> str | None:
    """The line breaks while the message is on its way."""
    link.up = False
    raise Unavailable("cut")


def answer_with(forge: Callable[[str, str], str]) -> Fault:
    """Instead of the shop's answer comes what `forge(message, answer)` makes."""

    async def fault(link: Link, message: str) -> str | None:
        answer = await link.to_shop(message)
        assert answer is not None
        return forge(message, answer)

    return fault


class MemoryLine:
    """The gateway's line: straight calls into the shops, except for what a test has planned."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}

    async def ask(self, merchant_id: str, message: str) -> str:
        """R8 out, R9 in."""
        link = self._link(merchant_id)
        link.asked.append(message)
        answer = await (link.plan.popleft()(link, message) if link.plan else link.to_shop(message))
        if answer is None:
            raise Unavailable("silent")
        return answer

    async def tell(self, merchant_id: str, message: str) -> None:
        """R11 out; the acknowledgement comes back by itself."""
        link = self._link(merchant_id)
        if peek_typ(message) == Checkpoint.TYP:  # comes once a minute beside everything else: no test plans for it
            await link.to_shop(message)
            return
        if peek_typ(message) == Crl.TYP:
            link.lists.append(message)  # each hour and by itself: no part of what becomes of a payment
            return
        link.told.append(message)
        try:
            answer = await (link.tell_plan.popleft()(link, message) if link.tell_plan else link.to_shop(message))
        except Unavailable:
            return  # the sender does not learn that it was lost
        if answer is not None:
            await link.to_gateway(answer)

    def connected(self, merchant_id: str) -> bool:
        """Whether the line is up."""
        return merchant_id in self.links and self.links[merchant_id].up

    def drop(self, merchant_id: str, reason: str) -> None:
        """Hang up."""
        if merchant_id in self.links:
            self.links[merchant_id].up = False

    def figures(self, merchant_id: str) -> LineFigures:
        """Up or down."""
        return LineFigures(up=self.connected(merchant_id))

    def _link(self, merchant_id: str) -> Link:
        if not self.connected(merchant_id):
            raise Unavailable(f"no line to {merchant_id}")
        return self.links[merchant_id]


@dataclass
class _ShopsLine:
    """A shop's end of the same line."""

    link: Link
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        """RQ out, its status in."""
        reply = await self._send(message)
        assert reply is not None
        return reply

    async def tell(self, message: str) -> None:
        """What nobody waits for."""
        await self._send(message)

    async def _send(self, message: str) -> str | None:
        if not self.link.up:
            raise Unavailable("no line to the gateway")
        lost = self.link.lost.popleft() if self.link.lost else ""
        reply = None if lost == "request" else await self.link.to_gateway(message)
        if lost in {"request", "answer"}:
            raise Unavailable("lost")
        return reply


# --- a customer at one order --------------------------------------------------------------------------------------------------------


@dataclass
class Visit:
    """R4 to R12 of one customer at one opening of one order, with the bytes that his payment program makes."""

    world: "World"
    person: Person
    redirect: role.Redirect
    opening: role.Opening
    sealing: role.Sealing

    def reopened(self, **changes: str) -> open_order.Opening:
        """What the gateway makes of the clear part that comes back beside each sealed message."""
        clear = {
            "mid": self.redirect.merchant_id,
            "tid": self.redirect.tid,
            "amount": self.redirect.money.text,
            "order": self.redirect.order,
            "keys": self.opening.keys.compact,
        }
        return open_order.reopen(self.world.gateway, **(clear | changes))

    async def login(self, login: str | None = None, password: str | None = None) -> str:
        """R5: returns the new session's token."""
        login, password = login or self.person.login, password or self.person.password
        return await self.send_login(role.seal_login(self.sealing, login_id=login, password=password))

    async def send_login(self, sealed_login: str) -> str:
        """R5 with these very bytes."""
        gateway = self.world.gateway
        token, _ = await sign_in.sign_in(gateway, self.reopened(), unverified_key=self.sealing.key, unverified_login=sealed_login)
        return token

    def core(self, account: str = "bank", **changes: Any) -> str:
        """What is approved: an account of this customer by its kind, or an account's id; any member may be changed."""
        known = self.person.accounts.get(account)
        text = role.make_core(self.opening, known.id if known else account)
        return msgspec.json.encode(msgspec.json.decode(text) | changes).decode() if changes else text

    def auth(self, core: str, method: str = "device", account: str = "bank") -> str:
        """The right factor for this core."""
        if method == "device":
            return role.auth_device(self.opening, core, self.person.device, self.world.clock.now())
        if method == "code":
            return role.auth_code(self.sealing.session.code_binding, core, self.person.code_secret)
        assert method == "password"
        return role.auth_password(self.person.accounts[account].password)

    def seal(self, core: str, auth: str, **number: Any) -> str:
        """R7's bytes."""
        return role.seal_pay(self.sealing, core, auth, **number)

    def sealed_pay(self, account: str = "bank", method: str = "device") -> str:
        """R7's bytes for one of the customer's own accounts."""
        core = self.core(account)
        return self.seal(core, self.auth(core, method, account))

    def typed_pay(self, number: str, password: str) -> str:
        """R7's bytes for a typed account or card number."""
        name, salt = role.typed_number(number)
        return self.seal(self.core(name), role.auth_password(password), number=number, number_salt=salt)

    async def submit(self, sealed_pay: str, who: SignedIn | None = None) -> Payment:
        """R7 to R12 with these very bytes."""
        who = who or await self.world.session(self.person)
        key = self.sealing.key
        shown = await redirect_flow.pay(self.world.gateway, self.reopened(), who, unverified_key=key, unverified_pay=sealed_pay)
        return shown.payment

    async def pay(self, account: str = "bank", method: str = "device") -> Payment:
        """R7 to R12."""
        return await self.submit(self.sealed_pay(account, method))

    async def grant(self, who: SignedIn | None = None) -> str:
        """D4: leave to try one payment of this order through its shop."""
        who = who or await self.world.session(self.person)
        return await grants.give(self.world.gateway, self.reopened(), who, unverified_key=self.sealing.key)

    async def cancel(self) -> Payment:
        """The customer's Cancel."""
        return await redirect_flow.cancel(self.world.gateway, self.reopened(), unverified_key=self.sealing.key)

    @property
    def payment(self) -> Payment | None:
        """What the book holds of this order."""
        return payments.find(self.world.gateway.reader, self.redirect.merchant_id, self.redirect.tid)

    @property
    def stored(self) -> Payment:
        """The same, where it must be there."""
        found = self.payment
        assert found is not None
        return found

    def kinds(self) -> list[str]:
        """The evidence of this order, oldest first, as typs without `hanbit-`."""
        found = evidence.of_payment(self.world.gateway.reader, self.redirect.merchant_id, self.redirect.tid)
        return [typ.removeprefix("hanbit-") for typ, _ in found]


# --- the world --------------------------------------------------------------------------------------------------------------------


def sqlite_store(gateway: Gateway) -> SqliteStore:
    """The writer of a gateway whose book is a file, for tests of what happens to files."""
    store = gateway.book._store
    assert isinstance(store, SqliteStore)
    return store


@dataclass
class World:
    """Everything of one test."""

    folder: Path
    clock: ManualClock
    gateway: Gateway
    line: MemoryLine
    parties: Enrolled
    confirm: dict[str, Yes | No]
    observed: list[tuple[str, str]]
    authorities: dict[str, Authority] = field(default_factory=dict)
    """By merchant, the session authority that it has got in this test."""
    _sessions: dict[str, str] = field(default_factory=dict)

    @property
    def hong(self) -> Person:
        return self.parties.people["hong"]

    @property
    def kim(self) -> Person:
        return self.parties.people["kim"]

    @property
    def shop(self) -> Link:
        return self.line.links["shop"]

    @property
    def pin(self) -> role.Pin:
        """A customer who trusts this operator."""
        return role.Pin(self.parties.root, OPERATOR)

    async def order(self, amount: int = PRICE, *, merchant: str = "shop", refund_by: int | None = None) -> str:
        """R2, R3: the address to which the shop sends its customer."""
        redirect = await self.line.links[merchant].shop.create_order(
            lines=[OrderLine("IM-1100", 1, amount)], total=Money(amount, "KRW"), text="IM-1100", return_url=RETURN_URL, refund_by=refund_by
        )
        return redirect.location

    async def shop_order(self, visit: Visit) -> ShopOrder:
        """The order as its shop's book holds it."""
        return await self.line.links[visit.redirect.merchant_id].shop.order(visit.redirect.tid)

    async def visit(self, person: Person | None = None, *, amount: int = PRICE, merchant: str = "shop") -> Visit:
        """A new order and a customer in front of its page."""
        return self.open(await self.order(amount, merchant=merchant), person)

    def open(self, location: str, person: Person | None = None) -> Visit:
        """R4: what the customer's program believes of the opening."""
        return self.open_redirect(role.read_redirect(urlsplit(location).query), person)

    def open_redirect(self, redirect: role.Redirect, person: Person | None = None) -> Visit:
        """R4 once more, or by somebody else."""
        opening = self.offered(redirect)
        shown = msgspec.json.encode(self.shown(opening))
        believed = role.verify_opening(shown, redirect=redirect, pin=self.pin, at=self.clock.now())
        return Visit(self, person or self.hong, redirect, believed, role.begin(believed))

    def offered(self, redirect: role.Redirect) -> open_order.Opening:
        """R4 at the gateway."""
        return open_order.open_order(
            self.gateway,
            mid=redirect.merchant_id,
            tid=redirect.tid,
            amount=redirect.money.text,
            currency=redirect.money.currency,
            order=redirect.order,
        )

    def shown(self, opening: open_order.Opening) -> dict[str, Any]:
        """The opening object of the customers' site."""
        offer = opening.offer
        return {
            "gateway": self.gateway.urn,
            "merchant": {"id": opening.merchant.id, "urn": offer.merchant_urn, "name": opening.merchant.name},
            "tid": offer.tid,
            "amount": offer.money.text,
            "currency": offer.money.currency,
            "order": "" if offer.order is None else offer.order.compact,
            "order_hash": offer.order_hash,
            "keys": opening.keys.compact,
            "merchant_chain": [] if offer.order is None else self.gateway.registry.chain_texts(offer.order.kid),
        }

    async def session(self, person: Person) -> SignedIn:
        """A live web session without the cost of a password; the same one while it lives."""
        token = self._sessions.get(person.login)
        at, idle = self.clock.now(), self.gateway.settings.session_idle_s
        if sessions.find(self.gateway.reader, token, at=at, idle_s=idle) is None:
            token, put = sessions.open_session(person.id, "password", at)
            await self.gateway.book.commit(Change(puts=(put,)))
            self._sessions[person.login] = token
        return redirect_flow.signed_in(self.gateway, token)

    async def tick(self, seconds: int = 0) -> int:
        """Move the clock, then let recovery do what is due."""
        self.clock.advance(seconds)
        return await recovery.tick(self.gateway)

    async def suspend(self, what: str, name: str, state: str = "suspended") -> None:
        """The operator's switch."""
        await operations.set_state(self.gateway, what=what, id=name, state=state)

    async def remove_device(self, kind: str) -> None:
        """Hong takes one of his devices away."""
        (row,) = [row for row in self.rows("devices") if (row["kind"], row["customer"]) == (kind, self.hong.id)]
        await self.gateway.book.commit(Change(puts=(Put("devices", row | {"state": "removed"}, row["version"]),)))

    def available(self, account_id: str) -> int:
        """What a payment could take of an account now."""
        row = self.gateway.reader.one("SELECT * FROM ledger_accounts WHERE id = ?", account_id)
        assert row is not None
        return int(row["credits_posted"] - row["debits_posted"] - row["debits_pending"] + row["credit_limit"])

    def earned(self, merchant: str = "shop") -> int:
        """What a merchant has been paid."""
        row = self.gateway.reader.one("SELECT credits_posted FROM ledger_accounts WHERE id = ?", f"merchant:{merchant}:KRW")
        assert row is not None
        return int(row[0])

    def customer(self, person: Person) -> customers.Customer:
        """The gateway's row of a person."""
        found = customers.by_id(self.gateway.reader, person.id)
        assert found is not None
        return found

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Every row of a table."""
        found = self.gateway.reader.all(f"SELECT * FROM {table}")  # noqa: S608 - a name from our own schema
        return [{name: row[name] for name in row.keys()} for row in found]  # noqa: SIM118 - a database row

    def dump(self, leave_out: Collection[str] = ("audit", "throttles", "sessions", "log", "tiles", "checkpoints")) -> dict[str, list[Any]]:
        """Every row of every table, to compare before and after; the book's own clock and the log of what is left out are too."""
        tables = {name: sorted(map(repr, self.rows(name))) for name in schema.metadata.tables if name not in leave_out and name != "book"}
        return tables | {"book": [row["next_entry"] for row in self.rows("book")]}

    async def restart(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """The gateway stops and starts again on the same files (`meanwhile` they may be spoiled); what was only in memory is gone."""
        await self.close()
        meanwhile()
        self.gateway = open_gateway(
            self.folder, self.clock, line=lambda *_: self.line, observe=lambda what, why: self.observed.append((what, why))
        )
        for link in self.line.links.values():
            link.gateway = self.gateway

    async def close(self) -> None:
        """Close whichever gateway is open."""
        await close_gateway(self.gateway)

    async def prove(self) -> None:
        """Every promise about money and evidence, from the store alone; called at the end of each test."""
        reader = self.gateway.reader
        with reader.snapshot() as connection:
            book, log, kept = check_ledger(connection), check_log(connection), list(evidence.share(reader, 0, 1))
        assert book.balanced, book.broken
        assert not log.findings, log.findings

        def first_link(merchant: str, tid: str) -> str | None:
            found = payments.find(reader, merchant, tid)
            return None if found is None else found.order_hash

        proof = check_evidence(kept, self.gateway.registry, first_link)
        assert proof.verified, proof.broken
        self._prove_money()
        self._prove_payments()
        self._prove_secrecy()
        await self._prove_agreement()

    def _prove_money(self) -> None:
        """The same sums once more, by other means than the check's SQL: a fold of the postings in order."""
        entries = {row["number"]: row for row in self.rows("entries")}
        fold: dict[str, list[int]] = {}
        for leg in sorted(self.rows("postings"), key=lambda row: (row["entry"], row["leg"])):
            counters = fold.setdefault(leg["account"], [0, 0, 0, 0])
            at = 0 if leg["side"] == "D" else 2
            counters[at] += leg["pending"]
            counters[at + 1] += leg["posted"]
            assert min(counters) >= 0, leg
            assert entries[leg["entry"]]["amount"] == max(abs(leg["pending"]), abs(leg["posted"])), leg
        held = moved = 0
        for account in self.rows("ledger_accounts"):
            names = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
            counters = [account[name] for name in names]
            assert counters == fold.get(account["id"], [0, 0, 0, 0]), account
            held += counters[0] - counters[2]
            moved += counters[1] - counters[3]
            if account["limited"]:
                assert account["credits_posted"] + account["credit_limit"] >= account["debits_posted"] + account["debits_pending"], account
        assert (held, moved) == (0, 0)

    def _prove_payments(self) -> None:
        """State, money and proof of each payment tell one story."""
        attempts = self.rows("attempts")
        entries = self.rows("entries")
        told = {row["hash"]: row for row in self.rows("outbox")}
        for payment in self.rows("payments"):
            kinds = sorted(entry["kind"] for entry in entries if entry["payment"] == payment["id"])
            state = State(payment["state"])
            expected = {State.AUTHORIZED: ["hold"], State.CAPTURED: ["capture", "hold"]}
            expected |= {State.REFUSED: ["hold", "void"], State.VOIDED: ["hold", "void"]}
            back = [entry["amount"] for entry in entries if entry["payment"] == payment["id"] and entry["kind"] == "refund"]
            assert [kind for kind in kinds if kind != "refund"] == expected.get(state, []), payment
            assert sum(back) == payment["refunded"] <= payment["captured"], payment
            own = [attempt for attempt in attempts if attempt["payment"] == payment["id"]]
            assert sorted(attempt["number"] for attempt in own) == list(range(1, payment["attempts"] + 1)), payment
            assert len({attempt["sealed_hash"] for attempt in own}) == len(own), "one sealed message is one attempt"
            assert sum(attempt["result"] == "held" for attempt in own) == (1 if kinds else 0), payment
            assert (state in FINAL) == (payment["ended_at"] is not None) == (payment["outcome_hash"] is not None), payment
            assert (payment["next_at"] is None) == (state in FINAL), "whatever is not final has an hour at which it is looked at"
            if state in FINAL:
                assert payment["outcome_hash"] in told, payment

    def _prove_secrecy(self) -> None:
        """No password and no whole number stands anywhere in the data folder's book."""
        whole = b"".join(path.read_bytes() for path in self.folder.glob(f"{BOOK_FILE}*"))
        if engine.is_postgresql():
            whole = "".join(repr(self.rows(table)) for table in schema.metadata.tables).encode()
        for person in self.parties.people.values():
            secret = [person.password, *(account.number for account in person.accounts.values())]
            for text in secret:
                assert text.encode() not in whole, f"{text} stands in the book"

    async def _prove_agreement(self) -> None:
        """Promise 10: what the shop holds as settled was captured here, and the other way round once it was acknowledged."""
        acknowledged = {row["hash"] for row in self.rows("outbox") if row["acknowledged_at"] is not None}
        for payment in self.rows("payments"):
            link = self.line.links[payment["merchant"]]
            for kept in await link.shop.book.messages(payment["tid"]):
                typ = peek_typ(kept.compact)
                assert typ != Settled.TYP or payment["state"] == State.CAPTURED, payment
                assert typ != Voided.TYP or payment["state"] in (State.REFUSED, State.VOIDED), payment
            if payment["outcome_hash"] in acknowledged and payment["state"] == State.CAPTURED:
                order = await link.shop.order(payment["tid"])
                assert order.may_deliver or (order.refunded_minor == payment["refunded"] == payment["captured"]), payment
                assert order.refunded_minor <= payment["refunded"], "a shop counts as refunded only what was"


@asynccontextmanager
async def open_world(folder: Path, **settings: Any) -> AsyncIterator[World]:
    """A copy of the enrolled parties under `folder`, open for one test."""
    parties = enrolled()
    data = folder / "gateway"
    shutil.copytree(parties.folder, data)
    with engine.copied(data):
        if settings:
            path = data / "hanbit.toml"
            kept = [line for line in path.read_text("utf-8").splitlines() if line.split(" ")[0] not in settings]
            path.write_text("\n".join([*kept, *(f"{name} = {value}" for name, value in settings.items())]) + "\n", "utf-8")
        async with opened(data, parties, {name: folder / f"{name}.db" for name in MERCHANTS}, at=NOW) as world:
            yield world


@asynccontextmanager
async def opened(data: Path, parties: Enrolled, order_books: dict[str, Path], *, at: int) -> AsyncIterator[World]:
    """These parties on these files, whoever made them."""
    clock, line = ManualClock(at), MemoryLine()
    observed: list[tuple[str, str]] = []
    async with AsyncExitStack() as stack:
        stack.enter_context(hold(data))
        gateway = open_gateway(data, clock, line=lambda *_: line, observe=lambda what, why: observed.append((what, why)))
        world = World(data, clock, gateway, line, parties, {}, observed)
        stack.push_async_callback(world.close)
        for name, order_book in order_books.items():
            await _open_shop(world, stack, order_book, name, plain=MERCHANTS[name] == "plain")
        yield world


async def _open_shop(world: World, stack: AsyncExitStack, order_book: Path, name: str, *, plain: bool) -> None:
    signer, gateway = replace(world.parties.merchants[name]), world.gateway  # its own: a test may renew its keys
    registration = files.Registration(
        operator=OPERATOR,
        merchant=signer.urn,
        gateway=gateway.urn,
        line=files.LineAddress("line.localhost", 8401),
        pay_url="http://pay.localhost:8400/pay",
        orders="plain" if plain else "signed",
    )

    async def on_confirm(_: ShopOrder) -> Yes | No:
        return world.confirm.get(name, Yes())

    trust = PinnedTrust(world.parties.root, OPERATOR, urn=gateway.urn)
    merchant = Merchant(signer=signer, gateway=gateway.urn, trust=trust, plain=plain)

    def authority(_: int) -> Authority:
        found = world.authorities.get(name)
        if found is None:
            raise Unavailable("no session authority")
        return found

    issuing = None if plain else Issuing(DualSignatureMerchant(signer, gateway.urn, trust, world.parties.root), authority)
    opened = Shop(registration=registration, role=merchant, book_path=order_book, on_confirm=on_confirm, clock=world.clock, issuing=issuing)
    shop = await stack.enter_async_context(opened)
    world.line.links[name] = Link(name, shop, signer, gateway)
    shop.line = _ShopsLine(world.line.links[name])
