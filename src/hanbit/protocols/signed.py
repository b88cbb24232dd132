"""Signed messages: exact bytes, a signature and a certificate (JWS compact, ES256); only `sign` and `verify` make a SignedMessage.

The protected header is exactly `alg, typ, kid, x5c` (an order: `alg, typ, kid`). The signature covers the bytes that were sent and
nobody serialises them again. `verify` checks, in this order, what needs neither a database nor a business rule:

 1. size
 2. three canonical base64url segments
 3. header as allowed for this typ, no other member
 4. typ fits the place
 5. key selected by kid among the registered keys of the sender, x5c the registered chain
 6. purpose, dates and revocation of that key
 7. signature
 8. sender: `iss` is the key's owner and, where the bytes came straight from a peer, that peer
 9. audience = me
10. `iat` not in the future beyond the tolerance
11. strict JSON: no duplicate names, no floats, exactly the claims of the typ

Signature before claims: nothing of an unsigned payload is interpreted, apart from its `typ`. One kind has neither kid nor chain, a session
request of the dual-signature checkout: its header is exactly `alg, typ`, and it is signed with the key in its own claim (`verify_keyed`).
It proves that its sender holds that key and nothing else.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from hanbit.crypto import certificates, keys, signatures
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.fields import VERSION, KeyedMessage, Message, PublicKey

MESSAGE_MAX = 32 * 1024
"""Bytes of one compact message."""
HEADER_MAX = 16 * 1024
CHAIN_MAX = 3
FUTURE_TOLERANCE_S = 120
"""How far ahead of our clock a peer's `iat` may lie."""
ESCAPED_MAX, SPACES_MAX = 3, 512
"""Another spelling of the same claims is so many times longer, every letter escaped, and so many bytes: what is kept holds words."""
_TYP = re.compile(r"[A-Za-z0-9+./-]{0,64}")
"""A media type without parameters (RFC 7515 section 4.1.9): what else is written there goes into no log and no book."""
_HEADERS_KEPT = 4096
_KEYS_KEPT = 4096
_CERTIFICATES_KEPT = 4096
"""Decoded only: authorities stand in every header of a fresh temporary key."""

T = TypeVar("T", bound=Message)
T_co = TypeVar("T_co", bound=Message, covariant=True)
K = TypeVar("K", bound=KeyedMessage)


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A public key that is registered for a party and a purpose; a message only selects it."""

    kid: str
    urn: str
    purpose: str
    public: EllipticCurvePublicKey
    not_before: int
    not_after: int
    revoked_at: int | None = None


class Trust(Protocol):
    """Who may have signed: finds the registered key that a header names."""

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The registered key with this kid, or ProtocolViolation; `chain` is the header's x5c (leaf first), empty for an order."""
        ...


@dataclass(slots=True, eq=False)
class Signer:
    """A private key with its certificate chain: what a party signs with.

    Not a value but the party's hand: when its key is renewed, everybody who holds it signs with the new key from then on. Signing never
    waits in the middle, so no message is signed half with the one and half with the other.
    """

    urn: str
    purpose: str
    kid: str
    chain: tuple[bytes, ...]
    key: EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def load(cls, chain_path: Path, key_path: Path, *, urn: str, purpose: str) -> "Signer":
        """Read a chain (PEM, leaf first, without the root) and its key; BadInput if they do not belong together or to this party."""
        chain, key = certificates.load_chain_pem(chain_path), keys.load_key(key_path)
        try:
            certificates.check_own(chain[0], key, urn)
        except BadInput as error:
            raise BadInput(f"{chain_path}, {key_path}: {error.detail}") from error
        return cls(urn=urn, purpose=purpose, kid=certificates.kid(chain[0]), chain=chain, key=key)

    def renew(self, chain: tuple[bytes, ...], key: EllipticCurvePrivateKey) -> None:
        """Sign with this key and certificate from now on."""
        certificates.check_own(chain[0], key, self.urn)
        self.kid, self.chain, self.key = certificates.kid(chain[0]), chain, key


class SignedMessage(msgspec.Struct, Generic[T_co], frozen=True):
    """A message whose bytes and signer are known good; `hash` is the name by which others refer to it."""

    compact: str
    hash: str
    kid: str
    claims: T_co


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    typ: str
    kid: str
    x5c: tuple[str, ...] | None = None


class _KeyedHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    typ: str


class _ParsedHeader(msgspec.Struct, frozen=True):
    typ: str
    kid: str
    chain: tuple[bytes, ...]


