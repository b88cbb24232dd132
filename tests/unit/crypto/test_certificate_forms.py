"""A leaf written from a form is, byte for byte, the one that the library's builder writes; what fits into no form is written by it."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from hanbit.crypto import certificate_forms as forms
from hanbit.crypto import certificate_profile as profile
from hanbit.crypto.keys import new_key

KEYS = [new_key() for _ in range(3)]
ISSUERS = ["urn:hanbit:bank:authority:gateway", "urn:hanbit:bank:authority:session:shop"]
LEAVES = [
    ("urn:hanbit:bank:gateway", "gateway-sign"),
    ("urn:hanbit:bank:gateway", "line"),
    ("urn:hanbit:bank:merchant:a", "merchant-sign"),
    ("urn:hanbit:bank:merchant:a-rather-long-name-of-a-shop-12", "line"),
    ("urn:hanbit:bank:customer:Cust_omer-1", "customer-sign"),
    ("urn:hanbit:bank:temporary:shop:" + "s" * 22, "temporary"),
    ("urn:hanbit:bank:temporary:shop:" + "A-_0" + "9" * 18, "temporary"),
    ("urn:hanbit:a-test:temporary:s:" + "Z" * 22, "temporary"),
]


def built(content: profile.Content, issuer: str, issuer_key: bytes) -> bytes:
    return profile.builder(content, issuer, issuer_key).sign(profile.SCRATCH, SHA256()).tbs_certificate_bytes


@given(
    leaf=st.sampled_from(LEAVES),
    issuer=st.sampled_from(ISSUERS),
    issuer_key=st.binary(min_size=20, max_size=20),
    key=st.sampled_from(KEYS),
    serial=st.one_of(st.integers(2**126, 2**127 - 1), st.integers(1, 2**159 - 1)),
    not_before=st.integers(0, 2**32),
    life=st.integers(0, 2**31),
)
def test_a_form_filled_in_is_what_the_builder_writes(
    leaf: tuple[str, str], issuer: str, issuer_key: bytes, key: EllipticCurvePrivateKey, serial: int, not_before: int, life: int
) -> None:
    content = profile.Content(profile.Urn.read(leaf[0]), leaf[1], key.public_key(), serial, not_before, not_before + life)
    assert forms.signed_part(content, issuer, issuer_key) == built(content, issuer, issuer_key)


@pytest.mark.parametrize(
    ("serial", "not_before", "not_after"),
    [
        (2**126, 0, 2_524_607_999),
        (2**126 - 1, 0, 1),
        (2**127, 0, 1),
        (2**127 - 1, 2_524_607_999, 2_524_608_000),
        (1, 1, 2),
    ],
)
def test_the_edges_of_a_form(serial: int, not_before: int, not_after: int) -> None:
    urn, purpose = LEAVES[5]
    content = profile.Content(profile.Urn.read(urn), purpose, KEYS[0].public_key(), serial, not_before, not_after)
    assert forms.signed_part(content, ISSUERS[1], bytes(20)) == built(content, ISSUERS[1], bytes(20))


def test_every_leaf_of_ours_but_the_gateways_has_a_form() -> None:
    for urn, purpose in LEAVES[2:]:
        read = profile.Urn.read(urn)
        assert forms._form(read.operator, read.role, len(read.name), purpose, ISSUERS[1], bytes(20)) is not None
    # A name that says something else than the URN, or a key identifier that holds a name: the builder writes that.
    once = forms._COMMON_NAME + b"\x01~"
    assert forms._form("bank", "merchant", 1, "line", ISSUERS[1], once + bytes(20 - len(once))) is None


@pytest.mark.parametrize("attempt", range(20))
def test_what_is_signed_from_a_form_is_a_certificate_of_the_issuers(attempt: int) -> None:
    issuer = KEYS[0]
    urn, purpose = LEAVES[attempt % len(LEAVES)]
    content = profile.Content(profile.Urn.read(urn), purpose, KEYS[1].public_key(), 2**126 + attempt, 1_000, 2_000)
    der = forms.sign(content, ISSUERS[1], bytes(20), issuer)
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.public_bytes(Encoding.DER) == der
    assert certificate.signature_hash_algorithm is not None
    issuer.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, ECDSA(certificate.signature_hash_algorithm))
    assert profile.Content.read(certificate) == content


@pytest.mark.parametrize(("serial", "not_before", "not_after"), [(2**126, 2, 1), (-(2**126), 1, 2), (0, 1, 2), (2**160, 1, 2)])
def test_what_the_builder_refuses_no_form_writes(serial: int, not_before: int, not_after: int) -> None:
    urn, purpose = LEAVES[5]
    content = profile.Content(profile.Urn.read(urn), purpose, KEYS[0].public_key(), serial, not_before, not_after)
    with pytest.raises(ValueError, match=r"serial|valid"):
        forms.signed_part(content, ISSUERS[1], bytes(20))
