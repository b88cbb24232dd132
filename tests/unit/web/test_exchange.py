"""Head and body leave together: an application that fails before them is answered with 500, and after a first part the connection ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from starlette.types import Message, Receive, Scope, Send

from hanbit.kernel.clock import SystemClock
from hanbit.web.serving import bind, serving
from hanbit.web.visitors import Places, Proxies
from tests.waiting import PATIENCE_S

Part = Message | None
HEAD: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4"), (b"x-secret", b"half")]}
CHUNKED: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b"done"}
LONGER: Message = {"type": "http.response.body", "body": b"longer than it says"}
FIRST: Message = {"type": "http.response.body", "body": b"do", "more_body": True}
Ask = Callable[[], Awaitable[bytes]]


@pytest_asyncio.fixture
async def ask(request: pytest.FixtureRequest) -> AsyncIterator[Ask]:
    """What is heard, until the server hangs up or is heard out, of an application that sends these parts; None: it fails."""
    parts: tuple[Part, ...] = request.param

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        for part in parts:
            if part is None:
                raise LookupError("a bug of ours")
            await send(part)

    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]

    async def exchange() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()
        finally:
            writer.close()

    async with serving(application, listener, clock=SystemClock(), places=Places(10, 10, Proxies(()))):
        yield exchange


@pytest.mark.parametrize("ask", [(None,), (HEAD, None), (CHUNKED, None), (HEAD,), (CHUNKED,), (), (HEAD, LONGER)], indirect=True)
async def test_who_fails_before_a_byte_has_left_is_answered_with_500(ask: Ask) -> None:
    head, _, body = (await ask()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 "), head
    assert body == b"Internal Server Error"
    assert b"content-length: 21" in head.lower()
    assert b"half" not in head, "of the answer that was begun nothing is left"
    assert b"chunked" not in head


@pytest.mark.parametrize("ask", [(HEAD, FIRST, None), (HEAD, FIRST), (CHUNKED, FIRST, None)], indirect=True)
async def test_who_fails_behind_a_first_part_ends_the_connection_so_that_nobody_takes_it_for_whole(ask: Ask) -> None:
    said = await ask()
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1") == 1
    assert not said.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("ask", [(HEAD, BODY)], indirect=True)
async def test_a_whole_answer_is_as_it_was_sent(ask: Ask) -> None:
    head, _, body = (await ask()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"done"
