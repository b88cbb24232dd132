"""Every address of the operator's console. Who may use it stands in `web/permissions.py`.

GET  /                              what is going on now
     /login, /set-up/…              see entrance.py
     /payments…                     see payment_pages.py
GET  /merchants, /merchants/{id}    who is paid, and by which keys and line
     /merchants/{id}/invite         a merchant's first admin
     /staff…                        see team.py
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound
from hanbit.parties import merchants, people
from hanbit.parties.merchants import Merchant
from hanbit.payments import operations, search
from hanbit.payments.gateway import Gateway
from hanbit.payments.halt import why_halted
from hanbit.web.consoles import Console, Entry
from hanbit.web.entrance import Entrance
from hanbit.web.forms import Errors
from hanbit.web.payment_pages import PaymentPages
from hanbit.web.team import InviteForm, Team, invite, invite_page

NAVIGATION: Final = (
    Entry("/", "operator.nav.home"),
    Entry("/payments", "operator.nav.payments"),
    Entry("/merchants", "operator.nav.merchants"),
    Entry("/staff", "operator.nav.staff"),
)
HOUR_S: Final = 3600
CERTIFICATES_MAX: Final = 50
_CERTIFICATES: Final = (
    "SELECT kid, purpose, not_before, not_after, revoked_at FROM certificates WHERE urn = ? ORDER BY issued_at DESC LIMIT ?"
)
_UNTOLD: Final = "SELECT count(*) AS n FROM outbox WHERE next_at IS NOT NULL"
_WAITING: Final = "SELECT count(*) AS n FROM payments WHERE next_at IS NOT NULL AND state = 'authorized'"


class OperatorFace:
    """The handlers that only the operator's console has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.console = console = Console(gateway, "operator", NAVIGATION)
        Entrance(console)
        PaymentPages(console)
        Team(console)
        console.route("GET", "/", self.show_home)
        console.route("GET", "/merchants", self.show_merchants)
        console.route("GET", "/merchants/{id}", self.show_merchant)
        console.route("GET", "/merchants/{id}/invite", self.show_invite)
        console.route("POST", "/merchants/{id}/invite", self.invite)

    async def show_home(self, request: Request) -> Response:
        """How payments, lines and the book are at this moment."""
        reader, since = self.gateway.reader, self.console.at - HOUR_S
        found = (await operations.list_parties(self.gateway, what="merchants"))["merchants"]
        return self.console.page(
            request,
            "operator/home.html",
            counts=await search.counted(reader, None, since),
            taken=await search.taken(reader, None, since),
            waiting=(await reader.scan(_WAITING))[0]["n"],
            untold=(await reader.scan(_UNTOLD))[0]["n"],
            queue=self.gateway.book.waiting,
            lines=[(merchant, self.gateway.line.connected(merchant["id"])) for merchant in found if merchant["state"] == "active"],
            halted=why_halted(reader),
        )

    async def show_merchants(self, request: Request) -> Response:
        """Every merchant, with its line."""
        found = (await operations.list_parties(self.gateway, what="merchants"))["merchants"]
        shown = [(merchant, self.gateway.line.connected(merchant["id"])) for merchant in found]
        return self.console.page(request, "operator/merchants.html", merchants=shown)

    async def show_merchant(self, request: Request) -> Response:
        """One merchant: registration, line, certificates, people."""
        merchant = self._merchant(request)
        return self.console.page(
            request,
            "operator/merchant.html",
            merchant=merchant,
            line=self.gateway.line.figures(merchant.id),
            certificates=self.gateway.reader.all(_CERTIFICATES, self.gateway.settings.merchant_urn(merchant.id), CERTIFICATES_MAX),
            team=people.of_console(self.gateway.reader, merchant.id),
        )

    async def show_invite(self, request: Request) -> Response:
        """The merchant's first admin is asked for; he invites the others."""
        merchant = self._merchant(request)
        return invite_page(self.console, request, InviteForm(role=people.ADMIN), Errors(), face="merchant", merchant=merchant.id)

    async def invite(self, request: Request) -> Response:
        """The link is shown once."""
        return await invite(self.console, request, face="merchant", merchant=self._merchant(request).id)

    def _merchant(self, request: Request) -> Merchant:
        merchant = merchants.by_id(self.gateway.reader, self.console.matched(request, "id", ids.PARTY_ID.fullmatch))
        if merchant is None:
            raise NotFound("no such merchant")
        return merchant
