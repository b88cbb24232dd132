"""The conformance kit as a developer uses it: commands of their own against the merchant's agent as a process, dialling and by POST."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hanbit.demo.world import Ports
from hanbit.merchant.probe.table import CASES

CART = {
    "lines": [{"item": "phone", "quantity": 1, "price_minor": 220_000}],
    "amount": "220000",
    "currency": "KRW",
    "text": "phone",
    "return_url": "https://shop.localhost/orders",
}
SOME = ("confirms", "settles", "amount_lower", "by_revoked", "altered", "oversize", "settled_unasked", "closed_foreign", "still_settles")
CARELESS = """
from hanbit.protocols.redirect.merchant import Merchant
compare = Merchant.compare
Merchant.compare = lambda *given, **at: None if compare(*given, **at) == "amount_mismatch" else compare(*given, **at)
from hanbit.cli import main
main()
"""
"""The same agent, in which the amount of a notice is not compared."""


async def hanbit(*words: object, given: str = "", status: int = 0) -> str:
    """Run a command to its end; its standard output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hanbit", *map(str, words)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(given.encode()), 400)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == status, errors.decode()
    return output.decode()


@dataclass(frozen=True)
class Place:
    """An enrolled shop's folder, the probe's, and where they meet."""

    folder: Path
    line: int
    agent: int
    post: int

    async def probe(self, *options: str, post: bool = False, status: int = 0) -> Any:
        address = f"https://127.0.0.1:{self.post}/line" if post else f"127.0.0.1:{self.line}"
        orders = f"http://127.0.0.1:{self.agent}/orders"
        told = await hanbit(
            *("merchant", "probe", address, "--directory", self.folder / "probe", "--json", "--wait", "1.5"),
            *("--token-file", self.folder / "shop/agent.token", "--order-url", orders, "--order-body", self.folder / "order.json"),
            *("--state-url", f"{orders}/{{tid}}", "--inquire-url", f"{orders}/{{tid}}/inquiries"),
            *options,
            status=status,
        )
        return json.loads(told)

    @asynccontextmanager
    async def agent_runs(self, *, post: bool = False, program: tuple[str, ...] = ("-m", "hanbit")) -> AsyncIterator[None]:
        way = ("--post-listen", f"127.0.0.1:{self.post}", "--no-dial") if post else ()
        with (self.folder / "agent.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *program, "merchant", "serve", str(self.folder / "shop"), "--listen", f"127.0.0.1:{self.agent}", *way),
                stderr=log,
            )
        try:
            async with asyncio.timeout(20):
                while not await self._answers():  # noqa: ASYNC110 - what is waited for happens in another process
                    await asyncio.sleep(0.05)
            yield
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.agent)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """`probe init`, then `merchant enrol` at `probe enrol`, as two processes that meet."""
    made, desk = Place(tmp_path, Ports.free().pay, Ports.free().pay, Ports.free().pay), Ports.free().pay
    probe = tmp_path / "probe"
    told = json.loads(await hanbit("merchant", "probe", "init", probe, "--line", f"127.0.0.1:{made.line}", "--json"))
    waiting = asyncio.create_task(
        hanbit("merchant", "probe", "enrol", "--directory", probe, "--listen", f"127.0.0.1:{desk}", "--wait", "60")
    )
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", desk)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            await writer.wait_closed()
            break
    gateway, pin = f"http://127.0.0.1:{desk}", told["pin"]
    await hanbit("merchant", "enrol", tmp_path / "shop", "--gateway", gateway, "--pin", pin, "--code-fd", 0, given=told["code"])
    assert f"dials 127.0.0.1:{made.line}" in await waiting
    (tmp_path / "order.json").write_text(json.dumps(CART), "utf-8")
    return made


def only(*names: str) -> list[str]:
    return [word for name in names for word in ("--only", name)]


