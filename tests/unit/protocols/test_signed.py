"""The eleven rules of a signed message, one after the other, and whatever bytes may come: a SignedMessage or ProtocolViolation."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.crypto import signatures
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import signed
from hanbit.protocols.redirect.messages import Notice, Order
from hanbit.protocols.signed import PinnedTrust, SignedMessage, join, peek_chain, peek_claims, peek_typ, split
from tests.unit.wallet.parties import AT, bank, forger, make_order, signer

GATEWAY, SHOP = "urn:hanbit:bank:gateway", "urn:hanbit:bank:merchant:shop"
DAY_S = 86_400


def notice(**changes: Any) -> SignedMessage[Notice]:
    claims = signed.head(bank().gateway, SHOP, AT) | {
        "payment": "P" * 22, "tid": "T" * 22, "amount": "1000", "currency": "KRW", "order": "A" * 43, "prev": "A" * 43, "exp": AT + 600,
    }  # fmt: skip
    return signed.sign(Notice(**(claims | changes)), bank().gateway)


def verify(unverified: str | bytes, *, at: int = AT, audience: str = SHOP, sender: str | None = GATEWAY) -> SignedMessage[Notice]:
    return signed.verify(unverified, Notice, trust=PinnedTrust(bank().root, "bank"), audience=audience, at=at, sender=sender)


def rule(unverified: str | bytes, **arguments: Any) -> str:
    with pytest.raises(ProtocolViolation) as refused:
        verify(unverified, **arguments)
    return refused.value.rule


def signed_by_gateway(header: dict[str, Any], payload: bytes) -> str:
    """Any header and payload under the gateway's own signature."""
    body = f"{ids.encode_base64url(json.dumps(header).encode())}.{ids.encode_base64url(payload)}"
    return f"{body}.{ids.encode_base64url(signatures.sign(bank().gateway.key, body.encode()))}"


def header(**changes: Any) -> dict[str, Any]:
    known = json.loads(ids.decode_base64url(notice().compact.split(".", maxsplit=1)[0])) | changes
    return {name: value for name, value in known.items() if value is not None}


def payload(**changes: Any) -> bytes:
    return json.dumps(peek_claims(notice().compact) | changes).encode()


def test_a_signed_message_comes_back_with_its_bytes_hash_and_claims() -> None:
    made = notice()
    for unverified in (made.compact, made.compact.encode()):
        assert verify(unverified) == made
    assert made.hash == ids.digest(made.compact.encode())
    assert (peek_typ(made.compact), peek_chain(made.compact)) == (Notice.TYP, bank().gateway.chain)
    assert join(*split(made.compact)) == made.compact


def test_somebody_elses_serialisation_is_taken_as_it_was_sent() -> None:
    spaced = signed_by_gateway(header(), json.dumps(peek_claims(notice().compact), indent=2).encode())
    assert verify(spaced).compact == spaced


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("A" * (signed.MESSAGE_MAX + 1), "size"),
        ("", "shape"),
        ("a.b", "shape"),
        ("a.b.c.d", "shape"),
        ("é.b.c", "shape"),
        (b"\xff.b.c", "shape"),
    ],
)
def test_1_and_2_size_and_shape(message: str | bytes, expected: str) -> None:
    assert rule(message) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": "es256"},
        {"alg": None},
        {"crit": ["exp"]},
        {"b64": False},
        {"zip": "DEF"},
        {"jwk": {"kty": "EC"}},
        {"jku": "https://evil.example"},
        {"x5u": "https://evil.example"},
        {"kid": "short"},
        {"kid": None},
        {"x5c": None},
        {"x5c": []},
        {"x5c": ["A"] * 4},
        {"x5c": ["!"]},
        {"x5c": "AAAA"},
    ],
    ids=str,
)
def test_3_nothing_else_stands_in_the_header(changes: dict[str, Any]) -> None:
    assert rule(signed_by_gateway(header(**changes), payload())) == "header"


def test_3_a_name_twice_in_the_header_is_refused() -> None:
    text = json.dumps(header()).replace('"alg"', '"alg": "ES256", "alg"', 1)
    body = f"{ids.encode_base64url(text.encode())}.{ids.encode_base64url(payload())}"
    assert rule(f"{body}.{ids.encode_base64url(signatures.sign(bank().gateway.key, body.encode()))}") in ("header", "claims")


def test_3_an_order_has_no_certificate_and_everything_else_has() -> None:
    order = make_order()
    with_chain = signed_by_gateway(header(typ=Order.TYP), payload())
    with pytest.raises(ProtocolViolation) as refused:
        signed.verify(with_chain, Order, trust=PinnedTrust(bank().root, "bank"), audience=GATEWAY, at=AT)
    assert refused.value.rule == "header"
    assert peek_chain(order.compact) == ()


@pytest.mark.parametrize("typ", ["hanbit-settled", "hanbit-order", "JWT", ""])
def test_4_the_typ_fits_the_place(typ: str) -> None:
    assert rule(signed_by_gateway(header(typ=typ), payload())) == "typ"


def test_5_a_certificate_only_selects_a_key_that_is_trusted() -> None:
    false = signed.sign(notice().claims, forger().gateway)
    assert rule(false.compact).startswith(("certificate", "unknown_key"))
    assert rule(signed_by_gateway(header(kid=bank().shop.kid), payload())) == "unknown_key"


