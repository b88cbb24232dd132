"""The shop's order book: one SQLite file, one connection, durable group commits; nothing leaves before it stands here.

A batch forms by itself: what queued while the last commit was in flight goes into the next transaction, so an idle shop commits at
once and a busy one shares each fdatasync. The statements run where they were called, only COMMIT runs in the book's one thread:
each statement in a thread beside a busy event loop would have to win the interpreter back and cost milliseconds.
A write-ahead log, synchronous=FULL, one connection that locks the file against all others: see docs/adr/0030-what-a-payment-costs.md.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from hanbit.kernel import fail_points
from hanbit.kernel.errors import Unavailable
from hanbit.kernel.money import Money
from hanbit.merchant import book_file
from hanbit.merchant import cancellation as cancellations
from hanbit.merchant import purchase as purchases
from hanbit.merchant.book_batch import Batch, JournalRow, Loaded, Rows
from hanbit.merchant.book_file import Held, KeptMessage, Known, Step
from hanbit.merchant.cancellation import Cancellation
from hanbit.merchant.changes import (
    Acknowledge,
    AnswerCancellation,
    AnswerNotice,
    AnswerPurchase,
    AskCancellation,
    AskPurchase,
    Change,
    CloseUnopened,
    Conclude,
    Hold,
    Keep,
    LookAtPurchase,
    MarkHandled,
    MarkLooked,
    MarkRefundTold,
    MarkReturned,
    OpenSession,
    Place,
    Withdraw,
)
from hanbit.merchant.order import Order
from hanbit.merchant.states import State
from hanbit.protocols.redirect.merchant import Exchange
from hanbit.protocols.redirect.messages import Notice
from hanbit.protocols.signed import join, split

FORGET_AFTER: Final = 16
"""Commits that dropped an envelope, after which the log is cut even while others wait; an idle book cuts it at once."""
QUEUE_MAX: Final = 10_000
"""Changes that may wait for a commit; one more is told to come again."""
BATCH_MAX: Final = 512
REJECTED_MAX: Final = 1_000
"""Rejected messages that are kept; later ones are only logged."""
_HEADERS_CACHED: Final = 1_000
_ROWS_MAX: Final = 1_000

_COLUMNS: Final = (
    "tid, version, state, plain, amount_minor, currency, text, return_url, lines, salt, order_hash, request_key, owner, "
    "placed_at, pay_by, answer_until, changed_at, payment, reason, replaced_by, outcome, handled_at, refunded_minor"
)
_ORDER_COLUMNS: Final = ", ".join(f"o.{column}" for column in _COLUMNS.split(", "))
# One statement for all that a message from the gateway needs: each has its own price.
_KNOWN: Final = f"""
SELECT h.header, a.payload, a.signature, n.payload, n.hash, s.hash, notices.confirmed, {_ORDER_COLUMNS}
FROM (SELECT ? AS request, ? AS asked_payment, ? AS asked_tid) q
LEFT JOIN answers ON answers.request = q.request
LEFT JOIN journal a ON a.number = answers.answer
LEFT JOIN headers h ON h.id = a.header
LEFT JOIN notices ON notices.payment = q.asked_payment
LEFT JOIN journal n ON n.number = notices.notice
LEFT JOIN journal s ON s.number = notices.answer
LEFT JOIN orders o ON o.tid = q.asked_tid
"""  # noqa: S608 - our own column list


class OrderBook:
    """The shop's durable memory. One process owns it (a lock beside the file); all methods belong to one event loop."""

    def __init__(self, path: Path, acknowledge: Acknowledge) -> None:
        self._path = path
        self._acknowledge = acknowledge
        self._lock_file = book_file.take_lock(path)
        self._opened: sqlite3.Connection | None = None
        self._headers: dict[str, int] = {}
        self._dropped = 0
        """Commits whose dropped envelopes the log still holds."""
        try:
            self._rejected_count: int = self._connection.execute("SELECT count(*) FROM rejected").fetchone()[0]
        except BaseException:
            self._lock_file.close()
            raise
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="hanbit-order-book")
        self._waiting: deque[tuple[Change, asyncio.Future[str | None]]] = deque()
        self._turn = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        """Finish what is queued, then let go of the file."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            await self._writer
        async with self._turn:
            if self._opened is not None:
                self._opened.close()
        self._committer.shutdown()
        self._lock_file.close()

    async def commit(self, change: Change) -> str | None:
        """Durable when this returns; the acknowledgement's bytes to the one outcome of a batch that sends it, else None.

        Raises Stale, Conflict, WrongState or ProtocolViolation where the change is turned away, Unavailable where it cannot be stored.
        """
        if self._closed:
            raise Unavailable("the order book is closed")
        if len(self._waiting) >= QUEUE_MAX:
            raise Unavailable("too many changes wait for the order book")
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await done

    async def known(self, request: str, tid: str | None, payment: str | None) -> Known:
        """The stored answer to a request (by hash), the order of a tid and what was said about a payment."""
        async with self._turn:
            row = self._connection.execute(_KNOWN, (request, payment, tid)).fetchone()
        answer, said, order = row[:3], row[3:7], row[7:]
        exchange = None
        if said[0] is not None:
            notice = msgspec.json.decode(said[0], type=Notice)
            exchange = Exchange(notice=notice, notice_hash=said[1], answer_hash=said[2], confirmed=bool(said[3]))
        return Known(
            answer=join(*answer) if answer[0] is not None else None,
            order=_read_order(order) if order[0] is not None else None,
            exchange=exchange,
        )

    async def order(self, tid: str) -> Order | None:
        """The order of this tid."""
        async with self._turn:
            return self._order("WHERE tid = ?", tid)

    async def order_by_request_key(self, key: str) -> Order | None:
        """The order that was placed under the shop's idempotency key."""
        async with self._turn:
            return self._order("WHERE request_key = ?", key)

    async def orders_of_owner(self, owner: str, limit: int) -> list[Order]:
        """The newest orders of an owner (by `owner_hash`)."""
        return await self._orders("WHERE owner = ? ORDER BY placed_at DESC, rowid DESC LIMIT ?", owner, limit)

    async def unhandled(self, limit: int) -> list[Order]:
        """Orders with an outcome that the shop's handler has not taken yet, oldest first."""
        return await self._orders(
            "WHERE (outcome IS NOT NULL OR state = 'cancelled') AND handled_at IS NULL ORDER BY changed_at LIMIT ?", limit
        )

    async def untold_refunds(self, limit: int) -> list[Order]:
        """Orders of which a part has gone back that the shop's handler has not heard of; what became of the order it hears first."""
        return await self._orders(
            "WHERE handled_at IS NOT NULL AND tid IN (SELECT substr(name, 8) FROM held WHERE name >= 'refund:' AND name < 'refund;') "
            "ORDER BY changed_at LIMIT ?",
            limit,
        )

    async def unfinished(self, limit: int) -> list[Order]:
        """Orders without an outcome, by their deadline."""
        return await self._orders("WHERE outcome IS NULL AND state <> 'cancelled' ORDER BY pay_by LIMIT ?", limit)

    async def listed(self, owner: str | None, state: State | None, limit: int, before: str | None) -> tuple[list[Order], str | None]:
        """The newest orders (of an owner, in a state) that were placed before that tid, and the tid to go on before: None at the end.

        However rare a state is, only so many rows are looked at: a page may be shorter than its limit, and empty.
        """
        where = "rowid < coalesce((SELECT rowid FROM orders WHERE tid = ?1), iif(?1 IS NULL, 9223372036854775807, 0))"
        if owner is not None:
            where += " AND owner = ?2"
        looked_at = limit if state is None else _ROWS_MAX
        orders = await self._orders(f"WHERE {where} ORDER BY rowid DESC LIMIT ?3", before, owner, looked_at)
        found = [order for order in orders if state in (None, order.state)][:limit]
        last = found if len(found) == limit else orders if len(orders) == looked_at else []
        return found, last[-1].tid if last else None

    async def unfinished_after(self, pay_by: int, tid: str, limit: int) -> list[Order]:
        """The next orders without an outcome after this place, by deadline and tid: all of them, page by page."""
        where = "outcome IS NULL AND state <> 'cancelled' AND (pay_by, tid) > (?, ?)"
        return await self._orders(f"WHERE {where} ORDER BY pay_by, tid LIMIT ?", pay_by, tid, limit)

    async def overdue(self, *, answered_before: int, ended_before: int, limit: int) -> list[Order]:
        """Orders whose outcome should be here: the shop has answered for them, or nobody can pay them any more."""
        begun = "(payment IS NOT NULL OR state = 'requested') AND changed_at < ?"
        where = f"outcome IS NULL AND state <> 'cancelled' AND (({begun}) OR answer_until < ?)"
        return await self._orders(f"WHERE {where} ORDER BY pay_by LIMIT ?", answered_before, ended_before, limit)

    async def cancellations(self, where: str, *parameters: object) -> list[Cancellation]:
        """Cancellations by one of the conditions of `merchant.cancellation`."""
        async with self._turn:
            return cancellations.select(self._connection, where, *parameters)

    async def exchanges(self, where: str, *parameters: object) -> list[purchases.Exchange]:
        """Exchanges of the dual-signature checkout by one of the conditions of `merchant.purchase`."""
        async with self._turn:
            return purchases.select(self._connection, where, *parameters)

    async def session(self, *, sid: str = "", request: str = "") -> purchases.OpenedSession | None:
        """A session by its id, or by the hash of the D2 that asked for it; None once it has gone."""
        async with self._turn:
            if sid:
                return purchases.session_by_sid(self._connection, sid)
            return purchases.session_by_request(self._connection, request)

    async def messages(self, tid: str) -> list[KeptMessage]:
        """Every message about a tid in the order of storing: the shop's half of the evidence. Acknowledgements name no tid."""
        return await self._messages("j.tid = ? ORDER BY j.number LIMIT ?", tid, _ROWS_MAX)

    async def message(self, number: int) -> KeptMessage:
        """The message of a row of the journal that has one."""
        return (await self._messages("j.number = ?", number))[0]

    async def history(self, tid: str) -> list[Step]:
        """Every step of an order, the oldest first."""
        async with self._turn:
            rows = self._connection.execute(
                "SELECT version, event, state, hash, at FROM journal WHERE tid = ? AND event IS NOT NULL ORDER BY number LIMIT ?",
                (tid, _ROWS_MAX),
            ).fetchall()
        return [Step(version, event, State(state), message, at) for version, event, state, message, at in rows]

    async def hold(self, name: str, content: str, at: int) -> None:
        """Keep this under its name in place of what was held there; durable when this returns. BadInput beyond 1 MiB."""
        await self.commit(Hold(name, content, at))

    async def held(self, name: str) -> Held | None:
        """What is held under a name."""
        async with self._turn:
            row = self._connection.execute("SELECT name, at, content FROM held WHERE name = ?", (name,)).fetchone()
        return Held(*row) if row is not None else None

    # --- the one writer -------------------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while self._waiting:
            async with self._turn:
                entries = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
                changes = [change for change, _ in entries]
                results = await self._transact(changes)
                if len(changes) > 1 and all(isinstance(result, sqlite3.IntegrityError) for result in results):
                    # The schema itself said no to one of them: its neighbours shall not suffer.
                    results = [(await self._transact([change]))[0] for change in changes]
            for (_, done), result in zip(entries, results, strict=True):
                if done.cancelled():
                    continue
                if isinstance(result, Exception):
                    done.set_exception(_not_stored(result))
                else:
                    done.set_result(result)

    async def _transact(self, changes: list[Change]) -> list[Exception | str | None]:
        try:
            results = self._decide_and_write(changes)
            step = "hold" if all(isinstance(change, Hold) for change in changes) else "commit"
            self._dropped += any(isinstance(change, AnswerPurchase) for change in changes)
            forget = self._dropped >= (FORGET_AFTER if self._waiting else 1)
            await asyncio.get_running_loop().run_in_executor(self._committer, self._commit_now, step, forget)
        except Exception as error:  # noqa: BLE001 - whatever broke, every waiting caller is answered and the book goes on
            self._start_over()
            return [error] * len(changes)
        return results

    def _decide_and_write(self, changes: list[Change]) -> list[Exception | str | None]:
        self._connection.execute("BEGIN IMMEDIATE")
        batch = Batch(self._load(changes))
        results: list[Exception | str | None] = [batch.decide(change) for change in changes]
        at = max(change.at for change in changes)
        acknowledgements = deque(batch.acknowledge(self._acknowledge, at))
        self._insert(batch.rows, at)
        # One caller of each hundred carries the acknowledgement out; the others' outcomes are named in it.
        concluded = [index for index, change in enumerate(changes) if _is_acknowledged(change) and results[index] is None]
        for index, acknowledgement in zip(concluded, acknowledgements, strict=False):
            results[index] = acknowledgement.compact
        return results

    def _commit_now(self, step: str, forget: bool) -> None:
        """What is only held comes whenever the gateway has something new: it has names of its own among the places of a crash."""
        fail_points.reach(f"merchant.{step}.before")
        self._connection.execute("COMMIT")
        fail_points.reach(f"merchant.{step}.after")
        if forget:
            self._forget(self._connection)

    def _forget(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):  # the disk is full: what was committed stands and is read, and the next commit tries again
            book_file.forget(connection)
            self._dropped = 0

    @property
    def _connection(self) -> sqlite3.Connection:
        """The one connection, opened when it is needed: at the start, and after a failure as soon as the disk allows."""
        if self._opened is None:
            try:
                self._opened = book_file.connect(self._path)
            except (sqlite3.Error, OSError) as error:
                raise Unavailable("the order book could not be opened") from error
            self._dropped += 1  # what a process that was killed had dropped
            self._forget(self._opened)
        return self._opened

    def _start_over(self) -> None:
        """After a failed write or fsync what SQLite's memory says is worth nothing: the file and its log are read anew."""
        broken, self._opened = self._opened, None
        self._headers = {}
        if broken is not None:
            for last in (broken.rollback, broken.close):
                with suppress(sqlite3.Error):
                    last()

    def _load(self, changes: list[Change]) -> Loaded:
        tids: set[str] = set()
        keys: set[str] = set()
        received: set[str] = set()
        payments: set[str] = set()
        cancelled: set[str] = set()
        cancel_keys: set[str] = set()
        for change in changes:
            match change:
                case Place(order=order):
                    tids.add(order.tid)
                    keys |= {order.request_key} if order.request_key is not None else set()
                case Withdraw(tid=tid, replacement=replacement):
                    tids |= {tid, replacement.order.tid} if replacement is not None else {tid}
                case AnswerNotice(tid=tid, notice=notice):
                    tids.add(tid)
                    received.add(notice.claims.jti)
                    payments.add(notice.claims.payment)
                case Conclude(tid=tid, outcome=outcome):
                    tids.add(tid)
                    received.add(outcome.claims.jti)
                case Keep(message=message):
                    received.add(message.claims.jti)
                case MarkHandled(tid=tid) | CloseUnopened(tid=tid) | MarkRefundTold(tid=tid):
                    tids.add(tid)
                case AskCancellation(cancellation=asked):
                    cancelled.add(asked.tid)
                    cancel_keys |= {asked.request_key} if asked.request_key is not None else set()
                case AnswerCancellation(cancellation=asked, answer=message):
                    cancelled.add(asked.tid)
                    received.add(message.claims.jti)
                case MarkReturned(tid=tid) | MarkLooked(tid=tid):
                    cancelled.add(tid)
        bought = _bought(changes)
        received |= {change.answer.claims.jti for change in changes if isinstance(change, AnswerPurchase)}
        tids |= cancelled | bought
        orders = self._select_orders("WHERE tid IN (SELECT value FROM json_each(?))", _json(tids)) if tids else []
        return Loaded(
            orders={order.tid: order for order in orders},
            request_keys=dict(self._named("SELECT request_key, tid FROM orders WHERE request_key", keys)),
            received=dict(self._named("SELECT jti, hash FROM journal WHERE direction = 'received' AND jti", received)),
            payments={row[0] for row in self._named("SELECT payment, answer FROM notices WHERE payment", payments)},
            cancellations=self._load_cancellations(cancelled, cancel_keys),
            exchanges={one.sid: one for one in purchases.of_orders(self._connection, bought)},
            sessions=purchases.sessions_of(self._connection, bought),
            next_number=1 + self._connection.execute("SELECT coalesce(max(number), 0) FROM journal").fetchone()[0],
        )

    def _load_cancellations(self, tids: set[str], keys: set[str]) -> dict[str, Cancellation]:
        found: list[Cancellation] = []
        if tids:
            found += cancellations.select(self._connection, cancellations.OF_ORDERS, _json(tids))
        if keys:
            found += cancellations.select(self._connection, cancellations.BY_REQUEST_KEYS, _json(keys))
        return {cancellation.id: cancellation for cancellation in found}

    def _insert(self, rows: Rows, at: int) -> None:
        execute = self._connection.executemany
        if rows.new_orders:
            execute(f"INSERT INTO orders ({_COLUMNS}) VALUES ({', '.join('?' * 23)})", [_order_row(order) for order in rows.new_orders])  # noqa: S608 - our own column list
        if rows.journal:
            execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [self._journal_row(row) for row in rows.journal])
        if rows.answers:
            execute("INSERT INTO answers VALUES (?, ?)", rows.answers)
        if rows.notices:
            execute("INSERT INTO notices VALUES (?, ?, ?, ?)", rows.notices)
        if rows.moved_orders:
            execute(
                "UPDATE orders SET version = ?, state = ?, changed_at = ?, payment = ?, reason = ?, replaced_by = ?, outcome = ?, "
                "handled_at = ?, refunded_minor = ? WHERE tid = ?",
                [
                    (
                        *(o.version, o.state, o.changed_at, o.payment, o.reason, o.replaced_by, o.outcome, o.handled_at),
                        *(o.refunded_minor, o.tid),
                    )
                    for o in rows.moved_orders.values()
                ],
            )
        if rows.moved_cancellations:  # first: a new one takes over the request key of the one that it replaces
            cancellations.update(self._connection, rows.moved_cancellations.values())
        if rows.new_cancellations:
            cancellations.insert(self._connection, rows.new_cancellations)
        purchases.write(self._connection, rows.new_sessions, rows.moved_exchanges.values(), rows.new_exchanges, at)
        execute("DELETE FROM held WHERE name = ?", [(name,) for name in rows.told])
        if rows.held:
            execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", [(hold.name, hold.at, hold.content) for hold in rows.held])
        for rejected in rows.rejected:
            if self._rejected_count < REJECTED_MAX:
                self._rejected_count += 1
                self._connection.execute("INSERT INTO rejected (at, rule, detail, bytes) VALUES (?,?,?,?)", rejected)

    def _journal_row(self, row: JournalRow) -> tuple[object, ...]:
        step = (row.number, row.at, row.tid, row.version, row.event, row.state)
        if row.message is None:
            return (*step, *[None] * 7)
        header, payload, signature = split(row.message.compact)
        claims = row.message.claims
        direction = "sent" if row.sent else "received"
        return (*step, direction, claims.TYP, row.message.hash, claims.jti, self._header(header), payload, signature)

    def _header(self, header: str) -> int:
        """The number of a header segment; a new one (a renewed certificate) is stored in this transaction."""
        number = self._headers.get(header)
        if number is None:
            self._connection.execute("INSERT OR IGNORE INTO headers (header) VALUES (?)", (header,))
            number = int(self._connection.execute("SELECT id FROM headers WHERE header = ?", (header,)).fetchone()[0])
            if len(self._headers) >= _HEADERS_CACHED:
                self._headers.clear()
            self._headers[header] = number
        return number

    # --- reading --------------------------------------------------------------------------------------------------------------------

    def _named(self, sql: str, names: set[str]) -> Iterable[tuple[str, str]]:
        return self._connection.execute(f"{sql} IN (SELECT value FROM json_each(?))", (_json(names),)) if names else ()  # noqa: S608 - constants of this module

    def _order(self, where: str, value: str) -> Order | None:
        return next(iter(self._select_orders(where, value)), None)

    async def _orders(self, where: str, *parameters: object) -> list[Order]:
        async with self._turn:
            return list(self._select_orders(where, *parameters))

    async def _messages(self, where: str, *parameters: object) -> list[KeptMessage]:
        columns = "j.number, j.at, j.tid, j.direction, j.typ, j.hash, h.header, j.payload, j.signature"
        sql = f"SELECT {columns} FROM journal j JOIN headers h ON h.id = j.header WHERE {where}"  # noqa: S608 - constants of this module
        async with self._turn:
            rows = self._connection.execute(sql, parameters).fetchall()
        return [KeptMessage(number, at, tid, direction, typ, name, join(*parts)) for number, at, tid, direction, typ, name, *parts in rows]

    def _select_orders(self, where: str, *parameters: object) -> list[Order]:
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM orders {where}", parameters)  # noqa: S608 - constants of this module
        return [_read_order(row) for row in rows]


