"""The two credentials that the staff hands over to one customer within a day come from two people: with both his money can be spent.

By a link a new log-in password is set, by a code a new device approves payments. One who makes both could be the customer; each alone is
of no use without what the customer has. The customer's row in `settings` says who made which last.
"""

import json
from typing import Final, Literal

from hanbit.db.change import Put, Require
from hanbit.kernel.errors import NotAllowed
from hanbit.payments import hands
from hanbit.payments.actors import PERSON
from hanbit.payments.gateway import Gateway

APART_S: Final = 24 * 3600
"""As long as a code lives, which is the longer of the two."""
Credential = Literal["password", "device"]
_OTHER: Final[dict[Credential, Credential]] = {"password": "device", "device": "password"}


def may(gateway: Gateway, by: str, customer: str, what: Credential) -> bool:
    """Whether this person may hand this over now; whoever holds the data folder may."""
    known, _ = _known(gateway, customer)
    other = known.get(_OTHER[what])
    if other is None or not by.startswith(PERSON) or gateway.clock.now() >= int(other["at"]) + APART_S:
        return True
    return not hands.of(gateway.reader, by).actors & set(str(other["hands"]).split())


def note(gateway: Gateway, by: str, customer: str, what: Credential) -> tuple[Put, tuple[Require, ...]]:
    """What goes with the Change that makes it, so that of two at the same moment one is turned away. NotAllowed where it is the second."""
    if not may(gateway, by, customer, what):
        raise NotAllowed("a colleague hands over the second credential of one customer within a day")
    mine = hands.of(gateway.reader, by)
    known, version = _known(gateway, customer)
    value = json.dumps(known | {what: {"hands": mine.told, "at": gateway.clock.now()}})
    return Put("settings", {"name": _name(customer), "value": value}, version), mine.requires


def _known(gateway: Gateway, customer: str) -> tuple[dict[str, dict[str, str | int]], int]:
    row = gateway.reader.one("SELECT version, value FROM settings WHERE name = ?", _name(customer))
    return ({}, 0) if row is None else (json.loads(row["value"]), row["version"])


def _name(customer: str) -> str:
    return f"handed_over:{customer}"
