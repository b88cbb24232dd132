"""D7, D8: a shop delivers on the answer to its own request only, and no shop can hide from the customer what became of it."""

from typing import Any

import msgspec
import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import customer, gateway
from hanbit.protocols.dual_signature.messages import Authorization, ResultRequest
from hanbit.protocols.redirect.gateway import make_status
from hanbit.protocols.redirect.messages import Inquiry, Receipt
from hanbit.protocols.signed import SignedMessage, Signer
from tests.protocol.dual_signature.parties import (
    OTHER,
    PAYEE,
    Exchange,
    answer,
    merchant,
    other_authority,
    other_shop,
    re_payload,
    resigned,
    session_authority,
    temporary_signer,
    twice,
    with_float,
)
from tests.unit.wallet.parties import AT, DAY_S, bank, forger, signer

MADE = Exchange.make()
REQUEST = MADE.request()
CUSTOMER = ids.urn("bank", "customer")


def taken(unverified: str) -> SignedMessage[Authorization]:
    authorization = merchant().verify_authorization(unverified, at=AT)
    merchant().check_authorization(authorization.claims, REQUEST.claims, REQUEST.hash)
    return authorization


def refused(unverified: str) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        taken(unverified)
    return caught.value.rule


def receipt_of(authorization: SignedMessage[Authorization], **changes: Any) -> str:
    receipt = gateway.make_receipt(authorization, signer=bank().gateway, customer=CUSTOMER, payee=PAYEE, at=AT)
    return resigned(receipt, bank().gateway, **changes)


@pytest.mark.parametrize("approved", [True, False])
def test_answer_to_the_shops_own_request_is_taken(approved: bool) -> None:
    claims = taken(answer(REQUEST, approved=approved).compact).claims
    assert claims.result == ("approved" if approved else "declined")
    assert (claims.payment is None, claims.reason is None) == (not approved, approved)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"req": OTHER}, "req"),
        ({"sid": "S" * 22}, "sid"),
        ({"tid": "u" * 22}, "tid"),
        ({"amount": "1"}, "amount"),
        ({"currency": "USD"}, "currency"),
        ({"order": OTHER}, "order"),
        ({"payment": None}, "result"),
        ({"reason": "declined"}, "result"),
        ({"result": "declined"}, "result"),
        ({"result": "pending"}, "claims"),
        ({"aud": "urn:hanbit:bank:merchant:other"}, "aud"),
        ({"aud": "urn:hanbit:bank:customer"}, "aud"),
        ({"v": 2}, "version"),
    ],
)
def test_approval_with_one_altered_field_is_refused(changes: dict[str, Any], rule: str) -> None:
    assert refused(resigned(answer(REQUEST), bank().gateway, **changes)) == rule


@pytest.mark.parametrize("changes", [{"reason": None}, {"payment": "P" * 22}, {"result": "approved"}])
def test_decline_that_looks_like_an_approval_is_refused(changes: dict[str, Any]) -> None:
    assert refused(resigned(answer(REQUEST, approved=False), bank().gateway, **changes)) == "result"


def test_answer_to_another_request_for_the_same_order_is_refused() -> None:
    assert refused(answer(MADE.request()).compact) == "req"
    assert refused(answer(Exchange.make().request()).compact) == "req"


def test_answer_is_signed_by_this_gateway_and_nobody_else() -> None:
    def by(other: Signer) -> str:
        claims = msgspec.structs.replace(answer(REQUEST).claims, iss=other.urn)
        return signed.sign(claims, Signer(other.urn, "gateway-sign", other.kid, other.chain, other.key)).compact

    assert refused(by(other_shop())) == "unknown_key"
    assert refused(by(bank().shop)) == "unknown_key"
    assert refused(by(forger().gateway)).startswith("certificate")
    assert refused(by(signer(bank().gateway_authority, ids.urn("bank", "gateway"), "line", AT))) == "purpose"


