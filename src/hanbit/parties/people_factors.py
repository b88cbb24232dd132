"""Second factors of people in consoles: passkeys, and the secrets of codes that follow the time."""

import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding, aes_key_wrap_with_padding

from hanbit.crypto.envelopes import derive
from hanbit.db.change import Put, Value
from hanbit.db.reading import Reader, Row
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.parties import passkeys, time_codes
from hanbit.parties.passkeys import NewPasskey, Site

FACTORS_MAX: Final = 20
NAME_MAX: Final = passkeys.NAME_MAX


def of_person(reader: Reader, person_id: str) -> list[Row]:
    """The active second factors of somebody, oldest first."""
    sql = "SELECT * FROM people_factors WHERE person = ? AND state = 'active' ORDER BY created_at, id LIMIT ?"
    return reader.all(sql, person_id, FACTORS_MAX)


def new_code_secret(pepper: bytes, person_id: str, secret: bytes, *, step: int, name: str, at: int) -> Put:
    """The row of an authenticator app, whose code of this step was right just now and is therefore used."""
    factor_id = ids.new_token()
    wrapped = ids.encode_base64url(aes_key_wrap_with_padding(_key(pepper, factor_id), secret))
    return _put(factor_id, person_id, "totp", name, {"wrapped": wrapped}, counter=step, at=at)


def new_passkey(person_id: str, made: NewPasskey, *, name: str, at: int) -> Put:
    """The row of a passkey that was just made."""
    return _put(made.id, person_id, "passkey", name, {"key": made.key}, counter=0, at=at)


def check_code(reader: Reader, pepper: bytes, person_id: str, unverified_code: str, at: int) -> Put | None:
    """The row of the app whose code this is, with its step used up; None if it is nobody's, or was used."""
    for row in of_person(reader, person_id):
        if row["kind"] != "totp":
            continue
        step = time_codes.step_of(_secret(pepper, row), unverified_code, at=at, after=row["counter"])
        if step is not None:
            return _moved(row, counter=step)
    return None


def check_passkey(reader: Reader, person_id: str, unverified: Any, *, site: Site, challenge: bytes) -> Put:
    """The row of one's own passkey that has signed this challenge, counted on; else ProtocolViolation("passkey")."""
    named = unverified.get("id") if isinstance(unverified, dict) else None
    for row in of_person(reader, person_id):
        if row["kind"] == "passkey" and row["id"] == named:
            return _moved(row, counter=passkeys.verify_use(unverified, row["public"], row["counter"], site=site, challenge=challenge))
    raise ProtocolViolation("passkey")


def removed(row: Row) -> Put:
    """The row of a factor that counts no more."""
    return _moved(row, state="removed")


def kept(row: Row) -> Put:
    """The row as it is, with a new version: nobody else may change it in the same moment."""
    return _moved(row)


def _secret(pepper: bytes, row: Row) -> bytes:
    try:
        return aes_key_unwrap_with_padding(_key(pepper, row["id"]), ids.decode_base64url(json.loads(row["public"])["wrapped"]))
    except InvalidUnwrap as error:
        raise BadInput("the factor's secret does not open") from error


def _key(pepper: bytes, factor_id: str) -> bytes:
    """A stolen book opens nothing: the pepper lies outside it."""
    return derive(pepper, salt=factor_id.encode("ascii"), info=b"hanbit second factor")


def _moved(row: Row, **changed: str | int) -> Put:
    values: dict[str, Value] = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a database row
    return Put("people_factors", values | changed, row["version"])


def _put(factor_id: str, person_id: str, kind: str, name: str, public: Mapping[str, str], *, counter: int, at: int) -> Put:
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise BadInput(f"name of the factor: 1 to {NAME_MAX} characters")
    row: dict[str, Value] = {
        "id": factor_id,
        "person": person_id,
        "kind": kind,
        "name": name,
        "state": "active",
        "public": json.dumps(public),
        "counter": counter,
        "created_at": at,
    }
    return Put("people_factors", row, version=0)
