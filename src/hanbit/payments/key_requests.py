"""What a merchant asks about its own keys over the line: the record of its first key, and certificates for its next ones.

The order of a renewal's checks: known bytes get the stored answer · signed under a key of this merchant that is good now · each new key
proven · no key was ever certified before · no other renewal of this merchant is younger than a day · then certificates, renewal and
record are one Change.
"""

import json

from hanbit.crypto import certificates
from hanbit.crypto.keys import thumbprint
from hanbit.db.change import Change, Put, Stale
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.parties.registry import certificate_put
from hanbit.payments.apply import signing_still
from hanbit.payments.certificates import issue, recorded, still_good
from hanbit.payments.gateway import Gateway, spend_unasked
from hanbit.payments.sign_in import act
from hanbit.protocols import keys as role
from hanbit.protocols.keys import RENEWED_PURPOSES, Asked, Certificates, KeyRecordConfirmation
from hanbit.protocols.signed import decode_chain, peek_kid

PENDING_S = 24 * 3600
"""A merchant has one renewal in so long: what it has just been given is to be used before more is asked for."""


async def record_first_key(gateway: Gateway, merchant_id: str, unverified: str) -> str:
    """The merchant signs the record of its first key; both halves are stored together. The same bytes get the same answer."""
    urn, at = gateway.settings.merchant_urn(merchant_id), gateway.clock.now()
    known = evidence.answer_to(gateway.reader, _hash(unverified), KeyRecordConfirmation.TYP)
    if known is not None:
        return known
    kid = peek_kid(unverified)
    message = role.read_key_record(
        unverified, trust=gateway.registry, gateway=gateway.urn, merchant=urn, first=recorded(gateway, kid), at=at
    )
    spend_unasked(gateway, merchant_id)
    answer = role.confirm_key_record(message, signer=gateway.signer, at=at)
    kept = tuple(record(item, merchant=merchant_id, tid="") for item in (message, answer))
    try:
        await gateway.book.commit(Change(requires=(signing_still(gateway), still_good(message.kid)), messages=kept))
    except Stale:  # the same bytes came twice at once
        return _stored(gateway, message.hash, KeyRecordConfirmation.TYP)
    return answer.compact


async def renew(gateway: Gateway, merchant_id: str, unverified: str) -> str:
    """Certificates for the merchant's next keys. The same bytes get the same answer for ever."""
    urn, at = gateway.settings.merchant_urn(merchant_id), gateway.clock.now()
    known = evidence.answer_to(gateway.reader, _hash(unverified), Certificates.TYP)
    if known is not None:
        return known
    asked = role.read_renewal(unverified, trust=gateway.registry, gateway=gateway.urn, merchant=urn, at=at)
    spend_unasked(gateway, merchant_id)
    _check_new(gateway, urn, asked)
    one = _one_at_a_time(gateway, merchant_id, asked, at)
    keyring = gateway.keyring
    rows = []
    for purpose in RENEWED_PURPOSES:
        chain = keyring.issue(urn=urn, purpose=purpose, public=asked.publics[purpose], at=at)
        rows.append(certificate_put(chain, root=keyring.root, operator=keyring.operator, at=at))
    made = issue(gateway, rows, how="renewal", at=at, request=asked.message)
    change = made.change(
        requires=(signing_still(gateway), still_good(asked.message.kid)),
        puts=(one,),
        appends=(act(at, urn, "renew", "keys", merchant_id),),
    )
    try:
        await gateway.book.commit(change)
    except Stale as error:
        known = evidence.answer_to(gateway.reader, asked.message.hash, Certificates.TYP)
        if known is None:  # another renewal of this merchant came first
            raise ProtocolViolation("renewal_pending", "another renewal has just been answered") from error
        return known
    return made.message.compact


def _check_new(gateway: Gateway, urn: str, asked: Asked) -> None:
    """No key of this merchant is certified twice; what belongs to others cannot be asked for, since each request proves its key."""
    rows = gateway.reader.all("SELECT chain FROM certificates WHERE urn = ?", urn)
    used = {thumbprint(certificates.public_of(decode_chain(json.loads(row["chain"]))[0])) for row in rows}
    if not used.isdisjoint(thumbprint(public) for public in asked.publics.values()):
        raise ProtocolViolation("key_used", "a renewal brings new keys")


def _one_at_a_time(gateway: Gateway, merchant_id: str, asked: Asked, at: int) -> Put:
    """The row that lets one renewal of a merchant through at a time; renewal_pending if another was answered within a day."""
    name = f"renewal:{merchant_id}"
    row = gateway.reader.one("SELECT version, value FROM settings WHERE name = ?", name)
    if row is not None and at < json.loads(row["value"])["at"] + PENDING_S:
        raise ProtocolViolation("renewal_pending", "another renewal was answered within a day")
    value = json.dumps({"at": at, "renewal": asked.message.hash})
    return Put("settings", {"name": name, "value": value}, 0 if row is None else row["version"])


def _stored(gateway: Gateway, request: str, typ: str) -> str:
    known = evidence.answer_to(gateway.reader, request, typ)
    if known is None:
        raise ProtocolViolation("jti", "this number was used with other bytes")
    return known


def _hash(unverified: str) -> str:
    return ids.digest(unverified.encode("ascii", "replace"))
