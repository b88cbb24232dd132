"""The merchant's role in a cancellation without any I/O: its request, and which answers it takes (C1, C3)."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.protocols import signed
from hanbit.protocols.cancellation import gateway
from hanbit.protocols.cancellation.gateway import NOTHING, Figures
from hanbit.protocols.cancellation.merchant import CANCEL_LIFETIME_S, Answer, Merchant
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation
from hanbit.protocols.signed import SignedMessage
from tests.unit.merchant.support import GATEWAY, NOW, SHOP, Parties

TID, PAYMENT, CANCELLATION = "T" * 22, "P" * 22, "C" * 22
PREV = ids.digest(b"the settled message")


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties()


@pytest.fixture
def role(parties: Parties) -> Merchant:
    of_checkout = parties.role()
    return Merchant(signer=of_checkout.signer, gateway=of_checkout.gateway, trust=of_checkout.trust)


def asked(role: Merchant, amount: int = 20_000, remaining: int = 220_000, payment: str | None = PAYMENT) -> SignedMessage[Cancel]:
    return role.make_cancel(
        cancellation=CANCELLATION,
        payment=payment,
        tid=TID,
        amount=Money(amount, "KRW"),
        remaining=Money(remaining, "KRW"),
        reason="one of two was broken",
        prev=PREV,
        at=NOW,
    )


def confirmed(parties: Parties, cancel: SignedMessage[Cancel], refunded: int, remaining: int) -> str:
    return gateway.make_confirmation(cancel, Figures(refunded, remaining), signer=parties.gateway, at=NOW).compact


def refused(parties: Parties, cancel: SignedMessage[Cancel], reason: str, remaining: int) -> str:
    return gateway.make_refusal(cancel, Figures(0, remaining), reason, signer=parties.gateway, at=NOW).compact


def rule(read: Callable[[], Answer]) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        read()
    return caught.value.rule


def test_a_cancellation_says_who_asks_whom_for_what_and_until_when(role: Merchant) -> None:
    claims = asked(role).claims
    assert (claims.iss, claims.aud, claims.exp) == (SHOP, GATEWAY, NOW + CANCEL_LIFETIME_S)
    assert (claims.tid, claims.amount, claims.currency, claims.remaining, claims.prev) == (TID, "20000", "KRW", "220000", PREV)


@pytest.mark.parametrize(("amount", "remaining"), [(0, 220_000), (220_001, 220_000)])
def test_nothing_and_more_than_is_left_are_never_asked(role: Merchant, amount: int, remaining: int) -> None:
    with pytest.raises(AssertionError):
        asked(role, amount, remaining)


def test_the_confirmation_of_a_refund_is_taken_whenever_it_comes(parties: Parties, role: Merchant) -> None:
    cancel = asked(role)
    answer = role.read_answer(confirmed(parties, cancel, 20_000, 200_000), cancel, settled=True, at=NOW + 30 * CANCEL_LIFETIME_S)
    assert isinstance(answer.claims, CancelConfirmation)
    assert (answer.claims.refunded, answer.claims.remaining, answer.claims.req) == ("20000", "200000", cancel.hash)


def test_an_order_that_was_never_paid_is_confirmed_with_nothing_refunded(parties: Parties, role: Merchant) -> None:
    cancel = asked(role, 220_000, payment=None)
    answer = gateway.make_confirmation(cancel, NOTHING, signer=parties.gateway, at=NOW).compact
    assert role.read_answer(answer, cancel, settled=False, at=NOW).claims.remaining == "0"
    assert rule(lambda: role.read_answer(answer, cancel, settled=True, at=NOW)) == "refunded"


@pytest.mark.parametrize(
    ("refunded", "remaining", "broken"),
    [(20_000, 200_001, "remaining"), (19_999, 200_000, "remaining"), (0, 200_000, "refunded"), (20_000, 0, "remaining")],
)
def test_figures_that_do_not_follow_from_the_request_are_not_taken(
    parties: Parties, role: Merchant, refunded: int, remaining: int, broken: str
) -> None:
    cancel = asked(role)
    assert rule(lambda: role.read_answer(confirmed(parties, cancel, refunded, remaining), cancel, settled=False, at=NOW)) == broken


def test_no_refund_is_believed_of_a_payment_that_was_never_announced(parties: Parties, role: Merchant) -> None:
    cancel = asked(role, 220_000, payment=None)
    assert rule(lambda: role.read_answer(confirmed(parties, cancel, 220_000, 0), cancel, settled=False, at=NOW)) == "refunded"


@pytest.mark.parametrize("change", ["cancellation", "payment", "tid", "amount", "currency", "req"])
def test_an_answer_about_anything_else_is_not_taken(parties: Parties, role: Merchant, change: str) -> None:
    cancel = asked(role)
    other = {"cancellation": "D" * 22, "payment": "Q" * 22, "tid": "U" * 22, "amount": "1", "currency": "USD", "req": PREV}
    claims: Any = gateway.make_confirmation(cancel, Figures(20_000, 200_000), signer=parties.gateway, at=NOW).claims
    forged = signed.sign(msgspec.structs.replace(claims, **{change: other[change]}), parties.gateway)
    assert rule(lambda: role.read_answer(forged.compact, cancel, settled=True, at=NOW)) == change


@pytest.mark.parametrize(("reason", "remaining"), [("too_late", 220_000), ("merchant_funds", 220_000), ("remaining_differs", 200_000)])
def test_a_refusal_is_taken_where_its_figures_bear_it_out(parties: Parties, role: Merchant, reason: str, remaining: int) -> None:
    cancel = asked(role)
    answer = role.read_answer(refused(parties, cancel, reason, remaining), cancel, settled=True, at=NOW)
    assert not isinstance(answer.claims, CancelConfirmation)


@pytest.mark.parametrize(
    ("reason", "remaining"), [("too_late", 200_000), ("merchant_funds", 0), ("remaining_differs", 220_000), ("too_much", 20_000)]
)
def test_a_refusal_whose_figures_contradict_it_is_not_taken(parties: Parties, role: Merchant, reason: str, remaining: int) -> None:
    cancel = asked(role)
    assert rule(lambda: role.read_answer(refused(parties, cancel, reason, remaining), cancel, settled=True, at=NOW)) == "remaining"


def test_its_own_request_or_the_answer_to_another_role_is_no_answer(parties: Parties, role: Merchant) -> None:
    cancel = asked(role)
    assert rule(lambda: role.read_answer(cancel.compact, cancel, settled=True, at=NOW)) == "typ"
    changed = confirmed(parties, cancel, 20_000, 200_000)[:-6] + "AAAAAA"
    assert rule(lambda: role.read_answer(changed, cancel, settled=True, at=NOW)) in {"signature", "shape"}
