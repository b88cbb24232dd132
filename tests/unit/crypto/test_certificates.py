"""The operator's authority: what it issues verifies here and in openssl, requests prove their key, lists revoke."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import PURPOSES
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from tests.unit.crypto import drafts
from tests.unit.crypto.authorities import AT, DAY_S, OPERATOR, World

GATEWAY = f"urn:hanbit:{OPERATOR}:gateway"
SHOP = f"urn:hanbit:{OPERATOR}:merchant:shop"
CUSTOMER = f"urn:hanbit:{OPERATOR}:customer:{'c' * 22}"
TEMPORARY = f"urn:hanbit:{OPERATOR}:temporary:shop:{'s' * 22}"
ISSUED = [
    ("gateway", GATEWAY, "gateway-sign"),
    ("gateway", GATEWAY, "gateway-seal"),
    ("gateway", GATEWAY, "line"),
    ("gateway", CUSTOMER, "customer-sign"),
    ("merchant", SHOP, "merchant-sign"),
    ("merchant", SHOP, "line"),
    ("session", TEMPORARY, "temporary"),
]


def verify(world: World, chain: tuple[bytes, ...], at: int = AT) -> certificates.VerifiedCertificate:
    return certificates.verify_chain(chain, root=world.root_der, at=at, operator=OPERATOR)


@pytest.mark.parametrize(("authority", "urn", "purpose"), ISSUED)
def test_each_purpose_verifies_under_its_authority(world: World, authority: str, urn: str, purpose: str) -> None:
    key = keys.new_key()
    chain = world.leaf(getattr(world, authority), urn, purpose, key=key)
    verified = verify(world, chain)
    assert (verified.urn, verified.purpose, verified.chain) == (urn, purpose, chain)
    assert verified.public == key.public_key()
    assert verified.kid == certificates.kid(chain[0]) == ids.digest(chain[0])
    assert verified.serials == tuple(x509.load_der_x509_certificate(der).serial_number for der in chain)


@pytest.mark.parametrize(("authority", "urn", "purpose"), ISSUED)
@pytest.mark.parametrize("other", ["root", "gateway", "merchant", "session"])
def test_no_other_authority_issues_it(world: World, authority: str, urn: str, purpose: str, other: str) -> None:
    if other != authority:
        with pytest.raises(ValueError, match="does not issue"):
            world.leaf(getattr(world, other), urn, purpose)


@pytest.mark.parametrize(
    ("urn", "purpose"),
    [(SHOP, "gateway-sign"), (CUSTOMER, "line"), (GATEWAY, "customer-sign"), (TEMPORARY, "merchant-sign"), (SHOP, "sealing"), (SHOP, "")],
)
def test_nobody_issues_a_purpose_to_another_role(world: World, urn: str, purpose: str) -> None:
    for authority in (world.root, world.gateway, world.merchant, world.session):
        with pytest.raises(ValueError, match="nobody issues"):
            world.leaf(authority, urn, purpose)


@pytest.mark.parametrize(("authority", "urn", "purpose"), ISSUED)
def test_openssl_accepts_the_chain(world: World, tmp_path: Path, openssl: str, authority: str, urn: str, purpose: str) -> None:
    leaf, *above = world.leaf(getattr(world, authority), urn, purpose)
    for name, chain in (("root", [world.root_der]), ("leaf", [leaf]), ("above", above)):
        (tmp_path / name).write_text(certificates.dump_chain_pem(chain))
    command = [openssl, "verify", "-x509_strict", "-attime", str(AT), "-CAfile", "root", "-untrusted", "above", "leaf"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True).stdout == "leaf: OK\n"


def test_openssl_accepts_the_list_of_the_revoked(world: World, tmp_path: Path, openssl: str) -> None:
    leaf, above = world.leaf(world.merchant, SHOP, "merchant-sign")
    serial = x509.load_der_x509_certificate(leaf).serial_number
    crl = x509.load_der_x509_crl(certificates.make_crl(world.merchant, {serial: AT}, AT, 7))
    for name, chain in (("root", [world.root_der]), ("leaf", [leaf]), ("above", [above])):
        (tmp_path / name).write_text(certificates.dump_chain_pem(chain))
    (tmp_path / "crl").write_bytes(crl.public_bytes(Encoding.PEM))
    command = [openssl, "verify", "-x509_strict", "-attime", str(AT), "-crl_check", "-CAfile", "root", "-untrusted", "above"]
    answer = subprocess.run([*command, "-CRLfile", "crl", "leaf"], cwd=tmp_path, capture_output=True, check=False, text=True)
    assert "certificate revoked" in answer.stderr


def test_a_second_writer_of_the_profile_agrees(world: World) -> None:
    """The drafts of the tests were written from the documents: whatever purpose, they verify."""
    for purpose, role, rest, authority, issuer in (
        ("gateway-seal", "gateway", "", world.gateway, "gateway"),
        ("line", "gateway", "", world.gateway, "gateway"),
        ("line", "merchant", "shop", world.merchant, "merchant"),
        ("temporary", "temporary", f"shop:{'s' * 22}", world.session, "session:shop"),
    ):
        draft = drafts.leaf(authority, AT, operator=OPERATOR, role=role, rest=rest, purpose=purpose, issuer_rest=issuer)
        assert verify(world, (draft.sign(), *authority.chain)).purpose == purpose


def test_dates_are_those_of_the_whole_chain(world: World) -> None:
    key = keys.new_key()
    short = drafts.authority(world.root, AT, key, operator=OPERATOR, rest="merchant", path_length=1, issuer_rest="root")
    above = certificates.Authority.below_root(key, [short.but(not_before=AT - 5, not_after=AT + 9).sign()])
    leaf = drafts.leaf(above, AT, operator=OPERATOR, role="merchant", rest="shop", purpose="merchant-sign", issuer_rest="merchant")
    verified = verify(world, (leaf.sign(), *above.chain))
    assert (verified.not_before, verified.not_after) == (AT - 5, AT + 9)


def test_first_and_last_second_are_valid_and_their_neighbours_are_not(world: World) -> None:
    chain = world.leaf(world.merchant, SHOP, "merchant-sign")
    for at in (AT - 120, AT + DAY_S):
        assert verify(world, chain, at).urn == SHOP
    for at in (AT - 121, AT + DAY_S + 1):
        with pytest.raises(ProtocolViolation, match="certificate_dates"):
            verify(world, chain, at)


def test_leaf_ends_with_its_authority_at_the_latest(world: World) -> None:
    session_life_s = 30 * DAY_S
    public = keys.new_key().public_key()
    der = certificates.make_leaf(world.session, urn=TEMPORARY, purpose="temporary", public=public, at=AT, lifetime_s=session_life_s * 2)
    assert verify(world, (der, *world.session.chain)).not_after == AT + session_life_s


def test_root_lives_twenty_years_also_beyond_2049() -> None:
    at = int(datetime(2040, 1, 1, tzinfo=UTC).timestamp())
    root = x509.load_der_x509_certificate(certificates.make_root(OPERATOR, keys.new_key(), at))
    assert root.not_valid_after_utc - datetime(2040, 1, 1, tzinfo=UTC) == timedelta(days=7_305)
    assert root.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value == x509.BasicConstraints(ca=True, path_length=2)


def test_serial_numbers_are_random(world: World) -> None:
    serials = {verify(world, world.leaf(world.merchant, SHOP, "line")).serials[0] for _ in range(8)}
    assert len(serials) == 8
    assert all(number.bit_length() == 127 for number in serials)


@pytest.mark.parametrize(
    ("issuer", "name", "path_length"),
    [
        ("root", "gateway", 1),
        ("root", "merchant", 0),
        ("root", "session:shop", 0),
        ("merchant", "gateway", 0),
        ("gateway", "session:shop", 0),
    ],
)
def test_authority_out_of_place_is_not_made(world: World, issuer: str, name: str, path_length: int) -> None:
    with pytest.raises(ValueError, match=r"path length|issued by"):
        certificates.make_authority(getattr(world, issuer), OPERATOR, name, keys.new_key().public_key(), path_length, AT)


@pytest.mark.parametrize("operator", ["", "Hana", "ha na", "h" * 33, "-hana", "hana:x"])
def test_operator_outside_the_grammar_gets_no_root(operator: str) -> None:
    with pytest.raises(ValueError, match="not a URN"):
        certificates.make_root(operator, keys.new_key(), AT)


def test_key_on_another_curve_gets_no_certificate(world: World) -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(ValueError, match="P-256"):
        certificates.make_leaf(world.merchant, urn=SHOP, purpose="line", public=public, at=AT, lifetime_s=1)


@pytest.mark.parametrize(
    ("urn", "purpose"), [*[(urn, purpose) for _, urn, purpose in ISSUED], ("", "customer-sign"), ("", "merchant-sign")]
)
def test_request_comes_back_with_its_key(urn: str, purpose: str) -> None:
    key = keys.new_key()
    request = certificates.read_request(certificates.certificate_request(key, urn, purpose))
    assert (request.urn, request.purpose, request.public) == (urn, purpose, key.public_key())


def test_request_with_another_key_inside_is_refused() -> None:
    """Proof of possession: nobody gets a certificate for a key that is not his."""
    mine, theirs = keys.new_key(), keys.new_key()
    request = certificates.certificate_request(mine, SHOP, "line")
    forged = request.replace(keys.public_point(mine.public_key()), keys.public_point(theirs.public_key()))
    assert forged != request
    with pytest.raises(ProtocolViolation, match="not signed"):
        certificates.read_request(forged)


def _foreign_requests() -> dict[str, bytes]:
    key = keys.new_key()
    good = certificates.certificate_request(key, SHOP, "line")
    usages = x509.load_der_x509_csr(good).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SHOP)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(drafts.name(OPERATOR, "merchant", "shop"))
    own = builder.add_extension(usages, critical=True)
    whole = own.add_extension(names, critical=False)
    assert certificates.read_request(whole.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)).urn == SHOP
    signed = {
        "SHA-384": whole.sign(key, hashes.SHA384()),
        "P-384": whole.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        "RSA": whole.sign(rsa.generate_private_key(public_exponent=65537, key_size=2048), hashes.SHA256()),
        "CA": whole.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256()),
        "no purpose": builder.add_extension(names, critical=False).sign(key, hashes.SHA256()),
        "no extension": builder.sign(key, hashes.SHA256()),
        "subject without URN": own.sign(key, hashes.SHA256()),
        "purpose not critical": builder.add_extension(usages, critical=False)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256()),
        "purpose of another": builder.add_extension(x509.ExtendedKeyUsage([PURPOSES["gateway-sign"]]), critical=True)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256()),
        "attribute": whole.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"x").sign(key, hashes.SHA256()),
    }
    return {
        "empty": b"",
        "rest": good + b"\0",
        "altered signature": good[:-1] + bytes([good[-1] ^ 1]),
        "too long": good + bytes(2_048),
        **{name: request.public_bytes(Encoding.DER) for name, request in signed.items()},
    }


FOREIGN_REQUESTS = _foreign_requests()


@pytest.mark.parametrize("defect", FOREIGN_REQUESTS)
def test_request_of_another_form_is_refused(defect: str) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        certificates.read_request(FOREIGN_REQUESTS[defect])
    assert refused.value.rule == "request"


def test_openssl_verifies_the_request(openssl: str, tmp_path: Path) -> None:
    (tmp_path / "request").write_bytes(certificates.certificate_request(keys.new_key(), SHOP, "line"))
    command = [openssl, "req", "-inform", "DER", "-in", "request", "-verify", "-noout"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True)
    assert "verify OK" in answer.stdout + answer.stderr


def test_chain_comes_back_from_its_file(world: World, tmp_path: Path) -> None:
    chain = world.leaf(world.session, TEMPORARY, "temporary")
    (tmp_path / "chain.pem").write_text(certificates.dump_chain_pem(chain))
    assert certificates.load_chain_pem(tmp_path / "chain.pem") == chain


@pytest.mark.parametrize("content", [None, b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", bytes(32_769)])
def test_file_without_certificates_is_bad_input(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "chain.pem").write_bytes(content)
    with pytest.raises(BadInput, match=r"chain\.pem"):
        certificates.load_chain_pem(tmp_path / "chain.pem")
