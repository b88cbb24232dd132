"""A shop's session authority: the key by which it issues temporary certificates (D3), asked for over the line and replaced in place.

    sessions/1.pem           the private key, made here; destroyed once the next one is in use
    sessions/1.request.jws   what was asked under the signing key: after a stop these very bytes are sent again
    sessions/1.chain.pem     the certificate that came, with the authority above it; it stays, as evidence of whose key that was

The highest number with a chain is in use. A shop that was enrolled before there were session authorities simply has none yet.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import Authority, VerifiedCertificate
from hanbit.crypto.keys import thumbprint
from hanbit.kernel import fail_points
from hanbit.kernel.errors import BadInput, ProtocolViolation, Unavailable
from hanbit.merchant import files

FOLDER: Final = "sessions"
RENEWED_BEFORE_END_S: Final = 12 * 86_400
"""Of 30 days; of a shorter life two fifths."""
NUMBERS_MAX: Final = 1_000
"""A new one every eighteen days."""


@dataclass(slots=True)
class SessionKeys:
    """The authority in use; whoever holds this sees the next one as soon as it is there."""

    directory: Path
    authority: Authority | None = field(default=None, repr=False)
    """None until the gateway has certified one."""

    @classmethod
    def load(cls, directory: Path) -> "SessionKeys":
        """As they lie in the shop's folder."""
        loaded = cls(directory)
        for number in reversed(loaded._numbers("chain.pem")):
            key, chain = loaded._path(number, "pem"), certificates.load_chain_pem(loaded._path(number, "chain.pem"))
            if key.exists():
                loaded.authority = Authority.below_root(keys.load_key(key), chain)
            break
        return loaded

    def usable(self, at: int) -> Authority:
        """The authority for a certificate of now; Unavailable where there is none, or none that is good."""
        if self.authority is None:
            raise Unavailable("this shop has no session authority yet: the payment server certifies one as soon as the line is up")
        not_before, not_after = certificates.validity(self.authority.chain[0])
        if not not_before <= at <= not_after:
            raise Unavailable("this shop's session authority is not good now: another one is asked for as soon as the line is up")
        return self.authority

    def is_due(self, at: int, revoked: frozenset[int]) -> bool:
        """Whether another one is to be asked for, or has been and is not in use yet."""
        if self.authority is None or self._path(self.next, "request.jws").exists():
            return True
        own = self.authority.chain[0]
        _, not_after = certificates.validity(own)
        return at >= not_after - RENEWED_BEFORE_END_S or certificates.serial_of(own) in revoked

    @property
    def next(self) -> int:
        """The number of the one that is asked for next."""
        return max(self._numbers("chain.pem"), default=0) + 1

    def new_key(self) -> EllipticCurvePrivateKey:
        """The key for it, durable before anybody hears of it: at most one was ever made for a number."""
        files.make_private(self.directory / FOLDER)
        if self.next > NUMBERS_MAX:
            raise Unavailable(f"{self.directory / FOLDER} is full: {NUMBERS_MAX} session authorities")
        path = self._path(self.next, "pem")
        if not path.exists():
            keys.save_key(keys.new_key(), path)
        return keys.load_key(path)

    @property
    def request(self) -> str | None:
        """What was asked before a stop; None where nothing was."""
        path = self._path(self.next, "request.jws")
        return path.read_text("ascii") if path.exists() else None

    def keep_request(self, compact: str) -> None:
        """Durable before it is sent."""
        files.write_private(self._path(self.next, "request.jws"), compact.encode("ascii"))

    def drop_request(self) -> None:
        """It can be answered no more (the key that signed it has ended): another one is to be signed, for the same key."""
        self._path(self.next, "request.jws").unlink(missing_ok=True)

    def use(self, certificate: VerifiedCertificate) -> None:
        """The certificate came: in use when this returns, and every private key before it is destroyed."""
        number, key = self.next, self.new_key()
        if thumbprint(certificate.public) != thumbprint(key.public_key()):
            raise ProtocolViolation("certificates", "for another key than the one that was asked for")
        files.write_private(self._path(number, "chain.pem"), certificates.dump_chain_pem(certificate.chain).encode("ascii"))
        fail_points.reach("merchant.session_authority.written")
        self.authority = Authority.below_root(key, certificate.chain)
        self.destroy_replaced()

    def destroy_replaced(self) -> None:
        """Nobody needs the private halves of those before the one in use; what a stop left undone is done at the next start."""
        current = self.next - 1
        for number in self._numbers("pem"):
            if number < current:
                keys.destroy(self._path(number, "pem"))

    def own_thumbprints(self) -> frozenset[str]:
        """The names of all such keys that this shop ever made."""
        chains = {number: certificates.load_chain_pem(self._path(number, "chain.pem")) for number in self._numbers("chain.pem")}
        names = {thumbprint(certificates.public_of(chain[0])) for chain in chains.values()}
        names |= {
            thumbprint(keys.load_key(self._path(number, "pem")).public_key()) for number in self._numbers("pem") if number not in chains
        }
        return frozenset(names)

    def _path(self, number: int, ending: str) -> Path:
        return self.directory / FOLDER / f"{number}.{ending}"

    def _numbers(self, ending: str) -> list[int]:
        folder = self.directory / FOLDER
        try:
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        except OSError as error:
            raise BadInput(f"{folder}: {error.strerror}") from error
        stems = (name.removesuffix(f".{ending}") for name in names if name.endswith(f".{ending}"))
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdecimal() and len(stem) < len(str(NUMBERS_MAX)) + 1)
