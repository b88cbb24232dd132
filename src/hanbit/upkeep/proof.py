"""Proves a book from its file and the root alone: SQLite's check, every promise about money, every row by the log, every signature."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hanbit.db import schema, sqlite_file
from hanbit.db.reading import Reader
from hanbit.evidence import store as evidence
from hanbit.evidence.check import check as check_evidence
from hanbit.evidence.log_check import check as check_log
from hanbit.kernel.errors import BadInput
from hanbit.ledger.check import check as check_ledger
from hanbit.parties.registry import Registry

MESSAGES_AT_ONCE = 20_000
"""Messages whose chains are held in memory together, about."""
SHOWN_MAX = 5


class BrokenBook(BadInput):
    """A book that does not hold what it promises."""

    code = "broken_book"
    advice = "Stop the server, keep the folder as it is, and restore the last backup into another: hanbit restore --help"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved; the figures are None for a book of another schema, whose own program proves them."""

    schema: int
    operator: str
    entries: int | None
    leaves: int | None
    messages: int | None

    def shown(self) -> dict[str, Any]:
        """For people and programs at a terminal."""
        return asdict(self)


def prove(book: Path, root: bytes, say: Callable[[str], None] = lambda _what: None) -> Proof:
    """Check all that can be checked; BrokenBook names what does not hold."""
    say("the file")
    try:
        with closing(sqlite_file.open_for_reading(book)) as connection:
            damage = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            if damage != ["ok"]:
                raise BrokenBook(f"{book.name} is damaged: {damage[0]}")
            connection.execute("BEGIN")  # what is held against each other is of one moment
            row = connection.execute("SELECT schema_version, operator FROM book WHERE id = 1").fetchone()
            if row is None:
                raise BrokenBook(f"{book.name} is no book")
            if row["schema_version"] != schema.SCHEMA_VERSION:
                return Proof(row["schema_version"], row["operator"], None, None, None)
            say("the ledger")
            ledger = check_ledger(connection, lambda promise: say(promise.replace("_", " ")))
            if not ledger.balanced:
                raise BrokenBook(f"the ledger does not hold: {', '.join(ledger.broken)}")
            log = check_log(connection, say=say)
            if not log.whole:
                raise BrokenBook(f"the log does not hold: {'; '.join(map(str, log.findings[:SHOWN_MAX]))}")
        say("the evidence")
        return Proof(row["schema_version"], row["operator"], ledger.entries, log.leaves, _prove_evidence(book, root, row["operator"]))
    except sqlite_file.DatabaseError as error:
        raise BrokenBook(f"{book.name} cannot be read as a book: {error}") from error


def _prove_evidence(book: Path, root: bytes, operator: str) -> int:
    with closing(Reader(book)) as reader:
        registry = Registry(reader, root, operator)

        def order_hash(merchant: str, tid: str) -> str | None:
            found = reader.one("SELECT order_hash FROM payments WHERE merchant = ? AND tid = ?", merchant, tid)
            return None if found is None else str(found[0])

        (count,) = reader.all("SELECT count(*) FROM messages")[0]
        parts = 1 + count // MESSAGES_AT_ONCE
        broken: list[str] = []
        for part in range(parts):
            broken += check_evidence(evidence.share(reader, part, parts), registry, order_hash).broken
        if broken:
            raise BrokenBook(f"the evidence does not hold: {'; '.join(broken[:SHOWN_MAX])}")
        return int(count)
