"""R5: the sealed login becomes a web session; the same answer, in the same time, whether the name or the password was wrong."""

from typing import Any

from hanbit.db.change import Append, Change, Put, Require, Stale, Value
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotSignedIn, ProtocolViolation, Unavailable, WrongState
from hanbit.parties import customers, passkeys, sessions, visits
from hanbit.parties.customers import LOGIN_MAX, Customer
from hanbit.parties.sessions import NOWHERE
from hanbit.parties.visits import Whence
from hanbit.payments import factors
from hanbit.payments.apply import apply
from hanbit.payments.gateway import Gateway
from hanbit.payments.open_order import Opening, first_step, refreshed, unsealing
from hanbit.protocols import sealed
from hanbit.protocols.redirect.gateway import seal_kid

STALE_TRIES = 3


class LoginFailed(NotSignedIn):
    """Name or password is wrong; which of them is not said."""

    code = "login_failed"
    advice = "Check your ID and password and try again."


async def sign_in(
    gateway: Gateway, opening: Opening, *, unverified_key: str, unverified_login: str, whence: Whence = NOWHERE
) -> tuple[str, Customer]:
    """Open the sealed login and check it; returns the new session's token and the customer.

    One opening logs in once, so that a recorded login is worth nothing. The payment enters the book with the first login that is right.
    """
    with unsealing(gateway, opening, unverified_key) as session_key:
        plain = sealed.open_login(unverified_login, session_key)
    at = gateway.clock.now()
    customer, puts = await identify(gateway, plain, ctx=opening.keys.claims.ctx, n=opening.keys.claims.n)
    token, session = sessions.open_session(
        customer.id, str(plain["method"]), at, whence, visits.unusual(gateway.reader, customer.id, whence, at)
    )
    used: dict[str, str | int | None] = {
        "ctx": opening.keys.claims.ctx,
        "login_hash": ids.digest(unverified_login.encode("ascii")),
        "at": max(at, gateway.keyring.made_at(seal_kid(opening.keys.claims))),  # never before its sealing key: purge goes by that
    }
    once = Put("openings", used, version=0)
    rows = (session, once, *puts)
    appends = (act(at, f"customer:{customer.id}", "login", str(plain["method"]), opening.merchant.id, opening.offer.tid),)
    await _enter(gateway, opening, rows, appends, (same_password(customer),))
    gateway.observe("login", "ok")
    return token, customer


def same_password(customer: Customer) -> Require:
    """Under the book lock his password is still the one that was looked at: who knew the one before is not let in beside its change."""
    return Require("customers", customer.id, "password", customer.password, LoginFailed())


async def _enter(
    gateway: Gateway, opening: Opening, rows: tuple[Put, ...], appends: tuple[Append, ...], requires: tuple[Require, ...]
) -> None:
    """Commit the session, and with the first login the payment. Stale means used already, unless another login was first meanwhile."""
    for _ in range(STALE_TRIES):
        payment, first = first_step(gateway, opening)
        try:
            if first:
                await apply(gateway, payment, *first, puts=rows, appends=appends, requires=requires)
            else:
                await gateway.book.commit(Change(puts=rows, appends=appends, requires=requires))
        except Stale as error:
            opening = refreshed(gateway, opening)
            if not first or opening.payment is None or _is_used(gateway, opening):
                raise WrongState("this page has been used to log in already: load it again") from error
        else:
            return
    raise Unavailable("this payment is being changed at this moment")


def _is_used(gateway: Gateway, opening: Opening) -> bool:
    return gateway.reader.one("SELECT 1 FROM openings WHERE ctx = ?", opening.keys.claims.ctx) is not None


async def identify(gateway: Gateway, plain: dict[str, Any], *, ctx: str, n: str) -> tuple[Customer, tuple[Put, ...]]:
    """Whose password or passkey this is, with the rows that must move with it; LoginFailed, whatever was wrong."""
    if plain["method"] == "password":
        return await _by_password(gateway, plain), ()
    if plain["method"] != "passkey":
        raise BadInput("method: password or passkey")
    challenge, at = sealed.login_challenge(ctx, n), gateway.clock.now()
    try:
        owner, counted = passkeys.check(gateway.reader, plain.get("assertion"), site=factors.site(gateway), challenge=challenge, at=at)
    except ProtocolViolation as error:
        gateway.observe("login", "failed")
        raise LoginFailed from error
    customer = customers.by_id(gateway.reader, owner)
    if customer is None:
        raise LoginFailed
    return customer, (counted,)


async def _by_password(gateway: Gateway, plain: dict[str, Any]) -> Customer:
    login, password = plain.get("id"), plain.get("password")
    if not isinstance(login, str) or not isinstance(password, str) or not 1 <= len(login) <= LOGIN_MAX:
        raise BadInput("id and password")
    customer = customers.by_login(gateway.reader, login)
    at = gateway.clock.now()
    if customer is None:
        await factors.guarded_nobody(gateway, f"login:{login}", password)
        await gateway.book.commit(Change())  # in the place of the audit row of a known name
        gateway.observe("login", "failed")
        raise LoginFailed
    stored = customer.password
    if not await factors.guarded(gateway, f"login:{customer.id}", lambda: gateway.passwords.verify(stored, password)):
        await gateway.book.commit(Change(appends=(act(at, f"customer:{customer.id}", "login", "wrong_password"),)))
        gateway.observe("login", "failed")
        raise LoginFailed
    return customer


def act(at: int, actor: str, what: str, reason: str, merchant: str | None = None, tid: str | None = None) -> Append:
    """A row of the audit table: who did what, and why or with which result."""
    row: dict[str, Value] = {
        "id": ids.new_token(),
        "at": at,
        "actor": actor,
        "act": what,
        "reason": reason,
        "merchant": merchant,
        "tid": tid,
    }
    return Append("audit", row)
