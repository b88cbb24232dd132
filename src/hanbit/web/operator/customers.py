"""Customers and their accounts in the operator's console.

GET  /customers                    found by the beginning of an ID, or by the whole number of an account
     /customers/open               a new one
     /customers/{id}               accounts, devices, latest payments
     /customers/{id}/{act}         suspend, resume, open an account, a code for a device, a link for a new password, a mail address
     /accounts/{id}/{act}          suspend, resume, limits, pay in (a second person approves)
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hanbit.crypto.passwords import check_new
from hanbit.db.reading import Row
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money
from hanbit.parties import accounts, customers, limits
from hanbit.parties.accounts import Account
from hanbit.parties.customers import Customer
from hanbit.parties.people import ADMIN
from hanbit.payments import contact, forgotten, handed_over, mails, operations, proposals, search
from hanbit.payments.handed_over import Credential
from hanbit.payments.search import Wanted
from hanbit.settings import EMAIL
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Check, Deed, Field, amount, choice
from hanbit.web.forms import ROWS, Line, address, read_query

CUSTOMER_ACTS: Final = ("suspend", "resume", "account", "code", "password", "email", "no_email")
ACCOUNT_ACTS: Final = ("suspend", "resume", "fund", "limits")
HANDED_OVER: Final[dict[str, Credential]] = {"code": "device", "password": "password"}
"""Acts by which a customer gets a credential."""
LATEST: Final = 20
PASSWORD_MAX: Final = 128
EMAIL_MAX: Final = 254
_LISTED: Final = "SELECT id, login, name, state FROM customers WHERE login > ? AND login >= ? AND login < ? ORDER BY login LIMIT ?"
_ACCOUNTS: Final = (
    "SELECT a.id, a.kind, a.masked, a.currency, a.state, l.credits_posted - l.debits_posted AS balance, l.debits_pending AS held, "
    "l.credit_limit, a.bank_payment, a.bank_day "
    "FROM accounts a JOIN ledger_accounts l ON l.id = a.id WHERE a.customer = ? ORDER BY a.created_at, a.id LIMIT ?"
)
_DEVICES: Final = "SELECT kind, name, state, created_at FROM devices WHERE customer = ? ORDER BY created_at DESC, id LIMIT ?"
_LAST_LETTER: Final = "\U0010ffff"


class FilterForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to find; `after` is where the page begins."""

    q: Line = ""
    after: Line = ""


