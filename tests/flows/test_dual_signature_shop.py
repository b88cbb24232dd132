"""Document B with the real shop at the other end of the line: what its customer's window brings it, and what it holds in the end."""

import asyncio
from dataclasses import dataclass

import pytest

from hanbit.evidence import store as evidence
from hanbit.evidence.bundle import write
from hanbit.evidence.verify import verify
from hanbit.kernel.errors import WrongState
from hanbit.kernel.money import Money
from hanbit.merchant import own_evidence
from hanbit.merchant.cancellation import CancellationState
from hanbit.merchant.handlers import No
from hanbit.merchant.purchase import PurchaseResult
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State as OrderState
from hanbit.payments.states import State
from hanbit.protocols.dual_signature import customer as role
from hanbit.protocols.dual_signature.customer import OpenSession
from hanbit.protocols.dual_signature.messages import Purchase
from hanbit.protocols.redirect import customer as redirect
from hanbit.protocols.redirect.messages import Words
from tests.purchases import session_authority
from tests.world import OPERATOR, PRICE, Visit, World, lose_request


@dataclass
class Window:
    """One customer's window beside the shop's page."""

    visit: Visit
    session: OpenSession
    lines: str

    @property
    def shop(self) -> Shop:
        return self.visit.world.line.links[self.visit.redirect.merchant_id].shop

    async def purchase(self, *, account: str = "bank", password: str | None = None) -> Purchase:
        """D4, D5."""
        own = self.visit.person.accounts[account]
        oi = role.make_order_information(self.session, self.lines)
        core = role.make_core(self.session, account=own.id, grant=await self.visit.grant(), oi=oi)
        auth = redirect.auth_password(password or own.password)
        return role.make_purchase(self.session, oi=oi, core=core, auth=auth, at=self.visit.world.clock.now())

    async def send(self, purchase: Purchase) -> PurchaseResult:
        """D5 to D8."""
        return await self.shop.purchase(self.visit.redirect.tid, purchase)


async def window(world: World, visit: Visit | None = None) -> Window:
    """D1 to D3 with the shop's own program."""
    await session_authority(world)
    visit = visit or await world.visit()
    shop, at = world.line.links[visit.redirect.merchant_id].shop, world.clock.now()
    checkout = await shop.checkout(visit.redirect.tid)
    lines = role.verify_lines(visit.opening, checkout.lines, checkout.lines_salt)
    asking = role.make_session_request(visit.opening, at=at)
    answer = await shop.open_session(visit.redirect.tid, asking.request.compact)
    return Window(visit, role.verify_session(answer, asking, pin=world.pin, at=at), lines)


async def test_shop_customer_and_gateway_end_with_the_same_proof(world: World) -> None:
    bought = await window(world)
    result = await bought.send(await bought.purchase())
    assert result.result == "approved"
    assert role.verify_receipt(result.receipt or "", bought.session, pin=world.pin, at=world.clock.now()).claims.amount == str(PRICE)
    order = await world.shop_order(bought.visit)
    assert (order.may_deliver, order.payment) == (True, bought.visit.stored.id)
    assert (bought.visit.stored.state, world.earned()) == (State.CAPTURED, PRICE)
    await world.tick(3)
    (row,) = [row for row in world.rows("outbox") if row["hash"] == bought.visit.stored.outcome_hash]
    assert row["acknowledged_at"] is not None, "it need not be told again"


async def test_a_declined_purchase_leaves_the_order_open_at_both_ends(world: World) -> None:
    first = await window(world)
    result = await first.send(await first.purchase(password="0000"))
    assert (result.result, result.reason, result.receipt) == ("declined", "declined", None)
    assert not (await world.shop_order(first.visit)).may_deliver
    second = await window(world, first.visit)
    assert (await second.send(await second.purchase())).result == "approved"
    assert (await world.shop_order(first.visit)).may_deliver


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_whatever_the_line_loses_the_purchase_ends_once_and_alike(world: World, lost: str) -> None:
    bought = await window(world)
    purchase = await bought.purchase()
    world.shop.lost.append(lost)
    assert (await bought.send(purchase)).result == "pending"
    assert bought.visit.stored.state == (State.OPEN if lost == "request" else State.CAPTURED)
    if lost == "answer":
        await world.tick(3)  # told from the outbox
    else:
        assert (await bought.send(purchase)).result == "approved", "the window asks again, the same bytes go out"
    result = await bought.send(purchase)
    assert result.result == "approved"
    assert (await world.shop_order(bought.visit)).may_deliver
    assert (world.earned(), bought.visit.stored.attempts) == (PRICE, 1)


async def test_two_windows_of_one_order_at_once_pay_it_once(world: World) -> None:
    mine = await window(world)
    theirs = await window(world, world.open_redirect(mine.visit.redirect, world.kim))
    purchases = [await mine.purchase(), await theirs.purchase()]
    results = await asyncio.gather(mine.send(purchases[0]), theirs.send(purchases[1]), return_exceptions=True)
    approved = [result for result in results if isinstance(result, PurchaseResult) and result.result == "approved"]
    assert len(approved) == 1
    assert (mine.visit.stored.state, world.earned()) == (State.CAPTURED, PRICE)


