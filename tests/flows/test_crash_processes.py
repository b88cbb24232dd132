"""kill -9 of real processes where it hurts most, one for each party, a stop in order, and whoever comes second to a folder.

The full matrix is in tests/long.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from hanbit import control
from hanbit.demo.world import Ports
from hanbit.folder import CONTROL_FILE, LOCK_FILE, hold
from hanbit.kernel.errors import Conflict, NotFound, Unavailable
from tests.flows.crash_processes import Child, Site, restart_s, site
from tests.flows.crash_world import LOGIN


async def comes_back(s: Site, child: Child) -> None:
    """Start it again and pay at once."""
    async with asyncio.timeout(restart_s()):
        await child.start()
        await s.new_payment()


async def test_a_gateway_killed_after_the_hold_asks_the_shop_when_it_is_back(place: tuple[Path, Ports]) -> None:
    async with site(*place, gateway_fails_at="payment.authorized") as s:
        tid, location = await s.order()
        wallet = s.wallet()
        opened = await s.log_in(wallet, location)
        with pytest.raises(Unavailable):
            await wallet.submit(opened, s.device, account=s.accounts["bank"])
        await s.gateway.killed()
        payment = s.payment(tid)
        assert payment is not None
        assert payment.state == "authorized"
        await comes_back(s, s.gateway)
        assert await s.final(tid) == "captured"
        await s.proven()


async def test_a_gateway_killed_after_the_capture_tells_the_shop_when_it_is_back(place: tuple[Path, Ports]) -> None:
    async with site(*place, gateway_fails_at="payment.merchant_confirmed") as s:
        tid, location = await s.order()
        wallet = s.wallet()
        opened = await s.log_in(wallet, location)
        body = wallet.prepare(opened, s.device, account=s.accounts["bank"])
        with pytest.raises(Unavailable):
            await wallet.send(body)
        await s.gateway.killed()
        payment, order = s.payment(tid), await s.pages.state(tid)
        assert payment is not None
        assert (payment.state, order["state"], order["may_deliver"]) == ("captured", "confirmed", False)
        await comes_back(s, s.gateway)
        assert await s.final(tid) == "captured"
        assert (await s.submit(wallet, body)).state == "captured"
        await s.proven()


async def test_a_shop_killed_after_its_confirmation_was_stored_says_it_again(place: tuple[Path, Ports]) -> None:
    async with site(*place, shop_fails_at="merchant.commit.after:2") as s:
        tid, location = await s.order()
        wallet = s.wallet()
        opened = await s.log_in(wallet, location)
        outcome = await wallet.submit(opened, s.device, account=s.accounts["bank"])
        assert outcome.state == "authorized"
        await s.shop.killed()
        await comes_back(s, s.shop)
        assert await s.final(tid) == "captured"
        await s.proven()


async def test_a_wallet_killed_before_the_answer_came_has_paid_and_pays_only_once(place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        tid, location = await s.order()
        assert await s.pay_by_program(location, "wallet.answered:3") == -signal.SIGKILL
        assert await s.final(tid) == "captured"
        await s.pay_by_program(location)
        report = await s.proven()
        assert report["evidence"]["payments"] == 1
        await s.new_payment()


async def test_a_stop_in_order_during_a_payment_loses_nothing(place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        tid, location = await s.order()
        wallet = s.wallet()
        opened = await s.log_in(wallet, location)
        token = (s.folder / "shop" / "staff.token").read_text("ascii")
        async with s.http.post(f"{s.pages.url}/staff/answer", data="silent", headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 200
        submit = asyncio.create_task(wallet.submit(opened, s.device, account=s.accounts["bank"]))
        await s.until(tid, "authorized")
        assert await s.gateway.stop() == 0, s.gateway.log_end()
        assert (await submit).state in {"authorized", "refused"}  # the answer that was under way still came
        assert await s.shop.stop() == 0
        await s.shop.start()
        await comes_back(s, s.gateway)
        assert await s.final(tid) in {"captured", "refused"}
        await s.proven()


async def test_a_second_server_on_a_folder_refuses_and_names_the_first(place: tuple[Path, Ports]) -> None:
    async with site(*place) as s:
        second = Child("second", s.gateway._arguments, s.gateway.url, s.folder / "second.log")
        await second.start()
        assert await asyncio.wait_for(second.process.wait(), 30) not in {0, -signal.SIGKILL}
        assert f"held by process {s.gateway.process.pid}" in second.log_end()
        assert "Traceback" not in second.log_end()
        await s.new_payment()


async def test_a_command_reaches_the_server_that_holds_the_folder_and_the_folder_itself_when_nobody_does(
    place: tuple[Path, Ports],
) -> None:
    data = place[0] / "gateway"

    async def balances() -> int:
        accounts = (await control.run(data, "list_parties", what="accounts"))["accounts"]
        return sum(int(account["balance"]) for account in accounts)

    async def fund(identity: str) -> None:
        accounts = (await control.run(data, "list_parties", what="accounts"))["accounts"]
        await control.run(data, "fund", account=accounts[0]["id"], amount="1000", id=identity)

    async with site(*place) as s:
        before = await balances()
        await fund("one")
        await fund("one")
        assert await balances() == before + 1000
        await s.gateway.kill()
        assert (data / CONTROL_FILE).exists()  # nobody was there to remove it
        await fund("one")  # the same id: what the killed server acknowledged is there
        await fund("two")
        assert await balances() == before + 2000
        await comes_back(s, s.gateway)
        await fund("three")
        await s.proven()


async def test_a_held_folder_where_nobody_listens_is_said_to_be_so(place: tuple[Path, Ports]) -> None:
    data = place[0] / "gateway"
    (data / CONTROL_FILE).unlink(missing_ok=True)
    with hold(data):
        with pytest.raises(Conflict, match="is held by process"), hold(data):
            pass
        with pytest.raises(Unavailable, match="nobody answers"):
            await control.run(data, "list_parties", what="accounts")
    (data / LOCK_FILE).write_text("4711\n", "ascii")  # a process that has gone holds nothing
    assert (await control.run(data, "list_parties", what="customers"))["customers"][0]["login"] == LOGIN
    with pytest.raises(NotFound):
        await control.run(data, "enrol_code", merchant="nobody")
