"""Who acted, in words that people know: the audit keeps ids that never change, pages show names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hanbit.db.reading import Reader
from hanbit.parties import people

SHOWN_MAX: Final = 200
"""Different actors of one page."""
PERSON, CUSTOMER = "person:", "customer:"
_TABLES: Final = {PERSON: "people", CUSTOMER: "customers"}


@dataclass(frozen=True, slots=True)
class Actor:
    """`id` as the audit has it; a name where somebody has one, else the id itself."""

    id: str
    name: str
    login: str = ""


def named(reader: Reader, actors: Iterable[str | None]) -> dict[str, Actor]:
    """Each actor of a page by his id."""
    wanted = sorted({actor for actor in actors if actor})[:SHOWN_MAX]
    found = {actor: Actor(actor, actor) for actor in wanted}
    for start, table in _TABLES.items():
        keys = [actor.removeprefix(start) for actor in wanted if actor.startswith(start)]
        if keys:
            marks = ", ".join("?" * len(keys))
            sql = f"SELECT id, name, login FROM {table} WHERE id IN ({marks})"  # noqa: S608 - names and marks of our own
            for row in reader.all(sql, *keys):
                found[start + row["id"]] = Actor(start + row["id"], row["name"], row["login"])
    return found


def actor_of(reader: Reader, typed: str) -> str:
    """The id that somebody means: it, or the log-in name of a person; what is neither stays as it was typed."""
    person = people.by_login(reader, typed) if typed and ":" not in typed else None
    return typed if person is None else person.actor
