"""What a purchase by dual signature shows of itself: the temporary key under both halves of each request that was approved. Pure.

The gateway's half is the attempt's core with the hash of what proved the customer; the merchant's half is OI. Either can be shown to belong
to the dual signature by itself, without the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from hanbit.crypto import certificates
from hanbit.crypto.keys import thumbprint
from hanbit.evidence.bundle import Attempt
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.dual_signature.digests import joint_digest, oi_digest, pi_digest
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest, Dual, OrderInformation, Session
from hanbit.protocols.dual_signature.temporary import Authorities, TemporaryTrust, thumbprint_of
from hanbit.protocols.fields import VERSION, Message
from hanbit.protocols.keys import SessionAuthorityRequest
from hanbit.protocols.sealed import PurchaseCore
from hanbit.protocols.signed import SignedMessage, Trust, check_strict_json, peek_chain, verify


class Certified(Trust, Authorities, Protocol):
    """Trust that knows the session authorities too, and the root above them."""

    @property
    def root(self) -> bytes:
        """The root certificate."""
        ...


@dataclass(frozen=True, slots=True)
class Approved:
    """A purchase that was approved: request, answer, and the signature that binds its halves."""

    request: SignedMessage[AuthorizationRequest]
    authorization: SignedMessage[Authorization]
    dual: SignedMessage[Dual]
    thumbprint: str
    chain: tuple[bytes, ...]
    """Of the temporary certificate, leaf first."""


def approved(chain: Sequence[SignedMessage[Message]], kept_at: Mapping[str, int], trust: Certified) -> Approved | None:
    """The approved purchase of a payment, if it has one, its dual signature verified as of when the request was kept.

    What was declined is not looked at: a request may be declined because its dual signature is none.
    """
    requests = {message.hash: message for message in chain if isinstance(message.claims, AuthorizationRequest)}
    found = None
    for message in chain:
        claims = message.claims
        if not isinstance(claims, Authorization) or claims.result != "approved":
            continue
        if found is not None:
            raise ProtocolViolation("link", "two purchases of one payment were approved")
        request = requests.get(claims.req)
        if request is None:
            raise ProtocolViolation("link", f"{claims.TYP} answers no request that is stored")
        found = _approved(request, message, kept_at[request.hash], trust)  # type: ignore[arg-type]  # narrowed by their claims
        _check_session(found, chain)
    return found


def _check_session(found: Approved, chain: Sequence[SignedMessage[Message]]) -> None:
    """The session that was bought in, where the file has it (a shop's own), is the one that the dual signature continues."""
    said = found.dual.claims
    for message in chain:
        opened = message.claims
        if isinstance(opened, Session) and opened.sid == said.sid:
            named = (message.hash, opened.nc, opened.nm, opened.thumbprint, opened.exp)
            if named != (said.prev, said.nc, said.nm, found.thumbprint, said.exp):
                raise ProtocolViolation("link", "the dual signature continues another session")


def _approved(
    request: SignedMessage[AuthorizationRequest], authorization: SignedMessage[Authorization], at: int, trust: Certified
) -> Approved:
    asked = request.claims
    session = TemporaryTrust(trust.root, asked.iss, asked.sid, trust)
    dual = verify(asked.dual, Dual, trust=session, audience=asked.aud, at=at)
    said = dual.claims
    if asked.prev != dual.hash:
        raise ProtocolViolation("link", "the request continues another dual signature")
    if (said.merchant, said.gateway, said.sid, said.tid, said.order) != (asked.iss, asked.aud, asked.sid, asked.tid, asked.order):
        raise ProtocolViolation("link", "the dual signature is for something else")
    if (said.pimd, said.oimd, said.pomd) != (asked.pimd, asked.oimd, joint_digest(said.pimd, said.oimd)):
        raise ProtocolViolation("link", "the halves are not those that were signed")
    chain = peek_chain(asked.dual)
    return Approved(request, authorization, dual, thumbprint_of(chain), chain)


def check_payment_information(found: Approved, attempt: Attempt) -> None:
    """The gateway's half: what the customer approved, and the hash of what proved him, are what the dual signature names."""
    core, said = read_core(attempt.core), found.dual.claims
    if pi_digest(ids.digest(attempt.core.encode("utf-8")), attempt.auth_hash) != said.pimd:
        raise ProtocolViolation("halves", "the payment information is not the half that was signed")
    named = (core.sid, core.nc, core.nm, core.oimd, core.thumbprint, core.exp)
    if named != (said.sid, said.nc, said.nm, said.oimd, found.thumbprint, said.exp):
        raise ProtocolViolation("halves", "the payment information names another session, another half or another key")


def check_order_information(found: Approved, oi: str) -> OrderInformation:
    """The merchant's half: OI is what the dual signature names, and says the same."""
    said, asked = found.dual.claims, found.request.claims
    if oi_digest(oi) != said.oimd:
        raise ProtocolViolation("halves", "the order information is not the half that was signed")
    data = oi.encode("utf-8")
    try:
        information = msgspec.json.decode(data, type=OrderInformation)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("halves", "the order information cannot be read") from error
    check_strict_json(data, "halves")
    named = (information.v, information.merchant, information.gateway, information.tid, information.amount, information.currency)
    if named != (VERSION, asked.iss, asked.aud, asked.tid, asked.amount, asked.currency):
        raise ProtocolViolation("halves", "the order information is for something else")
    if (information.sid, information.nc, information.nm) != (said.sid, said.nc, said.nm):
        raise ProtocolViolation("halves", "the order information is of another session")
    return information


def asked_authority(claims: SessionAuthorityRequest) -> str:
    """The thumbprint of the key for which this merchant asked to be certified as its session authority."""
    try:
        request = certificates.read_request(ids.decode_base64url(claims.request))
        own = certificates.session_authority(claims.iss)
    except (BadInput, ValueError) as error:
        raise ProtocolViolation("request", "no request for a session authority") from error
    if (request.urn, request.purpose) != (own, ""):
        raise ProtocolViolation("request", "not for this merchant's session authority")
    return thumbprint(request.public)


def read_core(text: str) -> PurchaseCore:
    """The core of a purchase as the attempt's row has it."""
    data = text.encode("utf-8")
    try:
        core = msgspec.json.decode(data, type=PurchaseCore)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("approval", "what was approved cannot be read") from error
    check_strict_json(data, "approval")
    return core
