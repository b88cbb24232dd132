"""A second writer of certificates, independent of the project's own, whose every value a test can spoil."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from hanbit.crypto import keys
from hanbit.crypto.certificates import PURPOSES, Authority

Extension = tuple[x509.ExtensionType, bool]


def name(operator: str, role: str, rest: str) -> x509.Name:
    oids = (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME)
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in zip(oids, (operator, role, rest), strict=True)])


def identifier(public: CertificatePublicKeyTypes) -> bytes:
    return sha256(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()[:20]


def usage(*which: str) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{each: each in which for each in names})


@dataclass(frozen=True)
class Draft:
    """All that a certificate says, and who signs it."""

    subject: x509.Name
    issuer: x509.Name
    public: CertificatePublicKeyTypes
    serial: int
    not_before: int
    not_after: int
    extensions: tuple[Extension, ...]
    signer: CertificateIssuerPrivateKeyTypes
    algorithm: hashes.SHA256 | hashes.SHA384 | None = dataclasses.field(default_factory=hashes.SHA256)

    def sign(self) -> bytes:
        builder = x509.CertificateBuilder(
            subject_name=self.subject,
            issuer_name=self.issuer,
            public_key=self.public,
            serial_number=self.serial,
            not_valid_before=datetime.fromtimestamp(self.not_before, UTC).replace(tzinfo=None),
            not_valid_after=datetime.fromtimestamp(self.not_after, UTC).replace(tzinfo=None),
        )
        for extension, critical in self.extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.signer, self.algorithm).public_bytes(Encoding.DER)

    def but(self, **changes: object) -> Draft:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # each test names the member it spoils

    def without(self, oid: ObjectIdentifier) -> Draft:
        return self.but(extensions=tuple(each for each in self.extensions if each[0].oid != oid))

    def replacing(self, extension: x509.ExtensionType, *, critical: bool) -> Draft:
        changed = tuple((extension, critical) if each[0].oid == extension.oid else each for each in self.extensions)
        assert changed != self.extensions
        return self.but(extensions=changed)

    def flag(self, oid: ObjectIdentifier, *, critical: bool) -> Draft:
        return self.but(extensions=tuple((each[0], critical) if each[0].oid == oid else each for each in self.extensions))

    def adding(self, extension: x509.ExtensionType, *, critical: bool) -> Draft:
        return self.but(extensions=(*self.extensions, (extension, critical)))


def leaf(authority: Authority, at: int, *, operator: str, role: str, rest: str, purpose: str, issuer_rest: str) -> Draft:
    public = keys.new_key().public_key()
    usages = [PURPOSES[purpose]]
    if purpose == "line":
        usages += [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    urn = f"urn:hanbit:{operator}:{role}:{rest}" if rest else f"urn:hanbit:{operator}:{role}"
    return Draft(
        subject=name(operator, role, rest or role),
        issuer=name(operator, "authority", issuer_rest),
        public=public,
        serial=2**126 + 12_345,
        not_before=at - 120,
        not_after=at + 86_400,
        extensions=(
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (usage("key_agreement" if purpose == "gateway-seal" else "digital_signature"), True),
            (x509.ExtendedKeyUsage(usages), True),
            (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(urn)]), False),
            (x509.SubjectKeyIdentifier(identifier(public)), False),
            (x509.AuthorityKeyIdentifier(identifier(authority.key.public_key()), None, None), False),
        ),
        signer=authority.key,
    )


def authority(
    issuer: Authority, at: int, key: EllipticCurvePrivateKey, *, operator: str, rest: str, path_length: int, issuer_rest: str
) -> Draft:
    public = key.public_key()
    return Draft(
        subject=name(operator, "authority", rest),
        issuer=name(operator, "authority", issuer_rest),
        public=public,
        serial=2**126 + 54_321,
        not_before=at - 120,
        not_after=at + 86_400,
        extensions=(
            (x509.BasicConstraints(ca=True, path_length=path_length), True),
            (usage("key_cert_sign", "crl_sign"), True),
            (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:hanbit:{operator}:authority:{rest}")]), False),
            (x509.SubjectKeyIdentifier(identifier(public)), False),
            (x509.AuthorityKeyIdentifier(identifier(issuer.key.public_key()), None, None), False),
        ),
        signer=issuer.key,
    )


def der(tag: int, content: bytes) -> bytes:
    """One DER element of up to 65,535 bytes."""
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x81" + bytes([size]) if size < 256 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def content_of(element: bytes) -> bytes:
    """What stands inside a DER element that is longer than 255 bytes."""
    assert element[1] == 0x82
    return element[4:]


def edit(certificate: bytes, key: EllipticCurvePrivateKey, change: Callable[[bytes], bytes], *, algorithm: bytes = b"") -> bytes:
    """Change the bytes inside the signed part, then sign it again with the issuer's key: only the encoding is wrong."""
    before = content_of(x509.load_der_x509_certificate(certificate).tbs_certificate_bytes)
    after = change(before)
    signed = der(0x30, after)
    signature = key.sign(signed, ECDSA(hashes.SHA256()))
    return der(0x30, signed + (algorithm or ECDSA_SHA256) + der(0x03, b"\0" + signature))


ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA256_NULL = bytes.fromhex("300c06082a8648ce3d0403020500")
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
