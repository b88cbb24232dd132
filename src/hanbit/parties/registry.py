"""The keys that are registered for each party: a message's certificate only selects one of them."""

import json
from collections.abc import Sequence
from dataclasses import replace

from hanbit.crypto import certificates
from hanbit.crypto.certificates import VerifiedCertificate
from hanbit.db.change import Put
from hanbit.db.reading import Reader
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.signed import RegisteredKey, decode_chain, encode_der

_KEYS_KEPT = 4096


class Registry:
    """The gateway's trust: certificates that the operator issued, in the book; revocation is read anew each time."""

    def __init__(self, reader: Reader, root: bytes, operator: str) -> None:
        self._reader = reader
        self._root = root
        self._operator = operator
        self._verified: dict[str, tuple[VerifiedCertificate, RegisteredKey]] = {}

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The registered key with this kid; `chain`, where a message carries one, must be the registered chain."""
        row = self._reader.one("SELECT revoked_at FROM certificates WHERE kid = ?", kid)
        if row is None:
            raise ProtocolViolation("unknown_key", "no such key is registered")
        known, key = self._verified.get(kid) or self._keep(
            certificates.verify_chain(decode_chain(self.chain_texts(kid)), root=self._root, at=at, operator=self._operator)
        )
        if chain and chain != known.chain:
            raise ProtocolViolation("unknown_key", "not the registered chain")
        return key if row["revoked_at"] is None else replace(key, revoked_at=row["revoked_at"])

    @property
    def root(self) -> bytes:
        """The operator's root certificate."""
        return self._root

    def session_authority(self, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The registered session authority whose chain this is; its dates and revocation are the caller's to look at, as for any key."""
        kid = certificates.kid(chain[0]) if chain else ""
        row = self._reader.one("SELECT revoked_at FROM certificates WHERE kid = ? AND purpose = ''", kid)
        if row is None:
            raise ProtocolViolation("unknown_key", "no such session authority is registered")
        known, key = self._verified.get(kid) or self._keep(
            certificates.verify_session_authority(chain, root=self._root, at=at, operator=self._operator)
        )
        if chain != known.chain:
            raise ProtocolViolation("unknown_key", "not the registered chain")
        return key if row["revoked_at"] is None else replace(key, revoked_at=row["revoked_at"])

    def chain_texts(self, kid: str) -> list[str]:
        """The registered chain in base64 DER, leaf first, to hand to customers beside an order."""
        row = self._reader.one("SELECT chain FROM certificates WHERE kid = ?", kid)
        try:
            return [] if row is None else list(json.loads(row["chain"]))
        except (ValueError, TypeError) as error:  # somebody has been at the book: `hanbit evidence check` names the row
            raise ProtocolViolation("unknown_key", "the registered chain cannot be read") from error

    def _keep(self, known: VerifiedCertificate) -> tuple[VerifiedCertificate, RegisteredKey]:
        if len(self._verified) >= _KEYS_KEPT:
            self._verified.clear()
        self._verified[known.kid] = known, _registered(known)
        return self._verified[known.kid]


def _registered(known: VerifiedCertificate) -> RegisteredKey:
    return RegisteredKey(
        kid=known.kid, urn=known.urn, purpose=known.purpose, public=known.public, not_before=known.not_before, not_after=known.not_after
    )


def certificate_put(chain: Sequence[bytes], *, root: bytes, operator: str, at: int) -> Put:
    """The row that registers a certificate which the operator has just issued."""
    return _put(certificates.verify_chain(tuple(chain), root=root, at=at, operator=operator), at)


def session_authority_put(chain: Sequence[bytes], *, root: bytes, operator: str, at: int) -> Put:
    """The row that registers a merchant's session authority which the operator has just issued."""
    return _put(certificates.verify_session_authority(tuple(chain), root=root, at=at, operator=operator), at)


def _put(certificate: VerifiedCertificate, at: int) -> Put:
    return Put(
        "certificates",
        {
            "kid": certificate.kid,
            "urn": certificate.urn,
            "purpose": certificate.purpose,
            "chain": json.dumps([encode_der(der) for der in certificate.chain]),
            "serial": str(certificate.serials[0]),
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
            "issued_at": at,
            "revoked_at": None,
        },
        version=0,
    )
