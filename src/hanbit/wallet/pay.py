"""The redirect checkout as a customer goes through it, from the shop's redirect to the verified receipt (R4 to R12).

    opened  = await wallet.open(url)                          R4  verified against the pinned root, or ProtocolViolation
    screen  = await wallet.login(opened, login_id, password)  R5  or wallet.screen(opened) with a live session (R6)
    outcome = await wallet.submit(opened, Device(signer), account=screen.accounts[0].id)   R7 to R12
    outcome = await wallet.finish(opened, outcome)            waits while the shop has not answered, verifies the receipt

`pay` is submit and finish with the same bytes sent again when an answer is lost.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal, Self, TypeVar

import msgspec

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock, SandboxClock
from hanbit.kernel.errors import BadInput, NotSignedIn, ProtocolViolation, Unavailable
from hanbit.protocols.fields import Code, Token
from hanbit.protocols.redirect import customer
from hanbit.protocols.redirect.customer import Opening, Pin, Sealing
from hanbit.protocols.redirect.messages import Receipt
from hanbit.protocols.signed import SignedMessage, Signer
from hanbit.wallet.client import GatewayClient, Http, Origin, decode, read_address
from hanbit.wallet.store import Enrolment, Store

POLL_S: Final = 2.0
POLLS_MAX: Final = 330
"""11 minutes: the hold ends ten minutes after the shop was asked, so the answer is there by then."""
SENDS_MAX: Final = 4
"""How often the same bytes are sent while no answer comes."""
PAY_PATH: Final = "/pay"

T = TypeVar("T")


class BadReceipt(ProtocolViolation):
    """The gateway says that the payment was made and shows a receipt for it that is not genuine, or not for it."""

    def __init__(self, rule: str, detail: str, *, payment: str) -> None:
        super().__init__(rule, detail)
        self.payment = payment


@dataclass(frozen=True, slots=True)
class Password:
    """Pay by the account's own password."""

    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Device:
    """Pay by a consent that the enrolled device key signs."""

    signer: Signer = field(repr=False)


@dataclass(frozen=True, slots=True)
class OneTimeCode:
    """Pay by a code from the enrolled secret, good for this session key and this payment only."""

    secret: bytes = field(repr=False)


Factor = Password | Device | OneTimeCode


class Account(msgspec.Struct, frozen=True):
    """One of the customer's accounts as the payment screen shows it."""

    id: Annotated[str, msgspec.Meta(max_length=64)]
    kind: Annotated[str, msgspec.Meta(max_length=20)]
    masked: Annotated[str, msgspec.Meta(max_length=64)]
    currency: Annotated[str, msgspec.Meta(max_length=3)]


class ScreenCustomer(msgspec.Struct, frozen=True):
    """Who is logged in."""

    name: Annotated[str, msgspec.Meta(max_length=200)]


class Screen(msgspec.Struct, frozen=True):
    """R6: the payment screen (20), without its words."""

    customer: ScreenCustomer
    accounts: Annotated[tuple[Account, ...], msgspec.Meta(max_length=100)]
    expires_at: int = 0


class _ScreenAnswer(msgspec.Struct, frozen=True):
    screen: Screen


class _StateAnswer(msgspec.Struct, frozen=True):
    state: Literal["open", "authorized", "captured", "refused", "voided", "closed"]
    reason: Code | None = None


