"""kill -9 of the shop before and after each commit, on real files: what was answered is there, what is there gets the same answer."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel import fail_points
from hanbit.kernel.money import Money
from hanbit.merchant.cancellation import CancellationState
from hanbit.merchant.shop import Shop
from hanbit.merchant.states import State
from hanbit.protocols.cancellation.messages import Cancel
from hanbit.protocols.signed import SignedMessage
from tests.unit.merchant.support import PHONE, GatewayLine, Parties, kinds, place, settled

PLACES = ("merchant.commit.before", "merchant.commit.after")


def dies_in_a_child(work: Callable[[], Coroutine[Any, Any, None]], place_name: str, count: int) -> None:
    """Run the work in a forked child in which this fail point is armed, and see it killed there."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            fail_points.arm(place_name, count)
            asyncio.run(work())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child was not killed but ended with {os.waitstatus_to_exitcode(status)}"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("where", PLACES)
def test_killed_while_placing_an_order(tmp_path: Path, where: str) -> None:
    parties = Parties()
    (tmp_path / "tids").touch()

    async def work() -> None:
        async with parties.open_shop(tmp_path) as shop:
            for _ in range(3):
                redirect = await place(shop)
                with (tmp_path / "tids").open("a") as file:
                    file.write(f"{redirect.tid}\n")

    dies_in_a_child(work, where, 3)

    async def check() -> None:
        async with parties.open_shop(tmp_path) as shop:
            answered = (tmp_path / "tids").read_text().split()
            assert len(answered) == 2
            for tid in answered:  # acknowledged ⇒ durable
                assert (await shop.order(tid)).state is State.PLACED
            stored = shop.book._connection.execute("SELECT count(*) FROM orders").fetchone()[0]
            assert stored == (2 if where == PLACES[0] else 3)  # not acknowledged ⇒ wholly there or wholly absent
            await place(shop)

    asyncio.run(check())


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("step", ["notice", "settled", "voided", "closed"])
def test_killed_while_storing_what_the_gateway_sent(tmp_path: Path, where: str, step: str) -> None:
    parties = Parties()
    handled = tmp_path / "handled"
    handled.touch()

    async def on_outcome(order: object) -> None:
        with handled.open("a") as file:
            file.write(f"{getattr(order, 'state', '')}\n")

    async def before(shop: Shop) -> tuple[str, str]:
        order = await shop.order((await place(shop)).tid)
        if step in {"notice", "closed"}:
            return order.tid, (parties.notice(order) if step == "notice" else parties.closed(order)).compact
        confirmation = parties.read_confirmation(await shop.receive(parties.notice(order).compact))
        return order.tid, getattr(parties, step)(confirmation.claims, confirmation.hash).compact

    async def prepare() -> tuple[str, str]:
        async with parties.open_shop(tmp_path) as shop:
            return await before(shop)

    tid, message = asyncio.run(prepare())

    async def work() -> None:
        async with parties.open_shop(tmp_path) as shop:
            await shop.receive(message)

    dies_in_a_child(work, where, 1)

    async def again() -> None:
        # The gateway sends the same bytes again, and goes on.
        async with parties.open_shop(tmp_path, on_outcome=on_outcome) as shop:
            stored_before = await shop.book.messages(tid)
            first = await shop.receive(message)
            assert first is not None
            assert await shop.receive(message) == first
            order, kept = await shop.order(tid), await shop.book.messages(tid)
            if where == PLACES[1]:  # it stood in the book already: the very bytes that were never sent go out now
                assert kept == stored_before
            expected = {"notice": ["order", "notice", "confirmation"], "closed": ["order", "closed"]}
            assert kinds(kept) == expected.get(step, ["order", "notice", "confirmation", step])
            assert order.state == ("confirmed" if step == "notice" else step)
            assert order.may_deliver is (step == "settled")
            steps = [entry.version for entry in await shop.book.history(tid)]
            assert steps == list(range(1, order.version + 1))

    asyncio.run(again())


