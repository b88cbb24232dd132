"""Many at once: one sealed message is one attempt, one order has one payer, one balance is spent once."""

import asyncio

import pytest

from hanbit.evidence import store as evidence
from hanbit.kernel.errors import HanbitError, TooManyTries, Unavailable, WrongState
from hanbit.payments import operations
from hanbit.protocols.redirect import customer as role
from tests.world import Person, Visit, World


def address(visit: Visit) -> str:
    clear = visit.redirect
    return f"?MID={clear.merchant_id}&TID={clear.tid}&AMOUNT={clear.money.text}&CUR={clear.money.currency}&ORDER={clear.order}"


async def test_the_same_sealed_bytes_later_are_answered_with_the_true_state(world: World) -> None:
    visit = await world.visit()
    sealed = visit.sealed_pay()
    first = await visit.submit(sealed)
    assert await visit.submit(sealed) == visit.stored
    assert (first.state, visit.stored.attempts, len(world.shop.asked)) == ("captured", 1, 1)


@pytest.mark.parametrize("account", ["bank", "emoney"])
@pytest.mark.parametrize("first", ["first", "second"])
async def test_the_same_sealed_bytes_at_once_are_one_attempt(world: World, account: str, first: str) -> None:
    visit = await world.visit()
    if first == "second":
        await visit.submit(visit.seal(visit.core(), role.auth_password("0000")))
    sealed = visit.sealed_pay(account)
    payments = await asyncio.gather(*(visit.submit(sealed) for _ in range(4)))
    assert {payment.id for payment in payments} == {visit.stored.id}
    assert visit.stored.attempts == (1 if first == "first" else 2)
    assert visit.stored.state == ("captured" if account == "bank" else "open")
    assert len(world.shop.asked) == (1 if account == "bank" else 0)


async def test_two_different_approvals_of_one_order_at_once_pay_it_once(world: World) -> None:
    visit = await world.visit()
    await asyncio.gather(visit.pay("bank"), visit.pay("card"), visit.pay("bank"))
    assert (visit.stored.state, visit.stored.attempts, world.earned()) == ("captured", 1, 220_000)


async def test_two_customers_pay_one_order_and_one_wins(world: World) -> None:
    mine = await world.visit()
    theirs = world.open(address(mine), world.kim)
    results = await asyncio.gather(mine.pay(), theirs.pay())
    assert {payment.id for payment in results} == {mine.stored.id}
    assert (mine.stored.state, world.earned()) == ("captured", 220_000)
    spent = {1_000_000 - world.available(world.hong.accounts["bank"].id), 300_000 - world.available(world.kim.accounts["bank"].id)}
    assert spent == {0, 220_000}


async def test_two_customers_may_log_in_at_one_order_at_once(world: World) -> None:
    mine = await world.visit()
    theirs = world.open(address(mine), world.kim)
    tokens = await asyncio.gather(mine.login(), theirs.login())
    assert len(set(tokens)) == 2
    assert mine.kinds() == ["order", "keys"]
    assert (await theirs.pay()).state == "captured"
    kept = {compact for _, compact in evidence.of_payment(world.gateway.reader, "shop", mine.redirect.tid)}
    assert theirs.opening.keys.compact in kept, "whoever was first, the keys under which it was paid are evidence"


@pytest.mark.parametrize("payers", [3, 7])
async def test_exactly_as_many_payments_succeed_as_the_balance_allows(world: World, payers: int) -> None:
    visits = [await world.visit(amount=300_000) for _ in range(payers)]
    payments = await asyncio.gather(*(visit.pay() for visit in visits))
    states = sorted(payment.state for payment in payments)
    assert states == ["captured"] * 3 + ["open"] * (payers - 3)
    assert {payment.reason for payment in payments if payment.state == "open"} <= {"no_funds"}
    assert world.available(world.hong.accounts["bank"].id) == 100_000


async def test_a_payment_and_its_cancellation_at_once_end_in_one_state(world: World) -> None:
    for _ in range(5):
        visit = await world.visit(amount=1000)
        await asyncio.gather(visit.pay(), visit.cancel())
        assert visit.stored.state in ("captured", "closed")
        assert (await world.shop_order(visit)).state == {"captured": "settled", "closed": "closed"}[visit.stored.state]


async def test_recovery_twice_at_once_decides_once(world: World) -> None:
    visits = [await world.visit(amount=1000) for _ in range(3)]
    for visit in visits:
        world.shop.plan.append(_lose)
        await visit.pay()
    world.clock.advance(2)
    await asyncio.gather(world.tick(), world.tick(), world.tick())
    assert {visit.stored.state for visit in visits} == {"captured"}
    assert world.earned() == 3000


async def _lose(link: object, message: str) -> str | None:
    raise Unavailable("lost")


async def test_parallel_guesses_are_all_counted(world: World) -> None:
    visits = [await world.visit() for _ in range(12)]
    tried = await asyncio.gather(*(_guess(visit, world.hong) for visit in visits))
    assert "in" not in tried
    checked = tried.count("login_failed")
    assert checked <= 5
    (row,) = world.rows("throttles")
    assert row["failures"] == checked
    if checked == 5:
        with pytest.raises(TooManyTries):
            await (await world.visit()).login()


async def _guess(visit: Visit, person: Person) -> str:
    try:
        await visit.login(person.login, "a wrong password")
    except HanbitError as error:
        return error.code
    return "in"


async def test_the_same_login_twice_at_once_opens_one_session(world: World) -> None:
    visit = await world.visit()
    sealed = role.seal_login(visit.sealing, login_id="hong", password=world.hong.password)
    results = await asyncio.gather(visit.send_login(sealed), visit.send_login(sealed), return_exceptions=True)
    assert [type(result) for result in results if not isinstance(result, str)] == [WrongState]
    assert len(world.rows("sessions")) == 1


async def test_the_same_funding_twice_at_once_pays_in_once(world: World) -> None:
    account = world.hong.accounts["bank"].id
    await asyncio.gather(*(operations.fund(world.gateway, account=account, amount="5000", id="salary") for _ in range(3)))
    assert world.available(account) == 1_005_000


async def test_a_caller_who_goes_away_takes_nothing_with_him(world: World) -> None:
    visit = await world.visit()
    task = asyncio.create_task(visit.pay())
    for _ in range(3):
        await asyncio.sleep(0)  # it is on its way, somewhere between the first check and the commit
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(3):
        await world.tick(2)
    assert visit.payment is None or visit.payment.state == "captured"
