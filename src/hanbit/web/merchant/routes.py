"""Every address of the merchants' console. Who may use it stands in `web/permissions.py`; whose things are seen, in who has logged in.

GET  /                       today
     /login, /set-up/…       see entrance.py
     /payments…              see payment_pages.py
     /staff…                 see team.py
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.parties import merchants
from hanbit.payments import search
from hanbit.payments.gateway import Gateway
from hanbit.payments.search import Wanted
from hanbit.web.account import OwnAccount
from hanbit.web.consoles import Console, Entry
from hanbit.web.entrance import Entrance
from hanbit.web.payment_pages import PaymentPages
from hanbit.web.team import Team

NAVIGATION: Final = (
    Entry("/", "merchant.nav.home"),
    Entry("/payments", "merchant.nav.payments"),
    Entry("/staff", "merchant.nav.staff"),
)
DAY_S: Final = 24 * 3600
LATEST: Final = 10


class MerchantFace:
    """The handlers that only the merchants' console has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.console = console = Console(gateway, "merchant", NAVIGATION)
        Entrance(console)
        OwnAccount(console)
        PaymentPages(console)
        Team(console)
        console.route("GET", "/", self.show_home)

    async def show_home(self, request: Request) -> Response:
        """The last day's payments, and whether the line is up."""
        mine, reader, since = self.console.merchant(request), self.gateway.reader, self.console.at - DAY_S
        assert mine is not None, "a person of this console belongs to a merchant"
        return self.console.page(
            request,
            "merchant/home.html",
            merchant=merchants.by_id(reader, mine),
            connected=self.gateway.line.connected(mine),
            counts=await search.counted(reader, mine, since),
            taken=await search.taken(reader, mine, since),
            latest=(await search.listed(reader, Wanted(mine), LATEST)).rows,
        )
