"""The merchant's role without any I/O: its order, the comparison, its answer, and what it accepts as an end (R3, R8-R11, RQ)."""

import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.protocols import signed
from hanbit.protocols.redirect.merchant import (
    REFUSAL_REASONS,
    Exchange,
    Merchant,
    Objection,
    OrderFacts,
    Outcome,
    hash_lines,
)
from hanbit.protocols.redirect.messages import Confirmation, Notice, Order, Refusal, Words, plain_order_hash
from hanbit.protocols.signed import SignedMessage
from tests.unit.merchant.support import GATEWAY, NOW, PHONE, RETURN_URL, SHOP, Parties

TID = "T" * 22
ORDER_HASH = ids.digest(b"the order")
FACTS = OrderFacts(tid=TID, amount=PHONE, order_hash=ORDER_HASH, answer_until=NOW + 2700, barred=None, plain=False)


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties()


@pytest.fixture
def role(parties: Parties) -> Merchant:
    return parties.role()


def notice_of(parties: Parties, **changes: Any) -> SignedMessage[Notice]:
    claims = parties.head(
        payment="P" * 22, tid=TID, amount="220000", currency="KRW", order=ORDER_HASH, prev=ORDER_HASH, exp=NOW + 600, **changes
    )
    return signed.sign(Notice(**claims), parties.gateway)


def exchange_of(notice: SignedMessage[Notice], answer: SignedMessage[Confirmation | Refusal]) -> Exchange:
    return Exchange(notice.claims, notice.hash, answer.hash, confirmed=isinstance(answer.claims, Confirmation))


def test_order_carries_the_salted_hash_of_its_lines_and_no_certificate(parties: Parties, role: Merchant) -> None:
    salt, lines = bytes(range(32)), b'[{"item":"IM-1100","quantity":1,"price_minor":220000}]'
    oi = hash_lines(salt, lines)
    expected = hashlib.sha256(b"hanbit1 OI-lines\x00" + salt + lines).digest()
    assert oi == base64.urlsafe_b64encode(expected).rstrip(b"=").decode()
    order = role.make_order(tid=TID, amount=PHONE, oi=oi, text="IM-1100", return_url=RETURN_URL, pay_by=NOW + 1800, refund_by=None, at=NOW)
    assert signed.peek_chain(order.compact) == ()
    assert order.claims.iss == SHOP
    assert order.claims.aud == GATEWAY
    assert order.hash == ids.digest(order.compact.encode())
    assert isinstance(order.claims, Order)


def test_lines_are_never_hashed_without_a_whole_salt() -> None:
    with pytest.raises(AssertionError):
        hash_lines(b"short", b"[]")


def test_plain_order_hash_is_over_exactly_what_the_browser_sent() -> None:
    expected = hashlib.sha256(b"hanbit1 plain\0shop\0" + TID.encode() + b"\x00220000\0KRW").digest()
    assert plain_order_hash("shop", TID, "220000", "KRW") == base64.urlsafe_b64encode(expected).rstrip(b"=").decode()
    assert plain_order_hash("shop", TID, "220001", "KRW") != plain_order_hash("shop", TID, "220000", "KRW")


def test_equal_order_is_confirmed_with_the_notices_own_figures(parties: Parties, role: Merchant) -> None:
    notice = role.verify_notice(notice_of(parties).compact, at=NOW)
    answer = role.answer_notice(notice, FACTS, None, at=NOW)
    assert isinstance(answer.claims, Confirmation)
    assert answer.claims.req == notice.hash
    assert (answer.claims.tid, answer.claims.amount, answer.claims.order) == (TID, "220000", ORDER_HASH)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (None, "unknown_order"),
        (replace(FACTS, tid="U" * 22), "unknown_order"),
        (replace(FACTS, amount=Money(220_001, "KRW")), "amount_mismatch"),
        (replace(FACTS, amount=Money(220_000, "USD")), "currency_mismatch"),
        (replace(FACTS, order_hash=ids.digest(b"another order")), "order_mismatch"),
        (replace(FACTS, barred="withdrawn"), "withdrawn"),
        (replace(FACTS, barred="order_changed"), "order_changed"),
        (replace(FACTS, barred="already_answered"), "already_answered"),
        (replace(FACTS, answer_until=NOW - 1), "expired"),
    ],
)
def test_each_difference_from_the_shops_own_order_is_refused(
    parties: Parties, role: Merchant, facts: OrderFacts | None, reason: str
) -> None:
    notice = role.verify_notice(notice_of(parties).compact, at=NOW)
    answer = role.answer_notice(notice, facts, None, at=NOW)
    assert isinstance(answer.claims, Refusal)
    assert answer.claims.reason == reason
    assert answer.claims.message == REFUSAL_REASONS[reason]
    assert (answer.claims.req, answer.claims.payment) == (notice.hash, notice.claims.payment)


