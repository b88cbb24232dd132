"""Leave to refund a payment whose order's deadline has passed: /payments/{id}/allow-refund. The shop itself asks for the refund then."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from hanbit.payments import operations
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed, Field
from hanbit.web.forms import day_ends, is_day
from hanbit.web.payment_pages import shown_payment


class RefundPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        deeds.at(console, "/payments/{id}/allow-refund", self._allow)

    def _allow(self, request: Request) -> Deed:
        payment = shown_payment(self.console, request)
        zone = self.gateway.settings.zone
        latest = self.console.at + operations.ALLOWANCE_MAX_S

        async def do(by: str, form: Mapping[str, str]) -> Response:
            until = str((day_ends(form["until"], zone) or 0) - 1)
            values = {"merchant": payment.merchant, "tid": payment.tid, "until": until}
            await operations.allow_refund(self.gateway, by, **values, reason=form["reason"])
            return self.console.see(f"/payments/{payment.id}", "operator.deed.done.allow", name=payment.payee)

        good = (
            (is_day, "console.field.day"),
            (lambda text: self.console.at < (day_ends(text, zone) or 0) <= latest, "operator.field.until"),
        )
        fields = (Field("until", "operator.refund.until", good, "date"),)
        return Deed("operator.deed.allow", f"/payments/{payment.id}", fields, do, {"name": payment.payee})
