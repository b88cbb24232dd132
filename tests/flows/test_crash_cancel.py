"""kill -9 of real processes in the middle of a cancellation, and the network cancel: one effect, the same signed words on both sides.

The full matrix is in tests/long.
"""

import asyncio
import signal
from pathlib import Path

import pytest
from aiohttp import web

from hanbit.demo.world import Ports, _line_is_up
from hanbit.kernel.errors import HanbitError
from hanbit.merchant.gateway_line import GatewayLine
from hanbit.merchant.shop import Shop
from hanbit.protocols.redirect.gateway import HOLD_LIFE_S
from hanbit.protocols.redirect.messages import Confirmation, Voided
from hanbit.protocols.signed import peek_typ
from tests.flows.crash_processes import Child, Site, insist, site
from tests.flows.crash_world import PRICE
from tests.flows.sandbox_world import prepare, sandbox
from tests.unit.merchant.agent.support import Received

PART = 70_000


async def paid(s: Site) -> str:
    tid, location = await s.order()
    assert (await s.pay(s.wallet(), location)).state == "captured"
    assert await s.final(tid) == "captured"
    return tid


async def armed(s: Site, child: Child, point: str) -> None:
    """Start it anew, to die there."""
    await child.stop()
    await child.start(point)
    await insist(lambda: child.ready(s.http))
    await s.shop.ready(s.http, _line_is_up)


async def given_back(s: Site, child: Child, tid: str) -> None:
    """A part and then the rest, whoever dies meanwhile; in the end one effect of each."""
    part = asyncio.create_task(s.give_back(tid, PART, "part"))
    await child.killed()
    await child.start()
    done = await part
    assert done["cancellation"]["state"] == "confirmed"
    rest = await s.give_back(tid, None, "rest")
    assert (rest["cancellation"]["state"], rest["order"]["state"]) == ("confirmed", "cancelled")
    await s.refunds_agree(tid, PART, PRICE - PART)
    await s.proven()


async def test_a_gateway_killed_after_the_refund_gives_its_answer_when_it_is_back(place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        tid = await paid(s)
        await armed(s, s.gateway, "payment.refunded")
        await given_back(s, s.gateway, tid)


@pytest.mark.parametrize("point", ["merchant.commit.after:1", "merchant.commit.before:2"])
async def test_a_shop_killed_with_its_request_stored_or_the_answer_in_hand_asks_again(point: str, place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        tid = await paid(s)
        await armed(s, s.shop, point)
        await given_back(s, s.shop, tid)


async def test_an_answer_that_never_came_ends_in_a_void_and_the_late_confirmation_gets_the_stored_one(tmp_path: Path) -> None:
    """The network cancel: the shop signs its yes, the gateway dies before it has read it, and the hold ends; the yes comes after all."""
    ports = await prepare(tmp_path)
    async with sandbox(tmp_path, ports) as s:
        tid, address = await s.order_when_up()

        async def yes_to_nobody(received: Received) -> web.StreamResponse:
            if received.json["type"] == "order.confirm":
                s.gateway.process.send_signal(signal.SIGSTOP)  # whatever is sent to it from now on stays unread
                return web.json_response({"confirm": True})
            return web.Response()

        s.shop.answer = yes_to_nobody
        paying = asyncio.create_task(s.pay(address))
        await s.until(tid, "confirmed")
        await s.gateway.kill()
        with pytest.raises(HanbitError):
            await paying
        await s.clock(f"+{HOLD_LIFE_S + 60}s")
        await s.gateway.start()
        assert (await s.until(tid, "voided"))["may_deliver"] is False
        await s.agent.stop()

        told: list[str] = []
        async with Shop.open(s.shop_folder, attended=False) as shop:  # the agent's folder, line and keys
            (confirmation,) = [kept.compact for kept in await shop.book.messages(tid) if kept.typ == Confirmation.TYP]
            (voided,) = [kept.compact for kept in await shop.book.messages(tid) if kept.typ == Voided.TYP]
            receive = shop.receive

            async def heard(message: str) -> str | None:
                told.append(message)
                return await receive(message)

            assert isinstance(shop.line, GatewayLine)
            assert shop.line.client is not None
            shop.line.client._on_request = heard
            await asyncio.wait_for(shop.line.connected.wait(), 30)
            await shop.line.tell(confirmation)
            async with asyncio.timeout(30):
                while voided not in told:  # noqa: ASYNC110 - told by another process
                    await asyncio.sleep(0.05)
            assert {message for message in told if peek_typ(message) == Voided.TYP} == {voided}
            assert (await shop.order(tid)).state == "voided"
        await s.proven()
