"""A data folder: who holds it, how it is made, and how its parts are put together into a Gateway."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hanbit.crypto.passwords import Passwords
from hanbit.db import place as places
from hanbit.db import schema
from hanbit.db.commit import Book
from hanbit.db.copying import Copier
from hanbit.db.place import Place
from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE
from hanbit.db.sqlite_file import DatabaseError
from hanbit.kernel.clock import Clock, SandboxClock
from hanbit.kernel.errors import BadInput, Conflict, HanbitError, Unavailable
from hanbit.line.figures import LineFigures
from hanbit.parties import keyring
from hanbit.parties.registry import Registry
from hanbit.payments import operations
from hanbit.payments.certificates import issue
from hanbit.payments.gateway import AskingLine, Gateway
from hanbit.settings import FILE, Settings, dump, load

LOCK_FILE, CONTROL_FILE, KEYS_FOLDER = "lock", "control", "keys"


class NoLine:
    """The line of a command that runs without a server: every merchant is out of reach."""

    async def ask(self, merchant_id: str, message: str) -> str:
        """Nobody is connected."""
        raise Unavailable(f"no line to {merchant_id} ({len(message)} bytes)")

    async def tell(self, merchant_id: str, message: str) -> None:
        """Nobody is connected; the outbox keeps it."""
        raise Unavailable(f"no line to {merchant_id} ({len(message)} bytes)")

    def connected(self, merchant_id: str) -> bool:
        """Nobody is connected."""
        return not merchant_id

    def drop(self, merchant_id: str, reason: str) -> None:
        """Nobody is connected: there is nothing to hang up."""

    def figures(self, merchant_id: str) -> LineFigures:
        """Nobody is connected."""
        return LineFigures(down_reason=f"no server runs on this folder; {merchant_id} cannot be connected")


@contextmanager
def hold(folder: Path) -> Iterator[int]:
    """Hold the folder for this process alone; Conflict names the process that has it, BadInput says that this is no data folder.

    The descriptor by which it is held: children that get it hold the folder too, for as long as any of them lives.
    """
    if not (folder / FILE).is_file():
        raise BadInput(f"{folder} is no data folder: {FILE} is missing (make one with: hanbit init {folder})")
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(f"{folder} is held by process {holder}: stop it first") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def place_of(folder: Path, settings: Settings) -> Place:
    """Where the book of this folder lies."""
    return settings.database or folder / BOOK_FILE


def place_at(folder: Path) -> Place:
    """The same for whoever only reads; of a copy that has no settings, the file."""
    return place_of(folder, load(folder)) if (folder / FILE).exists() else folder / BOOK_FILE


async def create(folder: Path, settings: Settings, clock: Clock, *, root_key: Path | None, root_passphrase: bytes | None) -> None:
    """Make a data folder: keys, settings, empty book with the operator's accounts. Conflict if there is something already."""
    at, place = clock.now(), place_of(folder, settings)
    places.check_empty(place)  # before there is anything: who has mistyped an address has not made half a folder
    _make_empty(folder)
    keys = keyring.create(
        folder / KEYS_FOLDER,
        settings,
        at,
        root_key=root_key or folder / KEYS_FOLDER / "root.key",
        root_passphrase=root_passphrase,
    )
    keyring.write_secret(folder / FILE, dump(settings).encode("utf-8"))
    places.create(place, settings.operator, at, sandbox=settings.sandbox)
    with hold(folder):
        gateway = open_gateway(folder, clock)
        try:
            for row in keys:
                await gateway.book.commit(issue(gateway, (row,), how="own", at=at).change())
            await operations.open_operator_accounts(gateway)
        finally:
            await close_gateway(gateway)


