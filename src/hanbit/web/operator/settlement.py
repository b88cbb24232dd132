"""Settlement in the operator's console: days and their statements, the trial balance, payouts, what differs from the bank.

GET  /settlement                         days, the newest first, and the one that closes next
     /settlement/close, /continue        propose that days are closed; finish a close that was cut short
     /settlement/reserve                 propose money for the reserve
     /settlement/balance                 the trial balance
     /settlement/days/{day}              what a day came to, and each merchant's statement
     /settlement/days/{day}/sheet        the same as CSV
     /settlement/days/{day}/{id}         one merchant's statement, to print
     /payouts                            by state
     /payouts/{reference}/{act}          confirm, fail
     /payouts/instructions, /reconcile   what the bank must be told; what it says
"""

import csv
import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.kernel import ids
from hanbit.kernel.days import day_of, is_day, read_day
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money, parse_typed, typed
from hanbit.parties import merchants
from hanbit.payments import actors, payouts, proposals, settlement
from hanbit.payments.settlement import CLOSING, Day
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Check, Deed, Field, amount, choice
from hanbit.web.forms import ROWS, Line, address, read_query
from hanbit.web.sheets import sheet

_REFERENCE: Final = re.compile(r"[0-9A-Z]{4}-[0-9A-Z]{4}")
PAYOUT_ACTS: Final = ("confirm", "fail")
COLUMNS: Final = (
    "merchant", "currency", "day", "opening", "captures", "captured", "refunds", "refunded", "fees", "net", "fees_taken", "fees_owed",
    "repaid", "paid_out", "closing",
)  # fmt: skip


class AfterForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a page of a list begins."""

    after: Line = ""


class StateForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payouts of which state."""

    state: Line = "instructed"


class SettlementPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        for path, deed in (
            ("/settlement/close", self._close),
            ("/settlement/continue", self._continue),
            ("/settlement/reserve", self._reserve),
            ("/payouts/instructions", self._instructions),
            ("/payouts/reconcile", self._reconcile),
        ):
            deeds.at(console, path, deed)
        console.route("GET", "/settlement", self.show_days)
        console.route("GET", "/settlement/balance", self.show_balance)
        console.route("GET", "/settlement/days/{day}", self.show_day)
        console.route("GET", "/settlement/days/{day}/sheet", self.download_day)
        console.route("GET", "/settlement/days/{day}/{id}", self.show_statement)
        console.route("GET", "/payouts", self.show_payouts)
        deeds.at(console, "/payouts/{reference}/{act}", self._payout)

    async def show_days(self, request: Request) -> Response:
        """Days that are closed, fifty a page."""
        form, reader = read_query(request, AfterForm), self.gateway.reader
        before = str(read_day(form.after)) if form.after else "9999"
        found = settlement.days(reader, before=before, limit=ROWS + 1)
        last, following = settlement.last_day(reader), settlement.next_day(self.gateway)
        return self.console.page(
            request,
            "operator/settlement.html",
            days=found[:ROWS],
            following_day=following,
            has_ended=following is not None and following < self._today(),
            actors=actors.named(reader, (one.closed_by for one in found)),
            cut_short=last is not None and last.state == CLOSING,
            waiting=[one for one in proposals.waiting(reader) if one.act == proposals.CLOSE],
            first="/settlement" if form.after else "",
            following=address("/settlement", after=found[ROWS - 1].day) if len(found) > ROWS else "",
        )

    async def show_balance(self, request: Request) -> Response:
        """Whether the book is balanced, kind by kind."""
        return self.console.page(request, "operator/balance.html", balance=await settlement.trial_balance(self.gateway))

    async def show_day(self, request: Request) -> Response:
        """Its sums, and its merchants fifty a page."""
        day, form = self._day(request), read_query(request, AfterForm)
        if form.after and not ids.PARTY_ID.fullmatch(form.after):
            raise BadInput("after")
        found = settlement.statements_of_day(self.gateway.reader, day.day, after=form.after, limit=ROWS + 1)
        path = f"/settlement/days/{day.day}"
        return self.console.page(
            request,
            "operator/day.html",
            day=day,
            sums=await settlement.sums_of_day(self.gateway.reader, day.day),
            statements=found[:ROWS],
            names=merchants.names(self.gateway.reader, (one.merchant for one in found)),
            first=path if form.after else "",
            following=address(path, after=found[ROWS - 1].merchant) if len(found) > ROWS else "",
        )

    async def download_day(self, request: Request) -> Response:
        """Every statement of the day, a line each, in minor units."""
        day = self._day(request)
        found = settlement.statements_of_day(self.gateway.reader, day.day, limit=settlement.STATEMENTS_MAX)
        rows = list(found)
        while len(found) == settlement.STATEMENTS_MAX:
            found = settlement.statements_of_day(self.gateway.reader, day.day, after=rows[-1].merchant, limit=settlement.STATEMENTS_MAX)
            rows += found
        return sheet(f"hanbit-{day.day}", COLUMNS, [[one.row()[name] for name in COLUMNS] for one in rows])

    async def show_statement(self, request: Request) -> Response:
        """One merchant's day, as it is printed."""
        day = self._day(request)
        merchant = merchants.by_id(self.gateway.reader, self.console.matched(request, "id", ids.PARTY_ID.fullmatch))
        found = None if merchant is None else settlement.statement(self.gateway.reader, merchant.id, merchant.currency, day.day)
        if found is None:
            raise NotFound("no such statement")
        return self.console.page(request, "operator/statement.html", one=found, merchant=merchant, day=day)

    async def show_payouts(self, request: Request) -> Response:
        """Those of a state, the oldest days first."""
        form = read_query(request, StateForm)
        if form.state not in payouts.STATES:
            raise BadInput("state")
        found = payouts.of_state(self.gateway.reader, form.state, limit=ROWS)
        names = merchants.names(self.gateway.reader, (one.merchant for one in found))
        return self.console.page(
            request, "operator/payouts.html", payouts=found, names=names, state_shown=form.state, states=payouts.STATES
        )

    # --- the acts -----------------------------------------------------------------------------------------------------------------------

    def _close(self, _request: Request) -> Deed:
        async def do(by: str, form: Mapping[str, str]) -> Response:
            await proposals.propose_close(self.gateway, by, through=form["day"], reason=form["reason"])
            return self.console.see("/proposals", "operator.deed.done.proposed")

        following = settlement.next_day(self.gateway)
        value = "" if following is None else str(following)
        today = self._today()
        checks: tuple[Check, ...] = (
            (is_day, "console.field.day"),
            (lambda text: read_day(text) < today, "operator.field.day_runs"),
            (lambda text: following is not None and read_day(text) >= following, "operator.field.day_closed"),
        )
        fields = (Field("day", "operator.settlement.through", checks, "date", value=value),)
        return Deed("operator.deed.close", "/settlement", fields, do)

    def _continue(self, _request: Request) -> Deed:
        async def do(by: str, form: Mapping[str, str]) -> Response:
            await proposals.go_on(self.gateway, by, reason=form["reason"])
            return self.console.see("/settlement", "operator.deed.done.continue")

        return Deed("operator.deed.continue", "/settlement", (), do)

    def _reserve(self, _request: Request) -> Deed:
        async def do(by: str, form: Mapping[str, str]) -> Response:
            values = {name: form[name] for name in ("amount", "currency", "reason")}
            await proposals.propose_reserve(self.gateway, by, **values)
            return self.console.see("/proposals", "operator.deed.done.proposed")

        currency = choice("currency", "operator.merchant.currency", tuple(CURRENCY_EXPONENTS), value=self.gateway.settings.currency)
        return Deed("operator.deed.reserve", "/settlement", (currency, amount("amount", "console.payments.amount")), do)

    def _payout(self, request: Request) -> Deed:
        payout = payouts.find(self.gateway.reader, self.console.matched(request, "reference", _REFERENCE.fullmatch))
        if payout is None:
            raise NotFound("no such payout")
        name, reference = self.console.matched(request, "act", PAYOUT_ACTS.__contains__), payout.reference

        async def do(by: str, form: Mapping[str, str]) -> Response:
            decide = payouts.confirm_payout if name == "confirm" else payouts.fail_payout
            await decide(self.gateway, by, reference=reference, reason=form["reason"])
            return self.console.see("/payouts", f"operator.deed.done.payout_{name}", name=reference)

        return Deed(f"operator.deed.payout_{name}", "/payouts", (), do, {"name": reference, "merchant": payout.merchant})

    def _instructions(self, request: Request) -> Deed:
        async def do(by: str, form: Mapping[str, str]) -> Response:
            found = (await payouts.instructions(self.gateway, by, reason=form["reason"]))["instructions"]
            columns = ("reference", "bank", "number", "amount", "currency")
            units = [row | {"amount": typed(Money(int(row["amount"]), row["currency"])).replace(",", "")} for row in found]
            return sheet("hanbit-payouts", columns, [[row[name] for name in columns] for row in units])

        del request
        return Deed("operator.deed.instructions", "/payouts", (), do)

    def _reconcile(self, request: Request) -> Deed:
        async def do(by: str, form: Mapping[str, str]) -> Response:
            found = await payouts.reconcile_payouts(self.gateway, by, lines=_lines(form["lines"]), source=form["reason"])
            reader, differ = self.gateway.reader, found["differs"]
            differs = [(one, Money(int(one["amount"]), one["currency"]), payouts.find(reader, one["reference"])) for one in differ]
            return self.console.page(request, "operator/reconciled.html", found=found, differs=differs)

        hint = "operator.payouts.lines_hint"
        return Deed("operator.deed.reconcile", "/payouts", (Field("lines", "operator.payouts.lines", kind="lines", hint=hint),), do)

    def _today(self) -> date:
        return day_of(self.gateway.clock.now(), self.gateway.settings.zone)

    def _day(self, request: Request) -> Day:
        found = settlement.find_day(self.gateway.reader, self.console.matched(request, "day", is_day))
        if found is None:
            raise NotFound("no such day")
        return found


def _lines(text: str) -> str:
    """Lines of `reference,amount,currency`, as banks' files are cut to, in units of the currency; BadInput names the field."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    if not rows or any(len(row) != 3 or row[2] not in CURRENCY_EXPONENTS for row in rows):  # noqa: PLR2004 - reference, amount, currency
        raise BadInput("lines: reference,amount,currency in each")
    try:
        return json.dumps([{"reference": one, "amount": parse_typed(two, three).text, "currency": three} for one, two, three in rows])
    except BadInput as error:
        raise BadInput("lines: an amount") from error
