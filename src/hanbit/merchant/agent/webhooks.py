"""Standard Webhooks: what is signed, the three headers, and the one way in which the shop's address is called.

webhook-id          the event's own id, the same on every try: the shop's idempotency key
webhook-timestamp   whole seconds of this try; the shop refuses what is more than five minutes away
webhook-signature   `v1,<base64 HMAC-SHA256(secret, id.timestamp.body)>`, one for each secret, with spaces between
"""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from hanbit import __version__
from hanbit.crypto.envelopes import mac
from hanbit.kernel.clock import Clock
from hanbit.loopback import LoopbackResolver

CALL_WITHIN_S: Final = 10.0
"""For one call of an endpoint, from the name to the last byte."""
CONNECT_WITHIN_S: Final = 5.0
ANSWER_MAX: Final = 16 * 1024
"""Bytes that are read of an endpoint's answer."""
CONNECTIONS_MAX: Final = 64
ERROR_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Called:
    """How one call went: the HTTP status and what came with it, or why there is none."""

    duration_ms: int
    status: int | None = None
    content: bytes = b""
    error: str | None = None

    @property
    def taken(self) -> bool:
        """Only 2xx: a redirect is an answer like any other and is not followed."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - HTTP's 2xx


def signature(secrets: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """The header webhook-signature."""
    signed = b".".join((event_id.encode("ascii"), str(timestamp).encode("ascii"), body))
    return " ".join("v1," + base64.b64encode(mac(secret, signed)).decode("ascii") for secret in secrets)


class Caller:
    """Calls the shop's endpoints: no redirect, no cookie, no proxy, no compressed answer; `.localhost` is this computer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), limit=CONNECTIONS_MAX)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=CALL_WITHIN_S, sock_connect=CONNECT_WITHIN_S),
            headers={"Accept-Encoding": "identity", "User-Agent": f"hanbit-merchant-agent/{__version__}"},
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(self, url: str, secrets: Sequence[bytes], *, event_id: str, body: bytes, within_s: float, read: bool = False) -> Called:
        """Send one event; its content is read only where somebody wants it (`read`)."""
        assert self._session is not None
        timestamp = self._clock.now()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(secrets, event_id, timestamp, body),
        }
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with (
                asyncio.timeout(within_s),
                self._session.post(URL(url, encoded=True), data=body, headers=headers, allow_redirects=False) as answer,
            ):
                content = await _content(answer) if read else b""
                return Called(_ms(loop.time() - began), answer.status, content)
        except TimeoutError:
            return Called(_ms(loop.time() - began), error="no answer in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Called(_ms(loop.time() - began), error=f"{type(error).__name__}: {error}"[:ERROR_MAX])


async def _content(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > ANSWER_MAX:
            raise aiohttp.ClientPayloadError(f"an answer of more than {ANSWER_MAX} bytes")
    return bytes(content)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