@pytest.mark.parametrize("change", [twice("result"), twice("payment"), with_float("iat"), lambda data: data[:-1] + b',"more":1}'])
def test_answer_that_two_readers_could_read_in_two_ways_is_refused(change: Any) -> None:
    assert refused(re_payload(answer(REQUEST).compact, change, bank().gateway.key)) == "claims"


def test_receipt_or_own_request_in_the_place_of_the_answer_is_refused() -> None:
    assert refused(receipt_of(answer(REQUEST))) == "typ"
    assert refused(REQUEST.compact) == "typ"
    assert refused(MADE.opened.session.compact) == "typ"


def test_authorization_in_the_gateways_fresh_answer_is_believed_although_its_key_has_ended() -> None:
    at = AT + 100 * DAY_S
    now = signer(bank().gateway_authority, ids.urn("bank", "gateway"), "gateway-sign", at)
    shop = signer(bank().merchant_authority, bank().shop.urn, "merchant-sign", at)
    inquiry = signed.sign(Inquiry(**signed.head(shop, now.urn, at), tid=REQUEST.claims.tid, exp=at + 120), shop)
    stored = answer(REQUEST)
    status = make_status(inquiry, signer=now, state="settled", outcome=stored.compact, at=at)
    assert merchant().vouched_authorization(status, at=at).hash == stored.hash
    with pytest.raises(ProtocolViolation, match="certificate_dates"):
        merchant().verify_authorization(stored.compact, at=at)
    none = make_status(inquiry, signer=now, state="open", outcome=None, at=at)
    with pytest.raises(ProtocolViolation):
        merchant().vouched_authorization(none, at=at)


