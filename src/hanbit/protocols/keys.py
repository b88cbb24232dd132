"""The messages about keys themselves: the record of a first key, renewals, certificates issued, lists of the revoked; both roles, no I/O.

    merchant                                   gateway
    key-record          ──────────────▶        compared with the certificate that the one-time code brought
                        ◀──────────────        key-record-confirmation: both sides signed the first key
    renewal             ──────────────▶        signed under the key that it replaces, one PKCS#10 request for each new key
                        ◀──────────────        certificates
                        ◀──────────────        certificates, for each that was issued in this merchant's name, until acknowledged
                        ◀──────────────        crl, hourly and when the line comes up
    session-authority-request ─────────▶       signed under merchant-sign, one PKCS#10 request for the key that is to certify sessions (D3)
                        ◀──────────────        session-authority, for 30 days

A `certificates` message is also the record of every other certificate that the operator issues: its `aud` is the owner's name and its
number follows from the certificate, so that each is recorded once and found by its kid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from hanbit.crypto import certificates
from hanbit.crypto.certificates import RevocationList, VerifiedCertificate
from hanbit.crypto.keys import thumbprint
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.fields import Digest, Instant, Message
from hanbit.protocols.signed import (
    SignedMessage,
    Signer,
    Trust,
    decode_chain,
    encode_der,
    head,
    sign,
    verify,
    verify_as_signed,
)

RENEWED_PURPOSES: Final = ("merchant-sign", "line")
"""The keys that a merchant renews, together."""
CRL_TEXT_MAX: Final = 20 * 1024
"""Characters of a list in a message: some 400 revoked certificates that have not expired."""
_TOKEN_BYTES = 16

_Request = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,2736}$(?!\n)")]
_Der = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]{1,2732}={0,2}$(?!\n)")]
_Chain = Annotated[tuple[_Der, ...], msgspec.Meta(min_length=1, max_length=3)]


class KeyRecord(Message, frozen=True, kw_only=True):
    """This is my first signing key: at the first connection after an enrolment by code, signed with that very key."""

    TYP: ClassVar[str] = "hanbit-key-record"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    thumbprint: Digest
    """RFC 7638, as on the key card."""
    date: Instant
    """When its certificate was issued."""


class KeyRecordConfirmation(Message, frozen=True, kw_only=True):
    """The gateway's signature under the same record."""

    TYP: ClassVar[str] = "hanbit-key-record-confirmation"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    req: Digest
    thumbprint: Digest
    date: Instant


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One new key: a PKCS#10 request (DER in base64url), signed with the key that it names."""

    purpose: Literal["merchant-sign", "line"]
    request: _Request


class Renewal(Message, frozen=True, kw_only=True):
    """Certificates for new keys are asked for under the key that they replace."""

    TYP: ClassVar[str] = "hanbit-renewal"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    replaces: Digest
    """The kid of the key that signs this."""
    requests: Annotated[tuple[KeyRequest, ...], msgspec.Meta(min_length=2, max_length=2)]


class Certificates(Message, frozen=True, kw_only=True):
    """Certificates that the operator has issued to `aud`: the answer to a renewal, and the record of every one."""

    TYP: ClassVar[str] = "hanbit-certificates"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    how: Literal["code", "renewal", "own"]
    """By a one-time code, under the previous key, or the gateway's own."""
    chains: Annotated[tuple[_Chain, ...], msgspec.Meta(min_length=1, max_length=2)]
    req: Digest | None = None
    """The renewal that asked."""


class Crl(Message, frozen=True, kw_only=True):
    """An authority's list of revoked certificates, to every merchant (`aud` names no one of them)."""

    TYP: ClassVar[str] = "hanbit-crl"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    authority: Literal["gateway", "merchant"]
    number: Annotated[int, msgspec.Meta(ge=1)]
    crl: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]+={0,2}$(?!\n)", max_length=CRL_TEXT_MAX)]


class SessionAuthorityRequest(Message, frozen=True, kw_only=True):
    """A certificate is asked for the key by which the merchant issues temporary certificates."""

    TYP: ClassVar[str] = "hanbit-session-authority-request"
    SENDER: ClassVar[str] = "merchant"
    PURPOSE: ClassVar[str] = "merchant-sign"
    request: _Request