async def test_window_and_redirect_at_once_pay_the_order_once(world: World) -> None:
    bought = await window(world)
    purchase = await bought.purchase()
    result, _ = await asyncio.gather(bought.send(purchase), bought.visit.pay("card"))
    assert bought.visit.stored.state == State.CAPTURED
    assert (bought.visit.stored.sid is not None) == (result.result == "approved")
    await world.tick(3)
    assert (await world.shop_order(bought.visit)).may_deliver
    assert world.earned() == PRICE


async def test_what_was_bought_goes_back_by_the_shops_own_cancellation(world: World) -> None:
    bought = await window(world)
    await bought.send(await bought.purchase())
    before = world.available(world.hong.accounts["bank"].id)
    await bought.shop.cancel(bought.visit.redirect.tid, reason="returned")
    assert bought.visit.stored.refunded == PRICE
    assert world.available(world.hong.accounts["bank"].id) == before + PRICE


async def test_a_shop_that_comes_back_after_the_purchase_asks_what_became_of_it(world: World) -> None:
    bought = await window(world)
    purchase = await bought.purchase()
    world.shop.lost.append("answer")
    assert (await bought.send(purchase)).result == "pending"
    await world.restart()
    assert (await bought.send(purchase)).result == "approved", "the gateway's stored answer to the same bytes"
    assert (world.earned(), bought.visit.stored.attempts) == (PRICE, 1)


# --- what the shop's book decides -------------------------------------------------------------------------------------------------------


async def test_both_ends_hold_the_same_order_request_and_authorization(world: World) -> None:
    bought = await window(world)
    await bought.send(await bought.purchase())
    tid = bought.visit.redirect.tid
    theirs = dict(evidence.of_payment(world.gateway.reader, "shop", tid))
    ours = {kept.typ: kept.compact for kept in await bought.shop.book.messages(tid)}
    for typ in ("hanbit-order", "hanbit-authorization-request", "hanbit-authorization"):
        assert ours[typ] == theirs[typ]


async def test_while_the_line_is_down_it_is_pending_and_decided_by_itself_when_it_is_up(world: World) -> None:
    bought = await window(world)
    purchase = await bought.purchase()
    world.shop.up = False
    assert (await bought.send(purchase)).result == "pending"
    assert not (await world.shop_order(bought.visit)).may_deliver
    world.shop.up = True
    bought.shop._on_connected()
    assert (await bought.shop.wait_outcome(bought.visit.redirect.tid, 30)).may_deliver
    assert (await bought.send(purchase)).result == "approved"


async def test_an_approval_whose_answer_was_lost_comes_by_inquiry(world: World) -> None:
    bought = await window(world)
    world.shop.lost.append("answer")
    world.shop.tell_plan.append(lose_request)
    assert (await bought.send(await bought.purchase())).result == "pending"
    assert (await bought.shop.inquire(bought.visit.redirect.tid)).outcome is not None
    assert (await world.shop_order(bought.visit)).may_deliver


async def test_a_replayed_purchase_is_answered_by_the_shop_alone(world: World) -> None:
    bought = await window(world)
    purchase = await bought.purchase()
    first = await bought.send(purchase)
    before = world.dump()
    assert await bought.send(purchase) == first
    assert world.dump() == before


async def test_a_shop_that_does_not_want_the_order_asks_nobody(world: World) -> None:
    bought = await window(world)
    world.confirm["shop"] = No("품절", "sold out")
    purchase = await bought.purchase()
    before = world.dump()
    result = await bought.send(purchase)
    assert (result.result, result.reason, result.message) == ("declined", "shop_refused", Words(ko="품절", en="sold out"))
    assert world.dump() == before


async def test_a_purchase_that_comes_after_a_redirect_has_paid_is_asked_of_nobody(world: World) -> None:
    bought = await window(world)
    purchase = await bought.purchase()
    await bought.visit.pay()
    before = world.dump()
    with pytest.raises(WrongState):
        await bought.send(purchase)
    assert world.dump() == before


async def test_a_part_goes_back_and_then_the_rest(world: World) -> None:
    bought = await window(world)
    await bought.send(await bought.purchase())
    tid = bought.visit.redirect.tid
    for amount in (Money(20_000, "KRW"), None):
        assert (await bought.shop.cancel(tid, amount=amount, reason="a scratch")).state is CancellationState.CONFIRMED
    order = await bought.shop.order(tid)
    assert (order.state, order.may_deliver, order.remaining.amount_minor) == (OrderState.CANCELLED, False, 0)
    assert bought.visit.stored.refunded == PRICE


async def test_the_shops_own_file_shows_its_half_after_a_declined_attempt_too(world: World) -> None:
    first = await window(world)
    assert (await first.send(await first.purchase(password="0000"))).result == "declined"
    second = await window(world, first.visit)
    assert (await second.send(await second.purchase())).result == "approved"
    collected = await own_evidence.collect(await world.shop_order(first.visit), second.shop.book, second.shop.witness)
    ours = own_evidence.bundle(collected, operator=OPERATOR, merchant="shop", keys=(), chains=[world.shop.signer.chain])
    report = verify(write(ours), root=world.parties.root)
    assert report.verified, [step for step in report.steps if not step.passed]
    assert {"halves_joined", "half_of_merchant"} <= {one.code for one in report.conclusions}
