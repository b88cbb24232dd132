"""Payments in a console: the list with its filter, one payment with its time line, each signed message to download.

The operator's staff sees everybody's; a merchant's people see their own, and another's looks like one that does not exist.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound
from hanbit.kernel.money import Money
from hanbit.payments import payment as payments
from hanbit.payments import search, timeline, views
from hanbit.payments.payment import Payment
from hanbit.payments.search import STATES, Wanted
from hanbit.web.consoles import Console
from hanbit.web.forms import ROWS, Errors, Line, address, day_begins, day_ends, fields_of, read_query


class FilterForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the list is narrowed to; `after` is where the page begins."""

    number: Line = ""
    merchant: Line = ""
    state: Line = ""
    since: Line = ""
    until: Line = ""
    after: Line = ""


class PaymentPages:
    """The handlers; the same in both consoles."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/payments", self.show_list)
        console.route("GET", "/payments/{id}", self.show_payment)
        console.route("GET", "/payments/{id}/messages/{hash}", self.download_message)

    async def show_list(self, request: Request) -> Response:
        """Newest first, fifty a page; a number that only one payment has leads there at once."""
        form, errors = read_query(request, FilterForm), Errors()
        mine = self.console.merchant(request)
        errors.check("state", form.state in {"", *STATES}, "console.field.state")
        errors.check("since", not form.since or day_begins(form.since) is not None, "console.field.day")
        errors.check("until", not form.until or day_ends(form.until) is not None, "console.field.day")
        if errors:
            return self._list_page(request, form, errors, search.Page([], ""))
        if form.number.strip():
            found = search.numbered(self.gateway.reader, form.number, mine)
            if len(found) == 1:
                return RedirectResponse(f"/payments/{found[0].id}", 303)
            return self._list_page(request, form, errors, search.Page(found, ""))
        wanted = Wanted(mine or form.merchant or None, form.state, day_begins(form.since), day_ends(form.until), form.after)
        return self._list_page(request, form, errors, await search.listed(self.gateway.reader, wanted, ROWS))

    async def show_payment(self, request: Request) -> Response:
        """Everything that is known of one payment; each signature is verified as the page is made."""
        payment = self._payment(request)
        for_merchant = self.console.merchant(request) is not None
        return self.console.page(
            request,
            "consoles/payment.html",
            payment=payment,
            view=views.full_view(self.gateway, payment),
            refunded=Money(payment.refunded, payment.currency) if payment.refunded else None,
            timeline=timeline.of(self.gateway, payment, for_merchant=for_merchant),
            for_merchant=for_merchant,
        )

    async def download_message(self, request: Request) -> Response:
        """The very bytes of a signed message."""
        payment = self._payment(request)
        name = self.console.matched(request, "hash", ids.DIGEST.fullmatch)
        for_merchant = self.console.merchant(request) is not None
        compact = timeline.message(self.gateway, payment, name, for_merchant=for_merchant)
        if compact is None:
            raise NotFound("no such message")
        saved = f'attachment; filename="hanbit-{name[:12]}.jws"'
        return Response(compact, media_type="application/jose", headers={"Content-Disposition": saved})

    def _payment(self, request: Request) -> Payment:
        payment = payments.by_id(self.gateway.reader, self.console.token(request))
        mine = self.console.merchant(request)
        if payment is None or mine not in {None, payment.merchant}:
            raise NotFound("no such payment")
        return payment

    def _list_page(self, request: Request, form: FilterForm, errors: Errors, page: search.Page) -> Response:
        narrowed = {**fields_of(form), "after": ""}
        return self.console.page(
            request,
            "consoles/payments.html",
            form=fields_of(form),
            errors=errors,
            payments=page.rows,
            first=address("/payments", **narrowed) if form.after else "",
            following=address("/payments", **{**narrowed, "after": page.following}) if page.following else "",
            states=STATES,
        )
