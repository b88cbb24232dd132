"""What a certificate of ours looks like: the one page that says it for those who write certificates and for those who read them.

    authority:root (path length 2, 20 years)
    ├── authority:gateway (0)     gateway-sign, gateway-seal, line of the gateway; customer-sign
    └── authority:merchant (1)    merchant-sign, line of a merchant
        └── authority:session:<merchant> (0, 30 days)    temporary

X.509 v3, ECDSA P-256 with SHA-256, serial of 127 random bits, subject O=<operator>, OU=<role>, CN=<the rest of the URN>, and in this order:

    basicConstraints (critical)         CA and path length, or not CA
    keyUsage (critical)                 keyCertSign and cRLSign, digitalSignature, or keyAgreement for gateway-seal
    extendedKeyUsage (critical)         leaves only: the purpose; `line` also serverAuth and clientAuth
    subjectAltName                      exactly one URI, the party's URN
    subjectKeyIdentifier                the first 160 bits of SHA-256 over the public point (RFC 7093 section 2, method 1)
    authorityKeyIdentifier              all but the root
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hanbit.crypto.keys import new_key, public_point
from hanbit.kernel import ids

DAY_S: Final = 86_400
SCRATCH: Final = new_key()
"""Signs the copies that are written only to be compared; nothing that it signed is ever given to anybody."""
_ARC = "2.25.164987809663316292603361604156215208465"
"""Our private arc: a random UUID as an integer (ITU-T X.667), which needs no registration."""
PURPOSES: Final[Mapping[str, x509.ObjectIdentifier]] = {
    name: x509.ObjectIdentifier(f"{_ARC}.{number}")
    for number, name in enumerate(("gateway-sign", "gateway-seal", "merchant-sign", "line", "customer-sign", "temporary"), start=1)
}
"""The extended key usage of each purpose; a key serves exactly one."""
_PURPOSE_OF: Final = {identifier: name for name, identifier in PURPOSES.items()}
_ISSUERS: Final[Mapping[tuple[str, str], str]] = {
    ("gateway-sign", "gateway"): "gateway",
    ("gateway-seal", "gateway"): "gateway",
    ("line", "gateway"): "gateway",
    ("customer-sign", "customer"): "gateway",
    ("merchant-sign", "merchant"): "merchant",
    ("line", "merchant"): "merchant",
    ("temporary", "temporary"): "session",
}
"""(purpose, role in the URN) → the authority that alone may issue it; a pair that is missing here is issued by nobody."""
SESSION: Final = "session:"
"""How the name of a merchant's session authority begins."""
_URN = re.compile(
    rf"urn:hanbit:(?P<operator>{ids.PARTY_ID.pattern}):(?P<role>gateway|merchant|customer|temporary|authority)(?::(?P<name>[A-Za-z0-9:_-]{{1,64}}))?"
)
_NAMES: Final[Mapping[str, re.Pattern[str]]] = {
    "gateway": re.compile(""),
    "merchant": ids.PARTY_ID,
    "customer": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "temporary": re.compile(rf"{ids.PARTY_ID.pattern}:{ids.TOKEN.pattern}"),
    "authority": re.compile(rf"root|gateway|merchant|session:{ids.PARTY_ID.pattern}"),
}


@dataclass(frozen=True, slots=True)
class AuthorityKind:
    """How deep an authority may go and how long it lives."""

    path_length: int
    lifetime_s: int


AUTHORITIES: Final[Mapping[str, AuthorityKind]] = {
    "root": AuthorityKind(path_length=2, lifetime_s=7_305 * DAY_S),
    "gateway": AuthorityKind(path_length=0, lifetime_s=3_653 * DAY_S),
    "merchant": AuthorityKind(path_length=1, lifetime_s=3_653 * DAY_S),
    "session": AuthorityKind(path_length=0, lifetime_s=30 * DAY_S),
}
"""The first word of an authority's name → its kind; the session authority of each merchant has a name of its own."""