class CustomerPages:
    """The handlers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/customers", self.show_list)
        console.route("GET", "/customers/open", self.show_open)
        console.route("POST", "/customers/open", self.open)
        console.route("GET", "/customers/{id}", self.show_customer)
        console.route("GET", "/customers/{id}/{act}", self.show_act)
        console.route("POST", "/customers/{id}/{act}", self.act)
        console.route("GET", "/accounts/{id}/{act}", self.show_account_act)
        console.route("POST", "/accounts/{id}/{act}", self.account_act)

    async def show_list(self, request: Request) -> Response:
        """In the order of their IDs, fifty a page; the number of an account leads to its customer at once."""
        form = read_query(request, FilterForm)
        wanted = form.q.strip()
        if "\x00" in form.q + form.after:
            raise BadInput("q")
        account = accounts.by_number(self.gateway.reader, self.gateway.keyring.pepper, wanted) if wanted else None
        if account is not None:
            return RedirectResponse(f"/customers/{account.customer}", 303)
        rows = self.gateway.reader.all(_LISTED, form.after, wanted, wanted + _LAST_LETTER, ROWS + 1)
        following = address("/customers", q=wanted, after=rows[ROWS - 1]["login"]) if len(rows) > ROWS else ""
        first = address("/customers", q=wanted) if form.after else ""
        return self.console.page(
            request, "operator/customers.html", customers=rows[:ROWS], form={"q": form.q}, first=first, following=following
        )

    async def show_customer(self, request: Request) -> Response:
        """One customer."""
        customer, reader = self._customer(request), self.gateway.reader
        latest = await search.listed(reader, Wanted(customer=customer.id), LATEST)
        asked = contact.asked(self.gateway, customer.id)
        found = [_shown(row) for row in reader.all(_ACCOUNTS, customer.id, ROWS)]
        return self.console.page(
            request,
            "operator/customer.html",
            customer=customer,
            accounts=found,
            devices=reader.all(_DEVICES, customer.id, ROWS),
            payments=latest.rows,
            email=contact.masked(customer.email) if customer.email else "",
            asked=None if asked is None else contact.masked(asked),
            acts=self._acts_for(customer),
        )

    async def show_open(self, request: Request) -> Response:
        """Who is to have an account is asked for."""
        return deeds.show(self.console, request, self._opening())

    async def open(self, request: Request) -> Response:
        """The customer is there."""
        return await deeds.carry_out(self.console, request, self._opening())

    async def show_act(self, request: Request) -> Response:
        """What is about to be done, and why, is asked for."""
        return deeds.show(self.console, request, self._deed(request))

    async def act(self, request: Request) -> Response:
        """It is done, with who and why in the audit."""
        return await deeds.carry_out(self.console, request, self._deed(request))

    async def show_account_act(self, request: Request) -> Response:
        """As above, of one account."""
        return deeds.show(self.console, request, self._account_deed(request))

    async def account_act(self, request: Request) -> Response:
        """Done, or where it moves money proposed."""
        return await deeds.carry_out(self.console, request, self._account_deed(request))

    # --- the acts -----------------------------------------------------------------------------------------------------------------------

    def _opening(self) -> Deed:
        reader = self.gateway.reader

        async def do(by: str, form: Mapping[str, str]) -> Response:
            values = {name: form[name] for name in ("login", "name", "password", "language", "reason")}
            made = await operations.create_customer(self.gateway, by, **values)
            return self.console.see(f"/customers/{made['customer']}", "operator.deed.done.open", name=form["name"])

        fields = (
            Field(
                "login",
                "console.staff.login",
                (
                    (_is_login, "operator.field.login"),
                    (lambda text: customers.by_login(reader, text) is None, "operator.field.taken"),
                ),
                max=customers.LOGIN_MAX,
            ),
            Field("name", "console.staff.name", ((_is_name, "console.field.name"),), max=customers.NAME_MAX),
            Field("password", "operator.customer.password", ((_is_password, "operator.field.password"),), "password", max=PASSWORD_MAX),
            choice("language", "layout.language", customers.LANGUAGES, words="console.language.", value="ko"),
        )
        return Deed("operator.deed.open", "/customers", fields, do)

    def _deed(self, request: Request) -> Deed:
        customer = self._customer(request)
        name = self.console.matched(request, "act", CUSTOMER_ACTS.__contains__)
        back = f"/customers/{customer.id}"

        async def do(by: str, form: Mapping[str, str]) -> Response:
            gateway, reason = self.gateway, form["reason"]
            if name == "code":
                made = await operations.enrol_code(gateway, by, login=customer.login, reason=reason)
                return self.console.page(request, "operator/code.html", code=made["code"], back=back, name=customer.name)
            if name == "password":
                link = await forgotten.make_password_link(gateway, by, login=customer.login, reason=reason)
                shown = {"link": link["link"], "until": link["expires_at"], "back": back, "name": customer.name}
                return self.console.page(request, "operator/link.html", **shown)
            if name == "email":
                await contact.set_email(gateway, by, login=customer.login, email=form["email"].strip(), reason=reason)
            elif name == "no_email":
                await contact.remove_email(gateway, by, login=customer.login, reason=reason)
            elif name == "account":
                values = {part: form[part] for part in ("kind", "number", "password", "currency")}
                credit = form["credit"] or "0"
                await operations.create_account(gateway, by, login=customer.login, **values, credit_limit=credit, reason=reason)
            else:
                state = "suspended" if name == "suspend" else "active"
                await operations.set_state(gateway, by, what="customer", id=customer.login, state=state, reason=reason)
            return self.console.see(back, f"operator.deed.done.customer_{name}", name=customer.name)

        role = self.console.who(request).person.role
        handing = HANDED_OVER.get(name)
        apart: tuple[Check, ...] = ()
        if handing is not None:
            apart = ((lambda by: handed_over.may(self.gateway, by, customer.id, handing), "operator.customer.by_a_colleague"),)
        return Deed(f"operator.deed.customer_{name}", back, self._fields(name, role), do, {"name": customer.name}, apart)

    def _acts_for(self, customer: Customer) -> list[str]:
        """What can be done with him as he is now."""
        left = {"resume"} if customer.state == "active" else {"suspend", "password"}
        left |= set() if mails.is_on(self.gateway) else {"email"}
        left |= set() if customer.email else {"no_email"}
        return [name for name in CUSTOMER_ACTS if name not in left]

    def _fields(self, name: str, role: str) -> tuple[Field, ...]:
        if name == "email":
            return (Field("email", "operator.customer.email", ((_is_email, "operator.field.email"),), "email", max=EMAIL_MAX),)
        if name != "account":
            return ()
        # A credit line is money to spend, and who opens an account chooses its password: the support opens none with one.
        may_lend: Check = ((lambda text: role == ADMIN or text in {"", "0"}), "operator.field.credit_by_admin")
        return (
            choice("kind", "operator.account.kind", tuple(accounts.NUMBER), words="kind."),
            Field(
                "number",
                "operator.account.number",
                ((str.isdigit, "operator.field.number"),),
                hint="operator.field.account_number_hint",
                max=16,
            ),
            Field("password", "operator.account.password", ((bool, "operator.field.account_password"),), "password", max=PASSWORD_MAX),
            choice("currency", "operator.merchant.currency", tuple(CURRENCY_EXPONENTS), value=self.gateway.settings.currency),
            amount("credit", "operator.account.credit", checks=(may_lend,), hint="operator.field.credit_hint", empty=True, zero=True),
        )

    def _account_deed(self, request: Request) -> Deed:
        account = accounts.by_id(self.gateway.reader, self.console.token(request))
        if account is None:
            raise NotFound("no such account")
        name = self.console.matched(request, "act", ACCOUNT_ACTS.__contains__)
        back, found = f"/customers/{account.customer}", account

        async def do(by: str, form: Mapping[str, str]) -> Response:
            if name == "fund":
                await proposals.propose_fund(self.gateway, by, account=found.id, amount=form["amount"], reason=form["reason"])
                return self.console.see("/proposals", "operator.deed.done.proposed")
            if name == "limits":
                waits = await proposals.change_limits(
                    self.gateway, by, account=found.id, payment=form["payment"], day=form["day"], reason=form["reason"]
                )
                if waits:
                    return self.console.see("/proposals", "operator.deed.done.limits_proposed", name=found.masked)
                return self.console.see(back, "operator.deed.done.account_limits", name=found.masked)
            state = "suspended" if name == "suspend" else "active"
            await operations.set_state(self.gateway, by, what="account", id=found.id, state=state, reason=form["reason"])
            return self.console.see(back, f"operator.deed.done.account_{name}", name=found.masked)

        fields: tuple[Field, ...] = (amount("amount", "console.payments.amount", found.currency),) if name == "fund" else ()
        if name == "limits":
            fields = self._limit_fields(found)
        return Deed(f"operator.deed.account_{name}", back, fields, do, {"name": found.masked})

    def _limit_fields(self, account: Account) -> tuple[Field, ...]:
        own, hint = limits.of_account(self.gateway.reader, account.id), "operator.field.limit_hint"
        return (
            amount("payment", "operator.limit.payment", account.currency, minor=own.bank_payment, hint=hint, empty=True),
            amount("day", "operator.limit.day", account.currency, minor=own.bank_day, hint=hint, empty=True),
        )

    def _customer(self, request: Request) -> Customer:
        customer = customers.by_id(self.gateway.reader, self.console.token(request))
        if customer is None:
            raise NotFound("no such customer")
        return customer


def _is_email(text: str) -> bool:
    return EMAIL.fullmatch(text.strip()) is not None


def _is_login(text: str) -> bool:
    return 1 <= len(text) <= customers.LOGIN_MAX and text.isprintable() and " " not in text


def _is_name(text: str) -> bool:
    return 1 <= len(text.strip()) <= customers.NAME_MAX and text.isprintable()


def _is_password(text: str) -> bool:
    try:
        check_new(text, login="")  # whether it is too like the ID is seen when the customer is made
    except BadInput:
        return False
    return True


def _shown(row: Row) -> dict[str, object]:
    """An account with what it has, what is held of it, and its credit line; a card may be below zero."""
    currency, balance = row["currency"], int(row["balance"])
    told = {name: row[name] for name in ("id", "kind", "masked", "state")}
    return told | {
        "below": balance < 0,
        "balance": Money(abs(balance), currency),
        "held": Money(row["held"], currency) if row["held"] else None,
        "limits": [Money(row[name], currency) if row[name] else None for name in ("bank_payment", "bank_day")],
        "credit": Money(row["credit_limit"], currency) if row["credit_limit"] else None,
    }
