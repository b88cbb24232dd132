"""D5, D6: what a shop takes of a customer, held against its own session, its own order and its own half, before it asks the gateway."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanbit.crypto import keys
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation, WrongState
from hanbit.kernel.money import Money
from hanbit.protocols import sealed
from hanbit.protocols.dual_signature.digests import oi_digest
from hanbit.protocols.dual_signature.merchant import SessionFacts
from hanbit.protocols.dual_signature.messages import OI_MAX, OrderInformation, Purchase
from hanbit.protocols.redirect.merchant import OrderFacts
from hanbit.protocols.signed import Signer
from tests.protocol.dual_signature.parties import (
    LINES,
    OTHER,
    Exchange,
    facts_of,
    merchant,
    other_authority,
    other_shop,
    re_payload,
    session_authority,
    temporary_signer,
    twice,
    with_float,
)
from tests.unit.wallet.parties import AT, forger, make_order

MADE = Exchange.make()


def refused(
    purchase: Purchase, *, facts: SessionFacts | None = MADE.facts, order: OrderFacts | None = None, lines: str = LINES, at: int = AT
) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        merchant().verify_purchase(purchase, facts, order or facts_of(MADE.order), lines, at=at)
    return caught.value.rule


def dual_of(**changes: Any) -> Purchase:
    return MADE.with_dual(**changes).purchase


def oi_of(**changes: Any) -> Purchase:
    """Another OI, consistently signed by the customer himself."""
    said = msgspec.structs.replace(msgspec.json.decode(MADE.oi, type=OrderInformation), **changes)
    return MADE.with_parts(oi=msgspec.json.encode(said).decode()).purchase


def test_purchase_that_agrees_is_taken_and_asked_for() -> None:
    taken = MADE.purchased()
    request = merchant().make_authorization_request(taken, at=AT).claims
    assert (request.sid, request.tid, request.amount, request.order) == (taken.session.sid, taken.session.tid, "220000", MADE.order.hash)
    assert (request.dual, request.prev) == (MADE.purchase.dual, taken.dual.hash)
    assert (request.pimd, request.oimd) == (MADE.purchase.pimd, oi_digest(MADE.oi))
    assert request.envelope_hash == ids.digest(MADE.purchase.envelope.encode())


# --- the session -----------------------------------------------------------------------------------------------------------------------


def test_unknown_used_and_ended_sessions_are_refused() -> None:
    assert refused(MADE.purchase, facts=None) == "sid"
    assert refused(MADE.purchase, facts=replace(MADE.facts, used=True)) == "sid"
    assert refused(MADE.purchase, at=MADE.facts.session.exp + 1) == "expired"


def test_purchase_of_another_session_of_the_same_order_is_refused() -> None:
    assert refused(MADE.purchase, facts=Exchange.make().facts) == "temporary"


def test_purchase_to_another_merchant_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="temporary"):
        merchant(other_shop()).verify_purchase(MADE.purchase, MADE.facts, facts_of(MADE.order), LINES, at=AT)


# --- the dual signature ----------------------------------------------------------------------------------------------------------------


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
        ({"prev": OTHER}, "prev"),
        ({"exp": AT + 601}, "exp"),
        ({"oimd": OTHER}, "oimd"),
        ({"pimd": OTHER}, "pimd"),
        ({"pomd": OTHER}, "pomd"),
        ({"pomd": "short"}, "claims"),
        ({"aud": "urn:hanbit:bank:merchant:shop"}, "aud"),
        ({"aud": "urn:hanbit:otherbank:gateway"}, "aud"),
        ({"iat": AT + 121}, "iat"),
        ({"v": 2}, "version"),
    ],
)
def test_dual_signature_with_one_altered_field_is_refused(changes: dict[str, Any], rule: str) -> None:
    assert refused(dual_of(**changes)) == rule


def other_key() -> Signer:
    """A key that this very shop certified for this very session, but that is not the one of the session."""
    return temporary_signer(replace(MADE.session, signer=replace_key(MADE.session.signer)), session_authority())


def replace_key(by: Signer) -> Signer:
    return Signer(by.urn, by.purpose, by.kid, by.chain, keys.new_key())


@pytest.mark.parametrize(
    ("by", "rule"),
    [
        (other_key, "thumbprint"),
        (lambda: temporary_signer(MADE.session, session_authority(), sid="S" * 21 + "A"), "temporary"),
        (lambda: temporary_signer(MADE.session, other_authority(), merchant_id="other"), "temporary"),
        (lambda: temporary_signer(MADE.session, session_authority(forger())), "certificate_profile"),
        (lambda: replace_key(MADE.session.signer), "signature"),
    ],
)
def test_dual_signature_by_another_key_is_refused(by: Callable[[], Signer], rule: str) -> None:
    assert refused(MADE.with_dual(by=by()).purchase) == rule


def test_temporary_certificate_that_ended_is_refused_although_the_book_would_still_take_it() -> None:
    facts = replace(MADE.facts, session=msgspec.structs.replace(MADE.facts.session, exp=AT + 3600))
    assert refused(MADE.purchase, facts=facts, at=AT + 781) == "certificate_dates"


def test_certificate_that_the_book_does_not_know_by_its_bytes_is_verified_up_to_the_root() -> None:
    facts = replace(MADE.facts, issued=())
    assert merchant().verify_purchase(MADE.purchase, facts, facts_of(MADE.order), LINES, at=AT) == MADE.purchased()
    forged = temporary_signer(MADE.session, session_authority(forger()))
    assert refused(MADE.with_dual(by=forged).purchase, facts=facts) == "certificate_profile"
    assert refused(MADE.with_dual(by=other_key()).purchase, facts=facts) == "thumbprint"
    assert refused(MADE.purchase, facts=replace(facts, session=msgspec.structs.replace(facts.session, exp=AT + 3600)), at=AT + 781) == (
        "certificate_dates"
    )


def test_certificate_that_lives_for_longer_than_one_may_is_refused_whoever_issued_it() -> None:
    early = AT - 3600  # the clock was set back since
    assert refused(MADE.purchase, at=early) == "certificate_dates"


@pytest.mark.parametrize("change", [twice("pimd"), twice("sid"), with_float("exp"), with_float("iat")])
def test_dual_signature_that_two_readers_could_read_in_two_ways_is_refused(change: Any) -> None:
    assert refused(MADE.again(dual=re_payload(MADE.purchase.dual, change, MADE.session.signer.key))) == "claims"


def test_another_message_in_the_place_of_the_dual_signature_is_refused() -> None:
    for other in (MADE.opened.session.compact, MADE.request().compact):
        assert refused(MADE.again(dual=other)) == "typ"


# --- OI --------------------------------------------------------------------------------------------------------------------------------


@given(place=st.integers(0, 400), by=st.integers(1, 127))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_altered_byte_of_the_order_information_is_refused(place: int, by: int) -> None:
    data = bytearray(MADE.oi.encode())
    data[place % len(data)] ^= by
    altered = data.decode("utf-8", "replace")
    assert refused(MADE.again(oi=altered)) == "oimd"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"tid": "u" * 22}, "tid"),
        ({"sid": "S" * 22}, "sid"),
        ({"nc": OTHER}, "nc"),
        ({"nm": OTHER}, "nm"),
        ({"merchant": "urn:hanbit:bank:merchant:other"}, "merchant"),
        ({"gateway": "urn:hanbit:otherbank:gateway"}, "gateway"),
        ({"amount": "1"}, "amount"),
        ({"currency": "USD"}, "currency"),
        ({"lines": LINES.replace("220000", "1")}, "lines"),
        ({"lines": LINES + " "}, "lines"),
        ({"v": 2}, "version"),
    ],
)
def test_order_information_that_says_something_else_is_refused_although_it_was_signed(changes: dict[str, Any], rule: str) -> None:
    assert refused(oi_of(**changes)) == rule


@pytest.mark.parametrize(
    "change",
    [twice("amount"), with_float("v"), lambda data: data[:-1] + b',"more":1}', lambda data: b"[" * 20_000, lambda data: b"[]"],
)
def test_order_information_that_two_readers_could_read_in_two_ways_is_refused(change: Any) -> None:
    assert refused(MADE.with_parts(oi=change(MADE.oi.encode()).decode()).purchase) == "oi"


def test_order_information_without_end_is_refused() -> None:
    assert refused(MADE.with_parts(oi=MADE.oi + " " * OI_MAX).purchase) == "size"


# --- the shop's own order --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "lines", "rule"),
    [
        (facts_of(MADE.order, amount=Money(220_001, "KRW")), LINES, "amount"),
        (facts_of(MADE.order, amount=Money(220_000, "USD")), LINES, "currency"),
        (facts_of(make_order(tid="t" * 22)), LINES, "order"),
        (facts_of(MADE.order), LINES.replace("220000", "219999"), "lines"),
    ],
)
def test_order_that_is_another_by_now_is_refused(order: OrderFacts, lines: str, rule: str) -> None:
    assert refused(MADE.purchase, order=order, lines=lines) == rule


@pytest.mark.parametrize(
    ("changes", "reason"), [({"barred": "already_answered"}, "already_answered"), ({"answer_until": AT - 1}, "expired")]
)
def test_order_that_takes_no_payment_any_more_is_not_asked_for(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WrongState, match=reason):
        merchant().verify_purchase(MADE.purchase, MADE.facts, facts_of(MADE.order, **changes), LINES, at=AT)


# --- PI, of which the shop sees the hash only --------------------------------------------------------------------------------------------


def test_swapped_halves_are_refused() -> None:
    assert refused(MADE.again(pimd=oi_digest(MADE.oi))) == "pimd"
    swapped = dual_of(pimd=oi_digest(MADE.oi), oimd=MADE.purchase.pimd)
    assert refused(msgspec.structs.replace(swapped, pimd=oi_digest(MADE.oi))) == "oimd"


def test_half_of_another_purchase_is_refused() -> None:
    other = Exchange.make()
    assert refused(MADE.again(pimd=other.purchase.pimd)) == "pimd"
    assert refused(MADE.again(oi=other.oi)) == "oimd"
    assert refused(MADE.again(envelope=other.purchase.envelope)) == "sid"


@pytest.mark.parametrize(
    "envelope",
    [
        "",
        "a.b.c.d.e",
        "é" * 20,
        "a" * (sealed.SEALED_MAX + 1),
        MADE.purchase.dual,
        MADE.purchase.envelope + "\n",
        MADE.purchase.envelope + "\nx",
        sealed.seal_key(MADE.opening.seal.public, MADE.opening.seal.kid, ctx="C" * 22, n="N" * 43, tid="t" * 22)[1],
    ],
)
def test_what_is_no_envelope_of_this_session_never_goes_over_the_line(envelope: str) -> None:
    assert refused(MADE.again(envelope=envelope)) == "sealed"
