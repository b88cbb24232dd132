"""Everything that people, shops, lines, clocks and power may do, mixed by hypothesis: after every step each money promise holds.

Real books, real shops, a clock moved by hand. After each step the promises are proved from the store alone and its figures are held
against a small model; at the end everything is up again, and then every payment is final, every cancellation answered, and both sides
hold the same signed words.
"""

import asyncio
import tempfile
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hanbit.evidence import store as evidence
from hanbit.kernel.errors import HanbitError
from hanbit.kernel.money import Money
from hanbit.line_requests import routes as line_requests
from hanbit.merchant.cancellation import ASKED
from hanbit.merchant.handlers import No
from hanbit.merchant.order import Order
from hanbit.merchant.reconciliation import NEVER_OPENED
from hanbit.merchant.states import State as ShopState
from hanbit.payments import payment as payments
from hanbit.payments import recovery
from hanbit.payments.payment import Payment
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.redirect import customer as role
from hanbit.protocols.redirect.gateway import HOLD_LIFE_S
from hanbit.protocols.signed import peek_typ
from tests.flows.cancelling import Canceller
from tests.flows.chaos import FAULTS, POINTS, TELL_FAULTS, UPWARD, Party, Power, TappedLink, restart_shop, stop_shop, tapped
from tests.flows.crash_proof import IN_THE_SHOP, SHARED
from tests.flows.model import ENDS, Model
from tests.world import MERCHANTS, NOW, PEOPLE, Fault, Visit, World, enrolled, open_world

PLENTY: Final = 1_000_000
"""No merchant of these asks too often."""
QUIET_MAX_S: Final = 20.0
LOOKS: Final = (1, 2, 4, 8, 16, 30, 60, HOLD_LIFE_S, HOLD_LIFE_S, 15 * 60, 15 * 60, 15 * 60, 15 * 60, 15 * 60, 15 * 60, 15 * 60)
"""Seconds that pass once everything is up again: twice `pay_by` and a quarter of an hour (plain orders begin with the first opening)."""
T = TypeVar("T")

SUBJECTS: Final = (("customer", "hong"), ("customer", "kim"), ("account", "bank"), ("merchant", "shop"), ("merchant", "plain"))

merchants = st.sampled_from(sorted(MERCHANTS))
people = st.sampled_from(sorted(PEOPLE))
kinds = st.sampled_from(["bank", "bank", "bank", "card", "emoney"])
amounts = st.sampled_from([1, 1_000, 50_001, 220_000, 600_000])
places = st.integers(0, 200)
faults = st.lists(st.sampled_from(FAULTS), max_size=2)
outcome_faults = st.lists(st.sampled_from(TELL_FAULTS), max_size=2)
upward_faults = st.lists(st.sampled_from(UPWARD), max_size=2)


