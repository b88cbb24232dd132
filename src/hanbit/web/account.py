"""One's own account in a console: password, second factors, where one is logged in; the same in both consoles.

GET        /me                        what there is
GET, POST  /me/password               another password
GET, POST  /me/factor                 one more second factor
GET, POST  /me/factors/{id}/remove    one fewer
POST       /me/sessions               every other log-in ends
"""

import re
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.crypto.passwords import NEW_PASSWORD_CHARACTERS_MIN, check_new
from hanbit.db.reading import Row
from hanbit.kernel.errors import BadInput, NotFound
from hanbit.parties import console_sessions, people_factors
from hanbit.payments import own_account, staff_sign_in
from hanbit.payments.sign_in import LoginFailed
from hanbit.payments.staff_sign_in import SecondFactorFailed, Shown
from hanbit.web.consoles import Console
from hanbit.web.entrance import FACTOR_NAMES, app_to_scan
from hanbit.web.forms import Blob, Errors, Line, Secret, read_form

_FACTOR: Final = re.compile(r"[A-Za-z0-9_-]{1,1400}")
"""The number of an authenticator app, or of a passkey as its browser made it."""


class PasswordForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The present password, and the other one twice."""

    present: Secret = ""
    password: Secret = ""
    again: Secret = ""


class FactorForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code of the new app, or what the browser says of the new passkey."""

    code: Line = ""
    passkey: Blob = ""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A form of one button."""


class OwnAccount:
    """The handlers; the same in both consoles."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/me", self.show)
        console.route("GET", "/me/password", self.show_password)
        console.route("POST", "/me/password", self.change_password)
        console.route("GET", "/me/factor", self.show_factor)
        console.route("POST", "/me/factor", self.add_factor)
        console.route("GET", "/me/factors/{id}/remove", self.show_remove)
        console.route("POST", "/me/factors/{id}/remove", self.remove_factor)
        console.route("POST", "/me/sessions", self.end_others)

    async def show(self, request: Request) -> Response:
        """Who one is here, and by what one gets in."""
        who, reader = self.console.who(request), self.gateway.reader
        return self.console.page(
            request,
            "consoles/me.html",
            person=who.person,
            factors=people_factors.of_person(reader, who.person.id),
            sessions=console_sessions.of_person(reader, who.person.id, self.console.at, console_sessions.SESSIONS_SHOWN_MAX),
            own=who.session.token_hash,
        )

    async def show_password(self, request: Request) -> Response:
        """The present password and another are asked for."""
        return self._password_page(request, Errors())

    async def change_password(self, request: Request) -> Response:
        """The other one holds from now on, and every other log-in has ended."""
        form, errors = await read_form(request, PasswordForm), Errors()
        who = self.console.who(request)
        errors.check("present", form.present, "console.login.need_password")
        try:
            check_new(form.password, login=who.person.login)
        except BadInput:
            errors.check("password", False, "console.set_up.bad_password")
        errors.check("again", form.again == form.password, "console.set_up.not_the_same")
        if errors:
            return self._password_page(request, errors)
        try:
            await own_account.change_password(self.gateway, who, present=form.present, chosen=form.password)
        except LoginFailed:
            errors.check("present", False, "console.me.wrong_password")
            return self._password_page(request, errors)
        return self.console.see("/me", "console.me.done.password")

    async def show_factor(self, request: Request) -> Response:
        """A passkey or an app is offered."""
        return self._factor_page(request, Errors())

    async def add_factor(self, request: Request) -> Response:
        """It opens this console from now on, beside those that were there."""
        form, errors = await read_form(request, FactorForm), Errors()
        errors.check("code", form.code or form.passkey, "console.set_up.need_factor")
        if not errors:
            name = FACTOR_NAMES["passkey" if form.passkey else "totp"]
            try:
                await own_account.add_factor(self.gateway, self.console.who(request), Shown(form.code, form.passkey), name)
            except SecondFactorFailed:
                errors.check("code", False, "console.second_factor.failed")
            else:
                return self.console.see("/me", "console.me.done.factor")
        return self._factor_page(request, errors)

    async def show_remove(self, request: Request) -> Response:
        """Which one is about to go is said."""
        return self.console.page(request, "consoles/factor_remove.html", factor=self._factor(request))

    async def remove_factor(self, request: Request) -> Response:
        """It opens nothing any more."""
        await read_form(request, Nothing)
        await own_account.remove_factor(self.gateway, self.console.who(request), self._factor(request)["id"])
        return self.console.see("/me", "console.me.done.removed")

    async def end_others(self, request: Request) -> Response:
        """Every other log-in ends; this one goes on."""
        await read_form(request, Nothing)
        await own_account.end_other_sessions(self.gateway, self.console.who(request))
        return self.console.see("/me", "console.me.done.sessions")

    def _factor(self, request: Request) -> Row:
        """One's own; somebody else's looks like none."""
        name = self.console.matched(request, "id", _FACTOR.fullmatch)
        for row in people_factors.of_person(self.gateway.reader, self.console.who(request).person.id):
            if row["id"] == name:
                return row
        raise NotFound("no such second factor")

    def _password_page(self, request: Request, errors: Errors) -> Response:
        return self.console.page(
            request,
            "consoles/password.html",
            errors=errors,
            login=self.console.who(request).person.login,
            characters_min=NEW_PASSWORD_CHARACTERS_MIN,
        )

    def _factor_page(self, request: Request, errors: Errors) -> Response:
        who = self.console.who(request)
        seed = own_account.seed(self.gateway, who)
        known = tuple(row["id"] for row in people_factors.of_person(self.gateway.reader, who.person.id) if row["kind"] == "passkey")
        return self.console.page(
            request,
            "consoles/factor.html",
            errors=errors,
            options=staff_sign_in.creation_options(self.gateway, who.person, seed, known),
            **app_to_scan(self.console, who.person, seed),
        )
