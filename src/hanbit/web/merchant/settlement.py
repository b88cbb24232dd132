"""Settlement in the merchants' console: what each day came to, where it is paid to, and what the bank has said.

GET  /settlement                 days, the newest first; payouts; the account
     /settlement/sheet           the days as CSV
     /settlement/account         another account: form and act
     /settlement/{day}           one day's statement, to print
     /settlement/{day}/sheet     each entry that it is made of, as CSV
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.kernel.days import is_day, read_day
from hanbit.kernel.errors import NotFound
from hanbit.kernel.money import Money
from hanbit.parties import terms as agreed
from hanbit.parties.merchants import Merchant
from hanbit.payments import payouts, proposals, settlement, statement_lines
from hanbit.payments.settlement import STATEMENTS_MAX, Statement
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed, Field
from hanbit.web.forms import ROWS, Line, address, read_query
from hanbit.web.merchant.own import own_merchant
from hanbit.web.sheets import moment, sheet

PAYOUTS_SHOWN: Final = 10
COLUMNS: Final = (
    "day", "currency", "opening", "captures", "captured", "refunds", "refunded", "fees", "net", "fees_taken", "fees_owed", "repaid",
    "paid_out", "closing",
)  # fmt: skip
LINE_COLUMNS: Final = ("entry", "at", "kind", "amount", "currency", "payment", "tid", "text")


class AfterForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a page of days begins."""

    after: Line = ""


class SettlementPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/settlement", self.show_days)
        console.route("GET", "/settlement/sheet", self.download_days)
        deeds.at(console, "/settlement/account", self._account)
        console.route("GET", "/settlement/{day}", self.show_statement)
        console.route("GET", "/settlement/{day}/sheet", self.download_lines)

    async def show_days(self, request: Request) -> Response:
        """Fifty days a page; the account and the last payouts beside them."""
        merchant, form, reader = own_merchant(self.console, request), read_query(request, AfterForm), self.gateway.reader
        before = str(read_day(form.after)) if form.after else "9999"
        found = settlement.statements_of_merchant(reader, merchant.id, merchant.currency, before=before, limit=ROWS + 1)
        terms = agreed.of_merchant(reader, merchant.id)
        return self.console.page(
            request,
            "merchant/settlement.html",
            statements=found[:ROWS],
            terms=terms,
            waiting=proposals.waiting_account(reader, merchant.id),
            fixed=Money(terms.fee_fixed_minor, merchant.currency),
            payouts=payouts.of_merchant(reader, merchant.id, merchant.currency, limit=PAYOUTS_SHOWN),
            first="/settlement" if form.after else "",
            following=address("/settlement", after=found[ROWS - 1].day) if len(found) > ROWS else "",
        )

    async def download_days(self, request: Request) -> Response:
        """The days of more than a year, a line each, in minor units."""
        merchant = own_merchant(self.console, request)
        found = settlement.statements_of_merchant(self.gateway.reader, merchant.id, merchant.currency, limit=STATEMENTS_MAX)
        return sheet("hanbit-settlement", COLUMNS, [[one.row()[name] for name in COLUMNS] for one in found])

    async def show_statement(self, request: Request) -> Response:
        """One day: what the account had, what came and went, what it cost, what was paid out."""
        merchant, statement = self._statement(request)
        paid = payouts.of_merchant(self.gateway.reader, merchant.id, merchant.currency, before=f"{statement.day}~", limit=1)
        payout = next((one for one in paid if one.day == statement.day), None)
        return self.console.page(request, "merchant/statement.html", one=statement, merchant=merchant, payout=payout)

    async def download_lines(self, request: Request) -> Response:
        """Every capture and refund of the day, and what else moved the account."""
        _, statement = self._statement(request)
        lines = await statement_lines.of(self.gateway.reader, statement)
        zone = self.gateway.settings.zone
        rows = [
            (line.entry, moment(line.at, zone), line.kind, line.minor, statement.currency, line.payment, line.tid, line.text)
            for line in lines
        ]
        return sheet(f"hanbit-{statement.day}", LINE_COLUMNS, rows)

    def _account(self, request: Request) -> Deed:
        merchant = own_merchant(self.console, request)

        async def do(by: str, form: Mapping[str, str]) -> Response:
            values = {"bank": form["bank"], "number": form["number"], "reason": form["reason"]}
            await proposals.propose_payout_account(self.gateway, by, merchant=merchant.id, **values)
            return self.console.see("/settlement", "merchant.done.payout_account")

        bank = Field("bank", "console.payout_account.bank", max=agreed.BANK_MAX)
        number = Field("number", "console.payout_account.number", hint="merchant.settlement.number_hint", max=50)
        return Deed("merchant.deed.payout_account", "/settlement", (bank, number), do)

    def _statement(self, request: Request) -> tuple[Merchant, Statement]:
        merchant = own_merchant(self.console, request)
        day = self.console.matched(request, "day", is_day)
        found = settlement.statement(self.gateway.reader, merchant.id, merchant.currency, day)
        if found is None:
            raise NotFound("no such statement")
        return merchant, found
