"""The audit as the staff searches it: newest first, a page at a time, by who, by merchant, by day, by a word of what was done."""

import re
from dataclasses import dataclass
from typing import Final

from hanbit.db.reading import Reader, Row
from hanbit.kernel.errors import BadInput

LOOKED_THROUGH_MAX: Final = 20_000
"""A word is looked for in so many acts, the newest that meet everything else."""
_CURSOR: Final = re.compile(r"([0-9]{1,15})\.([A-Za-z0-9_-]{22})")
_COLUMNS: Final = "id, at, actor, act, reason, merchant, tid"


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for; `until` is the first second that is too late."""

    actor: str = ""
    merchant: str = ""
    word: str = ""
    since: int | None = None
    until: int | None = None
    cursor: str = ""


async def found(reader: Reader, sought: Sought, rows: int) -> tuple[list[Row], str]:
    """One page, and the cursor of the next one; empty after the last."""
    parts, values = ["at >= ?"], [sought.since or 0]
    conditions: list[tuple[str, str | int | None]] = [
        ("actor = ?", sought.actor or None),
        ("merchant = ?", sought.merchant or None),
        ("at < ?", sought.until),
    ]
    told: list[str | int] = list(values)
    for condition, value in conditions:
        if value is not None:
            parts.append(condition)
            told.append(value)
    if sought.cursor:
        match = _CURSOR.fullmatch(sought.cursor)
        if match is None:
            raise BadInput("after")
        parts.append("(at, id) < (?, ?)")
        told += [int(match[1]), match[2]]
    inner = f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(parts)} ORDER BY at DESC, id DESC LIMIT ?"  # noqa: S608 - marks of our own
    if sought.word:
        word = "%" + re.sub(r"([%_!])", r"!\1", sought.word) + "%"
        sql = f"SELECT {_COLUMNS} FROM ({inner}) AS newest WHERE act LIKE ? ESCAPE '!' OR reason LIKE ? ESCAPE '!' ORDER BY at DESC, id DESC LIMIT ?"  # noqa: S608, E501 - as above
        told += [LOOKED_THROUGH_MAX, word, word, rows + 1]
    else:
        sql = inner
        told.append(rows + 1)
    lines = await reader.scan(sql, *told)
    following = f"{lines[rows - 1]['at']}.{lines[rows - 1]['id']}" if len(lines) > rows else ""
    return list(lines[:rows]), following
