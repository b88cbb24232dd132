"""Every forgery of a message from gateway to merchant is refused, and the order stands as it stood.

Altered, replayed, reflected, misdirected, unsigned, wrongly signed, expired, revoked, of the wrong purpose or kind, for a used tid or
for another order.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.protocols import signed
from hanbit.protocols.redirect.messages import Closed, Confirmation, Keys, Notice, Receipt, Settled, plain_order_hash
from tests.unit.merchant.support import DAY_S, GATEWAY, NOW, OPERATOR, SHOP, Operator, Parties, confirmed, place, serial


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop(parties: Parties, tmp_path: Path) -> AsyncIterator[Shop]:
    async with parties.open_shop(tmp_path) as opened:
        yield opened


async def assert_untouched(shop: Shop, order: Order, messages: int) -> None:
    """No step, no message in the journal: the bad bytes lie apart."""
    assert await shop.order(order.tid) == order
    assert len(await shop.book.messages(order.tid)) == messages


def altered(compact: str, **changes: Any) -> str:
    header, payload, signature = compact.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return ".".join((header, ids.encode_base64url(json.dumps(claims | changes, separators=(",", ":")).encode()), signature))


async def refused(shop: Shop, unverified: str, *rules: str) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        await shop.receive(unverified)
    assert caught.value.rule in rules, caught.value


# One forgery each: (what a dishonest network or gateway makes of an honest notice, the rules that may name it)
def _other_signer(parties: Parties, urn: str, purpose: str, **options: Any) -> signed.Signer:
    return parties.operator.signer(urn, purpose, **options)


def _signed_by(_: Parties, claims: Notice | Settled, signer: signed.Signer) -> str:
    """Signed as if the key's owner were allowed to: what an attacker's own program does."""
    stranger = signed.Signer(urn=claims.iss, purpose="gateway-sign", kid=signer.kid, chain=signer.chain, key=signer.key)
    return signed.sign(claims, stranger).compact


FORGERIES: dict[str, tuple[Callable[[Parties, Order], str], tuple[str, ...]]] = {
    "altered amount": (lambda p, o: altered(p.notice(o).compact, amount="1"), ("signature",)),
    "altered tid": (lambda p, o: altered(p.notice(o).compact, tid="x" * 22), ("signature",)),
    "signature of another notice": (
        lambda p, o: p.notice(o).compact.rpartition(".")[0] + "." + p.notice(o).compact.rpartition(".")[2],
        ("signature",),
    ),
    "unsigned": (lambda p, o: p.notice(o).compact.rpartition(".")[0] + ".", ("signature", "shape")),
    "algorithm none": (
        lambda p, o: ids.encode_base64url(b'{"alg":"none","typ":"hanbit-notice"}') + "." + p.notice(o).compact.split(".")[1] + ".",
        ("header", "shape", "signature"),
    ),
    "signed by this shop itself": (lambda p, o: _signed_by(p, p.notice(o).claims, p.shop), ("unknown_key", "purpose", "sender")),
    "signed by another shop": (
        lambda p, o: _signed_by(p, p.notice(o).claims, _other_signer(p, f"{SHOP}2", "merchant-sign")),
        ("unknown_key", "purpose", "sender"),
    ),
    "signed by a customer": (
        lambda p, o: _signed_by(p, p.notice(o).claims, _other_signer(p, ids.urn(OPERATOR, "customer", "c"), "customer-sign")),
        ("unknown_key", "purpose", "sender"),
    ),
    "signed with the gateway's line key": (
        lambda p, o: _signed_by(
            p,
            p.notice(o).claims,
            p.operator.signer(GATEWAY, "gateway-seal"),
        ),
        ("unknown_key", "purpose"),
    ),
    "signed under a false root": (
        lambda p, o: _signed_by(p, p.notice(o).claims, Operator.make().signer(GATEWAY, "gateway-sign")),
        ("certificate_chain", "certificate_signature", "certificate_issuer", "unknown_key"),
    ),
    "for another shop": (lambda p, o: p.notice(o, aud=f"{SHOP}2").compact, ("aud",)),
    "expired": (lambda p, o: p.notice(o, exp=NOW - 1).compact, ("expired",)),
    "from the future": (lambda p, o: p.notice(o, iat=NOW + DAY_S, exp=NOW + 2 * DAY_S).compact, ("iat",)),
    "another chain": (lambda p, o: p.notice(o, prev=ids.digest(b"?")).compact, ("prev",)),
    "another version": (lambda p, o: p.notice(o, v=2).compact, ("version", "claims")),
    "one claim too many": (lambda p, o: altered(p.notice(o).compact, extra="x"), ("signature", "claims")),
    "too long": (lambda p, o: p.notice(o).compact + "A" * 70_000, ("size",)),
    "no JWS": (lambda p, o: "hello", ("shape",)),
    "not ASCII": (lambda p, o: "한빛" + p.notice(o).compact, ("shape",)),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_forged_notice_is_refused_and_the_order_stays_placed(parties: Parties, shop: Shop, name: str) -> None:
    forge, rules = FORGERIES[name]
    order = await shop.order((await place(shop)).tid)
    with pytest.raises(ProtocolViolation) as caught:
        await shop.receive(forge(parties, order))
    assert caught.value.rule in rules or caught.value.rule.startswith("certificate"), caught.value
    await assert_untouched(shop, order, messages=1)
    parties.read_confirmation(await shop.receive(parties.notice(order).compact))  # an honest notice still comes through


async def test_notice_under_a_revoked_certificate_is_refused(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    parties.revoked.add(serial(parties.gateway))
    await refused(shop, parties.notice(order).compact, "revoked")
    await assert_untouched(shop, order, messages=1)


async def test_notice_under_an_expired_certificate_is_refused(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    parties.clock.advance(91 * DAY_S)
    with pytest.raises(ProtocolViolation) as caught:
        await shop.receive(parties.notice(order).compact)
    assert caught.value.rule.startswith("certificate")
    await assert_untouched(shop, order, messages=1)


async def test_messages_of_another_kind_do_not_pass_for_a_notice_or_an_outcome(parties: Parties, shop: Shop) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    common = {"payment": order.payment, "tid": order.tid, "amount": "220000", "currency": "KRW", "order": order.order_hash}
    receipt = Receipt(
        **{**parties.head(**common, payee="Rainbow Shop", time=NOW, prev=confirmation.hash), "aud": ids.urn(OPERATOR, "customer")}
    )
    keys = Keys(**parties.head(
        ctx="c" * 22, n="n" * 43, seal="x", order=order.order_hash, tid=order.tid, amount="220000", currency="KRW", payee="p", exp=NOW + 60
    ))  # fmt: skip
    for message in (receipt, keys):
        await refused(shop, signed.sign(message, parties.gateway).compact, "typ", "purpose")
    await assert_untouched(shop, order, messages=3)


async def test_the_shops_own_messages_reflected_at_it_do_nothing(parties: Parties, shop: Shop) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    for kept in await shop.book.messages(order.tid):
        if kept.direction == "sent":
            await refused(shop, kept.compact, "typ", "header")
    honest = parties.settled(confirmation.claims, confirmation.hash).claims
    await refused(shop, _signed_by(parties, honest, parties.shop), "unknown_key", "purpose", "sender")
    await assert_untouched(shop, order, messages=3)


async def test_a_replayed_notice_gets_the_same_bytes_whatever_the_time(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    notice = parties.notice(order)
    first = await shop.receive(notice.compact)
    after = await shop.order(order.tid)
    parties.clock.advance(400 * DAY_S)  # notice, hold and every certificate have ended long since
    assert [await shop.receive(notice.compact) for _ in range(3)] == [first] * 3
    await assert_untouched(shop, after, messages=3)


async def test_one_jti_with_other_bytes_is_refused(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    other = await shop.order((await place(shop)).tid)
    notice = parties.notice(order)
    await shop.receive(notice.compact)
    await refused(shop, parties.notice(other, jti=notice.claims.jti).compact, "jti")
    await assert_untouched(shop, other, messages=1)


async def test_one_payment_with_another_notice_is_refused(parties: Parties, shop: Shop) -> None:
    order, notice, _ = await confirmed(parties, shop)
    await refused(shop, parties.notice(order, payment=notice.claims.payment).compact, "payment")
    await assert_untouched(shop, order, messages=3)


async def test_a_second_payment_for_a_confirmed_tid_is_refused_and_changes_nothing(parties: Parties, shop: Shop) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    second = parties.notice(order)
    refusal = parties.read_refusal(await shop.receive(second.compact))
    assert refusal.claims.reason == "already_answered"
    assert await shop.order(order.tid) == order
    # Its end is kept and acknowledged, and moves the order as little.
    parties.read_acknowledgement(await shop.receive(parties.voided(refusal.claims, refusal.hash).compact))
    assert await shop.order(order.tid) == order
    # And it can never be settled: the shop said no to it.
    await refused(shop, parties.settled(second.claims, refusal.hash).compact, "prev")
    parties.read_acknowledgement(await shop.receive(parties.settled(confirmation.claims, confirmation.hash).compact))
    assert (await shop.deliverable(order.tid)).payment == confirmation.claims.payment


async def test_many_notices_for_one_tid_at_once_are_confirmed_once(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    notices = [parties.notice(order) for _ in range(8)]
    answers = await asyncio.gather(*(shop.receive(notice.compact) for notice in notices))
    kinds = [signed.peek_typ(answer or "") for answer in answers]
    assert kinds.count(Confirmation.TYP) == 1
    assert len(await shop.book.messages(order.tid)) == 1 + 2 * 8


async def test_settled_without_any_confirmation_delivers_nothing(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    notice = parties.notice(order)
    for prev in (notice.hash, order.order_hash, ids.digest(b"a confirmation that the shop never signed")):
        await refused(shop, parties.settled(notice.claims, prev).compact, "prev")
    await assert_untouched(shop, order, messages=1)
    assert not (await shop.order(order.tid)).may_deliver


async def test_settled_after_a_refusal_delivers_nothing(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    refusal = parties.read_refusal(await shop.receive(parties.notice(order, amount="1").compact))
    refused_order = await shop.order(order.tid)
    assert refused_order.state is State.REFUSED
    await refused(shop, parties.settled(refusal.claims, refusal.hash).compact, "prev")
    await assert_untouched(shop, refused_order, messages=3)


async def test_an_outcome_for_another_order_moves_neither(parties: Parties, shop: Shop) -> None:
    first, _, confirmation = await confirmed(parties, shop)
    second = await shop.order((await place(shop)).tid)
    third, _, _ = await confirmed(parties, shop)
    for other in (second, third):
        await refused(
            shop,
            parties.settled(confirmation.claims, confirmation.hash, tid=other.tid, order=other.order_hash).compact,
            "tid",
            "prev",
        )
    for order, messages in ((first, 3), (second, 1), (third, 3)):
        await assert_untouched(shop, order, messages)


async def test_closed_cannot_end_an_order_that_was_confirmed(parties: Parties, shop: Shop) -> None:
    order, _, _ = await confirmed(parties, shop)
    await refused(shop, parties.closed(order).compact, "state")
    await assert_untouched(shop, order, messages=3)


async def test_closed_for_other_bytes_of_the_order_is_refused(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    other = ids.digest(b"an order of the same tid that the shop never signed")
    await refused(shop, parties.closed(order, order=other, prev=other).compact, "order")
    await refused(shop, parties.closed(order, tid="n" * 22).compact, "unknown_order")
    await refused(shop, parties.closed(order, prev=other).compact, "prev")
    await assert_untouched(shop, order, messages=1)


@pytest.mark.parametrize("first", ["settled", "voided"])
@pytest.mark.parametrize("second", ["settled", "voided", "closed"])
async def test_an_order_ends_once(parties: Parties, shop: Shop, first: str, second: str) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    await shop.receive(getattr(parties, first)(confirmation.claims, confirmation.hash).compact)
    ended = await shop.order(order.tid)
    assert ended.state == first
    message: Any = parties.closed(order) if second == "closed" else getattr(parties, second)(confirmation.claims, confirmation.hash)
    await refused(shop, message.compact, "state")
    await assert_untouched(shop, ended, messages=4)


async def test_outcome_signed_with_the_wrong_purpose_or_by_a_stranger_is_refused(parties: Parties, shop: Shop) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    honest = parties.settled(confirmation.claims, confirmation.hash).claims
    for signer in (
        parties.operator.signer(GATEWAY, "gateway-seal"),
        parties.operator.signer(ids.urn(OPERATOR, "customer", "eve"), "customer-sign"),
        Operator.make().signer(GATEWAY, "gateway-sign"),
        Operator.make("other").signer(ids.urn("other", "gateway"), "gateway-sign"),
    ):
        with pytest.raises(ProtocolViolation):
            await shop.receive(_signed_by(parties, honest, signer))
    await assert_untouched(shop, order, messages=3)


async def test_rejected_bytes_are_kept_apart_and_bounded(parties: Parties, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanbit.merchant.order_book.REJECTED_MAX", 3)
    order = await shop.order((await place(shop)).tid)
    for _ in range(6):
        await refused(shop, parties.notice(order, aud=GATEWAY).compact, "aud")
    rows = shop.book._connection.execute("SELECT rule FROM rejected").fetchall()
    assert rows == [("aud",)] * 3


async def test_plain_order_is_compared_with_what_the_browser_sent(parties: Parties, tmp_path: Path) -> None:
    async with parties.open_shop(tmp_path, plain=True) as shop:
        redirect = await place(shop)
        order = await shop.order(redirect.tid)
        assert "ORDER=" not in redirect.location
        sent = plain_order_hash("shop", order.tid, "22", "KRW")
        refusal = parties.read_refusal(await shop.receive(parties.notice(order, amount="22", order=sent).compact))
        assert refusal.claims.reason == "amount_mismatch"
        parties.read_acknowledgement(await shop.receive(parties.voided(refusal.claims, refusal.hash).compact))
        assert (await shop.order(order.tid)).state is State.VOIDED
        # A tid that a browser invented ends without an order, and is acknowledged so that the gateway is done with it.
        invented = plain_order_hash("shop", "i" * 22, "5", "KRW")
        closed = Closed(**parties.head(tid="i" * 22, order=invented, prev=invented, outcome="expired"))
        parties.read_acknowledgement(await shop.receive(signed.sign(closed, parties.gateway).compact))
