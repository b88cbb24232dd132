"""Whose hands an account of the staff may be in: two accounts that may be one person's are never each other's second person; ADR 0035.

Whoever makes a one-time link can use it himself. So an account is in its own hand and in that of whoever made the link by which its
password and factor were set, and in whatever hands that one is; until somebody of other hands has confirmed it. What the commands of the
data folder make is in nobody's hands but its own: whoever holds the data folder needs no second account.
"""

from dataclasses import dataclass
from typing import Final

from hanbit.db.change import Change, Require, Stale
from hanbit.db.reading import Reader
from hanbit.kernel.errors import NotAllowed, WrongState
from hanbit.parties import people
from hanbit.parties.people import Person
from hanbit.payments.actors import PERSON
from hanbit.payments.gateway import Gateway
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act

CHAIN_MAX: Final = people.PEOPLE_MAX
"""Accounts, each made by the next, that are looked at; a longer chain is in every hand."""


@dataclass(frozen=True, slots=True)
class Hands:
    """Actors, and what must still be true of their rows when somebody is taken for a second person."""

    actors: frozenset[str]
    requires: tuple[Require, ...] = ()

    @property
    def told(self) -> str:
        """As a proposal keeps them."""
        return " ".join(sorted(self.actors))


def of(reader: Reader, actor: str) -> Hands:
    """The hands that this actor's account may be in now."""
    found: dict[str, Require] = {}
    following = actor
    while following.startswith(PERSON) and following not in found:
        person = people.by_id(reader, following.removeprefix(PERSON))
        if person is None or len(found) >= CHAIN_MAX:
            raise NotAllowed("nobody knows whose account this is")
        found[following] = Require("people", person.id, "version", person.version, Stale("people"))
        if person.handed_by is None or person.confirmed_by is not None:
            break
        following = person.handed_by
    return Hands(frozenset(found) or frozenset({actor}), tuple(found.values()))


def is_confirmed(person: Person) -> bool:
    """Whether his account is in no hands but his own."""
    return person.confirmed_by is not None or person.handed_by is None or not person.handed_by.startswith(PERSON)


async def confirm(gateway: Gateway, person: Person, *, by: str, reason: str) -> None:
    """Somebody of other hands says that this account is its owner's alone. NotAllowed for whoever may have it in hand."""
    check_reason(reason)
    if person.face != "operator" or person.state != "active":
        raise WrongState("only whoever works in the operator's console is confirmed")
    mine, his = of(gateway.reader, by), of(gateway.reader, person.actor)
    if mine.actors & his.actors:
        raise NotAllowed("somebody else confirms, who has not had this account in hand")
    if is_confirmed(person):
        raise WrongState("this account was confirmed")
    audit = act(gateway.clock.now(), by, f"confirm person {person.id}", reason.strip())
    requires = tuple(one for one in (*mine.requires, *his.requires) if one.key != person.id)  # his own row is at its version anyway
    await gateway.book.commit(Change(requires=requires, puts=(person.put(confirmed_by=by),), appends=(audit,)))
