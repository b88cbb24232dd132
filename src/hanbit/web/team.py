"""The people of a console: who works here, invite, a new link, suspend, resume, another role.

The operator's admins see the operator's staff, a merchant's admins their own people and nobody else.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.db.change import Stale
from hanbit.kernel.errors import BadInput, Conflict, NotFound
from hanbit.parties import console_sessions, people, people_factors
from hanbit.parties.people import ROLES, Person
from hanbit.payments import actors, hands, staff
from hanbit.payments.staff import Invited
from hanbit.web import deeds
from hanbit.web.consoles import Console
from hanbit.web.deeds import Deed, choice
from hanbit.web.forms import Errors, Line, fields_of, read_form

ACTS: Final = {"merchant": ("suspend", "resume", "link", "role"), "operator": ("suspend", "resume", "link", "role", "confirm")}
"""Face → the last part of an act's address."""


class InviteForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody new."""

    login: Line = ""
    name: Line = ""
    role: Line = ""
    language: Line = "ko"


class Team:
    """The handlers; the same in both consoles."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.gateway = console.gateway
        console.route("GET", "/staff", self.show_staff)
        console.route("GET", "/staff/invite", self.show_invite)
        console.route("POST", "/staff/invite", self.invite)
        console.route("GET", "/staff/{id}", self.show_person)
        deeds.at(console, "/staff/{id}/{act}", self._deed)

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
            sessions=console_sessions.of_person(self.gateway.reader, person.id, self.console.at, console_sessions.SESSIONS_SHOWN_MAX),
            is_oneself=person.id == self.console.who(request).person.id,
            handed_by=None if hands.is_confirmed(person) else actors.named(self.gateway.reader, (person.handed_by,))[str(person.handed_by)],
            may_confirm=not hands.is_confirmed(person)
            and not self._hands(self.console.who(request).person.actor) & self._hands(person.actor),
        )

    async def show_invite(self, request: Request) -> Response:
        """Whom to invite is asked for."""
        return invite_page(self.console, request, InviteForm(), Errors(), face=self.console.face)

    async def invite(self, request: Request) -> Response:
        """The link is shown once, on the page that answers; it is kept nowhere."""
        return await invite(self.console, request, face=self.console.face, merchant=self.console.merchant(request))

    def _deed(self, request: Request) -> Deed:
        """What is done with somebody; none of it but a new link to oneself."""
        person = self._person(request)
        name = self.console.matched(request, "act", ACTS[self.console.face].__contains__)

        async def do(by: str, form: Mapping[str, str]) -> Response:
            reason = form["reason"]
            if name == "link":
                made = await staff.renew_link(self.gateway, person, by=by, reason=reason)
                return invited_page(self.console, request, made, person.name)
            if name == "role":
                await staff.change_role(self.gateway, person, by=by, role=form["role"], reason=reason)
            elif name == "confirm":
                await hands.confirm(self.gateway, person, by=by, reason=reason)
            else:
                await (staff.suspend if name == "suspend" else staff.resume)(self.gateway, person, by=by, reason=reason)
            return self.console.see(f"/staff/{person.id}", f"console.staff.done.{name}", name=person.name)

        role = choice("role", "console.staff.role", ROLES[person.face], words="console.role.", value=person.role)
        others = ((lambda by: by != person.actor or name == "link", "console.staff.not_oneself"),)
        if name == "confirm":
            others = ((lambda by: not self._hands(by) & self._hands(person.actor), "console.staff.one_hand"),)
        fields = (role,) if name == "role" else ()
        return Deed(f"console.staff.act.{name}", f"/staff/{person.id}", fields, do, {"name": person.name}, others)

    def _hands(self, actor: str) -> frozenset[str]:
        return hands.of(self.gateway.reader, actor).actors

    def _person(self, request: Request) -> Person:
        """Somebody of this console: another merchant's people look like nobody."""
        person = people.by_id(self.gateway.reader, self.console.token(request))
        if person is None or person.merchant != self.console.merchant(request):
            raise NotFound("no such person")
        return person


def invite_page(
    console: Console, request: Request, form: InviteForm, errors: Errors, *, face: str, merchant: str | None = None
) -> Response:
    """The form of an invitation; `merchant` is whose people the operator invites into."""
    return console.page(request, "consoles/invite.html", form=fields_of(form), errors=errors, roles=ROLES[face], merchant=merchant)


async def invite(console: Console, request: Request, *, face: str, merchant: str | None) -> Response:
    """Read the form and invite; what is wrong is said at the field."""
    form = await read_form(request, InviteForm)
    named, errors = merchant if face != console.face else None, Errors()
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
            return invited_page(console, request, made, form.name, merchant=named)
    return invite_page(console, request, form, errors, face=face, merchant=named)


def invited_page(console: Console, request: Request, made: Invited, name: str, *, merchant: str | None = None) -> Response:
    """The one-time link, this once; `merchant` is whose person it is, where another console invites."""
    return console.page(request, "consoles/invited.html", link=made.link, name=name, merchant=merchant)
