"""What the callers of `hanbit bench ledger` hand in: real Changes of payments and transfers between a thousand customers and merchants.

A pair is a payment: its hold with the payment's row, then its capture with the row's next version. With evidence each Change has what a
real one has: requirements, messages, the attempt, the outcome to be told. Only the messages' text is nobody's: payloads and signatures are
signs of a real one's length under their true hash, because signing is measured by `hanbit bench payments`.
"""

import hashlib
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Final

from msgspec.structs import asdict, replace

from hanbit.db.change import Append, Change, Put, Require, StoredMessage, Value
from hanbit.kernel import ids
from hanbit.kernel.errors import Declined, Unavailable
from hanbit.kernel.money import Money
from hanbit.ledger import rules
from hanbit.ledger.chart import merchant_account, operator_account
from hanbit.parties.customers import ledger_account
from hanbit.parties.limits import NO_LIMITS
from hanbit.payments.halt import still_taken
from hanbit.payments.payment import Payment
from hanbit.payments.states import State

CUSTOMERS: Final = 1_000
MERCHANTS: Final = 1_000
AMOUNT: Final = Money(1_000, "KRW")
FUNDS: Final = Money(900_000_000_000, "KRW")
CASH: Final = operator_account("cash", AMOUNT.currency)
MERCHANT: Final = "shop-"
"""How the ids of these merchants begin."""
POOR: Final = "poor"
"""The customer without money, at whose cost each hundredth payment is tried."""
PAYLOAD_SIGNS: Final = {
    "order": 339, "keys": 1_080, "consent": 252, "notice": 356, "confirmation": 338, "settled": 339, "receipt": 362,
}  # fmt: skip
"""Signs of a message's payload as `hanbit bench payments` stores it, in the order in which a payment's messages are made."""
AT_HOLD: Final = ("order", "keys", "consent", "notice")
AT_CAPTURE: Final = ("confirmation", "settled", "receipt")
SIGNATURE_SIGNS: Final = 86
TOKEN_SIGNS, TID_SIGNS, DIGEST_SIGNS = 22, 27, 43
FILL: Final = "--"
"""Behind a message's number, so that base64 begins anew after it."""
CORE_SIGNS: Final = 331
CHAIN_SIGNS: Final = 1_440
"""Of the certificates in a header; an order names its key only."""
CERTIFICATE_LIFE_S = 90 * 86_400
"""Beyond the end of every run."""
_MULTIPLIER, _INCREMENT, _BITS = 6364136223846793005, 1442695040888963407, 64


class Dice:
    """Seeded disorder: every run draws the same customers and merchants in the same order."""

    def __init__(self, seed: int = 1) -> None:
        self._state = seed

    def roll(self, sides: int) -> int:
        """A whole number below `sides`."""
        self._state = (self._state * _MULTIPLIER + _INCREMENT) % (1 << _BITS)
        return (self._state >> 32) % sides

    def token(self, start: str = "") -> str:
        """A new id that begins so and stands anywhere behind it; to ask the system for random bits would be the callers' largest cost."""
        self.roll(1)
        return f"{start}{self._state:016x}".ljust(TOKEN_SIGNS, "0")


