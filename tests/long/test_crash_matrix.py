"""Real processes, killed with SIGKILL at every step of the redirect checkout and of a cancellation: each party alone, both, many."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hanbit.demo.world import Ports
from hanbit.kernel.clock import SystemClock
from tests import engine
from tests.flows.crash_processes import Child, Site, restart_s, site
from tests.flows.crash_world import PRICE, make_folder
from tests.flows.test_crash_cancel import PART, paid

pytestmark = pytest.mark.long

AT_ONCE = 64
KILLS = 5
GATEWAY = (
    *(f"gateway.commit.{when}:{count}" for when in ("before", "after") for count in range(1, 7)),
    *(f"line.gateway.{what}:{count}" for what in ("sent", "received") for count in range(1, 4)),
)
"""Log-in (three commits), hold, capture, acknowledgement; hello, notice or confirmation, settled or acknowledgement."""
SHOP = (
    *(f"merchant.commit.{when}:{count}" for when in ("before", "after") for count in range(1, 5)),
    *(f"line.merchant.{what}:{count}" for what in ("sent", "received") for count in range(1, 4)),
)
"""Order, answer, outcome, handled; hello, notice or confirmation, settled or acknowledgement."""
WALLET = tuple(f"wallet.{when}:{count}" for when in ("asks", "answered") for count in range(1, 4))
"""Page, log-in, payment."""
TOGETHER = (
    ("payment.opened", "payment.authorized", "payment.merchant_confirmed", "line.gateway.received:2", "gateway.commit.before:6"),
    ("merchant.commit.before:2", "merchant.commit.after:2", "line.merchant.sent:2", "merchant.commit.before:3", "merchant.commit.after:3"),
)
REFUNDING_GATEWAY = (
    *(f"gateway.commit.{when}:{count}" for when in ("before", "after") for count in range(1, 5)),
    *(f"line.gateway.{what}:{count}" for what in ("sent", "received") for count in range(1, 4)),
    *("payment.refunded:1", "payment.refunded:2"),
)
"""Started anew when everything is paid: what it does by itself, then two refunds of one commit each; hello, requests, answers."""
REFUNDING_SHOP = (
    *(f"merchant.commit.{when}:{count}" for when in ("before", "after") for count in range(1, 6)),
    *(f"line.merchant.{what}:{count}" for what in ("sent", "received") for count in range(1, 4)),
)
"""C1, C3, twice, and what its handler did; hello, requests, answers."""
REFUNDING_TOGETHER = (
    ("gateway.commit.before:2", "payment.refunded:1", "line.gateway.received:2"),
    ("merchant.commit.after:1", "merchant.commit.before:2", "line.merchant.sent:2"),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ports]:
    """A folder that everybody starts from, for ports of its own."""
    folder, ports = tmp_path_factory.mktemp("prepared"), Ports.free()
    asyncio.run(make_folder(folder, SystemClock(), ports))
    return folder, ports


@pytest.fixture
def place(prepared: tuple[Path, Ports], tmp_path: Path) -> Iterator[tuple[Path, Ports]]:
    with engine.copy(prepared[0], tmp_path / "site") as folder:
        yield folder, prepared[1]


@asynccontextmanager
async def restarted(*children: Child) -> AsyncIterator[None]:
    """Whoever is killed is started again at once, as a supervisor does."""

    async def watch(child: Child) -> None:
        while True:
            if await child.process.wait() != -signal.SIGKILL:
                return
            await child.start()

    watching = [asyncio.create_task(watch(child)) for child in children]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def pays_and_goes_on(s: Site, *dying: Child) -> None:
    """One payment through whatever happens, its end on both sides, and a new payment soon after whoever died is back."""
    async with restarted(*dying):
        tid, location = await s.order()
        assert (await s.pay(s.wallet(), location)).state == "captured"
        assert await s.final(tid) == "captured"
        async with asyncio.timeout(restart_s()):
            await s.new_payment()
    for each in s.tids:  # an order whose answer was lost was made again: the first stands unpaid in the shop
        assert await s.final(each) == "captured"
    await s.proven()


@pytest.mark.parametrize("point", GATEWAY)
async def test_a_gateway_killed_at_any_step_makes_the_payment_when_it_is_back(point: str, place: tuple[Path, Ports]) -> None:
    async with site(*place, gateway_fails_at=point) as s:
        await pays_and_goes_on(s, s.gateway)


@pytest.mark.parametrize("point", SHOP)
async def test_a_shop_killed_at_any_step_gets_its_money_when_it_is_back(point: str, place: tuple[Path, Ports]) -> None:
    async with site(*place, shop_fails_at=point) as s:
        await pays_and_goes_on(s, s.shop)


@pytest.mark.parametrize("gateway_point", TOGETHER[0])
@pytest.mark.parametrize("shop_point", TOGETHER[1])
async def test_gateway_and_shop_killed_in_one_payment_agree_when_they_are_back(
    gateway_point: str, shop_point: str, place: tuple[Path, Ports]
) -> None:
    async with site(*place, gateway_fails_at=gateway_point, shop_fails_at=shop_point) as s:
        await pays_and_goes_on(s, s.gateway, s.shop)


@pytest.mark.parametrize("point", WALLET)
async def test_a_wallet_killed_at_any_step_pays_once_when_it_is_run_again(point: str, place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        tid, location = await s.order()
        assert await s.pay_by_program(location, point) == -signal.SIGKILL
        await s.pay_by_program(location)
        assert await s.final(tid) == "captured"
        await s.new_payment()
        await s.proven()


async def gives_back(s: Site, *dying: tuple[Child, str]) -> None:
    """A payment, then whoever shall die is started anew for that; a part goes back and then the rest, each once."""
    tid = await paid(s)
    for child, _ in dying:
        await child.stop()
    for child, point in dying:
        await child.start(point)
    async with restarted(*(child for child, _ in dying)):
        assert (await s.give_back(tid, PART, "part"))["cancellation"]["state"] == "confirmed"
        assert (await s.give_back(tid, None, "rest"))["order"]["state"] == "cancelled"
    await s.refunds_agree(tid, PART, PRICE - PART)
    await s.proven()


@pytest.mark.parametrize("point", REFUNDING_GATEWAY)
async def test_a_gateway_killed_at_any_step_of_a_cancellation_gives_back_once(point: str, place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        await gives_back(s, (s.gateway, point))


@pytest.mark.parametrize("point", REFUNDING_SHOP)
async def test_a_shop_killed_at_any_step_of_a_cancellation_has_one_effect(point: str, place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        await gives_back(s, (s.shop, point))


@pytest.mark.parametrize("gateway_point", REFUNDING_TOGETHER[0])
@pytest.mark.parametrize("shop_point", REFUNDING_TOGETHER[1])
async def test_gateway_and_shop_killed_in_one_cancellation_agree(gateway_point: str, shop_point: str, place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        await gives_back(s, (s.gateway, gateway_point), (s.shop, shop_point))


async def test_many_payments_while_the_gateway_is_killed_again_and_again(place: tuple[Path, Ports]) -> None:
    moments = random.Random(20260101)
    async with site(*place) as s, restarted(s.gateway):
        wallet = s.wallet()
        _, first = await s.order()
        assert (await s.pay(wallet, first)).state == "captured"

        killed = asyncio.Event()

        async def buy() -> None:
            """One more tab of the same browser, which is logged in; it buys again and again until the last kill is over."""
            while True:
                over = killed.is_set()
                _, location = await s.order()
                assert (await s.pay(wallet, location)).state == "captured"
                if over:
                    return

        async def kill() -> None:
            for _ in range(KILLS):
                await s.gateway.ready(s.http)
                await asyncio.sleep(moments.uniform(0.2, 2.0))
                s.gateway.process.kill()
                await s.gateway.process.wait()
            killed.set()

        await asyncio.gather(kill(), *(buy() for _ in range(AT_ONCE)))
        async with asyncio.timeout(restart_s()):
            await s.new_payment()
        assert {await s.final(tid) for tid in s.tids} == {"captured"}
        assert len(s.tids) > AT_ONCE
        await s.proven()
