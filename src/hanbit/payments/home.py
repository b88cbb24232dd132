"""What a customer does at home, outside any payment: log in, end sessions, limit an account, choose other passwords.

Each act comes as a sealed form (`sealed_forms.py`), is one Change and leaves a row in the audit.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Any, Final

import msgspec

from hanbit.crypto.passwords import check_new
from hanbit.db.change import Change, Put, Require, Stale
from hanbit.db.reading import Row
from hanbit.kernel.errors import BadInput, NotFound, WrongState
from hanbit.kernel.money import Money, parse_typed
from hanbit.parties import accounts, limits, sessions, visits
from hanbit.parties.accounts import Account
from hanbit.parties.limits import Limits
from hanbit.parties.sessions import WebSession
from hanbit.parties.visits import Whence
from hanbit.payments import mails, sealed_forms, wrong_passwords
from hanbit.payments.gateway import Gateway
from hanbit.payments.redirect_flow import SignedIn
from hanbit.payments.sign_in import act, identify, same_password
from hanbit.payments.wrong_passwords import WrongPassword

LOGIN, OUT, END, LIMIT, PASSWORD, NOTICE = "login", "logout", "sessions", "limits", "password", "notices"
"""The acts that a form may be for."""
SESSIONS_SHOWN_MAX: Final = 50
SESSIONS_ENDED_MAX: Final = 10_000
"""Far more than can be opened while they live: whoever opens many hides none behind them when all are to end."""
ACCOUNT_PASSWORD_MIN: Final = 4
"""An account's password may be four digits: it is tried five times, and not without a session."""
Text = Annotated[str, msgspec.Meta(max_length=200)]
Secret = Annotated[str, msgspec.Meta(max_length=128)]
Assertion = dict[str, Any] | None
"""What a passkey signed over the form's own challenge."""
NOTICES_MAX: Final = 5
NOTICED_S: Final = 30 * 24 * 3600
"""An unusual log-in is shown so long, or until the customer has said whose it was."""


class LoginFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """R5's login, for no payment."""

    method: Text
    id: Text = ""
    password: Secret = ""
    assertion: dict[str, Any] | None = None


class OutFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to say."""


class EndFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which session ends; empty: all but this one."""

    session: Text = ""


class LimitFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits as people write them (100,000; 1,200.50); empty is none. The account's password is needed to raise one."""

    account: Text
    payment: Text = ""
    day: Text = ""
    password: Secret = ""


class PasswordFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The old one and the new one, twice; of an account, or to log in where `account` is empty."""

    old: Secret
    new: Secret
    again: Secret
    account: Text = ""


class NoticeFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which unusual log-in, and whether it was he: yes or no."""

    session: Text
    mine: Text


async def log_in(gateway: Gateway, unverified: bytes, whence: Whence = sessions.NOWHERE) -> str:
    """A session outside any payment; returns its token. LoginFailed, whatever was wrong."""
    fields, ctx, n, used = sealed_forms.opened(gateway, unverified, LoginFields, LOGIN)
    plain = {"method": fields.method, "id": fields.id, "password": fields.password, "assertion": fields.assertion}
    customer, puts = await identify(gateway, plain, ctx=ctx, n=n)
    at = gateway.clock.now()
    new = visits.unusual(gateway.reader, customer.id, whence, at)
    token, session = sessions.open_session(customer.id, fields.method, at, whence, new)
    await _commit(gateway, (session, used, *puts), f"customer:{customer.id}", "login", fields.method, (same_password(customer),))
    gateway.observe("login", "ok")
    return token


async def log_out(gateway: Gateway, who: SignedIn, unverified: bytes) -> None:
    """The session ends in the book as well."""
    _, _, _, used = sealed_forms.opened(gateway, unverified, OutFields, OUT, who.session.token_hash)
    await _commit(
        gateway,
        (
            used,
            sessions.end(who.session, gateway.clock.now()),
        ),
        f"customer:{who.customer.id}",
        "log out",
        "ok",
    )


def live_sessions(gateway: Gateway, customer: str, at_most: int = SESSIONS_ENDED_MAX) -> list[WebSession]:
    """A customer's sessions that are alive, the latest first."""
    return sessions.of_customer(gateway.reader, customer, at=gateway.clock.now(), idle_s=gateway.settings.session_idle_s, at_most=at_most)