class SessionAuthority(Message, frozen=True, kw_only=True):
    """The merchant's session authority, with the authority above it; the record of it too."""

    TYP: ClassVar[str] = "hanbit-session-authority"
    SENDER: ClassVar[str] = "gateway"
    PURPOSE: ClassVar[str] = "gateway-sign"
    chain: _Chain
    req: Digest


MESSAGES: tuple[type[Message], ...] = (
    KeyRecord, KeyRecordConfirmation, Renewal, Certificates, Crl, SessionAuthorityRequest, SessionAuthority,
)  # fmt: skip


# --- the record of the first key ------------------------------------------------------------------------------------------------------


def make_key_record(signer: Signer, gateway: str, *, date: int, at: int) -> SignedMessage[KeyRecord]:
    """The merchant's half, under its first key."""
    return sign(KeyRecord(**head(signer, gateway, at), thumbprint=thumbprint(signer.key.public_key()), date=date), signer)


def read_key_record(
    unverified: str, *, trust: Trust, gateway: str, merchant: str, first: Certificates | None, at: int
) -> SignedMessage[KeyRecord]:
    """The merchant's half at the gateway; `first` is what is recorded of the certificate under which it is signed."""
    message = verify(unverified, KeyRecord, trust=trust, audience=gateway, at=at, sender=merchant)
    own = trust.key(message.kid, (), at)
    if thumbprint(own.public) != message.claims.thumbprint:
        raise ProtocolViolation("thumbprint", "not of the key that signed the record")
    if first is None or first.how != "code" or first.aud != merchant:
        raise ProtocolViolation("first_key", "this key did not come by an enrolment code")
    if not own.not_before <= message.claims.iat <= own.not_after:  # whoever follows the keys later has nothing else to date it by
        raise ProtocolViolation("iat", "not signed within the life of its key")
    if message.claims.date != first.iat:
        raise ProtocolViolation("date", "not the time at which the certificate was issued")
    return message


def confirm_key_record(record: SignedMessage[KeyRecord], *, signer: Signer, at: int) -> SignedMessage[KeyRecordConfirmation]:
    """The gateway's half."""
    claims = record.claims
    common = head(signer, claims.iss, at)
    return sign(KeyRecordConfirmation(**common, req=record.hash, thumbprint=claims.thumbprint, date=claims.date), signer)


def read_key_record_confirmation(
    unverified: str, record: str, claims: KeyRecord, *, trust: Trust, at: int
) -> SignedMessage[KeyRecordConfirmation]:
    """The gateway's half, as of when it was signed: like every answer it is good whenever it names what was asked.

    `record` is the hash of the merchant's half, `claims` what it says.
    """
    message = verify_as_signed(unverified, KeyRecordConfirmation, trust=trust, audience=claims.iss, at=at, sender=claims.aud)
    if (message.claims.req, message.claims.thumbprint, message.claims.date) != (record, claims.thumbprint, claims.date):
        raise ProtocolViolation("req", "confirms another record")
    return message


# --- renewal --------------------------------------------------------------------------------------------------------------------------


def make_renewal(signer: Signer, gateway: str, new: dict[str, EllipticCurvePrivateKey], *, at: int) -> SignedMessage[Renewal]:
    """Ask for certificates for these keys (by purpose) under the key that they replace."""
    requests = tuple(
        KeyRequest(purpose=purpose, request=ids.encode_base64url(certificates.certificate_request(new[purpose], signer.urn, purpose)))
        for purpose in RENEWED_PURPOSES
    )
    return sign(Renewal(**head(signer, gateway, at), replaces=signer.kid, requests=requests), signer)


@dataclass(frozen=True, slots=True)
class Asked:
    """A verified renewal and the new public keys, by purpose; each is proven to be held by who asks."""

    message: SignedMessage[Renewal]
    publics: dict[str, EllipticCurvePublicKey]


