"""The customer's home: what he has, what he paid, who is logged in as him, and how much may be taken at once.

GET  /my                              balances with what is held apart, the latest payments
GET  /my/login                        the log-in, sealed as on the payment page
GET  /my/accounts/{id}                the statement, with search
GET  /my/accounts/{id}/statement.csv  the same as a table
GET  /my/accounts/{id}/settings       own limits, the account's password
GET  /my/payments/{id}                one payment from the first try to the last refund
GET  /my/security                     sessions, what he approves with, the log-in password
GET  /my/keys/{id}                    one of these: another name, or its end
GET  /my/contact                      mail address, language
GET  /my/email/{token}                the link that confirms an address
POST /my/login, /my/logout, /my/sessions, /my/limits, /my/password, /my/notices, /my/rename, /my/remove, /my/email, /my/confirm,
     /my/language                     sealed forms (`payments/sealed_forms.py`), answered with where to go on

What only tells works without JavaScript; what is typed and secret needs it, because it leaves the page sealed or not at all. Whatever is
another customer's is not found.
"""

import csv
import io
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound, NotSignedIn
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money
from hanbit.parties import limits, passkeys
from hanbit.parties.accounts import Account
from hanbit.parties.limits import Limits
from hanbit.payments import contact, home, home_keys, mails, sealed_forms, statement, timeline, views, wrong_passwords
from hanbit.payments.payment import Payment
from hanbit.payments.redirect_flow import SignedIn
from hanbit.payments.statement import Line, Wanted
from hanbit.payments.states import State
from hanbit.web.customer.forms import JOSE, read_body
from hanbit.web.customer.outcomes import page_of
from hanbit.web.customer.routes import CustomerFace, whence_of
from hanbit.web.faults import json_response, language_of, visit_of
from hanbit.web.forms import ROWS, Errors, address, amount_shown, day_begins, day_ends, example, fields_of, is_day, own_path, read_query
from hanbit.web.forms import Line as Typed
from hanbit.web.security import end_session, set_session

CSV_PORTION: Final = 500
CSV_PORTIONS_MAX: Final = 20
"""So many portions make one table at most; it says where it ends, and whoever has more asks for another span of time."""
LATEST: Final = 10
SESSIONS_SHOWN: Final = 5
"""So many other log-ins are listed at first."""
UNPROCESSABLE: Final = 422
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula at the beginning of a cell."""
_SCRIPT_WORDS: Final = "home.say."


class SearchForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a statement is narrowed to; `after` is where the page begins."""

    words: Typed = ""
    since: Typed = ""
    until: Typed = ""
    after: Typed = ""


