"""Payments in a console: the list with its filter, the same as a sheet, one payment with its time line, each signed message to download.

The operator's staff sees everybody's; a merchant's people see their own, and another's looks like one that does not exist.
"""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.kernel.money import Money
from hanbit.payments import actors, console_requests, search, timeline, views
from hanbit.payments import payment as payments
from hanbit.payments.payment import Payment
from hanbit.payments.search import STATES, Listed, Wanted
from hanbit.web.consoles import Console
from hanbit.web.forms import ROWS, Errors, Line, address, day_begins, day_ends, fields_of, is_day, read_query
from hanbit.web.sheets import moment, sheet

SHEET_ROWS_MAX: Final = 10_000
COLUMNS: Final = (
    "opened_at",
    "payment",
    "merchant",
    "tid",
    "state",
    "reason",
    "text",
    "amount",
    "refunded",
    "currency",
    "method",
    "ended_at",
)


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
        console.route("GET", "/payments/sheet", self.download_list)
        console.route("GET", "/payments/{id}", self.show_payment)
        console.route("GET", "/payments/{id}/messages/{hash}", self.download_message)

    async def show_list(self, request: Request) -> Response:
        """Newest first, fifty a page; a number that only one payment has leads there at once."""
        form = read_query(request, FilterForm)
        mine, errors = self.console.merchant(request), _checked(form)
        if errors:
            return self._list_page(request, form, errors, search.Page([], ""))
        if form.number.strip():
            found = search.numbered(self.gateway.reader, form.number, mine)
            if len(found) == 1:
                return RedirectResponse(f"/payments/{found[0].id}", 303)
            return self._list_page(request, form, errors, search.Page(found, ""))
        return self._list_page(request, form, errors, await search.listed(self.gateway.reader, self._wanted(request, form), ROWS))

    async def download_list(self, request: Request) -> Response:
        """The same list, newest first, amounts in minor units; what is beyond the sheet is had by narrower days."""
        form = read_query(request, FilterForm)
        if _checked(form):
            raise BadInput("a state of the list, and days such as 2026-11-22")
        page = await search.listed(self.gateway.reader, self._wanted(request, form), SHEET_ROWS_MAX)
        return sheet("hanbit-payments", COLUMNS, [_row(one, self.gateway.settings.zone) for one in page.rows])

    async def show_payment(self, request: Request) -> Response:
        """Everything that is known of one payment; each signature is verified as the page is made."""
        payment = self._payment(request)
        for_merchant = self.console.merchant(request) is not None
        asked = console_requests.of_payment(self.gateway.reader, payment.merchant, payment.tid)
        happened = timeline.of(self.gateway, payment, for_merchant=for_merchant)
        return self.console.page(
            request,
            "consoles/payment.html",
            payment=payment,
            view=views.full_view(self.gateway, payment),
            refunded=Money(payment.refunded, payment.currency) if payment.refunded else None,
            remaining=Money(payment.captured - payment.refunded, payment.currency),
            cancellations=search.cancellations(self.gateway.reader, payment),
            asked=asked,
            askers=actors.named(self.gateway.reader, (one.person for one in asked)) if for_merchant else {},
            refundable=for_merchant and console_requests.may_be_asked(self.gateway.reader, payment),
            timeline=happened,
            actors=actors.named(self.gateway.reader, (step.who for step in happened.steps if step.kind == "act")),
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
        return shown_payment(self.console, request)

    def _wanted(self, request: Request, form: FilterForm) -> Wanted:
        """A merchant's people see their own, whatever the address says."""
        whose = self.console.merchant(request) or form.merchant or None
        zone = self.gateway.settings.zone
        return Wanted(whose, form.state, day_begins(form.since, zone), day_ends(form.until, zone), form.after)

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
            sheet=address("/payments/sheet", **narrowed),
            states=STATES,
        )


def shown_payment(console: Console, request: Request) -> Payment:
    """The payment in the address, if it may be seen: another merchant's looks like none."""
    payment = payments.by_id(console.gateway.reader, console.token(request))
    mine = console.merchant(request)
    if payment is None or mine not in {None, payment.merchant}:
        raise NotFound("no such payment")
    return payment


def _checked(form: FilterForm) -> Errors:
    errors = Errors()
    errors.check("state", form.state in {"", *STATES}, "console.field.state")
    errors.check("since", not form.since or is_day(form.since), "console.field.day")
    errors.check("until", not form.until or is_day(form.until), "console.field.day")
    return errors


def _row(one: Listed, zone: tzinfo) -> Sequence[str | int | None]:
    refunded = 0 if one.refunded is None else one.refunded.amount_minor
    facts = (moment(one.opened_at, zone), one.id, one.merchant, one.tid, one.state, one.reason, one.text, one.money.amount_minor, refunded)
    return (*facts, one.money.currency, one.method, None if one.ended_at is None else moment(one.ended_at, zone))
