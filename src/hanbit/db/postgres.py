"""The book on PostgreSQL: a batch is one transaction that takes the book's row first, reads and writes with one statement a table.

A batch is two round trips. The first sends BEGIN, the lock and every read at once: they run one after another, so each sees what was
committed when the lock was given. The second sends the net effect and COMMIT; where a statement is refused, nothing behind it has run.
Every other process waits for the same row, so there is nothing to retry and no leader. A process that stops while it holds the book loses
it after IDLE_MAX_MS.

A COMMIT without an answer is looked up: by the hash of the last leaf that the batch wrote, under the lock, once a primary answers again. It
is never run again unseen.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
import psycopg
from psycopg import errors
from sqlalchemy import Text

from hanbit.db import ddl, plan, postgres_link, schema
from hanbit.db.batch import Batch, Loaded
from hanbit.db.change import Change, Stale, StoredMessage, Value
from hanbit.db.covered import COLUMNS, KEYS, Row, fill_log, load_frontier
from hanbit.db.guards import GUARDS
from hanbit.db.postgres_link import Link, Lost, Parameter, described, one_line
from hanbit.db.versions import check_version
from hanbit.kernel import fail_points
from hanbit.kernel.errors import BadInput, Conflict, HanbitError, ProtocolViolation, Unavailable

VERSION_LEAST = 15
LOCK_WAIT_MS = 10_000
"""For the book; longer than IDLE_MAX_MS, so that whoever waits behind a stopped process gets it in the end."""
IDLE_MAX_MS = 5_000
"""A process that says nothing for so long while it holds the book loses it."""
STATEMENT_MAX_MS = 20_000
SILENCE_MAX_S = 30.0
"""Longer than any of the above: then it is the database that does not speak."""
LOOK_UPS, LOOK_UP_EVERY_S = 30, 0.5
"""How often it is asked what became of a COMMIT before its callers hear that nobody knows."""
SESSION = {
    "default_transaction_isolation": "read committed",
    "lock_timeout": str(LOCK_WAIT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_MAX_MS),
    "statement_timeout": str(STATEMENT_MAX_MS),
    # Every statement here finds its rows by a key. A plan that was made while a table was small must not scan it when it has grown.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
DURABLE = (
    "SELECT set_config('synchronous_commit', "
    "CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
)
"""Whatever the server's default is, a commit of ours is on the disk when it is answered; what waits for more is left so."""
_HEADERS_KNOWN_MAX = 4096
_log = logging.getLogger("hanbit.book")

Step = tuple[str, Sequence[Parameter]]


