"""The people of a console: who works here, invite, a new link, suspend, resume, another role.

The operator's admins see the operator's staff, a merchant's admins their own people and nobody else.
"""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.db.change import Stale
from hanbit.kernel.errors import BadInput, Conflict, NotFound, WrongState
from hanbit.parties import console_sessions, people, people_factors
from hanbit.parties.people import ROLES, Person
from hanbit.payments import staff
from hanbit.payments.staff import REASON_MAX, Invited
from hanbit.web.consoles import Console
from hanbit.web.forms import Errors, Line, fields_of, read_form

UNPROCESSABLE: Final = 422
ACTS: Final = ("suspend", "resume", "link", "role")
"""The last part of an act's address."""


class InviteForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody new."""

    login: Line = ""
    name: Line = ""
    role: Line = ""
    language: Line = "ko"


class ActForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, and for a change of role which."""

    reason: Line = ""
    role: Line = ""


class Team:
    """The handlers; the same in both consoles."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/staff", self.show_staff)
        console.route("GET", "/staff/invite", self.show_invite)
        console.route("POST", "/staff/invite", self.invite)
        console.route("GET", "/staff/{id}", self.show_person)
        console.route("GET", "/staff/{id}/{act}", self.show_act)
        console.route("POST", "/staff/{id}/{act}", self.act)

    async def show_staff(self, request: Request) -> Response:
        """Everybody who works here."""
        shown = people.of_console(self.gateway.reader, self.console.merchant(request))
        return self.console.page(request, "consoles/staff.html", staff=shown)

    async def show_person(self, request: Request) -> Response:
        """One person: second factors, where he is logged in, what may be done."""
        person = self._person(request)
        return self.console.page(
            request,
            "consoles/person.html",
            person=person,
            factors=people_factors.of_person(self.gateway.reader, person.id),
            sessions=console_sessions.of_person(self.gateway.reader, person.id, self.console.at),
            is_oneself=person.id == self.console.who(request).person.id,
        )

    async def show_invite(self, request: Request) -> Response:
        """Whom to invite is asked for."""
        return invite_page(self.console, request, InviteForm(), Errors(), face=self.console.face)

    async def invite(self, request: Request) -> Response:
        """The link is shown once, on the page that answers; it is kept nowhere."""
        return await invite(self.console, request, face=self.console.face, merchant=self.console.merchant(request))

    async def show_act(self, request: Request) -> Response:
        """What is about to be done, and why, is asked for."""
        return self._act_page(request, self._person(request), self._act_name(request), ActForm(), Errors())

    async def act(self, request: Request) -> Response:
        """It is done, with who and why in the audit."""
        form = await read_form(request, ActForm)
        person, name, errors = self._person(request), self._act_name(request), Errors()
        by = self.console.who(request).person.actor
        errors.check("reason", 1 <= len(form.reason.strip()) <= REASON_MAX and form.reason.isprintable(), "console.field.reason")
        errors.check("reason", person.actor != by or name == "link", "console.staff.not_oneself")
        if name == "role":
            errors.check("role", form.role in ROLES[person.face], "console.field.role")
        if errors:
            return self._act_page(request, person, name, form, errors, status=UNPROCESSABLE)
        try:
            if name == "link":
                made = await staff.renew_link(self.gateway, person, by=by, reason=form.reason)
                return invited_page(self.console, request, made, person.name)
            if name == "role":
                await staff.change_role(self.gateway, person, by=by, role=form.role, reason=form.reason)
            else:
                await (staff.suspend if name == "suspend" else staff.resume)(self.gateway, person, by=by, reason=form.reason)
        except Stale as error:
            raise WrongState("somebody else has changed this person at the same moment") from error
        return self.console.see(f"/staff/{person.id}", f"console.staff.done.{name}", name=person.name)

    def _person(self, request: Request) -> Person:
        """Somebody of this console: another merchant's people look like nobody."""
        person = people.by_id(self.gateway.reader, self.console.token(request))
        if person is None or person.merchant != self.console.merchant(request):
            raise NotFound("no such person")
        return person

    def _act_name(self, request: Request) -> str:
        return self.console.matched(request, "act", lambda text: text in ACTS)

    def _act_page(self, request: Request, person: Person, name: str, form: ActForm, errors: Errors, *, status: int = 200) -> Response:
        return self.console.page(
            request,
            "consoles/person_act.html",
            status=status,
            person=person,
            act=name,
            form=fields_of(form),
            errors=errors,
            roles=ROLES[person.face],
        )


def invite_page(
    console: Console, request: Request, form: InviteForm, errors: Errors, *, face: str, merchant: str | None = None, status: int = 200
) -> Response:
    """The form of an invitation; `merchant` is whose people the operator invites into."""
    return console.page(
        request, "consoles/invite.html", status=status, form=fields_of(form), errors=errors, roles=ROLES[face], merchant=merchant
    )


async def invite(console: Console, request: Request, *, face: str, merchant: str | None) -> Response:
    """Read the form and invite; what is wrong is said at the field."""
    form = await read_form(request, InviteForm)
    errors = Errors()
    errors.check("login", people.LOGIN.fullmatch(form.login), "console.field.login")
    errors.check("name", form.name.strip() and form.name.isprintable(), "console.field.name")
    errors.check("role", form.role in ROLES[face], "console.field.role")
    if not errors:
        by = console.who(request).person.actor
        try:
            made = await staff.invite(
                console.gateway,
                by=by,
                face=face,
                merchant=merchant,
                login=form.login,
                name=form.name,
                role=form.role,
                language=form.language,
            )
        except (Conflict, Stale):
            errors.check("login", False, "console.field.login_taken")
        except BadInput as error:
            errors.check(error.detail.partition(":")[0], False, "console.field.wrong")
        else:
            return invited_page(console, request, made, form.name)
    named = merchant if face != console.face else None
    return invite_page(console, request, form, errors, face=face, merchant=named, status=UNPROCESSABLE)


def invited_page(console: Console, request: Request, made: Invited, name: str) -> Response:
    """The one-time link, this once."""
    return console.page(request, "consoles/invited.html", link=made.link, name=name)
