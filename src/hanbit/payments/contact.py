"""How a customer is written to: his mail address, which counts once he has confirmed it, and his language.

A wish for an address, his own with a fresh approval or the operator's, sends a link to it that is good for a day and once; only he himself,
logged in, can use it. Until then nothing changes, and the old address is told when it does.
"""

from typing import Any, Final

from msgspec import Struct

from hanbit.db.change import Change, Put, Stale, Value
from hanbit.db.reading import Row
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotFound, TooManyTries, WrongState
from hanbit.parties import customers
from hanbit.parties.customers import LANGUAGES, Customer
from hanbit.payments import mails, sealed_forms
from hanbit.payments.gateway import Gateway
from hanbit.payments.home import Assertion, Secret, Text, approved
from hanbit.payments.redirect_flow import SignedIn
from hanbit.payments.sign_in import act
from hanbit.settings import EMAIL

EMAIL_ACT, CONFIRM_ACT, LANGUAGE = "email", "confirm", "language"
LINK_S: Final = 24 * 3600
FRESH_S: Final = 23 * 3600
"""A letter that leaves later than it was meant to carries a link that is still good for so long, at least."""
LINKS_MAX: Final = 5
"""Links that one customer may have sent in a day: nobody is written to without end by somebody else's typing."""
TOKEN_MAX: Final = 64
NONE: Final = "none"
"""How a command takes an address away."""


class EmailFields(Struct, frozen=True, forbid_unknown_fields=True):
    """The address, empty for none, and the fresh approval."""

    email: Text = ""
    password: Secret = ""
    assertion: Assertion = None


class ConfirmFields(Struct, frozen=True, forbid_unknown_fields=True):
    """The secret of the link."""

    token: Text


class LanguageFields(Struct, frozen=True, forbid_unknown_fields=True):
    """The language in which he is written to."""

    language: Text


async def ask_email(gateway: Gateway, who: SignedIn, unverified: bytes) -> str:
    """The customer's own wish; returns "asked" where a link is on its way, "none" where he is not to be written to any more."""
    fields, ctx, n, used = sealed_forms.opened(gateway, unverified, EmailFields, EMAIL_ACT, who.session.token_hash)
    address = fields.email.strip()
    if address:
        puts = _link(gateway, who.customer, address)
        counted = await approved(gateway, who, "ask email", password=fields.password, assertion=fields.assertion, ctx=ctx, n=n)
        await _commit(gateway, who, (used, *counted, *puts), "ask email")
        return "asked"
    counted = await approved(gateway, who, "no email", password=fields.password, assertion=fields.assertion, ctx=ctx, n=n)
    await _commit(gateway, who, (used, *counted, *_moved(gateway, who.customer, None)), "no email")
    return "none"


async def set_email(gateway: Gateway, by: str = "operator", *, login: str, email: str, reason: str = "") -> dict[str, Any]:
    """The operator's wish: the link goes to the address, and the customer himself confirms it. "none" takes the present one away."""
    if email == NONE:
        return await remove_email(gateway, by, login=login, reason=reason)
    customer = _by_login(gateway, login)
    await _as_staff(gateway, by, customer, _link(gateway, customer, email.strip()), f"ask email {customer.id}", reason)
    return {"customer": customer.id, "state": "a link is on its way; the address counts once the customer has confirmed it"}


async def remove_email(gateway: Gateway, by: str = "operator", *, login: str, reason: str = "") -> dict[str, Any]:
    """He is written to no more, and a last letter says so; at once, because it is asked for where somebody else reads his letters."""
    customer = _by_login(gateway, login)
    if customer.email is None:
        raise WrongState("this customer has no mail address")
    await _as_staff(gateway, by, customer, _moved(gateway, customer, None), f"no email {customer.id}", reason)
    return {"customer": customer.id, "state": "the address is removed"}


def asked(gateway: Gateway, customer: str) -> str | None:
    """The address that is yet to be confirmed, the latest."""
    sql = "SELECT address FROM email_links WHERE customer = ? AND used_at IS NULL AND expires_at >= ? ORDER BY expires_at DESC LIMIT 1"
    row = gateway.reader.one(sql, customer, gateway.clock.now())
    return None if row is None else str(row["address"])


def link_of(gateway: Gateway, mail: Row, at: int) -> tuple[Put, ...]:
    """For a letter that is about to leave: its link is good for a day from now, however long the letter has waited.

    A link that was used stays so.
    """
    if mail["kind"] != mails.CONFIRM:
        return ()
    token_hash = _hash(mails.link_token(gateway, mail["id"]))
    row = gateway.reader.one("SELECT * FROM email_links WHERE token_hash = ?", token_hash)
    if row is None:  # so old that it was removed
        return (Put("email_links", _link_row(token_hash, mail["customer"], mail["address"], at), version=0),)
    if row["used_at"] is not None or row["expires_at"] >= at + FRESH_S:
        return ()
    return (Put("email_links", _link_row(token_hash, row["customer"], row["address"], at), row["version"]),)