class PostgresStore:
    """This process's one writing connection, used from its loop; a batch is on its way at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        # Header segments known to be in the book: the table is append-only. Forgotten with the connection: the next primary may lack one.
        self._known_headers: set[str] = set()
        self._link: Link | None = open_link(url)

    def close(self) -> None:
        """Give the connection back; whatever was acknowledged is on the disk already."""
        self._drop()

    async def write(self, changes: Sequence[Change], at: int) -> list[HanbitError | None]:
        """Commit the Changes that hold, together; the answer says for each whether it is durable (None) or turned away, and why."""
        try:
            link = await self._connected()
            try:
                loaded = await _load(link, changes)
            except Lost:  # the database was restarted, or another one took over, since the last batch: nothing was written yet
                link = await self._connected()
                loaded = await _load(link, changes)
            batch = Batch(loaded, at)
            answers = [batch.decide(change) for change in changes]
            return await self._commit(link, batch, answers)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            return await self._apart(changes, at, error)
        except psycopg.Error as error:  # disk full, a timeout: nothing of the batch is there
            await self._undo()
            return [_not_written(error)] * len(changes)
        except (Lost, HanbitError) as error:
            self._drop()
            return [_not_written(error)] * len(changes)
        except BaseException:
            self._drop()
            raise

    async def _commit(self, link: Link, batch: Batch, answers: list[HanbitError | None]) -> list[HanbitError | None]:
        steps = list(_writes(batch, self._known_headers))
        if not steps:
            await link.pipeline([("ROLLBACK", ())])
            return answers
        fail_points.reach("gateway.commit.before")
        try:
            await link.pipeline([*steps, ("COMMIT", ())])
        except Lost:
            self._drop()
            return await self._look_up(batch, answers)
        except errors.DivisionByZero:
            raise AssertionError("entries do not balance") from None
        fail_points.reach("gateway.commit.after")
        if len(self._known_headers) > _HEADERS_KNOWN_MAX:
            self._known_headers.clear()
        self._known_headers |= batch.writes.headers.keys()
        return answers

    async def _apart(self, changes: Sequence[Change], at: int, error: psycopg.Error) -> list[HanbitError | None]:
        """Where the database refused what the decision missed, each half is tried by itself: only the guilty Change is turned away."""
        await self._undo()
        if len(changes) > 1:
            half = len(changes) // 2
            return [*await self.write(changes[:half], at), *await self.write(changes[half:], at)]
        if error.diag.table_name == "messages":
            if await self._is_stored(changes[0].messages):
                return [Stale("messages")]  # these very bytes were stored by somebody else meanwhile
            return [ProtocolViolation("jti", "this message's number was used with other bytes")]
        _log.warning("a constraint turned a change away: %s", error)
        return [Conflict("the book holds something else under this name")]

    async def _is_stored(self, messages: Sequence[StoredMessage]) -> bool:
        names = zip(*((message.tid, message.merchant, message.hash) for message in messages), strict=True)
        try:
            link = await self._connected()
            (found,) = await link.pipeline([(_SELECT_KNOWN, [texts(name) for name in names])])
        except (Lost, HanbitError, psycopg.Error):
            self._drop()
            return True  # not known: to read and compute again is never wrong
        return bool(found)

    async def _undo(self) -> None:
        """Roll back, or give the connection up, which undoes as much."""
        try:
            if self._link is not None:
                await self._link.pipeline([("ROLLBACK", ())])
        except (Lost, psycopg.Error):
            self._drop()

    async def _look_up(self, batch: Batch, answers: list[HanbitError | None]) -> list[HanbitError | None]:
        """What became of a COMMIT whose answer is lost. Under the lock: whoever still runs it has ended by then."""
        _log.warning("commit_unanswered", extra={"leaf": batch.loaded.frontier.size})
        for _ in range(LOOK_UPS):
            try:
                link = await self._connected()
                found = await link.pipeline([("BEGIN", ()), (_LOCK, ()), _proof(batch), ("ROLLBACK", ())])
            except (Lost, Unavailable, psycopg.Error):
                self._drop()
                await asyncio.sleep(LOOK_UP_EVERY_S)
                continue
            if found[2]:
                return answers
            return [answer or Unavailable("the database stopped before this was written") for answer in answers]
        return [answer or Unavailable("whether this was written is not known yet") for answer in answers]

    async def _connected(self) -> Link:
        if self._link is None or not self._link.is_open:
            self._drop()
            self._link = await asyncio.get_running_loop().run_in_executor(None, open_link, self._url)
        return self._link

    def _drop(self) -> None:
        link, self._link = self._link, None
        self._known_headers.clear()
        if link is not None:
            link.close()


def open_link(url: str) -> Link:
    """A connection that may write this program's book, as durably as the book asks; BadInput says what is not as it must be."""
    link = postgres_link.connect(url, wait_s=SILENCE_MAX_S, session=SESSION)
    try:
        check_server(link, url)
        check_book(link, url)
    except psycopg.Error as error:
        link.close()
        raise Unavailable(f"{described(url)}: {error}") from error
    except BaseException:
        link.close()
        raise
    return link


def check_server(link: Link, url: str) -> None:
    """New enough, in UTF-8, and made to lose nothing."""
    number, encoding, fsync, pages = link.execute(_SERVER).fetchall()[0]
    version = int(str(number)) // 10_000
    if version < VERSION_LEAST:
        raise BadInput(f"{described(url)} runs PostgreSQL {version}; Hanbit needs {VERSION_LEAST} or newer")
    if encoding != "UTF8":
        raise BadInput(f"{described(url)} is in {encoding}; make it with: createdb --encoding UTF8 --template template0")
    if fsync != "on" or pages != "on":
        raise BadInput(f"{described(url)} has fsync or full_page_writes off: a crash would lose money there; turn both on")
    link.execute(DURABLE)


