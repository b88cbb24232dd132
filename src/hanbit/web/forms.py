"""Forms of the consoles: what a browser sends, strictly read; what is wrong with it, field by field; and the addresses of lists."""

import re
from collections.abc import Mapping
from datetime import timedelta, tzinfo
from typing import Annotated, Final, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
from starlette.requests import Request

from hanbit.kernel.days import begins_at, read_day
from hanbit.kernel.errors import BadInput, WrongMediaType
from hanbit.kernel.money import CURRENCY_EXPONENTS, Money, parse_typed, typed

URLENCODED: Final = "application/x-www-form-urlencoded"
FIELDS_MAX: Final = 60
QUERY_MAX: Final = 4096
ROWS: Final = 50
"""Rows of one page of a list."""
AMOUNT_CHARACTERS: Final = 20
"""The longest amount that can be typed: fifteen digits, four commas and a point."""

Line = Annotated[str, msgspec.Meta(max_length=200)]
"""One line that somebody types; longer than anything that is right."""
Secret = Annotated[str, msgspec.Meta(max_length=128)]
Blob = Annotated[str, msgspec.Meta(max_length=16 * 1024)]
"""What a browser says of a passkey."""
Form = TypeVar("Form", bound=msgspec.Struct)


async def read_form(request: Request, kind: type[Form]) -> Form:
    """The fields of a posted form as exactly one `kind`, whose members are texts with defaults; each field at most once."""
    said, _, parameters = request.headers.get("content-type", "").partition(";")
    if said.strip().lower() != URLENCODED or parameters.strip().lower() not in {"", "charset=utf-8"}:
        raise WrongMediaType(f"send {URLENCODED}")
    return _convert(await request.body(), kind)


def read_query(request: Request, kind: type[Form]) -> Form:
    """The query of a list's address as exactly one `kind`; `lang` may stand beside it."""
    query: bytes = request.scope["query_string"]
    if len(query) > QUERY_MAX:
        raise BadInput("the address is too long")
    return _convert(query, kind, beside="lang")


def _convert(unverified: bytes, kind: type[Form], *, beside: str = "") -> Form:
    try:
        text = unverified.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=FIELDS_MAX, errors="strict")
        found = dict(pairs)
        if len(found) != len(pairs):
            raise BadInput("a field twice")
        found.pop(beside, None)
        return msgspec.convert(found, kind)
    except (ValueError, msgspec.MsgspecError) as error:  # not ASCII, a malformed pair or escape, too many; an unknown or too long field
        raise BadInput(str(error)[:200] if isinstance(error, msgspec.ValidationError) else "not the form that is expected") from error


class Errors(dict[str, str]):
    """Field → the place of the words that say what to type instead; a page with errors is shown again with status 422."""

    def check(self, field: str, good: object, place: str) -> None:
        """Unless this is good, the field is to be corrected; the first thing that is wrong with it is said."""
        if not good:
            self.setdefault(field, place)

    def amount(self, field: str, text: str, currency: str, *, empty: bool = False, zero: bool = False) -> Money | None:
        """The amount that was typed; None where it is wrong, which is then said at its field, or where it may be and is empty."""
        if empty and not text:
            return None
        try:
            money = parse_typed(text, currency)
        except BadInput:
            self.setdefault(field, f"console.field.amount_{CURRENCY_EXPONENTS[currency]}")
            return None
        self.check(field, zero or money.amount_minor, "console.field.above_zero")
        return money


def amount_shown(minor: int | None, currency: str) -> str:
    """What stands in a field to type an amount in: as it is to be typed, or nothing."""
    return "" if minor is None else typed(Money(minor, currency))


def example(currency: str) -> str:
    """An amount as it is typed: 1,200,000 won or 1,200.50 dollars."""
    return typed(Money({0: 1_200_000, 2: 120_050, 3: 1_200_500}[CURRENCY_EXPONENTS[currency]], currency))


def address(path: str, **fields: str | None) -> str:
    """An address with those fields that have a value."""
    query = urlencode({name: value for name, value in fields.items() if value})
    return f"{path}?{query}" if query else path


def own_path(unverified: str) -> str:
    """Where to go on, if it is a plain path of ours; else the first page. An address of somebody else's never gets through."""
    good = re.fullmatch(r"/[A-Za-z0-9._~/-]*(\?[A-Za-z0-9._~=&%+-]*)?", unverified) and not unverified.startswith("//")
    return unverified if good else "/"


def is_day(text: str) -> bool:
    """Whether this is a day (2026-11-22)."""
    try:
        read_day(text)
    except BadInput:
        return False
    return True


def day_begins(text: str, zone: tzinfo) -> int | None:
    """The first second of a day (2026-11-22) in the pages' zone; None if it is no day."""
    return begins_at(read_day(text), zone) if is_day(text) else None


def day_ends(text: str, zone: tzinfo) -> int | None:
    """The first second after a day."""
    return begins_at(read_day(text) + timedelta(days=1), zone) if is_day(text) else None


def fields_of(form: msgspec.Struct) -> Mapping[str, str]:
    """What was typed, to be shown again."""
    return dict(msgspec.structs.asdict(form))
