"""The file of a backup: a plain tar whose last member says what every byte before it must be.

    book.sqlite     the book, as one consistent snapshot
    hanbit.toml     the settings
    root.pem        the operator's root certificate, to check the evidence with
    keys.sealed     private keys and pepper under a passphrase, if asked for
    manifest.json   who, when, which schema; size and SHA-256 of each member
    manifest.sha256 the digest of the manifest, as sha256sum prints it

`tar -xf` takes it apart and `sha256sum -c` checks it, without this program. Read by it, no byte is left out: headers are made again from
what they say and compared, padding is zero, nothing follows the end.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, Self

import msgspec

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Conflict

BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
BOOK, SETTINGS, ROOT, KEYS, MANIFEST, DIGEST = "book.sqlite", "hanbit.toml", "root.pem", "keys.sealed", "manifest.json", "manifest.sha256"
ORDER = (BOOK, SETTINGS, ROOT, KEYS, MANIFEST, DIGEST)
SMALL_MAX = 4 << 20
"""Bytes of a member that is not the book."""
END = bytes(2 * BLOCK)


class BadBackup(BadInput):
    """A backup that is torn, edited or none; the detail names what is wrong."""

    code = "bad_backup"
    advice = "Use another backup. Nothing was written."


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one member must be."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself."""

    format: Literal["hanbit-backup-1"]
    program: str
    operator: str
    db_schema: int = msgspec.field(name="schema")
    made_at: int
    secrets: dict[str, str]
    """Name → fingerprint of the two secrets without which the book is useless: the right keys folder is known by them."""
    members: tuple[Member, ...]

    @property
    def bound_to(self) -> bytes:
        """What the sealed keys of this backup are bound to."""
        return f"{self.operator} {self.made_at}".encode()


class Writer:
    """Writes a new backup file: whole under its name at the end, or not at all. Refuses a name that is taken."""

    def __init__(self, path: Path, made_at: int) -> None:
        if path.exists():
            raise Conflict(f"{path} exists")
        self._path, self._made_at = path, made_at
        self._temporary = path.with_name(f".{path.name}.{ids.new_token()}")
        self._file = os.fdopen(os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """One member; BadInput if it has another size than it was said to have."""
        hashed, written = hashlib.sha256(), 0
        self._file.write(_header(name, size, self._made_at))
        for chunk in chunks:
            hashed.update(chunk)
            written += len(chunk)
            self._file.write(chunk)
        if written != size:
            raise BadInput(f"{name} changed while it was copied")
        self._file.write(bytes(-size % BLOCK))
        self.members.append(Member(name, size, hashed.hexdigest()))

    def finish(self, manifest: Manifest) -> str:
        """Write the manifest of what was added, make all of it durable, give the file its name; returns the manifest's SHA-256."""
        complete = msgspec.structs.replace(manifest, members=tuple(self.members))
        text = msgspec.json.format(msgspec.json.encode(complete)) + b"\n"
        digest = hashlib.sha256(text).hexdigest()
        self.add(MANIFEST, len(text), (text,))
        line = _digest_line(digest)
        self.add(DIGEST, len(line), (line,))
        self._file.write(END)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temporary.rename(self._path)
        sync_folder(self._path.parent)
        return digest


def check(path: Path, into: Mapping[str, BinaryIO] | None = None) -> tuple[Manifest, dict[str, bytes]]:
    """Read every byte; returns the manifest and the small members, and writes a member named in `into` there. Else BadBackup says what."""
    try:
        with path.open("rb") as file:
            return _Reading(file, path.stat().st_size).run(into or {})
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error


class _Reading:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._made_at: int | None = None
        self._found: list[Member] = []
        self._small: dict[str, bytes] = {}

    def run(self, into: Mapping[str, BinaryIO]) -> tuple[Manifest, dict[str, bytes]]:
        while DIGEST not in self._small:
            self._member(into)
        if self._file.read(len(END) + 1) != END:
            raise BadBackup("the end of the file is not where its last member ends")
        return self._compare(), self._small

    def _member(self, into: Mapping[str, BinaryIO]) -> None:
        start = self._file.tell()
        block = self._exactly(BLOCK, "a header")
        try:
            found = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise BadBackup("this is no backup of hanbit" if not start else f"the header at byte {start} was changed") from error
        self._made_at = int(found.mtime) if self._made_at is None else self._made_at
        known = ORDER.index(found.name) if found.name in ORDER else -1
        if known <= max((ORDER.index(member.name) for member in self._found), default=-1):
            raise BadBackup(f"{_shown(found.name)} at byte {start} is not what a backup holds there")
        if found.size < 0 or block != _header(found.name, found.size, self._made_at):
            raise BadBackup(f"the header of {found.name} was changed")
        if found.size > self._size - self._file.tell() or (found.name != BOOK and found.size > SMALL_MAX):
            raise BadBackup(f"{found.name} is cut off" if found.name == BOOK else f"{found.name} is cut off or too large")
        hashed, kept = hashlib.sha256(), bytearray()
        for chunk in self._chunks(found.name, found.size):
            hashed.update(chunk)
            if found.name != BOOK:
                kept += chunk
            if found.name in into:
                into[found.name].write(chunk)
        if any(self._exactly(-found.size % BLOCK, found.name)):
            raise BadBackup(f"the bytes after {found.name} were changed")
        self._found.append(Member(found.name, found.size, hashed.hexdigest()))
        if found.name != BOOK:
            self._small[found.name] = bytes(kept)

    def _chunks(self, name: str, size: int) -> Iterator[bytes]:
        while size:
            chunk = self._exactly(min(size, CHUNK), name)
            size -= len(chunk)
            yield chunk

    def _exactly(self, count: int, what: str) -> bytes:
        found = self._file.read(count)
        if len(found) != count:
            raise BadBackup(f"the file is cut off in {what}, at byte {self._file.tell()}")
        return found

    def _compare(self) -> Manifest:
        text = self._small.get(MANIFEST, b"")
        if self._small[DIGEST] != _digest_line(hashlib.sha256(text).hexdigest()):
            raise BadBackup(f"{MANIFEST} was changed: its SHA-256 is not that of {DIGEST}")
        try:
            manifest = msgspec.json.decode(text, type=Manifest)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise BadBackup(f"{MANIFEST} is not one that this program reads: {error}") from error
        told = {member.name: member for member in manifest.members}
        found = {member.name: member for member in self._found if member.name not in {MANIFEST, DIGEST}}
        for name in ORDER[:-2]:
            if told.get(name) != found.get(name):
                raise BadBackup(f"{name} is not what the manifest says: it was changed, left out or added")
        if len(manifest.members) != len(found) or not {BOOK, SETTINGS, ROOT} <= found.keys() or manifest.made_at != self._made_at:
            raise BadBackup(f"{MANIFEST} does not describe this file")
        return manifest


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """A file piece by piece."""
    while chunk := file.read(CHUNK):
        yield chunk


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(name: str) -> str:
    """A name from an unverified file, fit to be shown."""
    return repr(name[:40])


def _header(name: str, size: int, made_at: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, made_at, 0o600
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def _digest_line(digest: str) -> bytes:
    return f"{digest}  {MANIFEST}\n".encode("ascii")