async def end_stragglers(gateway: Gateway, customer: str, *, keep: str = "") -> None:
    """After a password has changed: log-ins with the old one that entered the book beside the change end too, all but the one to keep."""
    at = gateway.clock.now()
    for one in live_sessions(gateway, customer):
        if one.token_hash != keep:
            with suppress(Stale):  # it has ended by itself
                await gateway.book.commit(Change(puts=(sessions.end(one, at),)))


async def end_sessions(gateway: Gateway, who: SignedIn, unverified: bytes) -> int:
    """End one session of one's own, or all the others; returns how many. Somebody else's is not found."""
    fields, _, _, used = sealed_forms.opened(gateway, unverified, EndFields, END, who.session.token_hash)
    mine = live_sessions(gateway, who.customer.id)
    ended = [one for one in mine if one.token_hash == (fields.session or one.token_hash)]
    if fields.session and not ended:
        raise NotFound("no such session")
    if not fields.session:
        ended = [one for one in ended if one.token_hash != who.session.token_hash]
    at = gateway.clock.now()
    await _commit(
        gateway, (used, *(sessions.end(one, at) for one in ended)), f"customer:{who.customer.id}", "end sessions", str(len(ended))
    )
    return len(ended)


def notices(gateway: Gateway, who: SignedIn) -> list[WebSession]:
    """Log-ins from a new browser or network of which the customer has said nothing yet; this one is not asked about itself."""
    since = gateway.clock.now() - NOTICED_S
    found = sessions.unusual_of(gateway.reader, who.customer.id, NOTICES_MAX)
    return [one for one in found if one.created_at > since and one.token_hash != who.session.token_hash]


def may_own(who: SignedIn, noticed: WebSession) -> bool:
    """Whether "that was me" counts from here: not from the very browser and network that are in doubt."""
    return (who.session.browser, who.session.network) != (noticed.browser, noticed.network)


async def answer_notice(gateway: Gateway, who: SignedIn, unverified: bytes) -> str:
    """Whose an unusual log-in was; one that was not his ends, and with it every other session but this. Returns "mine" or "disowned"."""
    fields, _, _, used = sealed_forms.opened(gateway, unverified, NoticeFields, NOTICE, who.session.token_hash)
    noticed = [one for one in notices(gateway, who) if one.token_hash == fields.session]
    if not noticed:
        raise NotFound("no such log-in")
    at, actor = gateway.clock.now(), f"customer:{who.customer.id}"
    if fields.mine == "yes":
        if not may_own(who, noticed[0]):
            raise WrongState("say so from a browser or network that you have used before")
        await _commit(gateway, (used, sessions.answered(noticed[0], visits.MINE, at)), actor, "own log-in", "mine")
        return visits.MINE
    mine = {who.session.token_hash, fields.session}
    others = [one for one in live_sessions(gateway, who.customer.id) if one.token_hash not in mine]
    puts = (used, sessions.answered(noticed[0], visits.DISOWNED, at), *(sessions.end(one, at) for one in others))
    await _commit(gateway, puts, actor, "disown log-in", str(1 + len(others)))
    return visits.DISOWNED


async def approved(gateway: Gateway, who: SignedIn, what: str, *, password: str, assertion: Assertion, ctx: str, n: str) -> tuple[Put, ...]:
    """A fresh approval of this very form: the log-in password, or a passkey of his own over its challenge. Else WrongPassword.

    `what` names the act in the audit, where a wrong password stands too.
    """
    if assertion is not None:
        plain = {"method": "passkey", "assertion": assertion}
        customer, counted = await identify(gateway, plain, ctx=ctx, n=n)
        if customer.id != who.customer.id:
            raise WrongPassword
        return counted
    if not password:
        raise WrongPassword  # nothing was tried
    stored, owner = who.customer.password, who.customer.id
    await wrong_passwords.check(gateway, owner, what, f"login:{owner}", lambda: gateway.passwords.verify(stored, password))
    return ()


async def set_limits(gateway: Gateway, who: SignedIn, unverified: bytes) -> Account:
    """One account's own limits: what is lower counts now, what is higher needs its password and counts a day later."""
    fields, _, _, used = sealed_forms.opened(gateway, unverified, LimitFields, LIMIT, who.session.token_hash)
    account, at = own_account(gateway, who, fields.account), gateway.clock.now()
    wanted = Limits(_typed(fields.payment, account.currency, "payment"), _typed(fields.day, account.currency, "day"))
    own = limits.of_account(gateway.reader, account.id)
    what = f"limit {account.id} {wanted.payment or '-'} {wanted.day or '-'}"
    if own.raises(wanted, at):
        await _check_password(gateway, account, fields.password, what)
        own = limits.of_account(gateway.reader, account.id)  # the bank's staff may have set its limits meanwhile
    put = limits.put(gateway.reader, account.id, own.wish(wanted, at))
    await _commit(gateway, (used, put), f"customer:{who.customer.id}", what, "raise" if own.raises(wanted, at) else "lower")
    return account


