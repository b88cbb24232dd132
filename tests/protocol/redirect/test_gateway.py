"""The gateway's role by itself: its openings are computed again rather than stored, and its figures come from what was signed."""

from dataclasses import replace
from typing import Any

import pytest

from hanbit.crypto import certificates
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols import signed
from hanbit.protocols.redirect import gateway
from hanbit.protocols.redirect.gateway import Offer, SealKey
from hanbit.protocols.redirect.messages import Confirmation, Keys, Notice
from hanbit.protocols.signed import SignedMessage
from tests.unit.wallet.parties import AT, bank, make_order

SHOP, CUSTOMERS = "urn:hanbit:bank:merchant:shop", "urn:hanbit:bank:customer"
SERVER_KEY = b"k" * 32


def offer(**changes: Any) -> Offer:
    return gateway.signed_offer(make_order(**changes), merchant="shop", merchant_urn=SHOP, at=AT)


def keys(of: Offer, at: int = AT) -> SignedMessage[Keys]:
    seal = SealKey(certificates.kid(bank().seal), bank().seal, bank().seal_key)
    return gateway.make_keys(of, signer=bank().gateway, seal=seal, server_key=SERVER_KEY, customer=CUSTOMERS, payee="The shop", at=at)


def rule(of: SignedMessage[Keys], other: Offer, *, server_key: bytes = SERVER_KEY, at: int = AT) -> str:
    with pytest.raises(ProtocolViolation) as refused:
        gateway.check_keys(of, other, server_key=server_key, at=at)
    return refused.value.rule


def test_an_opening_is_good_for_its_order_until_it_ends_and_under_this_server_key() -> None:
    of = offer()
    made = keys(of)
    gateway.check_keys(made, of, server_key=SERVER_KEY, at=AT + gateway.OPENING_LIFE_S)
    assert rule(made, of, at=AT + gateway.OPENING_LIFE_S + 1) == "expired"
    assert rule(made, of, server_key=b"l" * 32) == "n"
    assert rule(made, offer()) == "link"
    assert rule(made, replace(of, tid="U" * 22)) == "link"


def test_no_opening_outlives_its_order() -> None:
    assert keys(offer(pay_by=AT + 60)).claims.exp == AT + 60
    assert keys(offer(pay_by=AT + 86_400)).claims.exp == AT + gateway.OPENING_LIFE_S
    clear = gateway.read_clear("shop", "t" * 22, "1000", "KRW")
    assert (
        keys(gateway.plain_offer(clear, merchant_urn=SHOP, return_url="https://shop.localhost/")).claims.exp == AT + gateway.OPENING_LIFE_S
    )


def test_two_openings_of_one_order_share_nothing() -> None:
    of = offer()
    first, second = keys(of).claims, keys(of).claims
    assert first.ctx != second.ctx
    assert first.n != second.n
    mixed = Keys(**{name: getattr(first, name) for name in Keys.__struct_fields__} | {"n": second.n})
    assert rule(signed.sign(mixed, bank().gateway), of) == "n"


def test_the_seal_in_the_keys_names_its_key() -> None:
    assert gateway.seal_kid(keys(offer()).claims) == certificates.kid(bank().seal)


@pytest.mark.parametrize(
    ("mid", "tid", "amount", "currency"),
    [("Shop", "t" * 22, "1", "KRW"), ("shop", "t" * 21, "1", "KRW"), ("shop", "t" * 22, "0", "KRW"), ("shop", "t" * 22, "1", "XXX")],
)
def test_the_clear_part_has_a_grammar(mid: str, tid: str, amount: str, currency: str) -> None:
    with pytest.raises(BadInput):
        gateway.read_clear(mid, tid, amount, currency)


def test_the_address_and_the_signed_order_say_the_same_or_nothing_is_opened() -> None:
    of = offer()
    gateway.compare(gateway.read_clear("shop", of.tid, "220000", "KRW"), of)
    for clear in (
        ("other", of.tid, "220000", "KRW"),
        ("shop", "u" * 22, "220000", "KRW"),
        ("shop", of.tid, "1", "KRW"),
        ("shop", of.tid, "220000", "JPY"),
    ):
        with pytest.raises(ProtocolViolation):
            gateway.compare(gateway.read_clear(*clear), of)


def test_the_plain_hash_covers_each_field_as_it_was_received() -> None:
    fields = [
        ("shop", "t" * 22, "1000", "KRW"),
        ("shop2", "t" * 22, "1000", "KRW"),
        ("shop", "u" * 22, "1000", "KRW"),
        ("shop", "t" * 22, "1001", "KRW"),
        ("shop", "t" * 22, "1000", "JPY"),
    ]
    hashes = {gateway.plain_offer(gateway.read_clear(*each), merchant_urn=SHOP, return_url="").order_hash for each in fields}
    assert len(hashes) == len(fields)
    assert gateway.plain_offer(gateway.read_clear(*fields[0]), merchant_urn=SHOP, return_url="").order_hash in hashes


def test_from_notice_to_receipt_every_figure_and_link_is_carried_on() -> None:
    of = offer()
    notice = gateway.make_notice(of, signer=bank().gateway, payment="P" * 22, at=AT)
    assert (notice.claims.exp, notice.claims.prev, notice.claims.aud) == (AT + gateway.HOLD_LIFE_S, of.order_hash, SHOP)
    names = ("payment", "tid", "amount", "currency", "order")
    carried = {name: getattr(notice.claims, name) for name in names}
    confirmation = signed.sign(Confirmation(**signed.head(bank().shop, bank().gateway.urn, AT), **carried, req=notice.hash), bank().shop)
    gateway.compare_answer(confirmation, notice)
    settled = gateway.make_settled(confirmation, signer=bank().gateway, at=AT)
    receipt = gateway.make_receipt(settled, signer=bank().gateway, customer=CUSTOMERS, payee="The shop", at=AT)
    voided = gateway.make_voided(notice, signer=bank().gateway, prev=notice.hash, reason="expired", at=AT)
    for claims in (settled.claims, receipt.claims, voided.claims):
        assert {name: getattr(claims, name) for name in names} == carried
    assert (settled.claims.prev, receipt.claims.prev, voided.claims.prev) == (confirmation.hash, settled.hash, notice.hash)


@pytest.mark.parametrize("name", ["payment", "tid", "amount", "currency", "order", "req"])
def test_an_answer_repeats_every_figure_of_its_notice(name: str) -> None:
    notice: SignedMessage[Notice] = gateway.make_notice(offer(), signer=bank().gateway, payment="P" * 22, at=AT)
    carried = {each: getattr(notice.claims, each) for each in ("payment", "tid", "amount", "currency", "order")} | {"req": notice.hash}
    other = {"payment": "Q" * 22, "tid": "u" * 22, "amount": "1", "currency": "JPY", "order": ids.digest(b"x"), "req": ids.digest(b"x")}
    claims = Confirmation(**signed.head(bank().shop, bank().gateway.urn, AT), **(carried | {name: other[name]}))
    with pytest.raises(ProtocolViolation):
        gateway.compare_answer(signed.sign(claims, bank().shop), notice)