def test_the_shops_own_no_carries_its_own_words(parties: Parties, role: Merchant) -> None:
    words = Words(ko="다 팔렸습니다.", en="Sold out.")
    answer = role.answer_notice(role.verify_notice(notice_of(parties).compact, at=NOW), FACTS, Objection(message=words), at=NOW)
    assert isinstance(answer.claims, Refusal)
    assert (answer.claims.reason, answer.claims.message) == ("shop_refused", words)


def test_every_refusal_has_words_in_both_languages_that_fit_the_message() -> None:
    for words in REFUSAL_REASONS.values():
        assert all(0 < len(text) <= 200 and text.isprintable() for text in (words.ko, words.en))


@pytest.mark.parametrize(
    ("barred", "confirmed", "kind", "good"),
    [
        ("already_answered", True, "settled", True),
        ("already_answered", False, "settled", False),
        ("already_answered", True, "voided", True),
        ("already_answered", False, "voided", True),
    ],
)
def test_an_end_continues_what_the_shop_itself_said(
    parties: Parties, role: Merchant, barred: str, confirmed: bool, kind: str, good: bool
) -> None:
    notice = role.verify_notice(notice_of(parties).compact, at=NOW)
    answer = role.answer_notice(notice, FACTS, None if confirmed else Objection(), at=NOW)
    end: Outcome = getattr(parties, kind)(answer.claims, answer.hash)
    exchange = exchange_of(notice, answer)
    if good:
        role.check_outcome(end, replace(FACTS, barred=barred), exchange)
    else:
        with pytest.raises(ProtocolViolation, match="prev"):
            role.check_outcome(end, replace(FACTS, barred=barred), exchange)


@pytest.mark.parametrize("kind", ["settled", "voided"])
@pytest.mark.parametrize(
    "change",
    [
        {"payment": "Q" * 22},
        {"tid": "V" * 22},
        {"amount": "219999"},
        {"currency": "USD"},
        {"order": ids.digest(b"x")},
        {"prev": ids.digest(b"y")},
    ],
)
def test_an_end_that_differs_in_one_field_is_a_violation(parties: Parties, role: Merchant, kind: str, change: dict[str, str]) -> None:
    notice = role.verify_notice(notice_of(parties).compact, at=NOW)
    answer = role.answer_notice(notice, FACTS, None, at=NOW)
    end: Outcome = getattr(parties, kind)(answer.claims, answer.hash, **change)
    with pytest.raises(ProtocolViolation) as caught:
        role.check_outcome(role.verify_outcome(end.compact, at=NOW), FACTS, exchange_of(notice, answer))
    assert caught.value.rule in change


def test_voided_of_a_notice_that_never_came_must_name_the_shops_order(parties: Parties, role: Merchant) -> None:
    notice = notice_of(parties)
    role.check_outcome(parties.voided(notice.claims, notice.hash), FACTS, None)
    for other in (None, replace(FACTS, order_hash=ids.digest(b"z"))):
        with pytest.raises(ProtocolViolation):
            role.check_outcome(parties.voided(notice.claims, notice.hash), other, None)


def test_a_plain_shop_takes_the_end_of_an_order_that_a_browser_invented(parties: Parties) -> None:
    role, notice = parties.role(plain=True), notice_of(parties)
    role.check_outcome(parties.voided(notice.claims, notice.hash), None, None)


def test_acknowledgement_names_one_to_a_hundred_outcomes(role: Merchant) -> None:
    outcomes = tuple(ids.digest(str(number).encode()) for number in range(101))
    assert role.make_acknowledgement(outcomes[:100], at=NOW).claims.req == outcomes[:100]
    for wrong in ((), outcomes):
        with pytest.raises(AssertionError):
            role.make_acknowledgement(wrong, at=NOW)


def test_status_must_answer_this_very_inquiry(parties: Parties, role: Merchant) -> None:
    inquiry, other = role.make_inquiry(TID, at=NOW), role.make_inquiry(TID, at=NOW)
    assert role.read_status(parties.status(inquiry, "open", None).compact, inquiry, at=NOW).claims.state == "open"
    for wrong in (parties.status(other, "open", None), parties.status(inquiry, "open", None, tid="W" * 22)):
        with pytest.raises(ProtocolViolation):
            role.read_status(wrong.compact, inquiry, at=NOW)
