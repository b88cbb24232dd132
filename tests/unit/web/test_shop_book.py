"""Call-backs as the merchants' console tells them: what a real call of a real endpoint fails with has words of its own."""

import asyncio
import socket

import pytest

from hanbit.kernel.clock import SystemClock
from hanbit.merchant.agent.webhooks import CALL_WITHIN_S, Caller
from hanbit.protocols.console import CallBack
from hanbit.web.merchant.shop_book import how_it_went
from hanbit.web.words import LANGUAGES, catalogue

pytestmark = pytest.mark.asyncio


async def went(caller: Caller, url: str) -> str:
    """As `hanbit merchant serve` tells the gateway of it."""
    called = await caller.call(url, [b"secret"], event_id="evt_1", body=b"{}", within_s=CALL_WITHIN_S)
    error = None if called.error is None else called.error.partition(":")[0]
    told = CallBack(
        delivery="evt_1",
        endpoint="shop",
        type="agent.test",
        state="waiting",
        created_at=1,
        tries=1,
        last_status=called.status,
        last_error=error,
    )
    return how_it_went(told)


async def test_a_server_that_is_not_there_or_hangs_up_is_told_by_what_it_did() -> None:
    async def hangs_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed: int = nobody.getsockname()[1]
    async with Caller(SystemClock()) as caller, await asyncio.start_server(hangs_up, "127.0.0.1") as server:
        hasty: int = server.sockets[0].getsockname()[1]
        assert await went(caller, f"http://127.0.0.1:{closed}/") == "unreachable"
        assert await went(caller, f"http://127.0.0.1:{hasty}/") == "broken"
        assert await went(caller, "http:///nowhere") == "no_address"


@pytest.mark.parametrize("status", [*range(100, 600), 999])
async def test_every_http_status_has_words_and_says_what_to_do(status: int) -> None:
    told = CallBack(delivery="evt_1", endpoint="shop", type="a", state="waiting", created_at=1, tries=1, last_status=status)
    name = how_it_went(told)
    assert (name == "taken") == (200 <= status < 300)
    for language in LANGUAGES:
        assert catalogue(language)[f"merchant.callbacks.went.{name}"]
        assert name == "taken" or catalogue(language)[f"merchant.callbacks.do.{name}"]