class Machine(RuleBasedStateMachine):
    """One world, and whatever hypothesis thinks of."""

    def __init__(self) -> None:
        super().__init__()
        enrolled()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="hanbit-machine-")
        self.stack = AsyncExitStack()
        usual: dict[str, int] = {"inquiries_per_minute": PLENTY, "refusals_per_minute": PLENTY, "unsigned_limit_minor": 100_000}
        self.world: World = self.runner.run(self.stack.enter_async_context(open_world(Path(self.folder.name), **usual)))
        self.power = Power(self.world)
        self.links = tapped(self.world, self.power)
        everybody = [account for person in self.world.parties.people.values() for account in person.accounts.values()]
        self.model = Model({account.id: self.world.available(account.id) for account in everybody})
        self.suspended: set[tuple[str, str]] = set()
        self.mistaken: set[str] = set()
        """Customers who have mistaken a password: their next right one may have to wait."""
        self.orders: list[role.Redirect] = []
        self.visits: list[Visit] = []
        self.approvals: list[tuple[Visit, str, Payment | None]] = []
        """Sealed bytes that were sent, and the answer if one came."""
        self.history: dict[str, list[Any]] = {}
        for merchant, amount in (("shop", 220_000), ("plain", 50_001), ("shop", 1_000)):
            self.a_customer_buys(merchant, amount, "hong", "bank")

    def teardown(self) -> None:
        try:
            self.everything_comes_back()
            self.runner.run(self.in_agreement())
            self.prove()
        finally:
            self.power.restore()
            self.power.off.clear()
            self.runner.run(self._close())
            self.runner.close()
            self.folder.cleanup()

    async def _close(self) -> None:
        for link in self.links.values():
            await stop_shop(link.shop)
        await self.stack.aclose()

    # --- what everybody does ----------------------------------------------------------------------------------------------------------

    def do(self, act: Awaitable[T]) -> T | HanbitError:
        """Let somebody act and all that follows from it come to rest; a clear no is an answer, anything else would be our fault."""
        return self.runner.run(self._do(act))

    async def _do(self, act: Awaitable[T]) -> T | HanbitError:
        done: T | HanbitError
        try:
            done = await act
        except HanbitError as error:
            done = error
        async with asyncio.timeout(QUIET_MAX_S):
            while self._is_busy():  # noqa: ASYNC110 - two books and three desks ring no common bell
                await asyncio.sleep(0.001)
        return done

    def _is_busy(self) -> bool:
        books = (link.shop.book._writer for link in self.links.values())
        sending = any(link.shop._cancelling.sender.is_busy for link in self.links.values())
        return sending or not self.world.gateway.book._idle.is_set() or any(writer is not None and not writer.done() for writer in books)

    def is_fair(self, merchant: str) -> bool:
        """Nothing is wrong at this moment between this shop and the gateway, so what must come of an act is certain."""
        link = self.links[merchant]
        return not self.power.off and not self.power.is_armed and link.is_clear and not self.suspended

    @property
    def gateway_is_on(self) -> bool:
        return "gateway" not in self.power.off

    @property
    def shops_are_on(self) -> bool:
        return "merchant" not in self.power.off

    # --- orders and payments ----------------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.power.off)
    @rule(merchant=merchants, amount=amounts, login=people, kind=kinds)
    def a_customer_buys(self, merchant: str, amount: int, login: str, kind: str) -> None:
        """Everything in one go, as most do."""
        order = self.take_order(merchant, amount)
        visit = order and self.come(order, login, logs_in=False)
        if visit:
            self.pay(visit, kind, "device")

    def take_order(self, merchant: str, amount: int) -> role.Redirect | None:
        location = self.do(self.world.order(amount, merchant=merchant))
        if isinstance(location, HanbitError):
            assert not self.shops_are_on, location
            return None
        redirect = role.read_redirect(location.partition("?")[2])
        self.model.amounts[merchant, redirect.tid] = amount
        self.orders.append(redirect)
        return redirect

    @precondition(lambda self: not self.power.off)
    @rule(number=places, merchant=merchants, amount=amounts, login=people, logs_in=st.booleans(), is_new=st.booleans())
    def a_customer_comes(self, number: int, merchant: str, amount: int, login: str, *, logs_in: bool, is_new: bool) -> None:
        """With an order of his own, or to one that somebody else may be looking at."""
        order = self.take_order(merchant, amount) if is_new else self.orders[number % len(self.orders)]
        if order:
            self.come(order, login, logs_in=logs_in)

    def come(self, redirect: role.Redirect, login: str, *, logs_in: bool) -> Visit | None:
        async def come() -> Visit:
            visit = self.world.open_redirect(redirect, self.world.parties.people[login])
            if logs_in:
                await visit.login()
            return visit

        visit = self.do(come())
        if isinstance(visit, HanbitError):
            return None
        self.visits.append(visit)
        return visit

    @precondition(lambda self: self.gateway_is_on and self.visits)
    @rule(number=places, kind=kinds, method=st.sampled_from(["device", "device", "password", "code"]))
    def a_customer_pays(self, number: int, kind: str, method: str) -> None:
        self.pay(self.visits[number % len(self.visits)], kind, method)

    def pay(self, visit: Visit, kind: str, method: str) -> None:
        if kind not in visit.person.accounts:
            return
        merchant, tid = key = visit.redirect.merchant_id, visit.redirect.tid
        link, account = self.links[merchant], visit.person.accounts[kind].id
        before, left, amount = self.model.paid[key].state, self.world.available(account), self.model.amounts[key]
        order, asked = self.do(link.shop.order(tid)), self.do(link.shop.cancellations(tid))
        is_fair = self.is_fair(merchant) and method == "device" and visit.person.login not in self.mistaken
        self.model.chosen[key].add(account)
        sealed = visit.sealed_pay(kind, method)
        paid = self.do(visit.submit(sealed))
        if isinstance(paid, HanbitError) or not self.gateway_is_on:  # whatever it would have said, the customer has not heard it
            self.approvals.append((visit, sealed, None))
            return
        self.approvals.append((visit, sealed, paid))
        if paid.state in ENDS:
            self.model.told[key] = paid.state
        if is_fair and before in ("new", "open"):
            assert isinstance(order, Order)
            assert isinstance(asked, list)
            if amount > left or self.world.clock.now() > paid.pay_by:
                expected = {"open", "closed"}
            elif order.state is ShopState.PLACED and not asked and merchant not in self.world.confirm:
                expected = {"captured"}
            else:
                expected = {"refused"}
            assert paid.state in expected, (paid, order, amount, left)

    @precondition(lambda self: self.gateway_is_on and self.approvals)
    @rule(number=places)
    def a_customer_clicks_again(self, number: int) -> None:
        visit, sealed, first = self.approvals[number % len(self.approvals)]
        before = self.world.rows("attempts")
        again = self.do(visit.submit(sealed))
        if isinstance(again, HanbitError) or not self.gateway_is_on:
            return
        if first is not None:  # it was answered, so it is durable, and the same bytes are no second attempt
            assert self.world.rows("attempts") == before
            assert first.state not in ENDS or again.state == first.state
        if again.state in ENDS:
            self.model.told[visit.redirect.merchant_id, visit.redirect.tid] = again.state

    @precondition(lambda self: self.gateway_is_on and self.visits)
    @rule(number=places, cancels=st.booleans())
    def a_customer_does_not_pay(self, number: int, *, cancels: bool) -> None:
        """He cancels, or mistakes his password."""
        visit = self.visits[number % len(self.visits)]
        if cancels:
            ended = self.do(visit.cancel())
            if not isinstance(ended, HanbitError) and self.gateway_is_on and ended.state in ENDS:
                self.model.told[visit.redirect.merchant_id, visit.redirect.tid] = ended.state
        else:
            self.mistaken.add(visit.person.login)
            self.do(visit.submit(visit.seal(visit.core("bank"), role.auth_password("not this one"))))

    # --- what shops do ----------------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.shops_are_on and self.orders)
    @rule(number=places, part=st.sampled_from([None, 1, 999, 50_000]), again=st.booleans())
    def a_shop_cancels(self, number: int, part: int | None, *, again: bool) -> None:
        redirect = self.orders[number % len(self.orders)]
        merchant, tid = key = redirect.merchant_id, redirect.tid
        shop = self.links[merchant].shop
        order, known = self.do(shop.order(tid)), self.do(shop.cancellations(tid))
        assert isinstance(order, Order)
        assert isinstance(known, list)
        is_fair = self.is_fair(merchant) and all(cancellation.final for cancellation in known)
        was = self.model.paid[key]
        amount = None if part is None else Money(part, "KRW")
        done = self.do(shop.cancel(tid, amount=amount, reason="changed our mind", request_key=f"{tid}:{part}" if again else None))
        if isinstance(done, HanbitError) or not self.shops_are_on:
            return
        is_new = done.id not in {cancellation.id for cancellation in known}
        if done.state == "confirmed" and order.state is ShopState.SETTLED and is_new:
            self.model.confirmed[done.id] = done.amount.amount_minor
        if is_fair and is_new:
            if order.state is ShopState.SETTLED:
                assert done.state == "confirmed", done
                assert self.row(key).refunded == was.refunded + done.amount.amount_minor
            elif was.state in ("new", "open"):
                assert (done.state, self.row(key).state) == ("confirmed", "closed"), done

    @precondition(lambda self: self.shops_are_on and self.orders)
    @rule(number=places, what=st.sampled_from(["withdraw", "inquire", "reconcile", "goods"]))
    def a_shop_looks_after_its_orders(self, number: int, what: str) -> None:
        redirect = self.orders[number % len(self.orders)]
        shop = self.links[redirect.merchant_id].shop
        if what == "withdraw":
            self.do(shop.withdraw(redirect.tid))
        elif what == "inquire":
            self.do(shop.inquire(redirect.tid))
        elif what == "goods":
            self.do(shop.mark_goods_returned(redirect.tid))
        else:
            self.do(shop.reconcile())

    @rule(merchant=merchants, wants=st.booleans())
    def a_shop_changes_its_mind(self, merchant: str, *, wants: bool) -> None:
        if wants:
            self.world.confirm.pop(merchant, None)
        else:
            self.world.confirm[merchant] = No(ko="다 팔렸습니다.", en="Sold out.")

    @precondition(lambda self: not self.power.off and not self.power.is_armed and self.visits)
    @rule(number=places, amount=st.sampled_from([2, 1_001, 50_000]))
    def somebody_cancels_what_is_not_his_to_cancel(self, number: int, amount: int) -> None:
        """Another merchant's signature, the right one on the wrong line, and a used id for other bytes: nothing changes but the audit."""
        visit = self.visits[number % len(self.visits)]
        merchant = visit.redirect.merchant_id
        other = "other" if merchant == "shop" else "shop"
        own, stranger = Canceller(self.world, merchant), Canceller(self.world, other)
        rows = [row for row in self.world.rows("cancellations") if row["merchant"] == merchant]
        reused = own.request(visit, amount, remaining=PLENTY, cancellation=rows[number % len(rows)]["id"]) if rows else None
        tried = [
            (other, own.request(visit, amount, remaining=PLENTY)),
            (merchant, stranger.request(visit, amount, remaining=PLENTY)),
            *([(merchant, reused)] if reused else []),
        ]
        before = self.world.dump()
        for line, request in tried:
            reply = self.do(line_requests.answer(self.world.gateway, line, request.compact))
            assert isinstance(reply, str)
            assert peek_typ(reply) == RefusedByGateway.TYP
        assert self.world.dump() == before

    # --- lines ------------------------------------------------------------------------------------------------------------------------

    @rule(merchant=merchants, asked=faults, told=outcome_faults, says=upward_faults)
    def a_line_will_fail(self, merchant: str, asked: list[Fault], told: list[Fault], says: list[str]) -> None:
        """The next notices, the next outcomes, the next words of the shop."""
        link = self.links[merchant]
        link.plan.extend(asked)
        link.tell_plan.extend(told)
        link.shops_end.plan.extend(says)

    @precondition(lambda self: not self.power.off)
    @rule(merchant=merchants, up=st.booleans())
    def a_line_breaks_or_comes_up(self, merchant: str, *, up: bool) -> None:
        self.links[merchant].up = False
        if up:
            self.connect(merchant)

    def connect(self, merchant: str) -> None:
        link = self.links[merchant]
        link.up = True
        self.do(recovery.merchant_connected(self.world.gateway, merchant, link.shop.witness.compact))
        link.shop._on_connected()
        self.do(asyncio.sleep(0))

    @precondition(lambda self: not self.power.off and any(link.under_way for link in self.links.values()))
    @rule(number=places)
    def something_slow_arrives(self, number: int) -> None:
        link = next(link for link in self.links.values() if link.under_way)
        self.do(link.arrive(number))

    @precondition(lambda self: not self.power.off)
    @rule(merchant=merchants, number=places, upward=st.booleans())
    def an_old_frame_comes_again(self, merchant: str, number: int, *, upward: bool) -> None:
        """Whoever gets it answers as if it were new, and that goes its way too."""
        link = self.links[merchant]
        frames = link.upward if upward else link.down
        if not frames:
            return
        there, back = (link.to_gateway, link.to_shop) if upward else (link.to_shop, link.to_gateway)
        answer = self.do(there(frames[number % len(frames)]))
        if isinstance(answer, str):
            self.do(back(answer))

    # --- clocks, power, the operator --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.gateway_is_on)
    @rule(seconds=st.sampled_from([0, 1, 2, 30, 60, HOLD_LIFE_S + 1, 31 * 60, 90_000, -1, -121, -600, -3_600]))
    def the_clock_moves(self, seconds: int) -> None:
        self.do(self.world.tick(max(seconds, NOW - self.world.clock.now())))

    @rule(point=st.sampled_from(POINTS), count=st.integers(1, 4))
    def power_will_fail(self, point: str, count: int) -> None:
        self.power.arm(point, count)

    @precondition(lambda self: self.power.off)
    @rule()
    def power_comes_back(self) -> None:
        self.start_again()

    def start_again(self) -> None:
        off, self.power.off = self.power.off, set()
        self.do(self._start_again(off))
        for merchant in self.links:
            if not self.power.off:
                self.connect(merchant)

    async def _start_again(self, off: set[Party]) -> None:
        if "merchant" in off:
            for link in self.links.values():
                await restart_shop(link)
        if "gateway" in off:
            await self.world.restart()

    @precondition(lambda self: self.gateway_is_on)
    @rule(subject=st.sampled_from(SUBJECTS), relents=st.booleans())
    def the_operator_suspends_or_relents(self, subject: tuple[str, str], *, relents: bool) -> None:
        self.suspend(subject, "active" if relents else "suspended")

    def suspend(self, subject: tuple[str, str], state: str) -> None:
        kind, name = subject
        done = self.do(self.world.suspend(kind, self.world.hong.accounts["bank"].id if kind == "account" else name, state))
        if isinstance(done, HanbitError):
            assert not self.gateway_is_on, done  # whether it was written down is not known
            self.suspended.add(subject)
        elif state == "active":
            self.suspended.discard(subject)
        else:
            self.suspended.add(subject)

    # --- what must be true ------------------------------------------------------------------------------------------------------------

    def row(self, key: tuple[str, str]) -> Payment:
        found = payments.find(self.world.gateway.reader, *key)
        assert found is not None
        return found

    @invariant()
    def prove(self) -> None:
        """The ten money promises, from the store; then the model; then that nothing which was written down has changed."""
        world = self.world
        self.runner.run(world.prove())
        self.model.look(world.rows("payments"), world.rows("cancellations"))
        for account, amount in self.model.available().items():
            assert world.available(account) == amount, account
        for table in ("entries", "postings", "messages", "attempts", "cancellations"):
            rows, before = world.rows(table), self.history.get(table, [])
            assert all(row in rows for row in before) if rows[: len(before)] != before else True, f"{table}: history was edited"
            self.history[table] = rows

    def everything_comes_back(self) -> None:
        """All are up, nothing is lost any more, and nobody does anything: only time passes, until nothing is left to be done."""
        self.power.disarm()
        if self.power.off:
            self.start_again()
        for link in self.links.values():
            link.plan.clear()
            link.tell_plan.clear()
            link.shops_end.plan.clear()
        for merchant in self.links:
            self.connect(merchant)
        for subject in sorted(self.suspended):
            self.suspend(subject, "active")
        for seconds in (1, *LOOKS):
            if self.at_rest():
                break
            self.do(self.world.tick(seconds))
            for link in self.links.values():
                assert not isinstance(found := self.do(link.shop.reconcile()), HanbitError), found
                link.shop._on_connected()
            self.do(asyncio.sleep(0))
        unfinished = [row for row in self.world.rows("payments") if row["state"] not in ENDS]
        assert not unfinished
        unheard = [row for row in self.world.rows("outbox") if row["acknowledged_at"] is None]
        assert not unheard
        while any(link.under_way for link in self.links.values()):  # what was slow comes after all, and finds everything decided
            for link in self.links.values():
                if link.under_way:
                    self.do(link.arrive(0))

    def at_rest(self) -> bool:
        """Nothing is left to be done by anybody."""
        world = self.world
        if any(row["state"] not in ENDS for row in world.rows("payments")) or any(
            row["acknowledged_at"] is None for row in world.rows("outbox")
        ):
            return False
        for link in self.links.values():
            open_orders, asked = self.do(link.shop.book.unfinished(1)), self.do(link.shop.book.cancellations(ASKED, 0, 1))
            if open_orders or asked:
                return False
        return True

    async def in_agreement(self) -> None:
        """Shop and gateway hold the same words about every order, and goods left only for money."""
        for merchant, link in self.links.items():
            for owner, tid in self.model.amounts:
                if owner == merchant:
                    await self._agree(link, tid)

    async def _agree(self, link: TappedLink, tid: str) -> None:
        order, payment = await link.shop.order(tid), payments.find(self.world.gateway.reader, link.merchant, tid)
        asked = await link.shop.cancellations(tid)
        assert order.final, order
        assert all(cancellation.final for cancellation in asked), asked
        theirs = {(f"{kept.typ}", kept.compact) for kept in await link.shop.book.messages(tid) if kept.typ in SHARED}
        if payment is None or order.reason == NEVER_OPENED:
            assert payment is None or not payment.captured
            assert not order.may_deliver
            return
        struck = order.state is ShopState.CANCELLED
        assert struck or order.state is IN_THE_SHOP[payment.state], (payment, order)
        assert order.outcome == payment.outcome_hash, (payment, order)
        assert order.may_deliver == (payment.state == "captured" and payment.refunded < payment.captured), (payment, order)
        assert order.refunded_minor == payment.refunded, (payment, order)
        assert all(cancellation.look is None for cancellation in asked), asked
        ours = {item for item in evidence.of_payment(self.world.gateway.reader, link.merchant, tid) if item[0] in SHARED}
        said = {item for item in theirs if item[0] not in ("hanbit-order", "hanbit-confirmation", "hanbit-refusal", "hanbit-cancel")}
        assert said <= ours, "the shop holds something that the gateway did not say"
        # What came too late stands on one side only, and moved nothing; a notice may have been lost with its hold.
        missing = {typ for typ, _ in ours - theirs}
        assert missing <= (set() if payment.state in ("captured", "refused") else {"hanbit-notice"}), (payment, missing)
        rows = {row["id"]: row for row in self.world.rows("cancellations") if (row["merchant"], row["tid"]) == (link.merchant, tid)}
        for cancellation in asked:
            row = rows.pop(cancellation.id, None)
            if row is not None:
                confirmed = row["result"] in ("refunded", "closed", "nothing_left")
                assert (cancellation.state == "confirmed", cancellation.amount.amount_minor) == (confirmed, row["amount"])
        assert not rows, "the gateway has answered what no shop asked"


def search(steps: int, examples: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            stateful_step_count=steps, max_examples=examples, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
        ),
    )


def test_whatever_is_mixed_each_money_promise_holds_after_every_step_and_both_sides_agree_in_the_end() -> None:
    search(steps=30, examples=10)


@pytest.mark.long
def test_the_same_for_long() -> None:
    search(steps=80, examples=400)