def check_book(link: Any, url: str) -> None:
    """BadInput unless this is a book of today's schema."""
    if link.execute("SELECT to_regclass('book')::text").fetchall()[0][0] is None:
        raise BadInput(f"{described(url)} has no book: make one with hanbit init DIR --database URL, or move one there with hanbit migrate")
    row = link.execute("SELECT schema_version FROM book WHERE id = 1").fetchone()
    check_version(None if row is None else row[0], described(url), "DIR")


def create_book(url: str, operator: str, at: int, *, sandbox: bool = False) -> None:
    """Write an empty book into an empty database, all or nothing; Conflict where there is something already."""
    link = open_empty(url)
    try:
        link.execute("BEGIN")
        make_tables(link)
        link.execute("INSERT INTO book VALUES (1, ?, ?::bigint, 1, 0, '', ?::bigint)", (operator, schema.SCHEMA_VERSION, at))
        if sandbox:
            link.execute("INSERT INTO settings VALUES (?, 1, '0')", (schema.SANDBOX,))
        fill_log(link)
        link.execute("COMMIT")
    except Lost as error:
        raise Unavailable(f"{described(url)}: {error}") from error
    except psycopg.Error as error:
        raise BadInput(f"{described(url)}: {one_line(error)}") from error
    finally:
        link.close()


def open_empty(url: str) -> Link:
    """A connection to a database in which a book can be made; Conflict where there is something already."""
    link = postgres_link.connect(url, wait_s=None, session={"default_transaction_isolation": "read committed"})
    try:
        check_server(link, url)
        _check_empty(link, url)
    except psycopg.Error as error:
        link.close()
        raise Unavailable(f"{described(url)}: {error}") from error
    except BaseException:
        link.close()
        raise
    return link


def _check_empty(link: Link, url: str) -> None:
    there, book, role, database, schema_there, may = link.execute(_THERE).fetchall()[0]
    if book is not None:
        raise Conflict(f"{described(url)} has a book already")
    if there:
        raise Conflict(f"{described(url)} is not empty: give the book a database, or a schema, of its own")
    if schema_there is None:
        raise BadInput(f"{described(url)} has no schema in which tables are made: CREATE SCHEMA public")
    if not may:
        raise BadInput(f"{described(url)}: {role} may not make tables there; as its superuser: ALTER DATABASE {database} OWNER TO {role}")


def make_tables(link: Link) -> None:
    """Every table, index and trigger, in the caller's transaction."""
    for statement in ddl.postgresql_statements(schema.metadata, history=schema.HISTORY, kept=schema.KEPT, guards=GUARDS):
        link.command(statement)


# --- what a batch says to the database ------------------------------------------------------------------------------------------------


async def _load(link: Link, changes: Sequence[Change]) -> Loaded:
    wanted = plan.wanted(changes)
    tables = list(wanted.tables())
    steps: list[Step] = [("BEGIN", ()), (_LOCK, ())]
    steps += [(_select(table, compared), _arrays(table, KEYS[table], list(keys))) for table, compared, keys in tables]
    if wanted.accounts:
        steps.append((_SELECT_ACCOUNTS, (texts(list(wanted.accounts)),)))
    if wanted.entries:
        steps.append((_SELECT_ENTRIES, (texts(list(wanted.entries)),)))
    _, book, *found = await link.pipeline(steps)
    if not book:
        raise Unavailable("the book's row is missing")
    next_entry, size, frontier, time = _numbers(book[0])
    rest = iter(found)
    rows = {table: plan.standing(table, compared, _rows(next(rest))) for table, compared, _ in tables}
    accounts = plan.accounts(_rows(next(rest))) if wanted.accounts else {}
    entries = plan.known_entries(_rows(next(rest))) if wanted.entries else {}
    return Loaded(next_entry, load_frontier(size, frontier), time, rows, accounts, entries)


