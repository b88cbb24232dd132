"""The customer's own calls in a dual-signature checkout: the grant before it (D4), and what became of it (D8), which no shop can hide.

POST /pay/grant         a live session: leave to try one payment of this order, once
POST /purchase/result   signed by the key that bought: approved with the receipt, declined and why, or not heard of
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hanbit.kernel.errors import ProtocolViolation
from hanbit.payments import grants, purchase_result
from hanbit.payments.open_order import reopen
from hanbit.web.customer.forms import JOSE, KeyForm, read_body, read_form
from hanbit.web.customer.routes import CustomerFace
from hanbit.web.faults import json_response


class PurchaseFace:
    """The handlers, beside those of the page whose sessions they share."""

    def __init__(self, face: CustomerFace) -> None:
        self.face = face
        self.gateway = face.gateway

    def routes(self) -> list[BaseRoute]:
        """The addresses of this module."""
        return [
            Route("/pay/grant", self.give_grant, methods=["POST"]),
            Route("/purchase/result", self.tell_result, methods=["POST"]),
        ]

    async def give_grant(self, request: Request) -> Response:
        """D4: the window hands the gateway the order; what is told back is told once."""
        form = await read_form(request, KeyForm)
        who = await self.face.signed_in(request)
        opening = reopen(self.gateway, mid=form.merchant_id, tid=form.tid, amount=form.amount, order=form.order, keys=form.keys)
        grant = await grants.give(self.gateway, opening, who, unverified_key=form.key)
        return json_response({"grant": grant, "expires_at": opening.pay_by})

    async def tell_result(self, request: Request) -> Response:
        """D8: a `result-request` as it was signed (application/jose), answered `result`; writes nothing."""
        unverified = await read_body(request, JOSE)
        try:
            compact = unverified.decode("ascii")
        except UnicodeError as error:
            raise ProtocolViolation("shape", "not ASCII") from error
        return Response(purchase_result.result(self.gateway, compact), media_type=JOSE)
