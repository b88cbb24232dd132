"""A backup is taken whole or not at all: no byte of it can be changed, cut off or added without being found, and what is wrong is named."""

import hashlib
import io
import secrets
import subprocess
import tarfile
from pathlib import Path

import pytest

from hanbit.crypto import passphrases
from hanbit.kernel.errors import BadInput, Conflict
from hanbit.upkeep import archive, keys
from hanbit.upkeep.archive import BadBackup, Manifest, Writer

BOOK = bytes(range(256)) * 5 + b"the end of the book"
AT = 1_800_000_000
MANIFEST = Manifest("hanbit-backup-1", "0.1.0", "bank", 2, AT, {"pepper": "x", "server.key": "y"}, ())
PASSPHRASE = "correct horse battery"


def write(path: Path, members: dict[str, bytes], manifest: Manifest = MANIFEST) -> str:
    with Writer(path, AT) as writer:
        for name, content in members.items():
            writer.add(name, len(content), (content,))
        return writer.finish(manifest)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup"
    write(path, {"book.sqlite": BOOK, "hanbit.toml": b'operator = "bank"\n', "root.pem": b"root", "keys.sealed": b"sealed"})
    return path


def refused(path: Path, content: bytes) -> str:
    """What is said of these bytes."""
    path.write_bytes(content)
    with pytest.raises(BadBackup) as caught:
        archive.check(path)
    return caught.value.detail


def test_what_was_put_in_comes_out(backup: Path) -> None:
    book = io.BytesIO()
    manifest, small = archive.check(backup, {"book.sqlite": book})
    assert (book.getvalue(), small["root.pem"], small["keys.sealed"]) == (BOOK, b"root", b"sealed")
    assert [member.name for member in manifest.members] == ["book.sqlite", "hanbit.toml", "root.pem", "keys.sealed"]
    assert backup.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in backup.parent.iterdir()] == ["backup"], "nothing is left beside it"