@pytest.mark.parametrize("post", [False, True])
async def test_the_agent_takes_nothing_wrongly(place: Place, post: bool) -> None:
    async with place.agent_runs(post=post):
        told = await place.probe(*only(*SOME), post=post)
    verdicts = {case["name"]: case["verdict"] for case in told["cases"]}
    controls = {"confirms", "settles", "still_settles"}
    assert verdicts == {name: "passed" if name in controls else "refused" for name in SOME}
    assert told["accepted_wrongly"] == told["control_failed"] == []
    sent = [evidence for case in told["cases"] for evidence in case["evidence"] if evidence["forged"]]
    assert len(sent) == len(SOME) - len(controls)
    assert all(evidence["sent"] and evidence["answers"] for evidence in sent)


@pytest.mark.long
@pytest.mark.parametrize("post", [False, True])
async def test_the_agent_takes_nothing_wrongly_in_any_case(place: Place, post: bool) -> None:
    async with place.agent_runs(post=post):
        told = await place.probe(post=post)
    dialled = {case.name for case in CASES if case.dials}
    assert {case["name"] for case in told["cases"] if case["verdict"] == "not_tried"} == (dialled if post else set())
    assert {case["verdict"] for case in told["cases"]} <= {"passed", "refused", "no_answer", "not_tried"}


async def test_an_agent_that_compares_no_amounts_is_told_so_and_the_exit_status_says_it(place: Place) -> None:
    async with place.agent_runs(program=("-c", CARELESS)):
        told = await place.probe(*only("confirms", "amount_lower", "amount_higher", "currency"), status=1)
    assert told["accepted_wrongly"] == ["amount_lower", "amount_higher"]
    (case,) = (case for case in told["cases"] if case["name"] == "amount_lower")
    assert case["detail"] == "it signed hanbit-confirmation"
    assert case["rule"] == "R9: amount compared"


async def test_orders_come_from_a_program_too_and_the_table_says_what_to_mend(place: Place) -> None:
    """Without the shop's own view acceptance is judged by what it signs, and what needs the shop to ask is not tried."""
    script = place.folder / "order.py"
    token = (place.folder / "shop/agent.token").as_posix()
    script.write_text(
        "import json, pathlib, secrets, urllib.request\n"
        f"headers = {{'Authorization': 'Bearer ' + pathlib.Path({token!r}).read_text().strip(), 'Content-Type': 'application/json',\n"
        "           'Idempotency-Key': secrets.token_hex(8)}\n"
        f"body = pathlib.Path({(place.folder / 'order.json').as_posix()!r}).read_bytes()\n"
        f"asked = urllib.request.Request('http://127.0.0.1:{place.agent}/orders', body, headers)\n"
        "print('Location:', json.load(urllib.request.urlopen(asked))['redirect'])\n",
        "utf-8",
    )
    async with place.agent_runs(program=("-c", CARELESS)):
        shown = await hanbit(
            *("merchant", "probe", f"127.0.0.1:{place.line}", "--directory", place.folder / "probe", "--wait", "1.5"),
            *("--order-command", f"{sys.executable} {script}", *only("confirms", "amount_lower", "answer_without_proof")),
            status=1,
        )
    assert "accepted wrongly" in shown
    assert "rule: R9: amount compared" in shown
    assert "3 cases: 1 accepted wrongly, 1 not tried, 1 passed" in shown


async def test_what_cannot_be_done_is_said_at_once(place: Place) -> None:
    empty = place.folder / "empty"
    run = ("merchant", "probe", f"127.0.0.1:{place.line}", "--order-command", "true")
    await hanbit(*run, "--directory", empty, status=1)
    await hanbit("merchant", "probe", "init", empty)
    await hanbit(*run, "--directory", empty, status=1)  # nobody has enrolled
    await hanbit("merchant", "probe", "init", empty, status=1)
    await hanbit(*run[:3], "--directory", place.folder / "probe", status=2)  # no orders
    await hanbit(*run, "--directory", place.folder / "probe", "--only", "no_such_case", status=2)
    listed = json.loads(await hanbit("merchant", "probe", "cases", "--json"))
    assert [case["name"] for case in listed["cases"]] == [case.name for case in CASES]
