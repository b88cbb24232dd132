"""Sealed messages: what may be sealed to a key or under a secret in our profile of JWE, and the derivations beside them.

    to a key        header exactly alg, enc, typ, kid, epk and the claims that both sides expect
    under a secret  header exactly alg, enc, typ and claims (ctx, sequence, tid, sid); the receiver compares them

Whatever does not open gets the one error ProtocolViolation("sealed").
"""

import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hanbit.crypto import jwe

SECRET_BYTES: Final = jwe.KEY_BYTES
_NO_CLAIMS: Final[Mapping[str, str | int]] = MappingProxyType({})
_SHA256 = SHA256()


def seal_to_key(
    public: ec.EllipticCurvePublicKey, kid: str, plaintext: bytes, typ: str, extra_header: Mapping[str, str | int] = _NO_CLAIMS
) -> str:
    """Seal to the key that `kid` names; `extra_header` holds further claims (ctx, sequence, tid, sid), sent in clear."""
    return jwe.encrypt_to_key(public, {"typ": typ, "kid": kid, **extra_header}, plaintext)


def open_with_key(
    unverified: str, private: ec.EllipticCurvePrivateKey, *, typ: str, expected_kid: str, extra_header: Mapping[str, str | int] = _NO_CLAIMS
) -> bytes:
    """The plaintext, if this is sealed to this key under exactly this typ, kid and further claims."""
    parts = jwe.read(unverified)
    if parts.header["alg"] != jwe.TO_KEY:
        jwe.refuse()
    claims = {name: value for name, value in parts.header.items() if name not in {"alg", "enc", "epk"}}
    if claims != {"typ": typ, "kid": expected_kid, **extra_header}:
        jwe.refuse()
    return jwe.decrypt_with_key(parts, private)


def seal_with_secret(secret: bytes, plaintext: bytes, header_claims: Mapping[str, str | int]) -> str:
    """Seal under a shared secret of 32 bytes; `header_claims` are typ and further claims, sent in clear."""
    _whole_secret(secret)
    return jwe.encrypt_with_secret(secret, header_claims, plaintext)


def open_with_secret(unverified: str, secret: bytes) -> tuple[dict[str, object], bytes]:
    """The header, for the caller to compare with what he expects, and the plaintext; both are authentic."""
    _whole_secret(secret)
    parts = jwe.read(unverified)
    if parts.header["alg"] != jwe.DIRECT or "typ" not in parts.header or "kid" in parts.header:
        jwe.refuse()
    return parts.header, jwe.decrypt(secret, parts)


def peek_header(unverified: str) -> dict[str, object]:
    """The header before anything is opened: only good for choosing the key with which to try."""
    header = jwe.read(unverified).header
    if "typ" not in header or ("kid" in header) is not (header["alg"] == jwe.TO_KEY):
        jwe.refuse()
    return header


def derive(secret: bytes, *, salt: bytes, info: bytes, length: int = SECRET_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869); an empty secret is our own bug: ValueError."""
    _not_empty(secret)
    return HKDF(_SHA256, length, salt, info).derive(secret)


def mac(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes; an empty key is our own bug: ValueError."""
    _not_empty(key)
    return hmac.digest(key, data, "sha256")


def equal(secret: bytes, unverified: bytes) -> bool:
    """Compare in a time that does not tell where they differ; an empty secret of ours is our own bug: ValueError."""
    _not_empty(secret)
    return hmac.compare_digest(secret, unverified)


def _not_empty(secret: bytes) -> None:
    """An empty secret would agree with everybody who knows nothing."""
    if not secret:
        raise ValueError("empty secret")


def _whole_secret(secret: bytes) -> None:
    if len(secret) != SECRET_BYTES:
        raise ValueError("a secret for sealing has 32 bytes")
