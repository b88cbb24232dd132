"""`hanbit migrate`: moves the book of a stopped server from its file into an empty PostgreSQL database, and proves that it is the same.

Everything is written, read back, compared and proved in one transaction; only then is it committed, and only then do the settings name
the database. Whatever stops this leaves the file in force. The file is kept under another name, so that nobody serves it by mistake.
"""

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from hanbit.crypto.certificates import load_chain_pem
from hanbit.db import place as places
from hanbit.db import postgres, schema, sqlite_file
from hanbit.db.covered import COLUMNS, STORED
from hanbit.db.postgres_link import Link, Lost, described
from hanbit.db.rows import Connection, stream
from hanbit.evidence.log_check import check as check_log
from hanbit.folder import KEYS_FOLDER, hold, place_of
from hanbit.kernel import fail_points
from hanbit.kernel.errors import BadInput, Conflict, Unavailable
from hanbit.ledger.check import check as check_ledger
from hanbit.parties.keyring import write_secret
from hanbit.settings import FILE, Settings, dump, load
from hanbit.upkeep import archive
from hanbit.upkeep.backup import Say, settle, silent
from hanbit.upkeep.proof import BrokenBook, prove

SAY_EVERY = 20_000
TABLES = ("payments", *(name for name in schema.metadata.tables if name != "payments"))
"""In this order: a refund's entry finds its payment's figures."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a table holds: how many rows, and the SHA-256 over all of them in the order of their key."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved, and where the file lies now."""

    database: str
    kept: Path
    root: str
    entries: int
    messages: int
    tables: dict[str, Table]

    def shown(self) -> dict[str, Any]:
        """For people and programs at a terminal."""
        rows = sum(table.rows for table in self.tables.values())
        found = {"database": self.database, "kept": str(self.kept), "tables": len(self.tables), "rows": rows}
        return found | {"entries": self.entries, "messages": self.messages, "root": self.root}


def migrate(folder: Path, url: str, say: Say = silent) -> Moved:
    """Move the book. Conflict while a server holds the folder or where the database is not empty; BrokenBook if something does not hold."""
    with hold(folder):
        own = load(folder)
        book = place_of(folder, own)
        if not isinstance(book, Path):
            raise Conflict(f"the book of {folder} is in a database already: {places.shown(book)}")
        if not url:
            raise BadInput("database: postgresql://USER@HOST/DATABASE")
        then = replace(own, database=url)  # what no settings may name is refused before anything is moved there
        settle(book)
        proof = prove(book, load_chain_pem(folder / KEYS_FOLDER / "root.pem")[0], say)
        if proof.entries is None:
            raise BadInput(f"{book} is of schema {proof.schema}: hanbit upgrade --data {folder} comes first")
        with closing(sqlite_file.open_for_reading(book)) as source:
            source.execute("BEGIN")
            tables = {name: _table(source, name, say) for name in TABLES}
            root = _carried(source, url, tables, say)
        _switch(folder, then)
        kept = _put_aside(book, root)
        return Moved(described(url), kept, root, proof.entries, proof.messages or 0, tables)


def _carried(source: Connection, url: str, tables: dict[str, Table], say: Say) -> str:
    """Copy, compare, prove, commit; the log's hash. If we were stopped behind COMMIT before, the database holds this very book already."""
    if _is_there(url, tables, say):
        return _proved(places.open_for_reading(url, patient=True), say)
    link = postgres.open_empty(url)
    try:
        link.command("BEGIN")
        postgres.make_tables(link)
        for name in TABLES:
            _copy(source, link, name, tables[name].rows, say)
        link.command("ANALYZE")
        for name, table in tables.items():
            if _table(link, name, say) != table:
                raise BrokenBook(f"{name} is not the same in {described(url)}")
        root = _proved(link, say, close=False)
        fail_points.reach("gateway.migrate.before")
        link.command("COMMIT")
        fail_points.reach("gateway.migrate.committed")
    except Lost as error:
        raise Unavailable(f"{described(url)}: {error}") from error
    except psycopg.Error as error:
        raise BadInput(f"{described(url)}: {error}") from error
    finally:
        link.close()
    return root


def _is_there(url: str, tables: dict[str, Table], say: Say) -> bool:
    try:
        reader = places.open_for_reading(url, patient=True)
    except BadInput:
        return False  # no book there
    with closing(reader):
        reader.execute("BEGIN")
        if all(_table(reader, name, say) == table for name, table in tables.items()):
            return True
    raise Conflict(f"{described(url)} has another book")


def _copy(source: Connection, link: Link, name: str, rows: int, say: Say) -> None:
    columns = ", ".join(COLUMNS[name])
    with link.copy(f"COPY {name} ({columns}) FROM STDIN") as into:
        for number, row in enumerate(stream(source, f"SELECT {columns} FROM {name}")):  # noqa: S608 - names from our own schema
            if not number % SAY_EVERY:
                say(f"copying {name}: {number} of {rows} rows")
            into.write_row(tuple(row))


def _table(connection: Connection, name: str, say: Say) -> Table:
    columns = ", ".join(COLUMNS[name])
    digest, rows = hashlib.sha256(), 0
    for row in stream(connection, f"SELECT {columns} FROM {name} ORDER BY {STORED[name]}"):  # noqa: S608 - names from our own schema
        if not rows % SAY_EVERY:
            say(f"reading {name}: {rows} rows")
        digest.update(msgspec.json.encode(tuple(row)) + b"\n")
        rows += 1
    return Table(rows, digest.hexdigest())


def _proved(connection: Connection, say: Say, *, close: bool = True) -> str:
    """Every promise about money and every row by the log, in the database's own words; the log's hash."""
    try:
        ledger = check_ledger(connection, lambda promise: say(promise.replace("_", " ")))
        if not ledger.balanced:
            raise BrokenBook(f"the ledger does not hold there: {', '.join(ledger.broken)}")
        log = check_log(connection, say=say)
        if not log.whole:
            raise BrokenBook(f"the log does not hold there: {log.findings[0]}")
        return log.root
    finally:
        if close:
            connection.close()


def _switch(folder: Path, then: Settings) -> None:
    """From here on the folder's book is the one in the database."""
    path, new = folder / FILE, folder / f".{FILE}.new"
    new.unlink(missing_ok=True)
    lines = [line for line in path.read_text("utf-8").splitlines() if line.partition("=")[0].strip() != "database"]
    setting = next(line for line in dump(then).splitlines() if line.startswith("database = "))
    write_secret(new, "\n".join([setting, *lines, ""]).encode("utf-8"))
    new.replace(path)
    archive.sync_folder(folder)
    fail_points.reach("gateway.migrate.switched")


def _put_aside(book: Path, root: str) -> Path:
    """Under a name that no server opens."""
    kept = book.with_name(f"{book.stem}-before-{root[:12]}{book.suffix}")
    book.rename(kept)
    for left in ("-wal", "-shm"):
        book.with_name(book.name + left).unlink(missing_ok=True)
    archive.sync_folder(book.parent)
    return kept
