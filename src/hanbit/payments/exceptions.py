"""What the staff must look at: payments whose outcome is still unknown, outcomes that nobody acknowledged, messages that were refused.

Nothing here is lost: recovery goes on by itself. `ask_now` and `tell_now` only bring its next try forward, which is what helps when a shop
has just repaired its line.
"""

from typing import Any, Final

from msgspec.structs import replace

from hanbit.db.change import Change, Put
from hanbit.db.reading import Row
from hanbit.db.schema import STUCK
from hanbit.kernel.errors import NotFound, WrongState
from hanbit.payments import payment as payments
from hanbit.payments.gateway import Gateway
from hanbit.payments.registrations import check_reason
from hanbit.payments.sign_in import act
from hanbit.payments.states import State

TRIES: Final = 3
"""What was tried so often is no passing trouble."""
LISTED_MAX: Final = 50
LOOKED_BACK_S: Final = 7 * 86_400
STUCK_LOOKED_BACK_S: Final = 90 * 86_400
OFFSET_S: Final = 5
"""A clock that is off by more will soon be refused."""
REFUSED_ACTS: Final = ("answer to a notice", "order", "purchase")
_UNKNOWN: Final = (
    "SELECT id, merchant, tid, payee, amount, currency, opened_at, hold_until, next_at, tries FROM payments "
    "WHERE next_at IS NOT NULL AND state = 'authorized' AND tries >= ? ORDER BY next_at LIMIT ?"
)
_UNTOLD: Final = (
    "SELECT o.hash, o.merchant, m.name, o.tid, o.stored_at, o.next_at, o.tries, p.id AS payment FROM outbox o "
    "JOIN merchants m ON m.id = o.merchant LEFT JOIN payments p ON p.merchant = o.merchant AND p.tid = o.tid "
    "WHERE o.next_at IS NOT NULL AND o.tries >= ? ORDER BY o.next_at LIMIT ?"
)
_REFUSED: Final = (
    "SELECT a.at, a.actor, a.act, a.reason, a.merchant, m.name, p.id AS payment FROM ("  # noqa: S608 - words of our own
    + " UNION ALL ".join(  # the newest of each act by the index: a storm of one of them is not read whole
        "SELECT * FROM (SELECT at, actor, act, reason, merchant, tid FROM audit WHERE act = ? AND at >= ? ORDER BY at DESC LIMIT ?) "  # noqa: S608 - a number of our own
        f"AS newest_{place}"
        for place in range(len(REFUSED_ACTS))
    )
    + ") AS a LEFT JOIN merchants m ON m.id = a.merchant "
    "LEFT JOIN payments p ON p.merchant = a.merchant AND p.tid = a.tid ORDER BY a.at DESC LIMIT ?"
)
_STUCK: Final = (
    "SELECT c.at, c.merchant, p.payee AS name, c.tid, c.amount, c.currency, c.result, c.reason, p.id AS payment, s.value AS allowed "  # noqa: S608 - words of our own
    "FROM cancellations c JOIN payments p ON p.merchant = c.merchant AND p.tid = c.tid "
    "LEFT JOIN settings s ON s.name = 'refund_until:' || c.merchant || ':' || c.tid "
    f"WHERE c.{STUCK} AND c.at >= ? AND p.captured > p.refunded AND NOT EXISTS "
    "(SELECT 1 FROM cancellations n WHERE n.merchant = c.merchant AND n.tid = c.tid AND n.at > c.at) ORDER BY c.at DESC LIMIT ?"
)

_UNSENT: Final = (
    "SELECT m.id, m.kind, m.why, m.tries, m.stored_at, m.ended_at, c.id AS customer, c.login FROM mails m "
    "JOIN customers c ON c.id = m.customer WHERE m.ended_at IS NOT NULL AND m.state = 'given_up' ORDER BY m.ended_at DESC LIMIT ?"
)


def unknown(gateway: Gateway) -> list[Row]:
    """Payments that are authorized and whose shop has been asked again and again."""
    return gateway.reader.all(_UNKNOWN, TRIES, LISTED_MAX)


