"""Charts that the server draws: columns as plain numbers for an SVG, beside a table that says the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HEIGHT: Final = 120
WIDTH: Final = 10
"""Of one column, gap included; the picture is scaled to its place."""
LEAST: Final = 2
"""What is more than nothing can be seen."""


@dataclass(frozen=True, slots=True)
class Column:
    """One minute: where its column stands, how high it is, and how high the dark part of it; the values themselves are for the table."""

    at: int
    whole: int
    part: int
    left: int
    height: int
    part_height: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The picture and its largest value."""

    columns: list[Column]
    most: int
    width: int
    height: int = HEIGHT


def columns_of(minutes: Sequence[tuple[int, int, int]]) -> Chart:
    """Of each minute its first second, a value, and a part of that value."""
    most = max((whole for _, whole, _ in minutes), default=0)

    def scaled(value: int) -> int:
        return max(round(value * HEIGHT / max(most, 1)), LEAST if value else 0)

    columns = [Column(at, whole, part, place * WIDTH, scaled(whole), scaled(part)) for place, (at, whole, part) in enumerate(minutes)]
    return Chart(columns, most, len(minutes) * WIDTH)
