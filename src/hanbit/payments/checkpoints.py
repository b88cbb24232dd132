"""The gateway's side of checkpoints: signs its log each minute in which it grew, shows that it goes on, judges what merchants hold.

A checkpoint that bears our signature and does not stand in our book means that the book has lost what it once held: an older copy was put
back, or another history goes on in its place. Nobody can tell from inside what else is missing, so no payment is taken until the operator
has looked (`halt.py`). What bears no signature of ours changes nothing.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from hanbit.db.change import Append, Change
from hanbit.db.reading import Row
from hanbit.evidence import log
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel import ids
from hanbit.kernel.errors import Conflict, HanbitError, NotFound, ProtocolViolation, Unavailable, WrongState
from hanbit.payments.apply import signing_still
from hanbit.payments.certificates import is_revoked
from hanbit.payments.gateway import Gateway, spend_unasked
from hanbit.payments.halt import halt, resumed_at, why_halted
from hanbit.payments.sign_in import act
from hanbit.protocols.checkpoint import (
    NOT_OURS,
    Checkpoint,
    any_merchant,
    make_proof,
    verify_checkpoint,
    verify_proof_request,
)
from hanbit.protocols.signed import PinnedTrust, SignedMessage, Trust, head, sign

EVERY_S = 60
NOTES_PER_MINUTE = 6
_log = logging.getLogger("hanbit.evidence")


def latest(gateway: Gateway) -> Row | None:
    """The row of the last checkpoint that we signed."""
    return gateway.reader.one("SELECT * FROM checkpoints ORDER BY size DESC LIMIT 1")


def latest_hash(gateway: Gateway) -> str | None:
    """Its name, for our hello."""
    last = latest(gateway)
    return None if last is None else str(last["hash"])


async def sign_due(gateway: Gateway) -> int:
    """Once a minute, if the log grew by more than the last checkpoint's own leaf: sign it, store it, tell every merchant that is there."""
    last = latest(gateway)
    if last is None or (gateway.clock.now() >= last["at"] + EVERY_S and _size(gateway) > last["size"] + 1):
        await _sign(gateway, last)
    return 0


async def sign_checkpoint(gateway: Gateway, by: str = "operator", *, reason: str = "") -> dict[str, Any]:
    """The operator's command: sign the log as it stands now, without waiting for the minute; WrongState while nothing is signed."""
    if reason:
        await gateway.book.commit(Change(appends=(act(gateway.clock.now(), by, "sign a checkpoint", reason),)))
    size = _size(gateway)
    await _sign(gateway, latest(gateway))
    last = latest(gateway)
    if last is None or last["size"] + 1 < size:
        raise WrongState("no checkpoint is signed while payments are halted or the signing key is revoked")
    return {"size": last["size"], "root": last["root"], "hash": last["hash"], "at": last["at"]}


async def _sign(gateway: Gateway, last: Row | None) -> None:
    """While payments are halted nothing is signed: we do not vouch for a book that we doubt."""
    at, size = gateway.clock.now(), _size(gateway)
    if last is not None and size <= last["size"] + 1:
        return
    if why_halted(gateway.reader) is not None or is_revoked(gateway, gateway.signer.kid):
        return
    message = _make(gateway, size, last, at)
    row = Append("checkpoints", {"size": size, "root": message.claims.root, "hash": message.hash, "at": at})
    change = Change(requires=(signing_still(gateway),), messages=(record(message, merchant="", tid=""),), appends=(row,))
    try:
        await gateway.book.commit(change)
    except Conflict:
        return  # signed beside us at the same moment
    merchants = [row["id"] for row in gateway.reader.all("SELECT id FROM merchants") if gateway.line.connected(row["id"])]
    await asyncio.gather(*(_tell(gateway, merchant, message.compact) for merchant in merchants))


def _size(gateway: Gateway) -> int:
    return int(gateway.reader.all("SELECT next_leaf FROM book")[0][0])


def _make(gateway: Gateway, size: int, last: Row | None, at: int) -> SignedMessage[Checkpoint]:
    leaf = gateway.reader.one("SELECT data FROM log WHERE leaf = ?", size - 1)
    assert leaf is not None, size
    claims = Checkpoint(
        **head(gateway.signer, any_merchant(gateway.settings.operator), at),
        size=size,
        root=log.root_at(gateway.reader, size),
        time=log.time_of(leaf["data"]),
        prev=None if last is None else last["hash"],
        consistency=() if last is None else log.consistency_proof(gateway.reader, last["size"], size),
    )
    return sign(claims, gateway.signer)