class PinnedTrust:
    """A merchant's and a wallet's trust: the chain in the message must lead to the pinned root and name the expected party."""

    def __init__(self, root: bytes, operator: str, *, urn: str | None = None, revoked: Callable[[], frozenset[int]] = frozenset) -> None:
        self._root = root
        self._operator = operator
        self._urn = urn
        self._revoked = revoked
        self._verified: dict[str, certificates.VerifiedCertificate] = {}

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The key of the verified chain; known chains are kept, dates and revocation are looked at every time."""
        certificate = self._verified.get(kid)
        if certificate is None or certificate.chain != chain:
            if not chain or certificates.kid(chain[0]) != kid:
                _violation("unknown_key", "kid is not the certificate's")
            certificate = certificates.verify_chain(chain, root=self._root, at=at, operator=self._operator)
            if len(self._verified) >= _KEYS_KEPT:
                self._verified.clear()
            self._verified[kid] = certificate
        if self._urn is not None and certificate.urn != self._urn:
            _violation("unknown_key", "not the party that is pinned here")
        revoked = not self._revoked().isdisjoint(certificate.serials)
        return RegisteredKey(
            kid=kid,
            urn=certificate.urn,
            purpose=certificate.purpose,
            public=certificate.public,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            revoked_at=at if revoked else None,
        )


@dataclass(frozen=True, slots=True)
class AsSigned:
    """The keys of another trust as they were when a message was signed: neither expiry nor revocation afterwards unsays it.

    Only for bytes that something fresh vouches for, or by which nothing is allowed: the date in a message is its signer's own word.
    """

    trust: Trust

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The key, whatever became of it later."""
        return replace(self.trust.key(kid, chain, at), revoked_at=None)


def verify_as_signed(
    unverified: str | bytes, kind: type[T], *, trust: Trust, audience: str, at: int, sender: str | None = None
) -> SignedMessage[T]:
    """`verify` as of the moment at which the message says that it was signed, which must not lie ahead."""
    signed_at = peek_claims(unverified).get("iat")
    if not isinstance(signed_at, int) or isinstance(signed_at, bool) or not 0 <= signed_at <= at + FUTURE_TOLERANCE_S:
        _violation("iat")
    return verify(unverified, kind, trust=AsSigned(trust), audience=audience, at=signed_at, sender=sender)


def sign(claims: T, signer: Signer) -> SignedMessage[T]:
    """Sign the claims once; the returned bytes are stored before they are sent."""
    if signer.purpose != claims.PURPOSE or signer.urn != claims.iss:
        raise AssertionError(f"{signer.urn} ({signer.purpose}) cannot sign {claims.TYP} of {claims.iss}")
    header = _header_segment(signer.kid, claims.TYP, () if claims.BARE else signer.chain)
    signed = f"{header}.{ids.encode_base64url(msgspec.json.encode(claims))}"
    signature = signatures.sign(signer.key, signed.encode("ascii"))
    compact = f"{signed}.{ids.encode_base64url(signature)}"
    return SignedMessage(compact=compact, hash=ids.digest(compact.encode("ascii")), kid=signer.kid, claims=claims)


def verify(
    unverified: str | bytes,
    kind: type[T],
    *,
    trust: Trust,
    audience: str,
    at: int,
    sender: str | None = None,
    ahead_s: int = FUTURE_TOLERANCE_S,
) -> SignedMessage[T]:
    """Check rules 1 to 11 and return the message; raises ProtocolViolation naming the broken rule, and nothing else.

    `sender` is the peer that handed over the bytes, None where a third party carries them. `exp` and replays are the role's business.
    `ahead_s` is how far ahead of our clock the sender's may be; only a hello, which is there to measure that, takes more than the usual.
    """
    compact, signed, header, payload, signature = _take_apart(unverified)
    if header.typ != kind.TYP:
        _violation("typ", f"{header.typ!r} where {kind.TYP!r} is expected")
    if kind.BARE is bool(header.chain):
        _violation("header", "x5c")
    key = trust.key(header.kid, header.chain, at)
    if key.kid != header.kid or key.purpose != kind.PURPOSE:
        _violation("purpose", f"a {key.purpose} key cannot sign {kind.TYP}")
    check_usable(key, at)
    signatures.verify(key.public, signed, signature)
    claims = _strict_json(payload, kind)
    if claims.v != VERSION:
        _violation("version")
    if claims.iss != key.urn or (sender is not None and claims.iss != sender):
        _violation("sender", claims.iss)
    if claims.aud != audience:
        _violation("aud", claims.aud)
    if claims.iat > at + ahead_s:
        _violation("iat")
    return SignedMessage(compact=compact, hash=ids.digest(compact.encode("ascii")), kid=header.kid, claims=claims)


def public_key(public: EllipticCurvePublicKey) -> PublicKey:
    """A public key as a keyed message names it."""
    jwk = keys.public_jwk(public)
    return PublicKey(x=jwk["x"], y=jwk["y"])


