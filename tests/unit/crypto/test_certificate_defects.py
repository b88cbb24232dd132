"""Each defect of a certificate, alone, is refused; without it the very same certificate is accepted."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from hanbit.crypto import certificate_profile as profile
from hanbit.crypto import certificates, keys
from hanbit.crypto.certificate_paths import read_root
from hanbit.crypto.certificates import PURPOSES, Authority
from hanbit.kernel.errors import ProtocolViolation
from tests.unit.crypto import drafts
from tests.unit.crypto.authorities import AT, DAY_S, OPERATOR, World
from tests.unit.crypto.drafts import Draft

SHOP = f"urn:hanbit:{OPERATOR}:merchant:shop"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SID = "A" * 22


def good(world: World) -> Draft:
    return drafts.leaf(world.merchant, AT, operator=OPERATOR, role="merchant", rest="shop", purpose="merchant-sign", issuer_rest="merchant")


def refusal(chain: tuple[bytes, ...], world: World, at: int = AT) -> str:
    with pytest.raises(ProtocolViolation) as refused:
        certificates.verify_chain(chain, root=world.root_der, at=at, operator=OPERATOR)
    return refused.value.rule


def alternative(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


DEFECTS: dict[str, tuple[str, Callable[[Draft], Draft]]] = {
    "curve P-384": ("certificate_unreadable", lambda draft: draft.but(public=ec.generate_private_key(ec.SECP384R1()).public_key())),
    "curve secp256k1": ("certificate_unreadable", lambda draft: draft.but(public=ec.generate_private_key(ec.SECP256K1()).public_key())),
    "RSA key": ("certificate_unreadable", lambda draft: draft.but(public=RSA_KEY.public_key())),
    "Ed25519 key": ("certificate_unreadable", lambda draft: draft.but(public=ed25519.Ed25519PrivateKey.generate().public_key())),
    "expired": ("certificate_dates", lambda draft: draft.but(not_after=AT - 1)),
    "not yet valid": ("certificate_dates", lambda draft: draft.but(not_before=AT + 1)),
    "signed with SHA-384": ("certificate_profile", lambda draft: draft.but(algorithm=hashes.SHA384())),
    "signed by another key": ("certificate_signature", lambda draft: draft.but(signer=keys.new_key())),
    "signed with RSA": ("certificate_profile", lambda draft: draft.but(signer=RSA_KEY)),
    "extra extension": (
        "certificate_profile",
        lambda draft: draft.adding(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), b"\x05\0"), critical=False),
    ),
    "extra critical extension": (
        "certificate_profile",
        lambda draft: draft.adding(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), b"\x05\0"), critical=True),
    ),
    "name constraints": (
        "certificate_profile",
        lambda draft: draft.adding(x509.NameConstraints([uri("hana")], None), critical=True),
    ),
    "basicConstraints not critical": ("certificate_profile", lambda draft: draft.flag(ExtensionOID.BASIC_CONSTRAINTS, critical=False)),
    "keyUsage not critical": ("certificate_profile", lambda draft: draft.flag(ExtensionOID.KEY_USAGE, critical=False)),
    "extendedKeyUsage not critical": ("certificate_profile", lambda draft: draft.flag(ExtensionOID.EXTENDED_KEY_USAGE, critical=False)),
    "subjectAltName critical": ("certificate_profile", lambda draft: draft.flag(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, critical=True)),
    "subjectKeyIdentifier critical": ("certificate_profile", lambda draft: draft.flag(ExtensionOID.SUBJECT_KEY_IDENTIFIER, critical=True)),
    "no basicConstraints": ("certificate_profile", lambda draft: draft.without(ExtensionOID.BASIC_CONSTRAINTS)),
    "no keyUsage": ("certificate_profile", lambda draft: draft.without(ExtensionOID.KEY_USAGE)),
    "no extendedKeyUsage": ("certificate_unreadable", lambda draft: draft.without(ExtensionOID.EXTENDED_KEY_USAGE)),
    "no subjectAltName": ("certificate_unreadable", lambda draft: draft.without(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)),
    "no subjectKeyIdentifier": ("certificate_profile", lambda draft: draft.without(ExtensionOID.SUBJECT_KEY_IDENTIFIER)),
    "no authorityKeyIdentifier": ("certificate_profile", lambda draft: draft.without(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)),
    "no extensions": ("certificate_unreadable", lambda draft: draft.but(extensions=())),
    "extensions in another order": ("certificate_profile", lambda draft: draft.but(extensions=draft.extensions[::-1])),
    "CA flag on a leaf": (
        "certificate_profile",
        lambda draft: draft.replacing(x509.BasicConstraints(ca=True, path_length=None), critical=True),
    ),
    "leaf may sign certificates": (
        "certificate_profile",
        lambda draft: draft.replacing(drafts.usage("digital_signature", "key_cert_sign"), critical=True),
    ),
    "leaf may agree on keys": ("certificate_profile", lambda draft: draft.replacing(drafts.usage("key_agreement"), critical=True)),
    "two purposes": (
        "certificate_profile",
        lambda draft: draft.replacing(x509.ExtendedKeyUsage([PURPOSES["merchant-sign"], PURPOSES["line"]]), critical=True),
    ),
    "any purpose": (
        "certificate_unreadable",
        lambda draft: draft.replacing(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), critical=True),
    ),
    "any purpose besides its own": (
        "certificate_profile",
        lambda draft: draft.replacing(
            x509.ExtendedKeyUsage([PURPOSES["merchant-sign"], ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), critical=True
        ),
    ),
    "signing key usable for TLS": (
        "certificate_profile",
        lambda draft: draft.replacing(x509.ExtendedKeyUsage([PURPOSES["merchant-sign"], ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True),
    ),
    "line without TLS": (
        "certificate_profile",
        lambda draft: draft.replacing(x509.ExtendedKeyUsage([PURPOSES["line"]]), critical=True),
    ),
    "purpose of the gateway": (
        "certificate_issuer",
        lambda draft: draft.replacing(x509.ExtendedKeyUsage([PURPOSES["gateway-sign"]]), critical=True),
    ),
    "purpose of a customer": (
        "certificate_issuer",
        lambda draft: draft.replacing(x509.ExtendedKeyUsage([PURPOSES["customer-sign"]]), critical=True),
    ),
    "second URN": (
        "certificate_profile",
        lambda draft: draft.replacing(alternative(uri(SHOP), uri(f"urn:hanbit:{OPERATOR}:merchant:other")), critical=False),
    ),
    "URN twice": ("certificate_profile", lambda draft: draft.replacing(alternative(uri(SHOP), uri(SHOP)), critical=False)),
    "DNS name beside the URN": (
        "certificate_profile",
        lambda draft: draft.replacing(alternative(uri(SHOP), x509.DNSName("pay.localhost")), critical=False),
    ),
    "DNS name for a URN": ("certificate_unreadable", lambda draft: draft.replacing(alternative(x509.DNSName("shop")), critical=False)),
    "URN of another merchant": (
        "certificate_profile",
        lambda draft: draft.replacing(alternative(uri(f"urn:hanbit:{OPERATOR}:merchant:other")), critical=False),
    ),
    "URN of another operator": (
        "certificate_operator",
        lambda draft: draft.replacing(alternative(uri("urn:hanbit:dul:merchant:shop")), critical=False).but(
            subject=drafts.name("dul", "merchant", "shop")
        ),
    ),
    "URN of the gateway": (
        "certificate_issuer",
        lambda draft: draft.replacing(alternative(uri(f"urn:hanbit:{OPERATOR}:gateway")), critical=False).but(
            subject=drafts.name(OPERATOR, "gateway", "gateway")
        ),
    ),
    "URN of no role": (
        "certificate_unreadable",
        lambda draft: draft.replacing(alternative(uri(f"urn:hanbit:{OPERATOR}:auditor:shop")), critical=False),
    ),
    "URN with capitals": (
        "certificate_unreadable",
        lambda draft: draft.replacing(alternative(uri(f"urn:hanbit:{OPERATOR}:merchant:Shop")), critical=False),
    ),
    "URN without a name": (
        "certificate_unreadable",
        lambda draft: draft.replacing(alternative(uri(f"urn:hanbit:{OPERATOR}:merchant")), critical=False),
    ),
    "URN with a name too many": (
        "certificate_unreadable",
        lambda draft: draft.replacing(alternative(uri(f"{SHOP}:more")), critical=False),
    ),
    "subject of another": ("certificate_profile", lambda draft: draft.but(subject=drafts.name(OPERATOR, "merchant", "other"))),
    "no subject": ("certificate_profile", lambda draft: draft.but(subject=x509.Name([]))),
    "issuer of another name": (
        "certificate_profile",
        lambda draft: draft.but(issuer=drafts.name(OPERATOR, "authority", "gateway")),
    ),
    "key identifier of another key": (
        "certificate_profile",
        lambda draft: draft.replacing(x509.SubjectKeyIdentifier(b"\x01" * 20), critical=False),
    ),
    "authority's identifier of another key": (
        "certificate_profile",
        lambda draft: draft.replacing(x509.AuthorityKeyIdentifier(b"\x01" * 20, None, None), critical=False),
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_leaf_with_one_defect_is_refused(world: World, defect: str) -> None:
    rule, spoil = DEFECTS[defect]
    draft = good(world)
    accepted = certificates.verify_chain((draft.sign(), *world.merchant.chain), root=world.root_der, at=AT, operator=OPERATOR)
    assert (accepted.urn, accepted.purpose) == (SHOP, "merchant-sign")
    assert refusal((spoil(draft).sign(), *world.merchant.chain), world) == rule


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes], bytes]] = {
    "X.509 version 1": ("certificate_profile", lambda tbs: tbs.removeprefix(bytes.fromhex("a003020102")), b""),
    "X.509 version 2": (
        "certificate_unreadable",
        lambda tbs: tbs.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020101"), 1),
        b"",
    ),
    "version written 3": (
        "certificate_unreadable",
        lambda tbs: tbs.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020103"), 1),
        b"",
    ),
    "parameters of the signature": (
        "certificate_unreadable",
        lambda tbs: tbs.replace(drafts.ECDSA_SHA256, drafts.ECDSA_SHA256_NULL, 1),
        drafts.ECDSA_SHA256_NULL,
    ),
    "algorithm outside unlike inside": ("certificate_signature", lambda tbs: tbs, drafts.ECDSA_SHA384),
    "dates as GeneralizedTime": (
        "certificate_profile",
        lambda tbs: tbs.replace(b"\x30\x1e\x17\x0d", b"\x30\x20\x18\x0f20", 1),
        b"",
    ),
    "serial number zero": (
        "certificate_unreadable",
        lambda tbs: tbs.replace(b"\x02\x10" + (2**126 + 12_345).to_bytes(16, "big"), b"\x02\x01\0"),
        b"",
    ),
    "serial number negative": (
        "certificate_unreadable",
        lambda tbs: tbs.replace(b"\x02\x10" + (2**126 + 12_345).to_bytes(16, "big"), b"\x02\x01\xff"),
        b"",
    ),
    "serial number of 21 bytes": (
        "certificate_profile",
        lambda tbs: tbs.replace(b"\x02\x10" + (2**126 + 12_345).to_bytes(16, "big"), b"\x02\x15" + b"\x11" * 21),
        b"",
    ),
    "name that is not UTF-8": ("certificate_profile", lambda tbs: tbs.replace(b"\x0c\x04hana", b"\x0c\x04\xff\xff\xff\xff"), b""),
    "names as PrintableString": ("certificate_profile", lambda tbs: tbs.replace(b"\x0c\x04hana", b"\x13\x04hana"), b""),
    "subject unique identifier": ("certificate_profile", lambda tbs: tbs.replace(b"\xa3\x81", b"\x82\x02\0\xff\xa3\x81", 1), b""),
    "flag FALSE written out": (
        "certificate_unreadable",
        lambda tbs: tbs.replace(bytes.fromhex("300c0603551d130101ff04023000"), bytes.fromhex("300f0603551d130101ff04053003010100")),
        b"",
    ),
}


@pytest.mark.parametrize("defect", ENCODINGS)
def test_leaf_in_another_encoding_is_refused(world: World, defect: str) -> None:
    rule, change, algorithm = ENCODINGS[defect]
    der = good(world).sign()
    signed = drafts.content_of(x509.load_der_x509_certificate(der).tbs_certificate_bytes)
    assert algorithm or change(signed) != signed
    chain = (drafts.edit(der, world.merchant.key, change, algorithm=algorithm), *world.merchant.chain)
    unchanged = (drafts.edit(der, world.merchant.key, lambda tbs: tbs), *world.merchant.chain)
    certificates.verify_chain(unchanged, root=world.root_der, at=AT, operator=OPERATOR)
    assert refusal(chain, world) == rule


def test_altered_signature_is_refused(world: World) -> None:
    der = good(world).sign()
    assert refusal((der[:-1] + bytes([der[-1] ^ 1]), *world.merchant.chain), world) == "certificate_signature"


def test_bytes_after_the_certificate_are_refused(world: World) -> None:
    assert refusal((good(world).sign() + b"\0", *world.merchant.chain), world) == "certificate_unreadable"


def test_certificate_over_the_size_limit_is_refused(world: World) -> None:
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), b"\x04\x82\x08\0" + bytes(2_048))
    assert refusal((good(world).adding(padding, critical=False).sign(), *world.merchant.chain), world) == "certificate_chain"


def test_self_signed_leaf_is_refused(world: World) -> None:
    key = keys.new_key()
    own = good(world).but(public=key.public_key(), signer=key, issuer=good(world).subject)
    own = own.replacing(x509.SubjectKeyIdentifier(drafts.identifier(key.public_key())), critical=False)
    assert refusal((own.sign(),), world) == "certificate_issuer"
    assert refusal((own.sign(), *world.merchant.chain), world) == "certificate_profile"


def test_leaf_under_a_merchants_own_leaf_is_refused(world: World) -> None:
    key = keys.new_key()
    upper = world.leaf(world.merchant, SHOP, "merchant-sign", key=key)
    below = drafts.leaf(Authority(key, world.merchant.certificate, upper), AT, operator=OPERATOR, role="merchant", rest="other",
                        purpose="merchant-sign", issuer_rest="merchant").sign()  # fmt: skip
    assert refusal((below, *upper), world) == "certificate_issuer"
    assert refusal((below, *world.merchant.chain), world) == "certificate_profile"


def test_chain_of_the_same_names_under_another_root_is_refused(world: World, other_world: World) -> None:
    foreign = other_world.leaf(other_world.merchant, SHOP, "merchant-sign")
    assert refusal(foreign, world) == "certificate_profile"
    assert refusal((foreign[0], *world.merchant.chain), world) == "certificate_profile"


def test_chain_of_the_same_names_and_identifiers_under_another_key_is_refused(world: World, other_world: World) -> None:
    mixed = good(world).but(signer=other_world.merchant.key).sign()
    assert refusal((mixed, *world.merchant.chain), world) == "certificate_signature"


def test_operator_other_than_the_pinned_one_is_refused(world: World, other_operator: World) -> None:
    foreign = other_operator.leaf(other_operator.merchant, "urn:hanbit:dul:merchant:shop", "merchant-sign")
    assert refusal(foreign, world) == "certificate_operator"
    for root, operator in ((world.root_der, "dul"), (other_operator.root_der, OPERATOR)):
        with pytest.raises(ProtocolViolation, match="certificate_root"):
            certificates.verify_chain(foreign, root=root, at=AT, operator=operator)


@dataclass(frozen=True)
class Path:
    """A chain of the wrong shape."""

    rule: str
    chain: Callable[[World], tuple[bytes, ...]]


PATHS = {
    "empty": Path("certificate_chain", lambda world: ()),
    "leaf alone": Path("certificate_issuer", lambda world: (good(world).sign(),)),
    "authority alone": Path("certificate_issuer", lambda world: world.merchant.chain),
    "root alone": Path("certificate_issuer", lambda world: (world.root_der,)),
    "with the root": Path("certificate_issuer", lambda world: (good(world).sign(), *world.merchant.chain, world.root_der)),
    "swapped": Path("certificate_issuer", lambda world: (*world.merchant.chain, good(world).sign())),
    "authority twice": Path("certificate_issuer", lambda world: (good(world).sign(), *world.merchant.chain * 2)),
    "four deep": Path("certificate_chain", lambda world: (good(world).sign(), *world.merchant.chain * 3)),
    "under the gateway's authority": Path("certificate_issuer", lambda world: (good(world).sign(), *world.gateway.chain)),
    "under a session authority": Path("certificate_issuer", lambda world: (good(world).sign(), *world.session.chain)),
    "temporary of another merchant": Path(
        "certificate_issuer",
        lambda world: (
            drafts.leaf(world.session, AT, operator=OPERATOR, role="temporary", rest=f"other:{SID}", purpose="temporary",
                        issuer_rest="session:shop").sign(),
            *world.session.chain,
        ),
    ),
    "temporary without the authority between": Path(
        "certificate_issuer",
        lambda world: (world.leaf(world.session, f"urn:hanbit:{OPERATOR}:temporary:shop:{SID}", "temporary")[0], world.session.chain[0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", PATHS)
def test_chain_of_another_shape_is_refused(world: World, shape: str) -> None:
    assert refusal(PATHS[shape].chain(world), world) == PATHS[shape].rule


AUTHORITY_DEFECTS: dict[str, tuple[str, Callable[[Draft], Draft]]] = {
    "path too long": (
        "certificate_profile",
        lambda draft: draft.replacing(x509.BasicConstraints(ca=True, path_length=2), critical=True),
    ),
    "path without a limit": (
        "certificate_profile",
        lambda draft: draft.replacing(x509.BasicConstraints(ca=True, path_length=None), critical=True),
    ),
    "no CA": ("certificate_profile", lambda draft: draft.replacing(x509.BasicConstraints(ca=False, path_length=None), critical=True)),
    "may not sign certificates": ("certificate_profile", lambda draft: draft.replacing(drafts.usage("crl_sign"), critical=True)),
    "may sign messages": (
        "certificate_profile",
        lambda draft: draft.replacing(drafts.usage("key_cert_sign", "crl_sign", "digital_signature"), critical=True),
    ),
    "purpose on an authority": (
        "certificate_profile",
        lambda draft: draft.adding(x509.ExtendedKeyUsage([PURPOSES["merchant-sign"]]), critical=True),
    ),
    "name of another authority": (
        "certificate_issuer",
        lambda draft: draft.replacing(alternative(uri(f"urn:hanbit:{OPERATOR}:authority:gateway")), critical=False),
    ),
    "expired": ("certificate_dates", lambda draft: draft.but(not_after=AT - 1)),
    "not yet valid": ("certificate_dates", lambda draft: draft.but(not_before=AT + 1)),
    "not signed by the root": ("certificate_signature", lambda draft: draft.but(signer=keys.new_key())),
}


@pytest.mark.parametrize("defect", AUTHORITY_DEFECTS)
def test_authority_with_one_defect_is_refused(world: World, defect: str) -> None:
    rule, spoil = AUTHORITY_DEFECTS[defect]
    key = keys.new_key()
    draft = drafts.authority(world.root, AT, key, operator=OPERATOR, rest="merchant", path_length=1, issuer_rest="root")
    leaf = drafts.leaf(Authority(key, world.merchant.certificate, ()), AT, operator=OPERATOR, role="merchant", rest="shop",
                       purpose="merchant-sign", issuer_rest="merchant").sign()  # fmt: skip
    certificates.verify_chain((leaf, draft.sign()), root=world.root_der, at=AT, operator=OPERATOR)
    assert refusal((leaf, spoil(draft).sign()), world) == rule


def test_expired_root_is_refused(world: World) -> None:
    root_life_s = 7_305 * DAY_S
    assert refusal(world.leaf(world.merchant, SHOP, "merchant-sign"), world, at=AT + root_life_s + 1) == "certificate_dates"


def test_root_that_somebody_wants_to_pin_says_whose_it_is(world: World) -> None:
    said = read_root(world.root_der)
    assert (said.urn.text, said.urn.operator) == (f"urn:hanbit:{OPERATOR}:authority:root", OPERATOR)
    for unverified in (b"", world.root_der + b"\0", *world.gateway.chain):
        with pytest.raises(ProtocolViolation, match="certificate_root"):
            read_root(unverified)


def test_self_signed_authority_is_no_root() -> None:
    """As a root would be in everything but its name."""
    key = keys.new_key()
    content = profile.Content(profile.Urn.read(f"urn:hanbit:{OPERATOR}:authority:gateway"), "", key.public_key(), 1, AT, AT + DAY_S)
    builder = profile.builder(content, content.urn.text, profile.key_identifier(content.public))
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(ProtocolViolation, match="no root"):
        read_root(der)


@pytest.mark.parametrize("what", ["empty", "authority", "leaf", "altered"])
def test_pin_that_is_no_root_is_refused(world: World, what: str) -> None:
    chain = world.leaf(world.merchant, SHOP, "merchant-sign")
    altered = world.root_der[:-1] + bytes([world.root_der[-1] ^ 1])
    pin = {"empty": b"", "authority": chain[1], "leaf": chain[0], "altered": altered}[what]
    with pytest.raises(ProtocolViolation) as refused:
        certificates.verify_chain(chain, root=pin, at=AT, operator=OPERATOR)
    assert refused.value.rule == "certificate_root"
