"""`/healthz` (the process answers), `/readyz` (it can take a payment now), and the measuring of every request."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hanbit.db.commit import WAITING_MAX
from hanbit.metrics import Metrics
from hanbit.payments.gateway import Gateway


def routes(gateway: Gateway, *, is_ready: Callable[[], bool]) -> list[BaseRoute]:
    """The two addresses; they tell nothing but yes or no."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        readable = gateway.reader.one("SELECT 1 FROM book WHERE id = 1") is not None
        ready = readable and is_ready() and gateway.book.waiting < WAITING_MAX // 2
        return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


class Measured:
    """Counts every answered request with its route's pattern, its status and the time it took."""

    def __init__(self, app: ASGIApp, metrics: Metrics, monotonic: Callable[[], float]) -> None:
        self._app = app
        self._metrics = metrics
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = self._monotonic(), 500

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            route = scope.get("route")
            self._metrics.request(getattr(route, "path", "other"), status, self._monotonic() - started)