def _make_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def open_gateway(
    folder: Path,
    clock: Clock,
    *,
    line: Callable[[Settings, keyring.Keyring, Registry, Clock, Book, Reader], AskingLine] | None = None,
    announce: Callable[[str, str, str], None] = lambda _what, _name, _text: None,
    tidy: bool = True,
    observe: Callable[[str, str], None] = lambda _what, _reason: None,
    observe_batch: Callable[[int, float], None] | None = None,
    acknowledged_every_s: float = 0.0,
) -> Gateway:
    """Put the parts of a data folder together; the caller holds the folder. A sandbox's own clock goes before the one that is given.

    Not `tidy` where other processes work on the same folder: what looks left behind may be a key that one of them is making.
    """
    settings = load(folder)
    if settings.sandbox:
        clock = SandboxClock(clock)
    place = place_of(folder, settings)
    if isinstance(place, Path) and not place.exists():
        raise BadInput(f"{place} is missing")
    if tidy:
        keyring.tidy_up(folder / KEYS_FOLDER)
    keys = keyring.load(folder / KEYS_FOLDER, settings, ahead=partial(_ahead_s, clock))
    book, reader = _open_book(place, clock, observe_batch)
    try:
        offset_s = _check_kind(folder, settings, reader)
    except HanbitError:
        book.discard()
        reader.close()
        raise
    if isinstance(clock, SandboxClock):
        clock.offset_s = offset_s
    registry = Registry(reader, keys.root, settings.operator)
    return Gateway(
        settings=settings,
        clock=clock,
        book=book,
        reader=reader,
        keyring=keys,
        registry=registry,
        passwords=Passwords(keys.pepper, workers=settings.password_workers, waiting_max=settings.password_waiting_max),
        line=NoLine() if line is None else line(settings, keys, registry, clock, book, reader),
        observe=observe,
        announce=announce,
        copier=Copier(place),
        acknowledged_every_s=acknowledged_every_s,
    )


def _open_book(place: Place, clock: Clock, observe: Callable[[int, float], None] | None) -> tuple[Book, Reader]:
    book = Book(lambda: places.open_store(place), clock, observe=observe)
    try:
        return book, Reader(place)
    except DatabaseError as error:
        book.discard()
        raise BadInput(f"{places.shown(place)} cannot be read as a book: {error}") from error
    except HanbitError:
        book.discard()
        raise


def sandbox_offset(reader: Reader) -> int | None:
    """How far the clock of a sandbox's book is ahead, None where the book is no sandbox's."""
    row = reader.one("SELECT value FROM settings WHERE name = ?", schema.SANDBOX)
    return None if row is None else int(row["value"])


def offset_of(folder: Path) -> int | None:
    """The same of a folder that somebody else may hold; None also where its book cannot be read."""
    try:
        reader = Reader(place_at(folder), patient=True)
    except (DatabaseError, HanbitError):
        return None
    try:
        return sandbox_offset(reader)
    except Unavailable:
        return None
    finally:
        reader.close()


def _check_kind(folder: Path, settings: Settings, reader: Reader) -> int:
    """The offset of a sandbox's clock, 0 elsewhere. Settings and book must agree on whose it is and what: live and test never mix."""
    row, place = reader.one("SELECT operator FROM book"), places.shown(place_of(folder, settings))
    offset_s = sandbox_offset(reader)
    if settings.sandbox != (offset_s is not None):
        book, said = ("a live book", "a sandbox") if settings.sandbox else ("a sandbox's book", "live")
        raise BadInput(f"{place} is {book}, and {folder / FILE} says {said}: put back the file that belongs here")
    if row is None or row[0] != settings.operator:
        raise BadInput(f"{place} is the book of {'nobody' if row is None else row[0]}, and {folder / FILE} says {settings.operator}")
    return offset_s or 0


def _ahead_s(clock: Clock) -> int:
    return clock.offset_s if isinstance(clock, SandboxClock) else 0


async def close_gateway(gateway: Gateway) -> None:
    """Finish what waits for the book and close the files; the writer last, so that it can put its log away."""
    await gateway.book.finish()
    gateway.copier.stop()
    gateway.passwords.close()
    gateway.reader.close()
    await gateway.book.close()