class Draw:
    """Which merchant is paid next: each alike, by Zipf's law (the n-th largest gets 1/n of the largest's payments), or always one."""

    def __init__(self, merchants: str, dice: Dice) -> None:
        weights = {"uniform": [1] * MERCHANTS, "zipf": [1_000_000 // place for place in range(1, MERCHANTS + 1)], "hot": [1]}[merchants]
        self._upto = list(accumulate(weights))
        self._dice = dice
        self.everybody = [f"{MERCHANT}{place}" for place in range(len(weights))]

    def next(self) -> str:
        """Its id."""
        return self.everybody[bisect_left(self._upto, self._dice.roll(self._upto[-1]) + 1)]


class Form:
    """What all messages of one name share: header, how the payload goes on behind its number, the hash begun over the header."""

    def __init__(self, name: str, filler: str) -> None:
        issuer = "merchant" if name in ("order", "confirmation") else "customer" if name == "consent" else "gateway"
        chain = "" if name == "order" else filler[:CHAIN_SIGNS]
        self.typ, self.iss, self.signature = f"hanbit-{name}", f"urn:hanbit:bench:{issuer}", filler[:SIGNATURE_SIGNS]
        self.header = ids.encode_base64url(f'{{"alg":"ES256","typ":"{self.typ}","kid":"{issuer}","x5c":["{chain}"]}}'.encode())
        self.payload = filler[: PAYLOAD_SIGNS[name] - TOKEN_SIGNS - len(FILL)]
        self.rest = ids.encode_base64url(self.payload.encode("ascii"))
        self.begun = hashlib.sha256(f"{self.header}.".encode("ascii"))


@dataclass(frozen=True, slots=True)
class Pair:
    """A payment that is to be held and captured; `capture` follows a durable `hold`."""

    payment: Payment
    hold: Change
    capture: Change


@dataclass(slots=True)
class Deals:
    """Makes one deal after the other, and keeps what the accounts must hold once the accepted ones are durable."""

    merchants: str
    with_evidence: bool
    at: int
    customers: list[str] = field(default_factory=lambda: [ids.new_token() for _ in range(CUSTOMERS)])
    expected: dict[str, int] = field(default_factory=dict)
    """Account → posted credits less posted debits."""
    captured: int = 0
    transferred: int = 0
    _dice: Dice = field(default_factory=Dice)
    _draw: Draw = field(init=False)
    _filler: str = ""
    _forms: dict[str, Form] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._draw = Draw(self.merchants, self._dice)
        self._filler = "".join(ids.new_token() for _ in range(CHAIN_SIGNS // len(ids.new_token()) + 1))
        self._forms = {name: Form(name, self._filler) for name in PAYLOAD_SIGNS}

    def openings(self) -> list[Change]:
        """Everybody's accounts, and each customer's money: what must be there before the clock starts."""
        paying = [*self.customers, POOR]
        merchants = self._draw.everybody
        accounts = [
            ledger_account(CASH, "operator_cash", AMOUNT.currency, limited=False),
            *(ledger_account(account, "customer_bank", AMOUNT.currency, limited=True) for account in paying),
            *(ledger_account(merchant_account(name, AMOUNT.currency), "merchant", AMOUNT.currency, limited=True) for name in merchants),
        ]
        self.expected = {str(account.row["id"]): 0 for account in accounts}
        parties = [self._customer(name) for name in paying] + [self._merchant(name) for name in merchants] if self.with_evidence else []
        keys = tuple(self._certificate(name) for name in ("gateway", "merchant", "customer")) if self.with_evidence else ()
        changes = [Change(appends=tuple(accounts), puts=keys), *parties]
        for account in self.customers:
            changes.append(Change(entries=(rules.transfer(id=f"fund:{account}", debit=CASH, credit=account, money=FUNDS),)))
            self._moved(CASH, account, FUNDS.amount_minor)
        return changes

    def pair(self, source: str | None = None) -> Pair:
        """The next payment, of a customer by lot or of this one."""
        account = source or self.customers[self._dice.roll(CUSTOMERS)]
        merchant, tid, payment_id, order = (
            self._draw.next(),
            self._new_tid(),
            self._new_id(),
            self._dice.token().ljust(DIGEST_SIGNS, "x"),
        )
        new = Payment(
            merchant, tid, 0, payment_id, State.AUTHORIZED, None, order, AMOUNT.amount_minor, AMOUNT.currency, merchant, "bench",
            "http://shop.localhost:8402/hanbit/return", self.at + 600, self.at, 1, account, account, "device",
        )  # fmt: skip
        messages = self._messages(new, AT_HOLD)
        held = replace(new, notice_hash=messages[-1].hash if messages else None, hold_until=self.at + 60, next_at=self.at + 2)
        hold = rules.hold(payment=payment_id, attempt=1, source=account, target=held.target, money=AMOUNT)
        proofs = self._messages(new, AT_CAPTURE)
        stands = replace(held, version=1)
        done = replace(stands, state=State.CAPTURED, captured=AMOUNT.amount_minor, next_at=None, ended_at=self.at)
        capture = rules.capture(payment=payment_id, attempt=1, source=account, target=held.target, money=AMOUNT)
        if not self.with_evidence:
            return Pair(done, Change(puts=(held.put(),), entries=(hold,)), Change(puts=(done.put(stands),), entries=(capture,)))
        done = replace(done, answer_hash=proofs[0].hash, outcome_hash=proofs[1].hash, receipt_hash=proofs[2].hash)
        return Pair(
            done,
            Change(
                puts=(held.put(),),
                requires=(
                    Require("customers", account, "state", "active", Declined("customer_suspended")),
                    Require("accounts", account, "state", "active", Declined("account_suspended")),
                    Require("merchants", merchant, "state", "active", Declined("merchant_suspended")),
                    still_taken(),
                    *_not_revoked("gateway", "merchant", "customer"),
                ),
                entries=(hold,),
                messages=messages,
                appends=(self._attempt(held),),
            ),
            Change(
                puts=(done.put(stands),),
                requires=_not_revoked("gateway", "merchant"),
                entries=(capture,),
                messages=proofs,
                appends=(self._outcome(done),),
            ),
        )

    def was_captured(self, pair: Pair) -> None:
        """The capture is durable."""
        self.captured += 1
        self._moved(str(pair.payment.account), pair.payment.target, AMOUNT.amount_minor)

    def transfer(self, source: str | None = None) -> Change:
        """A plain transfer between two accounts."""
        debit = source or self.customers[self._dice.roll(CUSTOMERS)]
        credit = merchant_account(self._draw.next(), AMOUNT.currency)
        return Change(entries=(rules.transfer(id=f"transfer:{self._new_id()}", debit=debit, credit=credit, money=AMOUNT),))

    def was_transferred(self, change: Change) -> None:
        """The transfer is durable."""
        self.transferred += 1
        debit, credit = change.entries[0].postings
        self._moved(debit.account, credit.account, AMOUNT.amount_minor)

    def _new_id(self) -> str:
        """As `ids.new_token_of` makes them: it begins with its second."""
        return self._dice.token(_second(self.at))

    def _new_tid(self) -> str:
        """As `ids.new_tid_of` makes them."""
        return self._dice.token(_second(self.at)).ljust(TID_SIGNS, "0")

    def _moved(self, debit: str, credit: str, amount: int) -> None:
        self.expected[debit] -= amount
        self.expected[credit] += amount

    def _messages(self, payment: Payment, names: tuple[str, ...]) -> tuple[StoredMessage, ...]:
        return tuple(self._message(payment, name) for name in names) if self.with_evidence else ()

    def _message(self, payment: Payment, name: str) -> StoredMessage:
        form, number = self._forms[name], self._new_id()
        hashed = form.begun.copy()
        hashed.update(f"{ids.encode_base64url((number + FILL).encode('ascii'))}{form.rest}.{form.signature}".encode("ascii"))
        return StoredMessage(
            ids.encode_base64url(hashed.digest()),
            form.typ,
            form.header[:1] + form.header[1:],  # a text of its own, as if it had come with this message
            number + FILL + form.payload,
            form.signature,
            form.iss,
            number,
            payment.merchant,
            payment.tid,
        )

    def _attempt(self, payment: Payment) -> Append:
        return Append(
            "attempts",
            {
                "payment": payment.id,
                "number": 1,
                "customer": payment.customer,
                "account": payment.account,
                "method": "device",
                "result": "held",
                "core": self._filler[:CORE_SIGNS],
                "auth_hash": payment.order_hash,
                "auth_value": None,
                "sealed_hash": payment.order_hash,
                "session": payment.order_hash,
                "at": self.at,
            },
        )

    def _outcome(self, payment: Payment) -> Append:
        row: dict[str, Value] = {
            "hash": payment.outcome_hash,
            "version": 1,
            "merchant": payment.merchant,
            "tid": payment.tid,
            "next_at": self.at + 2,
            "tries": 0,
            "stored_at": self.at,
            "acknowledged_at": None,
        }
        return Append("outbox", row)

    def _customer(self, name: str) -> Change:
        customer: dict[str, Value] = {
            "id": name, "login": name, "name": name, "state": "active", "password": "", "language": "ko", "webauthn_user": name,
            "created_at": self.at, "email": None,
        }  # fmt: skip
        account: dict[str, Value] = {
            "id": name, "customer": name, "kind": "bank", "currency": AMOUNT.currency, "number_mac": name, "masked": "", "password": "",
            "state": "active", "created_at": self.at, **asdict(NO_LIMITS),
        }  # fmt: skip
        return Change(puts=(Put("customers", customer, 0), Put("accounts", account, 0)))

    def _merchant(self, name: str) -> Change:
        row: dict[str, Value] = {
            "id": name, "name": name, "telephone": "", "state": "active", "orders": "signed", "currency": AMOUNT.currency, "return_url": "",
            "return_origins": "[]", "line_mode": "vpn", "line_address": None, "post_url": None, "created_at": self.at,
            "limit_payment": None, "limit_day": None, "day_from": None, "day_until": None,
        }  # fmt: skip
        return Change(puts=(Put("merchants", row, 0),))

    def _certificate(self, kid: str) -> Put:
        row: dict[str, Value] = {
            "kid": kid, "urn": f"urn:hanbit:bench:{kid}", "purpose": "bench", "chain": "", "serial": "0", "not_before": self.at,
            "not_after": self.at + CERTIFICATE_LIFE_S, "issued_at": self.at, "revoked_at": None,
        }  # fmt: skip
        return Put("certificates", row, 0)


def _not_revoked(*kids: str) -> tuple[Require, ...]:
    return tuple(Require("certificates", kid, "revoked_at", None, Unavailable("revoked")) for kid in kids)


@lru_cache(maxsize=2)
def _second(at: int) -> str:
    return ids.new_token_of(at)[:5]
