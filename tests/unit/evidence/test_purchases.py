"""The halves of a purchase against its dual signature, from bytes alone: each thing that does not belong is found by itself."""

from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificates, keys
from hanbit.evidence.bundle import Attempt
from hanbit.evidence.file_trust import FileTrust
from hanbit.evidence.purchases import Approved, approved, asked_authority, check_order_information, check_payment_information, read_core
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import signed
from hanbit.protocols.dual_signature.messages import AuthorizationRequest
from hanbit.protocols.keys import SessionAuthorityRequest, make_session_authority_request
from hanbit.protocols.signed import SignedMessage
from tests.protocol.dual_signature.parties import OTHER, Exchange, answer, resigned, twice
from tests.unit.wallet.parties import AT, bank

MADE = Exchange.make()
TRUST = FileTrust(bank().root, "bank")


def requested(made: Exchange, **changes: Any) -> SignedMessage[AuthorizationRequest]:
    compact = made.forced_request(**changes)
    claims = msgspec.convert(signed.peek_claims(compact), AuthorizationRequest)
    return SignedMessage(compact, ids.digest(compact.encode()), signed.peek_kid(compact), claims)


def found(made: Exchange = MADE, *, at: int = AT, **changes: Any) -> Approved:
    request = requested(made, **changes)
    answered = approved((made.order, request, answer(request)), {request.hash: at}, TRUST)
    assert answered is not None
    return answered


def refused(made: Exchange = MADE, **changes: Any) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        found(made, **changes)
    return caught.value.rule


def attempt_of(made: Exchange, **changes: Any) -> Attempt:
    row: dict[str, Any] = {
        "payment": "P" * 22,
        "number": 1,
        "customer": "hong",
        "account": "a1",
        "method": "password",
        "result": "held",
        "core": made.core,
        "auth_hash": ids.digest(made.auth.encode()),
        "auth_value": None,
        "sealed_hash": OTHER,
        "session": "",
        "at": AT,
    }
    return Attempt(**(row | changes))


def test_both_halves_belong_to_what_was_approved() -> None:
    purchase = found()
    check_payment_information(purchase, attempt_of(MADE))
    assert check_order_information(purchase, MADE.oi).lines in MADE.oi.replace('\\"', '"')
    assert purchase.thumbprint == MADE.asking.request.kid


def test_what_was_declined_is_not_looked_at() -> None:
    request = requested(MADE, dual=resigned(MADE.purchased().dual, MADE.session.signer, pomd=OTHER))
    assert approved((request, answer(request, approved=False)), {request.hash: AT}, TRUST) is None


@pytest.mark.parametrize(
    ("made", "changes", "rule"),
    [
        (MADE, {"prev": OTHER}, "link"),
        (MADE, {"pimd": OTHER}, "link"),
        (MADE, {"oimd": OTHER}, "link"),
        (MADE, {"sid": "S" * 21 + "A"}, "temporary"),
        (MADE, {"tid": "u" * 22}, "link"),
        (MADE, {"order": OTHER}, "link"),
        (MADE.with_dual(pomd=OTHER), {}, "link"),
        (MADE.with_dual(merchant="urn:hanbit:bank:merchant:other"), {}, "link"),
        (MADE.with_dual(gateway="urn:hanbit:otherbank:gateway"), {}, "link"),
        (MADE, {"at": AT + 3600}, "certificate_dates"),
    ],
)
def test_request_that_does_not_carry_its_own_dual_signature_is_found(made: Exchange, changes: dict[str, Any], rule: str) -> None:
    assert refused(made, **changes) == rule


def test_one_payment_has_one_approved_purchase_and_an_answer_its_request() -> None:
    first, second = requested(MADE), requested(MADE)
    both = (first, answer(first), second, answer(second))
    with pytest.raises(ProtocolViolation, match="two purchases"):
        approved(both, {first.hash: AT, second.hash: AT}, TRUST)
    with pytest.raises(ProtocolViolation, match="no request"):
        approved((answer(first),), {}, TRUST)


def test_session_beside_it_is_the_one_that_it_continues() -> None:
    request = requested(MADE)
    chain = (MADE.opened.session, request, answer(request))
    assert approved(chain, {request.hash: AT}, TRUST) is not None
    claims = msgspec.structs.replace(MADE.opened.session.claims, nm=OTHER)
    other = signed.sign(claims, bank().shop)
    with pytest.raises(ProtocolViolation, match="another session"):
        approved((other, request, answer(request)), {request.hash: AT}, TRUST)


@pytest.mark.parametrize(
    "attempt",
    [
        attempt_of(MADE, auth_hash="A" * 43),
        attempt_of(MADE, core=MADE.core.replace("220000", "220001")),
        attempt_of(Exchange.make()),
    ],
)
def test_another_payment_information_is_not_the_half_that_was_signed(attempt: Attempt) -> None:
    with pytest.raises(ProtocolViolation, match="halves"):
        check_payment_information(found(), attempt)


def test_payment_information_that_names_another_session_is_found_although_it_was_signed() -> None:
    made = MADE.with_core(nm=OTHER)
    with pytest.raises(ProtocolViolation, match="another session"):
        check_payment_information(found(made), attempt_of(made))


@pytest.mark.parametrize("change", [twice("amount"), lambda _: b"[]", lambda _: b"{"])
def test_core_that_cannot_be_read_in_one_way_is_refused(change: Any) -> None:
    with pytest.raises(ProtocolViolation, match="approval"):
        read_core(change(MADE.core.encode()).decode())


@pytest.mark.parametrize(
    "change",
    [
        lambda oi: oi.replace('"220000"', '"1"'),
        lambda oi: oi.replace(MADE.facts.session.nm, OTHER),
        lambda oi: oi.replace('"v":1', '"v":2'),
        lambda oi: "[]",
        lambda oi: twice("tid")(oi.encode()).decode(),
    ],
)
def test_order_information_that_says_something_else_is_found_although_it_was_signed(change: Any) -> None:
    made = MADE.with_parts(oi=change(MADE.oi))
    with pytest.raises(ProtocolViolation, match="halves"):
        check_order_information(found(made), made.oi)
    with pytest.raises(ProtocolViolation, match="not the half"):
        check_order_information(found(), made.oi)


def test_session_authority_is_asked_for_by_the_merchant_for_itself() -> None:
    key = keys.new_key()
    honest = make_session_authority_request(bank().shop, bank().gateway.urn, key, at=AT).claims
    assert asked_authority(honest) == keys.thumbprint(key.public_key())
    other = certificates.certificate_request(key, ids.urn("bank", "authority", "session:other"), "")
    leaf = certificates.certificate_request(key, bank().shop.urn, "merchant-sign")
    for request in (ids.encode_base64url(other), ids.encode_base64url(leaf), "AAAAA", "AAAA"):
        claims: SessionAuthorityRequest = msgspec.structs.replace(honest, request=request)
        with pytest.raises(ProtocolViolation, match="request"):
            asked_authority(claims)
