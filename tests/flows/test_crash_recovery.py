"""The loop that finishes what was left half way outlives whatever happens to it, and one bad payment leaves no other behind."""

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from hanbit.demo.world import Ports
from hanbit.kernel.clock import ManualClock, SystemClock
from hanbit.payments import close as close_module
from hanbit.payments import recovery
from hanbit.payments.gateway import Gateway
from hanbit.payments.payment import Payment
from tests.flows.crash_proof import agreed, pays_again, proven
from tests.flows.crash_scenarios import let_it_end
from tests.flows.crash_world import Memo, Parties, make_folder, parties


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await make_folder(tmp_path, ManualClock(SystemClock().now()), Ports.free())
    return tmp_path


async def end_of(p: Parties, tid: str) -> str:
    payment = await agreed(p, tid)
    assert payment is not None
    return payment.state


async def test_a_payment_that_cannot_be_handled_holds_up_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with parties(folder, Memo(folder / "memo")) as p:
        bad = await p.order()
        await p.open()
        good = await p.order()
        p.wallet.client._cookie = ""  # a payment enters the book with a login
        await p.open()
        real = close_module.close

        async def close(gateway: Gateway, payment: Payment, *rest: Any) -> Any:
            if payment.tid == bad:
                raise ZeroDivisionError
            return await real(gateway, payment, *rest)

        monkeypatch.setattr(recovery, "close", close)
        await let_it_end(p, good)
        assert await end_of(p, good) == "closed"
        monkeypatch.setattr(recovery, "close", real)
        await let_it_end(p, bad)
        await pays_again(p)
        await proven(p)


async def test_a_full_disk_under_a_new_sealing_key_ends_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with parties(folder, Memo(folder / "memo")) as p:
        failed = asyncio.Event()
        kind = type(p.gateway.keyring)
        usual = kind.due

        def no_room(_self: object, _purpose: str, _at: int) -> None:
            failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(kind, "prepare", no_room)
        monkeypatch.setattr(kind, "due", lambda *_: ("gateway-seal",))
        await asyncio.wait_for(failed.wait(), 10)
        tid = await p.order()
        await p.open()
        await let_it_end(p, tid)
        monkeypatch.setattr(kind, "due", usual)
        await pays_again(p)
        await proven(p)


async def test_a_customer_who_hangs_up_while_the_shop_thinks_has_paid(folder: Path) -> None:
    async with parties(folder, Memo(folder / "memo")) as p:
        asked, answer = asyncio.Event(), asyncio.Event()
        usual = p.on_confirm

        async def slow(order: Any) -> Any:
            asked.set()
            await answer.wait()
            return await usual(order)

        p.on_confirm = slow
        tid = await p.order()
        submit = asyncio.create_task(p.submit(await p.open()))
        await asked.wait()
        submit.cancel()
        await asyncio.gather(submit, return_exceptions=True)
        answer.set()
        await p.until_at_rest(tid)
        assert await end_of(p, tid) == "captured"
        p.on_confirm = usual
        await pays_again(p)
        await proven(p)
