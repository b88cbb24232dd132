"""The bytes of a leaf, written from a form: leaves of one issuer, role and purpose differ in a few places, each of a fixed length.

    serial 16 · not before 13 · not after 13 · name (subject) · public point 65 · name (URN) · key identifier 20

A form is cut once out of what the library's own builder writes (`certificate_profile.builder`), with values of ours in those places. A
fresh temporary certificate is read by three parties and each writes it again to compare it: from a form in a seventh of the builder's time.
What fits into none (an authority, another length of serial, a year after 2049, an end before its beginning) the builder writes or refuses.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from hanbit.crypto import certificate_profile as profile
from hanbit.crypto.keys import public_point

FORMS_KEPT: Final = 1_024
_SERIAL_BITS: Final = 127
_SERIAL_BYTES: Final = 16
_UTC_TIME_MAX: Final = int(datetime(2050, 1, 1, tzinfo=UTC).timestamp()) - 1
"""The last second that X.509 writes with a year of two digits (RFC 5280 section 4.1.2.5)."""
_TIMES: Final = (1_000_000_000, 1_000_000_001)
_SERIAL: Final = 0x5A_11_0D_E5_0F_F0_12_34_56_78_9A_BC_DE_F0_0F_5A
"""Values that stand in a form's places until it is cut; none of them occurs in a certificate by chance."""
_NAME: Final = "~"
"""No name has it."""
_COMMON_NAME: Final = bytes.fromhex("06035504030c")
"""The object identifier 2.5.4.3 and the tag of its text; the text's length comes next."""
_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
_SEQUENCE, _BIT_STRING, _LONG = 0x30, 0x03, 0x80


@dataclass(frozen=True, slots=True)
class _Form:
    """The bytes between the places."""

    between: tuple[bytes, ...]

    def filled(self, *values: bytes) -> bytes:
        """The signed part of the certificate with these values, in the order in which they stand there."""
        parts = [self.between[0]]
        for value, after in zip(values, self.between[1:], strict=True):
            parts += (value, after)
        return b"".join(parts)


def signed_part(content: profile.Content, issuer: str, issuer_key: bytes) -> bytes:
    """What is signed of the certificate that says this (TBSCertificate in DER), byte for byte as `profile.builder` writes it."""
    name = content.urn.name.encode("ascii")
    fits = (
        content.serial.bit_length() == _SERIAL_BITS and content.serial > 0 and 0 <= content.not_before <= content.not_after <= _UTC_TIME_MAX
    )
    form = None
    if content.purpose and name and fits:
        form = _form(content.urn.operator, content.urn.role, len(name), content.purpose, issuer, issuer_key)
    if form is None:
        return profile.builder(content, issuer, issuer_key).sign(profile.SCRATCH, SHA256()).tbs_certificate_bytes
    point = public_point(content.public)
    return form.filled(
        content.serial.to_bytes(_SERIAL_BYTES),
        _utc_time(content.not_before),
        _utc_time(content.not_after),
        name,
        point,
        name,
        hashlib.sha256(point).digest()[:20],
    )


def sign(content: profile.Content, issuer: str, issuer_key: bytes, key: EllipticCurvePrivateKey) -> bytes:
    """The certificate in DER, signed with the issuer's key."""
    part = signed_part(content, issuer, issuer_key)
    return whole(part, key.sign(part, ECDSA(SHA256())))


def whole(part: bytes, signature: bytes) -> bytes:
    """The certificate in DER, from what is signed of it and the signature."""
    return _der(_SEQUENCE, part + _ECDSA_SHA256 + _der(_BIT_STRING, b"\0" + signature))


@lru_cache(maxsize=FORMS_KEPT)
def _form(operator: str, role: str, name_length: int, purpose: str, issuer: str, issuer_key: bytes) -> _Form | None:
    """Cut where each of our values stands exactly once; None should one stand elsewhere too, which the builder then writes."""
    name = _NAME * name_length
    before = f"urn:hanbit:{operator}:{role}:"
    content = profile.Content(profile.Urn(before + name, operator, role, name), purpose, profile.SCRATCH.public_key(), _SERIAL, *_TIMES)
    part = profile.builder(content, issuer, issuer_key).sign(profile.SCRATCH, SHA256()).tbs_certificate_bytes
    text = name.encode("ascii")
    marked = (  # what stands before a value and tells its place, and the value; in the order in which they stand in a certificate
        (b"", _SERIAL.to_bytes(_SERIAL_BYTES)),
        (b"", _utc_time(_TIMES[0])),
        (b"", _utc_time(_TIMES[1])),
        (_COMMON_NAME + bytes((name_length,)), text),
        (b"", public_point(content.public)),
        (before.encode("ascii"), text),
        (b"", profile.key_identifier(content.public)),
    )
    between, end = [], 0
    for mark, value in marked:
        if part.count(mark + value) != 1:
            return None
        at = part.index(mark + value) + len(mark)
        between.append(part[end:at])
        end = at + len(value)
    return _Form((*between, part[end:]))


@lru_cache(maxsize=FORMS_KEPT)
def _utc_time(at: int) -> bytes:
    return datetime.fromtimestamp(at, UTC).strftime("%y%m%d%H%M%SZ").encode("ascii")


def _der(tag: int, content: bytes) -> bytes:
    """One value with its tag and length (X.690 section 8.1.3)."""
    length = len(content)
    if length < _LONG:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, _LONG | size)) + length.to_bytes(size) + content
