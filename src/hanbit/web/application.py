"""The sites put together: guard, limits, every address; the customers' with the two that say whether the server is up, and the consoles."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from hanbit.kernel.errors import Unavailable
from hanbit.payments.gateway import Gateway
from hanbit.web import faults
from hanbit.web.customer.enrolment import EnrolmentFace
from hanbit.web.customer.forgotten import ForgottenFace
from hanbit.web.customer.home import HomeFace
from hanbit.web.customer.purchase import PurchaseFace
from hanbit.web.customer.routes import CustomerFace
from hanbit.web.customer.window import WindowFace
from hanbit.web.merchant.routes import MerchantFace
from hanbit.web.operator.routes import OperatorFace
from hanbit.web.pages import Pages
from hanbit.web.security import Guard, Limits
from hanbit.web.visitors import Forwarded, Proxies


class RequestMetrics(Protocol):
    """What counts requests; `metrics.Metrics` is it."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the pattern, never the address."""
        ...


@dataclass(frozen=True, slots=True)
class Extension:
    """What one operator's site has beside every other's: further addresses, and layers just around the router."""

    routes: Callable[[Pages], list[BaseRoute]]
    layers: tuple[Middleware, ...]


class Site(Starlette):
    """The framework's router under our own guard: the guard answers for every error, so no other layer stands between the two."""

    def build_middleware_stack(self) -> ASGIApp:
        """What `user_middleware` names around the router, and nothing else."""
        app: ASGIApp = self.router
        for layer in reversed(self.user_middleware):
            app = layer.cls(app, *layer.args, **layer.kwargs)
        return app


def create(gateway: Gateway, metrics: RequestMetrics, *, is_ready: Callable[[], bool], extension: Extension | None = None) -> Starlette:
    """The ASGI application of the customers' site."""
    face = CustomerFace(gateway)

    async def healthz(_: Request) -> Response:
        """The process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        """The book can be read and the background work is alive."""
        if not is_ready() or gateway.reader.one("SELECT 1 FROM book") is None:
            raise Unavailable("not ready")
        return PlainTextResponse("ready\n")

    routes = [
        *face.routes(),
        *PurchaseFace(face).routes(),
        *WindowFace(face).routes(),
        *EnrolmentFace(gateway).routes(),
        *HomeFace(face).routes(),
        *ForgottenFace(face).routes(),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
    ]
    routes += extension.routes(face.pages) if extension is not None else []
    settings = gateway.settings
    forwarded = Middleware(Forwarded, proxies=Proxies(settings.trusted_proxies))
    guard = Middleware(Guard, origin=face.origin, answer=partial(faults.answer, face.pages), routes=routes, observe=metrics.request)
    limits = Middleware(Limits, per_address_max=settings.connections_per_address)
    layers = extension.layers if extension is not None else ()
    site = Site(routes=routes, middleware=[forwarded, guard, limits, *layers])
    site.router.redirect_slashes = False
    return site


def create_console(gateway: Gateway, metrics: RequestMetrics, face: str) -> Starlette:
    """The ASGI application of one console, "operator" or "merchant"."""
    console = (OperatorFace if face == "operator" else MerchantFace)(gateway).console
    settings = gateway.settings

    def observe(route: str, status: int, seconds: float) -> None:
        metrics.request(f"{face} {route}", status, seconds)

    forwarded = Middleware(Forwarded, proxies=Proxies(settings.trusted_proxies))
    guard = Middleware(Guard, origin=console.origin, answer=console.answer, routes=console.routes, forms=True, observe=observe)
    limits = Middleware(Limits, per_address_max=settings.connections_per_address)
    site = Site(routes=console.routes, middleware=[forwarded, guard, limits])
    site.router.redirect_slashes = False
    return site
