"""One connection to PostgreSQL: prepared statements in our own `?` spelling, and a deadline on every wait.

Spoken to as a SQLite connection is (`execute` → rows by name, index and iteration), so that a check or a read is written once. Statements
go straight through libpq (a point read costs 24 µs so, 47 µs through the driver's cursors), and no wait is left to the operating system:
a database that is stopped in the middle of an answer acknowledges every packet and never speaks.
"""

import asyncio
import logging
import re
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import error_from_result

from hanbit.db.change import Value
from hanbit.kernel.errors import BadInput, Unavailable

CONNECT_WAIT_S = 5
"""For one host of the address to answer; an address may name several."""
UNSENT_WAIT_MS = 5_000
"""What the other machine has not acknowledged for so long is lost (tcp_user_timeout)."""
KEEPALIVE_S, KEEPALIVES = 5, 3
STATEMENTS_MAX = 512
"""Prepared at once on one connection; beyond it all are prepared anew."""
STREAM_ROWS = 2_000
"""Rows of a stream that are held at a time."""

Parameter = str | int | bytes | None
"""`bytes` are sent as they are: arrays that were written for the statement."""
_WHOLE = frozenset({20, 21, 23, 26, 1700})
"""Types that are whole numbers here: int8, int2, int4, oid, and numeric, which a sum of int8 is."""
_BOOL = 16
_QUOTED = re.compile(r"'(?:[^']|'')*'|\?")
_log = logging.getLogger("hanbit.book")


class Lost(Exception):
    """The connection is gone, or must be given up: what was asked may or may not have happened."""


class Row(tuple[Value, ...]):
    """One row; by index, by name, and in order."""

    __slots__ = ()
    _places: dict[str, int] = {}  # noqa: RUF012 - each statement's own subclass has its own

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self._places[key] if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        """The columns' names."""
        return list(self._places)


