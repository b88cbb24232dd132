"""Amounts in forms: what is wrong with one is said at its field, and how to write it stands beside it."""

import pytest

from hanbit.kernel.money import CURRENCY_EXPONENTS, Money
from hanbit.web.forms import AMOUNT_CHARACTERS, Errors, amount_shown, example
from hanbit.web.words import LANGUAGES, catalogue


@pytest.mark.parametrize(
    ("text", "currency", "said"),
    [
        ("", "KRW", "console.field.amount_0"),
        ("1.5", "KRW", "console.field.amount_0"),
        ("0.001", "USD", "console.field.amount_2"),
        ("1.2345", "KWD", "console.field.amount_3"),
        ("0", "KRW", "console.field.above_zero"),
        ("0.00", "USD", "console.field.above_zero"),
    ],
)
def test_what_is_wrong_with_an_amount_is_said_at_its_field(text: str, currency: str, said: str) -> None:
    errors = Errors()
    errors.amount("day", text, currency)
    assert errors == {"day": said}
    for language in LANGUAGES:
        assert catalogue(language)[said]


def test_an_amount_may_be_empty_or_zero_only_where_the_form_says_so() -> None:
    errors = Errors()
    assert errors.amount("day", "", "USD", empty=True) is None
    assert errors.amount("fixed", "0.00", "USD", zero=True) == Money(0, "USD")
    assert errors.amount("payment", "1,200.50", "USD") == Money(120_050, "USD")
    assert not errors


@pytest.mark.parametrize("currency", CURRENCY_EXPONENTS)
def test_the_example_of_every_currency_can_be_typed_and_the_longest_amount_fits_its_field(currency: str) -> None:
    errors, longest = Errors(), amount_shown(999_999_999_999_999, currency)
    for text in (example(currency), longest):
        money = errors.amount("amount", text, currency)
        assert money is not None
        assert amount_shown(money.amount_minor, currency) == text
    assert not errors
    assert len(longest) <= AMOUNT_CHARACTERS
    assert amount_shown(None, currency) == ""
