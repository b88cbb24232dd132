"""D2: whoever asks for a session holds the key that he names; no other message may come in by the same door, nor this one by another."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.crypto import keys
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import customer
from hanbit.protocols.dual_signature.messages import Session, SessionRequest
from hanbit.protocols.signed import PinnedTrust
from tests.protocol.dual_signature.parties import Exchange, merchant, other_shop, re_header, re_payload, twice, with_float
from tests.unit.wallet.parties import AT, bank

HEADER: dict[str, object] = {"alg": "ES256", "typ": "hanbit-session-request"}


@pytest.fixture(scope="module")
def made() -> Exchange:
    return Exchange.make()


def refused(compact: str, *, at: int = AT) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        merchant().verify_session_request(compact, at=at)
    return caught.value.rule


def test_request_names_its_key_by_thumbprint_and_nobody(made: Exchange) -> None:
    request = merchant().verify_session_request(made.asking.request.compact, at=AT)
    assert request.kid == keys.thumbprint(made.asking.key.public_key())
    assert request.claims.iss == "urn:hanbit:bank:customer"
    assert request.hash == made.asking.request.hash
    assert msgspec.json.decode(ids.decode_base64url(request.compact.split(".")[0])) == HEADER


def test_each_request_has_a_key_and_a_nonce_of_its_own(made: Exchange) -> None:
    again = customer.make_session_request(made.opening, at=AT)
    assert again.request.kid != made.asking.request.kid
    assert again.request.claims.nc != made.asking.request.claims.nc


@pytest.mark.parametrize(
    "more",
    [
        {"kid": "A" * 43},
        {"kid": "A" * 43, "x5c": []},
        {"jwk": {}},
        {"crit": ["b64"], "b64": False},
        {"zip": "DEF"},
        {"jku": "https://x.example/"},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": None},
        {"typ": None},
    ],
)
def test_header_is_exactly_alg_and_typ(made: Exchange, more: dict[str, object]) -> None:
    assert refused(re_header(made.asking.request.compact, HEADER | more, made.asking.key)) == "header"


def test_another_typ_is_not_a_request(made: Exchange) -> None:
    assert refused(re_header(made.asking.request.compact, HEADER | {"typ": "hanbit-session"}, made.asking.key)) == "typ"


def test_signature_of_another_key_is_refused(made: Exchange) -> None:
    assert refused(re_header(made.asking.request.compact, HEADER, keys.new_key())) == "signature"


def other_claims(**changes: Any) -> Callable[[Exchange], str]:
    return lambda made: signed.sign_keyed(msgspec.structs.replace(made.asking.request.claims, **changes), made.asking.key).compact


@pytest.mark.parametrize(
    ("defect", "rule"),
    [
        (other_claims(iss="urn:hanbit:bank:gateway"), "sender"),
        (other_claims(iss="urn:hanbit:otherbank:customer"), "sender"),
        (other_claims(iss="urn:hanbit:bank:customer:hong"), "sender"),
        (other_claims(aud="urn:hanbit:bank:merchant:other"), "aud"),
        (other_claims(aud="urn:hanbit:bank:gateway"), "aud"),
        (other_claims(iat=AT + 121), "iat"),
        (other_claims(v=2), "version"),
        (other_claims(nc="short"), "claims"),
        (other_claims(order="short"), "claims"),
        (other_claims(jti="short"), "claims"),
    ],
)
def test_request_with_one_defect_is_refused(made: Exchange, defect: Callable[[Exchange], str], rule: str) -> None:
    assert refused(defect(made)) == rule


def with_key(**changes: str) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        claims = msgspec.json.decode(payload)
        claims["key"] |= changes
        return msgspec.json.encode(claims)

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (with_key(y="A" * 43), "jwk"),
        (with_key(x="_" * 43), "jwk"),
        (with_key(x="A" * 42), "claims"),
        (with_key(d="A" * 43), "claims"),
        (with_key(crv="P-384"), "claims"),
        (with_key(kty="RSA"), "claims"),
        (twice("nc"), "claims"),
        (twice("key"), "claims"),
        (with_float("iat"), "claims"),
        (lambda payload: payload[:-1] + b',"more":1}', "claims"),
        (lambda payload: b"[" + payload + b"]", "claims"),
        (lambda _: b"\xff", "claims"),
        (lambda _: b"[" * 20_000, "claims"),
    ],
)
def test_payload_that_two_readers_could_read_in_two_ways_is_refused(made: Exchange, change: Callable[[bytes], bytes], rule: str) -> None:
    assert refused(re_payload(made.asking.request.compact, change, made.asking.key)) == rule


def test_oversized_request_is_refused_before_anything_is_read() -> None:
    assert refused("a" * (signed.MESSAGE_MAX + 1)) == "size"


@given(st.text(alphabet="ab.AZ09-_=\n\0é", max_size=60))
def test_noise_is_refused(noise: str) -> None:
    assert refused(noise) in {"shape", "header", "size"}


def test_request_is_no_other_message_and_no_other_message_is_a_request(made: Exchange) -> None:
    trust = PinnedTrust(bank().root, "bank")
    for kind in (SessionRequest, Session):
        with pytest.raises(ProtocolViolation, match="header"):
            signed.verify(made.asking.request.compact, kind, trust=trust, audience=bank().shop.urn, at=AT)
    with pytest.raises(ProtocolViolation, match="header"):
        signed.peek_typ(made.asking.request.compact)
    assert refused(made.opened.session.compact) == "header"
    assert refused(made.purchase.dual) == "header"
    assert refused(made.order.compact) == "header"


def test_request_to_one_shop_opens_no_session_at_another(made: Exchange) -> None:
    with pytest.raises(ProtocolViolation, match="aud"):
        merchant(other_shop()).verify_session_request(made.asking.request.compact, at=AT)


def test_only_the_key_that_is_named_may_sign(made: Exchange) -> None:
    with pytest.raises(AssertionError):
        signed.sign_keyed(made.asking.request.claims, keys.new_key())