class Rows:
    """What a statement found, as a cursor of SQLite's driver hands it out."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def fetchone(self) -> Row | None:
        """The next row, None behind the last."""
        return next(self._rows, None)

    def fetchall(self) -> list[Row]:
        """All that are left."""
        return list(self._rows)


class _Shape(NamedTuple):
    kind: type[Row]
    reads: tuple[Callable[[bytes], Value], ...]


class _Statement:
    """A prepared statement and, once it has answered, the shape of its rows."""

    __slots__ = ("name", "shape")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.shape: _Shape | None = None

    def rows(self, result: pq.abc.PGresult) -> list[Row]:
        shape = self.shape
        if shape is None:
            shape = self.shape = _shape(result)
        kind, reads, get, columns = shape.kind, shape.reads, result.get_value, range(len(shape.reads))
        return [
            kind([None if (cell := get(row, column)) is None else reads[column](cell) for column in columns])
            for row in range(result.ntuples)
        ]


class Link:
    """A connection with its statements; `wait_s` is how long it may be silent before it is given up, None without end."""

    def __init__(self, connection: "psycopg.Connection[Any]", url: str, wait_s: float | None) -> None:
        self.url = url
        self._connection = connection
        self._pg = connection.pgconn
        self._pg.nonblocking = 1
        self._wait_s = wait_s
        self._wait_ms = None if wait_s is None else wait_s * 1000
        self._statements: dict[str, _Statement] = {}
        self._cursors = self._streams = 0
        self._streams_own = False
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN)

    @property
    def is_open(self) -> bool:
        """Whether nothing has broken it yet."""
        return self._pg.status == pq.ConnStatus.OK

    def close(self) -> None:
        """Give it back; what was not committed is undone."""
        self._connection.close()

    # --- one statement at a time, waiting ------------------------------------------------------------------------------------------

    def execute(self, sql: str, values: Sequence[Parameter] = ()) -> Rows:
        """Run one statement; psycopg.Error where the database refuses it, Lost where there is no answer."""
        statement, pg = self._statements.get(sql) or self._prepare(sql), self._pg
        parameters = [encode(value) for value in values]
        try:
            pg.send_query_prepared(statement.name, parameters)
            if pg.flush():
                self._drain()
        except psycopg.OperationalError as error:
            raise self._lost(error) from error
        return Rows(iter(statement.rows(self._receive())))

    def command(self, sql: str) -> None:
        """Run a statement that nobody asks a second time: one that makes a table."""
        self._send(lambda: self._pg.send_query(sql.encode()))
        self._receive()

    def copy(self, sql: str) -> "AbstractContextManager[psycopg.Copy]":
        """COPY … FROM STDIN; rows are written into what this hands out."""
        return self._connection.cursor().copy(sql.encode())

    def stream(self, sql: str, values: Sequence[Parameter] = ()) -> Rows:
        """The same for more rows than should be in memory at once; other statements may come in between."""
        self._cursors += 1
        return Rows(self._fetched(f"stream_{self._cursors}", sql, values))

    def _fetched(self, name: str, sql: str, values: Sequence[Parameter]) -> Iterator[Row]:
        if self._pg.transaction_status == pq.TransactionStatus.IDLE:
            self.execute("BEGIN")
            self._streams_own = True
        self._streams += 1
        try:
            self._once(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", values)
            more = True
            while more:
                rows = self._once(f"FETCH {STREAM_ROWS} FROM {name}")
                yield from rows
                more = len(rows) == STREAM_ROWS
            self._once(f"CLOSE {name}")
        finally:
            self._streams -= 1
            if self._streams_own and not self._streams:  # the last one ends the transaction that the first has begun
                self._streams_own = False
                if self.is_open:
                    self.execute("ROLLBACK")

    def _once(self, sql: str, values: Sequence[Parameter] = ()) -> list[Row]:
        """A statement with a name of its own, not kept."""
        self._send(lambda: self._pg.send_query_params(dollars(sql).encode(), [encode(value) for value in values]))
        return _Statement(b"").rows(self._receive())

    def _prepare(self, sql: str) -> _Statement:
        if len(self._statements) >= STATEMENTS_MAX:
            self._statements.clear()
            self._send(lambda: self._pg.send_query_params(b"DEALLOCATE ALL", None))
            self._receive()
        statement = _Statement(_name(sql, len(self._statements)))
        self._send(lambda: self._pg.send_prepare(statement.name, dollars(sql).encode()))
        self._receive()
        self._statements[sql] = statement
        return statement

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
            self._drain()
        except psycopg.OperationalError as error:
            raise self._lost(error) from error

    def _drain(self) -> None:
        """Send what the socket did not take at once, and take in what comes meanwhile."""
        both = select.poll()
        both.register(self._pg.socket, select.POLLIN | select.POLLOUT)
        while self._pg.flush():
            self._wait(both)
            self._pg.consume_input()

    def _receive(self) -> pq.abc.PGresult:
        pg, found = self._pg, None
        try:
            while True:
                while pg.is_busy():
                    self._wait(self._poll)
                    pg.consume_input()
                result = pg.get_result()
                if result is None:
                    break
                found = result
        except psycopg.OperationalError as error:
            raise self._lost(error) from error
        if found is None:
            raise self._lost("no answer")
        self._check(found)
        return found

    def _wait(self, poll: "select.poll") -> None:
        if not poll.poll(self._wait_ms):
            raise self._lost(f"silent for {self._wait_s} s")

    # --- many statements in one breath, beside the loop ------------------------------------------------------------------------------

    async def pipeline(self, steps: Sequence[tuple[str, Sequence[Parameter]]]) -> list[list[Row]]:
        """Send every statement at once and return the rows of each; where one is refused, none behind it has run (psycopg.Error)."""
        pg = self._pg
        asked: list[tuple[str, _Statement, bool]] = []
        try:
            pg.enter_pipeline_mode()
            for sql, values in steps:
                statement = self._statements.get(sql)
                new = statement is None
                if statement is None:
                    statement = self._statements[sql] = _Statement(_name(sql, len(self._statements)))
                    pg.send_prepare(statement.name, dollars(sql).encode())
                pg.send_query_prepared(statement.name, [encode(value) for value in values])
                asked.append((sql, statement, new))
            pg.pipeline_sync()
            await self._flush()
            return await self._collect(asked)
        except psycopg.OperationalError as error:
            if self.is_open:
                raise
            raise self._lost(error) from error

    async def _collect(self, asked: list[tuple[str, _Statement, bool]]) -> list[list[Row]]:
        found: list[list[Row]] = []
        refused: pq.abc.PGresult | None = None
        for sql, statement, new in asked:
            prepared = await self._answer() if new else None
            if prepared is not None and prepared.status != pq.ExecStatus.COMMAND_OK:
                del self._statements[sql]
                refused = refused or prepared
            result = await self._answer()
            if result.status in {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED}:
                refused = refused or result
            elif refused is None:
                found.append(statement.rows(result) if result.status == pq.ExecStatus.TUPLES_OK else [])
        await self._readable()
        sync = self._pg.get_result()
        if sync is None or sync.status != pq.ExecStatus.PIPELINE_SYNC:
            raise self._lost("out of step")
        self._pg.exit_pipeline_mode()
        if refused is not None:
            raise error_from_result(refused)
        return found

    async def _answer(self) -> pq.abc.PGresult:
        """The next statement's result and the nothing that ends it."""
        await self._readable()
        result = self._pg.get_result()
        if result is None:
            raise self._lost("no answer")
        if self._pg.status != pq.ConnStatus.OK:
            raise self._lost(error_from_result(result))
        await self._readable()
        self._pg.get_result()
        return result

    async def _flush(self) -> None:
        while self._pg.flush():
            await self._ready(writable=True)
            self._pg.consume_input()

    async def _readable(self) -> None:
        while self._pg.is_busy():
            await self._ready(writable=False)
            self._pg.consume_input()

    async def _ready(self, *, writable: bool) -> None:
        """Wait beside the loop until the socket has something, or takes something."""
        loop, socket = asyncio.get_running_loop(), self._pg.socket
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(socket, _done, ready)
        if writable:
            loop.add_writer(socket, _done, ready)
        try:
            async with asyncio.timeout(self._wait_s):
                await ready
        except TimeoutError:
            raise self._lost(f"silent for {self._wait_s} s") from None
        finally:
            loop.remove_reader(socket)
            if writable:
                loop.remove_writer(socket)

    # --- faults ----------------------------------------------------------------------------------------------------------------------

    def _check(self, result: pq.abc.PGresult) -> None:
        if result.status in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
            return
        error = error_from_result(result)
        if not self.is_open:
            raise self._lost(error)
        raise error

    def _lost(self, why: object) -> Lost:
        """Close it: nobody may take an answer that still comes for the answer to something else."""
        text = str(why).strip() or "the connection is gone"
        _log.warning("database_lost", extra={"reason": text})
        self._connection.close()
        return Lost(text)


