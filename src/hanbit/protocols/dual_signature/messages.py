"""Every message of the dual-signature checkout, one class each; `docs/protocol/dual-signature.md` is generated from this page."""

from typing import Annotated, ClassVar, Literal

import msgspec

from hanbit.protocols.fields import Amount, Code, Compact, Currency, Digest, Instant, Message, Text, Tid, Token, Urn

LINES_MAX = 8 * 1024
"""Characters of an order's lines as the shop wrote them."""
Coordinate = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}$")]
"""One coordinate of a P-256 point, 32 bytes in base64url."""


class PublicKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kc's public part as a JWK (RFC 7518 section 6.2); its thumbprint is that of RFC 7638."""

    kty: Literal["EC"] = "EC"
    crv: Literal["P-256"] = "P-256"
    x: Coordinate
    y: Coordinate


class SessionRequest(Message, frozen=True, kw_only=True):
    """D2: a fresh key asks for a temporary certificate (B1). Its header is `alg, typ` only, and it is signed by the key that it names."""

    TYP: ClassVar[str] = "hanbit-session-request"
    SENDER: ClassVar[str] = "customer"
    PURPOSE: ClassVar[str] = ""
    nc: Digest
    key: PublicKey
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