def _bought(changes: Iterable[Change]) -> set[str]:
    """The orders of which purchases and sessions are to be loaded."""
    tids = {change.session.tid for change in changes if isinstance(change, OpenSession)}
    return tids | {change.exchange.tid for change in changes if isinstance(change, AskPurchase | AnswerPurchase | LookAtPurchase)}


def _is_acknowledged(change: Change) -> bool:
    return isinstance(change, Conclude) or (isinstance(change, AnswerPurchase) and change.approves)


def _read_order(row: tuple[Any, ...]) -> Order:
    return Order(row[0], row[1], State(row[2]), bool(row[3]), Money(row[4], row[5]), *row[6:])


def _order_row(o: Order) -> tuple[object, ...]:
    return (
        *(o.tid, o.version, o.state, int(o.plain), o.amount.amount_minor, o.amount.currency, o.text, o.return_url, o.lines_json, o.salt),
        *(o.order_hash, o.request_key, o.owner, o.placed_at, o.pay_by, o.answer_until, o.changed_at, o.payment, o.reason),
        *(o.replaced_by, o.outcome, o.handled_at, o.refunded_minor),
    )


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _not_stored(error: Exception) -> Exception:
    if isinstance(error, sqlite3.Error | OSError) and not isinstance(error, sqlite3.IntegrityError):
        unavailable = Unavailable("the order book could not be written")
        unavailable.__cause__ = error
        return unavailable
    return error
