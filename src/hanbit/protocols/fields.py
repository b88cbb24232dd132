r"""The base of all signed messages: the claims each carries and the grammars of their fields.

A grammar ends in `$(?!\n)`, which every reader of patterns understands alike: after `$` alone some let a line end follow, and then one
value has two spellings.
"""

from typing import Annotated, ClassVar, Literal

import msgspec

VERSION = 1

Urn = Annotated[str, msgspec.Meta(pattern=r"^urn:hanbit:[a-z0-9-]{1,32}(:[A-Za-z0-9_-]{1,64}){1,3}$(?!\n)", max_length=200)]
Token = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}$(?!\n)")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}$(?!\n)")]
Tid = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22,64}$(?!\n)")]
Amount = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,14})$(?!\n)")]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
INSTANT_MAX = 253_402_300_799
"""The last second of the year 9999."""
Instant = Annotated[int, msgspec.Meta(ge=0, le=INSTANT_MAX)]
Code = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,40}$(?!\n)")]
Text = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$(?!\n)")]
"""Shown to people under its sender's name: no control characters, and none that turn the text beside it round."""


COMPACT_MAX = 12 * 1024
Compact = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$(?!\n)", max_length=COMPACT_MAX)]
"""A signed message inside another: whoever carries it has not vouched for it."""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every signed message says: version, who to whom, a number of its own and when."""

    v: int
    iss: Urn
    aud: Urn
    jti: Token
    iat: Instant

    TYP: ClassVar[str]
    """The protected header's `typ`."""
    SENDER: ClassVar[str]
    """The role in the `iss` URN."""
    PURPOSE: ClassVar[str]
    """The purpose that the signer's certificate must have."""
    BARE: ClassVar[bool] = False
    """True for an order: its header carries no `x5c`, so that one order has one hash."""


Coordinate = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}$(?!\n)")]
"""One coordinate of a P-256 point, 32 bytes in base64url."""


class PublicKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key as a JWK (RFC 7518 section 6.2); its thumbprint is that of RFC 7638."""

    kty: Literal["EC"] = "EC"
    crv: Literal["P-256"] = "P-256"
    x: Coordinate
    y: Coordinate


class KeyedMessage(Message, frozen=True, kw_only=True):
    """A message of somebody who has no certificate yet: its header is `alg, typ` only, and it is signed with the key that it names."""

    key: PublicKey
