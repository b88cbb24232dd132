"""A console asks a shop: once a request, by the shop's own signature, within its limits; no shop hurts the console by its answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hanbit.db.change import Change
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound, Unavailable, WrongState
from hanbit.kernel.money import Money
from hanbit.merchant.cancellation import Cancellation
from hanbit.merchant.console_desk import ConsoleTerms
from hanbit.parties import people
from hanbit.parties.people import Person
from hanbit.payments import console_requests
from hanbit.payments import payment as payments
from hanbit.payments.console_requests import AlreadyAsked, ConsoleRequest
from hanbit.payments.payment import Payment
from hanbit.protocols import console, signed
from hanbit.protocols.console import CallBack
from hanbit.protocols.line import RefusedByMerchant
from tests.waiting import PATIENCE_S
from tests.world import PRICE, Link, World, lose_request, open_world

WHY = "the customer has changed his mind"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """All parties; the shop lets its console cancel."""
    async with open_world(tmp_path) as opened:
        opened.shop.shop.console.terms = ConsoleTerms()
        yield opened
        await opened.prove()


async def cashier(world: World, merchant: str = "shop") -> Person:
    """Somebody of a merchant's own people."""
    login = f"cashier-{ids.new_token().lower().strip('_-')}"
    put = people.new_person(
        face="merchant", merchant=merchant, login=login, name="Kim", role="cashier", language="ko", at=world.clock.now()
    )
    await world.gateway.book.commit(Change(puts=(put,)))
    found = people.by_login(world.gateway.reader, login)
    assert found is not None
    return found


async def paid(world: World) -> Payment:
    return await (await world.visit()).pay()


async def refund(world: World, payment: Payment, amount: int | None = None, *, request: str = "") -> ConsoleRequest:
    money = None if amount is None else Money(amount, "KRW")
    return await console_requests.ask_refund(
        world.gateway, await cashier(world), payment, request=request or ids.new_token(), amount=money, reason=WHY
    )


def now(world: World, payment: Payment) -> Payment:
    """As the book has it."""
    found = payments.find(world.gateway.reader, payment.merchant, payment.tid)
    assert found is not None
    return found


async def asked_by_the_shop(world: World, payment: Payment) -> list[Cancellation]:
    return await world.shop.shop.cancellations(payment.tid)


async def test_a_silent_shop_holds_up_nobody_elses_request(world: World) -> None:
    both = [await paid(world), await paid(world)]
    link = world.line.links["shop"]
    link.plan.extend([lose_request, lose_request])
    for payment in both:
        assert (await refund(world, payment)).state == "waiting"
    begun, all_begun = list[str](), asyncio.Event()

    async def silent(link: Link, message: str) -> str | None:
        begun.append(message)
        if len(begun) == len(both):
            all_begun.set()
        async with asyncio.timeout(PATIENCE_S):
            await all_begun.wait()
        return await link.to_shop(message)

    link.plan.extend([silent, silent])
    world.clock.advance(console_requests.AGAIN_S)
    assert await console_requests.send_due(world.gateway) == len(both)
    assert [now(world, payment).refunded for payment in both] == [PRICE, PRICE]


async def test_a_refund_is_the_shops_own_signed_cancellation(world: World) -> None:
    payment = await paid(world)
    asked = await refund(world, payment, 70_000)
    assert (asked.state, asked.result) == ("done", "done")
    assert now(world, payment).refunded == 70_000
    (own,) = await asked_by_the_shop(world, payment)
    assert (own.id, own.reason, own.request_key) == (asked.cancellation, WHY, f"console:{asked.id}")
    row = world.gateway.reader.one("SELECT m.iss FROM cancellations c JOIN messages m ON m.hash = c.request_hash WHERE c.id = ?", own.id)
    assert row is not None
    assert row["iss"] == world.gateway.settings.merchant_urn("shop"), "the gateway never signs for a shop"
    whole = await refund(world, now(world, payment))
    assert (whole.state, now(world, payment).refunded) == ("done", PRICE)
    with pytest.raises(WrongState):
        await refund(world, now(world, payment))


