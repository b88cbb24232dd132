"""The gateway's role in a cancellation by itself: what it takes, what it compares, when it says no (C1, C2)."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import signed
from hanbit.protocols.cancellation import gateway
from hanbit.protocols.cancellation.gateway import LIFETIME_MAX_S, Facts, Figures
from hanbit.protocols.cancellation.messages import Cancel
from hanbit.protocols.redirect.messages import Order
from hanbit.protocols.signed import PinnedTrust, SignedMessage
from tests.unit.merchant.support import GATEWAY, NOW, OPERATOR, SHOP, Parties

TID, PAYMENT = "T" * 22, "P" * 22
ORDER, SETTLED = ids.digest(b"the order"), ids.digest(b"settled")
FACTS = Facts(tid=TID, payment=PAYMENT, currency="KRW", links=frozenset({ORDER, SETTLED}))


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties()


def cancel_of(parties: Parties, **changes: Any) -> SignedMessage[Cancel]:
    shop = parties.role().signer
    figures = {"tid": TID, "payment": PAYMENT, "amount": "20000", "currency": "KRW", "remaining": "220000", "prev": ORDER}
    fixed: dict[str, Any] = {"cancellation": "C" * 22, "reason": "", "exp": NOW + 600}
    return signed.sign(Cancel(**signed.head(shop, GATEWAY, NOW), **(figures | fixed | changes)), shop)


def taken(parties: Parties, compact: str, at: int = NOW) -> SignedMessage[Cancel]:
    trust = PinnedTrust(parties.operator.root, OPERATOR)
    return gateway.verify_cancel(compact, trust=trust, gateway=GATEWAY, merchant_urn=SHOP, at=at)


def test_a_merchants_own_cancellation_is_taken(parties: Parties) -> None:
    cancel = cancel_of(parties)
    assert taken(parties, cancel.compact) == cancel


def test_a_cancellation_of_nothing_is_a_broken_rule(parties: Parties) -> None:
    with pytest.raises(ProtocolViolation, match="amount"):
        taken(parties, cancel_of(parties, amount="0").compact)


@pytest.mark.parametrize("amount", ["-1", "+1", "1.0", "01", "1e3", "", " 1", "1000000000000000"])
def test_an_amount_has_one_spelling(parties: Parties, amount: str) -> None:
    with pytest.raises(ProtocolViolation, match="claims"):
        taken(parties, cancel_of(parties, amount=amount).compact)


@pytest.mark.parametrize("change", [{"aud": SHOP}, {"iss": "urn:hanbit:demo:merchant:other"}])
def test_it_is_from_this_merchant_for_this_gateway(parties: Parties, change: dict[str, str]) -> None:
    shop = parties.role().signer
    urn = change.get("iss", shop.urn)
    claims = msgspec.structs.replace(cancel_of(parties).claims, **change)
    with pytest.raises(ProtocolViolation, match=r"aud|sender"):
        taken(parties, signed.sign(claims, replace(shop, urn=urn)).compact)


def test_no_message_of_another_kind_passes_for_one(parties: Parties) -> None:
    shop = parties.role().signer
    order = Order(
        **signed.head(shop, GATEWAY, NOW),
        tid=TID,
        amount="1",
        currency="KRW",
        oi=ORDER,
        text="",
        return_url="https://shop.localhost/",
        pay_by=NOW + 60,
    )
    with pytest.raises(ProtocolViolation, match="typ"):
        taken(parties, signed.sign(order, shop).compact)


def test_it_is_first_accepted_within_a_day_of_its_signature(parties: Parties) -> None:
    gateway.check_fresh(cancel_of(parties), NOW + 600)
    gateway.check_fresh(cancel_of(parties, exp=NOW + LIFETIME_MAX_S), NOW)
    for cancel, at in (
        (cancel_of(parties), NOW + 601),
        (cancel_of(parties, exp=NOW + LIFETIME_MAX_S + 1), NOW),
        (cancel_of(parties, exp=NOW - 1), NOW),
    ):
        with pytest.raises(ProtocolViolation, match="exp"):
            gateway.check_fresh(cancel, at)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"tid": "U" * 22}, "tid"),
        ({"payment": "Q" * 22}, "payment"),
        ({"currency": "USD"}, "currency"),
        ({"prev": ids.digest(b"x")}, "prev"),
    ],
)
def test_it_is_compared_with_the_payment(parties: Parties, change: dict[str, str], broken: str) -> None:
    gateway.compare(cancel_of(parties), FACTS)
    gateway.compare(cancel_of(parties, payment=None, prev=SETTLED), FACTS)
    with pytest.raises(ProtocolViolation) as caught:
        gateway.compare(cancel_of(parties, **change), FACTS)
    assert caught.value.rule == broken


@pytest.mark.parametrize(
    ("amount", "remaining", "known", "reason"),
    [
        ("220000", "220000", 220_000, None),
        ("220000", "220000", None, None),
        ("20000", "220000", None, "amount_differs"),
        ("20000", "20000", 220_000, "amount_differs"),
        ("220000", "240000", 220_000, "amount_differs"),
    ],
)
def test_before_the_capture_only_the_whole_can_be_cancelled(
    parties: Parties, amount: str, remaining: str, known: int | None, reason: str | None
) -> None:
    assert gateway.whole_is_asked(cancel_of(parties, amount=amount, remaining=remaining), known) == reason


@pytest.mark.parametrize(
    ("amount", "left", "refund_by", "reason"),
    [
        ("20000", 220_000, None, None),
        ("220000", 220_000, NOW, None),
        ("20000", 200_000, None, "remaining_differs"),
        ("220001", 220_000, None, "too_much"),
        ("20000", 220_000, NOW - 1, "too_late"),
    ],
)
def test_after_the_capture_what_is_left_and_the_deadline_decide(
    parties: Parties, amount: str, left: int, refund_by: int | None, reason: str | None
) -> None:
    figures = Figures(220_000 - left, left)
    assert gateway.refund_is_possible(cancel_of(parties, amount=amount), figures, refund_by=refund_by, at=NOW) == reason


def test_only_a_known_reason_is_ever_signed(parties: Parties) -> None:
    with pytest.raises(AssertionError):
        gateway.make_refusal(cancel_of(parties), Figures(0, 0), "because", signer=parties.gateway, at=NOW)