async def change_password(gateway: Gateway, who: SignedIn, unverified: bytes) -> None:
    """Another password, to log in or of one account; whoever is logged in elsewhere with the old one is logged out."""
    fields, _, _, used = sealed_forms.opened(gateway, unverified, PasswordFields, PASSWORD, who.session.token_hash)
    if fields.new != fields.again:
        raise BadInput("again")
    if not fields.old:
        raise WrongPassword
    at, customer, what = gateway.clock.now(), who.customer, f"change password {fields.account or 'login'}"
    ended: tuple[Put, ...] = ()
    if fields.account:
        account = own_account(gateway, who, fields.account)
        if len(fields.new) < ACCOUNT_PASSWORD_MIN:
            raise BadInput("new")
        table, key, told = "accounts", account.id, {"of": account.kind, "masked": account.masked}
        row = _row(gateway, table, key)
        await _check_password(gateway, account, fields.old, what)
    else:
        check_log_in_password(fields.new, customer.login)
        table, key, told = "customers", customer.id, {"of": ""}
        row = _row(gateway, table, key)
        stored, old = str(row["password"]), fields.old
        await wrong_passwords.check(gateway, customer.id, what, f"login:{customer.id}", lambda: gateway.passwords.verify(stored, old))
    hashed = await gateway.passwords.hash(fields.new)
    if not fields.account:  # read after the slow hash, in which others may have logged in
        others = [one for one in live_sessions(gateway, customer.id) if one.token_hash != who.session.token_hash]
        ended = tuple(sessions.end(one, at) for one in others)
    changed = {name: row[name] for name in row.keys()} | {"password": hashed}  # noqa: SIM118 - a database row
    put = Put(table, changed, row["version"], changed=("password",))
    letter = mails.letter(gateway, customer, mails.PASSWORD, facts={**told})
    await _commit(gateway, (used, put, *ended, *letter), f"customer:{customer.id}", what, "ok")
    if not fields.account:
        await end_stragglers(gateway, customer.id, keep=who.session.token_hash)


def check_log_in_password(new: str, login: str) -> None:
    """BadInput that names the field, where this cannot be one."""
    try:
        check_new(new, login=login)
    except BadInput as error:
        raise BadInput("new") from error


def own_account(gateway: Gateway, who: SignedIn, account_id: str) -> Account:
    """An account of one's own; somebody else's is not found."""
    account = accounts.by_id(gateway.reader, account_id)
    if account is None or account.customer != who.customer.id:
        raise NotFound("no such account")
    return account


async def _check_password(gateway: Gateway, account: Account, password: str, what: str) -> None:
    """The account's own password, with the waits that it has in a payment."""
    if not password:
        raise WrongPassword  # nothing was tried
    stored = account.password
    await wrong_passwords.check(
        gateway, account.customer, what, f"account:{account.id}", lambda: gateway.passwords.verify(stored, password)
    )


def _row(gateway: Gateway, table: str, key: str) -> Row:
    """As it stands before the old password is compared: what somebody else changes meanwhile is not written over."""
    row = gateway.reader.one(f"SELECT * FROM {table} WHERE id = ?", key)  # noqa: S608 - one of our two names
    assert row is not None, key
    return row


def _typed(text: str, currency: str, field: str) -> int | None:
    """A limit as it was typed, in minor units and above zero; None for none."""
    if not text:
        return None
    try:
        money = parse_typed(text, currency)
    except BadInput as error:
        raise BadInput(field) from error
    if not money.amount_minor:
        raise BadInput(field)
    return money.amount_minor


def limits_as_money(own: Limits, currency: str) -> dict[str, Money | None]:
    """Limits as pages show them."""
    return {
        "payment": None if own.payment is None else Money(own.payment, currency),
        "day": None if own.day is None else Money(own.day, currency),
    }


async def _commit(gateway: Gateway, puts: tuple[Put, ...], actor: str, what: str, reason: str, requires: Iterable[Require] = ()) -> None:
    try:
        audit = act(gateway.clock.now(), actor, what, reason)
        await gateway.book.commit(Change(puts=puts, requires=tuple(requires), appends=(audit,)))
    except Stale as error:  # the same form beside this one, or the row has moved on
        raise WrongState("this was changed at the same moment, or sent already: load the page again") from error
