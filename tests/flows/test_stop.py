"""SIGTERM in the middle of everything: what was asked is answered, nothing is lost, and the process is gone within fifteen seconds."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import aiohttp

from hanbit.demo.world import Ports
from hanbit.kernel.errors import HanbitError
from tests.flows.crash_processes import Site, site
from tests.flows.slow_peers import BODIES, HEADS, READS
from tests.flows.test_slow_peers import slow_peers
from tests.waiting import until

STOPS_WITHIN_S = 15
CUSTOMERS = 6


async def pay_until_refused(s: Site, answered: dict[str, str]) -> None:
    """A customer who buys again and again, each time in a new browser, and does not repeat what was not answered."""
    while True:
        try:
            tid, location = await s.pages.order("phone")
            s.tids.append(tid)
            wallet = s.wallet()
            opened = await wallet.open(location)
            await wallet.login(opened, "hong", "correct horse battery")
            answered[tid] = (await wallet.send(wallet.prepare(opened, s.device, account=s.accounts["bank"]))).state
        except HanbitError:
            return


async def stop(s: Site) -> float:
    """The seconds that the gateway took to go, with exit status 0."""
    began = time.monotonic()
    s.gateway.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(s.gateway.process.wait(), 60) == 0, s.gateway.log_end()
    return time.monotonic() - began


async def test_a_stop_under_load_with_slow_peers_loses_nothing(place: tuple[Path, Ports]) -> None:
    async with site(*place) as s, slow_peers(s, None, (HEADS, BODIES, READS), 50):
        answered: dict[str, str] = {}
        customers = [asyncio.create_task(pay_until_refused(s, answered)) for _ in range(CUSTOMERS)]
        silent = [await asyncio.open_connection("127.0.0.1", place[1].line) for _ in range(20)]  # no TLS will ever come
        await until(lambda: answered and len(s.tids) > CUSTOMERS)  # each buys something, and somebody the next thing
        assert await stop(s) < STOPS_WITHIN_S
        await asyncio.gather(*customers)
        for _, writer in silent:
            writer.close()
        said = (s.folder / "gateway.log").read_text("utf-8") + (s.folder / "shop.log").read_text("utf-8")
        assert "Traceback" not in said
        assert "going_away" in said
        assert set(answered.values()) <= {"captured", "authorized"}
        await s.gateway.start()
        await s.new_payment()
        for tid in s.tids[:-1]:
            if s.payment(tid) is not None and tid in answered:
                assert await s.final(tid) == "captured"
        report = await s.proven()
        assert report["evidence"]["payments"] >= len(answered)


async def test_a_request_that_is_being_answered_at_the_stop_is_answered_and_one_that_comes_then_is_told_to_come_again(
    place: tuple[Path, Ports],
) -> None:
    async with site(*place) as s:
        tid, location = await s.order()
        wallet = s.wallet()
        opened = await s.log_in(wallet, location)
        token = (s.folder / "shop" / "staff.token").read_text("ascii")
        async with s.http.post(f"{s.pages.url}/staff/answer", data="silent", headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 200
        submit = asyncio.create_task(wallet.submit(opened, s.device, account=s.accounts["bank"]))
        await s.until(tid, "authorized")
        stopping = asyncio.create_task(stop(s))
        statuses = set()
        with contextlib.suppress(aiohttp.ClientConnectorError):  # until the port is closed
            while not stopping.done():
                async with s.http.get(s.gateway.url, headers={"Connection": "close"}) as answer:
                    statuses.add(answer.status)
                    if answer.status == 503:
                        assert "Retry-After" in answer.headers
                await asyncio.sleep(0.05)
        assert (await submit).state == "refused"  # after three seconds a silent shop has said no
        assert await stopping < STOPS_WITHIN_S
        assert 503 in statuses
        await s.gateway.start()
        assert await s.final(tid) == "refused"
        await s.proven()