def read_renewal(unverified: str, *, trust: Trust, gateway: str, merchant: str, at: int, sent: bool = True) -> Asked:
    """Verify a renewal: under a key of this merchant that is good now, one request for each purpose, every key new and proven.

    `sent` is False where somebody else than the merchant shows it.
    """
    message = verify(unverified, Renewal, trust=trust, audience=gateway, at=at, sender=merchant if sent else None)
    claims = message.claims
    if claims.iss != merchant:
        raise ProtocolViolation("sender", claims.iss)
    if claims.replaces != message.kid:
        raise ProtocolViolation("replaces", "signed under another key than the one that it replaces")
    publics: dict[str, EllipticCurvePublicKey] = {}
    for item in claims.requests:
        request = certificates.read_request(_decode(item.request))
        if request.purpose != item.purpose or request.urn != merchant or item.purpose in publics:
            raise ProtocolViolation("request", f"not a request of this merchant for {item.purpose}")
        publics[item.purpose] = request.public
    if len({thumbprint(public) for public in publics.values()}) != len(publics):
        raise ProtocolViolation("request", "one key for each purpose")
    return Asked(message, publics)


# --- certificates ---------------------------------------------------------------------------------------------------------------------


def make_certificates(
    signer: Signer,
    owner: str,
    chains: tuple[tuple[bytes, ...], ...],
    *,
    how: Literal["code", "renewal", "own"],
    at: int,
    req: str | None = None,
) -> SignedMessage[Certificates]:
    """Record that these were issued to their owner; where there are two, that of the signing key stands first."""
    texts = tuple(tuple(encode_der(der) for der in chain) for chain in chains)
    common = head(signer, owner, at) | {"jti": record_number(certificates.kid(chains[0][0]))}
    return sign(Certificates(**common, how=how, chains=texts, req=req), signer)


def record_number(kid: str) -> str:
    """The `jti` of the record of a certificate: the gateway has one record of each, and finds it."""
    return ids.encode_base64url(ids.decode_base64url(ids.digest(b"hanbit1 certificate\0" + kid.encode("ascii")))[:_TOKEN_BYTES])


@dataclass(frozen=True, slots=True)
class Recorded:
    """A verified record with its verified certificates."""

    message: SignedMessage[Certificates]
    leaves: tuple[VerifiedCertificate, ...]


def read_certificates(unverified: str, *, trust: Trust, root: bytes, gateway: str, owner: str, at: int) -> Recorded:
    """Verify a record as of when it was signed: it allows nothing by itself, and one that was told late must not be lost."""
    message = verify_as_signed(unverified, Certificates, trust=trust, audience=owner, at=at, sender=gateway)
    claims = message.claims
    if (claims.how == "renewal") is (claims.req is None):
        raise ProtocolViolation("req", "a renewal is answered, nothing else is")
    operator = gateway.split(":")[2]
    leaves = tuple(certificates.verify_chain(decode_chain(chain), root=root, at=claims.iat, operator=operator) for chain in claims.chains)
    if any(leaf.urn != owner for leaf in leaves):
        raise ProtocolViolation("certificate_operator", "a certificate of somebody else")
    if claims.jti != record_number(leaves[0].kid):
        raise ProtocolViolation("jti", "not the number of this certificate's record")
    return Recorded(message, leaves)


def check_answer(recorded: Recorded, renewal: str, publics: Mapping[str, EllipticCurvePublicKey]) -> None:
    """The certificates that came are those that were asked for: this renewal (its hash), these purposes, these keys."""
    if recorded.message.claims.req != renewal:
        raise ProtocolViolation("req", "answers another renewal")
    came = {leaf.purpose: thumbprint(leaf.public) for leaf in recorded.leaves}
    if came != {purpose: thumbprint(public) for purpose, public in publics.items()}:
        raise ProtocolViolation("certificates", "for other keys or purposes than were asked for")


# --- the session authority ---------------------------------------------------------------------------------------------------------------


def make_session_authority_request(
    signer: Signer, gateway: str, key: EllipticCurvePrivateKey, *, at: int
) -> SignedMessage[SessionAuthorityRequest]:
    """Ask for the certificate of the key that is to issue this merchant's temporary certificates."""
    request = certificates.certificate_request(key, certificates.session_authority(signer.urn), "")
    return sign(SessionAuthorityRequest(**head(signer, gateway, at), request=ids.encode_base64url(request)), signer)


