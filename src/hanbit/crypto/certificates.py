"""The operator's certificate authority: roots, authorities, leaves, requests for them, and chains in files.

What a certificate looks like stands in `certificate_profile`, how a chain is verified in `certificate_paths`, lists of the
revoked in `revocation`; their public names are here too, because to its callers all this is one thing.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hanbit.crypto import certificate_forms as forms
from hanbit.crypto import certificate_profile as profile
from hanbit.crypto.certificate_paths import UNREADABLE, VerifiedCertificate, kid, verify_chain, verify_session_authority
from hanbit.crypto.certificate_profile import PURPOSES, Authority, authority_urn, session_authority
from hanbit.crypto.revocation import RevocationList, make_crl, read_crl, verify_crl
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation

__all__ = [
    "NOT_BEFORE_OFFSET_S",
    "PURPOSES",
    "Authority",
    "CertificateRequest",
    "RevocationList",
    "VerifiedCertificate",
    "authority_urn",
    "certificate_request",
    "check_own",
    "dump_chain_pem",
    "issued_at",
    "kid",
    "load_chain_pem",
    "make_authority",
    "make_crl",
    "make_leaf",
    "make_root",
    "own_content",
    "public_of",
    "read_crl",
    "read_request",
    "renew_at",
    "serial_of",
    "session_authority",
    "urn_of",
    "validity",
    "verify_chain",
    "verify_crl",
    "verify_session_authority",
]

NOT_BEFORE_OFFSET_S: Final = 120
"""A new certificate is good for peers whose clock is a little behind."""
RENEWED_BEFORE_END_S: Final = 36 * profile.DAY_S
"""Of 90 days; of a shorter life two fifths."""
REQUEST_BYTES_MAX: Final = 2_048
CHAIN_FILE_BYTES_MAX: Final = 32_768
_SERIAL_BITS = 127


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A verified request: the asker holds the key. `urn` is what the asker calls himself (empty: not known yet), never a proof of it."""

    urn: str
    purpose: str
    public: EllipticCurvePublicKey


def make_root(operator: str, key: EllipticCurvePrivateKey, at: int) -> bytes:
    """The operator's root: 20 years, path length 2; everybody pins these very bytes."""
    content = _authority(operator, "root", key.public_key(), at)
    return _issue(content, content, key)


def make_authority(issuer: Authority, operator: str, name: str, public: EllipticCurvePublicKey, path_length: int, at: int) -> bytes:
    """An authority below the root: `gateway` (0), `merchant` (1) or `session:<merchant>` (0), as in the profile."""
    content = _authority(operator, name, public, at)
    if ids.is_test(operator) and name.startswith(profile.SESSION):  # for whoever has not followed a moved clock, as with leaves
        content = replace(content, not_before=issuer.content.not_before)
    if path_length != profile.kind_of(content.urn).path_length:
        raise ValueError(f"the path length of {name} is {profile.kind_of(content.urn).path_length}")
    above = profile.authority_urn(operator, "merchant" if name.startswith(profile.SESSION) else "root")
    if issuer.content.urn.text != above:
        raise ValueError(f"{content.urn.text} is issued by {above}")
    return _issue(content, issuer.content, issuer.key)


def make_leaf(
    issuer: Authority,
    *,
    urn: str,
    purpose: str,
    public: EllipticCurvePublicKey,
    at: int,
    lifetime_s: int,
    not_before_offset_s: int = NOT_BEFORE_OFFSET_S,
) -> bytes:
    """A leaf for one party and purpose; it ends with its issuer at the latest. A purpose that is not the issuer's is ValueError."""
    leaf, above = profile.Urn.read(urn), issuer.content
    if profile.path_of(leaf, purpose)[0] != above.urn.text:
        raise ValueError(f"{above.urn.text} does not issue {purpose} to {urn}")
    content = profile.Content(
        urn=leaf,
        purpose=purpose,
        public=public,
        serial=_new_serial(),
        # A test operator's clock is moved ahead of everybody's: who has not followed yet must be able to read what it signs.
        not_before=above.not_before if ids.is_test(leaf.operator) else max(at - not_before_offset_s, above.not_before),
        not_after=min(at + lifetime_s, above.not_after),
    )
    return _issue(content, above, issuer.key)


def urn_of(leaf: bytes) -> str:
    """The party that one's own certificate names."""
    return profile.Content.read(x509.load_der_x509_certificate(leaf)).urn.text


@lru_cache(maxsize=256)
def own_content(der: bytes) -> profile.Content:
    """What one's own certificate says."""
    return profile.Content.read(x509.load_der_x509_certificate(der))


def validity(der: bytes) -> tuple[int, int]:
    """The first and the last second of one's own certificate."""
    content = own_content(der)
    return content.not_before, content.not_after


def public_of(leaf: bytes) -> EllipticCurvePublicKey:
    """The key that a certificate names which is one's own, or was verified."""
    public = x509.load_der_x509_certificate(leaf).public_key()
    assert isinstance(public, EllipticCurvePublicKey), "a certificate of our profile"
    return public


def serial_of(leaf: bytes) -> int:
    """The serial number of one's own certificate."""
    return x509.load_der_x509_certificate(leaf).serial_number


