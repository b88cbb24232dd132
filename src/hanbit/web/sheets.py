"""Sheets: what a console gives to be opened as a table; no cell of it is a formula, whatever a shop or customer has called himself."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Final

from starlette.responses import Response

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def sheet(name: str, columns: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> Response:
    """A CSV file (RFC 4180) with a byte order mark, by which spreadsheets know that it is UTF-8. Numbers stay numbers."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response("\ufeff" + text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def moment(at: int, zone: tzinfo) -> str:
    """A time in the zone of the pages, as spreadsheets read it."""
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")


def _cell(value: str | int | None) -> str | int:
    if isinstance(value, int):
        return value
    text = value or ""
    return f"'{text}" if text.startswith(_FORMULA) else text
