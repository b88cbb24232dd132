"""A decline before R8 (50): the right reason, the payment stays open, the shop hears nothing, and another account then pays."""

import pytest

from hanbit.kernel.errors import TooManyTries
from hanbit.payments import operations
from hanbit.payments.payment import Payment
from hanbit.protocols.redirect import customer as role
from tests.flows.passkeys import auth, auth_passkey, enrol_passkey
from tests.world import Visit, World


async def wrong_password(visit: Visit) -> Payment:
    return await visit.submit(visit.seal(visit.core(), role.auth_password("0000")))


async def wrong_code(visit: Visit) -> Payment:
    core = visit.core()
    return await visit.submit(visit.seal(core, role.auth_code(visit.sealing.session.code_binding, core, bytes(32))))


async def code_for_another_core(visit: Visit) -> Payment:
    return await visit.submit(visit.seal(visit.core(), visit.auth(visit.core("card"), "code")))


async def consent_to_another_core(visit: Visit) -> Payment:
    return await visit.submit(visit.seal(visit.core(), visit.auth(visit.core("card"))))


async def consent_by_another_customer(visit: Visit) -> Payment:
    core = visit.core()
    consent = role.auth_device(visit.opening, core, visit.world.kim.device, visit.world.clock.now())
    return await visit.submit(visit.seal(core, consent))


async def no_consent_at_all(visit: Visit) -> Payment:
    return await visit.submit(visit.seal(visit.core(), auth("device", "")))


async def unknown_method(visit: Visit) -> Payment:
    return await visit.submit(visit.seal(visit.core(), auth("smile", ":-)")))


async def unknown_passkey(visit: Visit) -> Payment:
    passkey = await enrol_passkey(visit.world, visit.world.kim)
    core = visit.core()
    return await visit.submit(visit.seal(core, auth_passkey(core, passkey)))


async def passkey_for_another_core(visit: Visit) -> Payment:
    passkey = await enrol_passkey(visit.world, visit.person)
    return await visit.submit(visit.seal(visit.core(), auth_passkey(visit.core("card"), passkey)))


async def passkey_without_the_person(visit: Visit) -> Payment:
    passkey = await enrol_passkey(visit.world, visit.person)
    passkey.flags = 0x01
    core = visit.core()
    return await visit.submit(visit.seal(core, auth_passkey(core, passkey)))


async def passkey_of_another_site(visit: Visit) -> Payment:
    passkey = await enrol_passkey(visit.world, visit.person)
    passkey.origin = "https://pay.example"
    core = visit.core()
    return await visit.submit(visit.seal(core, auth_passkey(core, passkey)))


async def passkey_whose_counter_went_back(visit: Visit) -> Payment:
    passkey = await enrol_passkey(visit.world, visit.person)
    passkey.counter = 5
    earlier = await visit.world.visit(amount=1000)
    core = earlier.core()
    assert (await earlier.submit(earlier.seal(core, auth_passkey(core, passkey)))).state == "captured"
    passkey.counter = 4
    core = visit.core()
    return await visit.submit(visit.seal(core, auth_passkey(core, passkey)))


async def account_of_another_customer(visit: Visit) -> Payment:
    theirs = visit.world.kim.accounts["bank"]
    core = visit.core(theirs.id)
    return await visit.submit(visit.seal(core, role.auth_password(theirs.password)))


async def consent_for_the_account_of_another_customer(visit: Visit) -> Payment:
    core = visit.core(visit.world.kim.accounts["bank"].id)
    return await visit.submit(visit.seal(core, visit.auth(core)))


async def unknown_account(visit: Visit) -> Payment:
    return await visit.submit(visit.seal(visit.core("no-such-account"), role.auth_password("2580")))


async def typed_number_of_another_customer(visit: Visit) -> Payment:
    theirs = visit.world.kim.accounts["bank"]
    return await visit.submit(visit.typed_pay(theirs.number, theirs.password))


async def typed_number_of_nobody(visit: Visit) -> Payment:
    return await visit.submit(visit.typed_pay("11000000000000", "2580"))


async def typed_nonsense(visit: Visit) -> Payment:
    return await visit.submit(visit.typed_pay("' OR 1=1 --", "2580"))


WRONG = [
    wrong_password,
    wrong_code,
    code_for_another_core,
    consent_to_another_core,
    consent_by_another_customer,
    no_consent_at_all,
    unknown_method,
    unknown_passkey,
    passkey_for_another_core,
    passkey_without_the_person,
    passkey_of_another_site,
    passkey_whose_counter_went_back,
    account_of_another_customer,
    consent_for_the_account_of_another_customer,
    unknown_account,
    typed_number_of_another_customer,
    typed_number_of_nobody,
    typed_nonsense,
]


def assert_declined(visit: Visit, payment: Payment, reason: str) -> None:
    assert (payment.state, payment.reason, payment.attempts) == ("open", reason, 1)
    assert (payment.customer, payment.account, payment.notice_hash) == (None, None, None), "a declined attempt leaves no name"
    assert visit.kinds() == ["order", "keys"]
    assert not [message for message in visit.world.shop.asked + visit.world.shop.told if visit.redirect.tid in message]


async def assert_still_payable(visit: Visit, account: str = "bank") -> None:
    again = visit.world.open(f"?{_query(visit)}")
    payment = await again.pay(account)
    assert (payment.state, payment.reason, payment.attempts) == ("captured", None, 2)


def _query(visit: Visit) -> str:
    clear = visit.redirect
    return f"MID={clear.merchant_id}&TID={clear.tid}&AMOUNT={clear.money.text}&CUR={clear.money.currency}&ORDER={clear.order}"


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
async def test_a_wrong_factor_or_a_foreign_account_tells_nothing_else(world: World, wrong: type) -> None:
    visit = await world.visit()
    assert_declined(visit, await wrong(visit), "wrong_factor")
    await assert_still_payable(visit)