# --- the receipt -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"prev": OTHER}, "prev"),
        ({"tid": "u" * 22}, "tid"),
        ({"amount": "1"}, "amount"),
        ({"currency": "USD"}, "currency"),
        ({"order": OTHER}, "order"),
        ({"payment": "Q" * 22}, "payment"),
        ({"aud": "urn:hanbit:bank:merchant:shop"}, "aud"),
    ],
)
def test_shop_passes_on_no_receipt_of_another_payment(changes: dict[str, Any], rule: str) -> None:
    authorization = answer(REQUEST)
    with pytest.raises(ProtocolViolation) as caught:
        merchant().read_receipt(receipt_of(authorization, **changes), authorization, at=AT)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"tid": "u" * 22}, "receipt"),
        ({"amount": "1"}, "receipt"),
        ({"currency": "USD"}, "receipt"),
        ({"order": OTHER}, "receipt"),
        ({"payee": "Somebody Else"}, "receipt"),
        ({"aud": "urn:hanbit:bank:merchant:shop"}, "aud"),
    ],
)
def test_customer_believes_no_receipt_for_something_else(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        customer.verify_receipt(receipt_of(answer(REQUEST), **changes), MADE.session, pin=bank().pin, at=AT)
    assert caught.value.rule == rule


def test_shop_cannot_write_a_receipt_itself() -> None:
    shop = bank().shop
    claims = Receipt(
        **signed.head(shop, CUSTOMER, AT) | {"iss": bank().gateway.urn},
        payment="P" * 22,
        tid=REQUEST.claims.tid,
        amount="220000",
        currency="KRW",
        payee=PAYEE,
        order=MADE.order.hash,
        time=AT,
        prev=OTHER,
    )
    forged = signed.sign(claims, Signer(bank().gateway.urn, "gateway-sign", shop.kid, shop.chain, shop.key)).compact
    with pytest.raises(ProtocolViolation, match="unknown_key"):
        customer.verify_receipt(forged, MADE.session, pin=bank().pin, at=AT)


# --- the customer asks himself -----------------------------------------------------------------------------------------------------------


def ask(unverified: str, **more: Any) -> SignedMessage[ResultRequest]:
    given: dict[str, Any] = {"merchant_urn": bank().shop.urn, "sid": REQUEST.claims.sid, "gateway": bank().gateway.urn, "at": AT}
    return gateway.verify_result_request(unverified, root=bank().root, **(given | more))


def asked_wrongly(unverified: str, **more: Any) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        ask(unverified, **more)
    return caught.value.rule


def result(request: SignedMessage[ResultRequest], **changes: Any) -> str:
    receipt = receipt_of(answer(REQUEST))
    made = gateway.make_result(
        request, signer=bank().gateway, customer=CUSTOMER, state="captured", reason=None, message="", receipt=receipt, at=AT
    )
    return resigned(made, bank().gateway, **changes)


def test_customer_learns_from_the_gateway_what_the_shop_hides() -> None:
    request = customer.make_result_request(MADE.session, at=AT)
    told = customer.verify_result(result(ask(request.compact)), request, MADE.session, pin=bank().pin, at=AT)
    assert told.claims.state == "captured"
    assert told.claims.receipt is not None


def test_customer_may_ask_after_his_certificate_has_ended() -> None:
    request = customer.make_result_request(MADE.session, at=AT + 3600)
    assert asked_wrongly(request.compact, at=AT + 3600) == "certificate_dates"
    assert ask(request.compact, at=AT + 3600, certified_at=AT).claims.tid == REQUEST.claims.tid


def test_nobody_else_may_ask() -> None:
    request = customer.make_result_request(MADE.session, at=AT)
    assert asked_wrongly(request.compact, sid="S" * 21 + "A") == "temporary"
    assert asked_wrongly(request.compact, merchant_urn=other_shop().urn) == "temporary"
    assert asked_wrongly(request.compact, at=AT + 121) == "expired"
    assert asked_wrongly(resigned(request, MADE.session.signer, exp=AT + 3600)) == "expired"
    assert asked_wrongly(resigned(request, MADE.session.signer, sid="S" * 21 + "A")) == "sid"
    assert asked_wrongly(resigned(request, MADE.session.signer, aud=bank().shop.urn)) == "aud"
    assert asked_wrongly(MADE.purchase.dual) == "typ"
    for other in (
        temporary_signer(MADE.session, session_authority(forger())),
        temporary_signer(MADE.session, other_authority(), merchant_id="other"),
    ):
        assert asked_wrongly(resigned(request, other, iss=other.urn)) in {"temporary", "certificate_profile"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"req": OTHER}, "req"),
        ({"sid": "S" * 22}, "sid"),
        ({"tid": "u" * 22}, "sid"),
        ({"aud": "urn:hanbit:bank:merchant:shop"}, "aud"),
        ({"state": "Captured!"}, "claims"),
    ],
)
def test_answer_to_the_customer_with_one_altered_field_is_refused(changes: dict[str, Any], rule: str) -> None:
    request = customer.make_result_request(MADE.session, at=AT)
    with pytest.raises(ProtocolViolation) as caught:
        customer.verify_result(result(request, **changes), request, MADE.session, pin=bank().pin, at=AT)
    assert caught.value.rule == rule


def test_receipt_in_the_answer_is_looked_at_like_any_other() -> None:
    request = customer.make_result_request(MADE.session, at=AT)
    wrong = receipt_of(answer(REQUEST), amount="1")
    with pytest.raises(ProtocolViolation, match="receipt"):
        customer.verify_result(result(request, receipt=wrong), request, MADE.session, pin=bank().pin, at=AT)


def test_authorization_is_approved_or_declined_and_a_receipt_only_for_what_was_approved() -> None:
    for payment, reason in ((None, None), ("P" * 22, "declined")):
        with pytest.raises(AssertionError):
            gateway.make_authorization(REQUEST, signer=bank().gateway, payment=payment, reason=reason, at=AT)
    with pytest.raises(AssertionError):
        gateway.make_receipt(answer(REQUEST, approved=False), signer=bank().gateway, customer=CUSTOMER, payee=PAYEE, at=AT)