def open_plain(url: str) -> "psycopg.Connection[Any]":
    """The driver's own connection to the same database, for Alembic."""
    return psycopg.connect(address(url))


def connect(url: str, *, wait_s: float | None, session: dict[str, str]) -> Link:
    """A connection to the primary among the address's hosts, with these settings of the session; Unavailable says what is in the way."""
    try:
        connection = psycopg.connect(address(url), autocommit=True)
    except psycopg.ProgrammingError as error:
        raise BadInput(f"database: {one_line(error)}") from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"{described(url)}: {one_line(error)}") from error
    try:
        said = {"client_encoding": "UTF8", "timezone": "UTC", "jit": "off", "client_min_messages": "error", **session}
        connection.pgconn.exec_(";".join(f"SET {name} = '{value}'" for name, value in said.items()).encode())
        return Link(connection, url, wait_s)
    except psycopg.Error as error:
        connection.close()
        raise Unavailable(f"{described(url)}: {one_line(error)}") from error


def address(url: str) -> str:
    """The address with our limits where it has none of its own; reads and writes go to the primary alone."""
    parts = _parts(url)
    limits = {
        "connect_timeout": CONNECT_WAIT_S,
        "tcp_user_timeout": UNSENT_WAIT_MS,
        "keepalives_idle": KEEPALIVE_S,
        "keepalives_interval": KEEPALIVE_S,
        "keepalives_count": KEEPALIVES,
        "application_name": "hanbit",
    }
    return make_conninfo(**{**limits, **parts, "target_session_attrs": "read-write"})


def described(url: str) -> str:
    """The database without its secrets, for people and logs."""
    parts = _parts(url)
    hosts, ports = str(parts.get("host") or "the local socket"), str(parts.get("port") or "5432")
    name = parts.get("dbname") or parts.get("user")
    return f"database {name} at {hosts} port {ports}" if name else f"database at {hosts} port {ports}"


def _parts(url: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise BadInput("database: no address of a PostgreSQL database, such as postgresql://hanbit@db.example/hanbit") from error


def dollars(sql: str) -> str:
    """The statement with $1, $2 … for each `?` outside quotes."""
    number = 0

    def place(found: re.Match[str]) -> str:
        nonlocal number
        if found[0] != "?":
            return found[0]
        number += 1
        return f"${number}"

    return _QUOTED.sub(place, sql)


def encode(value: Parameter) -> bytes | None:
    """A value as libpq sends it; a NUL, which PostgreSQL keeps in no text, is refused here: libpq would end the text there."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        if "\0" in value:
            raise BadInput("a text with a NUL character")
        return value.encode()
    return b"%d" % value


def _shape(result: pq.abc.PGresult) -> _Shape:
    columns = range(result.nfields)
    names = [(result.fname(column) or b"").decode() for column in columns]
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    kind = type("Row", (Row,), {"__slots__": (), "_places": {name: places[name] for name in names}})
    reads: dict[bool, Callable[[bytes], Value]] = {True: int, False: bytes.decode}
    return _Shape(kind, tuple(_truth if (oid := result.ftype(column)) == _BOOL else reads[oid in _WHOLE] for column in columns))


def _truth(cell: bytes) -> Value:
    return int(cell == b"t")


def _name(sql: str, number: int) -> bytes:
    """BEGIN and COMMIT are prepared like everything else."""
    return f"{sql.split(maxsplit=1)[0].lower()}_{number}".encode()


def _done(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def one_line(error: object) -> str:
    """An error of the database, which may be of several lines, for people and logs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines) or type(error).__name__
