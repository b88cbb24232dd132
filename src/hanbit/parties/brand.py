"""The operator as its pages show it: names, colour of the mark, telephone, terms; in the book once changed, before in the settings."""

import re
from typing import Final

import msgspec

from hanbit.db.change import Put
from hanbit.db.reading import Reader
from hanbit.kernel.errors import BadInput
from hanbit.settings import NAME_MAX, PLAIN_HTTPS, TELEPHONE, Settings

ROW: Final = "brand"
"""The row of `settings` that holds it."""
PINE: Final = "#0f3b33"
DRAWING: Final = "#f3c264"
"""What is drawn on the mark's ground."""
CONTRAST_MIN: Final = 3.0
"""WCAG 2.2, 1.4.11: what a picture says must stand out so much."""
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}")


class Brand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What heads and closes every page; the addresses are https or empty."""

    name_ko: str
    name_en: str
    telephone: str
    terms_url: str = ""
    open_account_url: str = ""
    colour: str = PINE


def of(reader: Reader, settings: Settings) -> Brand:
    """What was last chosen; until then what the settings say."""
    row = reader.one("SELECT value FROM settings WHERE name = ?", ROW)
    if row is not None:
        return msgspec.json.decode(row["value"], type=Brand)
    return Brand(settings.name_ko, settings.name_en, settings.telephone, settings.terms_url, settings.open_account_url)


def put(reader: Reader, brand: Brand) -> Put:
    """The row; BadInput names the field that cannot be."""
    for name in ("name_ko", "name_en"):
        if not is_name(getattr(brand, name)):
            raise BadInput(name)
    if not TELEPHONE.fullmatch(brand.telephone):
        raise BadInput("telephone")
    for name in ("terms_url", "open_account_url"):
        if not is_address(getattr(brand, name)):
            raise BadInput(name)
    if not is_colour(brand.colour) or not stands_out(brand.colour):
        raise BadInput("colour")
    known = reader.one("SELECT version FROM settings WHERE name = ?", ROW)
    value = msgspec.json.encode(brand).decode("utf-8")
    return Put("settings", {"name": ROW, "value": value}, 0 if known is None else known["version"])


def is_name(text: str) -> bool:
    """1 to 60 printable characters."""
    return 1 <= len(text.strip()) <= NAME_MAX and text.isprintable()


def is_address(text: str) -> bool:
    """A plain https address that a page may link to, or none."""
    return not text or PLAIN_HTTPS.fullmatch(text) is not None


def is_colour(text: str) -> bool:
    """#rrggbb, in small letters."""
    return _COLOUR.fullmatch(text) is not None


def stands_out(colour: str) -> bool:
    """Whether the mark's drawing can be seen on this ground."""
    return contrast(colour, DRAWING) >= CONTRAST_MIN


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2), from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)  # noqa: PLR2004 - sRGB
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