async def test_no_funds_leaves_the_payment_open_for_another_account(world: World) -> None:
    visit = await world.visit()
    assert_declined(visit, await visit.pay("emoney"), "no_funds")
    assert world.available(world.hong.accounts["emoney"].id) == 50_000
    await assert_still_payable(visit)


@pytest.mark.parametrize("kind", ["bank", "card", "emoney"])
async def test_one_won_too_much_is_declined_and_the_last_won_is_paid(world: World, kind: str) -> None:
    whole = world.available(world.hong.accounts[kind].id)
    over = await world.visit(amount=whole + 1)
    assert (await over.pay(kind)).reason == "no_funds"
    exact = await world.visit(amount=whole)
    assert (await exact.pay(kind)).state == "captured"
    assert world.available(world.hong.accounts[kind].id) == 0


@pytest.mark.parametrize("what", ["customer", "account", "merchant"])
async def test_a_suspension_is_told_only_after_the_factor_was_right(world: World, what: str) -> None:
    name = {"customer": "hong", "account": world.hong.accounts["bank"].id, "merchant": "shop"}[what]
    visit = await world.visit()
    await world.suspend(what, name)
    assert_declined(visit, await wrong_password(visit), "wrong_factor")
    payment = await visit.pay()
    assert (payment.state, payment.reason, payment.attempts) == ("open", f"{what}_suspended", 2)
    await world.suspend(what, name, "active")
    assert (await visit.pay()).state == "captured"


async def test_a_wrong_factor_never_tells_whether_the_money_is_there(world: World) -> None:
    visit = await world.visit()
    poor = await visit.submit(visit.seal(visit.core("emoney"), role.auth_password("0000")))
    rich = await visit.submit(visit.seal(visit.core("bank"), role.auth_password("0000")))
    assert poor.reason == rich.reason == "wrong_factor"


@pytest.mark.parametrize("method", ["password", "code"])
async def test_above_the_limit_the_customer_must_sign(world: World, method: str) -> None:
    await operations.fund(world.gateway, account=world.hong.accounts["bank"].id, amount="5000000", id="salary")
    visit = await world.visit(amount=1_000_001)
    assert_declined(visit, await visit.pay("bank", method), "unsigned_limit")
    assert (await visit.pay("bank", "device")).state == "captured"
    exact = await world.visit(amount=1_000_000)
    assert (await exact.pay("bank", method)).state == "captured"


async def test_an_account_in_another_currency_is_declined(world: World) -> None:
    made = await operations.create_account(
        world.gateway, login="hong", kind="bank", number="22012345678890", password="2580", currency="USD"
    )
    await operations.fund(world.gateway, account=made["account"], amount="99999999")
    visit = await world.visit()
    assert_declined(visit, await visit.submit(visit.typed_pay("22012345678890", "2580")), "unknown_account")
    assert world.gateway.reader.one("SELECT 1 FROM entries WHERE kind = 'hold'") is None


async def test_the_fifth_decline_closes_the_payment_and_the_shop_hears_of_it(world: World) -> None:
    visit = await world.visit()
    for attempts in range(1, 5):
        assert ((await visit.pay("emoney")).state, visit.stored.attempts) == ("open", attempts)
    assert not world.shop.told
    payment = await visit.pay("emoney")
    assert (payment.state, payment.reason, payment.attempts) == ("closed", "no_funds", 5)
    assert visit.kinds() == ["order", "keys", "closed"]
    await world.tick(2)
    assert (await world.shop_order(visit)).state == "closed"
    assert (await visit.pay()).state == "closed"
    assert visit.stored.attempts == 5


async def test_declines_of_two_customers_add_up(world: World) -> None:
    mine = await world.visit(amount=400_000)
    theirs = world.open(f"?{_query(mine)}", world.kim)
    await mine.pay("emoney")
    assert (await theirs.pay()).reason == "no_funds"
    assert mine.stored.attempts == 2
    assert {row["customer"] for row in world.rows("attempts")} == {world.hong.id, world.kim.id}
    assert (await mine.pay()).state == "captured"


async def test_five_wrong_account_passwords_make_that_account_wait_and_no_other(world: World) -> None:
    for _ in range(5):
        await wrong_password(await world.visit())
    visit = await world.visit()
    with pytest.raises(TooManyTries) as waits:
        await visit.pay("bank", "password")
    assert waits.value.retry_after_s == 30
    assert visit.payment is None
    assert (await visit.pay("card", "password")).state == "captured"
    other = await world.visit()
    assert (await other.pay("bank", "device")).state == "captured", "a signature is no guess"
    world.clock.advance(30)
    assert (await (await world.visit(amount=1000)).pay("bank", "password")).state == "captured"


async def test_guessing_at_accounts_of_others_waits_in_the_same_way(world: World) -> None:
    for _ in range(5):
        await account_of_another_customer(await world.visit())
    with pytest.raises(TooManyTries) as waits:
        await unknown_account(await world.visit())
    assert waits.value.retry_after_s == 30
    assert world.gateway.reader.one("SELECT 1 FROM throttles WHERE factor = ?", f"account:{world.kim.accounts['bank'].id}") is None, (
        "nobody can lock another's account"
    )


async def test_a_password_or_code_is_kept_nowhere(world: World) -> None:
    visit = await world.visit()
    sealed = visit.sealed_pay("bank", "password")
    await visit.submit(sealed)
    (attempt,) = world.rows("attempts")
    assert (attempt["method"], attempt["auth_value"]) == ("password", None)
    assert '"value"' not in str(world.dump(leave_out=()))
    assert sealed not in str(world.dump(leave_out=()))
