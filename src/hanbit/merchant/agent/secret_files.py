"""The agent's own secrets, made at the first start and readable by their owner only: the token of its API, a secret an endpoint.

DIR/agent.token            one line; whoever can read it may use the API
DIR/callbacks/NAME.secret  `whsec_…` lines (Standard Webhooks); the first signs, and so does each further one while a shop changes over
"""

import base64
import binascii
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hanbit.kernel.errors import BadInput
from hanbit.merchant import files

TOKEN_FILE: Final = "agent.token"  # noqa: S105 - the file's name
CALLBACKS_FOLDER: Final = "callbacks"
PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
SECRET_BYTES_MIN: Final = 24
"""Standard Webhooks: 24 to 64 bytes."""
SECRET_BYTES_MAX: Final = 64
SECRETS_MAX: Final = 4
_FILE_MAX: Final = 4096
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,200}")


def token(directory: Path) -> str:
    """The API's token."""
    path = directory / TOKEN_FILE
    text = _read_or_make(path, lambda: secrets.token_urlsafe(32)).strip()
    if not _TOKEN.fullmatch(text):
        raise BadInput(f"{path}: 32 to 200 of A-Z a-z 0-9 - _ on one line; delete the file to get a new one")
    return text


def endpoint_secrets(directory: Path, name: str) -> tuple[bytes, ...]:
    """The keys with which an endpoint's events are signed, each of them."""
    path = directory / CALLBACKS_FOLDER / f"{name}.secret"
    files.make_private(path.parent)
    lines = _read_or_make(path, lambda: PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")).split()
    try:
        keys = tuple(base64.b64decode(line.removeprefix(PREFIX), validate=True) for line in lines)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"{path}: whsec_ and base64") from error
    if not 1 <= len(keys) <= SECRETS_MAX or not all(SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX for key in keys):
        raise BadInput(f"{path}: 1 to {SECRETS_MAX} lines of whsec_ and the base64 of 24 to 64 bytes")
    return keys


def _read_or_make(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        files.write_private(path, make().encode("ascii") + b"\n")
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise BadInput(f"{path}: others can read it; run: chmod 600 {path}")
        content = file.read(_FILE_MAX + 1)
    if len(content) > _FILE_MAX or not content.isascii():
        raise BadInput(f"{path}: this is no secret of the agent")
    return content.decode("ascii")
