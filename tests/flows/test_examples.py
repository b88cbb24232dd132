"""The programs in examples/ are run as a reader would run them."""

import asyncio
import contextlib
import sys
from pathlib import Path

import aiohttp

from hanbit.crypto import certificates
from hanbit.demo.world import Ports, World, demo_world
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.loopback import LoopbackResolver
from hanbit.merchant import enrolment
from hanbit.wallet.pay import Device
from tests import engine

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


async def enrol(world: World, folder: Path, port: int) -> None:
    """What the guide's two commands do."""
    registered = await world.command(
        "create_merchant",
        id="song",
        name="Song Shop",
        telephone="02-555-0300",
        return_url=f"http://song.localhost:{port}/return",
    )
    pin = ids.digest(certificates.load_chain_pem(world.data / "keys/root.pem")[0])
    await enrolment.enrol(folder, world.settings.public_url, registered["code"], pin=pin, clock=SystemClock())


async def shelf(http: aiohttp.ClientSession, address: str) -> None:
    """Until the shop answers."""
    while True:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with http.get(address) as response:
                assert "Buy the song" in await response.text()
                return
        await asyncio.sleep(0.05)


async def test_the_minimal_shop_sells_a_song(tmp_path: Path) -> None:
    port = Ports.free().pay
    address = f"http://song.localhost:{port}"
    async with demo_world(tmp_path, Ports.free(), SystemClock(), lambda _: None, engine.database()) as world:
        await enrol(world, tmp_path / "song", port)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(EXAMPLES / "minimal_shop.py"), str(tmp_path / "song"), str(port), stdout=asyncio.subprocess.PIPE
        )
        try:
            connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
            async with aiohttp.ClientSession(connector=connector) as browser, asyncio.timeout(30):
                await shelf(browser, address)
                async with browser.post(f"{address}/orders", allow_redirects=False) as ordered:
                    location = ordered.headers["Location"]
                tid = dict(part.split("=", 1) for part in location.partition("?")[2].split("&"))["TID"]
                async with browser.get(f"{address}/return?TID={'x' * 22}") as unknown:
                    assert unknown.status == 404
                hong = world.customers["hong"]
                opened = await hong.wallet.open(location)
                await hong.wallet.login(opened, hong.login, hong.password)
                outcome = await hong.wallet.pay(opened, Device(hong.enrolment.device), account=hong.accounts["bank"])
                assert outcome.state == "captured"
                async with browser.get(f"{address}/return?TID={tid}") as back:
                    assert await back.text() == "♪ Here is your song."
                assert process.stdout is not None
                assert (await process.stdout.readline()).decode().strip() == f"{tid} is settled: deliver"
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=LoopbackResolver())) as stranger,
                stranger.get(f"{address}/return?TID={tid}") as refused,
            ):
                assert refused.status == 404
        finally:
            process.terminate()
            await process.wait()
