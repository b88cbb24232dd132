"""Cancel and refund in the merchants' console: what is left, how much of it, why; the shop signs for it, and says what it did.

GET, POST  /payments/{id}/refund      the form; the request to the shop
POST       /requests/{id}/again       the same request once more, now
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotFound, WrongState
from hanbit.kernel.money import Money
from hanbit.payments import actors, console_requests
from hanbit.payments.console_requests import AlreadyAsked, ConsoleRequest
from hanbit.payments.payment import Payment
from hanbit.payments.staff import REASON_MAX
from hanbit.payments.states import State
from hanbit.web.account import Nothing
from hanbit.web.consoles import Console
from hanbit.web.forms import Errors, Line, fields_of, read_form
from hanbit.web.payment_pages import shown_payment

WHOLE, PART = "whole", "part"
CONFLICT = 409


class RefundForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is left, or a part, and why.

    `request` is the form's own number, so that sent twice it asks once; `left` is what it said was left, so that nobody gives back for a
    second time what somebody else gave back while he typed.
    """

    much: Line = WHOLE
    amount: Line = ""
    reason: Line = ""
    request: Line = ""
    left: Line = ""


class RefundPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/payments/{id}/refund", self.show)
        console.route("POST", "/payments/{id}/refund", self.refund)
        console.route("POST", "/requests/{id}/again", self.again)

    async def show(self, request: Request) -> Response:
        """How much is left is said, and how much is meant is asked for."""
        payment = shown_payment(self.console, request)
        waits = console_requests.still_waits(self.gateway.reader, payment)
        if waits is not None:
            return self._waits(request, payment, waits, 200)
        if console_requests.remaining(payment).amount_minor == 0:
            raise WrongState("nothing is left of this payment")
        return self._page(request, payment, RefundForm(request=ids.new_token()), Errors())

    async def refund(self, request: Request) -> Response:
        """The shop is asked; the payment's page says what it has answered."""
        form, payment, errors = await read_form(request, RefundForm), shown_payment(self.console, request), Errors()
        left = console_requests.remaining(payment)
        amount: Money | None = None
        errors.check("much", form.much in {WHOLE, PART}, "console.field.choice")
        if form.much == PART:
            amount = errors.amount("amount", form.amount, left.currency)
            errors.check("amount", amount is not None and amount <= left, "merchant.refund.amount_wrong")
        errors.check("reason", 1 <= len(form.reason.strip()) <= REASON_MAX and form.reason.isprintable(), "console.field.reason")
        if not ids.TOKEN.fullmatch(form.request):
            raise BadInput("request")
        is_new = console_requests.find(self.gateway.reader, payment.merchant, form.request) is None
        errors.check("much", not is_new or form.left in {"", left.text}, "merchant.refund.left_changed")
        if errors:
            return self._page(request, payment, form, errors)
        who = self.console.who(request).person
        try:
            asked = await console_requests.ask_refund(
                self.gateway, who, payment, request=form.request, amount=amount, reason=form.reason.strip()
            )
        except AlreadyAsked:
            before = console_requests.last_wish(self.gateway.reader, payment)
            if before is None:
                raise
            return self._waits(request, payment, before, CONFLICT)
        return self._see(payment.id, asked)

    async def again(self, request: Request) -> Response:
        """The same bytes once more: whatever the shop has done already it does not do twice."""
        await read_form(request, Nothing)
        merchant = self.console.merchant(request)
        assert merchant is not None, "a person of this console belongs to a merchant"
        known = console_requests.find(self.gateway.reader, merchant, self.console.token(request))
        if known is None:
            raise NotFound("no such request")
        asked = await console_requests.send(self.gateway, merchant, known.id)
        payment = None if asked.tid is None else console_requests.payment_of(self.gateway, asked)
        return self._see("" if payment is None else payment.id, asked)

    def _waits(self, request: Request, payment: Payment, waits: ConsoleRequest, status: int) -> Response:
        """Somebody has asked already: who, when, how much and why, and what can be done about it."""
        askers = actors.named(self.gateway.reader, (waits.person,))
        return self.console.page(request, "merchant/refund_waits.html", status=status, payment=payment, asked=[waits], askers=askers)

    def _see(self, payment_id: str, asked: ConsoleRequest) -> Response:
        where = f"/payments/{payment_id}" if payment_id else "/callbacks" if asked.act in {"resend", "test"} else "/orders"
        return self.console.see(where, f"merchant.request.done.{asked.state}")

    def _page(self, request: Request, payment: Payment, form: RefundForm, errors: Errors) -> Response:
        left = console_requests.remaining(payment)
        return self.console.page(
            request,
            "merchant/refund.html",
            payment=payment,
            left=left,
            is_paid=payment.state == State.CAPTURED,
            form={**fields_of(form), "left": left.text},
            errors=errors,
        )