def test_ordinary_tools_take_it_apart_and_check_it(backup: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    subprocess.run(["tar", "-xf", backup, "-C", apart], check=True)
    assert (apart / "book.sqlite").read_bytes() == BOOK
    subprocess.run(["sha256sum", "--check", "--strict", "manifest.sha256"], cwd=apart, check=True, capture_output=True)
    assert hashlib.sha256(BOOK).hexdigest() in (apart / "manifest.json").read_text("utf-8")


def test_any_changed_byte_is_found(backup: Path, tmp_path: Path) -> None:
    """Headers, contents, padding, end; which bytes of each is decided anew each time."""
    whole = bytearray(backup.read_bytes())
    for at in [start + secrets.randbelow(8) for start in range(0, len(whole), 8)]:
        whole[at] ^= 1
        assert refused(tmp_path / "changed", bytes(whole)), at
        whole[at] ^= 1
    archive.check(backup)


def test_a_backup_that_is_cut_off_is_found_wherever(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    for length in sorted({*range(0, len(whole), 37), *range(0, len(whole), 512), len(whole) - 1}):
        assert refused(tmp_path / "torn", whole[:length]), length


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda whole: whole + b"\0", "the end of the file"),
        (lambda whole: whole + bytes(10_240), "the end of the file"),
        (lambda whole: whole[: len(whole) // 3], "cut off"),
        (lambda whole: whole.replace(b"the end of the book", b"the end of the bank"), "book.sqlite is not what the manifest says"),
        (lambda whole: whole.replace(b'"operator": "bank"', b'"operator": "bunk"'), "manifest.json was changed"),
        (lambda whole: b"", "cut off"),
        (lambda whole: b"SQLite format 3\0" + bytes(4096), "no backup of hanbit"),
        (lambda whole: whole[512:], "no backup of hanbit"),
    ],
)
def test_what_is_wrong_is_named(edit: object, said: str, backup: Path, tmp_path: Path) -> None:
    assert callable(edit)
    assert said in refused(tmp_path / "bad", edit(backup.read_bytes()))


def member(name: str, content: bytes, **facts: object) -> bytes:
    """A member as anybody's tar could write it."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), AT, 0o600
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


@pytest.mark.parametrize(
    "made",
    [
        member("../book.sqlite", BOOK),
        member("/etc/passwd", b"x"),
        member("book.sqlite", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("book.sqlite", b"", type=tarfile.DIRTYPE),
        member("book.sqlite", BOOK, mode=0o777),
        member("book.sqlite", BOOK, uname="root"),
        member("book.sqlite", BOOK) * 2,
        member("root.pem", b"x") + member("book.sqlite", BOOK),
        member("hanbit.toml", bytes(archive.SMALL_MAX + 1)),
        member("more", b"x"),
    ],
)
def test_what_no_backup_holds_is_refused(made: bytes, tmp_path: Path) -> None:
    refused(tmp_path / "strange", made + bytes(1024))


@pytest.mark.parametrize("left_out", ["book.sqlite", "hanbit.toml", "root.pem"])
def test_a_backup_without_a_part_that_it_needs_is_refused(left_out: str, tmp_path: Path) -> None:
    members = {name: b"x" for name in ("book.sqlite", "hanbit.toml", "root.pem") if name != left_out}
    write(tmp_path / "part", members)
    with pytest.raises(BadBackup):
        archive.check(tmp_path / "part")


def test_a_name_that_is_taken_is_left_alone(backup: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(Conflict):
        write(backup, {"book.sqlite": b"other"})
    assert backup.read_bytes() == before


def test_a_backup_that_is_not_finished_has_no_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="changed while it was copied"), Writer(tmp_path / "half", AT) as writer:
        writer.add("book.sqlite", 5, (b"1234",))
    assert list(tmp_path.iterdir()) == []


# --- the keys ---------------------------------------------------------------------------------------------------------------------


def folder_of_keys(path: Path) -> Path:
    path.mkdir()
    for name, content in {"pepper": b"p" * 32, "server.key": b"s" * 32, "root.pem": b"root", "line.key": b"line"}.items():
        (path / name).write_bytes(content)
    (path / "seal-1800000000.key").write_bytes(b"of today")
    (path / "seal-1800000000.pem").write_bytes(b"of today")
    return path


def test_sealing_keys_are_in_no_backup(tmp_path: Path) -> None:
    """Their destruction after a day means something."""
    assert set(keys.read(folder_of_keys(tmp_path / "keys"))) == {"pepper", "server.key", "root.pem", "line.key"}


def test_sealed_keys_open_under_their_passphrase_and_for_their_backup_only(tmp_path: Path) -> None:
    found = keys.read(folder_of_keys(tmp_path / "keys"))
    sealed = keys.seal(found, PASSPHRASE, b"bank 1")
    assert keys.unseal(sealed, PASSPHRASE, b"bank 1") == found
    assert b"pppppp" not in sealed
    for passphrase, bound_to in ((PASSPHRASE + "y", b"bank 1"), (PASSPHRASE, b"bank 2")):
        with pytest.raises(BadInput):
            keys.unseal(sealed, passphrase, bound_to)
    for at in (0, 20, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(BadInput):
            keys.unseal(bytes(changed), PASSPHRASE, b"bank 1")
    with pytest.raises(BadInput):
        keys.unseal(sealed[:40], PASSPHRASE, b"bank 1")


def test_a_short_passphrase_seals_nothing() -> None:
    with pytest.raises(BadInput, match="12 to"):
        passphrases.seal(b"x", "short", bound_to=b"")


def test_another_folders_keys_are_not_taken(tmp_path: Path) -> None:
    """A restored book under another pepper would refuse every password."""
    found = keys.read(folder_of_keys(tmp_path / "keys"))
    manifest = Manifest("hanbit-backup-1", "0.1.0", "bank", 2, AT, keys.fingerprints(found), ())
    keys.compare(found, manifest, b"root")
    for change in ({"pepper": b"q" * 32}, {"server.key": b"q" * 32}, {"root.pem": b"other"}):
        with pytest.raises(BadInput, match="these keys are"):
            keys.compare(found | change, manifest, b"root")


def test_a_folder_without_keys_or_with_strangers_is_named(tmp_path: Path) -> None:
    folder = folder_of_keys(tmp_path / "keys")
    (folder / "pepper").unlink()
    with pytest.raises(BadInput, match="pepper is missing"):
        keys.read(folder)
    (folder / "pepper").symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="no key of ours"):
        keys.read(folder)
