"""Who works in the consoles: invite, send a new link, suspend, change a role; each act one Change with its audit row.

Nobody has an account by default. The first is invited by whoever holds the data folder (`hanbit staff invite`); from then on admins invite
in their console, and the operator's admins invite each merchant's first. A link works once, for a day.
"""

from typing import Any, NamedTuple

from hanbit.db.change import Append, Change, Put
from hanbit.db.reading import Reader
from hanbit.kernel.errors import BadInput, Conflict, NotFound, WrongState
from hanbit.parties import console_sessions, invitations, merchants, people
from hanbit.parties.people import ROLES, Person
from hanbit.payments import hands
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import act

Result = dict[str, Any]
COMMAND = "operator"
"""The actor of what comes from the data folder's own commands."""
REASON_MAX = 200


class Invited(NamedTuple):
    """Somebody's one-time link; it is shown once and kept nowhere."""

    person: str
    link: str


async def invite(
    gateway: Gateway, *, by: str, face: str, merchant: str | None, login: str, name: str, role: str, language: str = "ko"
) -> Invited:
    """Somebody new, with a link that sets his password and second factor. Conflict if the login name is taken, in whichever console."""
    if merchant is not None and merchants.by_id(gateway.reader, merchant) is None:
        raise NotFound(f"no merchant {merchant}")
    if people.by_login(gateway.reader, login) is not None:
        raise Conflict(f"login {login} exists")
    at = gateway.clock.now()
    put = people.new_person(face=face, merchant=merchant, login=login, name=name, role=role, language=language, at=at)
    person_id = str(put.row["id"])
    token, link = invitations.new(person_id, by, at)
    audit = act(at, by, f"invite person {person_id} as {face} {role}", "ok", merchant)
    await gateway.book.commit(Change(puts=(put, link), appends=(audit,)))
    return Invited(person_id, link_of(gateway, face, token))


async def renew_link(gateway: Gateway, person: Person, *, by: str, reason: str) -> Invited:
    """A new link, for whoever has lost password or second factor; earlier links stop working, what he has goes on until it is used."""
    if person.state == "suspended":
        raise WrongState("somebody who is suspended gets no link")
    at = gateway.clock.now()
    token, link = invitations.new(person.id, by, at)
    audit = _audit(gateway, by, f"new link for person {person.id}", _reason(reason), person)
    await gateway.book.commit(Change(puts=(*invitations.taken_back(gateway.reader, person.id, at), link), appends=(audit,)))
    return Invited(person.id, link_of(gateway, person.face, token))


async def suspend(gateway: Gateway, person: Person, *, by: str, reason: str) -> None:
    """He works no more: his sessions end and his links stop working in the same Change."""
    if person.actor == by:
        raise BadInput("nobody suspends himself")
    at = gateway.clock.now()
    rows = (person.put(state="suspended"), *ended_sessions(gateway.reader, person.id, at))
    audit = _audit(gateway, by, f"suspend person {person.id}", _reason(reason), person)
    await gateway.book.commit(Change(puts=(*rows, *invitations.taken_back(gateway.reader, person.id, at)), appends=(audit,)))


async def resume(gateway: Gateway, person: Person, *, by: str, reason: str) -> None:
    """He may work again, with the password and second factor that he had."""
    state = "invited" if person.password is None else "active"
    audit = _audit(gateway, by, f"resume person {person.id}", _reason(reason), person)
    await gateway.book.commit(Change(puts=(person.put(state=state),), appends=(audit,)))


async def change_role(gateway: Gateway, person: Person, *, by: str, role: str, reason: str) -> None:
    """Another role, from his next request on."""
    if person.actor == by:
        raise BadInput("nobody changes his own role")
    if role not in ROLES[person.face]:
        raise BadInput(f"role: {', '.join(ROLES[person.face])}")
    audit = _audit(gateway, by, f"role of person {person.id}: {person.role} to {role}", _reason(reason), person)
    await gateway.book.commit(Change(puts=(person.put(role=role),), appends=(audit,)))


def ended_sessions(reader: Reader, person_id: str, at: int) -> tuple[Put, ...]:
    """The rows by which every log-in of somebody ends."""
    return tuple(session.put(ended_at=at) for session in console_sessions.of_person(reader, person_id, at))


def console_url(gateway: Gateway, face: str) -> str:
    """The public address of a console."""
    return gateway.settings.operator_url if face == "operator" else gateway.settings.merchant_url


def link_of(gateway: Gateway, face: str, token: str) -> str:
    """The address of a one-time link."""
    return f"{console_url(gateway, face)}/set-up/{token}"


# --- commands of the data folder ----------------------------------------------------------------------------------------------------


async def invite_staff(
    gateway: Gateway, *, login: str, role: str = "admin", name: str = "", merchant: str = "", language: str = "ko"
) -> Result:
    """Invite somebody into the operator's console, or with `merchant` into that merchant's."""
    face = "merchant" if merchant else "operator"
    if role not in ROLES[face]:
        raise BadInput(f"role: {', '.join(ROLES[face])}")
    made = await invite(
        gateway, by=COMMAND, face=face, merchant=merchant or None, login=login, name=name or login, role=role, language=language
    )
    return {"person": made.person, "login": login, "role": role, "link": made.link}


async def renew_staff_link(gateway: Gateway, *, login: str, reason: str = "asked by command") -> Result:
    """A new one-time link for somebody who has lost password or second factor."""
    made = await renew_link(gateway, named(gateway, login), by=COMMAND, reason=reason)
    return {"person": made.person, "login": login, "link": made.link}


async def set_staff_state(gateway: Gateway, *, login: str, state: str, reason: str) -> Result:
    """Suspend somebody, or let him work again."""
    if state not in ("active", "suspended"):
        raise BadInput("state: active or suspended")
    await (suspend if state == "suspended" else resume)(gateway, named(gateway, login), by=COMMAND, reason=reason)
    return {"login": login, "state": named(gateway, login).state}


async def confirm_staff(gateway: Gateway, *, login: str, reason: str) -> Result:
    """Whoever holds the data folder says that this account is its owner's alone."""
    person = named(gateway, login)
    await hands.confirm(gateway, person, by=COMMAND, reason=reason)
    return {"login": login, "confirmed": True}


async def list_staff(gateway: Gateway, *, merchant: str = "") -> Result:
    """Everybody of the operator's console, or of a merchant's."""
    if merchant and merchants.by_id(gateway.reader, merchant) is None:
        raise NotFound(f"no merchant {merchant}")
    shown = people.of_console(gateway.reader, merchant or None)
    return {"staff": [{"login": one.login, "name": one.name, "role": one.role, "state": one.state} for one in shown]}


def named(gateway: Gateway, login: str) -> Person:
    """The person with this login name; NotFound if nobody has it."""
    person = people.by_login(gateway.reader, login)
    if person is None:
        raise NotFound(f"no person {login}")
    return person


def _reason(text: str) -> str:
    if not 1 <= len(text.strip()) <= REASON_MAX or not text.isprintable():
        raise BadInput(f"reason: 1 to {REASON_MAX} printable characters")
    return text.strip()


def _audit(gateway: Gateway, by: str, what: str, reason: str, person: Person) -> Append:
    return act(gateway.clock.now(), by, what, reason, person.merchant)
