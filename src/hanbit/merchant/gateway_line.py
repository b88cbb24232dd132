"""The shop's ways to the gateway as one line: the connection that it keeps up, else POST to the gateway's address."""

import asyncio
from collections.abc import Callable

from hanbit.kernel.errors import Unavailable
from hanbit.line.connection import Limits
from hanbit.line.post import PostWay
from hanbit.merchant.line_client import LineClient
from hanbit.protocols.line import HelloFromGateway


class GatewayLine:
    """What `Shop` asks and tells by; `connected` is set while there is a way. A shop that never dials has POST alone."""

    def __init__(
        self,
        client: LineClient | None,
        post: PostWay | None,
        *,
        on_connected: Callable[[HelloFromGateway], None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`on_connected` is called when POST comes up; the client calls its own."""
        self.connected = asyncio.Event()
        self.client = client
        self.post = post
        self._on_connected = on_connected
        self._limits = limits or Limits()
        self._greeter: asyncio.Task[None] | None = None
        if client is not None:
            client.on_change = self._look

    async def start(self) -> None:
        """Begin to dial, and to greet by POST while the connection is not up."""
        if self.client is not None:
            await self.client.start()
        if self.post is not None and self._greeter is None:
            self._greeter = asyncio.get_running_loop().create_task(self._keep_greeting(self.post))

    async def stop(self) -> None:
        """Hang up everywhere."""
        greeter, self._greeter = self._greeter, None
        if greeter is not None:
            greeter.cancel()
            await asyncio.gather(greeter, return_exceptions=True)
        if self.client is not None:
            await self.client.stop()
        if self.post is not None:
            await self.post.close()
        self.connected.clear()

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        """Send a request and return the unverified answer: by the connection if it is up, else by POST; Unavailable if there is no way."""
        client = self._connection()
        if client is not None:
            return await client.ask(message, timeout_s=timeout_s)
        post = self._open_post()
        try:
            return await post.ask(message, timeout_s or self._limits.answer_s)
        finally:
            self._look()

    async def tell(self, message: str) -> None:
        """Send what nothing here waits for."""
        client = self._connection()
        if client is not None:
            await client.tell(message)
            return
        post = self._open_post()
        try:
            await post.tell(message)
        finally:
            self._look()

    def redial(self) -> None:
        """Hang up and dial again, with the certificate that is in use now; POST makes a connection for each frame or finds it closed."""
        if self.client is not None:
            self.client.redial()

    @property
    def offset_s(self) -> int | None:
        """The gateway's clock minus ours at the last hello."""
        way = self._connection() or self.post or self.client
        return None if way is None else way.offset_s

    @property
    def round_trip_s(self) -> float | None:
        """Of the way that is used now."""
        way = self._connection() or self.post
        return None if way is None else way.round_trip_s

    @property
    def down_reason(self) -> str:
        """Why there is no way; empty while there is one."""
        if self.connected.is_set():
            return ""
        return "; ".join(way.down_reason for way in (self.client, self.post) if way is not None)

    def _connection(self) -> LineClient | None:
        return self.client if self.client is not None and self.client.connected.is_set() else None

    def _open_post(self) -> PostWay:
        if self.post is None or self.post.is_up is False:
            raise Unavailable(f"the line to the payment server is down: {self.down_reason}")
        return self.post

    def _look(self) -> None:
        """One way is enough."""
        if self._connection() is not None or (self.post is not None and self.post.is_up):
            self.connected.set()
        else:
            self.connected.clear()

    async def _keep_greeting(self, post: PostWay) -> None:
        while True:
            if self._connection() is None and post.is_due():
                greeting = await post.greet()
                self._look()
                if greeting is not None and self._on_connected is not None:
                    self._on_connected(greeting.hello)
            await asyncio.sleep(self._limits.ping_s if post.is_up else self._limits.backoff_max_s)
