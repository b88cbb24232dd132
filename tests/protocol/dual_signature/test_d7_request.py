"""D6, D7: the gateway believes neither shop nor customer; whatever one of them alters, alone or in accord with himself, is found."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanbit.crypto import certificates, keys
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import sealed
from hanbit.protocols.dual_signature import customer, gateway
from hanbit.protocols.dual_signature.digests import FRAME_MAX, oi_digest, split_frame
from hanbit.protocols.redirect.gateway import signed_offer
from hanbit.protocols.signed import Signer, encode_der
from tests.protocol.dual_signature.parties import (
    GRANT,
    OTHER,
    Exchange,
    Registered,
    check,
    merchant,
    other_authority,
    other_shop,
    re_header,
    re_payload,
    seal,
    session_authority,
    temporary_signer,
    twice,
    with_float,
)
from tests.unit.wallet.parties import AT, DAY_S, bank, forger, make_order, signer

MADE = Exchange.make()


def refused(request: str, made: Exchange = MADE, **more: Any) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        check(request, more.pop("envelope", made.purchase.envelope), more.pop("offer", made.offer), **more)
    return caught.value.rule


def test_honest_request_opens_to_what_the_customer_approved() -> None:
    checked = check(MADE.request().compact, MADE.purchase.envelope, MADE.offer)
    assert checked.instruction.core.grant == GRANT
    assert checked.instruction.core_text == MADE.core
    assert checked.instruction.sealed_hash == checked.request.claims.envelope_hash
    assert checked.dual.thumbprint == MADE.asking.request.kid


# --- 2: the request --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"sid": "S" * 21 + "A"}, "sealed"),
        ({"tid": "u" * 22}, "tid"),
        ({"amount": "220001"}, "amount"),
        ({"amount": "2200000"}, "amount"),
        ({"currency": "USD"}, "amount"),
        ({"order": OTHER}, "order"),
        ({"oimd": OTHER}, "oimd"),
        ({"pimd": OTHER}, "pimd"),
        ({"envelope_hash": OTHER}, "sealed"),
        ({"prev": OTHER}, "prev"),
        ({"aud": "urn:hanbit:otherbank:gateway"}, "aud"),
        ({"v": 2}, "version"),
        ({"iat": AT + 121}, "iat"),
        ({"amount": "0220000"}, "claims"),
        ({"dual": "a.b.c"}, "claims"),
    ],
)
def test_request_with_one_altered_field_is_refused(changes: dict[str, Any], rule: str) -> None:
    assert refused(MADE.forced_request(**changes)) == rule


def test_request_comes_straight_from_the_merchant_that_signed_it() -> None:
    assert refused(MADE.request().compact, peer=other_shop().urn) == "sender"
    assert refused(MADE.forced_request(forger().shop), peer=bank().shop.urn).startswith("certificate")


def test_request_of_another_merchant_for_this_purchase_is_refused() -> None:
    stolen = MADE.forced_request(other_shop())
    assert refused(stolen, peer=other_shop().urn) == "temporary"


@pytest.mark.parametrize("change", [twice("amount"), twice("sid"), with_float("iat"), lambda data: data[:-1] + b',"more":1}'])
def test_request_that_two_readers_could_read_in_two_ways_is_refused(change: Any) -> None:
    assert refused(re_payload(MADE.request().compact, change, bank().shop.key)) == "claims"


def test_another_message_in_the_place_of_the_request_is_refused() -> None:
    for other in (MADE.opened.session.compact, MADE.purchase.dual):
        assert refused(other) == "typ"
    assert refused(MADE.asking.request.compact) == "header"


# --- 4: the envelope -------------------------------------------------------------------------------------------------------------------


def test_envelope_of_another_purchase_is_refused() -> None:
    other = Exchange.make()
    assert refused(MADE.request().compact, envelope=other.purchase.envelope) == "sealed"
    named = MADE.forced_request(envelope_hash=ids.digest(other.purchase.envelope.encode()))
    assert refused(named, envelope=other.purchase.envelope) == "sealed", "its header names another session"


def test_pi_of_an_envelope_that_was_sealed_for_this_session_must_be_of_this_session() -> None:
    other = Exchange.make()
    plain = sealed.pay_plain(other.core, other.auth)
    forged = sealed.seal_purchase(MADE.opening.seal.public, MADE.opening.seal.kid, sid=MADE.facts.session.sid, plain=plain)
    assert refused(MADE.forced_request(envelope_hash=ids.digest(forged.encode())), envelope=forged) == "sealed"


@given(place=st.integers(0, 4000), to=st.sampled_from("ABab01-_."))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_altered_sign_of_the_envelope_is_refused(place: int, to: str) -> None:
    envelope = MADE.purchase.envelope
    place %= len(envelope)
    altered = envelope[:place] + to + envelope[place + 1 :]
    if altered != envelope:
        assert refused(MADE.forced_request(envelope_hash=ids.digest(altered.encode())), envelope=altered) == "sealed"


@pytest.mark.parametrize("envelope", ["", "é", "a.b.c.d.e", "a" * (sealed.SEALED_MAX + 1)])
def test_what_is_no_envelope_is_refused(envelope: str) -> None:
    named = MADE.forced_request(envelope_hash=ids.digest(envelope.encode()))
    assert refused(named, envelope=envelope) == "sealed"
    with pytest.raises(ProtocolViolation, match="sealed"):
        gateway.peek_seal_kid(envelope)


def test_envelope_names_the_key_that_opens_it() -> None:
    assert gateway.peek_seal_kid(MADE.purchase.envelope) == seal().kid


def test_redirects_sealed_payment_is_no_envelope_and_an_envelope_no_payment() -> None:
    session, key = sealed.seal_key(MADE.opening.seal.public, MADE.opening.seal.kid, ctx="C" * 22, n="N" * 42 + "A", tid="t" * 22)
    pay = sealed.seal(session, sealed.PAY_TYP, sealed.pay_plain(MADE.core, MADE.auth), 1)
    for other in (key, pay):
        assert refused(MADE.forced_request(envelope_hash=ids.digest(other.encode())), envelope=other) == "sealed"
    with pytest.raises(ProtocolViolation, match="sealed"):
        sealed.open_pay(MADE.purchase.envelope, session)
    with pytest.raises(ProtocolViolation, match="sealed"):
        sealed.open_pay(pay, session)


# --- 5: the dual signature ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"merchant": "urn:hanbit:bank:merchant:other"}, "merchant"),
        ({"gateway": "urn:hanbit:otherbank:gateway"}, "gateway"),
        ({"sid": "S" * 22}, "sid"),
        ({"nc": OTHER}, "nc"),
        ({"nm": OTHER}, "nm"),
        ({"tid": "u" * 22}, "tid"),
        ({"order": OTHER}, "order"),
        ({"exp": AT + 601}, "exp"),
        ({"exp": AT - 1}, "expired"),
        ({"oimd": OTHER}, "oimd"),
        ({"pimd": OTHER}, "pimd"),
        ({"pomd": OTHER}, "pomd"),
        ({"aud": "urn:hanbit:bank:merchant:shop"}, "aud"),
        ({"aud": "urn:hanbit:otherbank:gateway"}, "aud"),
        ({"iat": AT + 121}, "iat"),
    ],
)
def test_dual_signature_with_one_altered_field_is_refused(changes: dict[str, Any], rule: str) -> None:
    made = MADE.with_dual(**changes)
    assert refused(made.forced_request(), made) == rule


@pytest.mark.parametrize(
    ("by", "rule"),
    [
        (lambda: temporary_signer(MADE.session, session_authority(), sid="S" * 21 + "A"), "temporary"),
        (lambda: temporary_signer(MADE.session, other_authority(), merchant_id="other"), "temporary"),
        (lambda: temporary_signer(MADE.session, session_authority(forger())), "certificate_profile"),
        (lambda: of_key(keys.new_key()), "signature"),
        (lambda: signer(bank().gateway_authority, ids.urn("bank", "customer", "hong"), "customer-sign", AT), "temporary"),
    ],
)
def test_dual_signature_by_another_key_is_refused(by: Callable[[], Signer], rule: str) -> None:
    other = by()
    dual = re_header(MADE.purchase.dual, header_of(other), other.key)
    assert refused(MADE.forced_request(dual=dual, prev=ids.digest(dual.encode()))) == rule


def of_key(key: Any) -> Signer:
    own = MADE.session.signer
    return Signer(own.urn, own.purpose, own.kid, own.chain, key)


def header_of(by: Signer) -> dict[str, object]:
    return {"alg": "ES256", "typ": "hanbit-dual", "kid": by.kid, "x5c": [encode_der(der) for der in by.chain]}


def test_key_that_the_shop_certified_for_itself_in_this_session_is_not_the_one_in_pi() -> None:
    """The shop may name any key for the session, but only the customer knows PI, and PI names his."""
    certified = temporary_signer(replace(MADE.session, signer=of_key(keys.new_key())), session_authority())
    made = MADE.with_dual(by=certified)
    assert refused(made.forced_request(), made) == "thumbprint"


def test_session_authority_that_is_not_registered_or_revoked_certifies_nothing() -> None:
    assert refused(MADE.request().compact, authorities=Registered(chains=[])) == "unknown_key"
    assert refused(MADE.request().compact, authorities=Registered(revoked_at=AT - 1)) == "revoked"


def test_temporary_certificate_is_looked_at_when_the_request_comes_first() -> None:
    request = MADE.request().compact
    check(request, MADE.purchase.envelope, MADE.offer, at=AT + 600)
    assert refused(request, at=AT + 601) == "expired"
    assert refused(request, at=AT + 781) == "certificate_dates"


def test_temporary_certificate_that_lives_for_a_day_is_refused() -> None:
    own = MADE.session.signer
    leaf = certificates.make_leaf(
        session_authority(), urn=own.urn, purpose="temporary", public=own.key.public_key(), at=AT, lifetime_s=DAY_S
    )
    long_lived = Signer(own.urn, own.purpose, certificates.kid(leaf), (leaf, *session_authority().chain), own.key)
    made = MADE.with_dual(by=long_lived)
    assert refused(made.forced_request(), made) == "certificate_dates"


@pytest.mark.parametrize("change", [twice("pimd"), with_float("exp")])
def test_dual_signature_that_two_readers_could_read_in_two_ways_is_refused(change: Any) -> None:
    dual = re_payload(MADE.purchase.dual, change, MADE.session.signer.key)
    assert refused(MADE.forced_request(dual=dual, prev=ids.digest(dual.encode()))) == "claims"


def test_another_message_in_the_place_of_the_dual_signature_is_refused() -> None:
    for other in (MADE.opened.session.compact, MADE.request().compact):
        assert refused(MADE.forced_request(dual=other, prev=ids.digest(other.encode()))) == "typ"


def test_swapped_halves_are_refused() -> None:
    pimd, oimd = MADE.purchase.pimd, oi_digest(MADE.oi)
    made = MADE.with_dual(pimd=oimd, oimd=pimd)
    assert refused(made.forced_request(), made) == "pimd"
    assert refused(MADE.forced_request(pimd=oimd, oimd=pimd)) == "pimd"


def test_order_information_that_the_shop_altered_afterwards_is_found() -> None:
    """The shop says that another OI was signed: the signature, and PI too, say which one."""
    other = oi_digest(MADE.oi.replace("220000", "100000"))
    assert refused(MADE.forced_request(oimd=other)) == "oimd"


def test_order_information_of_another_order_cannot_be_put_beside_this_pi() -> None:
    """The customer's key signs this PI beside another OI (a stolen key, a confused program): PI itself names its OI."""
    made = MADE.with_parts(oi=MADE.oi.replace("220000", "100000"))
    assert refused(made.forced_request(), made) == "oimd"