async def test_the_same_request_moves_money_once_however_often_it_is_sent(world: World) -> None:
    payment, request = await paid(world), ids.new_token()
    for _ in range(3):
        await refund(world, payment, 10_000, request=request)
    (message,) = [one for one in world.shop.asked if signed.peek_typ(one) == console.ConsoleAct.TYP]
    answers = {await world.shop.to_shop(message) for _ in range(3)}
    assert len(answers) == 1, "the same bytes, the same answer"
    assert now(world, payment).refunded == 10_000
    assert len(await asked_by_the_shop(world, payment)) == 1


async def test_two_of_the_same_form_at_once_are_one(world: World) -> None:
    payment, request = await paid(world), ids.new_token()
    await asyncio.gather(*(refund(world, payment, 10_000, request=request) for _ in range(4)), return_exceptions=True)
    assert now(world, payment).refunded == 10_000
    assert len(console_requests.of_payment(world.gateway.reader, "shop", payment.tid)) == 1


async def test_two_cashiers_at_two_workers_ask_for_one_refund(world: World) -> None:
    """What one process remembers the other does not know: one wish a payment waits because the book keeps no second."""
    payment, other = await paid(world), await paid(world)
    world.shop.up = False
    workers = [replace(world.gateway, deciding=set()) for _ in range(4)]
    people_of_it = [await cashier(world) for _ in workers]
    money = Money(10_000, "KRW")
    for one in (payment, other):  # a wish for another payment waits beside it
        asked = await asyncio.gather(
            *(
                console_requests.ask_refund(gateway, who, one, request=ids.new_token(), amount=money, reason=WHY)
                for gateway, who in zip(workers, people_of_it, strict=True)
            ),
            return_exceptions=True,
        )
        (first,) = [found for found in asked if isinstance(found, ConsoleRequest)]
        assert [type(found) for found in asked if found is not first] == [AlreadyAsked] * 3
        assert console_requests.still_waits(world.gateway.reader, one) == first
    world.shop.up = True
    await console_requests.send_waiting(world.gateway, "shop")
    assert [now(world, one).refunded for one in (payment, other)] == [10_000, 10_000]
    assert console_requests.still_waits(world.gateway.reader, payment) is None
    assert (await refund(world, now(world, payment), 5_000)).state == "done", "once it was answered, another one may be asked"


async def test_a_wish_that_waits_is_found_behind_any_number_of_earlier_ones(world: World) -> None:
    payment = await paid(world)
    for _ in range(console_requests.LISTED_MAX + 1):
        world.clock.advance(60)
        assert (await refund(world, now(world, payment), 1)).state == "done"
    world.shop.up = False
    world.clock.advance(60)
    waiting = await refund(world, now(world, payment), 1)
    assert console_requests.of_payment(world.gateway.reader, "shop", payment.tid)[-1] == waiting, "the latest are shown"
    assert not console_requests.may_be_asked(world.gateway.reader, now(world, payment))
    with pytest.raises(WrongState):
        await refund(world, now(world, payment), 1)


async def test_while_the_line_is_down_it_waits_and_is_asked_when_it_comes_up(world: World) -> None:
    payment = await paid(world)
    world.shop.up = False
    asked = await refund(world, payment, 10_000)
    assert (asked.state, now(world, payment).refunded) == ("waiting", 0)
    with pytest.raises(WrongState):
        await refund(world, payment, 5_000)
    await world.tick(60)
    assert now(world, payment).refunded == 0
    world.shop.up = True
    await console_requests.send_waiting(world.gateway, "shop")
    assert console_requests.find(world.gateway.reader, "shop", asked.id).state == "done"  # type: ignore[union-attr]  # asked above
    assert now(world, payment).refunded == 10_000


async def silent(_link: Link, _message: str) -> str | None:
    return None


