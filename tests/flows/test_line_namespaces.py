"""The leased line on a network of its own, as real hosts see it: payments go over it, and from the customers' side there is no way to it.

The hosts are network namespaces; where these are not allowed the tests are skipped and say why.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hanbit.merchant import files
from hanbit.settings import FILE, Settings, dump, load
from tests.flows.namespaces import (
    CUSTOMER,
    GATEWAY_LEASED,
    GATEWAY_TO_CUSTOMERS,
    LEASED_INTERFACE,
    MERCHANT,
    PATIENCE_S,
    ROOT,
    Hosts,
    hosts,
)
from tests.flows.test_line_leased import redirect_line, site

SHOP = "shop"


@pytest.fixture
def three_hosts() -> Iterator[Hosts]:
    with hosts() as made:
        yield made


async def prepare(folder: Path, *, leased_tls: bool, interface: str) -> tuple[Settings, str]:
    """Everybody enrolled on one machine, then the settings and the registration for where they will be; and the customer's account."""
    async with site(folder) as made:
        await made.enrol(SHOP, line_mode="leased", line_address=MERCHANT)
        account = made.customer.account
    settings = replace(
        load(folder / "gateway"),
        listen_host=GATEWAY_TO_CUSTOMERS,
        line_host=GATEWAY_TO_CUSTOMERS,
        leased_host=GATEWAY_LEASED,
        leased_interface=interface,
        leased_tls=leased_tls,
    )
    (folder / "gateway" / FILE).write_text(dump(settings), "utf-8")
    redirect_line(folder / SHOP, files.LineAddress(GATEWAY_LEASED, settings.leased_port, "leased", tls=leased_tls))
    return settings, account


@asynccontextmanager
async def serving(where: Hosts, folder: Path, settings: Settings) -> AsyncIterator[None]:
    """`hanbit serve` on the gateway's host."""
    async with where.program(where.gateway, "-m", "hanbit", "serve", "--data", str(folder / "gateway")) as process:
        async with asyncio.timeout(PATIENCE_S):
            while where.tcp(where.gateway, GATEWAY_TO_CUSTOMERS, settings.listen_port).split(" ")[0] != "connected":
                assert process.returncode is None, "the server did not start"
                await asyncio.sleep(0.1)
        yield


@pytest.mark.parametrize("leased_tls", [True, False], ids=["tls", "plain"])
async def test_a_payment_goes_over_a_leased_line_that_the_customers_side_cannot_reach(
    three_hosts: Hosts, tmp_path: Path, leased_tls: bool
) -> None:
    where = three_hosts
    settings, account = await prepare(tmp_path, leased_tls=leased_tls, interface=LEASED_INTERFACE)
    leased = settings.leased_port
    async with serving(where, tmp_path, settings):
        async with where.program(where.merchant, str(ROOT / "tests/flows/namespace_shop.py"), str(tmp_path / SHOP)) as shop:
            assert shop.stdout is not None
            location = (await asyncio.wait_for(shop.stdout.readline(), PATIENCE_S)).decode().strip()
            paid = await asyncio.to_thread(
                where.run,
                where.customer,
                *(sys.executable, str(ROOT / "tests/flows/namespace_customer.py"), str(tmp_path / "wallet"), "demo"),
                *(GATEWAY_TO_CUSTOMERS, str(settings.listen_port), account, location),
            )
            assert paid.stdout.strip() == "captured", paid.stderr
            assert (await asyncio.wait_for(shop.stdout.readline(), PATIENCE_S)).strip() == b"deliver"
        # The merchant's host reaches the port, and an unregistered address beside it is hung up on before a byte is answered.
        assert where.tcp(where.merchant, GATEWAY_LEASED, leased).startswith("connected")
        where.run(where.merchant, "ip", "address", "add", "10.77.2.9/24", "dev", "eth0")
        assert where.tcp(where.merchant, GATEWAY_LEASED, leased, "10.77.2.9") in {"connected b''", "ConnectionResetError"}
        # From the customers' side the pages are there, and the leased line is not: at either address, and under the merchant's own name.
        assert where.tcp(where.customer, GATEWAY_TO_CUSTOMERS, settings.listen_port).startswith("connected")
        assert where.tcp(where.customer, GATEWAY_LEASED, leased) == "ConnectionRefusedError"
        assert where.tcp(where.customer, GATEWAY_TO_CUSTOMERS, leased) == "ConnectionRefusedError"
        where.run(where.customer, "ip", "address", "add", f"{MERCHANT}/32", "dev", "lo")
        for address in (GATEWAY_LEASED, GATEWAY_TO_CUSTOMERS):
            assert where.tcp(where.customer, address, leased, MERCHANT) in {"TimeoutError", "ConnectionRefusedError"}


async def test_without_an_interface_of_its_own_the_pinned_address_alone_keeps_customers_out(three_hosts: Hosts, tmp_path: Path) -> None:
    """Linux takes packets for any of its addresses from every interface: the port answers the call, and hangs up before a byte."""
    where = three_hosts
    settings, _ = await prepare(tmp_path, leased_tls=False, interface="")
    async with serving(where, tmp_path, settings):
        assert where.tcp(where.merchant, GATEWAY_LEASED, settings.leased_port).startswith("connected b'HTTP")
        assert where.tcp(where.customer, GATEWAY_LEASED, settings.leased_port, CUSTOMER) in {"connected b''", "ConnectionResetError"}