async def confirm(gateway: Gateway, who: SignedIn, unverified: bytes) -> None:
    """The owner of the address has opened its link; NotFound, whatever is wrong with that."""
    fields, _, _, used = sealed_forms.opened(gateway, unverified, ConfirmFields, CONFIRM_ACT, who.session.token_hash)
    row = gateway.reader.one("SELECT * FROM email_links WHERE token_hash = ?", _hash(fields.token))
    at = gateway.clock.now()
    if row is None or row["customer"] != who.customer.id or row["used_at"] is not None or at > row["expires_at"]:
        raise NotFound("no such link")
    link = {name: row[name] for name in row.keys()} | {"used_at": at}  # noqa: SIM118 - a database row
    puts = (Put("email_links", link, row["version"]), *_moved(gateway, who.customer, row["address"]))
    await _commit(gateway, who, (used, *puts), "confirm email")


async def set_language(gateway: Gateway, who: SignedIn, unverified: bytes) -> str:
    """The language of his letters and of his home; returns it."""
    fields, _, _, used = sealed_forms.opened(gateway, unverified, LanguageFields, LANGUAGE, who.session.token_hash)
    if fields.language not in LANGUAGES:
        raise BadInput("language")
    await _commit(gateway, who, (used, _customer_put(gateway, who.customer, language=fields.language)), f"language {fields.language}")
    return fields.language


def masked(address: str) -> str:
    """An address as somebody may see it who knows it already: h•••@example.com."""
    name, _, domain = address.partition("@")
    return f"{name[:1]}•••@{domain}"


def _link(gateway: Gateway, customer: Customer, address: str) -> tuple[Put, ...]:
    """The link's row and its letter."""
    if not EMAIL.fullmatch(address):
        raise BadInput("email")
    if not mails.is_on(gateway):
        raise WrongState("mail is turned off (smtp_host)")
    at = gateway.clock.now()
    sent = gateway.reader.one("SELECT count(*) FROM email_links WHERE customer = ? AND expires_at > ?", customer.id, at)
    if sent is not None and sent[0] >= LINKS_MAX:
        raise TooManyTries("links to confirm an address", retry_after_s=LINK_S)
    mail = ids.new_token()
    row = _link_row(_hash(mails.link_token(gateway, mail)), customer.id, address, at)
    letter = mails.letter(gateway, customer, mails.CONFIRM, address=address, mail=mail)
    # The customer's row moves on with every link, so that of two wishes at once the second finds it changed, and counts the first.
    return Put("email_links", row, version=0), _customer_put(gateway, customer), *letter


def _link_row(token_hash: str, customer: str, address: str, at: int) -> dict[str, Value]:
    return {"token_hash": token_hash, "customer": customer, "address": address, "expires_at": at + LINK_S, "used_at": None}


def _moved(gateway: Gateway, customer: Customer, address: str | None) -> tuple[Put, ...]:
    """The customer with this address, and the letter to the old one."""
    put = _customer_put(gateway, customer, email=address)
    if customer.email is None or customer.email == address:
        return (put,)
    return put, *mails.letter(gateway, customer, mails.MOVED, facts={"now": masked(address) if address else "-"})


def _customer_put(gateway: Gateway, customer: Customer, **changed: str | None) -> Put:
    row = gateway.reader.one("SELECT * FROM customers WHERE id = ?", customer.id)
    assert row is not None, customer.id
    kept = {name: row[name] for name in row.keys() if name != "version"}  # noqa: SIM118 - a database row
    return Put("customers", kept | changed, row["version"], changed=tuple(changed))


def _hash(token: str) -> str:
    return ids.digest(b"hanbit email link\0" + token[:TOKEN_MAX].encode("utf-8", "replace"))


def _by_login(gateway: Gateway, login: str) -> Customer:
    customer = customers.by_login(gateway.reader, login)
    if customer is None:
        raise NotFound(f"no customer {login}")
    return customer


async def _as_staff(gateway: Gateway, by: str, customer: Customer, puts: tuple[Put, ...], what: str, reason: str) -> None:
    try:
        await gateway.book.commit(Change(puts=puts, appends=(act(gateway.clock.now(), by, what, reason.strip() or "ok"),)))
    except Stale as error:
        raise WrongState(f"customer {customer.login} was changed at the same moment: try again") from error


async def _commit(gateway: Gateway, who: SignedIn, puts: tuple[Put, ...], what: str) -> None:
    try:
        await gateway.book.commit(Change(puts=puts, appends=(act(gateway.clock.now(), f"customer:{who.customer.id}", what, "ok"),)))
    except Stale as error:
        raise WrongState("this was changed at the same moment, or sent already: load the page again") from error
