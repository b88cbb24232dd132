"""Charts that the server draws: columns as plain numbers for an SVG, beside a table that says the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HEIGHT: Final = 120
WIDTH: Final = 10
"""Of one column, gap included; the picture is scaled to its place."""


@dataclass(frozen=True, slots=True)
class Column:
    """One minute: where its column stands, how high it is, and how high the captured part of it."""

    at: int
    opened: int
    captured: int
    left: int
    height: int
    captured_height: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The picture and its largest value."""

    columns: list[Column]
    most: int
    width: int
    height: int = HEIGHT


def columns_of(minutes: Sequence[tuple[int, int, int]]) -> Chart:
    """Payments opened in each minute, and how many of them were captured."""
    most = max((opened for _, opened, _ in minutes), default=0)
    scale = HEIGHT / max(most, 1)
    columns = [
        Column(at, opened, captured, place * WIDTH, round(opened * scale), round(captured * scale))
        for place, (at, opened, captured) in enumerate(minutes)
    ]
    return Chart(columns, most, len(minutes) * WIDTH)
