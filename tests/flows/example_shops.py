"""The shops of examples/ as their guide starts them: an enrolled folder, `hanbit merchant serve` beside it, and the shop's own program."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from hanbit.crypto import certificates
from hanbit.demo.world import Ports, World, _is_ok, _line_is_up, _process, _wait_for
from hanbit.folder import KEYS_FOLDER
from hanbit.kernel import ids
from hanbit.kernel.clock import SystemClock
from hanbit.merchant import enrolment
from tests.unit.merchant.agent.support import register

EXAMPLES: Final = Path(__file__).parent.parent.parent / "examples"
KINDS: Final = ("node", "php")
EVENTS: Final = ["order.settled", "order.voided", "order.closed", "order.cancelled", "order.refunded", "order.confirm"]


def program(kind: str, port: int) -> list[str]:
    """How the shop is started; skipped where this machine has no such language."""
    found = shutil.which(kind)
    if found is None:
        if os.environ.get("HANBIT_REQUIRE_PROGRAMS"):
            pytest.fail(f"{kind} is missing and HANBIT_REQUIRE_PROGRAMS is set")
        pytest.skip(f"{kind} is missing; `make test` installs it where it may")
    if kind == "node":
        return [found, str(EXAMPLES / "shop-node/shop.mjs")]
    return [found, "-S", f"127.0.0.1:{port}", str(EXAMPLES / "shop-php/index.php")]


@dataclass(frozen=True)
class ExampleShop:
    """A shop that runs, its agent, and what a test needs to play either of them false."""

    kind: str
    id: str
    url: str
    agent: str
    keys: Path
    book_file: Path
    http: aiohttp.ClientSession

    @property
    def book(self) -> dict[str, Any]:
        """What the shop has written down of each order."""
        return dict(json.loads(self.book_file.read_text("utf-8"))) if self.book_file.exists() else {}

    async def cancel(self, tid: str, token: str | None = None) -> tuple[int, str]:
        """What the shop's staff do, with their token or another one."""
        right = (self.keys / "staff.token").read_text("ascii").strip()
        headers = {"Authorization": f"Bearer {right if token is None else token}"}
        async with self.http.post(f"{self.url}/staff/cancel?TID={tid}", headers=headers) as answer:
            return answer.status, (await answer.text()).strip()

    async def ask_agent(self, path: str) -> Any:
        token = (self.keys / "agent.token").read_text("ascii").strip()
        async with self.http.get(self.agent + path, headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    @property
    def secrets(self) -> list[str]:
        """What the agent signs call-backs with, the newest first."""
        return (self.keys / "callbacks/shop.secret").read_text("ascii").split()

    async def call_back(
        self, event: dict[str, Any], *, event_id: str = "evt_1", at: int | None = None, secret: str = "", **changes: str
    ) -> tuple[int, str]:
        """Call the shop as its agent would; `changes` replace headers after they were made."""
        body = json.dumps(event).encode()
        timestamp = str(SystemClock().now() if at is None else at)
        key = base64.b64decode((secret or self.secrets[0]).removeprefix("whsec_"))
        mac = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        } | {name.replace("_", "-"): value for name, value in changes.items()}
        async with self.http.post(f"{self.url}/hanbit", data=body, headers=headers) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def _group(start: list[str], environment: dict[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program in a process group of its own that ends with us: PHP's workers outlive a signal to their master alone."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *start,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 20)


@asynccontextmanager
async def example_shop(world: World, directory: Path, kind: str, *, stock: int = 20) -> AsyncIterator[ExampleShop]:
    """Register and enrol a new merchant, start its agent and this shop, and stop both again."""
    ports = Ports.free()
    start = program(kind, ports.pay)
    http = next(iter(world.shops.values())).http
    shop_id = f"spare-{secrets.token_hex(4)}"
    url, agent, keys = f"http://{shop_id}.localhost:{ports.pay}", f"http://127.0.0.1:{ports.line}", directory / shop_id
    registered = await world.command("create_merchant", id=shop_id, name="노래 가게", telephone="02-555-0400", return_url=f"{url}/return")
    pin = ids.digest(certificates.load_chain_pem(world.data / KEYS_FOLDER / "root.pem")[0])
    await enrolment.enrol(keys, world.settings.public_url, registered["code"], pin=pin, clock=SystemClock())
    register(keys, ("shop", f"{url}/hanbit", EVENTS))
    (keys / "staff.token").write_text(secrets.token_urlsafe() + "\n", "ascii")
    book = directory / f"{shop_id}-book.json"
    environment = {
        "HANBIT_KEYS": str(keys),
        "HANBIT_AGENT": agent,
        "SHOP_URL": url,
        "SHOP_PORT": str(ports.pay),
        "SHOP_BOOK": str(book),
        "SHOP_STAFF": str(keys / "staff.token"),
        "SHOP_STOCK": str(stock),
        "PHP_CLI_SERVER_WORKERS": "4",
    }
    serve = [sys.executable, "-m", "hanbit", "merchant", "serve", str(keys), "--listen", f"127.0.0.1:{ports.line}"]
    async with contextlib.AsyncExitStack() as stack:
        agent_log, shop_log = directory / f"{shop_id}-agent.log", directory / f"{shop_id}-shop.log"
        served = await stack.enter_async_context(_process(serve, agent_log))
        await _wait_for(http, f"{agent}/health", _line_is_up, agent_log, served)
        sold = await stack.enter_async_context(_group(start, environment, shop_log))
        await _wait_for(http, url, _is_ok, shop_log, sold)
        yield ExampleShop(kind, shop_id, url, agent, keys, book, http)


@asynccontextmanager
async def shop_without_agent(directory: Path, kind: str, http: aiohttp.ClientSession, *, stock: int = 20) -> AsyncIterator[ExampleShop]:
    """The shop's own program alone: where its agent should be nobody listens."""
    ports, log, book = Ports.free(), directory / "shop.log", directory / "book.json"
    url, agent = f"http://shop.localhost:{ports.pay}", f"http://127.0.0.1:{ports.line}"
    (directory / "agent.token").write_text("t" * 43, "ascii")
    (directory / "callbacks").mkdir()
    (directory / "callbacks/shop.secret").write_text("whsec_bmV3IHNlY3JldCBvZiB0aGUgc2hvcCBmb3IgYSB0ZXN0", "ascii")
    environment = {
        "HANBIT_KEYS": str(directory),
        "HANBIT_AGENT": agent,
        "SHOP_URL": url,
        "SHOP_PORT": str(ports.pay),
        "SHOP_BOOK": str(book),
    }
    environment["SHOP_STOCK"] = str(stock)
    async with _group(program(kind, ports.pay), environment, log) as process:
        await _wait_for(http, url, _is_ok, log, process)
        yield ExampleShop(kind, "shop", url, agent, directory, book, http)


async def until_book(shop: ExampleShop, tid: str, state: str) -> None:
    """The call-back has come and is written down."""
    async with asyncio.timeout(20):
        while shop.book.get(tid, {}).get("state") != state:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
