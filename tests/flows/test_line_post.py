"""Payments with shops that never dial: notices, outcomes and inquiries go by HTTPS POST, and whatever fails is finished by recovery."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from hanbit.demo.world import Ports
from hanbit.kernel.errors import ProtocolViolation
from hanbit.merchant import files
from hanbit.merchant.handlers import Yes
from hanbit.merchant.order import Order
from hanbit.merchant.shop import Shop
from hanbit.payments import operations
from tests.flows.test_line_leased import LEASED_HOST, SHOP_ADDRESS, Site, redirect_line, site
from tests.waiting import until


async def greeted(world: Site) -> None:
    """The gateway looks every ten seconds; a test need not wait for it."""
    while world.running.line.figures("shop").post != "up" or world.running.line.figures("shop").round_trip_s is None:
        assert world.running.line._posts is not None
        await world.running.line._posts.look()
        await asyncio.sleep(0.02)


@asynccontextmanager
async def post_site(folder: Path, name: str = "shop", **line: str) -> AsyncIterator[tuple[Site, Path, int]]:
    """A payment server that takes POST at both doors, and a shop that is registered with an address for it."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(site(folder, line_post_port=Ports.free().pay, leased_post_port=Ports.free().pay))
        port = Ports.free().pay
        host = line.get("line_address", f"{name}.localhost")
        yield world, await world.enrol(name, post_url=f"https://{host}:{port}/line", **line), port


async def test_a_shop_that_never_dials_is_paid(tmp_path: Path) -> None:
    async with post_site(tmp_path) as (world, folder, port):
        line = files.read_registration(folder).line
        assert line.post_port == world.running.line.post_port()
        async with Shop.open(folder, dial=False, post_listen=("127.0.0.1", port)) as shop:
            assert shop.line is not None
            await shop.line.connected.wait()
            await greeted(world)
            await world.pay(shop)
            await world.pay(shop)
            (row,) = (await operations.COMMANDS["lines"](world.gateway))["lines"]
            assert (row["line"], row["connections"], row["post"]) == ("up", 0, "up")
        outcomes = "SELECT o.acknowledged_at FROM outbox o JOIN messages m ON m.hash = o.hash WHERE m.typ = 'hanbit-settled'"
        acknowledged = world.gateway.reader.all(outcomes)
        assert len(acknowledged) == 2
        assert all(row["acknowledged_at"] for row in acknowledged)


async def test_a_shop_that_inquires_by_post_learns_the_outcome(tmp_path: Path) -> None:
    async with post_site(tmp_path) as (world, folder, port), Shop.open(folder, dial=False, post_listen=("127.0.0.1", port)) as shop:
        await greeted(world)
        await world.pay(shop)
        orders = [row["tid"] for row in world.gateway.reader.all("SELECT tid FROM payments")]
        assert (await shop.inquire(orders[0])).state == "settled"


async def test_outcomes_that_a_shop_was_not_there_for_reach_it_by_post_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers the notice and is gone before it is told; what waits is told as soon as a hello is answered."""
    async with post_site(tmp_path) as (world, folder, port):
        gone: list[Shop] = []
        tids: list[str] = []

        async def confirm_and_leave(order: Order) -> Yes:
            tids.append(order.tid)
            gone.append(first)
            return Yes()

        async with Shop.open(folder, dial=False, post_listen=("127.0.0.1", port), on_confirm=confirm_and_leave) as first:
            await greeted(world)
            taken = first._inbox.receive

            async def no_outcome(frame: str) -> str | None:
                if gone:
                    raise ProtocolViolation("away")
                return await taken(frame)

            monkeypatch.setattr(first._inbox, "receive", no_outcome)
            await world.pay_without_goods(first)
            assert not (await first.order(tids[0])).may_deliver
        world.running.line.drop("shop", "test")
        async with Shop.open(folder, dial=False, post_listen=("127.0.0.1", port)) as second:
            await greeted(world)
            assert (await second.wait_outcome(tids[0], 30)).may_deliver


async def test_a_leased_merchant_is_paid_by_post_alone(tmp_path: Path) -> None:
    async with post_site(tmp_path, line_mode="leased", line_address=SHOP_ADDRESS) as (world, folder, port):
        line = files.read_registration(folder).line
        assert (line.host, line.mode, line.post_port) == (LEASED_HOST, "leased", world.running.line.post_port("leased"))
        async with Shop.open(folder, dial=False, post_listen=("127.0.0.1", port)) as shop:
            assert shop.line is not None
            await shop.line.connected.wait()
            await greeted(world)
            await world.pay(shop)


@pytest.mark.parametrize("wrong", ["leased by vpn", "vpn by leased"])
async def test_post_lets_nobody_in_by_the_door_that_is_not_his(tmp_path: Path, wrong: str) -> None:
    line = {"line_mode": "leased", "line_address": SHOP_ADDRESS} if wrong == "leased by vpn" else {}
    async with post_site(tmp_path, **line) as (world, folder, port):
        server = world.running.line
        if wrong == "vpn by leased":
            # Somebody must be registered for the address, else nobody is answered a byte there.
            await world.enrol("other", line_mode="leased", line_address=SHOP_ADDRESS)
            redirect_line(folder, files.LineAddress(LEASED_HOST, 1, "leased", post_port=server.post_port("leased")))
        else:
            redirect_line(folder, files.LineAddress("127.0.0.1", 1, post_port=server.post_port()))
        async with Shop.open(folder, dial=False, post_listen=("127.0.0.1", port)) as shop:
            assert shop.line is not None
            await until(lambda: "403" in shop.line.down_reason)  # type: ignore[union-attr]  # looked at above
            assert not shop.line.connected.is_set()


async def test_a_revoked_line_key_takes_nothing_by_post(tmp_path: Path) -> None:
    async with post_site(tmp_path) as (world, folder, port), Shop.open(folder, dial=False, post_listen=("127.0.0.1", port)) as shop:
        assert shop.line is not None
        await greeted(world)
        row = world.gateway.reader.one("SELECT kid FROM certificates WHERE purpose = 'line' AND urn LIKE '%:merchant:shop'")
        assert row is not None
        await operations.revoke(world.gateway, kid=row["kid"], reason="key lost")
        await until(lambda: world.running.line.figures("shop").post is None)
        assert world.running.line._posts is not None
        await world.running.line._posts.look()
        assert world.running.line.figures("shop").post == "down"
        assert not world.running.line.connected("shop")