def read_session_authority_request(
    unverified: str, *, trust: Trust, gateway: str, merchant: str, at: int
) -> tuple[SignedMessage[SessionAuthorityRequest], EllipticCurvePublicKey]:
    """Verify it: under a key of this merchant that is good now, for the session authority of this merchant and no other, the key proven."""
    message = verify(unverified, SessionAuthorityRequest, trust=trust, audience=gateway, at=at, sender=merchant)
    request = certificates.read_request(_decode(message.claims.request))
    if (request.urn, request.purpose) != (certificates.session_authority(merchant), ""):
        raise ProtocolViolation("request", "not for this merchant's session authority")
    return message, request.public


def make_session_authority(
    signer: Signer, request: SignedMessage[SessionAuthorityRequest], chain: tuple[bytes, ...], *, at: int
) -> SignedMessage[SessionAuthority]:
    """The certificate, own first; the record's number follows from it like that of every other."""
    common = head(signer, request.claims.iss, at) | {"jti": record_number(certificates.kid(chain[0]))}
    return sign(SessionAuthority(**common, chain=tuple(encode_der(der) for der in chain), req=request.hash), signer)


@dataclass(frozen=True, slots=True)
class RecordedAuthority:
    """A verified record with the verified session authority."""

    message: SignedMessage[SessionAuthority]
    certificate: VerifiedCertificate


def read_session_authority(unverified: str, *, trust: Trust, root: bytes, gateway: str, owner: str, at: int) -> RecordedAuthority:
    """Verify a record as of when it was signed, like those of leaves; whose key it names its reader compares."""
    message = verify_as_signed(unverified, SessionAuthority, trust=trust, audience=owner, at=at, sender=gateway)
    claims = message.claims
    chain, operator = decode_chain(claims.chain), gateway.split(":")[2]
    certificate = certificates.verify_session_authority(chain, root=root, at=claims.iat, operator=operator)
    if certificate.urn != certificates.session_authority(owner):
        raise ProtocolViolation("certificate_operator", "a session authority of somebody else")
    if claims.jti != record_number(certificate.kid):
        raise ProtocolViolation("jti", "not the number of this certificate's record")
    return RecordedAuthority(message, certificate)


# --- lists of the revoked -------------------------------------------------------------------------------------------------------------


def everybody(gateway: str) -> str:
    """The `aud` of what goes to every merchant of this gateway's operator."""
    return ids.urn(gateway.split(":")[2], "merchant")


def make_crl(signer: Signer, authority: Literal["gateway", "merchant"], number: int, der: bytes, *, at: int) -> SignedMessage[Crl]:
    """An authority's list in a signed message; BadInput where it is too long for one."""
    text = encode_der(der)
    if len(text) > CRL_TEXT_MAX:
        raise BadInput(f"the {authority} authority's list is too long for a message")
    return sign(Crl(**head(signer, everybody(signer.urn), at), authority=authority, number=number, crl=text), signer)


@dataclass(frozen=True, slots=True)
class Listed:
    """A verified message with the list in it, whose own signature is its authority's."""

    message: SignedMessage[Crl]
    content: RevocationList


def read_crl(unverified: str, *, trust: Trust, gateway: str, authorities: dict[str, bytes], at: int) -> Listed:
    """Verify message and list; `authorities` are the verified certificates by name. Whether the list is current its reader decides."""
    message = verify_as_signed(unverified, Crl, trust=trust, audience=everybody(gateway), at=at, sender=gateway)
    claims = message.claims
    (der,) = decode_chain((claims.crl,))
    content = certificates.read_crl(der, authorities[claims.authority])
    if content.number != claims.number:
        raise ProtocolViolation("crl_number", "the message says another number than the list")
    return Listed(message, content)


def _decode(text: str) -> bytes:
    try:
        return ids.decode_base64url(text)
    except BadInput as error:
        raise ProtocolViolation("request", "not base64url") from error
