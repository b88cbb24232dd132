"""Lists of revoked certificates (X.509 v2 CRLs): made hourly by an authority, good for 25 hours, read as strictly as a chain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import SignatureAlgorithmOID

from hanbit.crypto import certificate_profile as profile
from hanbit.crypto.certificate_paths import UNREADABLE
from hanbit.kernel.errors import ProtocolViolation

LIFETIME_S: Final = 25 * 3_600
NOT_BEFORE_OFFSET_S: Final = 120
CRL_BYTES_MAX: Final = 1_048_576
"""Some 25,000 revoked certificates; each leaves the list when it has expired."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What a list says that an authority signed; only `read_crl` makes one. Instants are seconds since 1970."""

    serials: frozenset[int]
    number: int
    this_update: int
    next_update: int

    def check_current(self, at: int) -> None:
        """ProtocolViolation unless the list is good at this moment."""
        if not self.this_update <= at <= self.next_update:
            raise ProtocolViolation("crl_dates", "the list is not current")


def make_crl(issuer: profile.Authority, revoked: Mapping[int, int], at: int, number: int) -> bytes:
    """The authority's list {serial: revoked at}, in DER; `number` grows from list to list."""
    content = issuer.content
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(content.urn.subject)
        .last_update(_instant(at - NOT_BEFORE_OFFSET_S))
        .next_update(_instant(at + LIFETIME_S))
    )
    for extension in _extensions(content, number):
        builder = builder.add_extension(extension, critical=False)
    for serial, revoked_at in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_instant(revoked_at)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.DER)


def verify_crl(unverified: bytes, issuer_certificate: bytes, at: int) -> frozenset[int]:
    """The revoked serials of a list that this (already verified) authority signed and that is current at `at`.

    1. at most 1 MiB of DER, ECDSA P-256 with SHA-256                             crl_unreadable
    2. this authority's name, its key identifier and a number, nothing else       crl_profile
    3. its signature                                                              crl_signature
    4. no entry says more than a serial and a date                                crl_profile
    5. this update <= at <= next update: a stale list stops the role              crl_dates
    """
    found = read_crl(unverified, issuer_certificate)
    found.check_current(at)
    return found.serials


def read_crl(unverified: bytes, issuer_certificate: bytes) -> RevocationList:
    """Rules 1 to 4 of `verify_crl`: what the list says, however old it is."""
    if len(unverified) > CRL_BYTES_MAX:
        raise ProtocolViolation("crl_unreadable", "the list is too long")
    issuer = profile.Content.read(x509.load_der_x509_certificate(issuer_certificate))
    try:
        return _read(x509.load_der_x509_crl(unverified), issuer)
    except UNREADABLE as error:
        raise ProtocolViolation("crl_unreadable", "not a list of ours") from error


def _read(crl: x509.CertificateRevocationList, issuer: profile.Content) -> RevocationList:
    if crl.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise ProtocolViolation("crl_unreadable", "signature algorithm")
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    expected = [(extension, False) for extension in _extensions(issuer, number)]
    if crl.issuer != issuer.urn.subject or [(found.value, found.critical) for found in crl.extensions] != expected:
        raise ProtocolViolation("crl_profile", "issuer or extensions")
    if not crl.is_signature_valid(issuer.public):
        raise ProtocolViolation("crl_signature", "not signed by its issuer")
    if crl.next_update_utc is None:
        raise ProtocolViolation("crl_dates", "the list never ends")
    if any(len(entry.extensions) for entry in crl):
        raise ProtocolViolation("crl_profile", "an entry has extensions")
    return RevocationList(
        serials=frozenset(entry.serial_number for entry in crl),
        number=number,
        this_update=int(crl.last_update_utc.timestamp()),
        next_update=int(crl.next_update_utc.timestamp()),
    )


def _extensions(issuer: profile.Content, number: int) -> list[x509.ExtensionType]:
    return [x509.AuthorityKeyIdentifier(profile.key_identifier(issuer.public), None, None), x509.CRLNumber(number)]


def _instant(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