# --- 6: PI -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"gateway": "urn:hanbit:otherbank:gateway"}, "gateway"),
        ({"merchant": "urn:hanbit:bank:merchant:other"}, "merchant"),
        ({"tid": "u" * 22}, "tid"),
        ({"order": OTHER}, "order"),
        ({"amount": "1"}, "amount"),
        ({"amount": "220001"}, "amount"),
        ({"currency": "USD"}, "amount"),
        ({"exp": AT + 601}, "exp"),
        ({"sid": "S" * 21 + "A"}, "sealed"),
        ({"nc": OTHER}, "nc"),
        ({"nm": OTHER}, "nm"),
        ({"oimd": OTHER}, "oimd"),
        ({"thumbprint": OTHER}, "thumbprint"),
        ({"v": 2}, "sealed"),
    ],
)
def test_pi_that_says_something_else_is_refused_although_it_was_signed(changes: dict[str, Any], rule: str) -> None:
    made = MADE.with_core(**changes)
    assert refused(made.forced_request(), made) == rule


@pytest.mark.parametrize("change", [twice("amount"), twice("account"), with_float("exp"), lambda data: data[:-1] + b',"ctx":"x"}'])
def test_pi_that_two_readers_could_read_in_two_ways_is_refused(change: Any) -> None:
    made = MADE.with_parts(core=change(MADE.core.encode()).decode())
    assert refused(made.forced_request(), made) == "sealed"


