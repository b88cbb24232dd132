"""A customer has forgotten his log-in password: the staff makes a one-time link, the customer sets a new one by it.

The link is told once, to whoever made it, and handed over as the operator hands over secrets. By it nothing can be paid: an account keeps
its own password. Whoever sets the password has no session yet, and every session that there was ends.
"""

from typing import Any, Final

import msgspec

from hanbit.db.change import Change, Put, Stale
from hanbit.kernel.errors import BadInput, NotFound, WrongState
from hanbit.parties import customers, password_links, sessions, throttle
from hanbit.payments import handed_over, home, mails, sealed_forms
from hanbit.payments.gateway import Gateway
from hanbit.payments.home import Secret
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act

ACTOR: Final = "operator"
PATH: Final = "/my/password/"
FORGOTTEN: Final = "forgotten"
"""The act that the form of a link is for."""


class NewPasswordFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new one, twice."""

    new: Secret
    again: Secret


async def make_password_link(gateway: Gateway, by: str = ACTOR, *, login: str, reason: str) -> dict[str, Any]:
    """A link for this customer, in place of every one that was still open; WrongState while he is suspended.

    NotAllowed for whoever has made a code for a device of his within a day.
    """
    check_reason(reason)
    customer = customers.by_login(gateway.reader, login)
    if customer is None:
        raise NotFound(f"no customer {login}")
    if customer.state != "active":
        raise WrongState("the customer is suspended")
    at = gateway.clock.now()
    token, row = password_links.new(customer.id, at)
    noted, requires = handed_over.note(gateway, by, customer.id, "password")
    puts = (row, noted, *password_links.taken_back(gateway.reader, customer.id, at))
    audit = act(at, by, f"password link for customer {customer.id}", reason.strip())
    await gateway.book.commit(Change(requires=requires, puts=puts, appends=(audit,)))
    return {"customer": customer.id, "link": f"{gateway.settings.public_url}{PATH}{token}", "expires_at": at + password_links.LIFE_S}


def blank(gateway: Gateway, token: str) -> dict[str, Any]:
    """What the page of a link needs to seal its form; NotFound where the link opens nothing."""
    link = password_links.find(gateway.reader, token, gateway.clock.now())
    return sealed_forms.blank(gateway, FORGOTTEN, link.token_hash)


async def set_password(gateway: Gateway, token: str, unverified: bytes) -> None:
    """The new password counts, the link is used up, every session of the customer ends, and nobody waits for earlier wrong tries."""
    at = gateway.clock.now()
    link = password_links.find(gateway.reader, token, at)
    fields, _, _, used = sealed_forms.opened(gateway, unverified, NewPasswordFields, FORGOTTEN, link.token_hash)
    if fields.new != fields.again:
        raise BadInput("again")
    customer = link.customer
    home.check_log_in_password(fields.new, customer.login)
    hashed = await gateway.passwords.hash(fields.new)
    row = gateway.reader.one("SELECT * FROM customers WHERE id = ?", customer.id)
    assert row is not None, customer.id
    changed = {name: row[name] for name in row.keys()} | {"password": hashed}  # noqa: SIM118 - a database row
    ended = tuple(sessions.end(one, at) for one in home.live_sessions(gateway, customer.id))
    letter = mails.letter(gateway, customer, mails.PASSWORD, facts={"of": ""})
    put = Put("customers", changed, row["version"], changed=("password",))
    puts = (link.used, used, put, *ended, *_rested(gateway, customer.id), *letter)
    audit = act(at, f"customer:{customer.id}", "set password by link", "ok")
    try:
        await gateway.book.commit(Change(puts=puts, appends=(audit,)))
    except Stale as error:  # the same link beside this one
        raise WrongState("this link was used at the same moment") from error
    await home.end_stragglers(gateway, customer.id)


def _rested(gateway: Gateway, customer: str) -> tuple[Put, ...]:
    tries = throttle.read(gateway.reader, f"login:{customer}")
    return (
        (Put("throttles", {"factor": tries.factor, "failures": 0, "wait_until": tries.wait_until}, tries.version),) if tries.version else ()
    )
