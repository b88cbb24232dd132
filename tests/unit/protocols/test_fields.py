"""The grammars of what comes from outside: one value has one spelling, and what people are shown cannot turn other text round."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanbit.protocols import fields

SOURCE = Path(__file__).parents[3] / "src" / "hanbit"
PATTERN = re.compile(r"""pattern=r?f?"([^"\n]+)\"""")
GOOD: dict[str, tuple[Any, str]] = {
    "urn": (fields.Urn, "urn:hanbit:bank:merchant:shop"),
    "token": (fields.Token, "A" * 22),
    "digest": (fields.Digest, "A" * 43),
    "tid": (fields.Tid, "A" * 22),
    "amount": (fields.Amount, "220000"),
    "currency": (fields.Currency, "KRW"),
    "code": (fields.Code, "wrong_factor"),
    "compact": (fields.Compact, f"a.b.{'A' * 86}"),
    "coordinate": (fields.Coordinate, "A" * 43),
    "text": (fields.Text, "휴대폰 IM-1100"),
}


@pytest.mark.parametrize("name", GOOD)
def test_no_line_end_follows_what_a_field_says(name: str) -> None:
    kind, good = GOOD[name]
    assert msgspec.json.decode(msgspec.json.encode(good), type=kind) == good
    for bad in (f"{good}\n", f"\n{good}", f"{good}\0", f"{good}\r\n"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(bad), type=kind)


@pytest.mark.parametrize("turning", ["\u202e", "\u2066", "\u2028", "\x1b", "\x85"])
def test_what_is_shown_to_people_turns_no_text_round(turning: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(f"book{turning}000,022"), type=fields.Text)


def test_every_pattern_of_the_source_ends_where_the_text_ends() -> None:
    """`$` alone stands before a last line end too."""
    found = [(path.name, pattern) for path in SOURCE.rglob("*.py") for pattern in PATTERN.findall(path.read_text("utf-8"))]
    assert len(found) > 20
    assert [one for one in found if not one[1].endswith(r"$(?!\n)")] == []
