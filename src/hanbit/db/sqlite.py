"""The book on SQLite: loads what a batch reads, writes its net effect with few statements, commits once.

Rows are bound to multi-row `VALUES` of at most ROWS_A_STATEMENT rows: measured 5 µs a row against 18 µs through `json_each`, and the
interpreter lock is given away once a statement, not once a row.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from operator import itemgetter
from pathlib import Path

import msgspec

from hanbit.db import ddl, plan, schema, sqlite_file
from hanbit.db.batch import Batch, Key, Loaded
from hanbit.db.change import Change, Stale, Value
from hanbit.db.covered import COLUMNS, KEYS, Row, fill_log, load_frontier
from hanbit.db.guards import GUARDS
from hanbit.db.log_mover import LogMover
from hanbit.db.versions import check_version
from hanbit.kernel import fail_points
from hanbit.kernel.errors import Conflict, HanbitError, ProtocolViolation, Unavailable

ROWS_A_STATEMENT = 64
"""A power of two; batches are cut into powers of two so that few statements are ever prepared."""
BOOK_FILE = "book.sqlite"
_HEADERS_KNOWN_MAX = 4096
_log = logging.getLogger("hanbit.book")


def check_schema(connection: sqlite_file.Connection, path: Path) -> None:
    """BadInput unless this is a book of today's schema; it says what to do with one that is older or newer."""
    row = connection.execute("SELECT schema_version FROM book WHERE id = 1").fetchone()
    check_version(None if row is None else row[0], path, path.parent)


