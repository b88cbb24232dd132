"""The switch that stops payments when the book may not be the one that merchants were promised; only the operator turns it back.

While it is on, no money is held for anybody and nothing is refunded. What was decided before goes on: a hold whose notice has left is
captured on the merchant's confirmation or ends by itself, and outcomes are told, because the other side acts on them already.
"""

import json
import logging
from typing import Any

from hanbit.db.change import Change, Put, Require, Stale
from hanbit.db.reading import Reader
from hanbit.kernel.errors import BadInput, Conflict, Unavailable
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import act

HALTED, RESUMED = "halted", "resumed"
"""Rows of the table `settings`: why payments stopped (empty: they did not), and when the operator last let them go on."""
RETRY_S = 300
ACTOR = "operator"
_log = logging.getLogger("hanbit.evidence")


class PaymentsHalted(Unavailable):
    """No payments are taken until the operator has looked at the book."""

    code = "payments_halted"
    advice = "No payments are taken at the moment, and no money was taken. Come back later."


def still_taken() -> Require:
    """Under the book lock payments are not halted: every Change that holds or pays back money needs it."""
    return Require("settings", HALTED, "value", "", PaymentsHalted(retry_after_s=RETRY_S))


def why_halted(reader: Reader) -> dict[str, Any] | None:
    """What stopped payments, or None while they are taken."""
    row = reader.one("SELECT value FROM settings WHERE name = ?", HALTED)
    return None if row is not None and not row["value"] else json.loads("{}" if row is None else row["value"])


def check_taken(gateway: Gateway) -> None:
    """PaymentsHalted before any work is done for a payment that would be turned away."""
    if why_halted(gateway.reader) is not None:
        raise PaymentsHalted(retry_after_s=RETRY_S)


def resumed_at(reader: Reader) -> int:
    """When the operator last let payments go on; 0 if never."""
    row = reader.one("SELECT value FROM settings WHERE name = ?", RESUMED)
    return 0 if row is None else int(json.loads(row["value"])["at"])


async def halt(gateway: Gateway, actor: str, why: dict[str, Any]) -> None:
    """Stop taking payments, durably; the first reason stays."""
    row = gateway.reader.one("SELECT value, version FROM settings WHERE name = ?", HALTED)
    if row is None or row["value"]:
        return
    at = gateway.clock.now()
    value = json.dumps(why | {"at": at}, ensure_ascii=False)
    put = Put("settings", {"name": HALTED, "value": value}, row["version"])
    audit = act(at, actor, "payments halted", str(why.get("reason", "")), why.get("merchant"))
    try:
        await gateway.book.commit(Change(puts=(put,), appends=(audit,)))
    except Stale:
        return  # halted by another beside us
    gateway.observe("halted", str(why.get("reason", "")))
    _log.critical("payments_halted", extra=why)


async def resume_payments(gateway: Gateway, by: str = ACTOR, *, reason: str) -> dict[str, Any]:
    """The operator has looked at the book and answers for it: payments go on. What merchants hold from before stays on their side."""
    if not reason.strip():
        raise BadInput("reason: say why the book may be trusted; it is kept in the audit")
    why = why_halted(gateway.reader)
    row = gateway.reader.one("SELECT version FROM settings WHERE name = ?", HALTED)
    if why is None or row is None:
        raise Conflict("payments are being taken")
    at = gateway.clock.now()
    known = gateway.reader.one("SELECT version FROM settings WHERE name = ?", RESUMED)
    value = json.dumps({"at": at, "reason": reason, "halted": why}, ensure_ascii=False)
    puts = (
        Put("settings", {"name": HALTED, "value": ""}, row["version"]),
        Put("settings", {"name": RESUMED, "value": value}, 0 if known is None else known["version"]),
    )
    await gateway.book.commit(Change(puts=puts, appends=(act(at, by, "payments resumed", reason),)))
    gateway.observe("resumed", "operator")
    _log.warning("payments_resumed", extra={"reason": reason})
    return {"resumed": True, "reason": reason, "halted": why}
