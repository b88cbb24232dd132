"""The payment window of the dual-signature checkout: a page of the gateway's own origin that opens beside a shop's page.

GET  /button.js      the one script of a shop's page
GET  /window         the page; its order comes from the shop's page, never in the address
POST /window/open    R4 for that order: the opening, and the origins from which its payee may send it

Login and payment screen are R5 and R6 as in the redirect checkout (`/pay/login`, `/pay/screen`); the grant (D4) and the result (D8) are
`purchase.py`'s. What stands on this page about an order
is put there by its program, after the order's signature and the shop's origin were checked.
"""

import hashlib
import json
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from hanbit.kernel import ids
from hanbit.kernel.errors import NotAllowed, WrongState
from hanbit.kernel.money import CURRENCY_EXPONENTS
from hanbit.payments import redirect_flow, views
from hanbit.payments.open_order import NotOpened, Opening, open_order
from hanbit.payments.states import State
from hanbit.web.customer.forms import WindowForm, read_form
from hanbit.web.customer.outcomes import PAGES, page_of
from hanbit.web.customer.routes import CustomerFace, card_of_opening
from hanbit.web.faults import json_response, language_of, visit_of

BUTTON: Final = "button.js"
BUTTON_KEPT_S: Final = 3_600
"""How long a browser keeps the script before it asks whether it is still the same."""
KEEPS_OPENER: Final = "unsafe-none"
"""The one page that says so: `same-origin`, as on all others, would cut the window from the page that opened it, and
`same-origin-allow-popups` only speaks of windows that the page opens itself. What the opener can do to it: close it, or lead it elsewhere,
which the address bar shows. It can read nothing, being of another origin, and nothing that it sends is believed."""


class WindowFace:
    """The handlers of the payment window, beside those of the page that it shares its steps with."""

    def __init__(self, face: CustomerFace) -> None:
        self.face = face
        self.gateway = face.gateway
        self.button = face.assets.read(BUTTON)
        self.button_version = ids.encode_base64url(hashlib.sha256(self.button.content).digest())[:16]

    def routes(self) -> list[BaseRoute]:
        """The addresses of this module."""
        return [
            Route(f"/{BUTTON}", self.show_button),
            Route("/window", self.show_window),
            Route("/window/open", self.open_order, methods=["POST"]),
        ]

    async def show_button(self, request: Request) -> Response:
        """The same bytes for every operator; `?v=` with the present version may be kept for a year."""
        tag = f'"{self.button_version}"'
        kept = "31536000, immutable" if request.query_params.get("v") == self.button_version else str(BUTTON_KEPT_S)
        headers = {
            "Cache-Control": f"public, max-age={kept}",
            "ETag": tag,
            "Cross-Origin-Resource-Policy": "cross-origin",  # what shops' pages load, by name and with an `integrity` if they wish
            "Access-Control-Allow-Origin": "*",
        }
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(self.button.content, media_type=self.button.content_type, headers=headers)

    async def show_window(self, request: Request) -> Response:
        """An empty page with the payment program."""
        page = self.face.pages.render("window.html", visit_of(request, self.face.pages))
        return HTMLResponse(page, headers={"Cross-Origin-Opener-Policy": KEEPS_OPENER})

    async def open_order(self, request: Request) -> Response:
        """Opening an order writes nothing. One that has ended comes with its end: a window that is opened again shows the truth."""
        form = await read_form(request, WindowForm)
        try:
            opening = open_order(self.gateway, mid=form.mid, tid=form.tid, amount=form.amount, currency=form.currency, order=form.order)
        except NotOpened as error:
            await redirect_flow.keep_second_order(self.gateway, error)
            raise
        if opening.offer.order is None:
            raise NotAllowed("this shop's orders are not signed: it is paid at the payment page")
        ended = self._ended(request, opening)
        order = card_of_opening(opening)
        if ended is None:
            if self.gateway.clock.now() > opening.pay_by:
                raise WrongState("the time to pay for this order has passed")
            await self.face.not_now(request, opening, order)
        return json_response(
            {
                "opening": self.face.shown_opening(request, opening),
                "origins": json.loads(opening.merchant.return_origins),
                "exponent": CURRENCY_EXPONENTS[opening.offer.money.currency],
                "html": self.face.pages.fragment("stub.html", language_of(request, self.face.pages), order=order),
                "ended": ended,
            }
        )

    def _ended(self, request: Request, opening: Opening) -> dict[str, Any] | None:
        """What became of a payment that can be tried no more; the receipt for its own customer."""
        payment = opening.payment
        if payment is None or State(payment.state) in PAGES["login"]:
            return None
        who = self.face.visitor(request)
        owner = who is not None and payment.customer == who.customer.id
        page = page_of(State(payment.state), payment.reason, owner=owner)
        outcome = "already_paid" if page == "receipt" else page
        return {
            "state": payment.state,
            "payment": payment.id if owner else None,
            "receipt": views.receipt(self.gateway, payment) if owner else None,
            "html": self.face.pages.fragment("ended.html", language_of(request, self.face.pages), outcome=outcome),
        }
