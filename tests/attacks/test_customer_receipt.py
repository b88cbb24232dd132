"""A receipt that is altered, unsigned, of another payment or by somebody else is not kept as proof."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.redirect import customer
from hanbit.protocols.redirect.customer import Opening
from tests.unit.wallet.parties import AT, bank, forger, make_keys, make_opening, make_order, make_receipt, other_bank, redirect, signer

UNTRUSTED = {"certificate_profile", "certificate_signature"}


def opening() -> Opening:
    order = make_order()
    shown = msgspec.json.encode(make_opening(order, make_keys(order)))
    return customer.verify_opening(shown, redirect=redirect(order), pin=bank().pin, at=AT)


OPENING = opening()


def refused(unverified: str | bytes, of: Opening = OPENING, payment: str = "P" * 22) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        customer.verify_receipt(unverified, opening=of, payment=payment, pin=bank().pin, at=AT)
    return caught.value.rule


@pytest.mark.parametrize(
    "change",
    [{"amount": "1"}, {"currency": "USD"}, {"tid": "u" * 22}, {"payee": "Somebody Else"}, {"order": "B" * 43}, {"payment": "Q" * 22}],
)
def test_receipt_that_the_gateway_signed_for_something_else(change: dict[str, Any]) -> None:
    assert refused(make_receipt(OPENING, **change)) == "receipt"


def test_receipt_of_another_payment_of_the_same_amount() -> None:
    other = opening()
    assert refused(make_receipt(other)) == "receipt"


def test_receipt_altered_after_signing() -> None:
    header, payload, signature = make_receipt(OPENING, amount="1").split(".")
    claims = msgspec.json.decode(ids.decode_base64url(payload)) | {"amount": "220000"}
    assert refused(f"{header}.{ids.encode_base64url(msgspec.json.encode(claims))}.{signature}") == "signature"


def test_receipt_without_a_signature() -> None:
    header, payload, _ = make_receipt(OPENING).split(".")
    assert refused(f"{header}.{payload}.") == "signature"


@pytest.mark.parametrize("unverified", ["", b"", "..", "a.b.c", "é.é.é", b"\xff", "x" * 40_000])
def test_bytes_that_are_no_receipt(unverified: str | bytes) -> None:
    assert refused(unverified) in {"shape", "header", "size"}


def test_receipt_by_a_gateway_under_another_root() -> None:
    assert refused(make_receipt(OPENING, forger().gateway)) in UNTRUSTED


def test_receipt_by_another_operator() -> None:
    assert refused(make_receipt(OPENING, other_bank().gateway)).startswith("certificate_")


def test_receipt_meant_for_the_merchant() -> None:
    assert refused(make_receipt(OPENING, aud="urn:hanbit:bank:merchant:shop")) == "aud"


def test_receipt_signed_with_a_renewed_key_is_good() -> None:
    renewed = signer(bank().gateway_authority, "urn:hanbit:bank:gateway", "gateway-sign", AT - 60)
    receipt = make_receipt(OPENING, renewed)
    assert customer.verify_receipt(receipt, opening=OPENING, payment="P" * 22, pin=bank().pin, at=AT).compact == receipt


@given(position=st.integers(0, 4000), character=st.characters(codec="utf-8"))
def test_no_altered_character_is_accepted_or_raises_anything_else(position: int, character: str) -> None:
    receipt = make_receipt(OPENING)
    position %= len(receipt)
    if receipt[position] != character:
        refused(receipt[:position] + character + receipt[position + 1 :])
