"""R8 to R11 over a line that loses, delays, duplicates, reorders and breaks: one outcome, the same bytes, no money adrift."""

import asyncio

import pytest

from hanbit.merchant.handlers import No
from hanbit.payments import operations, recovery
from hanbit.protocols.redirect.messages import Confirmation, Settled, Status, Voided
from hanbit.protocols.signed import peek_claims, peek_typ
from tests.world import (
    PRICE,
    Fault,
    Visit,
    World,
    cut,
    delay_answer,
    delay_request,
    duplicate_answer,
    duplicate_request,
    lose_answer,
    lose_request,
)


async def assert_captured_once(visit: Visit) -> None:
    world = visit.world
    assert (visit.stored.state, world.earned()) == ("captured", PRICE)
    assert [row["kind"] for row in world.rows("entries") if row["payment"]] == ["hold", "capture"]
    assert (await world.shop_order(visit)).may_deliver
    assert len(set(world.shop.asked)) == 1, "R8 is the same bytes every time"
    assert len({answer for answer in world.shop.answers if peek_typ(answer) == Confirmation.TYP}) == 1


@pytest.mark.parametrize("fault", [duplicate_request, duplicate_answer], ids=lambda fault: fault.__name__)
async def test_what_arrives_twice_happens_once(world: World, fault: Fault) -> None:
    visit = await world.visit()
    world.shop.plan.append(fault)
    await visit.pay()
    await assert_captured_once(visit)


@pytest.mark.parametrize("fault", [lose_request, lose_answer, cut], ids=lambda fault: fault.__name__)
async def test_what_is_lost_is_asked_again_with_the_same_bytes(world: World, fault: Fault) -> None:
    visit = await world.visit()
    world.shop.plan.append(fault)
    assert (await visit.pay()).state == "authorized"
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000 - PRICE, "the hold stays"
    assert world.earned() == 0
    world.shop.up = True
    assert await world.tick(1) == 0, "not before two seconds"
    assert await world.tick(1) == 1
    await assert_captured_once(visit)


