"""Lists of revoked certificates: made hourly and at each revocation, kept as messages, told to every merchant whose line is up.

The book's own row is the immediate switch for whatever the gateway decides; the lists are for those who cannot read the book. The gateway
authority's list names the gateway's own certificates: customers' are verified by nobody but the gateway.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from hanbit.crypto import certificates
from hanbit.db.change import Change, Put, Stale
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel.errors import Unavailable
from hanbit.payments.apply import signing_still
from hanbit.payments.gateway import Gateway
from hanbit.protocols import keys as role

AuthorityName = Literal["gateway", "merchant"]
AUTHORITIES: Final[tuple[AuthorityName, ...]] = ("gateway", "merchant")
EVERY_S: Final = 3600
TOLD_AT_ONCE_MAX: Final = 50
STALE_TRIES: Final = 5
_REVOKED: Final = (
    "SELECT serial, revoked_at FROM certificates WHERE (urn BETWEEN ? AND ? OR urn BETWEEN ? AND ?) "
    "AND revoked_at IS NOT NULL AND not_after >= ?"
)


async def publish_due(gateway: Gateway) -> int:
    """Make each authority's list that is an hour old; no payment is looked at."""
    for name in AUTHORITIES:
        known = _latest(gateway, name)  # not before the turn of each: another process may make the second while this one makes the first
        if known is None or gateway.clock.now() >= known.at + EVERY_S:
            await _publish(gateway, name, known)
    return 0


async def publish(gateway: Gateway, authority: AuthorityName) -> None:
    """Make, store and tell a new list of this authority. One that somebody else made at this moment may not name what was just revoked."""
    for _ in range(STALE_TRIES):
        if await _publish(gateway, authority, _latest(gateway, authority)):
            return


async def _publish(gateway: Gateway, authority: AuthorityName, known: "_Latest | None") -> bool:
    """The list that follows the one that was seen; False where what another process has made since then turned it away."""
    at, keyring = gateway.clock.now(), gateway.keyring
    merchants, sessions = role.everybody(gateway.urn), certificates.authority_urn(keyring.operator, "session")
    own = (gateway.urn, gateway.urn) * 2
    theirs = (f"{merchants}:", f"{merchants}:~", f"{sessions}:", f"{sessions}:~")
    rows = gateway.reader.all(_REVOKED, *(own if authority == "gateway" else theirs), at)
    # Never below the time: a book that was restored from a copy must not count on from an older number.
    number = max(at, 1 if known is None else known.number + 1)
    issuer = keyring.gateway_authority if authority == "gateway" else keyring.merchant_authority
    der = certificates.make_crl(issuer, {int(row["serial"]): row["revoked_at"] for row in rows}, at, number)
    message = role.make_crl(gateway.signer, authority, number, der, at=at)
    value = json.dumps({"number": number, "at": at, "hash": message.hash})
    row = Put("settings", {"name": f"crl:{authority}", "value": value}, 0 if known is None else known.version)
    with suppress(Stale):
        kept = record(message, merchant="", tid="")
        await gateway.book.commit(Change(requires=(signing_still(gateway),), puts=(row,), messages=(kept,)))
        await _tell_all(gateway, message.compact)
        return True
    return False


async def tell_latest(gateway: Gateway, merchant_id: str) -> None:
    """A line came up: its merchant gets the lists before anything else."""
    for name in AUTHORITIES:
        known = _latest(gateway, name)
        compact = None if known is None else evidence.compact(gateway.reader, "", "", known.hash)
        if compact is not None:
            with suppress(Unavailable):
                await gateway.line.tell(merchant_id, compact)


def authority_of(urn: str) -> AuthorityName | None:
    """The authority whose list names this party's certificates; None for customers."""
    role_name = urn.split(":")[3]
    if role_name in ("merchant", "authority"):  # the one authority that can be revoked here is a merchant's session authority
        return "merchant"
    return "gateway" if role_name == "gateway" else None


async def _tell_all(gateway: Gateway, compact: str) -> None:
    merchants = [row["id"] for row in gateway.reader.all("SELECT id FROM merchants")]
    for start in range(0, len(merchants), TOLD_AT_ONCE_MAX):
        await asyncio.gather(*(_tell(gateway, merchant_id, compact) for merchant_id in merchants[start : start + TOLD_AT_ONCE_MAX]))


async def _tell(gateway: Gateway, merchant_id: str, compact: str) -> None:
    with suppress(Unavailable):  # who is away gets the latest when its line comes up
        await gateway.line.tell(merchant_id, compact)


@dataclass(frozen=True, slots=True)
class _Latest:
    version: int
    number: int
    at: int
    hash: str


def _latest(gateway: Gateway, authority: AuthorityName) -> _Latest | None:
    row = gateway.reader.one("SELECT version, value FROM settings WHERE name = ?", f"crl:{authority}")
    return None if row is None else _Latest(row["version"], **json.loads(row["value"]))