def issued_at(not_before: int) -> int:
    """When a leaf was issued that is good from this second on."""
    return not_before + NOT_BEFORE_OFFSET_S


def renew_at(not_before: int, not_after: int) -> int:
    """When to ask for the next certificate: before two thirds of this one's life have passed, so that a month is left to succeed in."""
    return not_after - min(RENEWED_BEFORE_END_S, (not_after - not_before) * 2 // 5)


def certificate_request(key: EllipticCurvePrivateKey, urn: str, purpose: str) -> bytes:
    """Ask for a certificate (PKCS#10 in DER), proving possession of the key; `urn` is empty if the operator is still to name us.

    `purpose` is empty where a session authority is asked for, whose URN says what it is.
    """
    return _request(urn, purpose).sign(key, SHA256()).public_bytes(Encoding.DER)


def read_request(unverified: bytes) -> CertificateRequest:
    """Read a request: byte for byte one that `certificate_request` writes, signed with the key that it names."""
    if len(unverified) > REQUEST_BYTES_MAX:
        raise ProtocolViolation("request", "a certificate request is too long")
    try:
        request = x509.load_der_x509_csr(unverified)
        public = request.public_key()
        if not isinstance(public, EllipticCurvePublicKey):
            raise ValueError("not an elliptic curve key")  # noqa: TRY004 - refused below with everything else
        urn = purpose = ""
        for extension in request.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                urn = extension.value.get_values_for_type(x509.UniformResourceIdentifier)[0]
            elif isinstance(extension.value, x509.ExtendedKeyUsage):
                purpose = profile.purpose_of(extension.value)
        # Write it again with a key of our own and put the asker's in its place: the two encodings are of one length.
        expected = _request(urn, purpose).sign(profile.SCRATCH, SHA256())
        written = expected.tbs_certrequest_bytes.replace(_key_info(profile.SCRATCH.public_key()), _key_info(public))
        same = request.tbs_certrequest_bytes == written
        signed = same and request.signature_algorithm_oid == expected.signature_algorithm_oid and request.is_signature_valid
    except UNREADABLE as error:
        raise ProtocolViolation("request", "not a certificate request of ours") from error
    if not same:
        raise ProtocolViolation("request", "not of the profile")
    if not signed:
        raise ProtocolViolation("request", "not signed with the key that it names")
    return CertificateRequest(urn, purpose, public)


def dump_chain_pem(chain: Sequence[bytes]) -> str:
    """A chain (DER, leaf first) as PEM text."""
    return "".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode("ascii") for der in chain)


def load_chain_pem(path: Path) -> tuple[bytes, ...]:
    """The DER certificates of a PEM file in order; a file that holds none is BadInput naming it. Nothing is verified."""
    try:
        with path.open("rb") as file:
            pem = file.read(CHAIN_FILE_BYTES_MAX + 1)
        if len(pem) > CHAIN_FILE_BYTES_MAX:
            raise BadInput(f"certificate file {path} is too large")
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in x509.load_pem_x509_certificates(pem))
    except OSError as error:
        raise BadInput(f"certificate file {path}: {error.strerror}") from error
    except UNREADABLE as error:
        raise BadInput(f"certificate file {path}: no PEM certificates") from error


def check_own(leaf: bytes, key: EllipticCurvePrivateKey, urn: str) -> None:
    """BadInput unless this certificate is of this key and this party: one's own files may have been mixed up."""
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = names.get_values_for_type(x509.UniformResourceIdentifier)
        of_key = certificate.public_key() == key.public_key()
    except (*UNREADABLE, x509.ExtensionNotFound) as error:
        raise BadInput("a certificate of no party") from error
    if not of_key:
        raise BadInput("the certificate is of another key")
    if named != [urn]:
        raise BadInput(f"the certificate is of {', '.join(named)}, not of {urn}")


def _authority(operator: str, name: str, public: EllipticCurvePublicKey, at: int) -> profile.Content:
    urn = profile.Urn.read(profile.authority_urn(operator, name))
    not_before = at - NOT_BEFORE_OFFSET_S
    return profile.Content(urn, "", public, _new_serial(), not_before, at + profile.kind_of(urn).lifetime_s)


def _issue(content: profile.Content, issuer: profile.Content, key: EllipticCurvePrivateKey) -> bytes:
    return forms.sign(content, issuer.urn.text, profile.key_identifier(issuer.public), key)


def _new_serial() -> int:
    """Random and positive, so that nobody can foresee what will be signed (and DER needs no leading zero)."""
    return secrets.randbits(_SERIAL_BITS) | 1 << (_SERIAL_BITS - 1)


def _request(urn: str, purpose: str) -> x509.CertificateSigningRequestBuilder:
    name = x509.Name([])
    if urn:
        party = profile.Urn.read(urn)
        (profile.path_of if purpose else profile.path_of_authority)(party, purpose)  # nobody asks for what nobody issues
        name = party.subject
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    if purpose or not urn:
        request = request.add_extension(profile.usages_of(purpose), critical=True)
    return request.add_extension(profile.alternative_name(urn), critical=False) if urn else request


def _key_info(public: EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
