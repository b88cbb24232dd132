"""A sandbox as a developer has it: made, served and enrolled at by the installed command; a shop's agent, and a shop that it calls."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from hanbit import control
from hanbit.cli.sandbox import _seconds
from hanbit.crypto import certificates
from hanbit.demo.world import Ports, _line_is_up
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import Unavailable
from hanbit.loopback import LoopbackResolver
from hanbit.merchant import files
from hanbit.sandbox import magic
from hanbit.sandbox.commands import COMMANDS
from hanbit.sandbox.trigger import play
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Opened, Outcome, Password, Screen, Wallet
from hanbit.wallet.store import Store
from tests import engine
from tests.flows.crash_processes import PATIENCE_S, PAUSE_S, Child, insist
from tests.unit.merchant.agent.support import Received, Receiver, receiver, register

EVENTS = ["order.settled", "order.voided", "order.closed", "order.cancelled", "order.refunded", "order.confirm"]
PRICE = 20_000
NO_CONSOLES = ("--console", "127.0.0.1:0", "--merchant-console", "127.0.0.1:0")
"""A console's port is the same on every machine: two tests beside each other must not both want it."""


async def hanbit(*arguments: str | Path, answers: str = "") -> tuple[int, str, str]:
    """The command as a process of its own: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hanbit", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200"},
    )
    out, errors = await asyncio.wait_for(process.communicate(answers.encode()), PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def good(*arguments: str | Path, answers: str = "") -> str:
    """The same, where it must succeed."""
    code, out, errors = await hanbit(*arguments, answers=answers)
    assert code == 0, out + errors
    return out


@dataclass
class Sandbox:
    """Everybody, awake."""

    data: Path
    shop_folder: Path
    url: str
    agent_url: str
    gateway: Child
    agent: Child
    shop: Receiver
    http: aiohttp.ClientSession
    wallets: Http
    keys: int = field(default=0)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The shop's own call to its agent."""
        token = (self.shop_folder / "agent.token").read_text("ascii").strip()
        self.keys += 1
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"key-{self.keys}"}
        async with self.http.request(method, self.agent_url + path, json=body, headers=headers) as answer:
            if answer.status == 503:
                raise Unavailable(await answer.text())
            found = await answer.json(content_type=None)
            assert answer.status < 300, found
            return found

    async def order(self, amount: int = PRICE) -> tuple[str, str]:
        """An order of this amount: its tid and its payment address."""
        placed = await self.call(
            "POST",
            "/orders",
            {
                "lines": [{"item": "phone", "quantity": 1, "price_minor": amount}],
                "amount": str(amount),
                "currency": "KRW",
                "text": "phone",
                "return_url": "http://shop.localhost:8402/orders",
            },
        )
        return placed["tid"], placed["redirect"]

    async def order_when_up(self, amount: int = PRICE) -> tuple[str, str]:
        """The same once the shop's line is up, and so its clock the gateway's."""
        async with asyncio.timeout(PATIENCE_S):
            while not (await control.run(self.data, "health"))["lines"]["shop"]["up"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(PAUSE_S)
        await self.agent.ready(self.http, _line_is_up)
        return await self.order(amount)

    async def state(self, tid: str) -> dict[str, Any]:
        """What the shop knows."""
        return dict(await insist(lambda: self.call("GET", f"/orders/{tid}")))

    def wallet(self) -> Wallet:
        """A customer's program, with nothing but the root pinned."""
        root = certificates.load_chain_pem(self.data / "keys/root.pem")[0]
        pin = Store(self.data.parent / "pins").trust(root, SystemClock().now())
        return Wallet.at(self.url, pin=pin, http=self.wallets, clock=SystemClock(), poll_s=0.1)

    async def log_in(self, wallet: Wallet, address: str, login: str = magic.PAYER) -> tuple[Opened, Screen]:
        """R4 to R6 of a magic customer."""
        opened = await wallet.open(address)
        person = next(one for one in magic.PEOPLE if one.login == login)
        return opened, await wallet.login(opened, person.login, person.password)

    async def pay(self, address: str, number: str = magic.ACCOUNTS[0].number, login: str = magic.PAYER) -> Outcome:
        """R4 to R9 by the account's own password; where it stands when the page answers."""
        wallet = self.wallet()
        opened, _ = await self.log_in(wallet, address, login)
        account = next(one for one in magic.ACCOUNTS if one.number == number)
        return await wallet.submit(opened, Password(account.password), number=number)

    async def until(self, tid: str, state: str) -> dict[str, Any]:
        """As soon as the shop has this word."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                order = await self.state(tid)
                if order["state"] == state:
                    return order
                await asyncio.sleep(PAUSE_S)

    async def told(self, tid: str, kind: str) -> Received:
        """The call-back of this kind about this order, as soon as the shop has it."""

        def found() -> list[Received]:
            return [call for call in self.shop.calls if (call.json["type"], call.json["data"].get("tid")) == (kind, tid)]

        async with asyncio.timeout(PATIENCE_S):
            while not found():  # noqa: ASYNC110 - what comes is another process's
                await asyncio.sleep(PAUSE_S)
        return found()[0]

    async def clock(self, by: str) -> dict[str, Any]:
        """What `hanbit sandbox clock` does."""
        return await control.run_of(COMMANDS, self.data, "sandbox_clock", {"by": str(_seconds(by))})

    async def trigger(self, event: str, **arguments: Any) -> dict[str, Any]:
        """What `hanbit sandbox trigger` does."""
        return await play(self.data, event, SystemClock(), merchant="shop", **arguments)

    async def until_renewed(self) -> None:
        """The shop has other keys than it was enrolled with."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = (await control.run(self.data, "list_parties", what="certificates"))["certificates"]
                if len([one for one in found if one["urn"].endswith(":merchant:shop")]) > len(files.PURPOSES):
                    return
                await asyncio.sleep(PAUSE_S)

    async def proven(self) -> None:
        """The money promises and the evidence log, from the store, while everybody goes on."""
        await good("ledger", "check", "--data", self.data)
        await good("evidence", "check", "--data", self.data)


async def prepare(folder: Path) -> Ports:
    """A sandbox with one merchant, enrolled, in this folder; nothing runs afterwards."""
    ports = Ports.free()
    url = f"http://pay.localhost:{ports.pay}"
    data, shop = folder / "data", folder / "shop"
    listen = ("--listen", f"127.0.0.1:{ports.pay}", "--line", f"127.0.0.1:{ports.line}", "--public-url", url, *NO_CONSOLES)
    book = ("--database", engine.database()) if engine.is_postgresql() else ()
    assert "TEST" in await good("init", data, "--sandbox", *listen, *book)
    gateway = Child("gateway", ["-m", "hanbit", "serve", "--data", str(data)], f"{url}/readyz", folder / "gateway.log")
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
    async with aiohttp.ClientSession(connector=connector) as http:
        try:
            await gateway.start()
            await gateway.ready(http)
            about = ("--name", "무지개 상점", "--telephone", "02-555-0100", "--return-url", "http://shop.localhost:8402/orders")
            made = json.loads(await good("merchant", "create", "shop", *about, "--data", data, "--json"))
            enrolled = ("merchant", "enrol", shop, "--gateway", url, "--pin", made["pin"], "--code-fd", "0")
            code, out, errors = await hanbit(*enrolled, answers=made["code"] + "\n")
            assert code == 0, errors
            assert "TEST" in errors
            assert "시험용" in out
        finally:
            if gateway.alive:
                await gateway.stop()
    return ports


def says_yes(shop: Receiver) -> None:
    """The shop's own say."""

    async def answer(received: Received) -> web.StreamResponse:
        return web.json_response({"confirm": True}) if received.json["type"] == "order.confirm" else web.Response()

    shop.answer = answer


@asynccontextmanager
async def sandbox(folder: Path, ports: Ports) -> AsyncIterator[Sandbox]:
    """Server, agent and shop on what `prepare` made; all are gone afterwards."""
    data, own = folder / "data", folder / "shop"
    url, agent_url = f"http://pay.localhost:{ports.pay}", f"http://127.0.0.1:{ports.shops[0]}"
    gateway = Child("gateway", ["-m", "hanbit", "serve", "--data", str(data)], f"{url}/readyz", folder / "gateway.log")
    serve = ["-m", "hanbit", "merchant", "serve", str(own), "--listen", f"127.0.0.1:{ports.shops[0]}"]
    agent = Child("agent", serve, f"{agent_url}/health", folder / "agent.log")
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
    timeout = aiohttp.ClientTimeout(total=40)
    async with receiver() as shop, aiohttp.ClientSession(connector=connector, timeout=timeout) as http, Http() as wallets:
        register(own, ("shop", shop.url, EVENTS))
        says_yes(shop)
        try:
            await gateway.start()
            await agent.start()
            await gateway.ready(http)
            await agent.ready(http, _line_is_up)
            yield Sandbox(data, own, url, agent_url, gateway, agent, shop, http, wallets)
        finally:
            for child in (agent, gateway):
                if child.alive:
                    await child.stop()