@dataclass(frozen=True, slots=True)
class Urn:
    """A party's URN taken apart."""

    text: str
    operator: str
    role: str
    name: str

    @classmethod
    def read(cls, text: str) -> "Urn":
        """ValueError unless the role exists and its name meets that role's grammar."""
        match = _URN.fullmatch(text)
        if match is None or not _NAMES[match["role"]].fullmatch(match["name"] or ""):
            raise ValueError("not a URN of ours")
        return cls(text, match["operator"], match["role"], match["name"] or "")

    @property
    def subject(self) -> x509.Name:
        """The distinguished name that stands for this URN."""
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.operator),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, self.role),
                x509.NameAttribute(NameOID.COMMON_NAME, self.name or self.role),
            ]
        )


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a certificate of ours says; `purpose` is empty in an authority's."""

    urn: Urn
    purpose: str
    public: EllipticCurvePublicKey
    serial: int
    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        if not isinstance(self.public.curve, SECP256R1):
            raise ValueError("not a P-256 key")  # noqa: TRY004 - the type is right, the curve is not
        assert self.purpose == "" if self.urn.role == "authority" else self.purpose in PURPOSES

    @classmethod
    def read(cls, certificate: x509.Certificate) -> "Content":
        """Take the values out, believing nothing: a reader then compares the certificate that `builder` writes from them."""
        public = certificate.public_key()
        if not isinstance(public, EllipticCurvePublicKey):
            raise ValueError("not an elliptic curve key")  # noqa: TRY004 - one error for all that is not of the profile
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        urn = Urn.read(names.get_values_for_type(x509.UniformResourceIdentifier)[0])
        purpose = ""
        if urn.role != "authority":
            purpose = purpose_of(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return cls(urn, purpose, public, certificate.serial_number, int(not_before.timestamp()), int(not_after.timestamp()))


@dataclass(frozen=True, slots=True)
class Authority:
    """A key that issues certificates; `chain` is DER, its own first, then every authority below the root (a root's is empty)."""

    key: EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[bytes, ...]

    @classmethod
    def of_root(cls, key: EllipticCurvePrivateKey, der: bytes) -> "Authority":
        """The root, from its own certificate."""
        return cls(key, x509.load_der_x509_certificate(der), ())

    @classmethod
    def below_root(cls, key: EllipticCurvePrivateKey, chain: Sequence[bytes]) -> "Authority":
        """An authority from its chain: its own certificate first, the root left out."""
        return cls(key, x509.load_der_x509_certificate(chain[0]), tuple(chain))

    @property
    def content(self) -> Content:
        """What its certificate says."""
        return Content.read(self.certificate)


def builder(content: Content, issuer: str, issuer_key: bytes) -> x509.CertificateBuilder:
    """The certificate that says this under the issuer with this URN and key identifier, ready to be signed; a root is its own issuer."""
    result = (
        x509.CertificateBuilder()
        .subject_name(content.urn.subject)
        .issuer_name(Urn.read(issuer).subject)
        .public_key(content.public)
        .serial_number(content.serial)
        .not_valid_before(datetime.fromtimestamp(content.not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(content.not_after, UTC))
    )
    for extension, critical in _extensions(content, issuer_key):
        result = result.add_extension(extension, critical=critical)
    return result


def path_of(urn: Urn, purpose: str) -> tuple[str, ...]:
    """The URNs of the authorities that stand above this leaf, nearest first, without the root; ValueError if nobody may issue it."""
    nearest = _ISSUERS.get((purpose, urn.role))
    if nearest is None:
        raise ValueError(f"nobody issues {purpose or 'an authority'} to a {urn.role}")
    if nearest != "session":
        return (authority_urn(urn.operator, nearest),)
    merchant = urn.name.partition(":")[0]
    return (authority_urn(urn.operator, f"session:{merchant}"), authority_urn(urn.operator, "merchant"))


def path_of_authority(urn: Urn, purpose: str) -> tuple[str, ...]:
    """The same for a merchant's session authority, the one authority that is given out: its key is the merchant's."""
    if purpose or not urn.name.startswith(SESSION):
        raise ValueError("no session authority")
    return (authority_urn(urn.operator, "merchant"),)


def session_authority(merchant: str) -> str:
    """The URN of the authority by which the merchant with this URN issues temporary certificates; ValueError if it is no merchant."""
    urn = Urn.read(merchant)
    if urn.role != "merchant":
        raise ValueError("not a merchant")
    return authority_urn(urn.operator, f"{SESSION}{urn.name}")


def authority_urn(operator: str, name: str) -> str:
    """`urn:hanbit:<operator>:authority:<name>`."""
    return ids.urn(operator, "authority", name)


def kind_of(urn: Urn) -> AuthorityKind:
    """The kind of authority that this URN names."""
    return AUTHORITIES[urn.name.partition(":")[0]]


def usages_of(purpose: str) -> x509.ExtendedKeyUsage:
    """TLS refuses a leaf that has a private purpose only, so `line` carries the two of TLS too."""
    extra: Sequence[x509.ObjectIdentifier] = ()
    if purpose == "line":
        extra = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    return x509.ExtendedKeyUsage([PURPOSES[purpose], *extra])


def purpose_of(usages: x509.ExtendedKeyUsage) -> str:
    """The purpose that comes first in an extended key usage; LookupError if it is none of ours."""
    return _PURPOSE_OF[list(usages)[0]]  # noqa: RUF015 - an empty list is a LookupError, an empty iterator is not


def key_identifier(public: EllipticCurvePublicKey) -> bytes:
    """RFC 7093 section 2, method 1: no SHA-1 anywhere."""
    return hashlib.sha256(public_point(public)).digest()[:20]


def alternative_name(urn: str) -> x509.SubjectAlternativeName:
    """Exactly one URI."""
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(urn)])


def _extensions(content: Content, issuer_key: bytes) -> list[tuple[x509.ExtensionType, bool]]:
    authority = content.urn.role == "authority"
    found: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=authority, path_length=kind_of(content.urn).path_length if authority else None), True),
        (_key_usage(content), True),
    ]
    if not authority:
        found.append((usages_of(content.purpose), True))
    found.append((alternative_name(content.urn.text), False))
    found.append((x509.SubjectKeyIdentifier(key_identifier(content.public)), False))
    if content.urn.name != "root" or not authority:
        found.append((x509.AuthorityKeyIdentifier(issuer_key, None, None), False))
    return found


def _key_usage(content: Content) -> x509.KeyUsage:
    authority = content.urn.role == "authority"
    seals = content.purpose == "gateway-seal"
    return x509.KeyUsage(
        digital_signature=not authority and not seals,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=seals,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