async def _tell(gateway: Gateway, merchant_id: str, compact: str) -> None:
    with suppress(Unavailable):  # it asks for the proof when the next one comes
        await gateway.line.tell(merchant_id, compact)


async def merchant_connected(gateway: Gateway, merchant_id: str, unverified_held: str | None) -> None:
    """A line came up: judge what the merchant holds, then tell it our last checkpoint."""
    if unverified_held is not None and not await is_ours(gateway, merchant_id, unverified_held):
        return
    last = latest(gateway)
    compact = None if last is None else evidence.compact(gateway.reader, "", "", last["hash"])
    if compact is not None:
        await _tell(gateway, merchant_id, compact)


async def is_ours(gateway: Gateway, merchant_id: str, unverified_held: str) -> bool:
    """Whether our book holds this checkpoint; if it does not and the signature is ours, payments are halted."""
    held_hash = ids.digest(unverified_held.encode("ascii", "replace"))
    if gateway.reader.one("SELECT 1 FROM checkpoints WHERE hash = ?", held_hash) is not None:
        return True
    try:
        held = verify_checkpoint(unverified_held, trust=_any_own_key(gateway), operator=gateway.settings.operator)
    except HanbitError as error:
        _note(gateway, merchant_id, "checkpoint_not_signed_by_us", {"merchant": merchant_id, "reason": str(error)})
        return False
    why = _difference(gateway, held.claims) | {"merchant": merchant_id, "checkpoint": held.hash}
    if _stands_revoked(gateway, held.kid):  # whoever has stolen that key could stop every payment with it
        _note(gateway, merchant_id, "checkpoint_under_a_revoked_key", why)
    elif held.claims.iat <= resumed_at(gateway.reader):
        _note(gateway, merchant_id, "checkpoint_from_before_the_resumption", why)
    else:
        await halt(gateway, gateway.settings.merchant_urn(merchant_id), why)
    return False


def _any_own_key(gateway: Gateway) -> Trust:
    """Every key that our authority ever certified for the gateway: an older copy does not know those that were made after it."""
    return PinnedTrust(gateway.keyring.root, gateway.settings.operator, urn=gateway.urn)


def _stands_revoked(gateway: Gateway, kid: str) -> bool:
    """Unlike `is_revoked` of no key that the book does not know."""
    row = gateway.reader.one("SELECT revoked_at FROM certificates WHERE kid = ?", kid)
    return row is not None and row["revoked_at"] is not None


def _note(gateway: Gateway, merchant_id: str, what: str, found: dict[str, Any]) -> None:
    """Counted each time; in the log so often only that nobody can fill it."""
    gateway.observe("checkpoint", what)
    if gateway.allowances.spend(merchant_id, "checkpoint", NOTES_PER_MINUTE):
        _log.warning(what, extra=found)


def _difference(gateway: Gateway, held: Checkpoint) -> dict[str, Any]:
    """What is wrong, as far as the two can be compared."""
    size = _size(gateway)
    found: dict[str, Any] = {"signed_leaves": held.size, "our_leaves": size, "signed_at": held.iat}
    if held.size > size:
        return found | {"reason": "older_copy"}
    try:
        is_same = log.root_at(gateway.reader, held.size) == held.root
    except NotFound:  # leaves that the book counts are gone
        is_same = False
    return found | {"reason": "older_copy" if is_same else "other_history"}


async def answer_proof_request(gateway: Gateway, merchant_id: str, unverified: str) -> str:
    """Show that our log goes on from what the merchant holds; ProtocolViolation("not_ours") if we do not know it."""
    urn, at = gateway.settings.merchant_urn(merchant_id), gateway.clock.now()
    request = verify_proof_request(unverified, trust=gateway.registry, gateway=gateway.urn, merchant_urn=urn, at=at)
    spend_unasked(gateway, merchant_id)
    if not await is_ours(gateway, merchant_id, request.claims.checkpoint):
        raise ProtocolViolation(NOT_OURS, "this checkpoint does not stand in our book")
    held = gateway.reader.one("SELECT * FROM checkpoints WHERE hash = ?", ids.digest(request.claims.checkpoint.encode("ascii")))
    last = latest(gateway)
    compact = None if last is None else evidence.compact(gateway.reader, "", "", last["hash"])
    if held is None or last is None or compact is None:
        raise NotFound("no checkpoint")
    path = log.consistency_proof(gateway.reader, held["size"], last["size"])
    return make_proof(request, compact, path, signer=gateway.signer, at=at).compact