class SqliteStore:
    """The one writer of a SQLite book; a batch is on its way at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Header segments known to be on the disk: the table is append-only, so one that was committed need not be offered again.
        self._known_headers: set[str] = set()
        self._new_headers: set[str] = set()
        self._connection = sqlite_file.open_for_writing(path)
        check_schema(self._connection, path)
        self._mover = LogMover(path) if sqlite_file.wal_is_safe() else None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="book")

    def close(self) -> None:
        """Close the file; whatever was acknowledged is on the disk already."""
        self._thread.shutdown()
        if self._mover is not None:
            self._mover.close()
        self._connection.close()

    async def write(self, changes: Sequence[Change], at: int) -> list[HanbitError | None]:
        """The same for a book's queue: what touches memory where the loop runs, the wait for the disk in the book's one thread."""
        answers = self.prepare(changes, at)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.commit, changes, answers, at)

    def write_batch(self, changes: Sequence[Change], at: int) -> list[HanbitError | None]:
        """Commit the Changes that hold, together; the answer says for each whether it is durable (None) or turned away, and why."""
        return self.commit(changes, self.prepare(changes, at), at)

    def prepare(self, changes: Sequence[Change], at: int) -> list[HanbitError | None]:
        """Everything of a batch but its commit: some twenty short statements that touch memory only.

        They run where they are called: in a thread beside a busy event loop each would first have to win the interpreter back, which
        takes up to 5 ms a statement. `commit` must follow, in whichever thread may wait for the disk.
        """
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            batch = Batch(self._load(changes), at)
            answers = [batch.decide(change) for change in changes]
            self._save(batch)
        except sqlite_file.IntegrityError as error:
            self._roll_back()
            return [self._turned_away(changes[0], error) if len(changes) == 1 else Conflict("in a batch")] * len(changes)
        except sqlite_file.DatabaseError as error:
            self._roll_back()
            return [_not_written(error)] * len(changes)
        except BaseException:
            self._roll_back()
            raise
        return answers

    def commit(self, changes: Sequence[Change], answers: list[HanbitError | None], at: int) -> list[HanbitError | None]:
        """Make durable what `prepare` wrote; the final answers.

        Where the database refused what the decision missed (a constraint), each half of the batch is tried by itself, and so on, so that
        only the guilty Change is turned away and whoever sends such Changes does not cost its neighbours a commit each.
        """
        connection = self._connection
        if not connection.in_transaction:
            if len(changes) > 1 and all(isinstance(answer, Conflict) for answer in answers):
                half = len(changes) // 2
                return [*self.write_batch(changes[:half], at), *self.write_batch(changes[half:], at)]
            return answers
        try:
            fail_points.reach("gateway.commit.before")
            connection.execute("COMMIT")
        except sqlite_file.DatabaseError as error:  # disk full, I/O error: nothing of the batch is there
            self._roll_back()
            return [_not_written(error)] * len(changes)
        except BaseException:
            self._roll_back()
            raise
        if len(self._known_headers) + len(self._new_headers) > _HEADERS_KNOWN_MAX:
            self._known_headers.clear()
        self._known_headers |= self._new_headers
        fail_points.reach("gateway.commit.after")
        if self._mover is not None and self._mover.committed(len(changes)):
            self._move_rest()
        return answers

    def _move_rest(self) -> None:
        """What was committed while the log was being moved; the next batch then begins it anew."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite_file.DatabaseError as error:  # this batch is durable, whatever became of the log
            _log.warning("the rest of the book's log could not be moved into its file: %s", error)

    def _turned_away(self, change: Change, error: Exception) -> HanbitError:
        """What a constraint means that the decision missed; names of tables are nobody's business outside."""
        if "messages." in str(error):
            names = _keys([(message.tid, message.merchant, message.hash) for message in change.messages])
            if self._connection.execute(_SELECT_KNOWN, (names,)).fetchone() is not None:
                return Stale("messages")  # these very bytes were stored by somebody else meanwhile
            return ProtocolViolation("jti", "this message's number was used with other bytes")
        _log.warning("a constraint turned a change away: %s", error)
        return Conflict("the book holds something else under this name")

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _load(self, changes: Sequence[Change]) -> Loaded:
        execute, wanted = self._connection.execute, plan.wanted(changes)
        next_entry, size, frontier, time = execute(plan.SELECT_BOOK).fetchone()
        rows = {
            table: plan.standing(table, compared, execute(_select(table, compared), (_keys(keys),)).fetchall())
            for table, compared, keys in wanted.tables()
        }
        accounts = execute(_SELECT_ACCOUNTS, (_keys(wanted.accounts),)).fetchall() if wanted.accounts else ()
        entries = execute(_SELECT_ENTRIES, (_keys(wanted.entries),)).fetchall() if wanted.entries else ()
        return Loaded(next_entry, load_frontier(size, frontier), time, rows, plan.accounts(accounts), plan.known_entries(entries))

    def _save(self, batch: Batch) -> None:
        execute, writes = self._connection.execute, batch.finish()
        for table, keys in plan.deletes(writes):
            execute(_delete_statement(table), (_keys(keys),))
        self._new_headers = writes.headers.keys() - self._known_headers
        for insert in plan.inserts(writes, self._known_headers):
            if insert.how == "replace":
                written, take = _written(insert.table, insert.same)
                for part in _parts(insert.rows):
                    execute(_update_statement(insert.table, len(part), written), list(chain.from_iterable(map(take, part))))
                continue
            for part in _parts(insert.rows):
                execute(_insert_statement(insert.table, len(part), insert.how), list(chain.from_iterable(part)))
        for part in _parts(plan.account_rows(writes)):
            execute(_update_statement("ledger_accounts", len(part), ("id", *plan.COUNTERS)), list(chain.from_iterable(part)))
        entries = plan.entry_range(writes)
        if entries is not None:
            self._check_balanced(*entries)
        book = plan.book_row(batch)
        if book is not None:
            execute(plan.UPDATE_BOOK, book)

    def _check_balanced(self, first: int, last: int) -> None:
        """The database adds up what was just written, in the same transaction: an unbalanced batch cannot be committed."""
        pending, posted = self._connection.execute(_SUM_OF_LEGS, (first, last)).fetchone()
        if pending or posted:
            raise AssertionError(f"entries {first} to {last} do not balance")


def _not_written(error: Exception) -> Unavailable:
    return Unavailable(f"the book cannot be written: {error}")


_SELECT_ENTRIES = """
SELECT e.id, e.number, e.kind, e.amount, e.currency, EXISTS (SELECT 1 FROM entries x WHERE x.ends = e.number)
FROM json_each(?) wanted JOIN entries e ON e.id = wanted.value
"""
_SELECT_ACCOUNTS = (
    f"SELECT {', '.join(f'a.{column}' for column in plan.ACCOUNT)} "  # noqa: S608 - names from our own schema
    "FROM json_each(?) wanted JOIN ledger_accounts a ON a.id = wanted.value"
)
_SELECT_KNOWN = (
    "SELECT 1 FROM json_each(?) wanted JOIN messages m "
    "ON m.tid = wanted.value ->> 0 AND m.merchant = wanted.value ->> 1 AND m.hash = wanted.value ->> 2 LIMIT 1"
)
_SUM_OF_LEGS = """
SELECT sum(CASE side WHEN 'D' THEN pending ELSE -pending END), sum(CASE side WHEN 'D' THEN posted ELSE -posted END)
FROM postings WHERE entry BETWEEN ? AND ?
"""


