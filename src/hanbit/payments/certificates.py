"""Every certificate that is issued: registered, recorded in a signed message that stands in the evidence, and told to a merchant."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from hanbit.crypto import certificates
from hanbit.db.change import Append, Change, Put, Require, StoredMessage
from hanbit.evidence import store as evidence
from hanbit.evidence.record import record
from hanbit.kernel.errors import ProtocolViolation
from hanbit.payments.gateway import Gateway
from hanbit.payments.outbox import to_tell
from hanbit.protocols import keys as role
from hanbit.protocols.keys import Certificates
from hanbit.protocols.signed import SignedMessage, Signer, decode_chain, peek_claims, peek_typ

REQUESTED: Final = "request"
"""How a session authority is issued: its merchant asks for it over the line, under its signing key."""
_BESIDE = (
    "SELECT other.kid FROM certificates mine JOIN certificates other ON other.urn = mine.urn AND other.issued_at = mine.issued_at "
    "AND other.kid <> mine.kid WHERE mine.kid = ? ORDER BY other.kid LIMIT 10"
)
"""What was issued to the same party at the same moment."""


@dataclass(frozen=True, slots=True)
class Issue:
    """What registers and records certificates: to be committed as one Change, with whatever belongs to it."""

    message: SignedMessage[Certificates]
    puts: tuple[Put, ...]
    messages: tuple[StoredMessage, ...]
    tells: tuple[Append, ...]

    def change(self, *, requires: Iterable[Require] = (), puts: Iterable[Put] = (), appends: Iterable[Append] = ()) -> Change:
        """The Change."""
        return Change(requires=tuple(requires), puts=(*self.puts, *puts), messages=self.messages, appends=(*self.tells, *appends))


def issue(
    gateway: Gateway,
    rows: Sequence[Put],
    *,
    how: Literal["code", "renewal", "own"],
    at: int,
    request: SignedMessage[role.Renewal] | None = None,
    signer: Signer | None = None,
) -> Issue:
    """Record the certificates among these rows, which are all of one party; rows of other tables go along."""
    issued = [put.row for put in rows if put.table == "certificates"]
    owner = str(issued[0]["urn"])
    chains = tuple(decode_chain(json.loads(str(row["chain"]))) for row in issued)
    message = role.make_certificates(signer or gateway.signer, owner, chains, how=how, at=at, req=None if request is None else request.hash)
    _, _, _, party, *name = owner.split(":")
    merchant = name[0] if party == "merchant" else ""
    kept = tuple(record(item, merchant=merchant, tid="") for item in (request, message) if item is not None)
    tells = (to_tell(message, merchant=merchant, tid="", at=at),) if merchant else ()
    return Issue(message, tuple(rows), kept, tells)


def recorded(gateway: Gateway, kid: str) -> Certificates | None:
    """What the record of this certificate says; None for a session authority and for those that were issued before there were records."""
    compact = _record(gateway, kid)
    if compact is None or peek_typ(compact) != Certificates.TYP:
        return None
    return msgspec.convert(peek_claims(compact), Certificates)  # our own, from the book


def _record(gateway: Gateway, kid: str) -> str | None:
    """The message that records this certificate."""
    return evidence.numbered(gateway.reader, gateway.urn, role.record_number(kid))


def how_issued(gateway: Gateway, kid: str) -> str:
    """By a code, under the previous key, the gateway's own, or asked for by its merchant; empty where nothing records it.

    Two that were issued together have one record, under the number of the one that signs.
    """
    compact = _record(gateway, kid)
    if compact is not None and peek_typ(compact) == role.SessionAuthority.TYP:
        return REQUESTED
    own = recorded(gateway, kid)
    if own is not None:
        return own.how
    for row in gateway.reader.all(_BESIDE, kid):
        record = recorded(gateway, row["kid"])
        if record is not None and any(kid == certificates.kid(decode_chain(chain)[0]) for chain in record.chains):
            return record.how
    return ""


def is_revoked(gateway: Gateway, kid: str) -> bool:
    """Whether the book calls this certificate revoked, or does not know it."""
    row = gateway.reader.one("SELECT revoked_at FROM certificates WHERE kid = ?", kid)
    return row is None or row["revoked_at"] is not None


def still_good(kid: str) -> Require:
    """Under the book lock this certificate is not revoked."""
    return Require("certificates", kid, "revoked_at", None, ProtocolViolation("revoked"))
