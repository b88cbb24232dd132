"""A real agent on a loopback port around a shop in memory, its caller, and an endpoint of the shop that notes what it gets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from hanbit.merchant.agent import secret_files, serve
from hanbit.merchant.agent.serve import Running, read_listen
from hanbit.merchant.shop import Shop
from tests.unit.merchant.support import RETURN_URL, GatewayLine, Parties

ORDER: dict[str, Any] = {
    "lines": [{"item": "SK휴대폰 IM-1100", "quantity": 1, "price_minor": 220_000}],
    "amount": "220000",
    "currency": "KRW",
    "text": "IM-1100",
    "return_url": RETURN_URL,
}
PATIENCE_S = 20


@dataclass(frozen=True)
class Got:
    """An answer of the agent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Agent:
    """A running agent and whoever calls it with its token."""

    running: Running
    directory: Path
    session: aiohttp.ClientSession
    token: str
    keys: int = 0

    @property
    def shop(self) -> Shop:
        return self.running.shop

    async def call(self, method: str, path: str, *, token: str | None = "", **options: Any) -> Got:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers.setdefault("Authorization", f"Bearer {token or self.token}")
        async with self.session.request(method, f"{self.running.address}{path}", headers=headers, **options) as answer:
            return Got(answer.status, dict(answer.headers), await answer.read())

    async def get(self, path: str, **options: Any) -> Got:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, *, key: str | None = "", **options: Any) -> Got:
        """A write; each has a key of its own unless one is given, None sends none."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            self.keys += 1
            headers["Idempotency-Key"] = key or f"key-{self.keys}"
        content = {} if body is None else {"json": body}
        return await self.call("POST", path, headers=headers, **content, **options)

    async def place(self, **changes: Any) -> str:
        got = await self.post("/orders", {**ORDER, **changes})
        assert got.status == 201, got
        return str(got.json["tid"])

    async def placed(self) -> int:
        """How many orders the book has."""
        return len(await self.shop.book.unfinished(1000))


@asynccontextmanager
async def agent_of(parties: Parties, directory: Path, *, listen: str = "127.0.0.1:0") -> AsyncIterator[Agent]:
    """The agent as `hanbit merchant serve` runs it, its shop's line in memory."""
    async with serve.around(partial(parties.open_shop, directory), directory, read_listen(listen), parties.clock) as running:
        running.shop.line = GatewayLine(parties)
        async with aiohttp.ClientSession() as session:
            token = (directory / secret_files.TOKEN_FILE).read_text("ascii").strip()
            yield Agent(running, directory, session, token)


@dataclass
class Received:
    """One call of an endpoint."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """The shop's endpoint; `answer` decides how each call goes."""

    url: str = ""
    calls: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Awaitable[web.StreamResponse]] | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        received = Received({name.lower(): value for name, value in request.headers.items()}, await request.read())
        async with self.changed:
            self.calls.append(received)
            self.changed.notify_all()
        return web.Response(status=204) if self.answer is None else await self.answer(received)

    async def until(self, count: int) -> list[Received]:
        """Wait for so many calls."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: len(self.calls) >= count)
            return list(self.calls)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server of the shop on a free port."""
    made = Receiver()
    runner = web.ServerRunner(web.Server(made.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://shop.localhost:{port}/hanbit"
    assert host == "127.0.0.1"
    try:
        yield made
    finally:
        await runner.cleanup()


def register(directory: Path, *endpoints: tuple[str, str, list[str] | None]) -> None:
    """Write agent.toml."""
    parts = []
    for name, url, events in endpoints:
        part = f'[[endpoints]]\nname = "{name}"\nurl = "{url}"\n'
        parts.append(part if events is None else f"{part}events = {json.dumps(events)}\n")
    (directory / "agent.toml").write_text("\n".join(parts), "utf-8")
