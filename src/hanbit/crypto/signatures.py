"""ECDSA on P-256 with SHA-256 in the form of JWS ES256: 64 bytes, r || s (RFC 7518 section 3.4)."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from hanbit.kernel.errors import ProtocolViolation

SIGNATURE_BYTES = 64
_HALF = 32
_ES256 = ec.ECDSA(hashes.SHA256())
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The number of points on P-256 (FIPS 186-5); r and s lie between 1 and this, both excluded at the top."""


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign these very bytes: 64 bytes, r || s."""
    r, s = decode_dss_signature(key.sign(data, _ES256))
    return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")


def verify(public: ec.EllipticCurvePublicKey, data: bytes, unverified_signature: bytes) -> None:
    """Return if the signature is this key's over these bytes, else raise ProtocolViolation("signature").

    Both s and n - s verify, as in every ES256: a message is named by its hash, never by its signature.
    """
    if len(unverified_signature) != SIGNATURE_BYTES:
        raise ProtocolViolation("signature", "64 bytes expected")
    r = int.from_bytes(unverified_signature[:_HALF], "big")
    s = int.from_bytes(unverified_signature[_HALF:], "big")
    if not (0 < r < _ORDER and 0 < s < _ORDER):
        raise ProtocolViolation("signature", "r or s is out of range")
    try:
        public.verify(encode_dss_signature(r, s), data, _ES256)
    except InvalidSignature as error:
        raise ProtocolViolation("signature", "the signature does not match") from error
