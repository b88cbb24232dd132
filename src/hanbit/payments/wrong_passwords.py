"""Wrong passwords in the forms of the home: counted and written down as failed log-ins are, and shown to the customer beside them.

Whoever sits at an open session and guesses the password that he lacks leaves the same trace as whoever guesses at the door.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from hanbit.db.change import Change
from hanbit.kernel.errors import NotSignedIn
from hanbit.payments import factors
from hanbit.payments.gateway import Gateway
from hanbit.payments.redirect_flow import SignedIn
from hanbit.payments.sign_in import act

WRONG: Final = "wrong_password"
"""The reason that stands in the audit, of a log-in and of a form alike."""
SHOWN_S: Final = 30 * 24 * 3600
SHOWN_MAX: Final = 10
KINDS: Final = ("login", "limit", "change password", "remove key", "ask email", "no email")
"""How the acts begin for which a password is asked; pages have a word for each."""
_TRIES: Final = "SELECT at, act FROM audit WHERE actor = ? AND at >= ? AND reason = ? ORDER BY at DESC, id DESC LIMIT ?"
_BEFORE: Final = "SELECT max(created_at) FROM sessions WHERE customer = ? AND created_at < ?"


class WrongPassword(NotSignedIn):
    """The password that proves once more who this is is wrong; the session goes on."""

    code = "wrong_password"
    status = 403
    advice = "Check the password and try again."


@dataclass(frozen=True, slots=True)
class WrongTry:
    """When a wrong password was typed, and for which of KINDS."""

    at: int
    kind: str


async def check(gateway: Gateway, customer: str, what: str, factor: str, is_right: Callable[[], Awaitable[bool]]) -> None:
    """WrongPassword, with its row in the audit, unless it is right; the waits are those of `factor`."""
    if not await factors.guarded(gateway, factor, is_right):
        row = act(gateway.clock.now(), f"customer:{customer}", what, WRONG)
        await gateway.book.commit(Change(appends=(row,)))
        gateway.observe("login", "failed")
        raise WrongPassword


def of_customer(gateway: Gateway, customer: str) -> list[WrongTry]:
    """His wrong passwords of the last month, the latest first."""
    since = gateway.clock.now() - SHOWN_S
    rows = gateway.reader.all(_TRIES, f"customer:{customer}", since, WRONG, SHOWN_MAX)
    return [WrongTry(row["at"], next((kind for kind in KINDS if row["act"].startswith(kind)), KINDS[0])) for row in rows]


def since_last_log_in(gateway: Gateway, who: SignedIn) -> list[WrongTry]:
    """Those since the log-in before this one: what somebody tried while the customer was away."""
    before = gateway.reader.one(_BEFORE, who.customer.id, who.session.created_at)
    since = 0 if before is None or before[0] is None else int(before[0])
    return [one for one in of_customer(gateway, who.customer.id) if one.at >= since]
