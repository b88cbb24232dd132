"""Which schema a book has, held against this program's; the error says what to do with one that is older or newer."""

from hanbit.db import schema
from hanbit.kernel.errors import BadInput


class OldBook(BadInput):
    """An earlier release wrote this book."""

    code = "old_book"
    advice = "It is upgraded by that command, with a backup first; the server is stopped for it."


class NewerBook(BadInput):
    """A later release wrote this book."""

    code = "newer_book"
    advice = "Install the version of hanbit that wrote it, or restore the backup that was made before the upgrade."


def check_version(found: object, where: object, folder: object) -> None:
    """BadInput unless this is the number of today's schema."""
    if not isinstance(found, int):
        raise BadInput(f"{where} is not a book of schema {schema.SCHEMA_VERSION}")
    if found < schema.SCHEMA_VERSION:
        raise OldBook(f"{where} is of schema {found}, this program needs {schema.SCHEMA_VERSION}: hanbit upgrade --data {folder}")
    if found > schema.SCHEMA_VERSION:
        raise NewerBook(f"{where} is of schema {found}, newer than this program ({schema.SCHEMA_VERSION})")
