"""Document A from the order to the receipt, with every kind of account and every factor that the customer may use."""

import pytest

from hanbit.evidence import store as evidence
from hanbit.payments import views
from hanbit.protocols.redirect import customer as role
from tests.flows.passkeys import auth_passkey, enrol_passkey, login_passkey
from tests.world import PRICE, Visit, World

SIGNED_CHAIN = ["order", "keys", "consent", "notice", "confirmation", "settled", "receipt"]
UNSIGNED_CHAIN = [kind for kind in SIGNED_CHAIN if kind != "consent"]


def assert_paid(visit: Visit, amount: int = PRICE) -> None:
    payment = visit.stored
    assert (payment.state, payment.reason, payment.captured, payment.attempts) == ("captured", None, amount, 1)
    assert visit.world.earned(visit.redirect.merchant_id) == amount


async def test_a_payment_walks_from_order_to_receipt(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    assert_paid(visit)
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000 - PRICE
    assert visit.kinds() == SIGNED_CHAIN
    assert (await world.shop_order(visit)).may_deliver
    assert world.rows("outbox")[0]["acknowledged_at"] is not None
    receipt = views.receipt(world.gateway, visit.stored)
    assert receipt is not None
    role.verify_receipt(receipt, opening=visit.opening, payment=visit.stored.id, pin=world.pin, at=world.clock.now())


async def test_a_login_by_password_leads_to_the_same_payment(world: World) -> None:
    visit = await world.visit()
    token = await visit.login()
    assert visit.stored.state == "open"
    assert visit.kinds() == ["order", "keys"]
    assert token
    await visit.pay()
    assert_paid(visit)


@pytest.mark.parametrize(("kind", "amount"), [("bank", 220_000), ("card", 500_000), ("emoney", 50_000)])
@pytest.mark.parametrize("method", ["device", "password", "code"])
async def test_every_kind_of_account_pays_by_every_factor(world: World, kind: str, amount: int, method: str) -> None:
    visit = await world.visit(amount=amount)
    await visit.pay(kind, method)
    assert_paid(visit, amount)
    assert visit.kinds() == (SIGNED_CHAIN if method == "device" else UNSIGNED_CHAIN)
    view = views.full_view(world.gateway, visit.stored)
    assert (view.signed, view.account_kind) == (method == "device", kind)


async def test_a_card_is_paid_on_credit_and_owes_it(world: World) -> None:
    visit = await world.visit(amount=500_000)
    await visit.pay("card")
    row = world.gateway.reader.one("SELECT * FROM ledger_accounts WHERE id = ?", world.hong.accounts["card"].id)
    assert row is not None
    assert row["credits_posted"] - row["debits_posted"] == -500_000
    assert world.available(world.hong.accounts["card"].id) == 0


async def test_a_passkey_logs_in_and_approves(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    visit = await world.visit()
    token = await login_passkey(visit, passkey)
    assert token
    core = visit.core()
    await visit.submit(visit.seal(core, auth_passkey(core, passkey)))
    assert_paid(visit)
    assert visit.kinds() == UNSIGNED_CHAIN
    assert views.full_view(world.gateway, visit.stored).signed
    (attempt,) = world.rows("attempts")
    assert passkey.id.hex()
    assert "authenticatorData" in (attempt["auth_value"] or "")
    (device,) = [row for row in world.rows("devices") if row["kind"] == "passkey"]
    assert device["sign_count"] == passkey.counter == 2


async def test_a_typed_number_of_ones_own_account_pays(world: World) -> None:
    visit = await world.visit()
    account = world.hong.accounts["bank"]
    await visit.submit(visit.typed_pay(f"{account.number[:3]}-{account.number[3:]}", account.password))
    assert_paid(visit)


async def test_a_plain_order_is_paid_and_its_chain_begins_at_what_the_browser_sent(world: World) -> None:
    visit = await world.visit(merchant="plain")
    assert visit.redirect.order == ""
    await visit.pay()
    assert_paid(visit)
    assert visit.kinds() == SIGNED_CHAIN[1:]
    assert visit.stored.order_hash == visit.redirect.plain_hash
    assert visit.stored.pay_by == world.clock.now() + 30 * 60


async def test_a_refused_order_shows_the_shops_words(world: World) -> None:
    visit = await world.visit()
    await world.shop.shop.withdraw(visit.redirect.tid)
    payment = await visit.pay()
    assert (payment.state, payment.reason) == ("refused", "withdrawn")
    view = views.full_view(world.gateway, payment)
    assert view.refusal_message is not None
    assert "withdrawn" in view.refusal_message["en"]
    assert visit.kinds() == ["order", "keys", "consent", "notice", "refusal", "voided"]
    assert world.available(world.hong.accounts["bank"].id) == 1_000_000
    assert (await world.shop_order(visit)).state == "voided"


async def test_an_amount_altered_in_a_plain_redirect_is_refused_by_the_shop(world: World) -> None:
    location = await world.order(merchant="plain")
    visit = world.open(location.replace(f"AMOUNT={PRICE}", "AMOUNT=1000"))
    payment = await visit.pay()
    assert (payment.state, payment.reason, world.earned("plain")) == ("refused", "amount_mismatch", 0)


async def test_a_stranger_sees_the_state_of_a_payment_and_nothing_else(world: World) -> None:
    visit = await world.visit()
    payment = await visit.pay()
    assert views.payment_view(world.gateway, payment.id, world.kim.id) == (None, payment)
    assert views.payment_view(world.gateway, payment.id, None)[0] is None
    own, _ = views.payment_view(world.gateway, payment.id, world.hong.id)
    assert own is not None
    assert own.account_masked == "**********8890"


async def test_the_evidence_gives_back_the_very_bytes(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    kept = dict(evidence.of_payment(world.gateway.reader, "shop", visit.redirect.tid))
    assert kept["hanbit-order"] == visit.redirect.order
    assert kept["hanbit-keys"] == visit.opening.keys.compact
    assert kept["hanbit-notice"] == world.shop.asked[0]
    assert kept["hanbit-confirmation"] == world.shop.answers[0]
    assert kept["hanbit-settled"] == world.shop.told[0]
