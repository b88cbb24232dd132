"""How somebody gets into a console: password, then second factor; the one-time link that sets both; a step-up before dangerous acts.

No answer says which of name and password was wrong, or whether there is such a name; each factor waits after five wrong tries. The
session's token changes with every step, so what was seen before it is worth nothing after it.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from hanbit.crypto.envelopes import mac
from hanbit.crypto.passwords import check_new
from hanbit.db.change import Append, Change, Put, Require, Stale
from hanbit.kernel.errors import NotSignedIn, ProtocolViolation
from hanbit.parties import brand, console_sessions, invitations, passkeys, people, people_factors, time_codes
from hanbit.parties.console_sessions import ConsoleSession
from hanbit.parties.invitations import Invitation
from hanbit.parties.passkeys import Site
from hanbit.parties.people import Person
from hanbit.payments import factors, staff
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import LoginFailed, act

PASSKEY_JSON_MAX = 16 * 1024
"""Characters of what a browser says of a passkey."""


class SecondFactorFailed(NotSignedIn):
    """The code or passkey is wrong, was used, or is nobody's."""

    code = "second_factor_failed"
    advice = "Wait for the next code, or use your passkey."


@dataclass(frozen=True, slots=True)
class At:
    """Somebody at a console: his session and who he is."""

    session: ConsoleSession
    person: Person


@dataclass(frozen=True, slots=True)
class Shown:
    """What was shown as second factor: a code, or a browser's JSON about a passkey; both unverified."""

    code: str = ""
    passkey: str = ""


def find(gateway: Gateway, token: str | None, face: str) -> At | None:
    """Who is at this console, by the token of his cookie; also where his second factor is still to come."""
    found = console_sessions.find(gateway.reader, token, face=face, at=gateway.clock.now())
    return None if found is None else At(*found)


async def log_in(gateway: Gateway, face: str, *, login: str, password: str) -> str:
    """A right password opens half a session; returns its token. LoginFailed, whatever is wrong; TooManyTries while the name waits."""
    person, at = people.by_login(gateway.reader, login), gateway.clock.now()
    if person is None or person.password is None or person.face != face:
        await factors.guarded_nobody(gateway, f"person:{face}:{login}", password)
        await gateway.book.commit(Change())  # in the place of the audit row of a known name
        raise LoginFailed
    stored = person.password
    right = await factors.guarded(gateway, f"person:{person.id}", lambda: gateway.passwords.verify(stored, password))
    if not right or not person.works:
        await gateway.book.commit(Change(appends=(_act(at, person, "console login", "suspended" if right else "wrong_password"),)))
        raise LoginFailed
    token, session = console_sessions.open_session(person, at, stepped_up=False)
    # Who knew the password before is not let in beside its change.
    same = Require("people", person.id, "password", stored, LoginFailed())
    await gateway.book.commit(Change(puts=(session,), requires=(same,)))
    return token


async def step_up(gateway: Gateway, who: At, shown: Shown) -> str:
    """The second factor, after the password or again before a dangerous act; returns the session's new token.

    SecondFactorFailed, whatever is wrong; TooManyTries while the codes wait.
    """
    at, person = gateway.clock.now(), who.person
    moved: list[Put] = []

    async def check() -> bool:
        found = _check(gateway, who, shown, at)
        moved.extend([found] if found is not None else [])
        return found is not None

    what = "step up" if who.session.whole else "console login"
    if not await factors.guarded(gateway, f"person-code:{person.id}", check):
        await gateway.book.commit(Change(appends=(_act(at, person, what, "wrong_second_factor"),)))
        raise SecondFactorFailed
    since = who.session.created_at if who.session.whole else at
    token, session = console_sessions.open_session(person, at, stepped_up=True, since=since)
    try:
        audit = _act(at, person, what, str(moved[0].row["kind"]))
        await gateway.book.commit(Change(puts=(*moved, who.session.put(ended_at=at), session), appends=(audit,)))
    except Stale as error:  # the same code or session beside this one
        raise SecondFactorFailed from error
    return token


