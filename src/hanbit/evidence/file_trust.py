"""Whom an evidence file lets one believe: the chains that stand in it, each verified to the root; nothing is registered here."""

from typing import Final

from hanbit.crypto import certificates
from hanbit.crypto.certificates import VerifiedCertificate
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.signed import RegisteredKey

KEYS_KEPT: Final = 10_000


class FileTrust:
    """Keys of the chains in the file, each verified to the root; nothing is registered here but what the operator has certified."""

    def __init__(self, root: bytes, operator: str) -> None:
        self._root, self._operator = root, operator
        self._chains: dict[str, tuple[bytes, ...]] = {}
        self._verified: dict[str, VerifiedCertificate] = {}

    def bring(self, chain: tuple[bytes, ...]) -> None:
        """A chain that stands in the file beside the messages, for orders, which carry none."""
        self._chains[certificates.kid(chain[0])] = chain

    def chain(self, kid: str) -> tuple[bytes, ...]:
        """What stands beside the messages for this key; empty if nothing does."""
        return self._chains.get(kid, ())

    def certificate(self, kid: str, chain: tuple[bytes, ...], at: int) -> VerifiedCertificate:
        """The verified leaf with this kid."""
        chain = chain or self.chain(kid)
        known = self._verified.get(kid)
        if known is None or known.chain != chain:
            if not chain or certificates.kid(chain[0]) != kid:
                raise ProtocolViolation("unknown_key", "the file has no certificate of the key that signed")
            known = certificates.verify_chain(chain, root=self._root, at=at, operator=self._operator)
            if len(self._verified) < KEYS_KEPT:
                self._verified[kid] = known
        return known

    @property
    def root(self) -> bytes:
        """The operator's root certificate."""
        return self._root

    def session_authority(self, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """A merchant's session authority; its revocation too is a matter of each message's own moment."""
        known = certificates.verify_session_authority(chain, root=self._root, at=at, operator=self._operator)
        return RegisteredKey(known.kid, known.urn, known.purpose, known.public, known.not_before, known.not_after)

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The key with this kid; revocation is a matter of each message's own moment."""
        known = self.certificate(kid, chain, at)
        return RegisteredKey(kid, known.urn, known.purpose, known.public, known.not_before, known.not_after)
