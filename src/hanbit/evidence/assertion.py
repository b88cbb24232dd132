"""A passkey's signature under a payment, checked offline: what WebAuthn level 2, section 7.2 asks for that can still be asked later. Pure.

The challenge is the hash of what was approved; the counter, the session and whose passkey it is were the operator's to check at the time.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation

PRESENT, VERIFIED = 0x01, 0x04
_DATA_MIN: Final = 37
"""Bytes of an authenticator's data: the site's hash, flags, counter."""
_KTY, _ALG = 1, 3
_ES256, _EDDSA, _RS256 = -7, -8, -257
_RSA_BITS = range(2_048, 8_193)
_DEPTH_MAX = 1
_MAP, _BYTES, _POSITIVE, _NEGATIVE = 5, 2, 0, 1


@dataclass(frozen=True, slots=True)
class Asserted:
    """What a verified assertion says beside its challenge."""

    origin: str
    """The page on which the customer approved."""


class _Response(msgspec.Struct, frozen=True):
    clientDataJSON: str  # noqa: N815 - the standard's own name
    authenticatorData: str  # noqa: N815 - the standard's own name
    signature: str


class _Credential(msgspec.Struct, frozen=True):
    id: str
    response: _Response


class _Client(msgspec.Struct, frozen=True):
    type: str
    challenge: str
    origin: str


def verify_assertion(unverified: str, *, passkey: str, key: str, challenge: bytes) -> Asserted:
    """Verify an AuthenticationResponseJSON; whatever is wrong is ProtocolViolation("passkey").

    1. it is of this passkey
    2. type, challenge, and a site of which the origin is a page
    3. somebody was present and was verified
    4. the signature under the registered key
    """
    try:
        credential = msgspec.json.decode(unverified, type=_Credential)
        client_bytes = ids.decode_base64url(credential.response.clientDataJSON)
        client = msgspec.json.decode(client_bytes, type=_Client)
        data = ids.decode_base64url(credential.response.authenticatorData)
        signature = ids.decode_base64url(credential.response.signature)
        public = read_cose(ids.decode_base64url(key))
        host = urlsplit(client.origin).hostname or ""
    except (msgspec.MsgspecError, BadInput, UnicodeError, RecursionError, ValueError) as error:
        raise ProtocolViolation("passkey", "the assertion cannot be read") from error
    if credential.id != passkey:
        raise ProtocolViolation("passkey", "of another passkey")
    if client.type != "webauthn.get" or client.challenge != ids.encode_base64url(challenge):
        raise ProtocolViolation("passkey", "made for something else than this payment")
    if len(data) < _DATA_MIN or data[:32] not in {hashlib.sha256(site.encode()).digest() for site in _sites(host)}:
        raise ProtocolViolation("passkey", "made for another site than its page")
    if data[32] & (PRESENT | VERIFIED) != PRESENT | VERIFIED:
        raise ProtocolViolation("passkey", "nobody was there, or nobody was asked who he is")
    _check_signature(public, data + hashlib.sha256(client_bytes).digest(), signature)
    return Asserted(client.origin)


def read_cose(data: bytes) -> Any:
    """A public key of one of the three kinds that are registered: ES256, EdDSA, RS256 (RFC 9053)."""
    reader = _Cbor(data)
    members = reader.value(0)
    if reader.rest or not isinstance(members, dict):
        raise ValueError("no COSE key")
    kind = members.get(_KTY), members.get(_ALG)
    try:
        if kind == (2, _ES256) and members.get(-1) == 1:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + members[-2] + members[-3])
        if kind == (1, _EDDSA) and members.get(-1) == 6:  # noqa: PLR2004 - Ed25519 (RFC 9053 section 7.1)
            return ed25519.Ed25519PublicKey.from_public_bytes(members[-2])
        if kind == (3, _RS256):
            public = rsa.RSAPublicNumbers(int.from_bytes(members[-2], "big"), int.from_bytes(members[-1], "big")).public_key()
            if public.key_size in _RSA_BITS:
                return public
    except (KeyError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("no COSE key") from error
    raise ValueError("no COSE key of a kind that is registered")


def _sites(host: str) -> list[str]:
    """The host and what it is under: an authenticator signs for any of them (section 5.1.3)."""
    labels = host.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def _check_signature(public: Any, signed: bytes, signature: bytes) -> None:
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        elif isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, signed)
        else:
            public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise ProtocolViolation("passkey", "the signature does not match") from error


class _Cbor:
    """As much of CBOR (RFC 8949) as a COSE key is made of: one map of whole numbers to whole numbers and bytes."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def value(self, depth: int) -> Any:
        """The next value; ValueError where it is of another kind."""
        major, size = self._head()
        if major == _POSITIVE:
            return size
        if major == _NEGATIVE:
            return -1 - size
        if major == _BYTES:
            return self._take(size)
        if major == _MAP and depth < _DEPTH_MAX:
            return {self.value(depth + 1): self.value(depth + 1) for _ in range(min(size, 16))}
        raise ValueError("a kind of value that no key has")

    def _head(self) -> tuple[int, int]:
        first = self._take(1)[0]
        major, short = first >> 5, first & 31
        if short < 24:  # noqa: PLR2004 - RFC 8949 section 3: the size itself
            return major, short
        if short > 27:  # noqa: PLR2004 - RFC 8949 section 3: reserved or endless
            raise ValueError("an endless value")
        return major, int.from_bytes(self._take(1 << (short - 24)), "big")

    def _take(self, size: int) -> bytes:
        if size > len(self.rest):
            raise ValueError("too short")
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken
