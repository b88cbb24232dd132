"""Reading certificates: a chain becomes a VerifiedCertificate here and nowhere else.

Each certificate must be, byte for byte, the one that we would have written from its own values, so that every defect that can be
thought of falls under one comparison: no extension, flag, name form, encoding or algorithm of others is ever interpreted.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.utils import CryptographyDeprecationWarning

from hanbit.crypto import certificate_forms as forms
from hanbit.crypto import certificate_profile as profile
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation

CERTIFICATE_BYTES_MAX: Final = 2_048
"""Our own have some 650."""
CHAIN_MAX: Final = 3
AUTHORITIES_KEPT: Final = 1_024
"""Certificates of authorities that are remembered by their bytes: each merchant has one of its own for its customers' sessions."""
UNREADABLE: Final = (
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,  # where warnings are errors: a bad serial, parameters that ECDSA does not have
)
"""All that the parser raises over bytes from outside."""


@dataclass(frozen=True, slots=True)
class VerifiedCertificate:
    """A leaf whose chain leads to the pinned root; only `verify_chain` makes one.

    `not_before` and `not_after` are those of the whole chain, so that a kept one never outlives an authority above it;
    `serials` are those of the chain, leaf first, to be looked up among the revoked.
    """

    kid: str
    urn: str
    purpose: str
    public: EllipticCurvePublicKey
    chain: tuple[bytes, ...]
    not_before: int
    not_after: int
    serials: tuple[int, ...]


def kid(der: bytes) -> str:
    """The name of a certificate's key: base64url SHA-256 of the leaf's DER."""
    return ids.encode_base64url(hashlib.sha256(der).digest())


def verify_chain(chain: Sequence[bytes], *, root: bytes, at: int, operator: str) -> VerifiedCertificate:
    """Verify a chain from outside (leaf first, without the root) under the pinned root; raises only ProtocolViolation.

    1. the chain holds one to three certificates of at most 2,048 bytes                      certificate_chain
    2. each can be read: DER, one URN of ours, P-256, a purpose of ours or an authority      certificate_unreadable
    3. the root is the pinned one, is of the profile, and belongs to this operator           certificate_root
    4. the leaf is no authority, and each certificate names this operator                    certificate_operator
    5. the authorities are exactly those that may issue this purpose to this role, in order  certificate_issuer
    6. each is byte for byte what we would have written: version, algorithms, names, key
       encoding, extensions, their order and flags, path length, key identifiers             certificate_profile
    7. each signature is its issuer's                                                        certificate_signature
    8. each is valid at `at`, the root too                                                   certificate_dates
    """
    return _verify(chain, profile.path_of, root=root, at=at, operator=operator)


def verify_session_authority(chain: Sequence[bytes], *, root: bytes, at: int, operator: str) -> VerifiedCertificate:
    """The same rules for a merchant's session authority (its own certificate first), in rule 4 an authority instead of a leaf."""
    return _verify(chain, profile.path_of_authority, root=root, at=at, operator=operator)


def _verify(
    chain: Sequence[bytes], path_of: Callable[[profile.Urn, str], tuple[str, ...]], *, root: bytes, at: int, operator: str
) -> VerifiedCertificate:
    if not 1 <= len(chain) <= CHAIN_MAX:
        raise ProtocolViolation("certificate_chain", "one to three certificates are expected")
    _, top = _root_of(operator, root)
    read = [_read(chain[0]), *(_read_authority(der) for der in chain[1:])]
    certificates, contents = [certificate for certificate, _ in read], [content for _, content in read]
    leaf = contents[0]
    if any(content.urn.operator != operator for content in contents):
        raise ProtocolViolation("certificate_operator", "the certificate belongs to another operator")
    try:
        expected = path_of(leaf.urn, leaf.purpose)
    except ValueError as error:
        raise ProtocolViolation("certificate_issuer", str(error)) from error
    if tuple(content.urn.text for content in contents[1:]) != expected:
        what = leaf.purpose or "session authority's"
        raise ProtocolViolation("certificate_issuer", f"a {what} certificate stands under {' and '.join(expected)}")
    above = (*chain[1:], root)
    _, issuer = _read_authority(above[0])
    _check_profile(certificates[0], leaf, issuer.urn.text, profile.key_identifier(issuer.public))
    for der, issuer_der in pairwise(above):
        _check_authority_profile(der, issuer_der)
    _check_signature(chain[0], certificates[0], issuer)
    for der, issuer_der in pairwise(above):
        _check_authority_signature(der, issuer_der)
    not_before = max(content.not_before for content in (*contents, top))
    not_after = min(content.not_after for content in (*contents, top))
    if not not_before <= at <= not_after:
        raise ProtocolViolation("certificate_dates", "expired" if at > not_after else "not yet valid")
    return VerifiedCertificate(
        kid=kid(chain[0]),
        urn=leaf.urn.text,
        purpose=leaf.purpose,
        public=leaf.public,
        chain=tuple(chain),
        not_before=not_before,
        not_after=not_after,
        serials=tuple(content.serial for content in contents),
    )


