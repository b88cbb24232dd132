"""The gateway's own keys, renewed while it runs: sealing keys by the day, signing and line keys before two thirds of their life.

    prepared (files, not in use) ──▶ certificate and its record committed ──▶ adopted: in use, the key before it destroyed

A stop anywhere leaves the old key in use; what was prepared and not adopted is cleared away at the next start.

With several machines the Change that registers a certificate also holds its key, sealed for the others; each takes over what it lacks, and
whoever made it begins to use it a moment later, so that a page from one machine can be answered at another.
"""

import asyncio
import logging
from contextlib import suppress

from hanbit.crypto.certificates import validity
from hanbit.db.change import Change, Delete, Put, Stale, Value
from hanbit.kernel import fail_points
from hanbit.kernel.errors import HanbitError
from hanbit.parties.keyring import RENEWED, SEAL, SEAL_KEPT_S, SIGNING_LIFE_S, Prepared
from hanbit.payments.apply import signing_still
from hanbit.payments.certificates import is_revoked, issue
from hanbit.payments.gateway import Gateway

OTHERS_LOOK_S = 4.0
"""Until every other machine has looked what new keys there are; they do so every other second."""
SHARED_MAX = 100
_log = logging.getLogger("hanbit.keys")


async def renew_due(gateway: Gateway) -> int:
    """Make every key of the gateway's own for which it is time; no payment is looked at."""
    keyring = gateway.keyring
    keyring.destroy_old_seals(gateway.clock.now())
    async with keyring.renewing:
        for purpose in _wanted(gateway):
            await renew(gateway, purpose)
    if gateway.settings.several_machines:
        await _clear_shared(gateway)
    return 0


async def exchange(gateway: Gateway) -> None:
    """Take over the keys that other machines have made; for every machine, whoever's turn it is to make new ones."""
    if not gateway.settings.several_machines:
        return
    keyring, at = gateway.keyring, gateway.clock.now()
    rows = gateway.reader.all("SELECT stem, purpose, made_at, sealed FROM shared_keys ORDER BY made_at LIMIT ?", SHARED_MAX)
    new = [row for row in rows if keyring.lacks(row["stem"], row["purpose"], row["made_at"], at)]
    if not new or keyring.renewing.is_held:  # what we have just made ourselves is no news
        return
    async with keyring.renewing:
        keyring.destroy_old_seals(at)
        for row in new:
            if keyring.lacks(row["stem"], row["purpose"], row["made_at"], at):
                try:
                    keyring.receive(row["stem"], row["sealed"])
                except HanbitError:
                    _log.exception("a key from another machine does not open: is keys/server.key the same there?")
                    return
                _log.info("a key of the gateway's own came from another machine", extra={"purpose": row["purpose"]})


async def _clear_shared(gateway: Gateway) -> None:
    """Sealing keys go from the book when they are destroyed in the folders, the others when their certificates have ended."""
    at = gateway.clock.now()
    rows = gateway.reader.all("SELECT stem, purpose, made_at, version FROM shared_keys ORDER BY made_at LIMIT ?", SHARED_MAX)
    old = [row for row in rows if at > row["made_at"] + (SEAL_KEPT_S if row["purpose"] == SEAL else SIGNING_LIFE_S)]
    if old:
        with suppress(Stale):
            await gateway.book.commit(Change(deletes=tuple(Delete("shared_keys", (row["stem"],), row["version"]) for row in old)))


def _shared(gateway: Gateway, prepared: Prepared) -> tuple[Put, ...]:
    if not gateway.settings.several_machines:
        return ()
    row: dict[str, Value] = {
        "stem": prepared.stem.name,
        "purpose": prepared.purpose,
        "made_at": prepared.made_at,
        "sealed": gateway.keyring.wrap(prepared),
    }
    return (Put("shared_keys", row, 0),)


def _wanted(gateway: Gateway) -> list[str]:
    """What is due, and what the book calls revoked or (restored from a copy) does not know; the signing key first: it signs the records."""
    keyring = gateway.keyring
    own = {"gateway-sign": keyring.signer, "line": keyring.line}
    wanted = {*keyring.due(gateway.clock.now()), *(purpose for purpose in RENEWED if is_revoked(gateway, own[purpose].kid))}
    return sorted(wanted, key=(*RENEWED, SEAL).index)


async def renew(gateway: Gateway, purpose: str) -> None:
    """A new key of the gateway's own for this purpose, in use when this returns; if the book does not take it the old one stays."""
    at, keyring = gateway.clock.now(), gateway.keyring
    prepared = keyring.prepare(purpose, at)
    fail_points.reach("keys.prepared")
    try:
        # A key that was revoked, or has expired while the server was down, may say nothing any more, not even of its successor.
        is_mute = purpose == "gateway-sign" and not _may_sign(gateway, at)
        signer = prepared.signer if is_mute else gateway.signer
        made = issue(gateway, (keyring.certificate_row(prepared),), how="own", at=at, signer=signer)
        shared = _shared(gateway, prepared)
        await gateway.book.commit(made.change(requires=() if is_mute else (signing_still(gateway),), puts=shared))
    except BaseException:  # also a commit whose answer is lost: a certificate without a key harms nobody
        prepared.discard()
        raise
    fail_points.reach("keys.registered")
    if shared:
        await asyncio.sleep(OTHERS_LOOK_S)
    keyring.adopt(prepared)
    fail_points.reach("keys.adopted")
    _log.info("a key of the gateway's own was renewed", extra={"purpose": purpose})


def _may_sign(gateway: Gateway, at: int) -> bool:
    not_before, not_after = validity(gateway.signer.chain[0])
    return not_before <= at <= not_after and not is_revoked(gateway, gateway.signer.kid)
