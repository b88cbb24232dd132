"""No bytes whatever make a reader of foreign bytes raise anything but the error that says whose fault they are."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.crypto import certificates, envelopes, keys, signatures, tls
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from tests.unit.crypto.authorities import AT, OPERATOR, make_world

WORLD = make_world()
KEY = keys.new_key()
KID = ids.digest(b"certificate")
SECRET = bytes(range(32))
SHOP = f"urn:hanbit:{OPERATOR}:merchant:shop"
CHAIN = WORLD.leaf(WORLD.merchant, SHOP, "line")
REQUEST = certificates.certificate_request(KEY, SHOP, "line")
CRL = certificates.make_crl(WORLD.merchant, {5: AT, 6: AT}, AT, 1)
TO_KEY = envelopes.seal_to_key(KEY.public_key(), KID, b"secret", "hanbit-key")
UNDER_SECRET = envelopes.seal_with_secret(SECRET, b"secret", {"typ": "hanbit-pay", "ctx": "A" * 22, "sequence": 1, "tid": "B" * 22})

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def spoiled(draw: st.DrawFn, good: bytes) -> bytes:
    """Good bytes with a few places overwritten, cut out or filled in; sometimes bytes of no origin."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=600))
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        width = draw(st.integers(0, 3))
        data[place : place + width] = draw(st.binary(max_size=3))
    return bytes(data)


def only_a_violation(attempt: Callable[[], Any], *, else_good: Callable[[Any], bool]) -> None:
    """The reader returns something true or raises ProtocolViolation; anything else fails the test by itself."""
    try:
        result = attempt()
    except ProtocolViolation:
        return
    assert else_good(result)


@given(spoiled(CHAIN[0]), spoiled(CHAIN[1]), st.booleans())
def test_chain(leaf: bytes, authority: bytes, both: bool) -> None:
    chain = (leaf, authority) if both else (leaf, CHAIN[1])
    only_a_violation(
        lambda: certificates.verify_chain(chain, root=WORLD.root_der, at=AT, operator=OPERATOR),
        else_good=lambda verified: verified.chain == CHAIN or verified.public == certificates.verify_chain(
            CHAIN, root=WORLD.root_der, at=AT, operator=OPERATOR
        ).public,
    )  # fmt: skip


@given(st.lists(st.binary(max_size=64) | st.sampled_from([*CHAIN, WORLD.root_der]), max_size=5))
def test_chain_of_any_shape(chain: list[bytes]) -> None:
    only_a_violation(
        lambda: certificates.verify_chain(chain, root=WORLD.root_der, at=AT, operator=OPERATOR),
        else_good=lambda _: tuple(chain) == CHAIN,
    )


@given(spoiled(WORLD.root_der))
def test_root(root: bytes) -> None:
    only_a_violation(
        lambda: certificates.verify_chain(CHAIN, root=root, at=AT, operator=OPERATOR), else_good=lambda _: root == WORLD.root_der
    )


@given(spoiled(CHAIN[0]))
def test_peer(der: bytes) -> None:
    """The signature is OpenSSL's business here, so a spoiled one may pass: never another name."""
    only_a_violation(
        lambda: tls.peer_urn(der, WORLD.root_der, AT, OPERATOR), else_good=lambda urn: urn.startswith("urn:hanbit:hana:merchant:")
    )


@given(spoiled(REQUEST))
def test_request(der: bytes) -> None:
    only_a_violation(lambda: certificates.read_request(der), else_good=lambda request: request.public == KEY.public_key())


@given(spoiled(CRL))
def test_list_of_the_revoked(der: bytes) -> None:
    only_a_violation(lambda: certificates.verify_crl(der, WORLD.merchant.chain[0], AT), else_good=lambda revoked: revoked == {5, 6})


@given(spoiled(signatures.sign(KEY, b"data")), st.binary(max_size=40))
def test_signature(signature: bytes, data: bytes) -> None:
    only_a_violation(lambda: signatures.verify(KEY.public_key(), data, signature), else_good=lambda _: data == b"data")


@given(JSON | st.fixed_dictionaries({"kty": st.just("EC"), "crv": st.just("P-256"), "x": JSON, "y": JSON}))
def test_jwk(jwk: object) -> None:
    only_a_violation(lambda: keys.public_from_jwk(jwk), else_good=lambda public: keys.public_jwk(public) == jwk)


@given(st.binary(min_size=64, max_size=64))
def test_jwk_of_any_point(point: bytes) -> None:
    jwk = {"kty": "EC", "crv": "P-256", "x": ids.encode_base64url(point[:32]), "y": ids.encode_base64url(point[32:])}
    only_a_violation(lambda: keys.public_from_jwk(jwk), else_good=lambda public: keys.public_jwk(public) == jwk)


@st.composite
def sealed_texts(draw: st.DrawFn) -> str:
    """Any text; spoiled good ones; good ones under another header."""
    good = draw(st.sampled_from([TO_KEY, UNDER_SECRET]))
    match draw(st.integers(0, 3)):
        case 0:
            return draw(st.text(max_size=300))
        case 1:
            return draw(spoiled(good.encode())).decode("latin-1")
        case 2:
            header = draw(spoiled(ids.decode_base64url(good.partition(".")[0])))
            return f"{ids.encode_base64url(header)}.{good.partition('.')[2]}"
        case _:
            parts = good.split(".")
            place = draw(st.integers(0, 4))
            parts[place] = ids.encode_base64url(draw(st.binary(max_size=60)))
            return ".".join(parts)


OPENERS: dict[str, Callable[[str], Any]] = {
    "open_with_key": lambda text: envelopes.open_with_key(text, KEY, typ="hanbit-key", expected_kid=KID),
    "open_with_secret": lambda text: envelopes.open_with_secret(text, SECRET)[1],
}


@pytest.mark.parametrize("opener", OPENERS)
@given(text=sealed_texts())
def test_sealed(opener: str, text: str) -> None:
    only_a_violation(lambda: OPENERS[opener](text), else_good=lambda plain: plain == b"secret" and text in {TO_KEY, UNDER_SECRET})


@given(sealed_texts())
def test_peek(text: str) -> None:
    only_a_violation(
        lambda: envelopes.peek_header(text),
        else_good=lambda header: header["enc"] == "A256GCM" and str(header["typ"]).startswith("hanbit-"),
    )