@pytest.mark.parametrize("where", PLACES)
def test_killed_between_the_outcome_and_the_shops_handler(tmp_path: Path, where: str) -> None:
    """The handler ran but its mark was lost, or the mark is stored: at least once, and after the mark never again."""
    parties = Parties()
    calls = tmp_path / "calls"
    calls.touch()

    async def on_outcome(order: object) -> None:
        with calls.open("a") as file:
            file.write("x")

    async def prepare() -> str:
        async with parties.open_shop(tmp_path) as shop:
            order = await shop.order((await place(shop)).tid)
            confirmation = parties.read_confirmation(await shop.receive(parties.notice(order).compact))
            return parties.settled(confirmation.claims, confirmation.hash).compact

    settled = asyncio.run(prepare())

    async def work() -> None:
        async with parties.open_shop(tmp_path, on_outcome=on_outcome) as shop:
            await shop.receive(settled)
            await asyncio.sleep(5)

    dies_in_a_child(work, where, 2)
    assert calls.read_text() == "x"

    async def again() -> None:
        async with parties.open_shop(tmp_path, on_outcome=on_outcome) as shop:
            for _ in range(100):
                await asyncio.sleep(0.01)
                if not await shop.book.unhandled(1):
                    break
            assert not await shop.book.unhandled(1)

    asyncio.run(again())
    assert calls.read_text() == ("xx" if where == PLACES[0] else "x")


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("step", ["asked", "answered"])
@pytest.mark.parametrize("whole", [True, False])
def test_killed_while_cancelling(tmp_path: Path, where: str, step: str, whole: bool) -> None:
    """Before the request is stored, after it and before it is sent, after it was sent and answered, after the answer is stored."""
    parties = Parties()
    sent, refunded = tmp_path / "sent", tmp_path / "refunded"
    for file in (sent, refunded):
        file.touch()
    amount = PHONE if whole else Money(20_000, "KRW")

    async def before() -> str:
        async with parties.open_shop(tmp_path) as shop:
            return (await settled(parties, shop)).tid

    tid = asyncio.run(before())

    def gateway(shop: Shop) -> GatewayLine:
        """It has one effect for one id, and says so with the same bytes for ever."""
        line = GatewayLine(parties)

        def judge(cancel: SignedMessage[Cancel]) -> str:
            with sent.open("a") as file:
                file.write(f"{cancel.compact}\n")
            known = refunded.read_text().split()
            if cancel.claims.cancellation not in known:
                assert not known, "a second effect"
                with refunded.open("a") as file:
                    answer = parties.cancelled(cancel, amount.amount_minor, PHONE.amount_minor - amount.amount_minor)
                    file.write(f"{cancel.claims.cancellation}\n{answer.compact}\n")
            return refunded.read_text().split()[1]

        line.judge = judge
        shop.line = line
        return line

    async def work() -> None:
        async with parties.open_shop(tmp_path) as shop:
            gateway(shop)
            await shop.cancel(tid, amount=amount, reason="does not fit", request_key="k")

    dies_in_a_child(work, where, 1 if step == "asked" else 2)

    async def check() -> None:
        async with parties.open_shop(tmp_path) as shop:
            gateway(shop)
            kept = await shop.cancellations(tid)
            assert len(kept) == (0 if (step, where) == ("asked", PLACES[0]) else 1)  # wholly there or wholly absent
            # Whoever was not answered asks again with his key: the same cancellation, or the first one.
            done = await shop.cancel(tid, amount=amount, reason="does not fit", request_key="k")
            assert done.state is CancellationState.CONFIRMED
            assert [one.id for one in await shop.cancellations(tid)] == [done.id]
            assert len(set(sent.read_text().split())) == 1, "the same bytes, however often"
            order = await shop.order(tid)
            assert (order.state, order.refunded) == (State.CANCELLED if whole else State.SETTLED, amount)

    asyncio.run(check())
