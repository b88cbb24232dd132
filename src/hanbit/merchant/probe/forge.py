"""Messages written by hand: any header, any payload bytes, any signature; what `protocols.signed` would never let out."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from hanbit.crypto import keys, signatures
from hanbit.kernel import ids
from hanbit.protocols.fields import Message
from hanbit.protocols.signed import Signer, encode_der, head

_HALF = 32
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256 (FIPS 186-5)."""

Edit = Callable[[bytes], bytes]
MakeSignature = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before it is signed: everything in it can still be changed."""

    header: dict[str, Any]
    claims: dict[str, Any]
    key: ec.EllipticCurvePrivateKey

    def but(self, **claims: Any) -> Self:
        """With these claims; None takes one away."""
        changed = {name: value for name, value in (self.claims | claims).items() if value is not None}
        return replace(self, claims=changed)

    def headed(self, **header: Any) -> Self:
        """With these members in the protected header; None takes one away."""
        changed = {name: value for name, value in (self.header | header).items() if value is not None}
        return replace(self, header=changed)

    def by(self, key: ec.EllipticCurvePrivateKey) -> Self:
        """Signed with another key, whatever the header says."""
        return replace(self, key=key)

    def compact(self, *, payload: Edit | None = None, header: Edit | None = None, signature: MakeSignature | None = None) -> str:
        """The bytes; `payload` and `header` change the JSON text before it is signed, `signature` signs in place of the key."""
        header_text, payload_text = _json(self.header), _json(self.claims)
        first = ids.encode_base64url(header_text if header is None else header(header_text))
        second = ids.encode_base64url(payload_text if payload is None else payload(payload_text))
        signed = f"{first}.{second}"
        made = (signature or self.sign)(signed.encode("ascii"))
        return f"{signed}.{ids.encode_base64url(made)}"

    def sign(self, data: bytes) -> bytes:
        """An ordinary ES256 signature."""
        return signatures.sign(self.key, data)


def draft(kind: type[Message], signer: Signer, audience: str, at: int, **claims: Any) -> Draft:
    """What an honest signer would write: exact header, common claims, and these."""
    header = {"alg": "ES256", "typ": kind.TYP, "kid": signer.kid, "x5c": [encode_der(der) for der in signer.chain]}
    return Draft(header, head(signer, audience, at) | {name: value for name, value in claims.items() if value is not None}, signer.key)


def der_signature(key: ec.EllipticCurvePrivateKey) -> MakeSignature:
    """ES256 in ASN.1 DER, as many libraries give it, where JWS has r and s side by side."""

    def made(data: bytes) -> bytes:
        plain = signatures.sign(key, data)
        return encode_dss_signature(int.from_bytes(plain[:_HALF], "big"), int.from_bytes(plain[_HALF:], "big"))

    return made


def mac_signature(public: ec.EllipticCurvePublicKey, algorithm: str) -> MakeSignature:
    """HS256, HS384 or HS512 under the signer's public key as PEM: a verifier that lets the header choose would take it."""
    secret = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return lambda data: hmac.digest(secret, data, f"sha{algorithm.removeprefix('HS')}")


def mirrored(compact: str) -> str:
    """The same message with the other valid signature, n - s: other bytes, and still its signer's."""
    signed, _, signature = compact.rpartition(".")
    plain = ids.decode_base64url(signature)
    other = (_N - int.from_bytes(plain[_HALF:], "big")).to_bytes(_HALF, "big")
    return f"{signed}.{ids.encode_base64url(plain[:_HALF] + other)}"


def jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public half as a header would carry it."""
    return keys.public_jwk(key.public_key())


def hashes_of(frame: str) -> set[str]:
    """The names by which an answer may refer to this frame: of all its bytes, or of the message before a line feed."""
    return {_hash(frame), _hash(frame.partition("\n")[0])}


def _hash(text: str) -> str:
    return ids.encode_base64url(hashlib.sha256(text.encode("utf-8", "replace")).digest())


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
