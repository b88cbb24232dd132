"""Money: whole minor units with a currency, and the one spelling of an amount."""

import re

import msgspec

from hanbit.kernel.errors import BadInput

AMOUNT = re.compile(r"0|[1-9][0-9]{0,14}")
"""The one spelling of an amount of minor units, ASCII digits only."""
AMOUNT_MAX = 999_999_999_999_999
_TYPED = re.compile(r"(0|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,4}|[1-9][0-9]{0,14})(?:\.([0-9]{1,3}))?")
"""As people write an amount in both of our languages: 220000, 220,000 or 12.50; ASCII digits, commas in threes or none."""
CURRENCY_EXPONENTS = {"KRW": 0, "JPY": 0, "USD": 2, "EUR": 2, "GBP": 2, "CNY": 2, "VND": 0, "KWD": 3}
"""ISO 4217 minor-unit digits of the currencies that a book may be kept in."""


class Money(msgspec.Struct, frozen=True, order=True, gc=False):
    """An amount of whole minor units (won, cent) in one currency; never negative."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if not 0 <= self.amount_minor <= AMOUNT_MAX:
            raise BadInput("amount")
        if self.currency not in CURRENCY_EXPONENTS:
            raise BadInput("currency")

    @property
    def text(self) -> str:
        """The amount as messages spell it."""
        return str(self.amount_minor)


def parse_amount(text: object) -> int:
    """Minor units from the one spelling `0|[1-9][0-9]{0,14}`; anything else is BadInput."""
    if not isinstance(text, str) or not AMOUNT.fullmatch(text):
        raise BadInput("amount")
    return int(text)


def parse_money(amount: object, currency: object) -> Money:
    """Money above zero from two texts of a message, form or address; anything else is BadInput."""
    if not isinstance(currency, str) or currency not in CURRENCY_EXPONENTS:
        raise BadInput("currency")
    minor = parse_amount(amount)
    if minor == 0:
        raise BadInput("amount")
    return Money(minor, currency)


def typed(money: Money) -> str:
    """An amount as `parse_typed` reads it: what a field to type in shows."""
    exponent = CURRENCY_EXPONENTS[money.currency]
    whole, part = divmod(money.amount_minor, 10**exponent)
    return f"{whole:,}.{part:0{exponent}}" if exponent else f"{whole:,}"


def parse_typed(text: str, currency: str) -> Money:
    """An amount as somebody types it, in whole units of the currency with at most its decimals (220,000; 12.50); else BadInput."""
    exponent = CURRENCY_EXPONENTS[currency]
    match = _TYPED.fullmatch(text)
    decimals = "" if match is None else match[2] or ""
    if match is None or len(decimals) > exponent:
        raise BadInput("amount")
    return Money(int(match[1].replace(",", "") + decimals.ljust(exponent, "0")), currency)
