"""A sandbox on real processes: each magic row does what the table says, the clock moves for everybody, each trigger makes its call-back."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from hanbit.demo.world import Ports, _line_is_up
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import Refused
from hanbit.kernel.money import Money
from hanbit.merchant import enrolment, files
from hanbit.merchant.order import Line
from hanbit.merchant.shop import Shop
from hanbit.sandbox import magic
from hanbit.wallet.client import GatewayRefused
from tests import engine
from tests.attacks.bad_requests import Bad, judge
from tests.flows.crash_processes import PATIENCE_S, insist
from tests.flows.sandbox_world import NO_CONSOLES, Sandbox, good, hanbit, prepare, sandbox
from tests.unit.merchant.agent.test_callbacks import verify_as_the_standard_says

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ports]:
    """Everybody's files; made once."""
    folder = tmp_path_factory.mktemp("sandbox")
    return folder, await prepare(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def s(made: tuple[Path, Ports]) -> AsyncIterator[Sandbox]:
    """One sandbox for all tests but those that restart it: each sells orders of its own."""
    async with sandbox(*made) as running:
        yield running
        await running.proven()


# --- accounts -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [one.number for one in magic.ACCOUNTS[:3]])
async def test_an_account_with_enough_money_pays(s: Sandbox, number: str) -> None:
    tid, address = await s.order()
    assert (await s.pay(address, number)).state == "captured"
    assert (await s.told(tid, "order.settled")).json["data"]["may_deliver"] is True


@pytest.mark.parametrize(
    ("number", "login", "reason"),
    [
        ("11000000000004", magic.PAYER, "no_funds"),
        ("11000000000005", magic.PAYER, "account_suspended"),
        ("11000000000006", "suspended", "customer_suspended"),
    ],
)
async def test_a_magic_account_is_declined_for_its_own_reason(s: Sandbox, number: str, login: str, reason: str) -> None:
    tid, address = await s.order()
    outcome = await s.pay(address, number, login)
    assert (outcome.state, outcome.reason) == ("open", reason)
    assert (await s.state(tid))["state"] == "placed"


async def test_any_other_password_is_wrong(s: Sandbox) -> None:
    _, address = await s.order()
    opened = await s.wallet().open(address)
    with pytest.raises(GatewayRefused) as refused:
        await s.wallet().login(opened, "suspended", "not it")
    assert refused.value.problem == "login_failed"


async def test_the_customer_who_waits_always_waits(s: Sandbox) -> None:
    _, address = await s.order()
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await s.log_in(s.wallet(), address, "waiting")
        assert refused.value.code == "too_many_tries"
    await s.clock("+2h")
    _, address = await s.order_when_up()
    with pytest.raises(Refused) as refused:
        await s.log_in(s.wallet(), address, "waiting")
    assert refused.value.code == "too_many_tries"


# --- amounts ------------------------------------------------------------------------------------------------------------------------


async def test_a_slow_shop_shows_in_progress_and_is_paid_all_the_same(s: Sandbox) -> None:
    tid, address = await s.order_when_up(20_001)
    assert (await s.pay(address)).state == "authorized"
    assert (await s.until(tid, "settled"))["may_deliver"]


async def test_a_lost_answer_is_asked_for_again(s: Sandbox) -> None:
    tid, address = await s.order_when_up(20_002)
    assert (await s.pay(address)).state == "authorized"
    assert (await s.until(tid, "settled"))["may_deliver"]
    kinds = [one["typ"] for one in (await s.call("GET", f"/orders/{tid}/messages"))["messages"]]
    assert kinds.count("hanbit-notice") == 1, "the same bytes came twice and are one message"


async def test_an_amount_that_is_altered_on_its_way_stops_a_signed_order_before_the_log_in(s: Sandbox) -> None:
    tid, address = await s.order_when_up(20_003)
    async with s.http.get(address, headers={"Accept": "text/html"}, allow_redirects=False) as answer:
        assert answer.status == 303
        target = answer.headers["Location"]
    assert "AMOUNT=2000&" in target
    async with s.http.get(s.url + target, headers={"Accept": "text/html"}) as answer:
        assert answer.status in {400, 409}
    assert (await s.state(tid))["state"] == "placed"


async def test_an_amount_that_is_altered_on_its_way_is_refused_by_a_shop_in_plain_form(s: Sandbox, tmp_path: Path) -> None:
    about = ("--orders", "plain", "--name", "옛날 상점", "--telephone", "02-555-0200", "--return-url", "http://old.localhost:8403/orders")
    made = json.loads(await good("merchant", "create", "old-shop", *about, "--data", s.data, "--json"))
    await enrolment.enrol(tmp_path / "old-shop", s.url, made["code"], pin=made["pin"], clock=SystemClock())
    async with Shop.open(tmp_path / "old-shop") as shop:
        assert shop.line is not None
        await asyncio.wait_for(shop.line.connected.wait(), PATIENCE_S)
        line = Line("song", 1, 20_003)
        order = await shop.create_order(
            lines=[line], total=Money(20_003, "KRW"), text="song", return_url="http://old.localhost:8403/orders"
        )
        async with s.http.get(order.location, headers={"Accept": "text/html"}, allow_redirects=False) as answer:
            altered = s.url + answer.headers["Location"]
        outcome = await s.pay(altered)
        assert (outcome.state, outcome.reason) == ("refused", "amount_mismatch")
        assert not (await shop.order(order.tid)).may_deliver


async def test_a_line_that_is_down_ends_in_a_void_when_the_clock_has_moved(s: Sandbox) -> None:
    tid, address = await s.order_when_up(20_004)
    assert (await s.pay(address)).state == "authorized"
    assert (await s.state(tid))["state"] == "placed"
    before = await s.clock("now")
    after = await s.clock("+15m")
    assert 900 <= after["now"] - before["now"] < 960
    told = await s.told(tid, "order.voided")
    assert told.json["data"]["may_deliver"] is False
    assert (await s.state(tid))["state"] == "voided"


async def test_an_outcome_that_is_told_twice_is_one_call_back(s: Sandbox) -> None:
    tid, address = await s.order_when_up(20_005)
    assert (await s.pay(address)).state == "captured"
    await s.told(tid, "order.settled")
    log = (await s.call("GET", f"/callbacks/deliveries?tid={tid}"))["deliveries"]
    assert [one["type"] for one in log] == ["order.settled"]


async def test_an_outcome_that_is_told_late_comes_with_the_clock(s: Sandbox) -> None:
    tid, address = await s.order_when_up(20_006)
    assert (await s.pay(address)).state == "captured"
    assert (await s.state(tid))["state"] == "confirmed"
    await s.clock("+90s")
    assert (await s.until(tid, "settled"))["may_deliver"]


# --- the clock ----------------------------------------------------------------------------------------------------------------------


async def test_an_order_expires_when_its_time_has_passed(s: Sandbox) -> None:
    tid, address = await s.order_when_up()
    await s.log_in(s.wallet(), address)
    await s.clock("+1h")
    await s.told(tid, "order.closed")


async def test_after_three_days_everybody_goes_on_and_callers_sign_in_real_time(s: Sandbox) -> None:
    await s.clock("+3d")
    tid, address = await s.order_when_up()
    await insist(partial(s.pay, address))  # 503 while keys change over, or “in progress” until the shop has its new list of the revoked
    told = await s.told(tid, "order.settled")
    secret = (s.shop_folder / "callbacks/shop.secret").read_text("ascii")
    assert verify_as_the_standard_says(secret, told, SystemClock().now())["data"]["test"] is True
    line = await s.call("GET", "/line")
    assert (line["up"], abs(line["offset_s"]) <= 2) == (True, True)


@pytest.mark.parametrize("by", ["-15m", "15m", "+15", "+m", "+1y", "+26d", "+99999999d", "+9999999999s", "yesterday"])
async def test_a_clock_goes_forward_and_by_no_other_word(s: Sandbox, by: str) -> None:
    before = await s.clock("now")
    code, _, errors = await hanbit("sandbox", "clock", "--data", s.data, "--", by)
    assert code != 0
    assert "Traceback" not in errors
    assert (await s.clock("now"))["ahead_s"] == before["ahead_s"]


# --- triggers -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "state"),
    [
        ("order.settled", "settled"),
        ("order.confirm", "settled"),
        ("order.closed", "closed"),
        ("order.voided", "voided"),
        ("order.cancelled", "cancelled"),
    ],
)
async def test_a_trigger_plays_a_customer_until_its_call_back_comes(s: Sandbox, event: str, state: str) -> None:
    tid, _ = await s.order_when_up()
    played = await s.trigger(event, shop=s.shop_folder)
    assert (played["tid"], played["test"]) == (tid, True)
    assert played["did"]
    told = await s.told(tid, event)
    assert told.json["data"]["tid"] == tid
    assert (await s.until(tid, state))["state"] == state