def test_5_a_pinned_party_is_the_only_one() -> None:
    trust = PinnedTrust(bank().root, "bank", urn=SHOP)
    with pytest.raises(ProtocolViolation) as refused:
        signed.verify(notice().compact, Notice, trust=trust, audience=SHOP, at=AT)
    assert refused.value.rule == "unknown_key"


def test_6_a_key_of_another_purpose_signs_nothing() -> None:
    seal = signer(bank().gateway_authority, GATEWAY, "gateway-seal", AT)
    wrong = signed.Signer(urn=GATEWAY, purpose="gateway-sign", kid=seal.kid, chain=seal.chain, key=seal.key)
    assert rule(signed.sign(notice().claims, wrong).compact) == "purpose"


@pytest.mark.parametrize("at", [AT + 91 * DAY_S, AT - 2 * DAY_S])
def test_6_a_key_outside_its_dates_signs_nothing(at: int) -> None:
    made = notice(iat=AT - 3 * DAY_S).compact
    verify(made)
    trust = PinnedTrust(bank().root, "bank")
    signed.verify(made, Notice, trust=trust, audience=SHOP, at=AT)
    with pytest.raises(ProtocolViolation) as refused:
        signed.verify(made, Notice, trust=trust, audience=SHOP, at=at)
    assert refused.value.rule == "certificate_dates", "also where the chain is known already"


def test_6_a_revoked_key_signs_nothing_from_that_moment() -> None:
    made, revoked = notice().compact, set[int]()
    trust = PinnedTrust(bank().root, "bank", revoked=lambda: frozenset(revoked))
    signed.verify(made, Notice, trust=trust, audience=SHOP, at=AT)
    revoked.update(trust._verified[bank().gateway.kid].serials)
    with pytest.raises(ProtocolViolation) as refused:
        signed.verify(made, Notice, trust=trust, audience=SHOP, at=AT)
    assert refused.value.rule == "revoked"


@pytest.mark.parametrize("position", range(0, 86, 7))
def test_7_no_character_of_a_signature_may_differ(position: int) -> None:
    body, _, signature = notice().compact.rpartition(".")
    other = "A" if signature[position] != "A" else "B"
    assert rule(f"{body}.{signature[:position]}{other}{signature[position + 1 :]}") in ("signature", "shape")


@pytest.mark.parametrize("signature", ["", "AA", "A" * 85, "A" * 86, "A" * 87, "A" * 88])
def test_7_a_signature_of_another_length_is_none(signature: str) -> None:
    assert rule(f"{notice().compact.rpartition('.')[0]}.{signature}") in ("signature", "shape")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"v": 2}, "version"),
        ({"iss": SHOP}, "sender"),
        ({"aud": GATEWAY}, "aud"),
        ({"aud": "urn:hanbit:bank:merchant:other"}, "aud"),
        ({"iat": AT + 121}, "iat"),
        ({"amount": "01"}, "claims"),
        ({"amount": 1}, "claims"),
        ({"tid": "short"}, "claims"),
        ({"exp": 1.5}, "claims"),
        ({"exp": -1}, "claims"),
        ({"exp": 1e3}, "claims"),
        ({"more": 1}, "claims"),
        ({"jti": "x"}, "claims"),
        ({"currency": "won"}, "claims"),
    ],
    ids=str,
)
def test_8_to_11_sender_audience_time_and_claims(changes: dict[str, Any], expected: str) -> None:
    assert rule(signed_by_gateway(header(), payload(**changes))) == expected


def test_8_what_comes_straight_from_a_peer_is_the_peers() -> None:
    assert rule(notice().compact, sender=SHOP) == "sender"
    assert verify(notice().compact, sender=None).claims.iss == GATEWAY


def test_10_two_minutes_ahead_are_forgiven() -> None:
    assert verify(notice(iat=AT + 120).compact).claims.iat == AT + 120


@pytest.mark.parametrize(
    "text", [b'{"v":1,"v":1}', b"[]", b"null", b"", b"{", b'{"v":NaN}', b"[" * 9000, b"\xff"], ids=lambda text: repr(text[:8])
)
def test_11_claims_are_one_strict_object(text: bytes) -> None:
    assert rule(signed_by_gateway(header(), text)) == "claims"


@pytest.mark.parametrize("again", ['"amount":"1000",', '"exp":1800000600.0,'])
def test_11_what_two_readers_would_read_differently_is_refused(again: str) -> None:
    assert rule(signed_by_gateway(header(), payload().replace(b"{", b"{" + again.encode(), 1))) == "claims"


def test_nobody_signs_for_another_or_outside_his_purpose() -> None:
    for wrong in (bank().shop, signer(bank().gateway_authority, GATEWAY, "gateway-seal", AT)):
        with pytest.raises(AssertionError):
            signed.sign(notice().claims, wrong)


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300)))
def test_arbitrary_bytes_are_a_broken_rule_and_nothing_else(unverified: str | bytes) -> None:
    for reading in (verify, peek_typ, peek_claims, peek_chain):
        with pytest.raises(ProtocolViolation):
            reading(unverified)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_any_json_in_any_place_is_a_broken_rule_and_nothing_else(value: Any) -> None:
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    with pytest.raises(ProtocolViolation):
        verify(signed_by_gateway(header(), text))
    with pytest.raises(ProtocolViolation):
        verify(f"{ids.encode_base64url(text)}.e30.{'A' * 86}")
