"""Every signed message of the redirect checkout, one class each; `docs/protocol/redirect.md` is generated from this page."""

from typing import ClassVar

import msgspec

from hanbit.kernel import ids
from hanbit.protocols.fields import Amount, Code, Currency, Digest, Instant, Message, Text, Tid, Token


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One plain text in both languages."""

    ko: Text
    en: Text


class Order(Message, frozen=True, kw_only=True):
    """R3: the merchant's signed order. `oi` is the salted hash of its lines, which the gateway never sees."""

    TYP: ClassVar[str] = "hanbit-order"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    BARE: ClassVar[bool] = True
    tid: Tid
    amount: Amount
    currency: Currency
    oi: Digest
    text: Text
    return_url: str
    pay_by: Instant
    refund_by: Instant | None = None


class Keys(Message, frozen=True, kw_only=True):
    """R4: the gateway's fresh key material for one opening (14, 16); `seal` is the gateway-seal leaf, base64 DER."""

    TYP: ClassVar[str] = "hanbit-keys"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    ctx: Token
    n: Digest
    seal: str
    order: Digest
    tid: Tid
    amount: Amount
    currency: Currency
    payee: Text
    exp: Instant


class Consent(Message, frozen=True, kw_only=True):
    """R7: the customer's device key signs the hash of the consent core."""

    TYP: ClassVar[str] = "hanbit-consent"
    SENDER: ClassVar[str] = "customer"
    PURPOSE: ClassVar[str] = "customer-sign"
    core: Digest
    order: Digest


class Notice(Message, frozen=True, kw_only=True):
    """R8: OS(TID, AMOUNT) (24)."""

    TYP: ClassVar[str] = "hanbit-notice"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    payment: Token
    tid: Tid
    amount: Amount
    currency: Currency
    order: Digest
    prev: Digest
    exp: Instant


class Confirmation(Message, frozen=True, kw_only=True):
    """R9: OS(confirm) (26)."""

    TYP: ClassVar[str] = "hanbit-confirmation"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    payment: Token
    tid: Tid
    amount: Amount
    currency: Currency
    order: Digest
    req: Digest


class Refusal(Message, frozen=True, kw_only=True):
    """R9: OS(refusal) (60); the message is shown to the customer under the shop's name."""

    TYP: ClassVar[str] = "hanbit-refusal"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    payment: Token
    tid: Tid
    amount: Amount
    currency: Currency
    order: Digest
    req: Digest
    reason: Code
    message: Words


class Settled(Message, frozen=True, kw_only=True):
    """R11: the money has moved; these bytes authorise delivery (30)."""

    TYP: ClassVar[str] = "hanbit-settled"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    payment: Token
    tid: Tid
    amount: Amount
    currency: Currency
    order: Digest
    prev: Digest


class Voided(Message, frozen=True, kw_only=True):
    """R11: a notice left and no capture follows; `prev` is the refusal, else the notice."""

    TYP: ClassVar[str] = "hanbit-voided"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    payment: Token
    tid: Tid
    amount: Amount
    currency: Currency
    order: Digest
    prev: Digest
    reason: Code


class Closed(Message, frozen=True, kw_only=True):
    """R11: the order ended unpaid before any notice; `outcome` is declined, cancelled_by_customer, cancelled_by_merchant or expired."""

    TYP: ClassVar[str] = "hanbit-closed"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    tid: Tid
    order: Digest
    prev: Digest
    outcome: Code


class Receipt(Message, frozen=True, kw_only=True):
    """R12: the customer's proof (28): no account, no name, no detail of a decline."""

    TYP: ClassVar[str] = "hanbit-receipt"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    payment: Token
    tid: Tid
    amount: Amount
    currency: Currency
    payee: Text
    order: Digest
    time: Instant
    prev: Digest


class Inquiry(Message, frozen=True, kw_only=True):
    """RQ: what became of this tid?"""

    TYP: ClassVar[str] = "hanbit-inquiry"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    tid: Tid
    exp: Instant


class Status(Message, frozen=True, kw_only=True):
    """RQ: the state in the merchant's words; `outcome` holds the stored settled, voided or closed message."""

    TYP: ClassVar[str] = "hanbit-status"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    tid: Tid
    req: Digest
    state: Code
    outcome: str | None = None


MESSAGES: tuple[type[Message], ...] = (
    Order, Keys, Consent, Notice, Confirmation, Refusal, Settled, Voided, Closed, Receipt, Inquiry, Status,
)  # fmt: skip


def plain_order_hash(merchant: str, tid: str, amount: str, currency: str) -> str:
    """The order hash of a redirect in the document's own form: nothing is signed, the chain begins at what was received in clear."""
    return ids.digest(f"hanbit1 plain\0{merchant}\0{tid}\0{amount}\0{currency}".encode("ascii"))
