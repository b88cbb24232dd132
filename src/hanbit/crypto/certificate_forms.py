"""The bytes of a leaf, written from a form: leaves of one issuer, role and purpose differ in a few places, each of a fixed length.

    serial 16 · not before 13 · not after 13 · name (subject) · public point 65 · name (URN) · key identifier 20

A form is cut once out of what the library's own builder writes (`certificate_profile.builder`), with values of ours in those places. A
fresh temporary certificate is read by three parties and each writes it again to compare it: from a form in a seventh of the builder's time.
What fits into none (an authority, another length of serial, a year after 2049, an end before its beginning) the builder writes or refuses.
"""

import hashlib
from collections.abc import Mapping
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
_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
_SEQUENCE, _BIT_STRING, _LONG = 0x30, 0x03, 0x80


@dataclass(frozen=True, slots=True)
class _Form:
    """The bytes between the places, and which value goes where."""

    between: tuple[bytes, ...]
    places: tuple[str, ...]

    def filled(self, values: Mapping[str, bytes]) -> bytes:
        """The signed part of the certificate with these values."""
        parts = [self.between[0]]
        for place, after in zip(self.places, self.between[1:], strict=True):
            parts += (values[place], after)
        return b"".join(parts)


def signed_part(content: profile.Content, issuer: str, issuer_key: bytes) -> bytes:
    """What is signed of the certificate that says this (TBSCertificate in DER), byte for byte as `profile.builder` writes it."""
    name = content.urn.name.encode("ascii")
    fits = (
        content.serial.bit_length() == _SERIAL_BITS and content.serial > 0 and 0 <= content.not_before <= content.not_after <= _UTC_TIME_MAX
    )
    if not content.purpose or not name or not fits:
        return profile.builder(content, issuer, issuer_key).sign(profile.SCRATCH, SHA256()).tbs_certificate_bytes
    point = public_point(content.public)
    form = _form(content.urn.operator, content.urn.role, len(name), content.purpose, issuer, issuer_key)
    return form.filled(
        {
            "serial": content.serial.to_bytes(_SERIAL_BYTES),
            "not_before": _utc_time(content.not_before),
            "not_after": _utc_time(content.not_after),
            "name": name,
            "point": point,
            "identifier": hashlib.sha256(point).digest()[:20],
        }
    )


def sign(content: profile.Content, issuer: str, issuer_key: bytes, key: EllipticCurvePrivateKey) -> bytes:
    """The certificate in DER, signed with the issuer's key."""
    part = signed_part(content, issuer, issuer_key)
    signature = b"\0" + key.sign(part, ECDSA(SHA256()))
    return _der(_SEQUENCE, part + _ECDSA_SHA256 + _der(_BIT_STRING, signature))


@lru_cache(maxsize=FORMS_KEPT)
def _form(operator: str, role: str, name_length: int, purpose: str, issuer: str, issuer_key: bytes) -> _Form:
    name = _NAME * name_length
    urn = profile.Urn(f"urn:hanbit:{operator}:{role}:{name}", operator, role, name)
    content = profile.Content(urn, purpose, profile.SCRATCH.public_key(), _SERIAL, *_TIMES)
    part = profile.builder(content, issuer, issuer_key).sign(profile.SCRATCH, SHA256()).tbs_certificate_bytes
    values = {
        "serial": _SERIAL.to_bytes(_SERIAL_BYTES),
        "not_before": _utc_time(_TIMES[0]),
        "not_after": _utc_time(_TIMES[1]),
        "name": name.encode("ascii"),
        "point": public_point(content.public),
        "identifier": profile.key_identifier(content.public),
    }
    found = sorted((at, place) for place, value in values.items() for at in _occurrences(part, value))
    assert sorted(place for _, place in found) == sorted([*values, "name"]), "each value has its place, the name two"
    between, end = [], 0
    for at, place in found:
        between.append(part[end:at])
        end = at + len(values[place])
    return _Form((*between, part[end:]), tuple(place for _, place in found))


def _occurrences(part: bytes, value: bytes) -> list[int]:
    places, at = [], part.find(value)
    while at >= 0:
        places.append(at)
        at = part.find(value, at + len(value))
    return places


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
