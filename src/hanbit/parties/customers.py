"""Customers: who may log in, and in which state."""

import msgspec

from hanbit.crypto.envelopes import mac
from hanbit.db.change import Append, Put
from hanbit.db.reading import Reader, Row, columns
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput

LOGIN_MAX = 64
NAME_MAX = 60
LANGUAGES = ("ko", "en")


class Customer(msgspec.Struct, frozen=True):
    """A person with an account at the operator."""

    id: str
    version: int
    login: str
    name: str
    state: str
    password: str
    language: str
    webauthn_user: str
    email: str | None


_SELECT = f"SELECT {columns('customers', Customer)} FROM customers "  # noqa: S608 - names of our own


def _customer(row: Row | None) -> Customer | None:
    return None if row is None else Customer(*row)


def by_login(reader: Reader, login: str) -> Customer | None:
    """The customer with this login name."""
    return _customer(reader.one(_SELECT + "WHERE login = ?", login))


def by_id(reader: Reader, customer_id: str) -> Customer | None:
    """The customer with this id."""
    return _customer(reader.one(_SELECT + "WHERE id = ?", customer_id))


def new_customer(*, login: str, name: str, password_hash: str, language: str, at: int) -> Put:
    """The row of a new customer; the login name is 1 to 64 characters without control characters."""
    if not 1 <= len(login) <= LOGIN_MAX or not login.isprintable() or " " in login:
        raise BadInput("login: 1 to 64 characters without spaces")
    if not 1 <= len(name.strip()) <= NAME_MAX or not name.isprintable():
        raise BadInput("name: 1 to 60 characters")
    if language not in LANGUAGES:
        raise BadInput("language: ko or en")
    row: dict[str, str | int | None] = {
        "id": ids.new_token(),
        "login": login,
        "name": name.strip(),
        "state": "active",
        "password": password_hash,
        "language": language,
        "webauthn_user": ids.new_token(),
        "created_at": at,
        "email": None,
    }
    return Put("customers", row, version=0)


def number_mac(pepper: bytes, number: str) -> str:
    """The keyed name under which an account or card number is found again; the number itself is not kept."""
    return ids.encode_base64url(mac(pepper, b"hanbit account number\0" + number.encode("ascii")))


def ledger_account(account_id: str, kind: str, currency: str, *, credit_limit: int = 0, limited: bool) -> Append:
    """The row of an empty ledger account."""
    return Append(
        "ledger_accounts",
        {
            "id": account_id,
            "kind": kind,
            "currency": currency,
            "limited": int(limited),
            "credit_limit": credit_limit,
            "debits_pending": 0,
            "credits_pending": 0,
            "debits_posted": 0,
            "credits_posted": 0,
        },
    )
