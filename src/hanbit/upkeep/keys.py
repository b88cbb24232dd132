"""The keys of a data folder as a backup carries them and as a restored folder gets them: everything but the sealing keys.

A sealing key lives for a day, and its private half is destroyed so that nobody can open what was sealed to it before. A copy in a backup
would undo that; the server makes a new one when it starts. A login that was recorded before a restore therefore opens nothing after it.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from hanbit.crypto import passphrases
from hanbit.kernel.errors import BadInput
from hanbit.parties.keyring import write_secret
from hanbit.upkeep.archive import SMALL_MAX, BadBackup, Manifest, sync_folder

SECRETS = ("pepper", "server.key")
NAME = re.compile(r"(?:[a-z0-9][a-z0-9_-]{0,60}/){0,2}[a-z0-9][a-z0-9._-]{0,80}", re.IGNORECASE)
FILE_MAX = 256 << 10
UNUSED = (".pending", ".doomed")
"""What a key is called before it is in use, and when its destruction has begun."""


def read(folder: Path) -> dict[str, bytes]:
    """Name → content of every key file that outlives a day; BadInput if there is one that no keys folder holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or path.name.startswith("seal-") or path.suffix in UNUSED:
            continue
        if not NAME.fullmatch(name) or path.is_symlink() or path.stat().st_size > FILE_MAX:
            raise BadInput(f"{path} is no key of ours: move it elsewhere")
        found[name] = path.read_bytes()
    for name in (*SECRETS, "root.pem"):
        if name not in found:
            raise BadInput(f"{folder / name} is missing: a keys folder is needed")
    return found


def fingerprints(keys: Mapping[str, bytes]) -> dict[str, str]:
    """By which the two secrets of a folder are recognised; they have 256 random bits, so nothing follows from it."""
    return {name: hashlib.sha256(f"hanbit {name}\0".encode() + keys[name]).hexdigest() for name in SECRETS}


def seal(keys: Mapping[str, bytes], passphrase: str, bound_to: bytes) -> bytes:
    """All keys under a passphrase."""
    plain = msgspec.json.encode({name: base64.b64encode(content).decode("ascii") for name, content in keys.items()})
    if len(plain) > SMALL_MAX // 2:
        raise BadInput("there is more in the keys folder than keys")
    return passphrases.seal(plain, passphrase, bound_to=bound_to)


def unseal(sealed: bytes, passphrase: str, bound_to: bytes) -> dict[str, bytes]:
    """The keys that `seal` sealed."""
    try:
        found = msgspec.json.decode(passphrases.unseal(sealed, passphrase, bound_to=bound_to), type=dict[str, str])
        keys = {name: base64.b64decode(text, validate=True) for name, text in found.items()}
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadBackup("the sealed keys are none") from error
    for name in keys:
        if not NAME.fullmatch(name) or name.startswith("seal-"):
            raise BadBackup(f"the sealed keys hold {name[:40]!r}")
    return keys


def compare(keys: Mapping[str, bytes], manifest: Manifest, root: bytes) -> None:
    """BadInput unless these are the keys of the folder that was backed up."""
    if not all(name in keys for name in (*SECRETS, "root.pem")) or keys["root.pem"] != root:
        raise BadInput("these keys are another operator's: their root is not the backup's")
    for name, fingerprint in fingerprints(keys).items():
        if manifest.secrets.get(name) != fingerprint:
            raise BadInput(f"these keys are not those of this book: {name} is another one, and no password would be right")


def write(keys: Mapping[str, bytes], folder: Path) -> None:
    """Write every key into a new folder, where only the owner may read it."""
    folder.mkdir(mode=0o700)
    for name, content in keys.items():
        path = folder / name
        for parent in reversed(path.relative_to(folder).parents):
            (folder / parent).mkdir(mode=0o700, exist_ok=True)
        write_secret(path, content)
    sync_folder(folder)
