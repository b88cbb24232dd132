"""Document A from the order to the receipt, with every kind of account and every factor."""

from tests.world import PRICE, World


async def test_a_payment_walks_from_order_to_receipt(world: World) -> None:
    visit = await world.visit()
    payment = await visit.pay()
    assert (payment.state, payment.reason, payment.captured) == ("captured", None, PRICE)
    assert (world.available(world.hong.accounts["bank"].id), world.earned()) == (1_000_000 - PRICE, PRICE)
    assert visit.kinds() == ["order", "keys", "consent", "notice", "confirmation", "settled", "receipt"]
    assert (await world.shop_order(visit)).may_deliver