def test_typed_number_must_be_the_one_that_the_core_commits_to() -> None:
    salt = bytes(32)
    account = sealed.typed_account("11012345678890", salt)
    made = MADE.with_core(account=account)
    for number in (None, "11012345678891"):
        plain = sealed.pay_plain(made.core, made.auth, number=number, number_salt=salt)
        envelope = sealed.seal_purchase(MADE.opening.seal.public, seal().kid, sid=MADE.facts.session.sid, plain=plain)
        named = made.forced_request(envelope_hash=ids.digest(envelope.encode()))
        assert refused(named, made, envelope=envelope) == "sealed"
    plain = sealed.pay_plain(made.core, made.auth, number="11012345678890", number_salt=salt)
    envelope = sealed.seal_purchase(MADE.opening.seal.public, seal().kid, sid=MADE.facts.session.sid, plain=plain)
    request = made.forced_request(envelope_hash=ids.digest(envelope.encode()))
    assert check(request, envelope, made.offer).instruction.number == "11012345678890"


def test_offer_is_the_merchants_own_order() -> None:
    cheaper = make_order(amount="1")
    offer = signed_offer(cheaper, merchant="shop", merchant_urn=bank().shop.urn, at=AT)
    assert refused(MADE.request().compact, offer=offer) == "order"
    of_other = make_order(other_shop())
    other = signed_offer(of_other, merchant="other", merchant_urn=other_shop().urn, at=AT)
    assert refused(MADE.request().compact, offer=other) == "merchant"