def sign_keyed(claims: K, key: EllipticCurvePrivateKey) -> SignedMessage[K]:
    """Sign with the key that the claims name; its `kid` is that key's thumbprint (RFC 7638)."""
    if claims.key != public_key(key.public_key()):
        raise AssertionError(f"{claims.TYP} is signed with the key that it names")
    header = ids.encode_base64url(msgspec.json.encode({"alg": "ES256", "typ": claims.TYP}))
    signed = f"{header}.{ids.encode_base64url(msgspec.json.encode(claims))}"
    compact = f"{signed}.{ids.encode_base64url(signatures.sign(key, signed.encode('ascii')))}"
    return SignedMessage(compact=compact, hash=ids.digest(compact.encode("ascii")), kid=keys.thumbprint(key.public_key()), claims=claims)


def verify_keyed(unverified: str | bytes, kind: type[K], *, audience: str, at: int, sender: str) -> SignedMessage[K]:
    """Rules 1 to 4, then 11 for the key's sake, 7 under that key, 8 to 10; raises ProtocolViolation naming the broken rule.

    `sender` is the name of a role and of nobody in it: who holds the key is not known.
    """
    compact, signed, header, payload, signature = _take_apart(unverified, keyed=True)
    if header.typ != kind.TYP:
        _violation("typ", f"{header.typ!r} where {kind.TYP!r} is expected")
    claims = _strict_json(payload, kind)
    public = keys.public_from_jwk(msgspec.to_builtins(claims.key))
    signatures.verify(public, signed, signature)
    if claims.v != VERSION:
        _violation("version")
    if claims.iss != sender:
        _violation("sender", claims.iss)
    if claims.aud != audience:
        _violation("aud", claims.aud)
    if claims.iat > at + FUTURE_TOLERANCE_S:
        _violation("iat")
    return SignedMessage(compact=compact, hash=ids.digest(compact.encode("ascii")), kid=keys.thumbprint(public), claims=claims)


def check_usable(key: RegisteredKey, at: int) -> None:
    """Rule 6: within the key's dates and not revoked."""
    if not key.not_before <= at <= key.not_after:
        _violation("certificate_dates")
    if key.revoked_at is not None and key.revoked_at <= at:
        _violation("revoked")


def head(signer: Signer, audience: str, at: int) -> dict[str, Any]:
    """The claims that every message has, for a new message of this signer."""
    return {"v": VERSION, "iss": signer.urn, "aud": audience, "jti": ids.new_token_of(at), "iat": at}


def peek_typ(unverified: str | bytes) -> str:
    """The header's typ, to route by; raises ProtocolViolation if these bytes are no JWS of the known shape."""
    return _take_apart(unverified)[2].typ


def peek_kid(unverified: str | bytes) -> str:
    """The header's kid, to look up what is known of that key before its signature is verified."""
    return _take_apart(unverified)[2].kid


def peek_chain(unverified: str | bytes) -> tuple[bytes, ...]:
    """The header's certificates, to keep beside a message; says nothing about their worth."""
    return _take_apart(unverified)[2].chain