async def deaf_afterwards(link: Link, message: str) -> str | None:
    """The shop does it; its answer is lost."""
    await link.to_shop(message)
    return None


async def test_a_lost_answer_is_fetched_with_the_same_bytes_and_nothing_happens_twice(world: World) -> None:
    payment = await paid(world)
    world.shop.plan.append(deaf_afterwards)
    asked = await refund(world, payment, 10_000)
    assert (asked.state, now(world, payment).refunded) == ("waiting", 10_000)
    await world.gateway.book.commit(Change())
    await world.tick(30)
    assert console_requests.find(world.gateway.reader, "shop", asked.id).state == "done"  # type: ignore[union-attr]  # asked above
    assert now(world, payment).refunded == 10_000
    sent = {one for one in world.shop.asked if signed.peek_typ(one) == console.ConsoleAct.TYP}
    assert len(sent) == 1, "a retry sends the same bytes"


async def test_an_answer_that_comes_late_by_itself_counts(world: World) -> None:
    payment = await paid(world)
    world.shop.plan.append(silent)
    asked = await refund(world, payment, 10_000)
    (message,) = [one for one in world.shop.asked if signed.peek_typ(one) == console.ConsoleAct.TYP]
    answer = await world.shop.to_shop(message)
    assert answer is not None
    assert await world.shop.to_gateway(answer) is None
    assert console_requests.find(world.gateway.reader, "shop", asked.id).state == "done"  # type: ignore[union-attr]  # asked above


async def test_what_reaches_the_shop_too_late_is_not_begun(world: World) -> None:
    payment = await paid(world)
    world.shop.up = False
    asked = await refund(world, payment, 10_000)
    world.clock.advance(console.ACT_LIFETIME_S + 1)
    world.shop.up = True
    found = await console_requests.send(world.gateway, "shop", asked.id)
    assert (found.state, found.result, now(world, payment).refunded) == ("refused", "exp", 0)
    assert await asked_by_the_shop(world, payment) == []


@pytest.mark.parametrize(
    ("terms", "amounts", "results"),
    [
        (None, [10_000], ["not_offered"]),
        (ConsoleTerms(each_max=10_000), [10_001, 10_000], ["over_limit", "done"]),
        (ConsoleTerms(day_max=25_000), [20_000, 5_001, 5_000], ["done", "over_day_limit", "done"]),
        (ConsoleTerms(each_max=10_000), [None], ["over_limit"]),
    ],
)
async def test_the_shop_sets_the_limits(world: World, terms: ConsoleTerms | None, amounts: list[int | None], results: list[str]) -> None:
    world.shop.shop.console.terms = terms
    payment = await paid(world)
    said = [(await refund(world, now(world, payment), amount)).result for amount in amounts]
    assert said == results
    done = [amount or 0 for amount, result in zip(amounts, said, strict=True) if result == "done"]
    assert now(world, payment).refunded == sum(done)


async def test_the_days_limit_is_free_again_after_a_day(world: World) -> None:
    world.shop.shop.console.terms = ConsoleTerms(day_max=10_000)
    payment = await paid(world)
    assert (await refund(world, payment, 10_000)).result == "done"
    assert (await refund(world, now(world, payment), 1)).result == "over_day_limit"
    world.clock.advance(86_401)
    assert (await refund(world, now(world, payment), 10_000)).result == "done"


async def test_an_open_order_is_cancelled_whole(world: World) -> None:
    visit = await world.visit()
    await visit.login()
    payment = visit.stored
    with pytest.raises(WrongState):
        await refund(world, payment, 10)
    assert (await refund(world, payment)).state == "done"
    assert visit.stored.state == "closed"


async def test_more_than_is_left_is_not_even_asked(world: World) -> None:
    payment = await paid(world)
    before = world.dump()
    with pytest.raises(WrongState):
        await refund(world, payment, PRICE + 1)
    assert {**world.dump(), "people": None} == {**before, "people": None}


