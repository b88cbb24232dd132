"""Lists of the revoked: current, complete, and this authority's own; one test for each defect."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from hanbit.crypto import certificates, keys
from hanbit.kernel.errors import ProtocolViolation
from tests.unit.crypto import drafts
from tests.unit.crypto.authorities import AT, OPERATOR, World

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NOW = datetime.fromtimestamp(AT, UTC)


def refusal(der: bytes, world: World, at: int = AT) -> str:
    with pytest.raises(ProtocolViolation) as refused:
        certificates.verify_crl(der, world.merchant.chain[0], at)
    return refused.value.rule


def test_revoked_serials_come_back(world: World) -> None:
    for revoked in ({}, {5: AT}, {number: AT - number for number in range(1, 200)}):
        der = certificates.make_crl(world.merchant, revoked, AT, 1)
        assert certificates.verify_crl(der, world.merchant.chain[0], AT) == frozenset(revoked)


def test_list_is_good_for_twenty_five_hours(world: World) -> None:
    der = certificates.make_crl(world.merchant, {5: AT}, AT, 1)
    for at in (AT - 120, AT, AT + 25 * 3_600):
        assert certificates.verify_crl(der, world.merchant.chain[0], at) == {5}
    for at in (AT - 121, AT + 25 * 3_600 + 1):
        assert refusal(der, world, at) == "crl_dates"


def test_list_of_another_authority_is_refused(world: World, other_world: World) -> None:
    assert refusal(certificates.make_crl(world.gateway, {}, AT, 1), world) == "crl_profile"
    assert refusal(certificates.make_crl(other_world.merchant, {}, AT, 1), world) == "crl_profile"


def _builder(world: World) -> x509.CertificateRevocationListBuilder:
    """What a good list says, so that each case spoils one thing."""
    number = x509.CRLNumber(1)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(drafts.name(OPERATOR, "authority", "merchant"))
        .last_update(NOW)
        .next_update(NOW + timedelta(hours=25))
        .add_extension(x509.AuthorityKeyIdentifier(drafts.identifier(world.merchant.key.public_key()), None, None), critical=False)
        .add_extension(number, critical=False)
    )


def _entry(*extensions: x509.ExtensionType) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(5).revocation_date(NOW)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.build()


Sign = Callable[[x509.CertificateRevocationListBuilder, World], x509.CertificateRevocationList]
DEFECTS: dict[str, tuple[str, Sign]] = {
    "another key": ("crl_signature", lambda builder, world: builder.sign(keys.new_key(), hashes.SHA256())),
    "SHA-384": ("crl_unreadable", lambda builder, world: builder.sign(world.merchant.key, hashes.SHA384())),
    "RSA": ("crl_unreadable", lambda builder, world: builder.sign(RSA_KEY, hashes.SHA256())),
    "further extension": (
        "crl_profile",
        lambda builder, world: builder.add_extension(x509.IssuerAlternativeName([x509.DNSName("x")]), critical=False).sign(
            world.merchant.key, hashes.SHA256()
        ),
    ),
    "part of the list only": (
        "crl_profile",
        lambda builder, world: builder.add_extension(
            x509.IssuingDistributionPoint(None, None, only_contains_user_certs=True, only_contains_ca_certs=False, only_some_reasons=None,
                                          indirect_crl=False, only_contains_attribute_certs=False),
            critical=True,
        ).sign(world.merchant.key, hashes.SHA256()),
    ),
    "difference only": (
        "crl_profile",
        lambda builder, world: builder.add_extension(x509.DeltaCRLIndicator(1), critical=True).sign(world.merchant.key, hashes.SHA256()),
    ),
    "entry with a reason": (
        "crl_profile",
        lambda builder, world: builder.add_revoked_certificate(_entry(x509.CRLReason(x509.ReasonFlags.remove_from_crl))).sign(
            world.merchant.key, hashes.SHA256()
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_list_with_one_defect_is_refused(world: World, defect: str) -> None:
    rule, sign = DEFECTS[defect]
    good = _builder(world).add_revoked_certificate(_entry()).sign(world.merchant.key, hashes.SHA256())
    assert certificates.verify_crl(good.public_bytes(Encoding.DER), world.merchant.chain[0], AT) == {5}
    assert refusal(sign(_builder(world), world).public_bytes(Encoding.DER), world) == rule


def test_altered_cut_and_oversized_lists_are_refused(world: World) -> None:
    der = certificates.make_crl(world.merchant, {5: AT}, AT, 1)
    assert refusal(der[:-1] + bytes([der[-1] ^ 1]), world) == "crl_signature"
    assert refusal(der[:-1], world) == "crl_unreadable"
    assert refusal(der + b"\0", world) == "crl_unreadable"
    assert refusal(b"", world) == "crl_unreadable"
    assert refusal(bytes(1_048_577), world) == "crl_unreadable"


def test_list_without_number_or_identifier_is_refused(world: World) -> None:
    bare = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(drafts.name(OPERATOR, "authority", "merchant"))
        .last_update(NOW)
        .next_update(NOW + timedelta(hours=25))
    )
    for builder, rule in ((bare, "crl_unreadable"), (bare.add_extension(x509.CRLNumber(1), critical=False), "crl_profile")):
        assert refusal(builder.sign(world.merchant.key, hashes.SHA256()).public_bytes(Encoding.DER), world) == rule
