"""Merchants in the operator's console: register, suspend, registration, fees, where they are paid, line, keys, people.

GET  /merchants                      everybody who is paid
     /merchants/register             a new one, and the one-time code for its keys
     /merchants/{id}                 everything about one
     /merchants/{id}/invite          its first admin
     /merchants/{id}/{act}           what ACTS names
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money
from hanbit.parties import merchants, people
from hanbit.parties import terms as agreed
from hanbit.parties.merchants import Merchant
from hanbit.payments import lines, merchant_limits, operations, proposals, registrations, settlement
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed, Field, amount, choice
from hanbit.web.forms import ROWS, Errors, Line, address, read_query
from hanbit.web.team import InviteForm, invite, invite_page

ACTS: Final = ("suspend", "resume", "registration", "fees", "payout", "line", "limits", "code", "revoke")
CERTIFICATES_MAX: Final = 50
_LISTED: Final = (
    "SELECT id, name, telephone, state FROM merchants WHERE id > ? AND (id LIKE ? ESCAPE '!' OR name LIKE ? ESCAPE '!') ORDER BY id LIMIT ?"
)
_CERTIFICATES: Final = (
    "SELECT kid, purpose, not_before, not_after, revoked_at FROM certificates WHERE urn = ? ORDER BY issued_at DESC LIMIT ?"
)
_TELEPHONE: Final = ((merchants.TELEPHONE.fullmatch, "operator.field.telephone"),)
_NAME: Final = ((lambda text: text.strip() and text.isprintable() and len(text.strip()) <= merchants.NAME_MAX, "console.field.name"),)
_RETURN_URL: Final = ((merchants.origin_of, "operator.field.return_url"),)


class FilterForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to find; `after` is where the page begins."""

    q: Line = ""
    after: Line = ""


class MerchantPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/merchants", self.show_merchants)
        console.route("GET", "/merchants/register", self.show_register)
        console.route("POST", "/merchants/register", self.register)
        console.route("GET", "/merchants/{id}", self.show_merchant)
        console.route("GET", "/merchants/{id}/invite", self.show_invite)
        console.route("POST", "/merchants/{id}/invite", self.invite)
        console.route("GET", "/merchants/{id}/{act}", self.show_act)
        console.route("POST", "/merchants/{id}/{act}", self.act)

    async def show_merchants(self, request: Request) -> Response:
        """In the order of their ids, fifty a page, each with its line; a part of an id or name narrows them."""
        form = read_query(request, FilterForm)
        if "\x00" in form.q + form.after:
            raise BadInput("q")
        part = "%" + re.sub(r"([%_!])", r"!\1", form.q.strip()) + "%"
        found = await self.gateway.reader.scan(_LISTED, form.after, part, part, ROWS + 1)
        return self.console.page(
            request,
            "operator/merchants.html",
            merchants=[(merchant, self.gateway.line.connected(merchant["id"])) for merchant in found[:ROWS]],
            form={"q": form.q},
            first=address("/merchants", q=form.q) if form.after else "",
            following=address("/merchants", q=form.q, after=found[ROWS - 1]["id"]) if len(found) > ROWS else "",
        )

    async def show_merchant(self, request: Request) -> Response:
        """One merchant: registration, terms, line, certificates, people."""
        merchant = self._merchant(request)
        terms = agreed.of_merchant(self.gateway.reader, merchant.id)
        return self.console.page(
            request,
            "operator/merchant.html",
            merchant=merchant,
            origins=json.loads(merchant.return_origins),
            terms=terms,
            fixed=Money(terms.fee_fixed_minor, merchant.currency),
            line=self.gateway.line.figures(merchant.id),
            limits=merchant_limits.counted(self.gateway, merchant, self.console.at),
            certificates=self._certificates(merchant),
            team=people.of_console(self.gateway.reader, merchant.id),
            acts=[name for name in ACTS if name != ("resume" if merchant.state == "active" else "suspend")],
        )

    async def show_invite(self, request: Request) -> Response:
        """The merchant's first admin is asked for; he invites the others."""
        merchant = self._merchant(request)
        return invite_page(self.console, request, InviteForm(role=people.ADMIN), Errors(), face="merchant", merchant=merchant.id)

    async def invite(self, request: Request) -> Response:
        """The link is shown once."""
        return await invite(self.console, request, face="merchant", merchant=self._merchant(request).id)

    async def show_register(self, request: Request) -> Response:
        """Who is to be paid is asked for."""
        return deeds.show(self.console, request, self._registering(request))

    async def register(self, request: Request) -> Response:
        """The merchant is there; the code for its keys is shown once."""
        return await deeds.carry_out(self.console, request, self._registering(request))

    async def show_act(self, request: Request) -> Response:
        """What is about to be done, and why, is asked for."""
        return deeds.show(self.console, request, self._deed(request))

    async def act(self, request: Request) -> Response:
        """It is done, with who and why in the audit."""
        return await deeds.carry_out(self.console, request, self._deed(request))

    # --- the acts -----------------------------------------------------------------------------------------------------------------------

    def _registering(self, request: Request) -> Deed:
        reader, currencies = self.gateway.reader, tuple(CURRENCY_EXPONENTS)

        async def do(by: str, form: Mapping[str, str]) -> Response:
            values = {name: form[name] for name in ("id", "name", "telephone", "return_url", "orders", "currency")}
            made = await operations.create_merchant(self.gateway, by, **values, reason=form["reason"])
            return self._code_page(request, made["merchant"], made["code"])

        fields = (
            Field(
                "id",
                "operator.merchant.id",
                (
                    (ids.PARTY_ID.fullmatch, "operator.field.merchant_id"),
                    (lambda text: merchants.by_id(reader, text) is None and text != "register", "operator.field.taken"),
                ),
                max=32,
            ),
            Field("name", "operator.merchant.name", _NAME, max=merchants.NAME_MAX),
            Field("telephone", "operator.merchant.telephone", _TELEPHONE, kind="tel", max=22),
            Field("return_url", "operator.merchant.return_url", _RETURN_URL, kind="url"),
            choice("orders", "operator.merchant.orders", ("signed", "plain"), words="operator.orders."),
            choice("currency", "operator.merchant.currency", currencies, value=self.gateway.settings.currency),
        )
        return Deed("operator.deed.register", "/merchants", fields, do)

    def _deed(self, request: Request) -> Deed:
        merchant = self._merchant(request)
        name = self.console.matched(request, "act", ACTS.__contains__)
        back = f"/merchants/{merchant.id}"

        async def do(by: str, form: Mapping[str, str]) -> Response:
            made = await self._do(name, merchant, by, form)
            if name == "code":
                return self._code_page(request, merchant.id, made)
            return self.console.see(back, f"operator.deed.done.merchant_{name}", name=merchant.name)

        return Deed(f"operator.deed.merchant_{name}", back, self._fields(name, merchant), do, {"name": merchant.name})

    def _fields(self, name: str, merchant: Merchant) -> tuple[Field, ...]:
        if name == "registration":
            origins = " ".join(json.loads(merchant.return_origins))
            return (
                Field("name", "operator.merchant.name", _NAME, value=merchant.name, max=merchants.NAME_MAX),
                Field("telephone", "operator.merchant.telephone", _TELEPHONE, kind="tel", value=merchant.telephone, max=22),
                Field("return_url", "operator.merchant.return_url", _RETURN_URL, kind="url", value=merchant.return_url),
                Field("origins", "operator.merchant.origins", value=origins, hint="operator.merchant.origins_hint"),
            )
        if name == "fees":
            terms = agreed.of_merchant(self.gateway.reader, merchant.id)
            points = (
                (lambda text: text.isascii() and text.isdigit() and int(text[:9]) <= agreed.BASIS_POINTS_MAX, "operator.field.points"),
            )
            return (
                Field("points", "operator.merchant.points", points, value=str(terms.fee_basis_points), max=4),
                amount("fixed", "operator.merchant.fixed", merchant.currency, minor=terms.fee_fixed_minor, zero=True),
            )
        if name == "payout":
            return (
                Field("bank", "console.payout_account.bank", max=agreed.BANK_MAX),
                Field("number", "console.payout_account.number", max=50),
            )
        if name == "line":
            return (
                choice("mode", "operator.merchant.line_mode", ("vpn", "leased"), words="operator.line_mode.", value=merchant.line_mode),
                Field(
                    "address",
                    "operator.merchant.line_address",
                    value=merchant.line_address or "",
                    hint="operator.field.line_address_hint",
                    max=45,
                ),
                Field("post", "operator.merchant.post", value=merchant.post_url or "", hint="operator.field.post_hint", kind="url"),
            )
        if name == "revoke":
            return (
                choice(
                    "kid",
                    "console.certificates.kid",
                    tuple(row["kid"] for row in self._certificates(merchant) if row["revoked_at"] is None),
                ),
            )
        return _limit_fields(merchant) if name == "limits" else ()

    async def _do(self, name: str, merchant: Merchant, by: str, form: Mapping[str, str]) -> str:
        gateway, reason = self.gateway, form["reason"]
        if name == "registration":
            await registrations.change_registration(
                gateway,
                by,
                merchant=merchant.id,
                reason=reason,
                name=form["name"],
                telephone=form["telephone"],
                return_url=form["return_url"],
                return_origins=form["origins"],
            )
        elif name == "fees":
            await settlement.set_fees(gateway, by, merchant=merchant.id, basis_points=form["points"], fixed=form["fixed"], reason=reason)
        elif name == "payout":
            account = {"bank": form["bank"], "number": form["number"]}
            await proposals.propose_payout_account(gateway, by, merchant=merchant.id, **account, reason=reason)
        elif name == "line":
            address = form["address"] if form["mode"] == "leased" else ""
            await lines.set_line(
                gateway, by, id=merchant.id, mode=form["mode"], address=address, post_url=form["post"] or lines.NONE, reason=reason
            )
        elif name == "limits":
            limits = {field: form[field] or merchant_limits.NONE for field in ("payment", "day")}
            await merchant_limits.set_merchant_limits(gateway, by, merchant=merchant.id, reason=reason, **limits)
        elif name == "revoke":
            await operations.revoke(gateway, by, kid=form["kid"], reason=reason)
        elif name == "code":
            return str((await operations.enrol_code(gateway, by, merchant=merchant.id, reason=reason))["code"])
        else:
            state = "suspended" if name == "suspend" else "active"
            await operations.set_state(gateway, by, what="merchant", id=merchant.id, state=state, reason=reason)
        return ""

    def _code_page(self, request: Request, merchant: str, code: str) -> Response:
        """The one-time code, this once."""
        return self.console.page(request, "operator/code.html", code=code, back=f"/merchants/{merchant}", name=merchant)

    def _certificates(self, merchant: Merchant) -> list[dict[str, Any]]:
        rows = self.gateway.reader.all(_CERTIFICATES, self.gateway.settings.merchant_urn(merchant.id), CERTIFICATES_MAX)
        return [{name: row[name] for name in ("kid", "purpose", "not_before", "not_after", "revoked_at")} for row in rows]

    def _merchant(self, request: Request) -> Merchant:
        merchant = merchants.by_id(self.gateway.reader, self.console.matched(request, "id", ids.PARTY_ID.fullmatch))
        if merchant is None:
            raise NotFound("no such merchant")
        return merchant


def _limit_fields(merchant: Merchant) -> tuple[Field, ...]:
    hint, now = "operator.field.merchant_limit_hint", {"payment": merchant.limit_payment, "day": merchant.limit_day}
    return tuple(
        amount(name, f"operator.limit.{name}", merchant.currency, minor=limit, hint=hint, empty=True) for name, limit in now.items()
    )
