"""Every message of the dual-signature checkout, one class each; `docs/protocol/dual-signature.md` is generated from this page."""

from typing import Annotated, ClassVar, Literal

import msgspec

from hanbit.protocols.fields import (
    Amount,
    Code,
    Compact,
    Currency,
    Digest,
    Instant,
    KeyedMessage,
    Message,
    PublicKey,
    Text,
    Tid,
    Token,
    Urn,
)

__all__ = ["PublicKey"]

SESSION_LIFE_S = 10 * 60
"""A session ends so long after it was opened, and never after its order."""
LINES_MAX = 48 * 1024
"""Characters of an order's lines as the shop wrote them: the longest order that a shop can place has some 46,000."""
OI_MAX = 192 * 1024
"""Bytes of OI: the lines in UTF-8, once more as a JSON text, and the names around them."""
ENVELOPE_MAX = 16 * 1024
"""Characters of the envelope."""
_Der = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]{1,2732}={0,2}$(?!\n)")]


class SessionRequest(KeyedMessage, frozen=True, kw_only=True):
    """D2: a fresh key kc asks for a temporary certificate (B1). Its header is `alg, typ` only; it is signed by the key that it names."""

    TYP: ClassVar[str] = "hanbit-session-request"
    SENDER: ClassVar[str] = "customer"
    PURPOSE: ClassVar[str] = ""
    nc: Digest
    order: Digest


class Session(Message, frozen=True, kw_only=True):
    """D3: the merchant's nonce and the session ID of this exchange (B2); `thumbprint` is kc's, `req` the hash of the request."""

    TYP: ClassVar[str] = "hanbit-session"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    nc: Digest
    nm: Digest
    sid: Token
    gateway: Urn
    thumbprint: Digest
    tid: Tid
    amount: Amount
    currency: Currency
    order: Digest
    req: Digest
    exp: Instant


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """D3 as it travels: the signed `session`, and the chain of kc's temporary certificate (leaf, session authority, merchant authority)."""

    session: Compact
    certificate: Annotated[tuple[_Der, ...], msgspec.Meta(min_length=3, max_length=3)]


class OrderInformation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """D5: OI, what the merchant may know. `lines`: the text whose salted hash is the order's `oi`; the salt is the customer's."""

    v: int
    tid: Tid
    sid: Token
    nc: Digest
    nm: Digest
    merchant: Urn
    gateway: Urn
    amount: Amount
    currency: Currency
    lines: Annotated[str, msgspec.Meta(max_length=LINES_MAX)]
    salt: Digest


class Dual(Message, frozen=True, kw_only=True):
    """D5: the dual signature over OI and PI (B3), by kc. Merchant and gateway verify these same bytes, each with his own half.

    `iss` is the temporary party of this session, `aud` the gateway, who decides last; the merchant is named beside it.
    """

    TYP: ClassVar[str] = "hanbit-dual"
    SENDER: ClassVar[str] = "temporary"
    PURPOSE: ClassVar[str] = "temporary"
    pimd: Digest
    oimd: Digest
    pomd: Digest
    merchant: Urn
    gateway: Urn
    sid: Token
    nc: Digest
    nm: Digest
    tid: Tid
    order: Digest
    prev: Digest
    exp: Instant


class Purchase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """D5 as it travels: OI's text, the hash of PI, the dual signature, and PI itself sealed to the gateway."""

    oi: Annotated[str, msgspec.Meta(max_length=OI_MAX)]
    pimd: Digest
    dual: Compact
    envelope: Annotated[str, msgspec.Meta(max_length=ENVELOPE_MAX)]


class AuthorizationRequest(Message, frozen=True, kw_only=True):
    """D6: the merchant asks for this payment (B4), and by the same bytes confirms its order; the envelope follows in the same frame."""

    TYP: ClassVar[str] = "hanbit-authorization-request"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    sid: Token
    tid: Tid
    amount: Amount
    currency: Currency
    order: Digest
    oimd: Digest
    pimd: Digest
    dual: Compact
    envelope_hash: Digest
    prev: Digest


class Authorization(Message, frozen=True, kw_only=True):
    """D7: approved (the money has moved, these bytes authorise delivery) or declined (B5).

    `reason` is told where it is declined, and only so much as the merchant may know: `declined`, `closed` (this order can no longer be
    paid) or `in_progress`. `payment` is there where it is approved.
    """

    TYP: ClassVar[str] = "hanbit-authorization"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    sid: Token
    tid: Tid
    amount: Amount
    currency: Currency
    order: Digest
    req: Digest
    result: Literal["approved", "declined"]
    payment: Token | None = None
    reason: Code | None = None


class ResultRequest(Message, frozen=True, kw_only=True):
    """D8: the customer asks the gateway himself what became of this session, by the key that he bought with: no shop can hide it."""

    TYP: ClassVar[str] = "hanbit-result-request"
    SENDER: ClassVar[str] = "temporary"
    PURPOSE: ClassVar[str] = "temporary"
    sid: Token
    tid: Tid
    exp: Instant


class Result(Message, frozen=True, kw_only=True):
    """D8: the gateway's answer to that: the state, the reason of a decline in the customer's words, the receipt where there is one."""

    TYP: ClassVar[str] = "hanbit-result"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    sid: Token
    tid: Tid
    req: Digest
    state: Code
    reason: Code | None = None
    message: Text = ""
    receipt: Compact | None = None


MESSAGES: tuple[type[Message], ...] = (
    SessionRequest, Session, Dual, AuthorizationRequest, Authorization, ResultRequest, Result,
)  # fmt: skip
