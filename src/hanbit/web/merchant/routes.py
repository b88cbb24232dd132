"""Every address of the merchants' console. Who may use it stands in `web/permissions.py`; whose things are seen, in who has logged in.

GET  /                       today
     /login, /set-up/…       see entrance.py
     /me…                    see account.py
     /payments…              see payment_pages.py
     /payments/{id}/refund   see refunds.py
     /orders, /callbacks…    see shop_book.py
     /settlement…            see settlement.py
     /line, /certificates…   see connection.py
     /staff…                 see team.py
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.payments import merchant_limits, search
from hanbit.payments.gateway import Gateway
from hanbit.payments.search import Wanted
from hanbit.web.account import OwnAccount
from hanbit.web.consoles import Console, Entry
from hanbit.web.entrance import Entrance
from hanbit.web.merchant.connection import ConnectionPages
from hanbit.web.merchant.own import own_merchant
from hanbit.web.merchant.refunds import RefundPages
from hanbit.web.merchant.settlement import SettlementPages
from hanbit.web.merchant.shop_book import ShopBookPages
from hanbit.web.payment_pages import PaymentPages
from hanbit.web.team import Team

NAVIGATION: Final = (
    Entry("/", "merchant.nav.home"),
    Entry("/payments", "merchant.nav.payments"),
    Entry("/orders", "merchant.nav.orders"),
    Entry("/settlement", "merchant.nav.settlement"),
    Entry("/callbacks", "merchant.nav.callbacks"),
    Entry("/line", "merchant.nav.line"),
    Entry("/staff", "merchant.nav.staff"),
)
DAY_S: Final = 24 * 3600
LATEST: Final = 10


class MerchantFace:
    """The handlers that only the merchants' console has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.console = console = Console(gateway, "merchant", NAVIGATION)
        for part in (Entrance, OwnAccount, PaymentPages, RefundPages, ShopBookPages, SettlementPages, ConnectionPages, Team):
            part(console)
        console.route("GET", "/", self.show_home)

    async def show_home(self, request: Request) -> Response:
        """The last day's payments, and whether the line is up."""
        merchant, reader, since = own_merchant(self.console, request), self.gateway.reader, self.console.at - DAY_S
        counts, taken = await search.tallied(reader, merchant.id, since)
        return self.console.page(
            request,
            "merchant/home.html",
            merchant=merchant,
            connected=self.gateway.line.connected(merchant.id),
            counts=counts,
            limits=merchant_limits.counted(self.gateway, merchant, self.console.at),
            above=await merchant_limits.noted(reader, merchant.id, since, LATEST),
            taken=taken,
            latest=(await search.listed(reader, Wanted(merchant.id), LATEST)).rows,
        )
