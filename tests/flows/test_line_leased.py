"""Payments over a leased line of the real server, and that nobody comes in by the door that he is not registered for."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanbit import server
from hanbit.crypto import certificates
from hanbit.demo.world import Ports
from hanbit.folder import KEYS_FOLDER, create
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput, Conflict, HanbitError
from hanbit.kernel.money import Money
from hanbit.merchant import enrolment, files
from hanbit.merchant.order import Line
from hanbit.merchant.shop import Shop
from hanbit.payments import operations
from hanbit.payments.gateway import Gateway
from hanbit.settings import Settings
from tests import engine
from tests.flows.line_world import Customer, add_customer, prove
from tests.waiting import until

LEASED_HOST, SHOP_ADDRESS = "127.0.0.9", "127.0.0.1"
CLOCK = SystemClock()


@dataclass
class Site:
    """A running payment server with both doors, and the folder in which shops are enrolled."""

    folder: Path
    running: server.Running
    customer: Customer

    @property
    def gateway(self) -> Gateway:
        return self.running.gateway

    async def enrol(self, name: str, **line: str) -> Path:
        """A shop that is registered for this line, enrolled as in life."""
        made = await operations.create_merchant(
            self.gateway, id=name, name=name, telephone="02-555-0123", return_url="http://shop.localhost:1/", **line
        )
        root = certificates.load_chain_pem(self.folder / "gateway" / KEYS_FOLDER / "root.pem")[0]
        address = f"http://pay.localhost:{self.running.pay_port}"
        await enrolment.enrol(self.folder / name, address, made["code"], pin=ids.digest(root), clock=CLOCK)
        return self.folder / name

    async def pay(self, shop: Shop) -> None:
        """One payment from the order to the goods."""
        tid = await self.pay_without_goods(shop)
        assert (await shop.wait_outcome(tid, 10)).may_deliver

    async def pay_without_goods(self, shop: Shop) -> str:
        """One payment from the order to the receipt; its tid."""
        made = await shop.create_order(
            lines=[Line("x", 1, 1000)], total=Money(1000, "KRW"), text="x", return_url="http://shop.localhost:1/"
        )
        assert await self.customer.pay(made.location) == "captured"
        return made.tid


@asynccontextmanager
async def site(folder: Path, *, leased_tls: bool = True, **settings: Any) -> AsyncIterator[Site]:
    ports = Ports.free()
    chosen = Settings(
        public_url=f"http://pay.localhost:{ports.pay}",
        listen_port=ports.pay,
        line_port=ports.line,
        leased_host=LEASED_HOST,
        leased_port=ports.metrics,
        leased_tls=leased_tls,
        database=engine.database(),
        **settings,
    )
    await create(folder / "gateway", chosen, CLOCK, root_key=None, root_passphrase=None)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(server.running(folder / "gateway", CLOCK))
        customer = await stack.enter_async_context(add_customer(folder, running))
        yield Site(folder, running, customer)
        await prove(running.gateway)


async def is_kept_out(site: Site, shop_folder: Path, name: str, reason: str) -> None:
    """The shop dials and hears why it is not let in; it gets no hello and the gateway would not ask it."""
    async with Shop.open(shop_folder) as shop:
        assert shop.line is not None
        await until(lambda: reason in site.running.line.stats().closed)
        assert not shop.line.connected.is_set()
        assert not site.running.line.connected(name)


def redirect_line(folder: Path, line: files.LineAddress) -> None:
    """The shop dials elsewhere than its operator told it."""
    registration = msgspec.structs.replace(files.read_registration(folder), line=line)
    files.write_private(folder / files.REGISTRATION, msgspec.json.encode(registration))


@pytest.mark.parametrize("leased_tls", [True, False], ids=["tls", "plain"])
async def test_a_payment_over_a_leased_line(tmp_path: Path, leased_tls: bool) -> None:
    async with site(tmp_path, leased_tls=leased_tls) as world:
        folder = await world.enrol("shop", line_mode="leased", line_address=SHOP_ADDRESS)
        line = files.read_registration(folder).line
        assert (line.host, line.mode, line.tls) == (LEASED_HOST, "leased", leased_tls)
        async with Shop.open(folder) as shop:
            await until(lambda: world.running.line.connected("shop"))
            await world.pay(shop)
        (row,) = (await operations.COMMANDS["lines"](world.gateway))["lines"]
        assert (row["merchant"], row["mode"]) == ("shop", "leased")


async def test_a_vpn_merchant_cannot_come_in_by_the_leased_door(tmp_path: Path) -> None:
    """It calls from the address of a leased merchant, with its own good certificate; without TLS with its own good hello."""
    for leased_tls, reason in ((True, "sender"), (False, "sender")):
        (tmp_path / str(leased_tls)).mkdir()
        async with site(tmp_path / str(leased_tls), leased_tls=leased_tls) as world:
            await world.enrol("shop", line_mode="leased", line_address=SHOP_ADDRESS)
            folder = await world.enrol("kiosk")
            assert files.read_registration(folder).line.mode == "vpn"
            port = world.running.line.port("leased")
            redirect_line(folder, files.LineAddress(LEASED_HOST, port, "leased", tls=leased_tls))
            await is_kept_out(world, folder, "kiosk", reason)


async def test_a_leased_merchant_is_not_admitted_by_the_vpn_door(tmp_path: Path) -> None:
    async with site(tmp_path) as world:
        folder = await world.enrol("shop", line_mode="leased", line_address=SHOP_ADDRESS)
        redirect_line(folder, files.LineAddress("127.0.0.1", world.running.line_port))
        await is_kept_out(world, folder, "shop", "line_mode")


async def test_a_leased_merchant_is_not_let_in_from_another_address(tmp_path: Path) -> None:
    async with site(tmp_path) as world:
        folder = await world.enrol("shop", line_mode="leased", line_address="127.0.0.77")
        await is_kept_out(world, folder, "shop", "stranger")


async def test_a_line_that_is_registered_anew_ends_at_once_and_the_shop_dials_as_it_is_told(tmp_path: Path) -> None:
    async with site(tmp_path, leased_tls=False) as world:
        folder = await world.enrol("shop")
        set_line: Callable[..., Awaitable[dict[str, str]]] = operations.COMMANDS["set_line"]
        async with Shop.open(folder):
            await until(lambda: world.running.line.connected("shop"))
            told = await set_line(world.gateway, id="shop", mode="leased", address=SHOP_ADDRESS, reason="line laid")
            await until(lambda: not world.running.line.connected("shop"))
            assert world.running.line.stats().closed["line_changed"] == 1
            await until(lambda: "line_mode" in world.running.line.stats().closed)
        redirect_line(folder, msgspec.convert(json.loads(told["dials"]), files.LineAddress))
        async with Shop.open(folder) as shop:
            await until(lambda: world.running.line.connected("shop"))
            await world.pay(shop)
        acts = [row["act"] for row in world.gateway.reader.all("SELECT act FROM audit")]
        assert "line of merchant shop: leased 127.0.0.1" in acts
        assert (await set_line(world.gateway, id="shop", mode="vpn"))["address"] is None


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"line_mode": "satellite"}, BadInput),
        ({"line_mode": "leased"}, BadInput),
        ({"line_mode": "leased", "line_address": "not an address"}, BadInput),
        ({"line_mode": "leased", "line_address": "10.0.0.0/8"}, BadInput),
        ({"line_mode": "leased", "line_address": "0.0.0.0"}, BadInput),  # noqa: S104 - the case at hand
        ({"line_mode": "leased", "line_address": "224.0.0.1"}, BadInput),
        ({"line_mode": "leased", "line_address": "fe80::1%eth0"}, BadInput),
        ({"line_mode": "vpn", "line_address": "10.0.0.1"}, BadInput),
        ({"line_mode": "leased", "line_address": "10.0.0.1"}, Conflict),
        ({"line_mode": "leased", "line_address": "10.0.0.2", "post_url": "https://10.0.0.3/line"}, BadInput),
        ({"post_url": "http://shop.example/line"}, BadInput),
        ({"post_url": "https://user@shop.example/line"}, BadInput),
        ({"post_url": "https://shop.example/line?x=1"}, BadInput),
        ({"post_url": "https://shop.example:0/line"}, BadInput),
        ({"post_url": "https://[::1/line"}, BadInput),
        ({"post_url": "https://" + "a" * 600}, BadInput),
    ],
)
async def test_a_line_that_cannot_be_is_not_registered(tmp_path: Path, line: dict[str, str], error: type[HanbitError]) -> None:
    async with site(tmp_path) as world:
        details = {"name": "x", "telephone": "02-555-0123", "return_url": "http://shop.localhost:1/"}
        await operations.create_merchant(world.gateway, id="taken", line_mode="leased", line_address="10.0.0.1", **details)
        with pytest.raises(error):
            await operations.create_merchant(world.gateway, id="shop", **details, **line)
        assert world.gateway.reader.one("SELECT 1 FROM merchants WHERE id = 'shop'") is None


async def test_leased_lines_need_an_address_of_their_own() -> None:
    for wrong in (
        {"leased_port": 8411},
        {"leased_host": "line.bank.example"},
        {"leased_host": "0.0.0.0"},  # noqa: S104 - the case at hand
        {"leased_host": "127.0.0.1"},
        {"leased_host": "10.0.0.1", "leased_interface": "eth 1"},
    ):
        with pytest.raises(BadInput, match="leased_"):
            Settings(**wrong)
