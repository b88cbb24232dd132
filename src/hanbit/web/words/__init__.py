"""The words of every page, one catalogue a language: looked up by place, read when the server starts.

words/ko.po              what customers see
words/home/{ko,en}.po    the customer's home; words/mail/{ko,en}.po: letters to customers
words/console/ko.po      what both consoles have in common; words/operator/ko.po, words/merchant/ko.po: the pages of each
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from io import BytesIO
from types import MappingProxyType
from typing import Final, Literal

from babel.messages.pofile import read_po

LanguageCode = Literal["ko", "en"]
LANGUAGES: Final[tuple[LanguageCode, ...]] = ("ko", "en")
DEFAULT_LANGUAGE: Final[LanguageCode] = "ko"
PARTS: Final = ("", "home", "mail", "console", "operator", "merchant")
"""Folders of catalogues; a place stands in one of them only."""
ACCEPT_LANGUAGE_MAX: Final = 200
"""Characters of Accept-Language that are looked at."""

_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


@cache
def catalogue(language: LanguageCode) -> Mapping[str, str]:
    """Place → words; a malformed catalogue, an empty, an unsure (fuzzy) or a second entry stops the start."""
    words: dict[str, str] = {}
    for part in PARTS:
        source = resources.files(__package__).joinpath(part, f"{language}.po").read_bytes()
        messages = [message for message in read_po(BytesIO(source), locale=language, abort_invalid=True) if message.id]
        unfinished = [str(message.id) for message in messages if message.fuzzy or not message.string or message.id in words]
        if unfinished:
            raise ValueError(f"{part}/{language}.po lacks words, or has them a second time, for {', '.join(unfinished)}")
        words |= {str(message.id): str(message.string) for message in messages}
    return MappingProxyType(words)


def choose_language(asked: str | None, accept_language: str) -> LanguageCode:
    """The language asked for in the address, else the browser's first that we speak, else Korean; nothing here is an error."""
    for code in LANGUAGES:
        if asked == code:
            return code
    ranked: list[tuple[float, int, LanguageCode]] = []
    for place, part in enumerate(accept_language[:ACCEPT_LANGUAGE_MAX].lower().split(",")):
        tag, _, quality = part.strip().partition(";")
        ranked += [(-_quality(quality), place, code) for code in LANGUAGES if tag.partition("-")[0] == code]
    return min(ranked)[2] if ranked else DEFAULT_LANGUAGE


def _quality(text: str) -> float:
    """The weight of one entry (RFC 9110 section 12.4.2); what is misspelt weighs nothing."""
    if not text:
        return 1.0
    match = _QUALITY.fullmatch(text.strip())
    return float(match[1]) if match else 0.0
