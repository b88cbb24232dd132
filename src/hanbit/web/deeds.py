"""Acts of people in the consoles: one form that asks for what is needed and always for the reason, and the one function that does it.

Deed(place, back, fields, do)   the words of `place` are the title, those of `place`_about say what will happen, of `place`_do the button
show(…)                         the form, empty
carry_out(…)                    checked field by field; what is wrong is said there and nothing has changed
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hanbit.db.change import Stale
from hanbit.kernel.errors import BadInput, WrongState
from hanbit.payments.staff import REASON_MAX
from hanbit.web.consoles import Console
from hanbit.web.forms import AMOUNT_CHARACTERS, Blob, Errors, Line, amount_shown, example, fields_of, read_form

REASON: Final = "reason"
AMOUNT: Final = "amount"
CURRENCY: Final = "currency"
Check = tuple[Callable[[str], object], str]
"""What must hold of a field, and the place of the words that say what to type instead."""


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that is asked for; without `words` an option is shown as it is.

    `kind` is that of an input, "choice", "lines" or "amount", which is typed in units of `currency`, or of the form's own currency where
    that is empty.
    """

    name: str
    label: str
    checks: tuple[Check, ...] = ()
    kind: str = "text"
    options: tuple[str, ...] = ()
    words: str = ""
    value: str = ""
    hint: str = ""
    max: int = 200
    currency: str = ""
    empty: bool = False
    zero: bool = False

    @property
    def example(self) -> str:
        """How this amount may be typed; empty where its currency is still to be chosen."""
        return example(self.currency) if self.currency else ""


@dataclass(frozen=True, slots=True)
class Deed:
    """One act: `do` gets who does it and what he typed, amounts in minor units; `about` are the values in the words."""

    place: str
    back: str
    fields: tuple[Field, ...]
    do: Callable[[str, Mapping[str, str]], Awaitable[Response]]
    about: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    """Of the reason, besides: what must hold for this person to do it."""


def choice(name: str, label: str, options: tuple[str, ...], *, words: str = "", value: str = "") -> Field:
    """One of a list."""
    return Field(name, label, ((options.__contains__, "console.field.choice"),), "choice", options, words, value)


def amount(
    name: str,
    label: str,
    currency: str = "",
    *,
    minor: int | None = None,
    checks: tuple[Check, ...] = (),
    hint: str = "",
    empty: bool = False,
    zero: bool = False,
) -> Field:
    """An amount, shown as it is to be typed; above zero, unless it may be `zero` or `empty`."""
    value = amount_shown(minor, currency) if currency else ""
    return Field(name, label, checks, AMOUNT, (), "", value, hint, AMOUNT_CHARACTERS, currency, empty, zero)


def show(console: Console, request: Request, deed: Deed) -> Response:
    """What is about to be done is said, and asked for."""
    return _page(console, request, deed, {one.name: one.value for one in deed.fields} | {REASON: ""}, Errors())


async def carry_out(console: Console, request: Request, deed: Deed) -> Response:
    """Read, check, do."""
    kind = _kind(tuple((one.name, one.kind) for one in deed.fields))
    form, errors = fields_of(await read_form(request, kind)), Errors()
    for one in deed.fields:
        for good, place in one.checks:
            if one.name not in errors:
                errors.check(one.name, good(form[one.name]), place)
    minor: dict[str, str] = {}
    for one in deed.fields:
        if one.kind == AMOUNT and not {one.name, CURRENCY} & errors.keys():
            money = errors.amount(one.name, form[one.name], one.currency or form[CURRENCY], empty=one.empty, zero=one.zero)
            minor[one.name] = "" if money is None else money.text
    for good, place in deed.checks:
        errors.check(REASON, good(console.who(request).person.actor), place)
    errors.check(REASON, 1 <= len(form[REASON].strip()) <= REASON_MAX and form[REASON].isprintable(), "console.field.reason")
    if not errors:
        try:
            return await deed.do(console.who(request).person.actor, {**form, **minor})
        except BadInput as error:
            names = [*(one.name for one in deed.fields), REASON]
            named = next((name for name in names if name in error.detail), names[0])
            errors.check(named, False, "console.field.wrong")
        except Stale as error:
            raise WrongState("somebody else has changed this at the same moment") from error
    return _page(console, request, deed, form, errors)


def _page(console: Console, request: Request, deed: Deed, form: Mapping[str, str], errors: Errors) -> Response:
    shown = {one.name: "" if one.kind == "password" else form[one.name] for one in deed.fields} | {REASON: form[REASON]}
    return console.page(request, "consoles/deed.html", deed=deed, form=shown, errors=errors)


@cache
def _kind(fields: tuple[tuple[str, str], ...]) -> Any:
    """The strict shape of a form with these fields."""
    members = [(name, Blob if kind == "lines" else Line, "") for name, kind in fields]
    return msgspec.defstruct("DeedForm", [*members, (REASON, Line, "")], frozen=True, forbid_unknown_fields=True)


def at(console: Console, path: str, deed: Callable[[Request], Deed]) -> None:
    """Serve an act at this address: GET asks, POST does."""

    async def ask(request: Request) -> Response:
        return show(console, request, deed(request))

    async def do(request: Request) -> Response:
        return await carry_out(console, request, deed(request))

    console.route("GET", path, ask)
    console.route("POST", path, do)
