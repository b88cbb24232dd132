"""D3: a shop opens a session for an open order of its own only, and the customer believes no answer but the one to his own request."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificates, keys
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation, WrongState
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import customer, temporary
from hanbit.protocols.dual_signature.messages import Session, SessionAnswer
from hanbit.protocols.signed import Signer
from tests.protocol.dual_signature.parties import (
    LINES,
    OTHER,
    SALT,
    Exchange,
    facts_of,
    merchant,
    other_authority,
    other_shop,
    re_payload,
    session_authority,
    twice,
    with_float,
)
from tests.unit.wallet.parties import AT, DAY_S, bank, forger, make_order, other_bank, signer


@pytest.fixture(scope="module")
def made() -> Exchange:
    return Exchange.make()


def refused(made: Exchange, answer: SessionAnswer, *, at: int = AT) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        customer.verify_session(answer, made.asking, pin=bank().pin, at=at)
    return caught.value.rule


def answer(made: Exchange, by: Signer | None = None, chain: tuple[bytes, ...] | None = None, **changes: Any) -> SessionAnswer:
    """The shop's answer saying something else, signed all the same."""
    by = by or bank().shop
    claims = msgspec.structs.replace(made.opened.session.claims, **({"iss": by.urn} | changes))
    chain = chain or made.opened.certificate
    return SessionAnswer(session=signed.sign(claims, by).compact, certificate=tuple(signed.encode_der(der) for der in chain))


# --- the shop ------------------------------------------------------------------------------------------------------------------------


def test_session_says_what_was_ordered_and_is_new_each_time(made: Exchange) -> None:
    first = made.opened.session.claims
    again = merchant().answer_session_request(made.asking.request, facts_of(made.order), session_authority(), at=AT).session.claims
    assert (first.nc, first.req, first.thumbprint) == (made.asking.request.claims.nc, made.asking.request.hash, made.asking.request.kid)
    assert (first.tid, first.amount, first.currency, first.order) == (made.order.claims.tid, "220000", "KRW", made.order.hash)
    assert first.exp == AT + 600
    assert len({first.sid, again.sid}) == len({first.nm, again.nm}) == 2


def test_temporary_certificate_is_for_this_key_this_shop_and_this_session_and_short(made: Exchange) -> None:
    verified = certificates.verify_chain(made.opened.certificate, root=bank().root, at=AT, operator="bank")
    assert verified.urn == f"urn:hanbit:bank:temporary:shop:{made.opened.session.claims.sid}"
    assert keys.thumbprint(verified.public) == made.asking.request.kid
    assert verified.not_after - verified.not_before <= 15 * 60
    assert verified.not_before == AT - 120


def test_session_ends_with_its_order(made: Exchange) -> None:
    facts = facts_of(made.order, answer_until=AT + 60)
    assert merchant().answer_session_request(made.asking.request, facts, session_authority(), at=AT).session.claims.exp == AT + 60


@pytest.mark.parametrize(("changes", "reason"), [({"barred": "withdrawn"}, "withdrawn"), ({"answer_until": AT - 1}, "expired")])
def test_no_session_is_opened_for_an_order_that_takes_no_payment(made: Exchange, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WrongState, match=reason):
        merchant().answer_session_request(made.asking.request, facts_of(made.order, **changes), session_authority(), at=AT)


def test_no_session_is_opened_for_another_order_than_the_request_names(made: Exchange) -> None:
    with pytest.raises(ProtocolViolation, match="order"):
        merchant().answer_session_request(made.asking.request, facts_of(make_order(tid="u" * 22)), session_authority(), at=AT)


# --- the customer ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"req": OTHER}, "req"),
        ({"nc": OTHER}, "nc"),
        ({"thumbprint": OTHER}, "thumbprint"),
        ({"gateway": "urn:hanbit:otherbank:gateway"}, "gateway"),
        ({"gateway": "urn:hanbit:bank:merchant:shop"}, "gateway"),
        ({"tid": "u" * 22}, "tid"),
        ({"amount": "220001"}, "amount"),
        ({"amount": "22000"}, "amount"),
        ({"currency": "USD"}, "amount"),
        ({"order": OTHER}, "order"),
        ({"exp": AT - 1}, "expired"),
        ({"exp": AT + 601}, "expired"),
        ({"sid": "S" * 21 + "A"}, "temporary"),
        ({"aud": "urn:hanbit:bank:gateway"}, "aud"),
        ({"aud": "urn:hanbit:bank:customer:hong"}, "aud"),
        ({"v": 2}, "version"),
        ({"iat": AT + DAY_S + 121}, "iat"),
    ],
)
def test_session_with_one_altered_field_is_refused(made: Exchange, changes: dict[str, Any], rule: str) -> None:
    assert refused(made, answer(made, **changes)) == rule


def test_session_is_signed_by_the_payee_and_nobody_else(made: Exchange) -> None:
    assert refused(made, answer(made, other_shop())) == "unknown_key"
    assert refused(made, answer(made, forger().shop)).startswith("certificate")
    assert refused(made, answer(made, other_bank().shop)).startswith("certificate")
    key = keys.new_key()
    line = certificates.make_leaf(
        bank().merchant_authority, urn=bank().shop.urn, purpose="line", public=key.public_key(), at=AT, lifetime_s=DAY_S
    )
    chain = (line, *bank().merchant_authority.chain)
    by_line = Signer(bank().shop.urn, "merchant-sign", certificates.kid(line), chain, key)
    assert refused(made, answer(made, by_line)) == "purpose"


