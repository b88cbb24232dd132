"""Reconciliation: every open order is asked about once, the gateway's word settles it, and what is left is listed with its reason."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hanbit.kernel.errors import Unavailable
from hanbit.merchant import reconciliation
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.protocols.redirect.messages import Inquiry
from hanbit.protocols.signed import SignedMessage
from tests.unit.merchant.support import GatewayLine, Parties, confirmed, place

HOUR_S = 3_600


@pytest.fixture
def parties() -> Parties:
    return Parties()


@pytest.fixture
async def shop(parties: Parties, tmp_path: Path) -> AsyncIterator[Shop]:
    async with parties.open_shop(tmp_path) as opened:
        opened.line = GatewayLine(parties)
        yield opened


def line(shop: Shop) -> GatewayLine:
    assert isinstance(shop.line, GatewayLine)
    return shop.line


def says(parties: Parties, shop: Shop, state: str, outcome: str | None = None) -> None:
    line(shop).answer = lambda inquiry: parties.status(inquiry, state, outcome).compact


async def only_finding(shop: Shop, *, by_itself: bool) -> str:
    report = await shop.reconcile()
    (finding,) = report.waiting if by_itself else report.unresolved
    assert report.ended == ()
    assert (report.unresolved if by_itself else report.waiting) == ()
    assert finding.advice
    return finding.reason


async def test_without_a_line_nothing_can_be_asked(shop: Shop) -> None:
    await place(shop)
    line(shop).connected.clear()
    with pytest.raises(Unavailable, match="no line"):
        await shop.reconcile()
    assert line(shop).asked == []


@pytest.mark.parametrize("state", ["open", "in_progress", "unknown"])
async def test_what_can_still_be_paid_is_left_alone(parties: Parties, shop: Shop, state: str) -> None:
    tid = (await place(shop)).tid
    says(parties, shop, state)
    assert await only_finding(shop, by_itself=True) == state
    assert (await shop.order(tid)).state is State.PLACED


async def test_a_gateway_that_does_not_know_what_this_shop_confirmed(parties: Parties, shop: Shop) -> None:
    order, _, _ = await confirmed(parties, shop)
    parties.clock.advance(HOUR_S)
    says(parties, shop, "unknown")
    assert await only_finding(shop, by_itself=False) == "not_known_there"
    assert (await shop.order(order.tid)) == order


async def test_a_payment_that_the_gateway_has_not_ended_in_its_time(parties: Parties, shop: Shop) -> None:
    await confirmed(parties, shop)
    parties.clock.advance(HOUR_S)
    says(parties, shop, "in_progress")
    assert await only_finding(shop, by_itself=False) == "overdue"


async def test_an_outcome_that_does_not_continue_what_this_shop_said(parties: Parties, shop: Shop) -> None:
    order, _, confirmation = await confirmed(parties, shop)
    says(parties, shop, "settled", parties.settled(confirmation.claims, order.order_hash).compact)
    assert await only_finding(shop, by_itself=False) == "contradiction"
    assert not (await shop.order(order.tid)).may_deliver


async def test_an_order_that_nobody_opened_is_closed_only_when_both_clocks_say_that_nobody_can(parties: Parties, shop: Shop) -> None:
    order = await shop.order((await place(shop)).tid)
    says(parties, shop, "unknown")
    parties.clock.advance(order.answer_until - parties.clock.now() + reconciliation.CLOCK_GRACE_S)
    assert await only_finding(shop, by_itself=True) == "unknown"
    parties.clock.advance(1)
    report = await shop.reconcile()
    assert report.ended == ((order.tid, "closed"),)
    closed = await shop.order(order.tid)
    status = [kept for kept in await shop.book.messages(order.tid) if kept.typ == "hanbit-status"][-1]
    assert (closed.outcome, closed.reason) == (status.hash, reconciliation.NEVER_OPENED)
    # Whatever comes for it after all is refused, kept and acknowledged, and moves nothing.
    parties.clock.advance(-HOUR_S // 2)
    refusal = parties.read_refusal(await shop.receive(parties.notice(order).compact))
    assert refusal.claims.reason == "expired"
    parties.read_acknowledgement(await shop.receive(parties.voided(refusal.claims, refusal.hash).compact))
    assert await shop.order(order.tid) == closed


async def test_too_many_inquiries_are_asked_again_and_none_is_lost(parties: Parties, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "TOO_MANY_PAUSE_S", 0.001)
    tids = {(await place(shop)).tid for _ in range(30)}
    turned_away: set[str] = set()

    def answer(inquiry: SignedMessage[Inquiry]) -> str:
        if inquiry.claims.tid not in turned_away:
            turned_away.add(inquiry.claims.tid)
            return parties.turned_away(inquiry.hash, "too_many").compact
        return parties.status(inquiry, "open", None).compact

    line(shop).answer = answer
    report = await shop.reconcile()
    assert {finding.tid for finding in report.waiting} == tids
    assert report.unresolved == ()


async def test_any_other_no_is_listed(parties: Parties, shop: Shop) -> None:
    await place(shop)
    line(shop).answer = lambda inquiry: parties.turned_away(inquiry.hash, "revoked").compact
    assert await only_finding(shop, by_itself=False) == "no_answer"


async def test_pages_are_all_asked_about_with_bounded_concurrency(parties: Parties, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "PAGE", 7)
    tids = [(await place(shop)).tid for _ in range(40)]
    at_once: list[int] = []
    under_way = 0
    gateway = line(shop)
    real = gateway.ask

    async def slowly(message: str, *, timeout_s: float | None = None) -> str:
        nonlocal under_way
        under_way += 1
        at_once.append(under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return await real(message, timeout_s=timeout_s)

    monkeypatch.setattr(gateway, "ask", slowly)
    says(parties, shop, "open")
    seen: list[int] = []
    report = await shop.reconcile(lambda done, _total: seen.append(done))
    assert (report.asked, [finding.tid for finding in report.waiting]) == (40, sorted(tids))
    assert seen == list(range(1, 41))
    assert max(at_once) <= reconciliation.ASKING_MAX


async def test_the_shop_looks_by_itself_at_what_is_due_and_leaves_the_rest_alone(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "AUTO_AFTER_S", 0.01)
    ended: list[tuple[str, State]] = []

    async def on_outcome(order: Order) -> None:
        ended.append((order.tid, order.state))

    async with parties.open_shop(tmp_path) as shop:
        old = (await place(shop)).tid
        parties.clock.advance(HOUR_S)
        order, _, confirmation = await confirmed(parties, shop)
        parties.clock.advance(60)
        fresh = (await place(shop)).tid
    settled = parties.settled(confirmation.claims, confirmation.hash).compact
    async with parties.open_shop(tmp_path, on_outcome=on_outcome) as again:
        again.line = gateway = GatewayLine(parties)
        gateway.answer = lambda inquiry: (
            parties.status(inquiry, *(("settled", settled) if inquiry.claims.tid == order.tid else ("unknown", None))).compact
        )
        for _ in range(500):
            if len(ended) == 2:
                break
            await asyncio.sleep(0.01)
        assert dict(ended) == {old: State.CLOSED, order.tid: State.SETTLED}
        assert fresh not in {inquiry.claims.tid for inquiry in gateway.asked}
