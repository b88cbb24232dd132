"""`hanbit restore`: a new data folder from a backup and its keys, proved before it can be served.

The settings come last: a folder without `hanbit.toml` is no data folder, so whatever stops this leaves nothing that a server would run on.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hanbit import settings
from hanbit.db.sqlite import BOOK_FILE
from hanbit.folder import KEYS_FOLDER
from hanbit.kernel.errors import BadInput, Conflict
from hanbit.parties import keyring
from hanbit.parties.keyring import write_secret
from hanbit.upkeep import archive, keys
from hanbit.upkeep.backup import Say, silent, verify


def restore(path: Path, folder: Path, *, passphrase: str | None, keys_folder: Path | None, say: Say = silent) -> dict[str, Any]:
    """Fill a new or empty folder. The keys come from the backup, with its passphrase, or from the folder where they were kept apart."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is not empty")
    say("reading the backup")
    manifest, small = archive.check(path)  # every byte, before anything is written
    found = _keys(manifest, small, passphrase, keys_folder)
    keys.compare(found, manifest, small[archive.ROOT])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    made = (folder / BOOK_FILE, folder / KEYS_FOLDER, folder / settings.FILE)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".restoring-") as scratch:
            manifest, proof = verify(path, Path(scratch), say)
            (Path(scratch) / archive.BOOK).rename(folder / BOOK_FILE)
            keys.write(found, folder / KEYS_FOLDER)
            write_secret(Path(scratch) / settings.FILE, small[archive.SETTINGS])
            keyring.load(folder / KEYS_FOLDER, settings.load(Path(scratch)))  # book, keys and settings fit together
            archive.sync_folder(folder)
            (Path(scratch) / settings.FILE).rename(folder / settings.FILE)
        archive.sync_folder(folder)
    except BaseException:
        for left in made:
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        raise
    return {"folder": str(folder), "made_at": manifest.made_at, "program": manifest.program} | proof.shown()


def _keys(manifest: archive.Manifest, small: dict[str, bytes], passphrase: str | None, keys_folder: Path | None) -> dict[str, bytes]:
    if keys_folder is not None:
        return keys.read(keys_folder)
    sealed = small.get(archive.KEYS)
    if sealed is None:
        raise BadInput("this backup was made without keys: name the folder where they are kept with --keys")
    if passphrase is None:
        raise BadInput("the keys of this backup are sealed: its passphrase is needed")
    return keys.unseal(sealed, passphrase, manifest.bound_to)