def peek_claims(unverified: str | bytes) -> dict[str, Any]:
    """The claims as somebody wrote them, to choose by whom to have them verified; raises ProtocolViolation if they are no object."""
    try:
        claims = msgspec.json.decode(_take_apart(unverified)[3], type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("claims") from error
    return dict(claims)


def peek_token(unverified: str, claim: str) -> str:
    """An id among the claims as somebody wrote it, to look up what is known of these bytes; empty where there is none."""
    try:
        return ids.check(ids.TOKEN, peek_claims(unverified).get(claim), claim)
    except (ProtocolViolation, BadInput):
        return ""


def recall(compact: str, kind: type[T]) -> SignedMessage[T]:
    """A message out of one's own store, which was signed or verified before it was put there."""
    _, _, header, payload, _ = _take_apart(compact)
    return SignedMessage(compact, ids.digest(compact.encode("ascii")), header.kid, msgspec.json.decode(payload, type=kind))


def split(compact: str) -> tuple[str, str, str]:
    """The header segment, the decoded payload text and the signature segment of a SignedMessage's bytes, for the store."""
    header, payload, signature = compact.split(".")
    return header, ids.decode_base64url(payload).decode("utf-8"), signature


def join(header: str, payload: str, signature: str) -> str:
    """The very bytes that `split` took apart."""
    return f"{header}.{ids.encode_base64url(payload.encode('utf-8'))}.{signature}"


def verify_compact(unverified: str | bytes, public: EllipticCurvePublicKey) -> bytes:
    """The payload of a compact ES256 JWS under one known key, header rules included (used on published test vectors)."""
    _, signed, _, payload, signature = _take_apart(unverified)
    signatures.verify(public, signed, signature)
    return payload


def _take_apart(unverified: str | bytes, *, keyed: bool = False) -> tuple[str, bytes, _ParsedHeader, bytes, bytes]:
    if len(unverified) > MESSAGE_MAX:
        _violation("size")
    try:
        compact = unverified.decode("ascii") if isinstance(unverified, bytes) else unverified
        raw = compact.encode("ascii")
    except UnicodeError:
        _violation("shape", "not ASCII")
    segments = compact.split(".")
    if len(segments) != 3:  # noqa: PLR2004 - RFC 7515 section 7.1: header, payload, signature
        _violation("shape", "not three segments")
    try:
        header = _parse_keyed_header(segments[0]) if keyed else _parse_header(segments[0])
        payload = ids.decode_base64url(segments[1])
        signature = ids.decode_base64url(segments[2])
    except BadInput as error:
        raise ProtocolViolation("shape", error.detail) from error
    return compact, raw[: len(segments[0]) + 1 + len(segments[1])], header, payload, signature


@lru_cache(maxsize=_HEADERS_KEPT)
def _parse_header(segment: str) -> _ParsedHeader:
    if len(segment) > HEADER_MAX:
        _violation("size")
    header = _strict_json(ids.decode_base64url(segment), _Header, rule="header")
    if header.alg != "ES256" or not ids.DIGEST.fullmatch(header.kid) or not _TYP.fullmatch(header.typ):
        _violation("header", "alg, kid or typ")
    if header.x5c is not None and not 1 <= len(header.x5c) <= CHAIN_MAX:
        _violation("header", "x5c")
    return _ParsedHeader(typ=header.typ, kid=header.kid, chain=tuple(_decode_der(text) for text in header.x5c or ()))


def _parse_keyed_header(segment: str) -> _ParsedHeader:
    if len(segment) > HEADER_MAX:
        _violation("size")
    header = _strict_json(ids.decode_base64url(segment), _KeyedHeader, rule="header")
    if header.alg != "ES256":
        _violation("header", "alg")
    return _ParsedHeader(typ=header.typ, kid="", chain=())


@lru_cache(maxsize=_HEADERS_KEPT)
def _header_segment(kid: str, typ: str, chain: tuple[bytes, ...]) -> str:
    header: dict[str, object] = {"alg": "ES256", "typ": typ, "kid": kid}
    if chain:
        header["x5c"] = [encode_der(der) for der in chain]
    return ids.encode_base64url(msgspec.json.encode(header))


def encode_der(der: bytes) -> str:
    """A certificate as `x5c` spells it: ordinary base64 of the DER (RFC 7515 section 4.1.6)."""
    encoded = ids.encode_base64url(der).replace("-", "+").replace("_", "/")
    return encoded + "=" * (-len(encoded) % 4)


@lru_cache(maxsize=_CERTIFICATES_KEPT)
def _decode_der(text: str) -> bytes:
    try:
        der = ids.decode_base64url(text.rstrip("=").replace("+", "-").replace("/", "_"))
    except BadInput as error:
        raise ProtocolViolation("header", "x5c") from error
    if encode_der(der) != text:
        _violation("header", "x5c")
    return der


def decode_chain(texts: tuple[str, ...] | list[str]) -> tuple[bytes, ...]:
    """Certificates from their base64 texts, as they travel beside an order; ProtocolViolation if one is misspelt."""
    if len(texts) > CHAIN_MAX:
        _violation("header", "x5c")
    return tuple(_decode_der(text) for text in texts)


def _strict_json(data: bytes, kind: type[T] | type[_Header] | type[_KeyedHeader], *, rule: str = "claims") -> Any:
    """Decode exactly one `kind`: msgspec checks names and types; what it forgives (duplicates, 1.0) our own encoding would not produce."""
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise ProtocolViolation(rule, str(error)[:200]) from error
    written = msgspec.json.encode(value)
    if written != data:
        if len(data) > len(written) * (1 if rule == "header" else ESCAPED_MAX) + SPACES_MAX:
            _violation("size", "most of it says nothing")
        check_strict_json(data, rule)
    return value


def check_strict_json(data: bytes, rule: str) -> None:
    """ProtocolViolation where two readers could read two things: a name twice, a figure that is no whole number."""
    try:
        json.loads(data, object_pairs_hook=_no_duplicates, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError, ProtocolViolation) as error:
        raise ProtocolViolation(rule, "not strict JSON") from error


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) != len(pairs):
        _violation("claims", "duplicate name")
    return dict(pairs)


def _no_float(_: str) -> NoReturn:
    _violation("claims", "not a whole number")


def _violation(rule: str, detail: str = "") -> NoReturn:
    raise ProtocolViolation(rule, detail)