async def test_a_trigger_takes_an_order_by_its_address_or_the_newest_that_was_opened(s: Sandbox) -> None:
    tid, address = await s.order_when_up()
    assert (await s.trigger("order.settled", address=address))["tid"] == tid
    tid, address = await s.order_when_up()
    await s.log_in(s.wallet(), address)
    assert (await s.trigger("order.closed"))["tid"] == tid


async def test_clock_and_trigger_work_from_a_terminal(s: Sandbox) -> None:
    before = await s.clock("now")
    moved = json.loads(await good("sandbox", "clock", "+15m", "--data", s.data, "--json"))
    assert moved["ahead_s"] == before["ahead_s"] + 900
    tid, _ = await s.order_when_up()
    arguments = ("--merchant", "shop", "--shop", s.shop_folder, "--data", s.data)
    out = await good("sandbox", "trigger", "order.settled", *arguments)
    assert tid in out
    assert all(line.startswith("TEST: ") for line in out.splitlines())


async def test_a_trigger_that_cannot_be_says_so_and_changes_nothing(s: Sandbox) -> None:
    tid, address = await s.order_when_up()
    for arguments in (
        ("order.cancelled", "--merchant", "shop", "--address", address),
        ("order.settled", "--merchant", "other", "--address", address),
        ("order.settled", "--merchant", "nobody"),
        ("order.settled", "--merchant", "shop", "--tid", tid),
        ("order.settled", "--merchant", "shop", "--address", "http://elsewhere.localhost/pay?MID=shop&TID=" + tid),
    ):
        code, _, errors = await hanbit("sandbox", "trigger", *arguments, "--data", s.data)
        assert code != 0
        assert "Traceback" not in errors
    assert (await s.state(tid))["state"] == "placed"