async def test_r8_is_sent_again_after_2_4_8_16_and_then_every_30_seconds(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.extend([lose_request] * 100)
    await visit.pay()
    asked, begun = [], world.clock.now()
    while visit.stored.state == "authorized":
        before = len(world.shop.asked)
        await world.tick(1)
        if len(world.shop.asked) > before:
            asked.append(world.clock.now() - begun)
    assert asked[:7] == [2, 4, 8, 16, 32, 62, 92]
    assert len(set(world.shop.asked)) == 1
    assert (visit.stored.state, visit.stored.reason) == ("voided", "no_answer")
    assert world.clock.now() - begun == 601


async def test_a_slow_shop_is_captured_when_its_answer_comes(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(delay_answer)
    assert (await visit.pay()).state == "authorized"
    await world.shop.deliver_late()
    await assert_captured_once(visit)


async def test_a_request_that_arrives_late_is_answered_and_captured(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(delay_request)
    assert (await visit.pay()).state == "authorized"
    await world.shop.deliver_late()
    await assert_captured_once(visit)


async def test_answers_may_come_in_any_order(world: World) -> None:
    first, second = await world.visit(), await world.visit()
    world.shop.plan.extend([delay_answer, delay_answer])
    await first.pay()
    await second.pay()
    world.shop.late.reverse()
    await world.shop.deliver_late()
    assert (first.stored.state, second.stored.state) == ("captured", "captured")


async def test_a_late_refusal_releases_the_hold(world: World) -> None:
    visit = await world.visit()
    world.confirm["shop"] = No("품절", "sold out")
    world.shop.plan.append(delay_answer)
    await visit.pay()
    await world.shop.deliver_late()
    assert (visit.stored.state, visit.stored.reason) == ("refused", "shop_refused")
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000


async def test_an_answer_and_recovery_at_once_decide_once(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(delay_answer)
    await visit.pay()
    (answer,) = world.shop.late
    await world.tick(2)
    await world.shop.to_gateway(answer)
    await assert_captured_once(visit)
    assert world.shop.told[0] == world.shop.told[-1], "told again: the stored bytes"


@pytest.mark.parametrize("late", [601, 3600, 86_400])
async def test_a_confirmation_after_the_hold_gets_the_stored_voided(world: World, late: int) -> None:
    visit = await world.visit()
    world.shop.plan.append(delay_answer)
    await visit.pay()
    if late > 601:
        await world.tick(601)
        assert visit.stored.state == "voided"
    world.clock.advance(late)
    await world.shop.deliver_late()
    assert (visit.stored.state, world.earned()) == ("voided", 0)
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000
    assert {peek_typ(told) for told in world.shop.told} == {Voided.TYP}
    assert len(set(world.shop.told)) == 1
    assert (await world.shop_order(visit)).state == "voided"


async def test_a_confirmation_in_the_last_second_of_the_hold_is_captured(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(delay_answer)
    await visit.pay()
    world.clock.advance(600)
    await world.shop.deliver_late()
    assert visit.stored.state == "captured"


async def test_what_waits_for_a_merchant_is_asked_and_told_when_its_line_comes_up(world: World) -> None:
    told, asked = await world.visit(), await world.visit()
    world.shop.tell_plan.append(cut)
    await told.pay()
    assert (told.stored.state, (await world.shop_order(told)).state) == ("captured", "confirmed")
    world.shop.up = True
    world.shop.plan.append(cut)
    await asked.pay()
    for seconds in (2, 4, 8, 16, 30):
        await world.tick(seconds)
    world.shop.up = True
    await recovery.merchant_connected(world.gateway, "shop")
    assert (await world.shop_order(told)).may_deliver
    assert (await world.shop_order(asked)).may_deliver


async def test_the_outbox_tells_the_same_bytes_until_they_are_acknowledged(world: World) -> None:
    visit = await world.visit()
    world.shop.tell_plan.extend([lose_request, lose_request, lose_answer])
    await visit.pay()
    waits = []
    for second in range(1, 60):
        before = len(world.shop.told)
        await world.tick(1)
        waits.extend([second] * (len(world.shop.told) - before))
    assert waits == [2, 4, 8], "then its acknowledgement came through"
    assert len(world.shop.told) == 4
    assert len(set(world.shop.told)) == 1
    assert peek_typ(world.shop.told[0]) == Settled.TYP
    (row,) = world.rows("outbox")
    assert (row["next_at"], row["acknowledged_at"]) == (None, world.clock.now() - 59 + 8)
    assert await world.tick(86_400) == 0


async def test_one_outcome_acknowledged_meanwhile_holds_up_no_other(world: World) -> None:
    visits = [await world.visit(amount=1000) for _ in range(3)]
    world.shop.tell_plan.extend([lose_answer] * 3)
    for visit in visits:
        await visit.pay()
    late = [answer for answer in world.shop.answers if peek_typ(answer) == "hanbit-acknowledgement"]
    world.shop.tell_plan.append(_acknowledge(late[1]))
    await world.tick(2)
    await world.tick(4)
    assert all(row["acknowledged_at"] is not None for row in world.rows("outbox"))


def _acknowledge(frame: str) -> Fault:
    async def fault(link: object, message: str) -> str | None:
        return frame

    return fault


async def test_an_acknowledgement_twice_at_once_changes_nothing_more(world: World) -> None:
    visit = await world.visit()
    world.shop.tell_plan.append(delay_answer)
    await visit.pay()
    (acknowledgement,) = world.shop.late
    for _ in range(2):
        assert await world.shop.to_gateway(acknowledgement) is None
    assert not world.shop.replies


async def test_a_restart_finds_everything_in_the_book(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(lose_answer)
    await visit.pay()
    await world.restart()
    await world.tick(2)
    await assert_captured_once(visit)


async def test_an_inquiry_is_answered_with_the_stored_outcome(world: World) -> None:
    visit = await world.visit()
    world.shop.tell_plan.append(lose_request)
    await visit.pay()
    assert (await world.shop_order(visit)).state == "confirmed"
    status = await world.shop.shop.inquire(visit.redirect.tid)
    assert (status.state, status.outcome) == ("settled", world.shop.told[0])
    assert (await world.shop_order(visit)).may_deliver


@pytest.mark.parametrize("state", ["unknown", "open", "in_progress", "settled", "voided", "closed"])
async def test_an_inquiry_tells_every_state_in_the_merchants_words(world: World, state: str) -> None:
    visit = await world.visit()
    if state in ("in_progress", "voided"):
        world.shop.plan.append(lose_request)
    if state == "open":
        await visit.pay("emoney")
    elif state == "closed":
        await visit.cancel()
    elif state != "unknown":
        await visit.pay()
    if state == "voided":
        await world.tick(601)
    assert (await world.shop.shop.inquire(visit.redirect.tid)).state == state


async def test_the_same_inquiry_has_the_same_answer_for_ever(world: World) -> None:
    visit = await world.visit()
    role = world.shop.shop._role
    inquiry = role.make_inquiry(visit.redirect.tid, at=world.clock.now()).compact
    first = await world.shop.to_gateway(inquiry)
    await visit.pay()
    world.clock.advance(86_400)
    assert first is not None
    assert await world.shop.to_gateway(inquiry) == first
    assert peek_claims(first)["state"] == "unknown"


async def test_the_same_inquiry_twice_at_once_has_one_answer(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    inquiry = world.shop.shop._role.make_inquiry(visit.redirect.tid, at=world.clock.now()).compact
    answers = await asyncio.gather(*(world.shop.to_gateway(inquiry) for _ in range(5)))
    assert len(set(answers)) == 1
    assert answers[0] is not None
    assert peek_typ(answers[0]) == Status.TYP


async def test_a_stale_inquiry_is_refused(world: World) -> None:
    visit = await world.visit()
    inquiry = world.shop.shop._role.make_inquiry(visit.redirect.tid, at=world.clock.now()).compact
    world.clock.advance(121)
    reply = await world.shop.to_gateway(inquiry)
    assert reply is not None
    assert peek_claims(reply)["code"] == "expired"


async def test_revoking_a_merchants_certificate_hangs_up_at_once(world: World) -> None:
    (row,) = [
        row for row in world.rows("certificates") if row["urn"] == world.gateway.settings.merchant_urn("shop") and row["purpose"] == "line"
    ]
    assert world.gateway.line.connected("shop")
    await operations.revoke(world.gateway, kid=str(row["kid"]), reason="key lost")
    assert not world.gateway.line.connected("shop")


async def test_a_suspended_merchant_still_hears_what_became_of_its_payments(world: World) -> None:
    visit = await world.visit()
    world.shop.plan.append(lose_answer)
    await visit.pay()
    await operations.set_state(world.gateway, what="merchant", id="shop", state="suspended", reason="test")
    world.clock.advance(3)
    await recovery.tick(world.gateway)
    await assert_captured_once(visit)
