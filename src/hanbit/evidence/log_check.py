"""`hanbit evidence check`, the log's half: holds every row of the book against the leaf that recorded it, the leaves against their tree.

 1. leaves are numbered without a gap, their data fits their hash, time never goes back
 2. their hashes make the stored tiles, and the frontier in the book's row; every signed checkpoint is the tree of its size
 3. each row of the book is the one that the latest leaf naming its key recorded, and each recorded row is there
 4. what no leaf covers follows from what one covers: message bytes, headers, the book's own row (counters: `ledger/check.py`)
 5. tables, indexes and triggers are those of the schema, in its words, and there is nothing beside them

The rows of a book do not fit in memory: both sides are sorted by SQLite in a scratch file and then read side by side.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from hanbit.crypto import merkle
from hanbit.crypto.leaves import Leaf, read_leaf
from hanbit.db import schema, sqlite_file
from hanbit.db.covered import COVERED, load_frontier, present
from hanbit.db.place import shape_faults
from hanbit.db.rows import Connection, stream
from hanbit.evidence.record import rebuild
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation

FINDINGS_MAX = 1_000
"""Findings that are kept; more are only counted."""
SAY_EVERY = 20_000
Say = Callable[[str], None]
_APPEND_ONLY = frozenset(schema.HISTORY) | {"ledger_accounts", "book"}
_STANDS = 1 << 62
"""In the scratch file the row as it stands comes after every leaf that names it."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A row that does not fit. `rank` 0: a leaf; 1: a row that a leaf names or should; 2: what follows from them; 3: no row but a guard."""

    rank: int
    leaf: int
    table: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was held against the log; `findings` is empty where everything fits, else the first bad row comes first."""

    leaves: int = 0
    rows: int = 0
    checkpoints: int = 0
    root: str = ""
    findings: list[Finding] = field(default_factory=list)
    found: int = 0

    @property
    def whole(self) -> bool:
        """Whether everything fits."""
        return not self.found

    def add(self, rank: int, leaf: int, table: str, key: object, what: str) -> None:
        """Keep a finding, or count it where there are too many."""
        self.found += 1
        if len(self.findings) < FINDINGS_MAX:
            text = key if isinstance(key, str) else msgspec.json.encode(key).decode()
            self.findings.append(Finding(rank, leaf, table, text, what))


@dataclass(frozen=True, slots=True)
class KnownRoot:
    """A size and root that somebody holds, with the name under which a finding tells it, and the hash of the checkpoint that says so."""

    size: int
    root: str
    name: str
    hash: str = ""


def check(connection: Connection, known: Iterable[KnownRoot] = (), say: Say = lambda _text: None) -> Report:
    """Check the book on this connection, in the caller's snapshot; `known` are roots that are held elsewhere."""
    report = Report()
    scratch = sqlite_file.open_scratch()
    try:
        scratch.execute("CREATE TABLE items (name TEXT, leaf INTEGER, digest BLOB)")
        scratch.execute("BEGIN")
        held = list(known)
        last = _walk(connection, scratch, report, [*_own_roots(connection), *held], say)
        _check_held(connection, report, held)
        scratch.executemany("INSERT INTO items VALUES (?, ?, ?)", _standing(connection, report, say))
        say("comparing rows")
        _compare(scratch, report)
        scratch.execute("COMMIT")
    finally:
        scratch.close()
    say("checking what follows from the rows")
    _check_book(connection, report, last)
    _check_messages(connection, report)
    _check_shape(connection, report)
    report.findings.sort()
    return report


# --- the leaves and their tree ------------------------------------------------------------------------------------------------------


def _own_roots(connection: Connection) -> list[KnownRoot]:
    return [KnownRoot(row[0], row[1], "checkpoints") for row in connection.execute("SELECT size, root FROM checkpoints")]


