"""kill -9 of the shop at each durable step of a purchase, on real files: one request, one answer, one delivery, whatever was on its way."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from hanbit.kernel import ids
from hanbit.merchant import purchase as rows
from hanbit.merchant.order import Order
from hanbit.merchant.states import State
from hanbit.protocols.dual_signature.messages import Purchase
from hanbit.protocols.redirect.messages import Order as OrderMessage
from hanbit.protocols.signed import SignedMessage, peek_claims, peek_kid
from tests.attacks.test_merchant_crash import dies_in_a_child
from tests.unit.merchant.purchases import Customer, Till, opened
from tests.unit.wallet.parties import bank

STEPS = (
    "merchant.commit.before:1",  # D6
    "merchant.commit.after:1",
    "merchant.authorization.verified:1",
    "merchant.commit.before:2",  # D7
    "merchant.commit.after:2",
    "merchant.commit.before:3",  # the handler's mark
    "merchant.commit.after:3",
)


class RememberingTill(Till):
    """A gateway that outlives the shop: what it was asked, and its one answer to each request, stand in a folder."""

    def __init__(self, folder: Path, *, approves: bool) -> None:
        super().__init__()
        self.folder = folder
        self.decide = lambda till, frame: till.approve(frame) if approves else till.decline(frame)
        for path in folder.glob("*.order"):
            compact = path.read_text("ascii")
            claims = msgspec.convert(peek_claims(compact), OrderMessage)
            self.orders[claims.tid] = SignedMessage(compact, ids.digest(compact.encode()), peek_kid(compact), claims)

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        path = self.folder / f"{ids.digest(message.encode())}.answer"
        with (self.folder / "asked").open("a") as file:
            file.write(f"{path.stem}\n")
        if not path.exists():
            path.write_text(await super().ask(message, timeout_s=timeout_s), "ascii")
        return path.read_text("ascii")

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().split() if path.exists() else []


def delivering(folder: Path) -> Callable[[Order], Awaitable[None]]:
    async def deliver(order: Order) -> None:
        with (folder / "delivered").open("a") as file:
            file.write(f"{order.tid} {order.state}\n")

    return deliver


def prepared(folder: Path) -> tuple[str, Purchase]:
    """An order and its customer's signed purchase, not sent yet."""

    async def prepare() -> tuple[str, Purchase]:
        till = Till()
        async with opened(folder, till) as shop:
            customer = await Customer.come(shop, till)
            (folder / f"{customer.tid}.order").write_text(till.orders[customer.tid].compact, "ascii")
            return customer.tid, await customer.purchase()

    bank()  # the same keys in every child
    (folder / "delivered").touch()
    return asyncio.run(prepare())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("resent_by", ["the window", "the shop alone"])
def test_killed_anywhere_in_a_purchase_that_is_approved(tmp_path: Path, step: str, resent_by: str) -> None:
    tid, purchase = prepared(tmp_path)

    async def work() -> None:
        async with opened(tmp_path, RememberingTill(tmp_path, approves=True), on_outcome=delivering(tmp_path)) as shop:
            await shop.purchase(tid, purchase)
            await shop.wait_outcome(tid, 30)
            await asyncio.sleep(30)  # killed at the handler's mark

    name, _, count = step.partition(":")
    dies_in_a_child(work, name, int(count))
    never_asked = step == STEPS[0]

    async def again() -> None:
        till = RememberingTill(tmp_path, approves=True)
        async with opened(tmp_path, till, on_outcome=delivering(tmp_path)) as shop:
            shop._on_connected()
            if never_asked:
                order = await shop.order(tid)
                assert (order.state, till.asked()) == (State.PLACED, []), "not durable, so not sent"
            if never_asked or resent_by == "the window":
                assert (await shop.purchase(tid, purchase)).result == "approved"
            for _ in range(5_000):  # no waiter here: it would ask the gateway by another way
                if (await shop.order(tid)).handled_at is not None:
                    break
                await asyncio.sleep(0.002)
            assert (await shop.order(tid)).may_deliver
            (exchange,) = await shop.book.exchanges(rows.OF_AN_ORDER, tid)
            assert (exchange.state, exchange.envelope) == ("approved", None)
            kinds = [kept.typ.removeprefix("hanbit-") for kept in await shop.book.messages(tid)]
            assert kinds == ["order", "session", "authorization-request", "authorization"]
            assert (await shop.purchase(tid, purchase)).receipt is not None

    asyncio.run(again())
    assert len(set(RememberingTill(tmp_path, approves=True).asked())) == 1, "the same bytes until they are answered"
    told = (tmp_path / "delivered").read_text().splitlines()
    # The handler is called at least once, and after its mark never again.
    assert told == [f"{tid} settled"] * (2 if step == "merchant.commit.before:3" else 1)


@pytest.mark.parametrize("step", STEPS[:5])
def test_killed_anywhere_in_a_purchase_that_is_declined(tmp_path: Path, step: str) -> None:
    tid, purchase = prepared(tmp_path)

    async def work() -> None:
        async with opened(tmp_path, RememberingTill(tmp_path, approves=False), on_outcome=delivering(tmp_path)) as shop:
            await shop.purchase(tid, purchase)

    name, _, count = step.partition(":")
    dies_in_a_child(work, name, int(count))

    async def again() -> None:
        async with opened(tmp_path, RememberingTill(tmp_path, approves=False), on_outcome=delivering(tmp_path)) as shop:
            shop._on_connected()
            assert (await shop.purchase(tid, purchase)).result == "declined"
            order = await shop.order(tid)
            assert (order.state, order.may_deliver) == (State.PLACED, False)

    asyncio.run(again())
    assert len(set(RememberingTill(tmp_path, approves=False).asked())) == 1
    assert (tmp_path / "delivered").read_text() == ""


@pytest.mark.parametrize("step", ["merchant.commit.before:1", "merchant.commit.after:1"])
def test_killed_while_opening_a_session(tmp_path: Path, step: str) -> None:
    """Nobody has the answer: a session that stands in the book is the one that the same request gets."""
    tid, _ = prepared(tmp_path)

    async def request() -> str:
        till = Till()
        async with opened(tmp_path, till) as shop:
            return (await Customer.come(shop, till, tid)).ask().request.compact

    asked = asyncio.run(request())

    async def work() -> None:
        async with opened(tmp_path, Till()) as shop:
            await shop.open_session(tid, asked)

    name, _, count = step.partition(":")
    dies_in_a_child(work, name, int(count))

    async def again() -> None:
        async with opened(tmp_path, Till()) as shop:
            stored = await shop.book.session(request=ids.digest(asked.encode()))
            assert (stored is None) is ("before" in step)
            answer = await shop.open_session(tid, asked)
            assert stored is None or json.loads(stored.answer)["session"] == answer.session
            assert await shop.open_session(tid, asked) == answer

    asyncio.run(again())
