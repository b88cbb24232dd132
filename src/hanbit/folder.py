"""A data folder: who holds it, how it is made, and how its parts are put together into a Gateway."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hanbit.crypto.passwords import Passwords
from hanbit.db import sqlite
from hanbit.db.change import Change
from hanbit.db.commit import Book
from hanbit.db.copying import Copier
from hanbit.db.reading import Reader
from hanbit.db.sqlite import BOOK_FILE, SqliteStore
from hanbit.db.sqlite_file import DatabaseError
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, Conflict, Unavailable
from hanbit.line.figures import LineFigures
from hanbit.parties import keyring
from hanbit.parties.registry import Registry
from hanbit.payments import operations
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
def hold(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone; Conflict names the process that has it, BadInput says that this is no data folder."""
    if not (folder / FILE).is_file():
        raise BadInput(f"{folder} is no data folder: {FILE} is missing (make one with: hanbit init {folder})")
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(f"{folder} is held by process {holder}") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def create(folder: Path, settings: Settings, clock: Clock, *, root_key: Path | None, root_passphrase: bytes | None) -> None:
    """Make a data folder: keys, settings, empty book with the operator's accounts. Conflict if there is something already."""
    at = clock.now()
    _make_empty(folder)
    keys = keyring.create(
        folder / KEYS_FOLDER,
        settings,
        at,
        root_key=root_key or folder / KEYS_FOLDER / "root.key",
        root_passphrase=root_passphrase,
    )
    keyring.write_secret(folder / FILE, dump(settings).encode("utf-8"))
    sqlite.create_book(folder / BOOK_FILE, settings.operator, at)
    with hold(folder):
        gateway = open_gateway(folder, clock)
        try:
            await gateway.book.commit(Change(puts=tuple(keys)))
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
    line: Callable[[Settings, keyring.Keyring, Registry], AskingLine] | None = None,
    observe: Callable[[str, str], None] = lambda _what, _reason: None,
    observe_batch: Callable[[int, float], None] | None = None,
) -> Gateway:
    """Put the parts of a data folder together; the caller holds the folder."""
    settings = load(folder)
    if not (folder / BOOK_FILE).exists():
        raise BadInput(f"{folder / BOOK_FILE} is missing")
    keys = keyring.load(folder / KEYS_FOLDER, settings)
    try:
        book = Book(lambda: SqliteStore(folder / BOOK_FILE), clock, observe=observe_batch)
        reader = Reader(folder / BOOK_FILE)
    except DatabaseError as error:
        raise BadInput(f"{folder / BOOK_FILE} cannot be read as a book: {error}") from error
    registry = Registry(reader, keys.root, settings.operator)
    return Gateway(
        settings=settings,
        clock=clock,
        book=book,
        reader=reader,
        keyring=keys,
        registry=registry,
        passwords=Passwords(keys.pepper, workers=settings.password_workers, waiting_max=settings.password_waiting_max),
        line=NoLine() if line is None else line(settings, keys, registry),
        observe=observe,
        copier=Copier(folder / BOOK_FILE),
    )


async def close_gateway(gateway: Gateway) -> None:
    """Finish what waits for the book and close the files; the writer last, so that it can put its log away."""
    await gateway.book.finish()
    gateway.copier.stop()
    gateway.passwords.close()
    gateway.reader.close()
    await gateway.book.close()