# --- what says test -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "words"), [("ko", "시험"), ("en", "TEST")])
async def test_every_page_says_so_and_leads_to_the_table(s: Sandbox, language: str, words: str) -> None:
    _, address = await s.order_when_up()
    pages = [f"{address}&lang={language}", f"{s.url}/sandbox?lang={language}", f"{s.url}/payments/{'A' * 22}?lang={language}"]
    for page in pages:
        async with s.http.get(page, headers={"Accept": "text/html"}) as answer:
            text = await answer.text()
        assert f'<strong class="test-mark">{words}</strong>' in text, page
        assert f"<title>[{words}]" in text
        assert "/sandbox?lang=" in text
    async with s.http.get(f"{s.url}/sandbox?lang={language}", headers={"Accept": "text/html"}) as answer:
        shown = await answer.text()
    for row in magic.AMOUNTS:
        assert f"…{row.ending}" in shown


async def test_the_table_is_the_same_for_programs_pages_and_people(s: Sandbox) -> None:
    printed = json.loads(await good("sandbox", "magic", "--json"))
    async with s.http.get(f"{s.url}/sandbox", headers={"Accept": "application/json"}) as answer:
        served = await answer.json()
    assert (served["accounts"], served["amounts"]) == (printed["accounts"], printed["amounts"])
    for row in magic.ACCOUNTS:
        assert row.number in await good("sandbox", "magic")


async def test_the_agent_and_the_shops_folder_say_test(s: Sandbox) -> None:
    async with s.http.get(f"{s.agent_url}/health") as answer:
        assert (await answer.json())["test"] is True
    tid, _ = await s.order_when_up()
    assert (await s.state(tid))["test"] is True
    assert files.read_registration(s.shop_folder).test


async def test_the_installed_program_says_test_and_receipts_name_the_test_operator(s: Sandbox, tmp_path: Path) -> None:
    wallet = tmp_path / "wallet"
    assert "TEST" in await good("wallet", "trust", s.data / "keys/root.pem", "--yes", "--wallet", wallet)
    _, address = await s.order_when_up()
    person, account = magic.PEOPLE[0], magic.ACCOUNTS[0]
    choice = ("--id", person.login, "--type-number", "--factor", "password", "--yes", "--answers-fd", "0", "--wallet", wallet)
    out = await good("wallet", "pay", address, *choice, answers=f"{person.password}\n{account.number}\n{account.password}\n")
    assert out.count("TEST") == 2, out
    receipts = list(wallet.glob("sandbox-test/receipts/*.jose"))
    assert len(receipts) == 1


async def test_the_doctor_finds_a_sandbox_well_whatever_its_clock(s: Sandbox) -> None:
    _, out, _ = await hanbit("doctor", "--data", s.data, "--json")
    found = {finding["code"]: finding for finding in json.loads(out)["findings"]}
    assert found["sandbox"]["severity"] == "ok"
    assert not [finding for finding in found.values() if finding["severity"] == "wrong"], out


