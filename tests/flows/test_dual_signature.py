"""Document B in the world: every promise of a purchase that the customer makes on the shop's page, from the grant to the refund."""

import asyncio
from typing import Any

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import WrongState
from hanbit.line_requests import routes as line_requests
from hanbit.payments import factors, views
from hanbit.payments.states import ATTEMPTS_MAX, State
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation
from hanbit.protocols.dual_signature import customer as role
from hanbit.protocols.dual_signature.digests import pi_digest, split_frame
from hanbit.protocols.redirect import customer as redirect
from hanbit.protocols.redirect.messages import Closed, Inquiry, Status
from hanbit.protocols.signed import head, peek_claims, peek_typ, sign
from tests.flows.passkeys import auth_passkey, enrol_passkey
from tests.purchases import Buying, buying, open_session
from tests.world import PRICE, World

METHODS = ("device", "password", "code")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("account", ["bank", "card"])
async def test_a_purchase_moves_the_money_once_and_everybody_has_its_proof(world: World, method: str, account: str) -> None:
    session = await buying(world)
    before = world.available(world.hong.accounts[account].id)
    answered = await session.buy(account=account, method=method)
    payment = session.visit.stored
    assert answered.told == "approved"
    assert (payment.state, payment.captured, payment.method, payment.sid) == (State.CAPTURED, PRICE, method, session.sid)
    assert (world.available(world.hong.accounts[account].id), world.earned()) == (before - PRICE, PRICE)
    consent = ["consent"] if method == "device" else []
    assert session.visit.kinds() == ["order", "keys", *consent, "authorization-request", "authorization", "receipt"]
    receipt = role.verify_receipt(answered.receipt, session.session, pin=world.pin, at=world.clock.now())
    assert (receipt.claims.payment, receipt.claims.amount) == (payment.id, str(PRICE))
    assert views.receipt(world.gateway, payment) == answered.receipt
    view, _ = views.payment_view(world.gateway, payment.id, world.hong.id)
    assert view is not None
    assert (view.account_kind, view.signed) == (account, method == "device")