async def test_an_older_program_is_told_apart_and_left_alone(world: World) -> None:
    async def old(link: Link, message: str) -> str | None:
        head = signed.head(link.signer, link.gateway.urn, link.gateway.clock.now())
        return signed.sign(RefusedByMerchant(**head, req=ids.digest(message.encode("ascii")), code="typ"), link.signer).compact

    payment = await paid(world)
    world.shop.plan.append(old)
    asked = await refund(world, payment, 10_000)
    assert (asked.state, asked.result) == ("refused", "not_offered")
    world.shop.plan.append(old)
    assert await console_requests.look(world.gateway, "shop", "orders") is None
    sent = len(world.shop.asked)
    assert await console_requests.look(world.gateway, "shop", "callbacks") is None
    assert len(world.shop.asked) == sent, "it counts what it refuses, and would hang up on a flood"


@pytest.mark.parametrize("what", ["other request", "other merchant", "garbage", "no signature", "another kind", "wrong req", "other key"])
async def test_a_hostile_answer_changes_nothing_and_is_asked_again(world: World, what: str) -> None:
    async def hostile(link: Link, message: str) -> str | None:
        at, act = world.clock.now(), signed.recall(message, console.ConsoleAct)
        signer = world.line.links["other"].signer if what in {"other merchant", "other key"} else link.signer
        claims = replace_claims(signed.head(signer, world.gateway.urn, at), act, what)
        if what == "garbage":
            return "x" * 5_000
        answer = signed.sign(console.ConsoleDone(**claims), signer).compact
        if what == "no signature":
            return answer[:-6] + "AAAAAA"
        return message if what == "another kind" else answer

    payment = await paid(world)
    world.shop.plan.append(hostile)
    asked = await refund(world, payment, 10_000)
    assert (asked.state, now(world, payment).refunded) == ("waiting", 0)
    await world.tick(30)
    assert console_requests.find(world.gateway.reader, "shop", asked.id).state == "done"  # type: ignore[union-attr]  # asked above
    assert now(world, payment).refunded == 10_000


def replace_claims(claims: dict[str, Any], act: signed.SignedMessage[console.ConsoleAct], what: str) -> dict[str, Any]:
    request = ids.new_token() if what == "other request" else act.claims.request
    req = ids.digest(b"x") if what == "wrong req" else act.hash
    return claims | {"req": req, "request": request, "result": "done"}


async def test_another_merchant_cannot_answer_for_the_shop(world: World) -> None:
    payment = await paid(world)
    world.shop.plan.append(silent)
    asked = await refund(world, payment, 10_000)
    other = world.line.links["other"]
    act = signed.recall(world.shop.asked[-1], console.ConsoleAct)
    claims = signed.head(other.signer, world.gateway.urn, world.clock.now()) | {"req": act.hash, "request": asked.id, "result": "done"}
    reply = await other.to_gateway(signed.sign(console.ConsoleDone(**claims), other.signer).compact)
    assert reply is not None
    assert signed.peek_claims(reply)["code"] == "req"
    assert console_requests.find(world.gateway.reader, "shop", asked.id).state == "waiting"  # type: ignore[union-attr]  # asked above
    assert console_requests.find(world.gateway.reader, "other", asked.id) is None