def untold(gateway: Gateway) -> list[Row]:
    """Outcomes that were told again and again and never acknowledged."""
    return gateway.reader.all(_UNTOLD, TRIES, LISTED_MAX)


def refused(gateway: Gateway) -> list[Row]:
    """Orders and answers of the last week that broke a rule: too late, another amount, another key. None of them changed anything."""
    since = gateway.clock.now() - LOOKED_BACK_S
    bounds = [value for act in REFUSED_ACTS for value in (act, since, LISTED_MAX)]
    return gateway.reader.all(_REFUSED, *bounds, LISTED_MAX)


def stuck(gateway: Gateway) -> list[Row]:
    """Refunds of the last weeks that a shop may not or cannot make, as the last thing that it asked of their payments.

    `too_late` wants the operator's leave (`operations.allow_refund`), `merchant_funds` money in the shop's account or in the reserve; then
    the shop asks again.
    """
    return gateway.reader.all(_STUCK, gateway.clock.now() - STUCK_LOOKED_BACK_S, LISTED_MAX)


def clocks(gateway: Gateway) -> list[dict[str, Any]]:
    """Merchants whose clock is off by more than a few seconds, as their lines show it."""
    rows = gateway.reader.all("SELECT id, name, telephone FROM merchants WHERE state = 'active' ORDER BY id LIMIT 1000")
    found = [(row, gateway.line.figures(row["id"]).offset_s) for row in rows]
    return [
        {"id": row["id"], "name": row["name"], "telephone": row["telephone"], "offset_s": offset}
        for row, offset in found
        if offset is not None and abs(offset) > OFFSET_S
    ]


def unsent(gateway: Gateway) -> list[Row]:
    """Letters to customers that were given up, the latest first; whom and what they tell is in the book, the address is not shown."""
    return gateway.reader.all(_UNSENT, LISTED_MAX)


async def ask_now(gateway: Gateway, by: str, *, payment: str, reason: str) -> None:
    """Ask this payment's shop at once instead of at its next hour."""
    check_reason(reason)
    found = payments.by_id(gateway.reader, payment)
    if found is None:
        raise NotFound("no such payment")
    if found.state != State.AUTHORIZED:
        raise WrongState(f"the payment is {found.state}: its outcome is known")
    at = gateway.clock.now()
    audit = act(at, by, f"ask now about {found.id}", reason.strip(), found.merchant, found.tid)
    await gateway.book.commit(Change(puts=(replace(found, next_at=at).put(),), appends=(audit,)))


async def tell_now(gateway: Gateway, by: str, *, outcome: str, reason: str) -> None:
    """Tell this outcome at once instead of at its next hour."""
    check_reason(reason)
    row = gateway.reader.one("SELECT * FROM outbox WHERE next_at IS NOT NULL AND hash = ?", outcome)
    if row is None:
        raise WrongState("it was acknowledged meanwhile, or is no outcome")
    at = gateway.clock.now()
    kept = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a database row
    audit = act(at, by, f"tell now {outcome}", reason.strip(), row["merchant"], row["tid"])
    await gateway.book.commit(Change(puts=(Put("outbox", kept | {"next_at": at}, row["version"]),), appends=(audit,)))


async def send_again(gateway: Gateway, by: str, *, mail: str, reason: str) -> None:
    """A letter that was given up is tried anew, from now on."""
    check_reason(reason)
    row = gateway.reader.one("SELECT * FROM mails WHERE id = ?", mail)
    if row is None:
        raise NotFound("no such letter")
    if row["state"] != "given_up":
        raise WrongState(f"this letter is {row['state']}")
    at = gateway.clock.now()
    kept = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a database row
    again = kept | {"state": "waiting", "why": None, "next_at": at, "tries": 0, "stored_at": at, "ended_at": None}
    audit = act(at, by, f"send again {mail}", reason.strip())
    await gateway.book.commit(Change(puts=(Put("mails", again, row["version"]),), appends=(audit,)))