def _walk(connection: Connection, scratch: Connection, report: Report, known: list[KnownRoot], say: Say) -> Leaf:
    """Read every leaf in order, grow the tree, file what the leaves name; returns the last leaf."""
    frontier, last, expected = merkle.Frontier(), Leaf(-1, 0, ()), 0
    waiting = sorted(known, key=lambda root: root.size, reverse=True)
    for number, stored_hash, data in stream(connection, "SELECT leaf, hash, data FROM log ORDER BY leaf"):
        if number != expected:
            report.add(0, expected, "log", [expected], "missing")
        last = _read(report, number, stored_hash, data, last)
        rows = ((_name(item.table, item.key), number, item.digest) for item in last.items)
        scratch.executemany("INSERT INTO items VALUES (?, ?, ?)", rows)
        expected = number + 1
        if number == frontier.size:  # behind a gap there is no tree to compare
            for tile in frontier.append(_hash(stored_hash)):
                _check_tile(connection, report, tile)
            while waiting and waiting[-1].size <= frontier.size:
                _check_root(report, waiting.pop(), frontier)
        if not expected % SAY_EVERY:
            say(f"{expected} leaves")
    report.leaves, report.root = frontier.size, ids.encode_base64url(frontier.root())
    if frontier.size == expected:
        for root in waiting:
            what = f"signed for {root.size} leaves, of which this book has {expected}: it is an older copy, or was cut"
            report.add(2, expected, root.name, [root.size], what)
        _check_frontier(connection, report, frontier)
    return last


def _read(report: Report, number: int, stored_hash: str, text: str, last: Leaf) -> Leaf:
    data = text.encode("utf-8", "replace")
    if _hash(stored_hash) != merkle.leaf_hash(data):
        report.add(0, number, "log", [number], "its data is not what its hash says")
    try:
        leaf = read_leaf(data)
    except ProtocolViolation:
        report.add(0, number, "log", [number], "its data is no leaf")
        return Leaf(number, last.at, ())
    if leaf.number != number:
        report.add(0, number, "log", [number], f"it is leaf {leaf.number}")
    elif leaf.at < last.at:
        report.add(0, number, "log", [number], "it is older than the leaf before it")
    return leaf


def _check_root(report: Report, known: KnownRoot, frontier: merkle.Frontier) -> None:
    report.checkpoints += 1
    if known.root != ids.encode_base64url(frontier.root()):
        report.add(2, known.size, known.name, [known.size], f"signed for other first {known.size} leaves than this book has")


def _check_held(connection: Connection, report: Report, held: list[KnownRoot]) -> None:
    """Each checkpoint was stored before it left: one that is unknown here shows a loss, even where all its leaves are there."""
    own = {row[0] for row in connection.execute("SELECT hash FROM checkpoints")}
    for known in held:
        if known.hash and known.hash not in own and known.name not in {finding.table for finding in report.findings}:
            report.add(2, known.size, known.name, [known.size], "signed by this gateway and unknown to this book: it is an older copy")


def _check_tile(connection: Connection, report: Report, tile: merkle.Tile) -> None:
    row = connection.execute("SELECT root FROM tiles WHERE level = ? AND number = ?", (tile.level, tile.number)).fetchone()
    width = merkle.TILE_WIDTH**tile.level
    first = tile.number * width
    if row is None:
        report.add(2, first, "tiles", [tile.level, tile.number], "missing")
    elif _hash(row[0]) != tile.root:
        report.add(2, first, "tiles", [tile.level, tile.number], f"not the tile of leaves {first} to {first + width - 1}")


def _check_frontier(connection: Connection, report: Report, frontier: merkle.Frontier) -> None:
    size, text = connection.execute("SELECT next_leaf, frontier FROM book").fetchone()
    if size > frontier.size:
        report.add(0, frontier.size, "log", [frontier.size], f"missing: the book's row counts {size} leaves")
    elif size < frontier.size:
        report.add(0, size, "log", [size], f"the book's row counts {size} leaves only")
    else:
        _compare_frontiers(report, frontier, text)
    for level, number in stream(connection, "SELECT level, number FROM tiles ORDER BY level, number"):
        if number >= frontier.size >> (merkle.TILE_HEIGHT * level):
            report.add(2, frontier.size, "tiles", [level, number], "a tile of leaves that are not there")