def create_book(path: Path, operator: str, at: int, *, sandbox: bool = False) -> None:
    """Write an empty book with every table, trigger and bound; refuses a path that exists. A sandbox's says for ever that it is one."""
    if path.exists():
        raise Conflict(f"{path} exists")
    connection = sqlite_file.open_for_writing(path)
    path.chmod(0o600)
    connection.execute("BEGIN IMMEDIATE")
    for statement in ddl.statements(schema.metadata, history=schema.HISTORY, kept=schema.KEPT, guards=GUARDS):
        connection.execute(statement)
    connection.execute("INSERT INTO book VALUES (1, ?, ?, 1, 0, '', ?)", (operator, schema.SCHEMA_VERSION, at))
    if sandbox:
        connection.execute("INSERT INTO settings VALUES (?, 1, '0')", (schema.SANDBOX,))
    fill_log(connection)
    connection.execute("COMMIT")
    connection.close()


def describe(connection: sqlite_file.Connection) -> dict[tuple[str, str], str]:
    """Kind and name of each table, index and trigger → the statement that made it; SQLite's own indexes have none."""
    return {(str(kind), str(name)): str(text) for kind, name, text in connection.execute(_SELECT_SHAPE)}


def expected() -> dict[tuple[str, str], str]:
    """The same of a book of today's schema."""
    made = ddl.statements(schema.metadata, history=schema.HISTORY, kept=schema.KEPT, guards=GUARDS)
    named = ((text, _NAMED.search(text)) for text in made)
    return {(found[1].lower(), found[2]): text for text, found in named if found is not None}


_NAMED = re.compile(r"^CREATE (?:UNIQUE )?(TABLE|INDEX|TRIGGER) (\w+)")
_SELECT_SHAPE = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*' ORDER BY name"


def _parts(rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
    start = 0
    while start < len(rows):
        size = min(1 << ((len(rows) - start).bit_length() - 1), ROWS_A_STATEMENT)
        yield rows[start : start + size]
        start += size


@cache
def _select(table: str, compared: tuple[str, ...]) -> str:
    """The key of each wanted row, then what the batch compares of it; a chain of certificates or a password hash is not carried along."""
    columns = ", ".join(f"t.{column}" for column in (*KEYS[table], *compared))
    on = " AND ".join(f"t.{column} = wanted.value ->> {at}" for at, column in enumerate(KEYS[table]))
    return f"SELECT {columns} FROM json_each(?) wanted JOIN {table} t ON {on}"  # noqa: S608 - names from our own schema


def _keys(keys: Collection[Key] | Collection[Value]) -> str:
    """Keys as one parameter."""
    return _encode(list(keys)).decode("utf-8")


_encode = msgspec.json.Encoder().encode


@cache
def _insert_statement(table: str, rows: int, how: str) -> str:
    columns = COLUMNS[table]
    values = ", ".join([f"({', '.join('?' * len(columns))})"] * rows)
    sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values}"  # noqa: S608 - names from our own schema
    return f"{sql} ON CONFLICT DO NOTHING" if how == "keep" else sql


@cache
def _written(table: str, same: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[Row], Row]]:
    """The key and the columns that are written, and how they are taken out of a whole row."""
    columns = tuple(column for column in COLUMNS[table] if column not in same)
    return columns, itemgetter(*map(COLUMNS[table].index, columns))


@cache
def _update_statement(table: str, rows: int, written: tuple[str, ...]) -> str:
    values = ", ".join([f"({', '.join('?' * len(written))})"] * rows)
    sets = ", ".join(f"{column} = next.{column}" for column in written if column not in KEYS[table])
    on = " AND ".join(f"{table}.{column} = next.{column}" for column in KEYS[table])
    return f"WITH next ({', '.join(written)}) AS (VALUES {values}) UPDATE {table} SET {sets} FROM next WHERE {on}"  # noqa: S608 - our own names


@cache
def _delete_statement(table: str) -> str:
    (key,) = KEYS[table]
    return f"DELETE FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))"  # noqa: S608 - names from our own schema
