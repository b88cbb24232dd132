"""Every address of the operator's console. Who may use it stands in `web/permissions.py`.

GET  /                                   what is going on now
     /login, /set-up/…                   see web/entrance.py
     /payments…                          see web/payment_pages.py
     /merchants…                         see merchants.py
     /customers…, /accounts…             see customers.py
     /proposals…                         see proposals.py
     /settlement…, /payouts…             see settlement.py
     /exceptions…, /audit…, /evidence…   see watch.py
     /staff…                             see web/team.py
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.payments import operations, search
from hanbit.payments.gateway import Gateway
from hanbit.payments.halt import why_halted
from hanbit.web.account import OwnAccount
from hanbit.web.consoles import Console, Entry
from hanbit.web.entrance import Entrance
from hanbit.web.operator.charts import columns_of
from hanbit.web.operator.customers import CustomerPages
from hanbit.web.operator.merchants import MerchantPages
from hanbit.web.operator.proposals import ProposalPages
from hanbit.web.operator.settlement import SettlementPages
from hanbit.web.operator.watch import WatchPages
from hanbit.web.payment_pages import PaymentPages
from hanbit.web.team import Team

NAVIGATION: Final = (
    Entry("/", "operator.nav.home"),
    Entry("/payments", "operator.nav.payments"),
    Entry("/exceptions", "operator.nav.exceptions"),
    Entry("/merchants", "operator.nav.merchants"),
    Entry("/customers", "operator.nav.customers"),
    Entry("/proposals", "operator.nav.proposals"),
    Entry("/settlement", "operator.nav.settlement"),
    Entry("/payouts", "operator.nav.payouts"),
    Entry("/evidence", "operator.nav.evidence"),
    Entry("/audit", "operator.nav.audit"),
    Entry("/staff", "operator.nav.staff"),
)
HOUR_S: Final = 3600
MINUTES: Final = 60
_UNTOLD: Final = "SELECT count(*) AS n FROM outbox WHERE next_at IS NOT NULL"
_WAITING: Final = "SELECT count(*) AS n FROM payments WHERE next_at IS NOT NULL AND state = 'authorized'"


class OperatorFace:
    """The handlers that only the operator's console has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.console = console = Console(gateway, "operator", NAVIGATION)
        for part in (Entrance, OwnAccount, PaymentPages, Team, MerchantPages, CustomerPages, ProposalPages, SettlementPages, WatchPages):
            part(console)
        console.route("GET", "/", self.show_home)

    async def show_home(self, request: Request) -> Response:
        """How payments, lines and the book are at this moment."""
        reader, at = self.gateway.reader, self.console.at
        found = (await operations.list_parties(self.gateway, what="merchants"))["merchants"]
        since = at - at % 60 - HOUR_S + 60
        minutes = await search.by_minute(reader, since, MINUTES)
        return self.console.page(
            request,
            "operator/home.html",
            counts=await search.counted(reader, None, since),
            taken=await search.taken(reader, None, since),
            chart=columns_of(minutes),
            reasons=await search.reasons(reader, since),
            waiting=(await reader.scan(_WAITING))[0]["n"],
            untold=(await reader.scan(_UNTOLD))[0]["n"],
            queue=self.gateway.book.waiting,
            lines=[(merchant, self.gateway.line.figures(merchant["id"])) for merchant in found if merchant["state"] == "active"],
            halted=why_halted(reader),
        )
