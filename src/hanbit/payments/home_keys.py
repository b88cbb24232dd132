"""What a customer approves with: passkeys, device keys with their one-time codes; named by him, removed by him with a fresh approval.

The certificate of a device key that goes is revoked in the same Change, and its one-time-code secret goes with it.
"""

from dataclasses import dataclass
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hanbit.db.change import Change, Put, Stale
from hanbit.db.reading import Row
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotFound, WrongState
from hanbit.parties.passkeys import NAME_MAX
from hanbit.payments import sealed_forms
from hanbit.payments.gateway import Gateway
from hanbit.payments.home import Assertion, Secret, Text, approved
from hanbit.payments.redirect_flow import SignedIn
from hanbit.payments.sign_in import act

RENAME, REMOVE = "rename", "remove"
KEYS_MAX: Final = 100
HANDLE_SIGNS: Final = 22
_ACTIVE: Final = "SELECT * FROM devices WHERE customer = ? AND state = 'active' ORDER BY created_at DESC, id LIMIT ?"


@dataclass(frozen=True, slots=True)
class Key:
    """One of them, as pages show it; `handle` names it in addresses and forms."""

    handle: str
    kind: str
    name: str
    created_at: int
    used_at: int | None


class RenameFields(Struct, frozen=True, forbid_unknown_fields=True):
    """Which one, and what it is called from now on."""

    key: Text
    name: Text


class RemoveFields(Struct, frozen=True, forbid_unknown_fields=True):
    """Which one, and the fresh approval: the log-in password, or what a passkey signs."""

    key: Text
    password: Secret = ""
    assertion: Assertion = None


def of_customer(gateway: Gateway, customer: str) -> list[Key]:
    """What a customer approves with, the newest first; a device's code is a part of it and not listed by itself."""
    rows = gateway.reader.all(_ACTIVE, customer, KEYS_MAX)
    devices = {row["id"] for row in rows}
    codes = {row["id"]: row["used_at"] for row in rows if row["kind"] == "code"}
    return [
        Key(_handle(row["id"]), row["kind"], row["name"], row["created_at"], _later(row["used_at"], codes.get(f"code:{row['id']}")))
        for row in rows
        if row["kind"] != "code" or row["id"].removeprefix("code:") not in devices
    ]


def find(gateway: Gateway, customer: str, handle: str) -> Key:
    """One's own; somebody else's is not found."""
    for key in of_customer(gateway, customer):
        if key.handle == handle:
            return key
    raise NotFound("no such key")


async def rename(gateway: Gateway, who: SignedIn, unverified: bytes) -> None:
    """Another name for one of them."""
    fields, _, _, used = sealed_forms.opened(gateway, unverified, RenameFields, RENAME, who.session.token_hash)
    name = fields.name.strip()
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise BadInput("name")
    puts = tuple(_put(row, name=name) for row in _rows(gateway, who, fields.key))
    await _commit(gateway, who, (used, *puts), "rename key", "ok")


async def remove(gateway: Gateway, who: SignedIn, unverified: bytes) -> None:
    """It approves nothing any more, from this moment."""
    fields, ctx, n, used = sealed_forms.opened(gateway, unverified, RemoveFields, REMOVE, who.session.token_hash)
    rows = _rows(gateway, who, fields.key)
    counted = await approved(gateway, who, "remove key", password=fields.password, assertion=fields.assertion, ctx=ctx, n=n)
    ids_of = {row["id"] for row in rows}
    puts = [_put(row, state="removed") for row in rows]
    for row in rows:
        certificate = gateway.reader.one("SELECT * FROM certificates WHERE kid = ?", row["id"]) if row["kind"] == "device" else None
        if certificate is not None and certificate["revoked_at"] is None:
            puts.append(replace(_put(certificate, table="certificates"), changed=("revoked_at",), stamped="revoked_at"))
    others = [put for put in counted if put.row["id"] not in ids_of]  # a passkey may approve its own end
    await _commit(gateway, who, (used, *puts, *others), "remove key", rows[0]["kind"])


def _rows(gateway: Gateway, who: SignedIn, handle: str) -> list[Row]:
    """The key's row, and that of the code that came with it."""
    rows = gateway.reader.all(_ACTIVE, who.customer.id, KEYS_MAX)
    named = [row for row in rows if _handle(row["id"]) == handle]
    if not named:
        raise NotFound("no such key")
    return named + [row for row in rows if row["id"] == f"code:{named[0]['id']}"]


def _put(row: Row, *, table: str = "devices", **changed: str | int) -> Put:
    kept = {name: row[name] for name in row.keys() if name != "version"}  # noqa: SIM118 - a database row
    return Put(table, kept | changed, row["version"], changed=tuple(changed))


def _handle(device: str) -> str:
    return ids.digest(device.encode("ascii"))[:HANDLE_SIGNS]


def _later(one: int | None, other: int | None) -> int | None:
    found = [moment for moment in (one, other) if moment is not None]
    return max(found) if found else None


async def _commit(gateway: Gateway, who: SignedIn, puts: tuple[Put, ...], what: str, reason: str) -> None:
    try:
        audit = act(gateway.clock.now(), f"customer:{who.customer.id}", what, reason)
        await gateway.book.commit(Change(puts=puts, appends=(audit,)))
    except Stale as error:
        raise WrongState("this was changed at the same moment, or sent already: load the page again") from error
