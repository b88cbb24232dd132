"""Whatever shop, customers and strangers do with one order, in whatever order: what was taken of it can be proved, on both sides."""

import random
from collections.abc import Awaitable, Callable

import pytest

from hanbit.kernel import ids
from hanbit.kernel.errors import HanbitError
from hanbit.kernel.money import Money
from hanbit.merchant import own_evidence
from hanbit.merchant.handlers import No
from hanbit.payments import redirect_flow
from hanbit.payments.open_order import NotOpened
from hanbit.protocols import signed
from hanbit.protocols.redirect.customer import Redirect
from hanbit.protocols.redirect.messages import Inquiry, plain_order_hash
from tests.attacks.test_gateway_orders import make_order
from tests.attacks.test_provable import NOTHING, judged
from tests.flows.cancelling import Canceller
from tests.flows.evidence_files import failure, judge
from tests.purchases import open_session
from tests.world import OPERATOR, PRICE, Visit, World, delay_answer, duplicate_answer, lose_answer, lose_request

ACTS_MAX = 9


class Chaos:
    """One order of one shop, and everybody who can do something with it; the die decides who does what."""

    def __init__(self, world: World, merchant: str, location: str, die: random.Random) -> None:
        self.world, self.merchant, self.location, self.die = world, merchant, location, die
        self.visit = world.open(location)
        self.done: list[str] = []

    def acts(self) -> list[Callable[[], Awaitable[object]]]:
        often = [self.cancel] * 3 + [self.pay] * 2
        once = [self.decline, self.inquire, self.leave, self.pass_time, self.spoil_the_line, self.arrive_late, self.refuse]
        signed_only = [self.sign_again, self.buy, self.forge, self.take_a_grant]
        return [*often, *once, *([self.browse_cheaper] if self.merchant == "plain" else signed_only)]

    async def run(self) -> None:
        """Some of it; what is refused is refused."""
        for _ in range(self.die.randrange(2, ACTS_MAX)):
            act = self.die.choice(self.acts())
            self.done.append(act.__name__)
            try:
                await act()
            except HanbitError as error:
                self.done.append(type(error).__name__)

    def somebody(self) -> Visit:
        return self.world.open(self.location, self.die.choice([self.world.hong, self.world.kim]))

    async def cancel(self) -> None:
        payment, changes = self.visit.payment, dict[str, object]()
        left = PRICE if payment is None or not payment.captured else payment.captured - payment.refunded
        remaining = self.die.choice([left, left, left, 5])
        amount = self.die.choice([remaining, max(remaining // 2, 1)])
        if payment is not None and (payment.captured or self.die.random() < 0.2):
            changes["payment"] = payment.id
        prev = [NOTHING, None, plain_order_hash(self.merchant, self.visit.redirect.tid, str(remaining), "KRW")]
        prev += [] if payment is None else [payment.outcome_hash, payment.order_hash]
        chosen = self.die.choice(prev)
        if remaining:
            canceller = Canceller(self.world, self.merchant)
            await canceller.cancel(self.visit, amount, remaining=remaining, **changes, **({} if chosen is None else {"prev": chosen}))

    async def pay(self) -> None:
        await self.somebody().pay(method=self.die.choice(["device", "code", "password"]))

    async def decline(self) -> None:
        await self.somebody().pay("emoney")

    async def leave(self) -> None:
        await self.somebody().cancel()

    async def browse_cheaper(self) -> None:
        await self.world.open(self.location.replace(f"AMOUNT={PRICE}", "AMOUNT=1")).pay()

    async def inquire(self) -> None:
        signer, now = self.world.parties.merchants[self.merchant], self.world.clock.now()
        head = signed.head(signer, self.world.gateway.urn, now + self.die.choice([-100_000, 0, signed.FUTURE_TOLERANCE_S]))
        inquiry = signed.sign(Inquiry(**head, tid=self.visit.redirect.tid, exp=now + 60), signer)
        await self.world.line.links[self.merchant].to_gateway(inquiry.compact)

    async def sign_again(self) -> None:
        """A second order under the same number; the gateway has never seen the first if nobody has opened it."""
        tid, amount, now = self.visit.redirect.tid, self.die.randrange(1, PRICE), self.world.clock.now()
        order = make_order(self.world.parties.merchants[self.merchant], tid=tid, amount=str(amount), pay_by=now + 1_800)
        try:
            self.world.offered(Redirect(self.merchant, tid, Money(amount, "KRW"), order))
        except NotOpened as turned_away:
            await redirect_flow.keep_second_order(self.world.gateway, turned_away)

    async def take_a_grant(self) -> None:
        await self.somebody().grant()

    async def buy(self) -> None:
        buying = await open_session(self.somebody())
        grant = await buying.visit.grant()
        purchase = buying.purchase(grant, method=self.die.choice(["device", "code", "password"]), password=self.die.choice(["", "wrong"]))
        await buying.send(await buying.frame(purchase))

    async def forge(self) -> None:
        buying = await open_session(self.somebody())
        purchase = buying.purchase(await buying.visit.grant() if self.die.random() < 0.5 else ids.new_token())
        lie = self.die.choice([{"order": NOTHING}, {"amount": "5"}, {"prev": NOTHING}, {"currency": "USD"}, {"sid": ids.new_token()}])
        await buying.send(buying.forged(purchase, **lie))

    async def pass_time(self) -> None:
        await self.world.tick(self.die.choice([1, 60, 601, 1_900]))

    async def spoil_the_line(self) -> None:
        self.world.line.links[self.merchant].plan.append(self.die.choice([lose_answer, delay_answer, lose_request, duplicate_answer]))

    async def arrive_late(self) -> None:
        await self.world.line.links[self.merchant].deliver_late()

    async def refuse(self) -> None:
        self.world.confirm[self.merchant] = No("품절", "sold out")


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_taken_can_be_proved_by_both(world: World, seed: int) -> None:
    die = random.Random(seed)
    merchant = die.choice(["shop", "shop", "plain"])
    chaos = Chaos(world, merchant, await world.order(merchant=merchant), die)
    await chaos.run()
    world.clock.advance(61)
    await world.prove()
    if chaos.visit.kinds():
        await judged(world, chaos.visit)
    link = world.line.links[merchant]
    collected = await own_evidence.collect(await world.shop_order(chaos.visit), link.shop.book, link.shop.witness)
    if collected["messages"]:
        chain = world.parties.merchants[merchant].chain
        report = judge(world, own_evidence.bundle(collected, operator=OPERATOR, merchant=merchant, keys=(), chains=[chain]))
        assert report.verified, (chaos.done, failure(report))
