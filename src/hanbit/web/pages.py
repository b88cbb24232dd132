"""What all pages share: a language with its words, amounts and dates, and the environment in which templates are rendered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from babel import Locale
from babel.dates import format_datetime, format_time, format_timedelta
from babel.numbers import NumberPattern, parse_pattern
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from hanbit.kernel.money import CURRENCY_EXPONENTS, Money
from hanbit.web.assets import Assets
from hanbit.web.words import LANGUAGES, LanguageCode, catalogue

SHORT_NUMBER_CHARACTERS: Final = 8
"""The first so many characters of a payment's id are its receipt number: enough to find it by, short enough to read out."""
_PROGRAM_WORDS = ("program.", "decline.")
_MOMENTS: Final[Mapping[LanguageCode, str]] = {"ko": "y년 M월 d일 HH:mm:ss", "en": "d MMMM y, HH:mm:ss"}
_TIMES: Final[Mapping[LanguageCode, str]] = {"ko": "H시 m분", "en": "HH:mm"}


@dataclass(frozen=True, slots=True)
class OperatorCard:
    """The institution under whose name the pages stand, in each language; addresses are https or empty."""

    id: str
    names: Mapping[LanguageCode, str]
    telephone: str
    terms_url: str = ""
    open_account_url: str = ""
    test_mode: bool = False
    sandbox: bool = False
    colour: str = "#0f3b33"
    """Of the mark's ground."""

    def in_language(self, code: LanguageCode) -> dict[str, object]:
        """What templates call `operator`."""
        return {
            "id": self.id,
            "name": self.names[code],
            "telephone": self.telephone,
            "terms_url": self.terms_url,
            "open_account_url": self.open_account_url,
            "test_mode": self.test_mode,
            "sandbox": self.sandbox,
            "colour": self.colour,
        }


@dataclass(frozen=True, slots=True)
class Language:
    """One language: its words, and how it writes amounts and times."""

    code: LanguageCode
    words: Mapping[str, str]
    locale: Locale
    zone: tzinfo

    @classmethod
    def of(cls, code: LanguageCode, zone: tzinfo) -> "Language":
        """The language with its catalogue, and the zone of the times that it writes; messages and the book count seconds."""
        return cls(code, catalogue(code), Locale(code), zone)

    def say(self, place: str, **values: str) -> Markup:
        """The words for this place, with values that are escaped unless they are Markup; an unknown place is our bug: KeyError."""
        return escape(self.words[place]).format(**values)

    def amount(self, money: Money) -> str:
        """`220,000원` or `₩220,000`; the minor-unit digits are ISO 4217's, which differ from CLDR's for some currencies."""
        exponent = CURRENCY_EXPONENTS[money.currency]
        value = Decimal(money.amount_minor).scaleb(-exponent)
        if self.code == "ko" and money.currency == "KRW":
            return f"{value:,.0f}원"
        return str(_currency_pattern(str(self.locale), exponent).apply(value, self.locale, currency=money.currency, currency_digits=False))

    def moment(self, at: int) -> str:
        """A date with the time of day, in the operator's time zone."""
        return str(format_datetime(datetime.fromtimestamp(at, self.zone), _MOMENTS[self.code], self.zone, self.locale))

    def time_of_day(self, at: int) -> str:
        """The time of day to the minute, in the operator's time zone."""
        return str(format_time(datetime.fromtimestamp(at, self.zone), _TIMES[self.code], self.zone, self.locale))

    def from_now(self, at: int, now: int) -> str:
        """How far off a moment to come is, roughly: `in 5 minutes`."""
        return str(format_timedelta(timedelta(seconds=at - now), add_direction=True, locale=self.locale))

    @property
    def program_words(self) -> dict[str, str]:
        """What the payment program says."""
        return {place: words for place, words in self.words.items() if place.startswith(_PROGRAM_WORDS)}


@dataclass(frozen=True, slots=True)
class Visit:
    """One request's surroundings: its language, the nonce of its scripts, the same page in each language."""

    language: Language
    nonce: str
    alternates: Mapping[str, str]


def alternates(path: str, query: str) -> dict[str, str]:
    """Language → address of the same page in it."""
    pairs = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "lang"]
    return {code: f"{path}?{urlencode([*pairs, ('lang', code)])}" for code in LANGUAGES}


def short_number(payment_id: str) -> str:
    """The number of a receipt."""
    return payment_id[:SHORT_NUMBER_CHARACTERS]


class Pages:
    """Renders every page of one operator."""

    def __init__(self, operator: Callable[[], OperatorCard], assets: Assets, zone: tzinfo) -> None:
        """`operator` is asked for each page: the operator may change its name and mark at any time."""
        self._operator = operator
        self.languages = {code: Language.of(code, zone) for code in LANGUAGES}
        self._environment = Environment(
            loader=PackageLoader("hanbit.web"), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.auto_reload = False
        self._environment.globals.update(asset=assets.address, short_number=short_number, say=_say)
        self._environment.filters.update(amount=_amount, minor=_minor, moment=_moment, time_of_day=_time_of_day)
        self._environment.filters.update(from_now=_from_now, embed=embed)
        for template in self._environment.list_templates(extensions=["html"]):
            self._environment.get_template(template)  # compiled now: a mistake stops the start, not a payment

    @property
    def operator(self) -> OperatorCard:
        """The institution as it is now."""
        return self._operator()

    def render(self, template: str, visit: Visit, **context: Any) -> str:
        """A whole page."""
        return self._render(template, visit.language, nonce=visit.nonce, alternates=visit.alternates, **context)

    def fragment(self, template: str, language: Language, **context: Any) -> str:
        """A part that the payment program puts into the page that it is in; it holds no script."""
        return self._render(f"fragments/{template}", language, **context)

    def _render(self, template: str, language: Language, **context: Any) -> str:
        operator = self.operator.in_language(language.code)
        return self._environment.get_template(template).render(language=language, operator=operator, **context)


def embed(value: Any) -> Markup:
    """JSON for `<script type="application/json">`: no `<`, so that nothing inside can end the element."""
    encoded = msgspec.json.encode(value).decode("utf-8")
    return Markup(encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - made safe on this line


@cache
def _currency_pattern(locale: str, exponent: int) -> NumberPattern:
    pattern = Locale.parse(locale).currency_formats["standard"].pattern
    return parse_pattern(pattern.replace(".00", "." + "0" * exponent if exponent else ""))


def _language(context: Context) -> Language:
    language = context["language"]
    assert isinstance(language, Language)
    return language


@pass_context
def _say(context: Context, place: str, **values: str) -> Markup:
    return _language(context).say(place, **values)


@pass_context
def _amount(context: Context, money: Money) -> str:
    return _language(context).amount(money)


@pass_context
def _minor(context: Context, minor: int, currency: str) -> str:
    """An amount that may be below zero."""
    return ("−" if minor < 0 else "") + _language(context).amount(Money(abs(minor), currency))


@pass_context
def _moment(context: Context, at: int) -> str:
    return _language(context).moment(at)


@pass_context
def _from_now(context: Context, at: int, now: int) -> str:
    return _language(context).from_now(at, now)


@pass_context
def _time_of_day(context: Context, at: int) -> str:
    return _language(context).time_of_day(at)