def _compare_frontiers(report: Report, frontier: merkle.Frontier, text: str) -> None:
    try:
        stored = load_frontier(frontier.size, text).nodes
    except BadInput:
        stored = []
    if len(stored) != len(frontier.nodes):
        report.add(2, 0, "book", [1], "frontier: not that of its leaves")
        return
    start = 0
    heights = [bit for bit in range(frontier.size.bit_length() - 1, -1, -1) if frontier.size >> bit & 1]
    for height, one, other in zip(heights, stored, frontier.nodes, strict=True):
        if one != other:
            report.add(2, start, "book", [1], f"frontier: not that of leaves {start} to {start + (1 << height) - 1}")
        start += 1 << height


# --- rows against leaves ------------------------------------------------------------------------------------------------------------


def _standing(connection: Connection, report: Report, say: Say) -> Iterator[tuple[str, int, bytes]]:
    for item in present(connection):
        report.rows += 1
        if not report.rows % (SAY_EVERY * 10):
            say(f"{report.rows} rows")
        yield _name(item.table, item.key), _STANDS, item.digest


def _compare(scratch: Connection, report: Report) -> None:
    rows = scratch.execute("SELECT name, leaf, digest FROM items ORDER BY name, leaf")
    for name, group in groupby(rows, lambda row: row[0]):
        found = [(leaf, digest) for _, leaf, digest in group]
        table, _, key = name.partition(" ")
        stands = found.pop()[1] if found[-1][0] == _STANDS else None
        if not found:
            report.add(1, _STANDS, table, key, "no leaf names it: it was put in from outside")
            continue
        leaf, recorded = found[-1]
        if table not in COVERED:
            report.add(0, leaf, "log", [leaf], f"names a row of {table}, which no leaf covers")
        elif stands is None:
            report.add(1, leaf, table, key, f"missing; leaf {leaf} recorded it")
        elif stands != recorded:
            older = next((at for at, digest in found if digest == stands), None)
            report.add(
                1, leaf, table, key, f"altered after leaf {leaf}" if older is None else f"as leaf {older} had it, before leaf {leaf}"
            )
        if len(found) > 1 and table in _APPEND_ONLY:
            report.add(0, leaf, "log", [leaf], f"names {table} {key} a second time")


def _name(table: str, key: object) -> str:
    return f"{table} {msgspec.json.encode(key).decode()}"


# --- what follows -------------------------------------------------------------------------------------------------------------------


def _check_book(connection: Connection, report: Report, last: Leaf) -> None:
    version, next_entry, time = connection.execute("SELECT schema_version, next_entry, time FROM book").fetchone()
    entries = connection.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()[0]
    if version != schema.SCHEMA_VERSION:
        report.add(2, 0, "book", [1], f"schema_version is not {schema.SCHEMA_VERSION}")
    if next_entry != entries + 1:
        report.add(2, _STANDS, "book", [1], f"next_entry is {next_entry}, the last entry {entries}")
    if time != last.at:
        report.add(2, _STANDS, "book", [1], "time is not that of the last leaf")


def _check_messages(connection: Connection, report: Report) -> None:
    """Bytes hash to their name, headers to theirs; no header is there for nothing."""
    for leaf, place, name, header, segment, payload, signature in stream(connection, _SELECT_MESSAGES):
        if segment is None:
            report.add(2, leaf, "headers", [header], f"missing; message [{leaf},{place}] has it")
        elif ids.digest(segment.encode("utf-8", "replace")) != header:
            report.add(2, leaf, "headers", [header], "its segment is not what its name says")
        elif ids.digest(rebuild(segment, payload, signature).encode("utf-8", "replace")) != name:
            report.add(2, leaf, "messages", [leaf, place], "its payload or signature is not what its hash says")
    for (header,) in connection.execute("SELECT id FROM headers EXCEPT SELECT header FROM messages"):
        report.add(2, _STANDS, "headers", [header], "no message has it: it was put in from outside")


def _check_shape(connection: Connection, report: Report) -> None:
    """A trigger of somebody else's acts when all checks are over; one of ours that is gone guards nothing any more."""
    for where, name, what in shape_faults(connection):
        report.add(3, _STANDS, where, name, what)


_SELECT_MESSAGES = """
SELECT m.leaf, m.place, m.hash, m.header, h.segment, m.payload, m.signature
FROM messages m LEFT JOIN headers h ON h.id = m.header ORDER BY m.leaf, m.place
"""


def _hash(text: str) -> bytes:
    try:
        return ids.decode_base64url(text)
    except BadInput:
        return b""
