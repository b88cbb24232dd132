"""How one gets into a console: the one-time link, the log-in, the second factor, the way out, the language.

GET, POST /set-up/{token}      password and second factor by a link that works once
GET, POST /login               name and password
GET, POST /second-factor       code or passkey; also the step-up before a dangerous act
POST      /logout, /language
"""

from typing import Any, Final

import msgspec
import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from hanbit.crypto.passwords import NEW_PASSWORD_CHARACTERS_MIN, check_new
from hanbit.db.change import Change, Stale
from hanbit.kernel.errors import BadInput, NotFound, NotSignedIn, WrongState
from hanbit.parties import invitations, time_codes
from hanbit.parties.invitations import Invitation
from hanbit.parties.people import Person
from hanbit.payments import staff_sign_in
from hanbit.payments.sign_in import LoginFailed, act
from hanbit.payments.staff_sign_in import SecondFactorFailed, Shown
from hanbit.web.consoles import Console
from hanbit.web.forms import Blob, Errors, Line, Secret, address, own_path, read_form, read_query
from hanbit.web.words import LANGUAGES

FACTOR_NAMES: Final = {"passkey": "passkey", "totp": "app"}


class Next(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on."""

    next: Line = ""


class LoginForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name and password."""

    login: Line = ""
    password: Secret = ""
    next: Line = ""


class SecondFactorForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code, or what the browser says of a passkey."""

    code: Line = ""
    passkey: Blob = ""
    next: Line = ""


class SetUpForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A password, twice, and one second factor."""

    password: Secret = ""
    again: Secret = ""
    code: Line = ""
    passkey: Blob = ""


class LanguageForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The other language, and the page to see in it."""

    language: Line = ""
    next: Line = ""


class Entrance:
    """The handlers; the same in both consoles."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/static/{version}/{name:path}", console.assets.serve)
        console.route("GET", "/login", self.show_login)
        console.route("POST", "/login", self.log_in)
        console.route("GET", "/second-factor", self.show_second_factor)
        console.route("POST", "/second-factor", self.step_up)
        console.route("GET", "/set-up/{token}", self.show_set_up)
        console.route("POST", "/set-up/{token}", self.set_up)
        console.route("POST", "/logout", self.log_out)
        console.route("POST", "/language", self.choose_language)

    async def show_login(self, request: Request) -> Response:
        """Name and password are asked for."""
        following = own_path(read_query(request, Next).next)
        return self._login_page(request, LoginForm(next=following), Errors())

    async def log_in(self, request: Request) -> Response:
        """A right password leads to the second factor; a wrong one back to the form, which does not say what was wrong."""
        form = await read_form(request, LoginForm)
        errors = Errors()
        errors.check("login", form.login, "console.login.need_login")
        errors.check("password", form.password, "console.login.need_password")
        if errors:
            return self._login_page(request, form, errors)
        try:
            token = await staff_sign_in.log_in(self.gateway, self.console.face, login=form.login.strip().lower(), password=form.password)
        except LoginFailed as error:
            errors.check("login", False, "console.login.failed")
            return self._login_page(request, form, errors, status=error.status)
        response = self.console.see(address("/second-factor", next=own_path(form.next)))
        self.console.set_session(response, token)
        return response

    async def show_second_factor(self, request: Request) -> Response:
        """The code or the passkey is asked for."""
        return self._second_factor_page(request, own_path(read_query(request, Next).next), Errors())

    async def step_up(self, request: Request) -> Response:
        """The right one opens the console, and for five minutes its dangerous acts."""
        form = await read_form(request, SecondFactorForm)
        who, errors = self.console.who(request), Errors()
        following = own_path(form.next)
        errors.check("code", form.code or form.passkey, "console.second_factor.need_code")
        if errors:
            return self._second_factor_page(request, following, errors)
        try:
            token = await staff_sign_in.step_up(self.gateway, who, Shown(form.code, form.passkey))
        except SecondFactorFailed as error:
            errors.check("code", False, "console.second_factor.failed")
            return self._second_factor_page(request, following, errors, status=error.status)
        response = self.console.see(following)
        self.console.set_session(response, token)
        return response

    async def show_set_up(self, request: Request) -> Response:
        """Opening the link uses nothing up: whoever only looks, or a mail scanner, takes nobody's way in."""
        return self._set_up_page(request, self._invitation(request), Errors())

    async def set_up(self, request: Request) -> Response:
        """Password and second factor are set, the link is used up, and the console is open."""
        form = await read_form(request, SetUpForm)
        invitation, errors = self._invitation(request), Errors()
        try:
            check_new(form.password, login=invitation.person.login)
        except BadInput:
            errors.check("password", False, "console.set_up.bad_password")
        errors.check("again", form.again == form.password, "console.set_up.not_the_same")
        errors.check("code", form.code or form.passkey, "console.set_up.need_factor")
        if errors:
            return self._set_up_page(request, invitation, errors)
        shown = Shown(form.code, form.passkey)
        name = FACTOR_NAMES["passkey" if form.passkey else "totp"]
        try:
            token = await staff_sign_in.set_up(self.gateway, invitation, password=form.password, shown=shown, factor_name=name)
        except SecondFactorFailed:
            errors.check("code", False, "console.second_factor.failed")
            return self._set_up_page(request, invitation, errors)
        response = self.console.see("/", "console.done.set_up", name=invitation.person.name)
        self.console.set_session(response, token)
        return response

    async def log_out(self, request: Request) -> Response:
        """The session ends in the book as well as in the browser."""
        await staff_sign_in.log_out(self.gateway, self.console.who(request))
        response = self.console.see("/login", "console.done.logged_out")
        self.console.end_session(response)
        return response

    async def choose_language(self, request: Request) -> Response:
        """The language in which one's pages come from now on."""
        form = await read_form(request, LanguageForm)
        if form.language not in LANGUAGES:
            raise BadInput("language: ko or en")
        person = self.console.who(request).person
        audit = act(self.console.at, person.actor, f"language {form.language}", "ok", person.merchant)
        try:
            await self.gateway.book.commit(Change(puts=(person.put(language=form.language),), appends=(audit,)))
        except Stale as error:
            raise WrongState("something else was changed at the same moment") from error
        return self.console.see(own_path(form.next))

    def _invitation(self, request: Request) -> Invitation:
        invitation = invitations.find(self.gateway.reader, str(request.path_params["token"]), self.console.at)
        if invitation.person.face != self.console.face:
            raise NotFound("this link is unknown, used or too old")
        return invitation

    def _login_page(self, request: Request, form: LoginForm, errors: Errors, *, status: int = 0) -> Response:
        return self.console.page(
            request, "consoles/login.html", status=status, login=form.login, following=own_path(form.next), errors=errors
        )

    def _second_factor_page(self, request: Request, following: str, errors: Errors, *, status: int = 0) -> Response:
        who = staff_sign_in.find(self.gateway, request.cookies.get(self.console.cookie), self.console.face)
        if who is None:
            raise NotSignedIn("the session has ended")
        return self.console.page(
            request,
            "consoles/second_factor.html",
            status=status,
            stepping_up=who.session.whole,
            following=following,
            errors=errors,
            codes=staff_sign_in.has_codes(self.gateway, who),
            options=staff_sign_in.request_options(self.gateway, who),
        )

    def _set_up_page(self, request: Request, invitation: Invitation, errors: Errors) -> Response:
        return self.console.page(
            request,
            "consoles/set_up.html",
            person=invitation.person,
            errors=errors,
            characters_min=NEW_PASSWORD_CHARACTERS_MIN,
            options=staff_sign_in.creation_options(self.gateway, invitation.person, invitation.token_hash),
            **app_to_scan(self.console, invitation.person, invitation.token_hash),
        )


def app_to_scan(console: Console, person: Person, seed: str) -> dict[str, Any]:
    """What a page shows for an authenticator app: the secret as a picture, and spelled out."""
    secret = staff_sign_in.code_secret(console.gateway, seed)
    issuer = str(console.pages.operator.names["en"])
    made = segno.make(time_codes.address(secret, issuer=issuer, login=person.login), error="m", micro=False)
    picture = made.svg_inline(scale=4, border=2, svgclass=None, lineclass=None, omitsize=True)
    return {"secret": time_codes.spelled(secret), "picture": Markup(picture)}  # noqa: S704 - made of numbers