class Next(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on after the log-in; `done` names what was just done."""

    next: Typed = ""
    done: Typed = ""


class HomeFace:
    """The handlers; pages, session and language are those of the customers' site."""

    def __init__(self, face: CustomerFace) -> None:
        self.face = face
        self.gateway = face.gateway

    def routes(self) -> list[BaseRoute]:
        """The addresses of this module."""
        return [
            Route("/my", self._led(self.show_home)),
            Route("/my/login", self.login, methods=["GET", "POST"]),
            Route("/my/accounts/{id}", self._led(self.show_statement)),
            Route("/my/accounts/{id}/statement.csv", self.download_statement),
            Route("/my/accounts/{id}/settings", self._led(self.show_settings)),
            Route("/my/payments/{id}", self._led(self.show_payment)),
            Route("/my/security", self._led(self.show_security)),
            Route("/my/logout", self.log_out, methods=["POST"]),
            Route("/my/sessions", self.end_sessions, methods=["POST"]),
            Route("/my/limits", self.set_limits, methods=["POST"]),
            Route("/my/password", self.change_password, methods=["POST"]),
            Route("/my/keys/{id}", self._led(self.show_key)),
            Route("/my/contact", self._led(self.show_contact)),
            Route("/my/email/{id}", self._led(self.show_confirm)),
            Route("/my/notices", self.answer_notice, methods=["POST"]),
            Route("/my/rename", self.rename_key, methods=["POST"]),
            Route("/my/remove", self.remove_key, methods=["POST"]),
            Route("/my/email", self.ask_email, methods=["POST"]),
            Route("/my/confirm", self.confirm_email, methods=["POST"]),
            Route("/my/language", self.set_language, methods=["POST"]),
        ]

    # --- pages ----------------------------------------------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """The page, or what it sends."""
        return await (self.log_in(request) if request.method == "POST" else self.show_login(request))

    async def show_login(self, request: Request) -> Response:
        """Name and password are asked for; whoever is logged in already is led on."""
        following = _within_home(read_query(request, Next).next)
        if self.face.visitor(request) is not None:
            return RedirectResponse(following, 303)
        return self._page(request, "home/login.html", form=sealed_forms.blank(self.gateway, home.LOGIN), following=following)

    async def show_home(self, request: Request, who: SignedIn) -> Response:
        """What he has and what he paid last."""
        reader, customer = self.gateway.reader, who.customer.id
        return self._page(
            request,
            "home/home.html",
            who=who,
            balances=statement.balances(reader, customer),
            held=statement.held(reader, customer, self.gateway.clock.now()),
            latest=statement.latest(reader, customer, LATEST),
            notices=[(one, home.may_own(who, one)) for one in home.notices(self.gateway, who)],
            notice_form=self._blank(who, home.NOTICE),
            tries=wrong_passwords.since_last_log_in(self.gateway, who),
        )

    async def show_statement(self, request: Request, who: SignedIn) -> Response:
        """Fifty lines a page, newest first; days and words narrow it."""
        request.state.searched = True
        account, form, errors = self._account(request, who), read_query(request, SearchForm), _wrong_days(request)
        page = statement.Page([], "")
        if not errors:
            page = await statement.page(self.gateway.reader, account.id, self._wanted(form), ROWS)
        here, narrowed = f"/my/accounts/{account.id}", {**fields_of(form), "after": ""}
        return self._page(
            request,
            "home/statement.html",
            status=UNPROCESSABLE if errors else 200,
            who=who,
            account=account,
            balance=next(one for one in statement.balances(self.gateway.reader, who.customer.id) if one.id == account.id),
            form=fields_of(form),
            errors=errors,
            lines=page.lines,
            table=address(f"{here}/statement.csv", **narrowed),
            first=address(here, **narrowed) if form.after else "",
            following=address(here, **{**narrowed, "after": page.following}) if page.following else "",
        )

    async def download_statement(self, request: Request) -> Response:
        """The same lines as a table; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
        who = await self.face.signed_in(request)
        account, form = self._account(request, who), read_query(request, SearchForm)
        if _wrong_days(request):
            raise NotFound("no such day")
        lines: list[Line] = []
        wanted, following = self._wanted(form), ""
        for _ in range(CSV_PORTIONS_MAX):
            page = await statement.page(self.gateway.reader, account.id, wanted, CSV_PORTION)
            lines, following = lines + page.lines, page.following
            if not following:
                break
            wanted = Wanted(wanted.since, wanted.until, wanted.words, following)
        language = language_of(request, self.face.pages)
        written = io.StringIO()
        table = csv.writer(written)
        table.writerow([str(language.say(f"home.csv.{name}")) for name in ("at", "kind", "payee", "text", "moved", "balance", "payment")])
        for line in lines:
            table.writerow(
                [
                    language.moment(line.at),
                    str(language.say(f"home.entry.{line.kind}")),
                    _cell(line.payee),
                    _cell(line.text),
                    _signed(line.moved, below_zero=not line.came_in),
                    _signed(line.balance, below_zero=line.owed),
                    line.payment[:8],
                ]
            )
        if following:
            table.writerow([str(language.say("home.csv.more"))])
        name = f'attachment; filename="hanbit-statement-{account.masked[-4:]}.csv"'
        # The mark in front tells a spreadsheet that this is UTF-8.
        return Response("\ufeff" + written.getvalue(), media_type="text/csv; charset=utf-8", headers={"Content-Disposition": name})

    def _wanted(self, form: SearchForm) -> Wanted:
        zone = self.gateway.settings.zone
        return Wanted(day_begins(form.since, zone), day_ends(form.until, zone), form.words.strip(), form.after)

    async def show_settings(self, request: Request, who: SignedIn) -> Response:
        """An account's own limits, and its password."""
        account, at = self._account(request, who), self.gateway.clock.now()
        own = limits.of_account(self.gateway.reader, account.id)
        waiting = own.waiting(at)
        return self._page(
            request,
            "home/settings.html",
            who=who,
            account=account,
            own=home.limits_as_money(own.at(at), account.currency),
            bank=home.limits_as_money(Limits(own.bank_payment, own.bank_day), account.currency),
            wished={name: amount_shown(limit, account.currency) for name, limit in asdict(own.own_at(at)).items()},
            example=example(account.currency),
            waiting=None if waiting is None else home.limits_as_money(waiting[0], account.currency),
            waiting_until=None if waiting is None else waiting[1],
            paid=Money(limits.paid(self.gateway.reader, who.customer.id, account.id, at), account.currency),
            limit_form=self._blank(who, home.LIMIT),
            password_form_blank=self._blank(who, home.PASSWORD),
        )

    async def show_payment(self, request: Request, who: SignedIn) -> Response:
        """Every try, signed message and movement of one payment of his own; each signature is verified as the page is made."""
        view, payment = views.payment_view(self.gateway, _token(request), who.customer.id)
        if view is None or payment is None:
            raise NotFound("no such payment")
        return self._page(
            request,
            "home/payment.html",
            who=who,
            payment=payment,
            view=view,
            refunded=Money(payment.refunded, payment.currency) if payment.refunded else None,
            timeline=timeline.for_customer(self.gateway, payment),
            outcome=_told_of_money(payment),
        )

    async def show_security(self, request: Request, who: SignedIn) -> Response:
        """Who is logged in as him, who tried to, and the password to log in with.

        This log-in stands first, however many others have begun since; of those a few, or with `sessions=all` as many as a page holds.
        """
        live = home.live_sessions(self.gateway, who.customer.id, home.SESSIONS_SHOWN_MAX + 1)
        others = [one for one in live if one.token_hash != who.session.token_hash]
        is_all = request.query_params.get("sessions") == "all"
        shown = home.SESSIONS_SHOWN_MAX if is_all else SESSIONS_SHOWN
        return self._page(
            request,
            "home/security.html",
            who=who,
            others=others[:shown],
            more=len(others) - shown,
            all_shown=is_all,
            end_form=self._blank(who, home.END),
            tries=wrong_passwords.of_customer(self.gateway, who.customer.id),
            keys=home_keys.of_customer(self.gateway, who.customer.id),
            password_form_blank=self._blank(who, home.PASSWORD),
        )

    async def show_key(self, request: Request, who: SignedIn) -> Response:
        """One passkey or device key of his own."""
        customer = who.customer.id
        key = home_keys.find(self.gateway, customer, _token(request))
        limit = Money(self.gateway.settings.unsigned_limit_minor, self.gateway.settings.currency)
        return self._page(
            request,
            "home/key.html",
            who=who,
            key=key,
            is_last=len(home_keys.of_customer(self.gateway, customer)) == 1,
            has_passkey=self._has_passkey(who),
            limit=limit,
            rename_form=self._blank(who, home_keys.RENAME),
            remove_form=self._blank(who, home_keys.REMOVE),
        )

    async def show_contact(self, request: Request, who: SignedIn) -> Response:
        """Where and in which language he is written to."""
        return self._page(
            request,
            "home/contact.html",
            who=who,
            mail_is_on=mails.is_on(self.gateway),
            has_passkey=self._has_passkey(who),
            asked=contact.asked(self.gateway, who.customer.id),
            email_form=self._blank(who, contact.EMAIL_ACT),
            language_form=self._blank(who, contact.LANGUAGE),
        )

    async def show_confirm(self, request: Request, who: SignedIn) -> Response:
        """Opening the link changes nothing, because mail programs open links too: the customer says yes."""
        return self._page(request, "home/confirm.html", who=who, token=_token(request), form=self._blank(who, contact.CONFIRM_ACT))

    # --- acts -----------------------------------------------------------------------------------------------------------------------

    async def log_in(self, request: Request) -> Response:
        """The sealed log-in becomes a session; wherever it leads is a page of the home."""
        token = await home.log_in(self.gateway, await read_body(request, JOSE), whence_of(request))
        response = json_response({"done": "logged_in"})
        set_session(response, token)
        return response

    async def log_out(self, request: Request) -> Response:
        """The session ends in the book as well as in the browser."""
        sealed = await read_body(request, JOSE)
        await home.log_out(self.gateway, await self.face.signed_in(request), sealed)
        response = json_response({"done": "logged_out"})
        end_session(response)
        return response

    async def end_sessions(self, request: Request) -> Response:
        """One of his sessions, or all but this one."""
        sealed = await read_body(request, JOSE)
        await home.end_sessions(self.gateway, await self.face.signed_in(request), sealed)
        return json_response({"done": "ended"})

    async def set_limits(self, request: Request) -> Response:
        """Lower counts at once, higher in a day."""
        sealed = await read_body(request, JOSE)
        await home.set_limits(self.gateway, await self.face.signed_in(request), sealed)
        return json_response({"done": "limited"})

    async def change_password(self, request: Request) -> Response:
        """To log in, or of one account."""
        sealed = await read_body(request, JOSE)
        await home.change_password(self.gateway, await self.face.signed_in(request), sealed)
        return json_response({"done": "password"})

    async def answer_notice(self, request: Request) -> Response:
        """Whether an unusual log-in was his."""
        return json_response({"done": await home.answer_notice(self.gateway, *await self._sent(request))})

    async def rename_key(self, request: Request) -> Response:
        """Another name for a passkey or device key."""
        await home_keys.rename(self.gateway, *await self._sent(request))
        return json_response({"done": "renamed"})

    async def remove_key(self, request: Request) -> Response:
        """A passkey or device key goes, with a fresh approval."""
        await home_keys.remove(self.gateway, *await self._sent(request))
        return json_response({"done": "removed"})

    async def ask_email(self, request: Request) -> Response:
        """A link goes to the address that he wants."""
        return json_response({"done": f"email_{await contact.ask_email(self.gateway, *await self._sent(request))}"})

    async def confirm_email(self, request: Request) -> Response:
        """The link was opened by its owner."""
        await contact.confirm(self.gateway, *await self._sent(request))
        return json_response({"done": "confirmed"})

    async def set_language(self, request: Request) -> Response:
        """The language of letters, and of the page that follows."""
        language = await contact.set_language(self.gateway, *await self._sent(request))
        return json_response({"done": "language", "language": language})

    # --- what they share ------------------------------------------------------------------------------------------------------------

    def _led(self, page: Callable[[Request, SignedIn], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The page for whoever is logged in; everybody else is led to the log-in and back."""

        async def led(request: Request) -> Response:
            try:
                who = await self.face.signed_in(request)
            except NotSignedIn:
                here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                language = request.query_params.get("lang")
                return RedirectResponse(address("/my/login", next=own_path(here), lang=language), 303)
            return await page(request, who)

        return led

    async def _sent(self, request: Request) -> tuple[SignedIn, bytes]:
        """Who sends, and the sealed form."""
        sealed = await read_body(request, JOSE)
        return await self.face.signed_in(request), sealed

    def _account(self, request: Request, who: SignedIn) -> Account:
        return home.own_account(self.gateway, who, _token(request))

    def _has_passkey(self, who: SignedIn) -> bool:
        return bool(passkeys.of_customer(self.gateway.reader, who.customer.id))

    def _blank(self, who: SignedIn, act: str) -> dict[str, Any]:
        return sealed_forms.blank(self.gateway, act, who.session.token_hash)

    def _page(self, request: Request, template: str, *, status: int = 200, who: SignedIn | None = None, **context: Any) -> Response:
        visit = visit_of(request, self.face.pages)
        if who is not None and "lang" not in request.query_params:
            visit = replace(visit, language=self.face.pages.languages["en" if who.customer.language == "en" else "ko"])
        words = {place: text for place, text in visit.language.words.items() if place.startswith(_SCRIPT_WORDS)}
        done = f"home.done.{request.query_params.get('done', '')}"
        text = self.face.pages.render(
            template,
            visit,
            here=request.url.path,
            customer=None if who is None else who.customer,
            session=None if who is None else who.session,
            out_form=None if who is None else self._blank(who, home.OUT),
            script_words=words,
            done=done if done in visit.language.words else "",
            **context,
        )
        return HTMLResponse(text, status)


def _token(request: Request) -> str:
    """One of our own ids in the address; what is none is not found."""
    text = str(request.path_params["id"])
    if not ids.TOKEN.fullmatch(text):
        raise NotFound("no such id")
    return text


def _within_home(unverified: str) -> str:
    """A page of the home to go on to."""
    path = own_path(unverified)
    return path if path.startswith(("/my?", "/my/")) and not path.startswith("/my/login") else "/my"


def _wrong_days(request: Request) -> Errors:
    form, errors = read_query(request, SearchForm), Errors()
    errors.check("since", not form.since or is_day(form.since), "home.field.day")
    errors.check("until", not form.until or is_day(form.until), "home.field.day")
    return errors


def _told_of_money(payment: Payment) -> str:
    """The page of outcome whose words say what happened to the money; none where it was paid, or can still be."""
    page = page_of(State(payment.state), payment.reason, owner=True)
    return "" if page in {"receipt", "login"} else page


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _signed(money: Money, *, below_zero: bool) -> str:
    """A plain number with its sign, which is a number to a spreadsheet and nothing else."""
    value = Decimal(money.amount_minor).scaleb(-CURRENCY_EXPONENTS[money.currency])
    return f"{-value if below_zero else value:f}"
