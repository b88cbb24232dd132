"""The customers' site put together: guard, limits, routes."""

from collections.abc import Iterable
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from hanbit.payments.gateway import Gateway
from hanbit.web import faults
from hanbit.web.customer.enrolment import EnrolmentFace
from hanbit.web.customer.routes import CustomerFace
from hanbit.web.security import Guard, Limits


def customer_site(gateway: Gateway, *, test_mode: bool = False, beside: Iterable[BaseRoute] = ()) -> Starlette:
    """The ASGI application of the customers' site; `beside` are the server's own addresses (health)."""
    face = CustomerFace(gateway, test_mode=test_mode)
    site = Starlette(
        routes=[*face.routes(), *EnrolmentFace(gateway).routes(), *beside],
        middleware=[Middleware(Guard, origin=face.origin, answer=partial(faults.answer, face.pages)), Middleware(Limits)],
        exception_handlers={HTTPException: faults.translate},
    )
    site.router.redirect_slashes = False
    return site