class _SubmitAnswer(_StateAnswer, frozen=True, kw_only=True):
    payment: Token
    receipt: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt; `receipt` is there once it has been verified, and means that the money has moved."""

    payment: str
    state: str
    reason: str | None
    unverified_receipt: str | None = field(default=None, repr=False)
    receipt: SignedMessage[Receipt] | None = field(default=None, repr=False)
    unverified_words: str | None = None
    """Why the shop itself does not want this order, in its own words."""


class Opened:
    """A verified opening and, from the first sealed message on, its session key."""

    __slots__ = ("_sealing", "opening")

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self._sealing: Sealing | None = None

    @property
    def sealing(self) -> Sealing:
        """SK is made when something is to be sealed, and once."""
        if self._sealing is None:
            self._sealing = customer.begin(self.opening)
        return self._sealing

    def body(self) -> dict[str, str]:
        """What goes back in clear beside each sealed message, for the server keeps nothing of an opening."""
        opening = self.opening
        return {
            "order": opening.redirect.order,
            "keys": opening.keys.compact,
            "tid": opening.redirect.tid,
            "amount": opening.money.text,
            "mid": opening.redirect.merchant_id,
        }


class Wallet:
    """One customer's payment program at one payment server. Wallets of one process may share an `Http`."""

    def __init__(self, pin: Pin, client: GatewayClient, *, clock: Clock, poll_s: float = POLL_S) -> None:
        self.pin = pin
        self.client = client
        # A sandbox's clock may be ahead of everybody's: at its pages we go by theirs.
        self._clock = SandboxClock(clock) if ids.is_test(pin.operator) else clock
        self.poll_s = poll_s

    def now(self) -> int:
        """This customer's time, which decides nothing."""
        return self._clock.now()

    @property
    def is_test(self) -> bool:
        """Whether the operator is a sandbox, where nothing that is paid is money."""
        return ids.is_test(self.pin.operator)

    @classmethod
    def at(cls, origin: str, *, pin: Pin, http: Http, clock: Clock, poll_s: float = POLL_S) -> Self:
        """A wallet for the payment server at this address."""
        return cls(pin, GatewayClient(http, read_address(origin)[0]), clock=clock, poll_s=poll_s)

    @classmethod
    async def visit(cls, url: str, *, store: Store, http: Http, clock: Clock) -> "tuple[Self, Opened, Enrolment | None]":
        """R4 with whichever trusted operator the page belongs to, and this computer's enrolment there."""
        origin, target = _payment_target(url)
        client = GatewayClient(http, origin)
        unverified = await client.get(target)
        operator = customer.peek_operator(unverified)
        enrolment = store.enrolment(operator)
        if enrolment is not None and enrolment.origin != str(origin):
            raise ProtocolViolation("other_origin", f"this computer is enrolled at {enrolment.origin}, and the address leads to {origin}")
        wallet = cls(store.pin(operator), client, clock=clock)
        return wallet, wallet.read(url, unverified), enrolment

    async def open(self, url: str) -> Opened:
        """R4: fetch the page as data and verify it; nothing has been told to the server yet."""
        origin, target = _payment_target(url)
        if origin != self.client.origin:
            raise BadInput(f"this wallet pays at {self.client.origin}, and the address leads to {origin}")
        return self.read(url, await self.client.get(target))

    def read(self, url: str, unverified: bytes) -> Opened:
        """R4: the customer's checks on what came from the address."""
        if isinstance(self._clock, SandboxClock):
            self._clock.offset_s = max(0, customer.peek_time(unverified) - self._clock.base.now())
        redirect = customer.read_redirect(read_address(url)[1].query)
        return Opened(customer.verify_opening(unverified, redirect=redirect, pin=self.pin, at=self.now()))

    async def login(self, opened: Opened, login_id: str, password: str) -> Screen:
        """R5, R6: PBkb(SK) and SK(ID, password); the session stays in memory."""
        body = opened.body()
        body["key"] = opened.sealing.key
        body["login"] = customer.seal_login(opened.sealing, login_id=login_id, password=password)
        return decode(await self.client.post("/pay/login", body), _ScreenAnswer).screen

    async def screen(self, opened: Opened) -> Screen:
        """R6 for a customer with a live session."""
        if not self.client.has_session:
            raise NotSignedIn
        return decode(await self.client.post("/pay/screen", opened.body()), _ScreenAnswer).screen

    def prepare(self, opened: Opened, factor: Factor, *, account: str = "", number: str = "") -> dict[str, str]:
        """R7: the sealed instruction, from one of the accounts shown or from a typed account or card number. No input or output."""
        if bool(account) is bool(number):
            raise BadInput("choose one account, or type one number")
        salt = None
        if number:
            account, salt = customer.typed_number(number)
        opening, sealing = opened.opening, opened.sealing
        core = customer.make_core(opening, account)
        if isinstance(factor, Device):
            auth = customer.auth_device(opening, core, factor.signer, self.now())
        elif isinstance(factor, OneTimeCode):
            auth = customer.auth_code(sealing.session.code_binding, core, factor.secret)
        else:
            auth = customer.auth_password(factor.value)
        body = opened.body()
        body["key"] = sealing.key
        body["pay"] = customer.seal_pay(sealing, core, auth, number=number or None, number_salt=salt)
        return body

    async def send(self, body: dict[str, str]) -> Outcome:
        """R7 to R12: hand over what `prepare` made; Unavailable means that the outcome is unknown and the same body may be sent again."""
        return _outcome(await self.client.post("/pay/submit", body))

    async def submit(self, opened: Opened, factor: Factor, *, account: str = "", number: str = "") -> Outcome:
        """R7 to R12 in one exchange; the receipt in the outcome is not verified yet, `finish` does that."""
        return await self.send(self.prepare(opened, factor, account=account, number=number))

    async def finish(self, opened: Opened, outcome: Outcome) -> Outcome:
        """R12: wait while the shop has not answered, then verify the receipt of a payment that is said to be captured, else BadReceipt."""
        for _ in range(POLLS_MAX):
            if outcome.state != "authorized":
                break
            await asyncio.sleep(self.poll_s)
            outcome = await self.look(outcome)
        if outcome.state != "captured":
            return outcome
        unverified: str | bytes | None = outcome.unverified_receipt
        if unverified is None:
            path = f"/payments/{outcome.payment}/receipt"
            unverified = await self._insist(lambda: self.client.get(path, "application/jose"))
        try:
            receipt = customer.verify_receipt(unverified, opening=opened.opening, payment=outcome.payment, pin=self.pin, at=self.now())
        except ProtocolViolation as error:
            raise BadReceipt(error.rule, error.detail, payment=outcome.payment) from error
        return replace(outcome, receipt=receipt)

    async def look(self, outcome: Outcome) -> Outcome:
        """The present state of the payment; while the server is away it stays what it was."""
        try:
            answer = decode(await self.client.get(f"/payments/{outcome.payment}/state"), _StateAnswer)
        except Unavailable:
            return outcome
        return replace(outcome, state=answer.state, reason=answer.reason)

    async def pay(self, opened: Opened, factor: Factor, *, account: str = "", number: str = "") -> Outcome:
        """R7 to R12 to the end: a lost answer is asked for again with the same bytes, which the server answers alike."""
        body = self.prepare(opened, factor, account=account, number=number)
        return await self.finish(opened, await self._insist(lambda: self.send(body)))

    async def cancel(self, opened: Opened) -> Outcome:
        """The customer's Cancel: closes a payment of which the shop has not been asked yet."""
        body = opened.body()
        body["key"] = opened.sealing.key
        return _outcome(await self.client.post("/pay/cancel", body))

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to one same question, asked a few times while the server is away."""
        for _ in range(SENDS_MAX - 1):
            try:
                return await ask()
            except Unavailable as error:
                await asyncio.sleep(min(error.retry_after_s, self.poll_s))
        return await ask()


def _payment_target(url: str) -> tuple[Origin, str]:
    origin, parts = read_address(url)
    if parts.path != PAY_PATH or parts.fragment:
        raise BadInput(f"a payment address looks like {origin}{PAY_PATH}?MID=…&TID=…&AMOUNT=…&CUR=…")
    return origin, f"{PAY_PATH}?{parts.query}"


def _outcome(unverified: bytes) -> Outcome:
    answer = decode(unverified, _SubmitAnswer)
    return Outcome(answer.payment, answer.state, answer.reason, unverified_receipt=answer.receipt)