# --- the frame -------------------------------------------------------------------------------------------------------------------------


def test_frame_is_one_message_and_at_most_one_text_beside_it() -> None:
    assert split_frame("a") == ("a", "")
    assert split_frame("a\nb") == ("a", "b")
    for frame in ("a\nb\n", "a\nb\nc", "\n\n"):
        with pytest.raises(ProtocolViolation, match="shape"):
            split_frame(frame)
    with pytest.raises(ProtocolViolation, match="size"):
        split_frame("a" * (FRAME_MAX + 1))


def test_one_time_code_is_bound_to_grant_session_and_core() -> None:
    secret = bytes(32)
    others = [MADE.with_core(grant="H" * 22), MADE.with_core(sid="S" * 21 + "A"), MADE.with_core(amount="1"), Exchange.make()]
    codes = {customer.auth_code(made.core, secret).partition("value")[2][:50] for made in (MADE, *others)}
    assert len(codes) == 5
    made = Exchange.make()
    auth = customer.auth_code(made.core, secret)
    purchase = customer.make_purchase(made.session, oi=made.oi, core=made.core, auth=auth, at=AT)
    request = merchant().make_authorization_request(made.purchased(purchase), at=AT)
    instruction = check(request.compact, purchase.envelope, made.offer).instruction
    assert instruction.auth.value == sealed.code_value(secret, instruction.code_binding, instruction.core_hash)