def test_answer_to_another_request_of_mine_is_refused(made: Exchange) -> None:
    again = customer.make_session_request(made.opening, at=AT)
    with pytest.raises(ProtocolViolation, match="req"):
        customer.verify_session(made.opened.answer, again, pin=bank().pin, at=AT)


def test_answer_for_another_order_of_the_same_shop_is_refused(made: Exchange) -> None:
    other = Exchange.make(tid="u" * 22)
    assert refused(made, other.opened.answer) == "req"


def test_certificate_of_another_key_is_refused(made: Exchange) -> None:
    sid = made.opened.session.claims.sid
    chain = temporary.issue(session_authority(), merchant=bank().shop.urn, sid=sid, public=keys.new_key().public_key(), at=AT)
    assert refused(made, answer(made, chain=chain)) == "thumbprint"


def test_certificate_for_another_shop_or_session_or_from_another_authority_is_refused(made: Exchange) -> None:
    public, sid = made.asking.key.public_key(), made.opened.session.claims.sid
    other = temporary.issue(other_authority(), merchant=other_shop().urn, sid=sid, public=public, at=AT)
    assert refused(made, answer(made, chain=other)) == "temporary"
    old = temporary.issue(session_authority(), merchant=bank().shop.urn, sid="S" * 21 + "A", public=public, at=AT)
    assert refused(made, answer(made, chain=old)) == "temporary"
    swapped = (made.opened.certificate[0], *other_authority().chain)
    assert refused(made, answer(made, chain=swapped)).startswith("certificate")
    forged = temporary.issue(session_authority(forger()), merchant=bank().shop.urn, sid=sid, public=public, at=AT)
    assert refused(made, answer(made, chain=forged)).startswith("certificate")
    assert refused(made, answer(made, chain=bank().shop.chain)).startswith(("certificate", "temporary"))


def test_session_authority_cannot_name_a_key_of_another_merchant() -> None:
    with pytest.raises(ValueError, match="does not issue"):
        temporary.issue(other_authority(), merchant=bank().shop.urn, sid="S" * 22, public=keys.new_key().public_key(), at=AT)


def test_certificate_that_lives_for_a_day_is_refused(made: Exchange) -> None:
    urn = made.session.signer.urn
    leaf = certificates.make_leaf(
        session_authority(), urn=urn, purpose="temporary", public=made.asking.key.public_key(), at=AT, lifetime_s=DAY_S
    )
    assert refused(made, answer(made, chain=(leaf, *session_authority().chain))) == "certificate_dates"


@pytest.mark.parametrize("change", [twice("nm"), twice("amount"), with_float("exp"), lambda data: data[:-1] + b',"more":"1"}'])
def test_session_that_two_readers_could_read_in_two_ways_is_refused(made: Exchange, change: Any) -> None:
    session = re_payload(made.opened.session.compact, change, bank().shop.key)
    assert refused(made, replace_session(made, session)) == "claims"


def replace_session(made: Exchange, session: str) -> SessionAnswer:
    return SessionAnswer(session=session, certificate=made.opened.answer.certificate)


def test_wrong_typ_in_the_place_of_a_session_is_refused(made: Exchange) -> None:
    assert refused(made, replace_session(made, made.asking.request.compact)) == "header"
    assert refused(made, replace_session(made, made.purchase.dual)) == "typ"
    assert refused(made, replace_session(made, made.request().compact)) == "typ"


@pytest.mark.parametrize("off_s", [-23 * 3600, 23 * 3600])
def test_customer_with_a_wrong_clock_opens_a_session_all_the_same(made: Exchange, off_s: int) -> None:
    asking = customer.make_session_request(replace(made.opening, clock_offset_s=-off_s), at=AT + off_s)
    request = merchant().verify_session_request(asking.request.compact, at=AT)
    opened = merchant().answer_session_request(request, facts_of(made.order), session_authority(), at=AT)
    session = customer.verify_session(opened.answer, asking, pin=bank().pin, at=AT + off_s)
    assert session.session.hash == opened.session.hash


# --- D1: the lines --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "salt"),
    [
        (LINES.replace("1", "2"), SALT),
        (LINES + " ", SALT),
        (LINES, bytes(32)),
        (LINES, SALT[:31]),
        (LINES, SALT + b"\0"),
        ("x" * 49_153, SALT),
        ("\ud800", SALT),
    ],
)
def test_lines_that_the_shop_did_not_sign_are_refused(made: Exchange, lines: str, salt: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="lines"):
        customer.verify_lines(made.opening, lines, ids.encode_base64url(salt))


def test_a_device_is_no_payee(made: Exchange) -> None:
    device = signer(bank().gateway_authority, ids.urn("bank", "customer", "hong"), "customer-sign", AT)
    claims = msgspec.structs.replace(made.opened.session.claims, iss=device.urn)
    by = Signer(device.urn, Session.PURPOSE, device.kid, device.chain, device.key)
    assert refused(made, replace_session(made, signed.sign(claims, by).compact)) == "unknown_key"
