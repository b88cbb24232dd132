"""The gateway's own keys, renewed while it runs: sealing keys by the day, signing and line keys before two thirds of their life.

    prepared (files, not in use) ──▶ certificate and its record committed ──▶ adopted: in use, the key before it destroyed

A stop anywhere leaves the old key in use; what was prepared and not adopted is cleared away at the next start.
"""

import logging

from hanbit.crypto.certificates import validity
from hanbit.kernel import fail_points
from hanbit.parties.keyring import RENEWED, SEAL
from hanbit.payments.apply import signing_still
from hanbit.payments.certificates import is_revoked, issue
from hanbit.payments.gateway import Gateway

_log = logging.getLogger("hanbit.keys")


async def renew_due(gateway: Gateway) -> int:
    """Make every key of the gateway's own for which it is time; no payment is looked at."""
    keyring = gateway.keyring
    keyring.destroy_old_seals(gateway.clock.now())
    async with keyring.renewing:
        for purpose in _wanted(gateway):
            await renew(gateway, purpose)
    return 0


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
        await gateway.book.commit(made.change(requires=() if is_mute else (signing_still(gateway),)))
    except BaseException:  # also a commit whose answer is lost: a certificate without a key harms nobody
        prepared.discard()
        raise
    fail_points.reach("keys.registered")
    keyring.adopt(prepared)
    fail_points.reach("keys.adopted")
    _log.info("a key of the gateway's own was renewed", extra={"purpose": purpose})


def _may_sign(gateway: Gateway, at: int) -> bool:
    not_before, not_after = validity(gateway.signer.chain[0])
    return not_before <= at <= not_after and not is_revoked(gateway, gateway.signer.kid)
