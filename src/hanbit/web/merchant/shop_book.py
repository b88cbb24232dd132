"""What the shop's own program shows of its book, asked over the line as the page is made: orders that need a look, and call-backs.

GET  /orders                      what contradicts or should have ended
     /orders/{id}/looked          somebody has compared: form and act
     /callbacks                   what was told to the shop's endpoints, and how they answered
     /callbacks/test              a test event to every endpoint: form and act
     /callbacks/{id}/resend       one more time: form and act
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from hanbit.kernel import ids
from hanbit.kernel.errors import Unavailable
from hanbit.payments import actors, console_requests
from hanbit.payments import payment as payments
from hanbit.protocols.console import About, Act, CallBack
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed
from hanbit.web.merchant.own import own_merchant

_DELIVERY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FAILED: Final = {
    "no answer in time": "slow",
    **dict.fromkeys(("ClientConnectorError", "UnixClientConnectorError", "ConnectionRefusedError", "OSError"), "unreachable"),
    "ClientConnectorDNSError": "unnamed",
    **dict.fromkeys(("ClientConnectorCertificateError", "ClientConnectorSSLError", "ClientSSLError"), "untrusted"),
    **dict.fromkeys(("ServerDisconnectedError", "ClientOSError", "ClientConnectionResetError", "ConnectionResetError"), "broken"),
    **dict.fromkeys(("ClientPayloadError", "ClientResponseError"), "broken"),
    **dict.fromkeys(("InvalidURL", "InvalidUrlClientError", "NonHttpUrlClientError", "ValueError"), "no_address"),
}
"""What the shop's program calls a call that got no answer → the words for it; whatever is not here `failed`."""
_ANSWERED: Final = {401: "not_allowed", 403: "not_allowed", 404: "not_there", 405: "not_there", 410: "not_there", 429: "not_handled"}
_ANSWERED_WITH: Final = {2: "taken", 3: "redirected", 4: "turned_away", 5: "not_handled"}
"""By the first digit of an HTTP status, where the status itself says no more."""


class ShopBookPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/orders", self.show_orders)
        deeds.at(console, "/orders/{id}/looked", self._looked)
        console.route("GET", "/callbacks", self.show_callbacks)
        deeds.at(console, "/callbacks/test", self._test)
        deeds.at(console, "/callbacks/{id}/resend", self._resend)

    async def show_orders(self, request: Request) -> Response:
        """What its shop says, with the way to the payment where this book has it."""
        merchant = own_merchant(self.console, request).id
        found = await self._looked_up(merchant, "orders")
        known = (
            {} if found["rows"] is None else {one.tid: payments.find(self.gateway.reader, merchant, one.tid) for one in found["rows"].looks}
        )
        return self.console.page(request, "merchant/orders.html", known=known, **self._asked(merchant, "looked"), **found)

    async def show_callbacks(self, request: Request) -> Response:
        """The newest events, and how each endpoint took them."""
        merchant = own_merchant(self.console, request).id
        found = await self._looked_up(merchant, "callbacks")
        shown = [] if found["rows"] is None else [(one, how_it_went(one)) for one in found["rows"].callbacks]
        return self.console.page(request, "merchant/callbacks.html", shown=shown, **self._asked(merchant, "resend", "test"), **found)

    async def _looked_up(self, merchant: str, about: About) -> dict[str, Any]:
        """`rows`, or why there are none: the line is down, or the shop's program shows nothing."""
        try:
            rows = await console_requests.look(self.gateway, merchant, about)
        except Unavailable:
            return {"rows": None, "why": "down"}
        return {"rows": rows, "why": "" if rows is not None else "not_offered"}

    def _asked(self, merchant: str, *acts: str) -> dict[str, Any]:
        asked = [one for one in console_requests.latest(self.gateway.reader, merchant) if one.act in acts]
        return {"asked": asked, "askers": actors.named(self.gateway.reader, (one.person for one in asked))}

    def _looked(self, request: Request) -> Deed:
        tid = self.console.matched(request, "id", ids.TID.fullmatch)
        return self._deed(request, "looked", "/orders", {"name": tid}, tid=tid)

    def _test(self, request: Request) -> Deed:
        return self._deed(request, "test", "/callbacks", {})

    def _resend(self, request: Request) -> Deed:
        delivery = self.console.matched(request, "id", _DELIVERY.fullmatch)
        return self._deed(request, "resend", "/callbacks", {"name": delivery}, delivery=delivery)

    def _deed(
        self, request: Request, act: Act, back: str, about: Mapping[str, str], *, tid: str | None = None, delivery: str | None = None
    ) -> Deed:
        who = self.console.who(request).person

        async def do(_by: str, form: Mapping[str, str]) -> Response:
            asked = await console_requests.ask(
                self.gateway, who, act, request=ids.new_token(), reason=form["reason"].strip(), tid=tid, delivery=delivery
            )
            return self.console.see(back, f"merchant.request.done.{asked.state}")

        return Deed(f"merchant.deed.{act}", back, (), do, about)


def how_it_went(one: CallBack) -> str:
    """The last try of a call-back: the name of its words; empty before the first."""
    if one.last_status is not None:
        return _ANSWERED.get(one.last_status) or _ANSWERED_WITH.get(one.last_status // 100, "failed")
    return "" if one.last_error is None else _FAILED.get(one.last_error, "failed")
