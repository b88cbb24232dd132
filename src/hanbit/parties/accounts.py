"""The accounts that customers pay from: bank account, card, e-money account, each with its own password (A12, A13)."""

import re

import msgspec

from hanbit.db.change import Append, Put
from hanbit.db.reading import Reader, Row, columns
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import CURRENCY_EXPONENTS
from hanbit.ledger.chart import CUSTOMER_KINDS
from hanbit.parties.customers import ledger_account, number_mac
from hanbit.parties.limits import NO_LIMITS

NUMBER = {"bank": re.compile(r"[0-9]{10,14}"), "card": re.compile(r"[0-9]{16}"), "emoney": re.compile(r"[0-9]{10,14}")}
"""The grammar of numbers, after spaces and hyphens were taken out."""


class Account(msgspec.Struct, frozen=True):
    """One account of a customer; `id` is also the id of its ledger account."""

    id: str
    version: int
    customer: str
    kind: str
    currency: str
    masked: str
    password: str
    state: str


_SELECT = f"SELECT {columns('accounts', Account)} FROM accounts "  # noqa: S608 - names of our own


def _account(row: Row | None) -> Account | None:
    return None if row is None else Account(*row)


def by_id(reader: Reader, account_id: str) -> Account | None:
    """The account with this id."""
    return _account(reader.one(_SELECT + "WHERE id = ?", account_id))


def by_number(reader: Reader, pepper: bytes, typed: str) -> Account | None:
    """The account or card with this number, as somebody typed it."""
    number = typed.replace(" ", "").replace("-", "")
    if not any(pattern.fullmatch(number) for pattern in NUMBER.values()):
        return None
    return _account(reader.one(_SELECT + "WHERE number_mac = ?", number_mac(pepper, number)))


def of_customer(reader: Reader, customer_id: str, currency: str) -> list[Account]:
    """A customer's accounts in one currency, oldest first; those of one second by kind, so that the first is not left to chance."""
    sql = _SELECT + "WHERE customer = ? AND currency = ? ORDER BY created_at, kind, id LIMIT 50"
    return [account for row in reader.all(sql, customer_id, currency) if (account := _account(row))]


def mask(kind: str, number: str) -> str:
    """What is shown and kept of a number: the last four, of a card also the first six."""
    return f"{number[:4]}-{number[4:6]}**-****-{number[-4:]}" if kind == "card" else f"{'*' * (len(number) - 4)}{number[-4:]}"


def new_account(
    *, customer: str, kind: str, number: str, currency: str, password_hash: str, credit_limit: int, pepper: bytes, at: int
) -> tuple[Put, Append]:
    """The rows of a new account and of its empty ledger account."""
    if kind not in NUMBER:
        raise BadInput("kind: bank, card or emoney")
    if not NUMBER[kind].fullmatch(number):
        raise BadInput(f"number of a {kind} account: {'16' if kind == 'card' else '10 to 14'} digits")
    if kind == "card" and not _luhn(number):
        raise BadInput("card number: its check digit is wrong")
    if currency not in CURRENCY_EXPONENTS:
        raise BadInput("currency")
    if credit_limit and kind != "card":
        raise BadInput("only a card has a credit line")
    account_id = ids.new_token()
    row: dict[str, str | int | None] = {
        "id": account_id,
        "customer": customer,
        "kind": kind,
        "currency": currency,
        "number_mac": number_mac(pepper, number),
        "masked": mask(kind, number),
        "password": password_hash,
        "state": "active",
        "created_at": at,
        **msgspec.structs.asdict(NO_LIMITS),
    }
    return Put("accounts", row, version=0), ledger_account(
        account_id, CUSTOMER_KINDS[kind], currency, credit_limit=credit_limit, limited=True
    )


def _luhn(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0
