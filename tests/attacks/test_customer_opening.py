"""A false gateway or a middleman between the customer and the gateway: nothing is believed, so that no password is ever sealed."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.crypto import certificates, keys, signatures
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols import signed
from hanbit.protocols.redirect import customer
from tests.unit.wallet.parties import (
    AT,
    DAY_S,
    bank,
    forger,
    make_keys,
    make_opening,
    make_order,
    other_bank,
    query,
    redirect,
    signer,
)

GATEWAY = "urn:hanbit:bank:gateway"
ORDER = make_order()
KEYS = make_keys(ORDER)
UNTRUSTED = {"certificate_profile", "certificate_signature"}
"""A chain to another root: its key identifiers differ, or, where they were copied, its signatures."""
Shown = dict[str, Any]


def refused(shown: Shown, *, clear: dict[str, str] | None = None, at: int = AT) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        customer.verify_opening(msgspec.json.encode(shown), redirect=redirect(ORDER, **(clear or {})), pin=bank().pin, at=at)
    return caught.value.rule


def seal_for(urn: str, purpose: str, *, at: int = AT - 3600) -> bytes:
    authority = bank().merchant_authority if purpose.startswith("merchant") else bank().gateway_authority
    return certificates.make_leaf(authority, urn=urn, purpose=purpose, public=keys.new_key().public_key(), at=at, lifetime_s=DAY_S)


def shown_with(keys_jws: str, **changes: Any) -> Shown:
    return make_opening(ORDER, keys_jws, **changes)


def resign(claims: dict[str, Any], by: signed.Signer, typ: str = "hanbit-keys") -> str:
    """Sign any claims with any key, which our own `sign` refuses."""
    header = {"alg": "ES256", "typ": typ, "kid": by.kid, "x5c": [signed.encode_der(der) for der in by.chain]}
    text = ".".join(ids.encode_base64url(msgspec.json.encode(part)) for part in (header, claims))
    return f"{text}.{ids.encode_base64url(signatures.sign(by.key, text.encode('ascii')))}"


def test_keys_signed_under_another_root_of_the_same_name() -> None:
    assert refused(shown_with(make_keys(ORDER, forger().gateway, seal=forger().seal))) in UNTRUSTED


def test_keys_of_another_operator_under_its_own_name() -> None:
    shown = shown_with(make_keys(ORDER, other_bank().gateway, seal=other_bank().seal), gateway="urn:hanbit:otherbank:gateway")
    assert refused(shown) == "gateway"


def test_keys_of_another_operator_under_our_gateways_name() -> None:
    assert refused(shown_with(make_keys(ORDER, other_bank().gateway, seal=other_bank().seal))).startswith("certificate_")


def test_keys_signed_by_a_merchant() -> None:
    claims = msgspec.json.decode(signed.split(KEYS)[1]) | {"iss": bank().shop.urn}
    assert refused(shown_with(resign(claims, bank().shop))) == "unknown_key"


def test_keys_signed_by_a_customers_device_that_calls_itself_the_gateway() -> None:
    claims = msgspec.json.decode(signed.split(KEYS)[1])
    assert refused(shown_with(resign(claims, bank().customer()))) == "unknown_key"


def test_keys_signed_with_the_gateways_key_of_the_private_line() -> None:
    line = signer(bank().gateway_authority, GATEWAY, "line", AT - 60)
    assert refused(shown_with(resign(msgspec.json.decode(signed.split(KEYS)[1]), line))) == "purpose"


def test_keys_meant_for_somebody_else() -> None:
    assert refused(shown_with(make_keys(ORDER, aud=GATEWAY))) == "aud"


@pytest.mark.parametrize("typ", ["hanbit-receipt", "hanbit-notice", "hanbit-settled"])
def test_message_of_another_kind_in_the_place_of_keys(typ: str) -> None:
    assert refused(shown_with(resign(msgspec.json.decode(signed.split(KEYS)[1]), bank().gateway, typ))) == "typ"


def test_keys_altered_by_one_character() -> None:
    header, payload, signature = KEYS.split(".")
    claims = msgspec.json.decode(ids.decode_base64url(payload)) | {"amount": "220001"}
    altered = f"{header}.{ids.encode_base64url(msgspec.json.encode(claims))}.{signature}"
    assert refused(shown_with(altered)) == "signature"


def test_keys_without_a_signature() -> None:
    header, payload, _ = KEYS.split(".")
    assert refused(shown_with(f"{header}.{payload}.")) == "signature"


@pytest.mark.parametrize(
    ("urn", "purpose"),
    [
        (GATEWAY, "gateway-sign"),
        (GATEWAY, "line"),
        ("urn:hanbit:bank:customer:hong", "customer-sign"),
        ("urn:hanbit:bank:merchant:shop", "merchant-sign"),
    ],
)
def test_seal_certificate_of_another_party_or_purpose(urn: str, purpose: str) -> None:
    assert refused(shown_with(make_keys(ORDER, seal=seal_for(urn, purpose)))) in {"seal", "certificate_issuer"}


def test_seal_certificate_under_another_root() -> None:
    assert refused(shown_with(make_keys(ORDER, seal=forger().seal))) in UNTRUSTED


@pytest.mark.parametrize("off_days", [-2.1, 2.1])
def test_seal_certificate_more_than_a_day_out_of_date(off_days: float) -> None:
    old = seal_for(GATEWAY, "gateway-seal", at=AT + int(off_days * DAY_S))
    assert refused(shown_with(make_keys(ORDER, seal=old))) == "certificate_dates"


def test_certificates_kept_from_an_earlier_purchase_expire_too() -> None:
    pin, shown = bank().pin, msgspec.json.encode(make_opening(ORDER, KEYS))
    customer.verify_opening(shown, redirect=redirect(ORDER), pin=pin, at=AT)
    with pytest.raises(ProtocolViolation) as caught:
        customer.verify_opening(shown, redirect=redirect(ORDER), pin=pin, at=AT + 3 * DAY_S)
    assert caught.value.rule == "certificate_dates"


def test_gateways_signing_certificate_expired() -> None:
    old = signer(bank().gateway_authority, GATEWAY, "gateway-sign", AT - 3600, lifetime_s=60)
    assert refused(shown_with(make_keys(ORDER, old)), at=AT + 2 * DAY_S) == "certificate_dates"


def test_keys_from_the_far_future() -> None:
    assert refused(shown_with(make_keys(ORDER, iat=AT + 2 * DAY_S))) == "iat"


@pytest.mark.parametrize("change", [{"amount": "1"}, {"amount": "2200000"}, {"currency": "USD"}, {"tid": "u" * 22}])
def test_keys_for_another_amount_currency_or_tid_than_the_address(change: dict[str, Any]) -> None:
    assert refused(shown_with(make_keys(ORDER, **change))) == "keys"


@pytest.mark.parametrize("change", [{"AMOUNT": "1"}, {"CUR": "USD"}, {"TID": "u" * 22}])
def test_address_altered_on_the_way_from_the_shop(change: dict[str, str]) -> None:
    assert refused(shown_with(KEYS), clear=change) == "keys"


@pytest.mark.parametrize("change", [{"amount": "1"}, {"currency": "USD"}, {"tid": "u" * 22}])
def test_address_and_keys_altered_together_are_caught_by_the_signed_order(change: dict[str, Any]) -> None:
    # A false shop address and a gateway that plays along: the order that the shop signed says otherwise.
    clear = {{"amount": "AMOUNT", "currency": "CUR", "tid": "TID"}[name]: value for name, value in change.items()}
    assert refused(make_opening(ORDER, make_keys(ORDER, **change), **change), clear=clear) == "order"


def test_keys_for_another_order_of_the_same_amount() -> None:
    other = make_order()
    assert other.hash != ORDER.hash
    assert refused(shown_with(make_keys(other))) == "order"


def test_order_exchanged_for_another_of_the_same_shop() -> None:
    other = make_order()
    assert refused(make_opening(other, make_keys(other))) == "order"


def test_order_altered_in_address_and_opening() -> None:
    header, payload, signature = ORDER.compact.split(".")
    claims = msgspec.json.decode(ids.decode_base64url(payload)) | {"text": "something else"}
    altered = f"{header}.{ids.encode_base64url(msgspec.json.encode(claims))}.{signature}"
    shown = make_opening(ORDER, make_keys(ORDER, order=ids.digest(altered.encode())), order=altered)
    assert refused(shown, clear={"ORDER": altered}) == "signature"


def test_order_signed_under_the_forgers_root() -> None:
    order = make_order(forger().shop)
    shown = make_opening(order, make_keys(order), merchant_chain=[signed.encode_der(der) for der in forger().shop.chain])
    assert refused(shown, clear={"ORDER": order.compact}) in UNTRUSTED


def test_order_signed_by_another_merchant() -> None:
    thief = signer(bank().merchant_authority, "urn:hanbit:bank:merchant:thief", "merchant-sign", AT - 60)
    order = make_order(thief)
    shown = make_opening(order, make_keys(order), merchant_chain=[signed.encode_der(der) for der in thief.chain])
    assert refused(shown, clear={"ORDER": order.compact}) == "unknown_key"


def test_order_meant_for_another_gateway() -> None:
    order = make_order(aud="urn:hanbit:otherbank:gateway")
    assert refused(make_opening(order, make_keys(order)), clear={"ORDER": order.compact}) == "aud"


def test_order_whose_chain_is_missing() -> None:
    assert refused(shown_with(KEYS, merchant_chain=[])).startswith("certificate_")


def test_order_stripped_from_the_opening() -> None:
    assert refused(shown_with(KEYS, order="")) == "order"


def test_order_stripped_from_the_address() -> None:
    assert refused(shown_with(KEYS), clear={"ORDER": ""}) == "order"


@pytest.mark.parametrize("clear", [{"MID": "thief"}])
def test_merchant_of_the_address_exchanged(clear: dict[str, str]) -> None:
    assert refused(shown_with(KEYS), clear=clear) == "merchant"


@pytest.mark.parametrize(
    ("merchant", "rule"),
    [
        ({"id": "thief", "urn": "urn:hanbit:bank:merchant:thief", "name": "Hanbit Books"}, "merchant"),
        ({"id": "shop", "urn": "urn:hanbit:otherbank:merchant:shop", "name": "Hanbit Books"}, "merchant"),
        ({"id": "shop", "urn": "urn:hanbit:bank:merchant:shop", "name": "Somebody Else"}, "payee"),
    ],
)
def test_payee_swapped_in_what_is_shown(merchant: dict[str, str], rule: str) -> None:
    assert refused(shown_with(KEYS, merchant=merchant)) == rule


def test_payee_swapped_in_the_signed_keys() -> None:
    assert refused(shown_with(make_keys(ORDER, payee="Somebody Else"))) == "payee"


@pytest.mark.parametrize("change", [{"tid": "u" * 22}, {"amount": "1"}, {"currency": "USD"}, {"order_hash": "B" * 43}])
def test_clear_repetition_that_contradicts_what_is_signed(change: dict[str, str]) -> None:
    assert refused(shown_with(KEYS, **change)) == "shown"


def test_opening_beyond_its_size() -> None:
    assert refused(shown_with(KEYS, text="x" * customer.OPENING_MAX)) == "size"


@pytest.mark.parametrize("unverified", [b"", b"[" * 60_000, b"null", b"{}", b"\xff\xfe", b'{"gateway":1e400}', b"9" * 5_000])
def test_bytes_that_are_no_opening(unverified: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        customer.verify_opening(unverified, redirect=redirect(ORDER), pin=bank().pin, at=AT)
    assert caught.value.rule == "opening"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
HONEST = make_opening(ORDER, KEYS)


def only_our_errors(act: Callable[[], object]) -> bool:
    try:
        act()
    except (ProtocolViolation, BadInput):
        return False
    return True


@given(changes=st.dictionaries(st.sampled_from(sorted(HONEST)), JSON, min_size=1, max_size=3))
def test_no_json_makes_the_customer_raise_anything_else(changes: Shown) -> None:
    shown = HONEST | changes
    believed = only_our_errors(lambda: customer.verify_opening(msgspec.json.encode(shown), redirect=redirect(ORDER), pin=bank().pin, at=AT))
    # The operator's card, the display text, the deadline and signed_in are nobody's signature and decide nothing.
    assert not believed or set(changes) <= {"operator", "text", "expires_at", "signed_in"} or shown == HONEST


@given(
    position=st.integers(0, len(KEYS) - 1),
    character=st.characters(codec="utf-8"),
    chain=st.lists(st.text(max_size=40), max_size=4),
)
def test_no_text_in_the_place_of_a_message_makes_the_customer_raise_anything_else(position: int, character: str, chain: list[str]) -> None:
    altered = KEYS[:position] + character + KEYS[position + 1 :]
    shown = make_opening(ORDER, altered, merchant_chain=chain)
    assert not only_our_errors(lambda: customer.verify_opening(msgspec.json.encode(shown), redirect=redirect(ORDER), pin=bank().pin, at=AT))


@given(st.binary(max_size=700))
def test_no_bytes_make_the_customer_raise_anything_else(unverified: bytes) -> None:
    assert not only_our_errors(lambda: customer.verify_opening(unverified, redirect=redirect(ORDER), pin=bank().pin, at=AT))
    only_our_errors(lambda: customer.peek_operator(unverified))


@given(st.text(max_size=200), st.data())
def test_no_address_makes_the_customer_raise_anything_else(text: str, data: st.DataObject) -> None:
    honest = query(ORDER)
    cut = data.draw(st.integers(0, len(honest)))
    only_our_errors(lambda: customer.read_redirect(text))
    only_our_errors(lambda: customer.read_redirect(honest[:cut] + text + honest[cut:]))