def read_root(unverified: bytes) -> profile.Content:
    """What a certificate says that somebody wants to pin: a root of our profile, signed by itself; else ProtocolViolation.

    This says nothing about whose it is: whoever pins it compares its thumbprint with the operator by another way.
    """
    return _read_root(unverified)[1]


def verify_presented(der: bytes, *, root: bytes, at: int, operator: str) -> profile.Content:
    """What a leaf says whose chain to this very root OpenSSL has verified in a handshake, the authorities being out of our sight.

    Rules 2 to 6 and 8 of `verify_chain` for the leaf alone. Rule 5 rests on the issuer's name: every authority under the root has
    been named by the operator, so that nobody else has that name (a session authority, whose key a merchant holds, least of all).
    """
    _root_of(operator, root)
    certificate, leaf = _read(der)
    if leaf.urn.operator != operator:
        raise ProtocolViolation("certificate_operator", "the certificate belongs to another operator")
    try:
        issuer = profile.path_of(leaf.urn, leaf.purpose)[0]
        issuer_key = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except UNREADABLE as error:
        raise ProtocolViolation("certificate_issuer", str(error)) from error
    _check_profile(certificate, leaf, issuer, issuer_key or b"")
    if not leaf.not_before <= at <= leaf.not_after:
        raise ProtocolViolation("certificate_dates", "expired" if at > leaf.not_after else "not yet valid")
    return leaf


def _root_of(operator: str, der: bytes) -> tuple[x509.Certificate, profile.Content]:
    certificate, content = _read_root(der)
    if content.urn.operator != operator:
        raise ProtocolViolation("certificate_root", "the root belongs to another operator")
    return certificate, content


def _read(der: bytes) -> tuple[x509.Certificate, profile.Content]:
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise ProtocolViolation("certificate_chain", "a certificate is too long")
    try:
        certificate = x509.load_der_x509_certificate(der)
        return certificate, profile.Content.read(certificate)
    except UNREADABLE as error:
        raise ProtocolViolation("certificate_unreadable", "not a certificate of ours") from error


@lru_cache(maxsize=AUTHORITIES_KEPT)
def _read_authority(der: bytes) -> tuple[x509.Certificate, profile.Content]:
    """Authorities are the same in many chains, so what these very bytes are is looked at once; a refusal is not kept."""
    return _read(der)


@lru_cache(maxsize=AUTHORITIES_KEPT)
def _check_authority_profile(der: bytes, issuer_der: bytes) -> None:
    (certificate, content), (_, issuer) = _read_authority(der), _read_authority(issuer_der)
    _check_profile(certificate, content, issuer.urn.text, profile.key_identifier(issuer.public))


@lru_cache(maxsize=AUTHORITIES_KEPT)
def _check_authority_signature(der: bytes, issuer_der: bytes) -> None:
    _check_signature(der, _read_authority(der)[0], _read_authority(issuer_der)[1])


@lru_cache(maxsize=16)
def _read_root(der: bytes) -> tuple[x509.Certificate, profile.Content]:
    """The pinned root is the same for every chain, so it is looked at once (a refusal is not kept)."""
    try:
        certificate, content = _read(der)
        _check_profile(certificate, content, content.urn.text, profile.key_identifier(content.public))
        _check_signature(der, certificate, content)
    except ProtocolViolation as error:
        raise ProtocolViolation("certificate_root", error.detail) from error
    if content.urn.text != profile.authority_urn(content.urn.operator, "root"):
        raise ProtocolViolation("certificate_root", "the pinned certificate is no root")
    return certificate, content


def _check_profile(certificate: x509.Certificate, content: profile.Content, issuer: str, issuer_key: bytes) -> None:
    """Write the certificate again from its values and compare: what is not equal is not of the profile."""
    try:
        if certificate.tbs_certificate_bytes == forms.signed_part(content, issuer, issuer_key):
            return
        expected = profile.builder(content, issuer, issuer_key).sign(profile.SCRATCH, SHA256())
    except UNREADABLE as error:
        raise ProtocolViolation("certificate_profile", "a value that we never write") from error
    raise ProtocolViolation("certificate_profile", f"{_difference(certificate, expected)} not as this purpose requires")


def _difference(found: x509.Certificate, expected: x509.Certificate) -> str:
    """Say where to look; the refusal rests on the bytes alone."""
    try:
        if found.signature_algorithm_oid != expected.signature_algorithm_oid:
            return "signature algorithm"
        if found.subject != expected.subject:
            return "subject"
        if found.issuer != expected.issuer:
            return "issuer"
        if list(found.extensions) != list(expected.extensions):
            return "extensions"
    except UNREADABLE:  # names are parsed only here, long after the certificate was loaded
        pass
    return "encoding"


def _check_signature(der: bytes, certificate: x509.Certificate, issuer: profile.Content) -> None:
    """The issuer's key signed it, and the algorithm named outside the signed part is the one named inside (which is of the profile)."""
    part, signature = certificate.tbs_certificate_bytes, certificate.signature
    try:
        issuer.public.verify(signature, part, ECDSA(SHA256()))
    except (InvalidSignature, *UNREADABLE) as error:
        raise ProtocolViolation("certificate_signature", "not signed by its issuer") from error
    if forms.whole(part, signature) != der:
        raise ProtocolViolation("certificate_signature", "another algorithm outside than inside")