async def set_up(gateway: Gateway, invitation: Invitation, *, password: str, shown: Shown, factor_name: str) -> str:
    """Password and second factor by a one-time link, which they use up: whatever he had before is gone. Returns a session's token.

    BadInput where the password may not be chosen, SecondFactorFailed where code or passkey do not verify.
    """
    person, at = invitation.person, gateway.clock.now()
    check_new(password, login=person.login)
    factor = new_factor(gateway, person, invitation.token_hash, shown, factor_name)
    hashed = await gateway.passwords.hash(password)
    token, session = console_sessions.open_session(person, at, stepped_up=True)
    before = tuple(people_factors.removed(row) for row in people_factors.of_person(gateway.reader, person.id))
    # From now on it may be in the hands of whoever made the link; a link that one makes for oneself changes nothing of that.
    hands = {} if invitation.made_by == person.actor else {"handed_by": invitation.made_by, "confirmed_by": None}
    rows = (person.put(password=hashed, state="active", **hands), factor, *before, *staff.ended_sessions(gateway.reader, person.id, at))
    others = [row for row in invitations.taken_back(gateway.reader, person.id, at) if row.row["token_hash"] != invitation.token_hash]
    audit = _act(at, person, "set up", str(factor.row["kind"]))
    try:
        await gateway.book.commit(Change(puts=(*rows, *others, invitation.used, session), appends=(audit,)))
    except Stale as error:  # used beside this one
        raise SecondFactorFailed from error
    return token


async def log_out(gateway: Gateway, who: At) -> None:
    """The session ends here and now."""
    at = gateway.clock.now()
    await gateway.book.commit(Change(puts=(who.session.put(ended_at=at),), appends=(_act(at, who.person, "log out", "ok"),)))


def new_factor(gateway: Gateway, person: Person, seed: str, shown: Shown, name: str) -> Put:
    """The row of the second factor that was just made from this seed; SecondFactorFailed where code or passkey do not verify."""
    at = gateway.clock.now()
    if not shown.passkey:
        secret = code_secret(gateway, seed)
        step = time_codes.step_of(secret, shown.code, at=at, after=0)
        if step is None:
            raise SecondFactorFailed
        return people_factors.new_code_secret(gateway.keyring.pepper, person.id, secret, step=step, name=name, at=at)
    where, challenge = site(gateway, person.face), _challenge(gateway, seed)
    try:
        made = passkeys.verify_new(_json(shown.passkey), site=where, challenge=challenge)
    except ProtocolViolation as error:
        raise SecondFactorFailed from error
    return people_factors.new_passkey(person.id, made, name=name, at=at)


def site(gateway: Gateway, face: str) -> Site:
    """The site that passkeys of this console are made for."""
    return Site.of(staff.console_url(gateway, face), brand.of(gateway.reader, gateway.settings).name_en)


def code_secret(gateway: Gateway, seed: str) -> bytes:
    """The secret that a page offers to an authenticator app: the same each time it is opened, and stored nowhere.

    `seed` is the hash of a one-time link's token, or what `own_account.seed` says.
    """
    return mac(gateway.keyring.server_key, b"hanbit console code\0" + seed.encode("ascii"))[: time_codes.SECRET_BYTES]


def creation_options(gateway: Gateway, person: Person, seed: str, known: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the browser needs to make a passkey; `known` are those that he has."""
    challenge, where = _challenge(gateway, seed), site(gateway, person.face)
    return passkeys.creation_options(person.webauthn_user, person.login, person.name, known, site=where, challenge=challenge)


def request_options(gateway: Gateway, who: At) -> dict[str, Any] | None:
    """What the browser needs to ask for one's passkey; None for somebody who has none."""
    known = [row["id"] for row in people_factors.of_person(gateway.reader, who.person.id) if row["kind"] == "passkey"]
    challenge = _challenge(gateway, who.session.token_hash)
    return passkeys.request_options(known, site=site(gateway, who.person.face), challenge=challenge) if known else None


def has_codes(gateway: Gateway, who: At) -> bool:
    """Whether he has an authenticator app."""
    return any(row["kind"] == "totp" for row in people_factors.of_person(gateway.reader, who.person.id))


def _check(gateway: Gateway, who: At, shown: Shown, at: int) -> Put | None:
    if not shown.passkey:
        return people_factors.check_code(gateway.reader, gateway.keyring.pepper, who.person.id, shown.code, at)
    challenge = _challenge(gateway, who.session.token_hash)
    try:
        return people_factors.check_passkey(
            gateway.reader, who.person.id, _json(shown.passkey), site=site(gateway, who.person.face), challenge=challenge
        )
    except ProtocolViolation:
        return None


def _challenge(gateway: Gateway, token_hash: str) -> bytes:
    """Good for one link or one step of one session, both of which end with its use; it need not be stored."""
    return mac(gateway.keyring.server_key, b"hanbit console passkey\0" + token_hash.encode("ascii"))


def _json(unverified: str) -> Any:
    try:
        return msgspec.json.decode(unverified.encode("utf-8")) if len(unverified) <= PASSKEY_JSON_MAX else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("passkey") from error


def _act(at: int, person: Person, what: str, reason: str) -> Append:
    return act(at, person.actor, what, reason, person.merchant)
