"""What must be true after any accident: shop and gateway agree, goods left only for money, the same bytes get the same answer."""

import asyncio
from typing import Final

from hanbit.demo.cases import prove
from hanbit.demo.world import World
from hanbit.evidence import store as evidence
from hanbit.kernel.errors import HanbitError
from hanbit.merchant.order import Order
from hanbit.merchant.states import State as OrderState
from hanbit.payments.payment import Payment
from hanbit.wallet.client import GatewayRefused
from tests.flows.crash_world import MERCHANT, Parties

IN_THE_SHOP: Final = {
    "captured": OrderState.SETTLED,
    "refused": OrderState.VOIDED,
    "voided": OrderState.VOIDED,
    "closed": OrderState.CLOSED,
}
SHARED: Final = {
    "hanbit-order",
    "hanbit-notice",
    "hanbit-confirmation",
    "hanbit-refusal",
    "hanbit-settled",
    "hanbit-voided",
    "hanbit-closed",
    "hanbit-cancel",
    "hanbit-cancel-confirmation",
    "hanbit-cancel-refusal",
}


async def insist(p: Parties) -> str | None:
    """The customer's program lives on: it sends its last sealed bytes again, twice at once. None if there are none or no session."""
    body, cookie = p.memo.last("submit"), p.memo.last("cookie")
    if body is None or cookie is None:
        return None
    p.wallet.client._cookie = cookie
    try:
        outcomes = await asyncio.gather(p.wallet.send(body), p.wallet.send(body))
    except GatewayRefused as refusal:
        if refusal.problem != "not_signed_in":  # the hold's ten minutes were too long for the session
            raise
        return None
    states = {outcome.state for outcome in outcomes}
    final = {state for state in states if is_final(state)}
    assert len(final) <= 1, states
    return next(iter(final or states))


def is_final(state: str) -> bool:
    return state in IN_THE_SHOP


async def agreed(p: Parties, tid: str) -> Payment | None:
    """Shop and gateway hold the same words about this tid, and goods left if and only if money came."""
    payment, order = p.payment(tid), await p.shop.order(tid)
    theirs = {kept.hash: kept.compact for kept in await p.shop.book.messages(tid) if kept.typ in SHARED}
    if payment is None:  # nobody logged in: the gateway never heard of it
        assert order.state is OrderState.PLACED
        assert len(theirs) == 1
        return None
    struck = order.state is OrderState.CANCELLED
    assert struck or order.state is IN_THE_SHOP[payment.state], (payment, order)
    await refunds_agree(p, payment, order)
    assert order.outcome == payment.outcome_hash
    ours = {(typ, compact) for typ, compact in evidence.of_payment(p.gateway.reader, MERCHANT, tid) if typ in SHARED}
    common = {(typ, compact) for typ, compact in ours if compact in theirs.values()}
    if payment.state in {"captured", "refused"}:
        assert common == ours
        turned_away = sum(cancellation.answer is None for cancellation in await p.shop.cancellations(tid))
        assert len(theirs) <= len(ours) + turned_away
    else:  # a notice that never came, or a confirmation that came too late, stands on one side only, and no money moved
        assert {typ for typ, _ in ours - common} <= {"hanbit-notice"}
    assert payment.captured == (payment.amount if payment.state == "captured" else 0)
    delivered = tid in p.memo.all("delivered")
    if struck:
        assert not order.may_deliver
    else:
        assert delivered == order.may_deliver == (payment.state == "captured")
    return payment


async def refunds_agree(p: Parties, payment: Payment, order: Order) -> None:
    """Each cancellation that the shop asked has its answer, the same on both sides, and as much went back as both say."""
    answered = {row["id"]: row for row in p.gateway.reader.all("SELECT * FROM cancellations WHERE tid = ?", payment.tid)}
    for asked in await p.shop.cancellations(payment.tid):
        assert asked.final
        assert asked.look is None, asked
        row = answered.pop(asked.id, None)
        if row is not None:  # else the line turned it away for its early figures, and it was asked anew
            assert (row["result"] in {"refunded", "closed", "nothing_left"}) == (asked.state == "confirmed"), (asked, dict(row))
            assert row["amount"] == asked.amount.amount_minor
    assert not answered
    assert payment.refunded == (order.refunded_minor if payment.captured else 0)


async def pays_again(p: Parties) -> None:
    """Whatever happened, the next customer pays."""
    p.wallet.client._cookie = ""
    tid = await p.order()
    assert await p.submit(await p.open()) == "captured"
    await p.until_at_rest(tid)


async def same_bytes_same_answer(p: Parties, payment: Payment) -> None:
    """Each sealed instruction that was ever sent for it is answered with the payment as it is, and moves nothing."""
    before = p.gateway.reader.all("SELECT number FROM entries")
    for body in p.memo.all("submit"):
        if body["tid"] != payment.tid:
            continue
        try:
            outcome = await p.wallet.send(body)
        except HanbitError:
            if p.clock.now() <= payment.pay_by:  # afterwards the opening has ended: a clear no
                raise
            continue
        assert (outcome.payment, outcome.state) == (payment.id, payment.state)
    assert len(p.gateway.reader.all("SELECT number FROM entries")) == len(before)


async def proven(p: Parties) -> None:
    """Every promise about money and evidence, from the store alone, and nothing is held any more."""
    report = await prove(World(p.data, p.gateway.settings, {}, {}))
    assert report["ledger"]["balanced"], report
    assert report["evidence"]["verified"], report
    held = p.gateway.reader.one("SELECT sum(debits_pending) AS held FROM ledger_accounts")
    assert held is not None
    assert held["held"] == 0
