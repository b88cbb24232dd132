"""The browser's certificate reader: the good chain is accepted, and each defect, alone, is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hanbit.crypto import keys
from hanbit.crypto.certificates import make_authority, make_leaf, make_root
from tests.faces import program
from tests.unit.crypto import drafts
from tests.unit.crypto.authorities import AT, DAY_S, OPERATOR, World, make_world
from tests.unit.crypto.drafts import Draft
from tests.unit.crypto.test_certificate_defects import DEFECTS, ENCODINGS, PATHS, SHOP, good

GATEWAY = f"urn:hanbit:{OPERATOR}:gateway"
EXPECTED = {"urn": SHOP, "purpose": "merchant-sign", "authority": "merchant"}
TOLERANCE_S = DAY_S
Chain = tuple[bytes, ...]


def draft_defects(world: World) -> dict[str, Chain]:
    draft = good(world)
    return {
        name: (spoil(draft).sign(), *world.merchant.chain)
        for name, (_, spoil) in DEFECTS.items()
        if name not in {"expired", "not yet valid"}  # a day is forgiven here: see the tests of the clock
    }


def encoding_defects(world: World) -> dict[str, Chain]:
    der = good(world).sign()
    return {
        name: (drafts.edit(der, world.merchant.key, change, algorithm=algorithm), *world.merchant.chain)
        for name, (_, change, algorithm) in ENCODINGS.items()
    }


def path_defects(world: World) -> dict[str, Chain]:
    return {name: path.chain(world) for name, path in PATHS.items()}


def authority_defects(world: World) -> dict[str, Chain]:
    def under(change: Callable[[Draft], Draft]) -> Chain:
        key = world.merchant.key
        draft = drafts.authority(world.root, AT, key, operator=OPERATOR, rest="merchant", path_length=1, issuer_rest="root")
        return good(world).sign(), change(draft).sign()

    return {
        "authority with another path length": under(
            lambda draft: draft.replacing(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        ),
        "authority without a path length": under(
            lambda draft: draft.replacing(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        ),
        "authority that is none": under(lambda draft: draft.replacing(x509.BasicConstraints(ca=False, path_length=None), critical=True)),
        "authority that may sign messages": under(
            lambda draft: draft.replacing(drafts.usage("key_cert_sign", "crl_sign", "digital_signature"), critical=True)
        ),
        "authority signed by another root": under(lambda draft: draft.but(signer=keys.new_key())),
        "authority that has expired": under(lambda draft: draft.but(not_after=AT - TOLERANCE_S - 1)),
        "authority of the gateway's name": under(lambda draft: draft.but(subject=drafts.name(OPERATOR, "authority", "gateway"))),
    }


def byte_defects(world: World) -> dict[str, Chain]:
    der = good(world).sign()
    above = world.merchant.chain
    long_form = der[:1] + b"\x83\0" + der[2:]
    return {
        "altered signature": (der[:-1] + bytes([der[-1] ^ 1]), *above),
        "bytes after it": (der + b"\0", *above),
        "cut short": (der[:-1], *above),
        "nothing": (b"", *above),
        "length in three octets": (long_form, *above),
        "length without end": (b"\x30\x80" + der[4:] + b"\0\0", *above),
        "length beyond the end": (b"\x30\x82\xff\xff" + der[4:], *above),
        "ten thousand bytes": (der + bytes(10_000), *above),
        "no DER at all": (b"hello, world", *above),
        "a signature of one number": (signed_with(der, bytes.fromhex("3003020101")), *above),
        "a signature of three numbers": (signed_with(der, bytes.fromhex("3009020101020101020101")), *above),
        "a signature with a negative number": (signed_with(der, bytes.fromhex("30060201ff020101")), *above),
        "a signature with a long spelling": (signed_with(der, bytes.fromhex("3007020200010201")), *above),
        "no signature": (signed_with(der, b""), *above),
    }


def signed_with(der: bytes, signature: bytes) -> bytes:
    """The same certificate with other bytes where the signature was."""
    certificate = x509.load_der_x509_certificate(der)
    return drafts.der(0x30, certificate.tbs_certificate_bytes + drafts.ECDSA_SHA256 + drafts.der(0x03, b"\0" + signature))


def foreign(world: World) -> dict[str, Chain]:
    other = make_world()
    elsewhere = make_world("dul")
    return {
        "the same names under another root": other.leaf(other.merchant, SHOP, "merchant-sign"),
        "the same names and identifiers under another key": (good(world).but(signer=other.merchant.key).sign(), *world.merchant.chain),
        "another operator": elsewhere.leaf(elsewhere.merchant, "urn:hanbit:dul:merchant:shop", "merchant-sign"),
        "another merchant": world.leaf(world.merchant, f"urn:hanbit:{OPERATOR}:merchant:other", "merchant-sign"),
        "the merchant's line key": world.leaf(world.merchant, SHOP, "line"),
    }


@pytest.fixture(scope="module")
def answers(node: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    world = make_world()
    groups = (draft_defects, encoding_defects, path_defects, authority_defects, byte_defects, foreign)
    chains = {"good": (good(world).sign(), *world.merchant.chain)}
    for group in groups:
        chains |= group(world)
    calls = [{"act": "chain", "chain": program.base64_of(chain), "expected": EXPECTED, "at": AT} for chain in chains.values()]
    found = program.run(node, tmp_path_factory.mktemp("program"), calls, gateway_urn=GATEWAY, root=world.root_der)
    return dict(zip(chains, found, strict=True))


NAMES = sorted(
    {
        name
        for group in (draft_defects, encoding_defects, path_defects, authority_defects, byte_defects, foreign)
        for name in group(make_world())
    }
)


@pytest.mark.parametrize("defect", NAMES)
def test_certificate_with_one_defect_is_refused_in_the_browser(answers: dict[str, dict[str, Any]], defect: str) -> None:
    assert "value" in answers["good"], answers["good"]
    assert answers[defect].get("untrusted", "").startswith("certificate_"), answers[defect]


@pytest.mark.parametrize(
    ("late_s", "accepted", "noted"),
    [(0, True, False), (DAY_S, True, False), (DAY_S + 1, True, True), (2 * DAY_S, True, True), (2 * DAY_S + 1, False, False),
     (-120, True, False), (-121, True, True), (-120 - DAY_S, True, True), (-121 - DAY_S, False, False)],
)  # fmt: skip
def test_a_wrong_clock_of_the_customer_is_forgiven_for_a_day_and_noted(
    node: str, tmp_path: Path, late_s: int, accepted: bool, noted: bool
) -> None:
    world = make_world(at=AT)
    root_key = keys.new_key()
    root = make_root(OPERATOR, root_key, AT - 30 * DAY_S)
    top = type(world.root).of_root(root_key, root)
    key = keys.new_key()
    authority = make_authority(top, OPERATOR, "merchant", key.public_key(), 1, AT - 30 * DAY_S)
    issuer = type(world.root).below_root(key, [authority])
    leaf = make_leaf(issuer, urn=SHOP, purpose="merchant-sign", public=keys.new_key().public_key(), at=AT, lifetime_s=DAY_S)
    call = {"act": "chain", "chain": program.base64_of((leaf, authority)), "expected": EXPECTED, "at": AT + late_s}
    (answer,) = program.run(node, tmp_path, [call], gateway_urn=GATEWAY, root=root)
    if accepted:
        assert answer["value"]["clockDiffers"] is noted
    else:
        assert answer == {"untrusted": "certificate_dates"}


def test_certificates_with_dates_after_2049_are_read(node: str, tmp_path: Path) -> None:
    at = 2_600_000_000
    world = make_world(at=at)
    leaf = world.leaf(world.merchant, SHOP, "merchant-sign")
    call = {"act": "chain", "chain": program.base64_of(leaf), "expected": EXPECTED, "at": at}
    (answer,) = program.run(node, tmp_path, [call], gateway_urn=GATEWAY, root=world.root_der)
    assert "value" in answer, answer