async def test_a_passkey_signs_this_purchase_and_no_other(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    session = await buying(world)
    oi = session.oi()
    core = session.core(await session.visit.grant(), oi=oi)
    answered = await session.send(await session.frame(session.sealed(oi, core, auth_passkey(core, passkey))))
    assert (answered.told, session.visit.stored.method) == ("approved", "passkey")
    (attempt,) = world.rows("attempts")
    assert attempt["auth_value"], "the signature is kept"
    other = await buying(world)
    oi = other.oi()
    mine = other.core(await other.visit.grant(), oi=oi)
    assert (await other.send(await other.frame(other.sealed(oi, mine, auth_passkey(core, passkey))))).told == "declined"
    assert (other.visit.stored.reason, world.earned()) == ("wrong_factor", PRICE)


@pytest.mark.parametrize(("number", "password", "told"), [("11012345678890", "2580", "approved"), ("11098765432100", "8520", "declined")])
async def test_a_typed_number_is_tried_where_it_is_ones_own_and_stands_nowhere(world: World, number: str, password: str, told: str) -> None:
    session = await buying(world)
    name, salt = redirect.typed_number(number)
    oi = session.oi()
    core = session.core(await session.visit.grant(), oi=oi, account=name)
    purchase = role.make_purchase(
        session.session, oi=oi, core=core, auth=redirect.auth_password(password), at=world.clock.now(), number=number, number_salt=salt
    )
    assert (await session.send(await session.frame(purchase))).told == told
    assert session.result().reason == (None if told == "approved" else "wrong_factor")
    assert not any(number in str(world.rows(table)) for table in ("messages", "attempts", "exchanges", "audit", "payments"))


async def test_what_was_approved_is_kept_and_is_the_half_that_the_customer_signed(world: World) -> None:
    session = await buying(world)
    await session.buy(method="password")
    (attempt,), (exchange,), (grant,) = world.rows("attempts"), world.rows("exchanges"), world.rows("grants")
    assert exchange["pimd"] == pi_digest(ids.digest(attempt["core"].encode()), attempt["auth_hash"])
    assert (attempt["result"], attempt["session"], attempt["auth_value"]) == ("held", grant["session"], None)
    assert exchange["thumbprint"] == session.facts.session.thumbprint
    assert grant["used_at"] == world.clock.now()
    assert session.lines not in str([world.rows(table) for table in ("messages", "attempts", "exchanges", "payments")])


async def test_the_same_bytes_get_the_same_answer_for_ever(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    first = await session.send(frame)
    before = world.dump()
    assert (await session.send(frame)).frame == first.frame
    assert (await session.send(frame.partition("\n")[0])).frame == first.frame, "the envelope is dropped by then"
    world.clock.advance(10 * 86_400)
    await world.restart()
    assert await line_requests.answer(world.gateway, "shop", frame) == first.frame
    assert world.dump() == before


async def test_a_declined_purchase_is_an_attempt_like_any_other_and_another_may_follow(world: World) -> None:
    session = await buying(world)
    declined = await session.buy(account="emoney")
    assert (declined.told, declined.receipt) == ("declined", "")
    assert (session.visit.stored.state, session.visit.stored.reason, session.visit.stored.attempts) == (State.OPEN, "no_funds", 1)
    assert session.result().reason == "no_funds"
    assert [row["used_at"] for row in world.rows("grants")] == [world.clock.now()]
    again = await open_session(session.visit)
    assert (await again.buy()).told == "approved"
    assert (session.visit.stored.state, session.visit.stored.attempts) == (State.CAPTURED, 2)
    assert again.result().receipt is not None
    assert session.result().state == "declined", "each session has its own end"


@pytest.mark.parametrize(
    ("account", "method", "password", "reason", "customer_is_told"),
    [
        ("bank", "password", "0000", "wrong_factor", "wrong_factor"),
        ("A" * 22, "device", "", "wrong_factor", "wrong_factor"),
        ("emoney", "device", "", "no_funds", "no_funds"),
    ],
)
async def test_the_shop_hears_declined_and_the_customer_why(
    world: World, account: str, method: str, password: str, reason: str, customer_is_told: str
) -> None:
    session = await buying(world)
    answered = await session.buy(account=account, method=method, password=password)
    assert answered.told == "declined"
    assert session.visit.stored.reason == reason
    assert session.result().reason == customer_is_told
    assert session.visit.kinds() == ["order", "keys", "authorization-request", "authorization"]
    assert world.earned() == 0


@pytest.mark.parametrize("what", ["customer", "account", "merchant"])
async def test_whoever_is_stopped_while_the_customer_approves_is_declined(world: World, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await buying(world)
    grant = await session.visit.grant()
    checked = factors.check

    async def stopped_meanwhile(*given: Any) -> Any:
        approval = await checked(*given)
        await world.suspend(what, {"customer": "hong", "account": world.hong.accounts["bank"].id, "merchant": "shop"}[what])
        return approval

    monkeypatch.setattr(factors, "check", stopped_meanwhile)
    answered = await session.buy(grant)
    assert (answered.told, session.visit.stored.reason) == ("declined", f"{what}_suspended")
    assert world.earned() == 0


async def test_a_payment_that_nobody_signed_has_its_limit(world: World) -> None:
    limit = world.gateway.settings.unsigned_limit_minor
    session = await buying(world, amount=limit + 1)
    assert (await session.buy(method="password")).told == "declined"
    assert session.visit.stored.reason == "unsigned_limit"
    again = await open_session(session.visit)
    assert (await again.buy()).told == ("approved" if limit + 1 <= 1_000_000 else "declined")


async def test_the_fifth_declined_attempt_closes_the_order_whichever_checkout_it_came_from(world: World) -> None:
    session = await buying(world)
    for number in range(ATTEMPTS_MAX - 1):
        if number % 2:
            await session.visit.submit(session.visit.sealed_pay("emoney"))
        else:
            assert (await (await open_session(session.visit)).buy(account="emoney")).told == "declined"
    last = await open_session(session.visit)
    grant = await session.visit.grant()
    spare = await open_session(session.visit)
    other = await spare.frame(spare.purchase(await session.visit.grant()))
    assert (await last.buy(grant, account="emoney")).told == "declined"
    assert (session.visit.stored.state, session.visit.stored.attempts) == (State.CLOSED, ATTEMPTS_MAX)
    assert [kind for kind in session.visit.kinds() if kind == "closed"] == ["closed"]
    assert peek_typ(world.shop.told[-1]) == Closed.TYP
    assert (await spare.send(other)).told == "closed"
    with pytest.raises(WrongState):
        await session.visit.grant()


async def test_an_order_paid_by_redirect_takes_no_purchase_and_the_other_way_round(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    await session.visit.pay()
    assert (await session.send(frame)).told == "closed"
    assert world.earned() == PRICE
    other = await buying(world)
    await other.buy()
    before = world.dump()
    assert (await other.visit.submit(other.visit.sealed_pay())).state == State.CAPTURED
    assert world.dump() == before
    assert world.earned() == 2 * PRICE


async def test_while_the_shop_is_asked_by_redirect_a_purchase_is_told_so(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    world.shop.up = False
    assert (await session.visit.pay()).state == State.AUTHORIZED
    answered = await session.send(frame)
    assert answered.told == "in_progress"
    assert session.result().reason == "in_progress"
    world.shop.up = True
    await world.tick(3)
    assert (session.visit.stored.state, session.visit.stored.sid, world.earned()) == (State.CAPTURED, None, PRICE)


async def test_two_sessions_of_one_order_at_once_pay_it_once(world: World) -> None:
    first = await buying(world)
    second = await open_session(first.visit)
    frames = [await s.frame(s.purchase(await first.visit.grant(), account=a)) for s, a in ((first, "bank"), (second, "card"))]
    answers = await asyncio.gather(first.send(frames[0]), second.send(frames[1]))
    assert sorted(answer.told for answer in answers) == ["approved", "closed"]
    assert (first.visit.stored.state, first.visit.stored.attempts, world.earned()) == (State.CAPTURED, 1, PRICE)


async def test_redirect_and_purchase_at_once_pay_the_order_once(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant(), account="card"))
    answered, shown = await asyncio.gather(session.send(frame), session.visit.pay("bank"))
    assert answered.told in {"approved", "in_progress", "closed"}
    assert session.visit.stored.state == State.CAPTURED
    assert (session.visit.stored.sid is not None) == (answered.told == "approved")
    assert shown.id == session.visit.stored.id
    assert world.earned() == PRICE


async def test_the_same_bytes_at_once_are_one_attempt(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant(), method="password", password="0000"))
    answers = await asyncio.gather(*(session.send(frame) for _ in range(4)))
    assert {answer.told for answer in answers} <= {"declined", "refused in_progress"}
    assert session.visit.stored.attempts == 1
    (count,) = [row for row in world.rows("throttles") if row["factor"].startswith("account:")]
    assert count["failures"] == 1, "one try of the factor"
    assert (await session.send(frame)).told == "declined"


async def test_one_grant_in_two_sessions_at_once_is_one_attempt(world: World) -> None:
    first = await buying(world)
    second = await open_session(first.visit)
    grant = await first.visit.grant()
    frames = [await s.frame(s.purchase(grant, method="password", password="0000")) for s in (first, second)]
    answers = await asyncio.gather(first.send(frames[0]), second.send(frames[1]))
    assert [answer.told for answer in answers] == ["declined", "refused in_progress"]
    assert (await second.send(frames[1])).told == "declined"
    (count,) = [row for row in world.rows("throttles") if row["factor"].startswith("account:")]
    assert count["failures"] == 1, "one try of the factor"
    assert (first.visit.stored.attempts, [row["reason"] for row in world.rows("exchanges")].count("no_grant")) == (1, 1)


async def test_an_order_with_a_grant_ends_by_itself(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    await world.tick(session.visit.stored.pay_by + 1 - world.clock.now())
    assert (session.visit.stored.state, session.visit.stored.reason) == (State.CLOSED, "expired")
    assert (await session.send(frame)).told == "declined"
    assert world.earned() == 0


async def test_the_outcome_is_told_until_it_is_acknowledged_and_stands_in_the_status(world: World) -> None:
    session = await buying(world)
    answered = await session.buy()
    authorization, _ = split_frame(answered.frame)
    await world.tick(3)
    assert authorization in world.shop.told
    at = world.clock.now()
    asked = Inquiry(**head(world.shop.signer, world.gateway.urn, at), tid=session.visit.redirect.tid, exp=at + 120)
    status = await line_requests.answer(world.gateway, "shop", sign(asked, world.shop.signer).compact)
    assert status is not None
    claims = peek_claims(status)
    assert (peek_typ(status), claims["state"], claims["outcome"]) == (Status.TYP, "settled", authorization)


def cancel(session: Buying, *, prev: str, amount: int = PRICE, remaining: int = PRICE, payment: str | None = None) -> str:
    """C1 of the shop that sold it."""
    world, signer = session.world, session.merchant.signer
    at = world.clock.now()
    claims = Cancel(
        **head(signer, world.gateway.urn, at),
        cancellation=ids.new_token(),
        payment=payment,
        tid=session.visit.redirect.tid,
        amount=str(amount),
        currency="KRW",
        remaining=str(remaining),
        reason="returned",
        prev=prev,
        exp=at + 3600,
    )
    return sign(claims, signer).compact


async def test_what_was_bought_is_refunded_in_parts_and_continues_the_authorization(world: World) -> None:
    session = await buying(world)
    await session.buy(account="card")
    payment = session.visit.stored
    left = world.available(world.hong.accounts["card"].id)
    for amount, remaining in ((20_000, PRICE), (200_000, PRICE - 20_000)):
        answer = await line_requests.answer(
            world.gateway, "shop", cancel(session, prev=payment.outcome_hash or "", amount=amount, remaining=remaining, payment=payment.id)
        )
        assert answer is not None
        assert peek_typ(answer) == CancelConfirmation.TYP
    assert (session.visit.stored.refunded, session.visit.stored.state, world.earned()) == (PRICE, State.CAPTURED, PRICE)
    assert world.available(world.hong.accounts["card"].id) == left + PRICE


async def test_an_order_cancelled_before_its_purchase_takes_none(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    answer = await line_requests.answer(world.gateway, "shop", cancel(session, prev=session.visit.stored.order_hash))
    assert answer is not None
    assert peek_typ(answer) == CancelConfirmation.TYP
    assert (await session.send(frame)).told == "closed"
    assert (session.visit.stored.state, world.earned()) == (State.CLOSED, 0)


async def test_a_purchase_and_its_cancellation_at_once_end_in_one_of_both(world: World) -> None:
    session = await buying(world)
    frame = await session.frame(session.purchase(await session.visit.grant()))
    answered, cancelled = await asyncio.gather(
        session.send(frame), line_requests.answer(world.gateway, "shop", cancel(session, prev=session.visit.stored.order_hash))
    )
    assert cancelled is not None
    assert (answered.told, session.visit.stored.state) in {("approved", State.CAPTURED), ("closed", State.CLOSED)}
    assert world.earned() == (PRICE if answered.told == "approved" else 0)


async def test_what_the_customer_asks_before_anything_has_come_is_unknown_and_writes_nothing(world: World) -> None:
    session = await buying(world)
    before = world.dump(())
    assert (session.result().state, session.result().receipt) == ("unknown", None)
    assert world.dump(()) == before