async def test_what_needs_a_look_comes_from_the_shops_own_book_and_is_cleared_there(world: World) -> None:
    payment = await paid(world)
    book = world.shop.shop.book
    await refund(world, payment, 10_000)
    (own,) = await asked_by_the_shop(world, payment)
    connection = book._connection  # as a gateway whose figures differ would have left it
    connection.execute("DROP TRIGGER cancellations_end_once")
    connection.execute("UPDATE cancellations SET look = ? WHERE id = ?", ("the gateway says: <b>\u202e1</b>", own.id))
    rows = await console_requests.look(world.gateway, "shop", "orders")
    assert rows is not None
    (one,) = rows.looks
    assert (one.kind, one.tid, "\u202e" in one.why) == ("cancellation", payment.tid, False)
    who = await cashier(world)
    asked = await console_requests.ask(world.gateway, who, "looked", request=ids.new_token(), reason=WHY, tid=payment.tid)
    assert asked.state == "done"
    again = await console_requests.look(world.gateway, "shop", "orders")
    assert again is not None
    assert again.looks == ()
    unflagged = await paid(world)
    nothing = await console_requests.ask(world.gateway, who, "looked", request=ids.new_token(), reason=WHY, tid=unflagged.tid)
    assert (nothing.state, nothing.result) == ("refused", "not_found")


class _CallBacks:
    def __init__(self) -> None:
        self.sent: list[str] = []

    async def latest(self, limit: int) -> list[CallBack]:
        one = CallBack(delivery="evt_1", endpoint="shop", type="order.settled", state="given_up", created_at=1, tries=3, last_status=500)
        return [one] * limit

    async def resend(self, delivery: str) -> None:
        if delivery != "evt_1":
            raise NotFound("no such delivery")
        self.sent.append(delivery)

    async def test(self, subject: str) -> None:
        self.sent.append(subject)


async def test_call_backs_are_shown_a_page_at_a_time_and_sent_again(world: World) -> None:
    assert await console_requests.look(world.gateway, "shop", "callbacks") is None, "a shop without them says so"
    calls = _CallBacks()
    world.shop.shop.console.callbacks = calls
    rows = await console_requests.look(world.gateway, "shop", "callbacks")
    assert rows is not None
    assert (len(rows.callbacks), rows.more) == (console.ROWS_MAX, True)
    who = await cashier(world)
    for act, delivery, state in (("resend", "evt_1", "done"), ("resend", "evt_2", "refused"), ("test", None, "done")):
        asked = await console_requests.ask(world.gateway, who, act, request=ids.new_token(), reason=WHY, delivery=delivery)  # type: ignore[arg-type]  # one of the acts
        assert asked.state == state, (act, delivery)
    assert len(calls.sent) == 2


async def test_a_look_never_breaks_by_what_a_shop_answers(world: World) -> None:
    async def garbage(_link: Link, _message: str) -> str | None:
        return "a.b.c"

    async def an_old_question(link: Link, message: str) -> str | None:
        question = signed.recall(message, console.ConsoleQuestion)
        made = console.make_rows(link.signer, question, at=world.clock.now())
        forged = signed.sign(console.ConsoleRows(**signed.head(link.signer, world.gateway.urn, 1) | {"req": ids.digest(b"x")}), link.signer)
        return forged.compact or made.compact

    for plan in (garbage, an_old_question, silent):
        world.shop.plan.append(plan)
        with pytest.raises(Unavailable):
            await console_requests.look(world.gateway, "shop", "orders")
    world.shop.up = False
    with pytest.raises(Unavailable):
        await console_requests.look(world.gateway, "shop", "orders")


async def test_an_old_question_is_not_answered(world: World) -> None:
    question = console.make_question(world.gateway.signer, world.gateway.settings.merchant_urn("shop"), "orders", at=world.clock.now())
    world.clock.advance(console.QUESTION_LIFETIME_S + 1)
    answer = await world.shop.to_shop(question.compact)
    assert answer is not None
    assert signed.peek_typ(answer) == RefusedByMerchant.TYP


async def test_an_act_of_somebody_else_than_the_gateway_is_not_taken(world: World) -> None:
    payment = await paid(world)
    forged = replace(world.line.links["other"].signer)
    claims = signed.head(forged, world.gateway.settings.merchant_urn("shop"), world.clock.now())
    with pytest.raises(AssertionError):
        signed.sign(
            console.ConsoleAct(**claims, request=ids.new_token(), act="cancel", person="person:" + "A" * 22, reason="x", exp=9), forged
        )
    assert now(world, payment).refunded == 0
