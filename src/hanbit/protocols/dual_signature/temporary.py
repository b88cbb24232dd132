"""Temporary certificates (D3): a shop's session authority names a customer's fresh key for one session; whoever reads one holds it to that.

A temporary key proves that one and the same customer did everything in a session. It says nothing about who he is: the shop named it.
"""

from dataclasses import dataclass, replace
from typing import Final, NoReturn, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import Authority
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.fields import INSTANT_MAX
from hanbit.protocols.signed import RegisteredKey, check_usable

TEMPORARY_LIFE_S: Final = 13 * 60
"""From its issue; with the two minutes before it a quarter of an hour."""
TEMPORARY_LIFE_MAX_S: Final = 15 * 60
"""No reader takes one that goes on for longer than this."""
PURPOSE: Final = "temporary"


class Authorities(Protocol):
    """The session authorities that are registered: the gateway's own list, by which one is taken out of use at once."""

    def session_authority(self, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The registered authority whose chain this is (its own certificate first), or ProtocolViolation."""
        ...


@dataclass(frozen=True, slots=True)
class TemporaryTrust:
    """Trusts the temporary key of one session with one merchant, and nothing else.

    The chain leads to the root through the session authority that bears this merchant's name (`crypto/certificate_profile.py` allows no
    other above a temporary certificate); where `authorities` are given, that very authority must be registered, valid and not revoked.
    """

    root: bytes
    merchant: str
    """The merchant's URN."""
    sid: str
    authorities: Authorities | None = None

    @property
    def urn(self) -> str:
        """The name of the key that is trusted."""
        _, _, operator, role, name = self.merchant.split(":")
        if role != "merchant":
            _violation("temporary", "no merchant")
        return temporary_urn(operator, name, self.sid)

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The temporary key of this session, or ProtocolViolation."""
        if not chain or certificates.kid(chain[0]) != kid:
            _violation("unknown_key", "kid is not the certificate's")
        urn = self.urn
        certificate = certificates.verify_chain(chain, root=self.root, at=at, operator=urn.split(":")[2])
        if certificate.urn != urn:
            _violation("temporary", "certified for another merchant or another session")
        if certificate.not_after > at + TEMPORARY_LIFE_MAX_S:
            _violation("certificate_dates", "a temporary certificate lives for a quarter of an hour")
        if self.authorities is not None:
            check_usable(self.authorities.session_authority(chain[1:], at), at)
        return RegisteredKey(
            kid=kid,
            urn=certificate.urn,
            purpose=certificate.purpose,
            public=certificate.public,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
        )


@dataclass(frozen=True, slots=True)
class AsIssued:
    """The shop's own reading: the certificate that it issued in this session is known by its bytes, of any other the rules are asked."""

    trust: TemporaryTrust
    issued: tuple[bytes, ...]
    """The chain of that certificate; empty where the shop's book does not say."""

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The temporary key of this session, or ProtocolViolation."""
        known = bool(chain) and chain == self.issued and certificates.kid(chain[0]) == kid
        leaf = certificates.own_content(chain[0]) if known else None
        if leaf is None or leaf.not_after > at + TEMPORARY_LIFE_MAX_S or leaf.urn.text != self.trust.urn:
            return self.trust.key(kid, chain, at)
        lives = [certificates.validity(der) for der in (*chain, self.trust.root)]
        not_before, not_after = max(first for first, _ in lives), min(last for _, last in lives)
        return RegisteredKey(
            kid=kid, urn=leaf.urn.text, purpose=leaf.purpose, public=leaf.public, not_before=not_before, not_after=not_after
        )


@dataclass(frozen=True, slots=True)
class AsTaken:
    """The key of a session as it was when its dual signature was taken: it is known since, and its certificate may have ended."""

    trust: TemporaryTrust
    taken_at: int

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:  # noqa: ARG002 - the dates were seen then
        """The temporary key of this session, whenever it signs."""
        return replace(self.trust.key(kid, chain, self.taken_at), not_before=0, not_after=INSTANT_MAX)


def thumbprint_of(chain: tuple[bytes, ...]) -> str:
    """The name (RFC 7638) of the key in a certificate that was verified."""
    return keys.thumbprint(certificates.public_of(chain[0]))


def temporary_urn(operator: str, merchant_id: str, sid: str) -> str:
    """`urn:hanbit:<operator>:temporary:<merchant>:<sid>`: the customer's name in this session."""
    return ids.urn(operator, "temporary", f"{merchant_id}:{sid}")


def issue(authority: Authority, *, merchant: str, sid: str, public: EllipticCurvePublicKey, at: int) -> tuple[bytes, ...]:
    """The chain of a temporary certificate: leaf, session authority, merchant authority. `merchant` is the shop's own URN."""
    _, _, operator, _, name = merchant.split(":")
    leaf = certificates.make_leaf(
        authority,
        urn=temporary_urn(operator, name, sid),
        purpose=PURPOSE,
        public=public,
        at=at,
        lifetime_s=TEMPORARY_LIFE_S,
    )
    return (leaf, *authority.chain)


def _violation(rule: str, detail: str) -> NoReturn:
    raise ProtocolViolation(rule, detail)
