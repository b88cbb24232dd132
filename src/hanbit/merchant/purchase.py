"""Sessions and exchanges of the dual-signature checkout as the shop's own book holds them, and what a purchase is answered."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import astuple

from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.dual_signature.messages import Purchase
from hanbit.protocols.redirect.messages import Words

SESSIONS_MAX: Final = 20
"""Sessions of one order that have not ended yet; each is a signature of the shop's, and anybody may ask for one."""
EXCHANGES_MAX: Final = 50
"""Purchases of one order that were sent to the gateway, which takes five."""
ENDED_AT_ONCE: Final = 500
"""Sessions that have ended, removed with each new one."""


class ExchangeState(StrEnum):
    """Where an exchange stands; the last two are for ever."""

    ASKED = "asked"
    APPROVED = "approved"
    DECLINED = "declined"


class OpenedSession(msgspec.Struct, frozen=True):
    """D3: a session that was opened, with the very answer that its customer got; removed once it has ended."""

    sid: str
    tid: str
    request: str
    """hash of the D2 that asked for it"""
    answer: str
    """D3 as it was sent, JSON"""
    expires_at: int


class Exchange(msgspec.Struct, frozen=True):
    """One purchase that the shop has asked the gateway for; its D6 stood in the book before it was sent."""

    sid: str
    tid: str
    state: ExchangeState
    purchase: str
    """hash of all that the customer sent: the same bytes get the same answer"""
    oi: str
    envelope: str | None
    """PI, sealed to the gateway: kept until the answer is here"""
    asked_at: int
    changed_at: int
    session: int = 0
    """The journal's number of the session's message."""
    request: int = 0
    """… and of the D6."""
    answer: int | None = None
    receipt: str | None = None
    """The customer's, to be passed on unchanged."""
    reason: str | None = None
    look: str | None = None
    """Why somebody must look at it: what the gateway signed contradicts the order, and nothing is sent any more."""

    @property
    def final(self) -> bool:
        """The gateway's answer is stored."""
        return self.state is not ExchangeState.ASKED

    @property
    def result(self) -> "PurchaseResult":
        """D8 as it stands now."""
        if self.state is ExchangeState.ASKED:
            return PurchaseResult(result="pending")
        return PurchaseResult(
            result="approved" if self.state is ExchangeState.APPROVED else "declined", reason=self.reason, receipt=self.receipt
        )


class PurchaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """D8: what the customer's window is told; only the gateway's receipt, or its own word, is proof for him."""

    result: Literal["approved", "declined", "pending"]
    reason: str | None = None
    receipt: str | None = None
    message: Words | None = None
    """The shop's own words where it is the shop that says no; the window shows them under its name."""


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """D1: what the button needs of an order; `redirect` is the same order's address where no window can be opened."""

    script: str
    order: str
    merchant_chain: list[str]
    lines: str
    lines_salt: str
    redirect: str


def fingerprint(purchase: Purchase) -> str:
    """The name of all that the customer sent; ProtocolViolation where it could not have been sent (half of a surrogate pair)."""
    try:
        return ids.digest(b"hanbit1 purchase\0" + msgspec.json.encode(purchase))
    except UnicodeError as error:
        raise ProtocolViolation("oi", "no text") from error


# --- rows -----------------------------------------------------------------------------------------------------------------------------

_COLUMNS: Final = "sid, tid, state, purchase, oi, envelope, asked_at, changed_at, session, request, answer, receipt, reason, look"
BY_SID: Final = "sid = ?"
OF_AN_ORDER: Final = "tid = ? ORDER BY request"
ASKED: Final = "state = 'asked' AND look IS NULL AND request > ? ORDER BY request LIMIT ?"
TO_LOOK_AT: Final = "state = 'asked' AND look IS NOT NULL ORDER BY request LIMIT ?"


def select(connection: sqlite3.Connection, where: str, *parameters: object) -> list[Exchange]:
    """The exchanges for which one of the conditions above holds."""
    return [_read(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM exchanges WHERE {where}", parameters)]  # noqa: S608 - our own columns, and constants of the callers


def of_orders(connection: sqlite3.Connection, tids: Iterable[str]) -> list[Exchange]:
    """Every exchange of these orders."""
    named = list(tids)
    return select(connection, "tid IN (SELECT value FROM json_each(?))", json.dumps(named)) if named else []


def sessions_of(connection: sqlite3.Connection, tids: Iterable[str]) -> list[OpenedSession]:
    """Every session of these orders."""
    named = list(tids)
    if not named:
        return []
    rows = connection.execute("SELECT * FROM sessions WHERE tid IN (SELECT value FROM json_each(?))", (json.dumps(named),))
    return [OpenedSession(*row) for row in rows]


def write(
    connection: sqlite3.Connection, sessions: Sequence[OpenedSession], moved: Iterable[Exchange], new: Sequence[Exchange], at: int
) -> None:
    """What a batch has made of sessions and exchanges. Answers first: the next exchange of an order is asked when the last is answered."""
    if sessions:
        connection.execute(
            "DELETE FROM sessions WHERE sid IN (SELECT sid FROM sessions WHERE expires_at < ? ORDER BY expires_at LIMIT ?)",
            (at, ENDED_AT_ONCE),
        )
        connection.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", [astuple(row) for row in sessions])
    answered = [(e.state, e.envelope, e.changed_at, e.answer, e.receipt, e.reason, e.look, e.sid) for e in moved]
    if answered:
        connection.executemany(
            "UPDATE exchanges SET state = ?, envelope = ?, changed_at = ?, answer = ?, receipt = ?, reason = ?, look = ? WHERE sid = ?",
            answered,
        )
    if new:
        connection.executemany(f"INSERT INTO exchanges ({_COLUMNS}) VALUES ({', '.join('?' * 14)})", [astuple(row) for row in new])  # noqa: S608 - our own column list


def _read(row: Sequence[Any]) -> Exchange:
    sid, tid, state, *rest = row
    return Exchange(sid, tid, ExchangeState(state), *rest)


def session_by_request(connection: sqlite3.Connection, request: str) -> OpenedSession | None:
    """The session that was opened for a D2 (by hash)."""
    return _one_session(connection, "request = ?", request)


def session_by_sid(connection: sqlite3.Connection, sid: str) -> OpenedSession | None:
    """The session of this id, until it has ended."""
    return _one_session(connection, "sid = ?", sid)


def _one_session(connection: sqlite3.Connection, where: str, value: str) -> OpenedSession | None:
    row = connection.execute(f"SELECT * FROM sessions WHERE {where}", (value,)).fetchone()  # noqa: S608 - constants of this module
    return None if row is None else OpenedSession(*row)
