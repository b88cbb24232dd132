"""The authorities of an operator as the tests of certificates need them."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import Authority

AT = 1_795_000_000
OPERATOR = "hana"
DAY_S = 86_400


@dataclass(frozen=True)
class World:
    """The authorities of one operator, and the moment at which they were made."""

    operator: str
    at: int
    root_der: bytes
    root: Authority
    gateway: Authority
    merchant: Authority
    session: Authority

    def leaf(self, authority: Authority, urn: str, purpose: str, *, key: EllipticCurvePrivateKey | None = None) -> tuple[bytes, ...]:
        """A whole chain for this party and purpose, leaf first."""
        public = (key or keys.new_key()).public_key()
        der = certificates.make_leaf(authority, urn=urn, purpose=purpose, public=public, at=self.at, lifetime_s=DAY_S)
        return (der, *authority.chain)


def make_world(operator: str = OPERATOR, at: int = AT) -> World:
    root_key, gateway_key, merchant_key, session_key = (keys.new_key() for _ in range(4))
    root_der = certificates.make_root(operator, root_key, at)
    root = Authority.of_root(root_key, root_der)
    gateway_der = certificates.make_authority(root, operator, "gateway", gateway_key.public_key(), 0, at)
    merchant_der = certificates.make_authority(root, operator, "merchant", merchant_key.public_key(), 1, at)
    merchant = Authority.below_root(merchant_key, [merchant_der])
    session_der = certificates.make_authority(merchant, operator, "session:shop", session_key.public_key(), 0, at)
    return World(
        operator=operator,
        at=at,
        root_der=root_der,
        root=root,
        gateway=Authority.below_root(gateway_key, [gateway_der]),
        merchant=merchant,
        session=Authority.below_root(session_key, [session_der, merchant_der]),
    )