@pytest.mark.parametrize(
    "bad",
    [
        Bad("POST", "/sandbox", b"{}"),
        Bad("GET", "/sandbox/", headers={"Accept": "text/html"}),
        *(
            Bad("GET", f"/pay?{query}", headers={"Accept": "text/html"})
            for query in (
                "AMOUNT=20003",
                "MID=shop&AMOUNT=20003&AMOUNT=20003",
                "MID=shop&TID=x&AMOUNT=" + "1" * 5000 + "003&CUR=KRW",
                "MID=shop%0D%0ASet-Cookie:x&TID=x&AMOUNT=20003&CUR=KRW",
                "MID=shop&TID=x&AMOUNT=%EF%BC%91003&CUR=KRW",
                "MID=shop&TID=x&AMOUNT=003&CUR=KRW&ORDER=" + "%FF" * 9,
                "&".join(f"x{number}=1" for number in range(50)) + "&AMOUNT=20003",
                "AMOUNT=20003&=&&;",
            )
        ),
    ],
    ids=str,
)
async def test_bad_input_gets_a_clear_answer_here_too(s: Sandbox, bad: Bad) -> None:
    async with s.http.request(bad.method, URL(s.url + bad.target, encoded=True), data=bad.body, headers=bad.headers) as answer:
        judge(answer.status, {name.title(): value for name, value in answer.headers.items()}, await answer.read(), bad)


# --- restarts -----------------------------------------------------------------------------------------------------------------------


async def test_a_moved_clock_outlives_a_restart_of_everybody_and_moves_without_a_server(tmp_path: Path) -> None:
    ports = await prepare(tmp_path)
    async with sandbox(tmp_path, ports) as s:
        moved = await s.clock("+2h")
        assert moved["ahead_s"] == 7200
    moved = json.loads(await good("sandbox", "clock", "+15m", "--data", tmp_path / "data", "--json"))
    assert moved["ahead_s"] == 7200 + 900
    async with sandbox(tmp_path, ports) as s:
        assert (await s.clock("now"))["ahead_s"] == 7200 + 900
        tid, address = await s.order_when_up()
        assert (await s.pay(address)).state == "captured"
        await s.told(tid, "order.settled")
        await s.gateway.kill()
        await s.gateway.start()
        await s.gateway.ready(s.http)
        await s.agent.ready(s.http, _line_is_up)
        assert (await s.clock("now"))["ahead_s"] == 7200 + 900
        await s.proven()


async def test_keys_are_renewed_as_the_clock_goes_on(tmp_path: Path) -> None:
    ports = await prepare(tmp_path)
    async with sandbox(tmp_path, ports) as s:
        for step in range(4):
            if step == 3:
                await s.until_renewed()  # 75 days of the 90 are over
            await s.clock("+25d")
            tid, address = await s.order_when_up()
            # Keys are renewed at this very moment, so the line may be away once more; a customer who is told so tries again.
            await insist(partial(s.pay, address))
            await s.told(tid, "order.settled")
        await s.proven()


async def test_a_live_server_has_no_such_page_and_no_such_command(tmp_path: Path) -> None:
    ports = Ports.free()
    url, data = f"http://127.0.0.1:{ports.pay}", tmp_path / "data"
    listen = ("--listen", f"127.0.0.1:{ports.pay}", "--line", f"127.0.0.1:{ports.line}", "--public-url", url, *NO_CONSOLES)
    book = ("--database", engine.database()) if engine.is_postgresql() else ()
    await good("init", data, *listen, *book)
    for arguments in (("clock", "+15m"), ("clock", "now"), ("trigger", "order.settled", "--merchant", "shop")):
        code, _, errors = await hanbit("sandbox", *arguments, "--data", data)
        assert code != 0
        assert "is no sandbox" in errors
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hanbit", "serve", "--data", str(data), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async for line in process.stderr:
            if b"serving http" in line:
                break
        async with aiohttp.ClientSession() as http, http.get(f"{url}/sandbox") as answer:
            assert answer.status == 404
        for command in ("sandbox_clock", "sandbox_silence", "sandbox_order", "sandbox_payment"):
            reader, writer = await asyncio.open_unix_connection(str(data / "control"))
            writer.write(json.dumps({"command": command, "arguments": {}}).encode() + b"\n")
            assert json.loads(await reader.readline())["code"] == "bad_input"
            writer.close()
    finally:
        process.terminate()
        await process.communicate()
