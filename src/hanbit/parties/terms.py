"""What was agreed with a merchant: the fees of its captures, and the bank account to which it is paid."""

import json
import re

import msgspec
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding, aes_key_wrap_with_padding

from hanbit.crypto.envelopes import derive
from hanbit.db.change import Put
from hanbit.db.reading import Reader, columns
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.kernel.money import AMOUNT_MAX

BASIS_POINTS_MAX = 1_000
"""A tenth of the amount."""
BANK_MAX = 60
_WHOLE = 10_000
"""Basis points of the whole amount."""
_NUMBER = re.compile(r"[A-Z0-9]{6,34}")
"""An account number or IBAN, after spaces and hyphens were taken out."""


class Terms(msgspec.Struct, frozen=True):
    """Fees, and where the merchant is paid to; without an account its money stays in the ledger."""

    merchant: str
    version: int = 0
    fee_basis_points: int = 0
    fee_fixed_minor: int = 0
    payout_masked: str | None = None
    payout_sealed: str | None = None

    def fee_of(self, amount_minor: int) -> int:
        """What a capture costs: its share rounded half up to a minor unit, and the fixed part; never more than was captured."""
        share = (amount_minor * self.fee_basis_points + _WHOLE // 2) // _WHOLE
        return min(share + self.fee_fixed_minor, amount_minor)


_SELECT = f"SELECT {columns('terms', Terms)} FROM terms WHERE merchant = ?"  # noqa: S608 - names of our own


def of_merchant(reader: Reader, merchant: str) -> Terms:
    """What stands with this merchant: no fees and no account, if nothing was agreed."""
    row = reader.one(_SELECT, merchant)
    return Terms(merchant) if row is None else Terms(*row)


def with_fees(terms: Terms, *, basis_points: int, fixed_minor: int, at: int) -> Put:
    """The row with other fees; they count for the next day that is closed."""
    if not 0 <= basis_points <= BASIS_POINTS_MAX:
        raise BadInput(f"basis points: 0 to {BASIS_POINTS_MAX}, hundredths of a percent")
    if not 0 <= fixed_minor <= AMOUNT_MAX:
        raise BadInput("amount")
    return _put(msgspec.structs.replace(terms, fee_basis_points=basis_points, fee_fixed_minor=fixed_minor), at)


def with_account(terms: Terms, *, bank: str, number: str, pepper: bytes, at: int) -> Put:
    """The row with another bank account; its number is kept sealed, and shown masked."""
    plain = number.upper().replace(" ", "").replace("-", "")
    if not 1 <= len(bank.strip()) <= BANK_MAX or not bank.isprintable():
        raise BadInput(f"bank: 1 to {BANK_MAX} printable characters")
    if not _NUMBER.fullmatch(plain):
        raise BadInput("account number: 6 to 34 digits and letters")
    sealed = aes_key_wrap_with_padding(_key(pepper, terms.merchant), json.dumps([bank.strip(), plain]).encode("utf-8"))
    masked = f"{bank.strip()} {'*' * (len(plain) - 4)}{plain[-4:]}"
    return _put(msgspec.structs.replace(terms, payout_masked=masked, payout_sealed=ids.encode_base64url(sealed)), at)


def with_sealed(terms: Terms, *, masked: str, sealed: str, at: int) -> Put:
    """The row with an account that `with_account` has sealed before."""
    return _put(msgspec.structs.replace(terms, payout_masked=masked, payout_sealed=sealed), at)


def open_account(sealed: str, merchant: str, pepper: bytes) -> tuple[str, str]:
    """Bank and number, to pay to."""
    try:
        bank, number = json.loads(aes_key_unwrap_with_padding(_key(pepper, merchant), ids.decode_base64url(sealed)))
    except InvalidUnwrap as error:
        raise BadInput(f"the bank account of {merchant} does not open: the pepper is another one") from error
    return bank, number


def _key(pepper: bytes, merchant: str) -> bytes:
    """A stolen book opens nothing: the pepper lies outside it."""
    return derive(pepper, salt=merchant.encode("ascii"), info=b"hanbit payout account")


def _put(terms: Terms, at: int) -> Put:
    row = msgspec.structs.asdict(terms)
    del row["version"]
    return Put("terms", row | {"changed_at": at}, version=terms.version)