def _numbers(row: Row) -> tuple[int, int, str, int]:
    next_entry, size, frontier, time = row
    assert isinstance(next_entry, int) and isinstance(size, int) and isinstance(frontier, str) and isinstance(time, int), row
    return next_entry, size, frontier, time


def _writes(batch: Batch, known_headers: set[str]) -> Iterator[Step]:
    """The net effect of a batch in the order of `plan`; empty where every Change was turned away or nothing is written."""
    writes = batch.finish()
    for table, keys in plan.deletes(writes):
        yield _delete(table), (texts([str(key) for key in keys]),)
    for insert in plan.inserts(writes, known_headers):
        if insert.how == "replace":
            differing = tuple(column for column in COLUMNS[insert.table] if column not in insert.same)
            yield _update(insert.table, differing), _arrays(insert.table, COLUMNS[insert.table], insert.rows, differing)
        elif insert.rows:
            yield _insert(insert.table, insert.how), _arrays(insert.table, COLUMNS[insert.table], insert.rows)
    accounts = plan.account_rows(writes)
    if accounts:
        columns = ("id", *plan.COUNTERS)
        yield _update("ledger_accounts", columns), _arrays("ledger_accounts", columns, accounts)
    written = plan.entry_range(writes)
    if written is not None:
        yield _BALANCED, written
    book = plan.book_row(batch)
    if book is not None:
        yield plan.UPDATE_BOOK, book


def _proof(batch: Batch) -> Step:
    """What finds a row that only this batch can have written: its last leaf, else one of the rows that no log covers."""
    writes = batch.writes
    if writes.leaves:
        leaf, name, _ = writes.leaves[-1]
        return "SELECT 1 FROM log WHERE leaf = ? AND hash = ?", (leaf, name)
    rows = {table: next(iter(puts.values()))[1] for table, puts in writes.puts.items() if puts}
    rows |= {table: appends[0] for table, appends in writes.appends.items() if appends}
    for table, row in rows.items():
        same = " AND ".join(f"{column} IS NOT DISTINCT FROM ?" for column in COLUMNS[table])
        return f"SELECT 1 FROM {table} WHERE {same}", row  # noqa: S608 - names from our own schema
    table, keys = next(plan.deletes(writes))  # what is gone is gone, whoever removed it
    return f"SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {KEYS[table][0]} = ?)", keys[:1]  # noqa: S608 - as above


_LOCK = f"{plan.SELECT_BOOK} FOR UPDATE"
_SELECT_KNOWN = "SELECT 1 FROM messages WHERE (tid, merchant, hash) IN (SELECT * FROM unnest(?::text[], ?::text[], ?::text[])) LIMIT 1"
_SERVER = (
    "SELECT current_setting('server_version_num'), current_setting('server_encoding'), current_setting('fsync'), "
    "current_setting('full_page_writes')"
)
_THERE = (
    "SELECT count(*), to_regclass('book')::text, quote_ident(current_user), quote_ident(current_database()), "
    "current_schema()::text, "
    "(has_database_privilege(current_database(), 'CREATE') AND has_schema_privilege(current_schema(), 'CREATE'))::int "
    "FROM pg_class "
    "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')"
)
_BALANCED = """
SELECT 1 / (CASE WHEN sum(CASE side WHEN 'D' THEN pending ELSE -pending END) = 0
AND sum(CASE side WHEN 'D' THEN posted ELSE -posted END) = 0 THEN 1 ELSE 0 END) FROM postings WHERE entry BETWEEN ? AND ?
"""
"""The database adds up what was just written, in the same transaction: an unbalanced batch is a division by zero, and is not committed."""
_TEXTS: dict[str, frozenset[str]] = {
    name: frozenset(column.name for column in table.columns if isinstance(column.type, Text))
    for name, table in schema.metadata.tables.items()
}


def _listed(columns: Iterable[str]) -> str:
    """What is read of all rows, each column as one list: a cell by itself costs as much to take over as ten in a list."""
    return ", ".join(f"json_agg({column})" for column in columns)


