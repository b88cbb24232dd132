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
     /brand…                             see brand.py
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.db.reading import Row
from hanbit.line.figures import LineFigures
from hanbit.payments.gateway import Gateway
from hanbit.payments.halt import why_halted
from hanbit.payments.pulse import LOOKED_AT_MAX, last_hour
from hanbit.web.account import OwnAccount
from hanbit.web.consoles import LIVE, Console, Entry
from hanbit.web.entrance import Entrance
from hanbit.web.operator.brand import BrandPages
from hanbit.web.operator.charts import columns_of
from hanbit.web.operator.customers import CustomerPages
from hanbit.web.operator.merchants import MerchantPages
from hanbit.web.operator.proposals import ProposalPages
from hanbit.web.operator.refunds import RefundPages
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
    Entry("/brand", "operator.nav.brand"),
)
PARTS: Final = (
    *(Entrance, OwnAccount, Team, PaymentPages, RefundPages),
    *(MerchantPages, CustomerPages, ProposalPages, SettlementPages, WatchPages, BrandPages),
)
LINES_SHOWN: Final = 20
MERCHANTS_MAX: Final = 1_000
LIVE_S: Final = 15
"""A page that is watched loads itself anew so often; it keeps no session alive."""
_UNTOLD: Final = "SELECT count(*) AS n FROM outbox WHERE next_at IS NOT NULL"
_ACTIVE: Final = "SELECT id, name FROM merchants WHERE state = 'active' ORDER BY id LIMIT ?"
_WAITING: Final = "SELECT count(*) AS n FROM payments WHERE next_at IS NOT NULL AND state = 'authorized'"


class OperatorFace:
    """The handlers that only the operator's console has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.console = console = Console(gateway, "operator", NAVIGATION)
        for part in PARTS:
            part(console)
        console.route("GET", "/", self.show_home)

    async def show_home(self, request: Request) -> Response:
        """How payments, lines and the book are at this moment."""
        reader, at = self.gateway.reader, self.console.at
        pulse = await last_hour(reader, at)
        lines, up, merchants = self._lines()
        response = self.console.page(
            request,
            "operator/home.html",
            pulse=pulse,
            chart=columns_of([(one.at, one.opened, one.captured) for one in pulse.minutes]),
            pace=columns_of([(one.at, one.slowest_s or 0, one.median_s or 0) for one in pulse.minutes]),
            waiting=(await reader.scan(_WAITING))[0]["n"],
            untold=(await reader.scan(_UNTOLD))[0]["n"],
            queue=self.gateway.book.waiting,
            lines=lines,
            up=up,
            merchants=merchants,
            halted=why_halted(reader),
            live=LIVE in request.query_params,
            live_s=LIVE_S,
            looked_at_max=LOOKED_AT_MAX,
        )
        if LIVE in request.query_params:
            response.headers["Refresh"] = str(LIVE_S)
        return response

    def _lines(self) -> tuple[list[tuple[Row, LineFigures]], int, int]:
        """The lines that most need a look: those that are down, then the slowest; how many are up, of how many."""
        rows = self.gateway.reader.all(_ACTIVE, MERCHANTS_MAX)
        found = [(row, self.gateway.line.figures(row["id"])) for row in rows]
        found.sort(key=lambda one: (one[1].up, -(one[1].round_trip_s or 0.0)))
        return found[:LINES_SHOWN], sum(line.up for _, line in found), len(found)
