"""Commands of a shop's staff: with the shop stopped, and through the socket of the process that has its order book open."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from hanbit.kernel.errors import BadInput, NotFound, Unavailable, WrongState
from hanbit.merchant import commands, control, files
from hanbit.merchant.book_file import BookHeld
from hanbit.merchant.shop import Shop
from tests.data.release import unpack
from tests.unit.merchant.support import Parties, place

PLACED = "placed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An enrolled shop whose gateway cannot be reached."""
    return unpack(1, tmp_path / "r").folder / "shop"


async def send(path: Path, line: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line)
    await writer.drain()
    answer = json.loads(await reader.readline())
    writer.close()
    return dict(answer)


async def test_orders_are_listed_while_nothing_runs(folder: Path) -> None:
    every = (await commands.run(folder, "orders", dial=False))["orders"]
    placed = (await commands.run(folder, "orders", dial=False, state=PLACED))["orders"]
    assert len(every) > len(placed) > 0
    assert {order["state"] for order in placed} == {PLACED}
    assert len((await commands.run(folder, "orders", dial=False, limit="2"))["orders"]) == 2
    assert not (folder / control.CONTROL).exists()


async def test_the_process_that_has_the_book_runs_the_command(folder: Path) -> None:
    async with Shop.open(folder) as shop:
        assert stat.S_IMODE((folder / control.CONTROL).stat().st_mode) == 0o600
        order = (await shop.book.listed(None, None, 1, None))[0][0]
        with pytest.raises(BookHeld, match=r"another process \(pid \d+"):
            async with Shop.open(folder):
                pass
        assert (await commands.run(folder, "orders", limit="1"))["orders"][0]["tid"] == order.tid
        with pytest.raises(NotFound):
            await commands.run(folder, "cancel", tid="A" * 22, reason="r")
        with pytest.raises(WrongState):
            await commands.run(folder, "returned", tid=order.tid)
        with pytest.raises(Unavailable, match="no line"):
            await commands.run(folder, "reconcile")
        asked = await commands.run(folder, "cancel", tid=await _placed(shop), reason="sold out")
        assert (asked["cancellation"]["state"], asked["order"]["state"]) == ("asked", "withdrawn")
    assert not (folder / control.CONTROL).exists()


async def _placed(shop: Shop) -> str:
    for order in await shop.book.unfinished(50):
        if order.state == PLACED:
            return order.tid
    raise AssertionError("release 1 left an order that nobody has paid")


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        b"[" * 50_000 + b"\n",
        b'{"command":"open","arguments":{}}\n',
        b'{"command":["cancel"],"arguments":{}}\n',
        b'{"command":"cancel","arguments":{"tid":"x"}}\n',
        b'{"command":"cancel","arguments":{"tid":1,"reason":"r"}}\n',
        b'{"command":"orders","arguments":{"limit":"-1"}}\n',
        b'{"command":"orders","arguments":{"limit":"\\uff11"}}\n',
        b'{"command":"orders","arguments":{"state":"paid"}}\n',
        b'{"command":"orders","arguments":{"shop":"x"}}\n',
        b'{"command":"__class__","arguments":{}}\n',
        b"\xff\xfe\n",
    ],
)
async def test_what_is_no_command_is_refused_and_the_shop_goes_on(folder: Path, line: bytes) -> None:
    async with Shop.open(folder):
        assert (await send(folder / control.CONTROL, line))["code"] == BadInput.code
        assert "result" in await send(folder / control.CONTROL, b'{"command":"orders","arguments":{}}\n')


async def test_a_folder_that_is_no_shop_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="enrol the shop first"):
        await commands.run(tmp_path, "orders")


async def test_a_tool_beside_the_shop_answers_no_notice(folder: Path) -> None:
    parties = Parties()
    async with parties.open_shop(folder.parent) as shop:
        order = await shop.order((await place(shop)).tid)
    role = parties.role()
    registration = files.read_registration(folder)
    tool = Shop(registration=registration, role=role, book_path=folder.parent / "orders.db", attended=False, clock=parties.clock)
    async with tool as beside:
        notice = parties.notice(order)
        with pytest.raises(Unavailable, match="the shop's own program"):
            await beside.receive(notice.compact)
        # An outcome is stored, and left to the shop's own handler.
        await beside.receive(parties.closed(order).compact)
        assert [left.tid for left in await beside.book.unhandled(5)] == [order.tid]