def _rows(found: Sequence[Sequence[Value]]) -> list[Row]:
    """The rows that were read so; of none each list is NULL."""
    (lists,) = found
    return [] if lists[0] is None else list(zip(*[_decode(str(listed)) for listed in lists], strict=True))


_decode = msgspec.json.Decoder(list[str | int | None]).decode
_ENDED = "(EXISTS (SELECT 1 FROM entries x WHERE x.ends = e.number))::int"
_ENTRY = _listed(("e.id", "e.number", "e.kind", "e.amount", "e.currency", _ENDED))
_SELECT_ENTRIES = f"SELECT {_ENTRY} FROM unnest(?::text[]) wanted (id) JOIN entries e ON e.id = wanted.id"  # noqa: S608 - our own words
_SELECT_ACCOUNTS = f"SELECT {_listed(plan.ACCOUNT)} FROM ledger_accounts WHERE id = ANY(?::text[])"  # noqa: S608 - names from our own schema


def _unnest(table: str, columns: Sequence[str]) -> str:
    kinds = ("text" if column in _TEXTS[table] else "bigint" for column in columns)
    return f"unnest({', '.join(f'?::{kind}[]' for kind in kinds)})"


@cache
def _select(table: str, compared: tuple[str, ...]) -> str:
    """The key of each wanted row, then what the batch compares of it; a chain of certificates or a password hash is not carried along."""
    keys = KEYS[table]
    columns = _listed(f"t.{column}" for column in (*keys, *compared))
    on = " AND ".join(f"t.{column} = wanted.{column}" for column in keys)
    return f"SELECT {columns} FROM {_unnest(table, keys)} wanted ({', '.join(keys)}) JOIN {table} t ON {on}"  # noqa: S608 - our own names


@cache
def _insert(table: str, how: str) -> str:
    columns = COLUMNS[table]
    sql = f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM {_unnest(table, columns)}"  # noqa: S608 - names from our own schema
    return f"{sql} ON CONFLICT DO NOTHING" if how == "keep" else sql


@cache
def _update(table: str, written: tuple[str, ...]) -> str:
    sets = ", ".join(f"{column} = next.{column}" for column in written if column not in KEYS[table])
    on = " AND ".join(f"{table}.{column} = next.{column}" for column in KEYS[table])
    return f"UPDATE {table} SET {sets} FROM {_unnest(table, written)} next ({', '.join(written)}) WHERE {on}"  # noqa: S608 - our own names


@cache
def _delete(table: str) -> str:
    (key,) = KEYS[table]
    return f"DELETE FROM {table} WHERE {key} = ANY(?::text[])"  # noqa: S608 - names from our own schema


def _arrays(table: str, columns: Sequence[str], rows: Sequence[Row], written: Sequence[str] | None = None) -> list[bytes]:
    """One array a column of these rows, or of those columns that are written."""
    taken = columns if written is None else written
    values = dict(zip(columns, zip(*rows, strict=True), strict=True))
    return [texts(values[column]) if column in _TEXTS[table] else wholes(values[column]) for column in taken]


def texts(values: Sequence[Value]) -> bytes:
    """An array of texts as PostgreSQL writes it; a NUL is refused here, for libpq would end the array there.

    A column without quotes or backslashes, and ids and hashes have none, is written in one go.
    """
    try:
        text = '{"' + '","'.join(values) + '"}'  # type: ignore[arg-type]  # a NULL among them is told by the TypeError
    except TypeError:
        text = ""
    if not values or "\\" in text or text.count('"') != 2 * len(values):
        text = "{" + ",".join(["NULL" if value is None else _quoted(str(value)) for value in values]) + "}"
    try:
        array = text.encode()
    except UnicodeEncodeError as error:
        raise errors.CharacterNotInRepertoire("a text that is no Unicode") from error
    if b"\0" in array:
        raise errors.CharacterNotInRepertoire("a text with a NUL character")
    return array


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def wholes(values: Sequence[Value]) -> bytes:
    """An array of whole numbers."""
    return f"{{{','.join(map(str, values)).replace('None', 'NULL')}}}".encode()


def _not_written(error: object) -> Unavailable:
    return Unavailable(f"the book cannot be written: {error}")
