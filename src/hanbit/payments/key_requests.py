"""What a merchant asks about its own keys over the line: the record of its first key, certificates for its next ones, a session authority.

The order of a renewal's checks: known bytes get the stored answer · signed under a key of this merchant that is good now · each new key
proven · no key was ever certified before · no other renewal of this merchant is younger than a day · then certificates, renewal and
record are one Change. A session authority is asked for and given in the same way, by itself.
"""

import json
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from hanbit.crypto import certificates
from hanbit.crypto.keys import thumbprint
from hanbit.db.change import Change, Put, Stale
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.parties.registry import certificate_put, session_authority_put
from hanbit.payments.apply import signing_still
from hanbit.payments.certificates import is_revoked, issue, recorded, still_good
from hanbit.payments.gateway import Gateway, spend_unasked
from hanbit.payments.outbox import to_tell
from hanbit.payments.sign_in import act
from hanbit.protocols import keys as role
from hanbit.protocols.keys import RENEWED_PURPOSES, Certificates, KeyRecord, KeyRecordConfirmation, SessionAuthority
from hanbit.protocols.signed import decode_chain, peek_kid

RECORDS_MAX = 50
"""Records of one merchant's first keys: one after each enrolment, and every evidence file of its payments holds them all."""
PENDING_S = 24 * 3600
"""A merchant has one renewal in so long: what it has just been given is to be used before more is asked for."""


async def record_first_key(gateway: Gateway, merchant_id: str, unverified: str) -> str:
    """The merchant signs the record of its first key; both halves are stored together. The same bytes get the same answer."""
    urn, at = gateway.settings.merchant_urn(merchant_id), gateway.clock.now()
    known = evidence.answer_to(gateway.reader, merchant_id, "", _hash(unverified), KeyRecordConfirmation.TYP)
    if known is not None:
        return known
    kid = peek_kid(unverified)
    message = role.read_key_record(
        unverified, trust=gateway.registry, gateway=gateway.urn, merchant=urn, first=recorded(gateway, kid), at=at
    )
    spend_unasked(gateway, merchant_id)
    if evidence.are_kept_about_keys(gateway.reader, merchant_id, KeyRecord.TYP, RECORDS_MAX):
        raise ProtocolViolation("first_key", "recorded often enough")
    answer = role.confirm_key_record(message, signer=gateway.signer, at=at)
    kept = tuple(record(item, merchant=merchant_id, tid="") for item in (message, answer))
    try:
        await gateway.book.commit(Change(requires=(signing_still(gateway), still_good(message.kid)), messages=kept))
    except Stale:  # the same bytes came twice at once
        return _stored(gateway, merchant_id, message.hash, KeyRecordConfirmation.TYP)
    return answer.compact


async def renew(gateway: Gateway, merchant_id: str, unverified: str) -> str:
    """Certificates for the merchant's next keys. The same bytes get the same answer for ever."""
    urn, at = gateway.settings.merchant_urn(merchant_id), gateway.clock.now()
    known = evidence.answer_to(gateway.reader, merchant_id, "", _hash(unverified), Certificates.TYP)
    if known is not None:
        return known
    asked = role.read_renewal(unverified, trust=gateway.registry, gateway=gateway.urn, merchant=urn, at=at)
    spend_unasked(gateway, merchant_id)
    _check_new(gateway, urn, asked.publics.values())
    one = _one_at_a_time(gateway, f"renewal:{merchant_id}", asked.message.hash, at)
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
        known = evidence.answer_to(gateway.reader, merchant_id, "", asked.message.hash, Certificates.TYP)
        if known is None:  # another renewal of this merchant came first
            raise ProtocolViolation("renewal_pending", "another renewal has just been answered") from error
        return known
    return made.message.compact


async def certify_sessions(gateway: Gateway, merchant_id: str, unverified: str) -> str:
    """A session authority for the merchant's next key. The same bytes get the same answer for ever; one a day, unless it was revoked."""
    urn, at = gateway.settings.merchant_urn(merchant_id), gateway.clock.now()
    known = evidence.answer_to(gateway.reader, merchant_id, "", _hash(unverified), SessionAuthority.TYP)
    if known is not None:
        return known
    asked, public = role.read_session_authority_request(unverified, trust=gateway.registry, gateway=gateway.urn, merchant=urn, at=at)
    spend_unasked(gateway, merchant_id)
    _check_new(gateway, urn, (public,))
    keyring = gateway.keyring
    chain = keyring.issue_session_authority(merchant=merchant_id, public=public, at=at)
    row = session_authority_put(chain, root=keyring.root, operator=keyring.operator, at=at)
    one = _one_at_a_time(gateway, f"session-authority:{merchant_id}", asked.hash, at, kid=str(row.row["kid"]))
    answer = role.make_session_authority(gateway.signer, asked, chain, at=at)
    change = Change(
        requires=(signing_still(gateway), still_good(asked.kid)),
        puts=(row, one),
        messages=tuple(record(item, merchant=merchant_id, tid="") for item in (asked, answer)),
        appends=(to_tell(answer, merchant=merchant_id, tid="", at=at), act(at, urn, "certify", "session authority", merchant_id)),
    )
    try:
        await gateway.book.commit(change)
    except Stale:  # the same bytes came twice at once, or another request of this merchant's came first
        known = evidence.answer_to(gateway.reader, merchant_id, "", asked.hash, SessionAuthority.TYP)
        if known is None:
            raise ProtocolViolation("renewal_pending", "another request has just been answered") from None
        return known
    return answer.compact


def _check_new(gateway: Gateway, urn: str, asked: Iterable[EllipticCurvePublicKey]) -> None:
    """No key of this merchant is certified twice; what belongs to others cannot be asked for, since each request proves its key."""
    rows = gateway.reader.all("SELECT chain FROM certificates WHERE urn IN (?, ?)", urn, certificates.session_authority(urn))
    used = {thumbprint(certificates.public_of(decode_chain(json.loads(row["chain"]))[0])) for row in rows}
    if not used.isdisjoint(thumbprint(public) for public in asked):
        raise ProtocolViolation("key_used", "each certificate is for a new key")


def _one_at_a_time(gateway: Gateway, name: str, request: str, at: int, *, kid: str = "") -> Put:
    """The row that lets one request of a merchant through at a time; renewal_pending if another was answered within a day.

    `kid` is what is given: what was given and revoked since does not count.
    """
    row = gateway.reader.one("SELECT version, value FROM settings WHERE name = ?", name)
    last = None if row is None else json.loads(row["value"])
    if last is not None and at < last["at"] + PENDING_S and not (last.get("kid") and is_revoked(gateway, last["kid"])):
        raise ProtocolViolation("renewal_pending", "another request was answered within a day")
    value = json.dumps({"at": at, "renewal": request} | ({"kid": kid} if kid else {}))
    return Put("settings", {"name": name, "value": value}, 0 if row is None else row["version"])


def _stored(gateway: Gateway, merchant_id: str, request: str, typ: str) -> str:
    known = evidence.answer_to(gateway.reader, merchant_id, "", request, typ)
    if known is None:
        raise ProtocolViolation("jti", "this number was used with other bytes")
    return known


def _hash(unverified: str) -> str:
    return ids.digest(unverified.encode("ascii", "replace"))
