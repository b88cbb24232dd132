"""The line to the shop and the keys that speak for it: how it is now, what was issued in the shop's name, and the way to end a key.

GET  /line                              the line, the certificates, what is still to be told
     /certificates/{hash}/revoke        end one at once: form and act
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.crypto.certificates import authority_urn
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound, WrongState
from hanbit.payments import certificates, operations
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed
from hanbit.web.merchant.own import own_merchant

CERTIFICATES_MAX: Final = 50
SESSION_AUTHORITY: Final = "session-authority"
"""The purpose of a certificate that says none: its holder certifies the sessions of the shop's customers."""
SOON_S: Final = 14 * 86_400
"""A key that ends so soon and has no successor needs somebody: a running shop renews it a month before."""
_SELECT: Final = "SELECT kid, urn, purpose, issued_at, not_after, revoked_at FROM certificates "
_OWN: Final = _SELECT + "WHERE urn IN (?, ?) ORDER BY issued_at DESC LIMIT ?"
_UNTOLD: Final = "SELECT count(*) AS n FROM outbox WHERE next_at IS NOT NULL AND merchant = ?"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that was issued in the shop's name; `how` is code, renewal, or empty where that was not recorded."""

    kid: str
    purpose: str
    issued_at: int
    not_after: int
    revoked_at: int | None
    how: str


class ConnectionPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/line", self.show_line)
        deeds.at(console, "/certificates/{hash}/revoke", self._revoke)

    async def show_line(self, request: Request) -> Response:
        """Whether the shop is there, and whose keys are believed."""
        merchant = own_merchant(self.console, request)
        return self.console.page(
            request,
            "merchant/line.html",
            merchant=merchant,
            line=self.gateway.line.figures(merchant.id),
            untold=(await self.gateway.reader.scan(_UNTOLD, merchant.id))[0]["n"],
            certificates=self._certificates(merchant.id),
            soon=self.console.at + SOON_S,
        )

    def _certificates(self, merchant: str) -> list[Certificate]:
        """The shop's own, and those of the authority that certifies its customers' sessions; the newest first."""
        urn = self.gateway.settings.merchant_urn(merchant)
        sessions = f"{authority_urn(self.gateway.keyring.operator, 'session')}:{merchant}"
        rows = self.gateway.reader.all(_OWN, urn, sessions, CERTIFICATES_MAX)
        found = []
        for row in rows:
            how = certificates.how_issued(self.gateway, row["kid"])
            found.append(
                Certificate(row["kid"], row["purpose"] or SESSION_AUTHORITY, row["issued_at"], row["not_after"], row["revoked_at"], how)
            )
        return found

    def _revoke(self, request: Request) -> Deed:
        merchant = own_merchant(self.console, request)
        kid = self.console.matched(request, "hash", ids.DIGEST.fullmatch)
        found = next((one for one in self._certificates(merchant.id) if one.kid == kid), None)
        if found is None:
            raise NotFound("no such certificate")

        async def do(by: str, form: Mapping[str, str]) -> Response:
            if found.revoked_at is not None:
                raise WrongState("this certificate is revoked already")
            await operations.revoke(self.gateway, by, kid=kid, reason=form["reason"])
            return self.console.see("/line", "merchant.done.revoked")

        return Deed("merchant.deed.revoke", "/line", (), do, {"kid": kid[:12]})
