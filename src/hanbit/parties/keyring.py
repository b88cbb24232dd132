"""The operator's own keys on disk: the authorities, the gateway's signing and sealing keys, and the two secrets that never enter the book.

keys/root.pem                    the root certificate (its private key is written where `hanbit init --root-key` says)
keys/gateway-authority.{pem,key} issues the gateway's own and customers' certificates
keys/merchant-authority.{…}      issues merchants' certificates
keys/gateway-sign.{…}            signs notices, outcomes, receipts
keys/line.{…}                    the gateway's end of the line
keys/seal-<time>.{…}             24 hours each; the private half is destroyed an hour after the last opening made under it
keys/server.key, keys/pepper     MAC key of openings; pepper of passwords and numbers: a stolen book opens nothing
"""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import Authority
from hanbit.db.change import Put
from hanbit.kernel.errors import BadInput
from hanbit.parties.registry import certificate_put
from hanbit.protocols.redirect.gateway import OPENING_LIFE_S, SealKey
from hanbit.protocols.signed import Signer
from hanbit.settings import Settings

DAY_S = 24 * 3600
SIGNING_LIFE_S = 90 * DAY_S
SEAL_LIFE_S = DAY_S
SEAL_KEPT_S = SEAL_LIFE_S + OPENING_LIFE_S + 3600
AUTHORITIES = ("gateway", "merchant")
DOOMED = ".doomed"
"""What a key file is called from the moment when its destruction begins."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Loaded keys; `seals` by kid, the newest is the current one."""

    folder: Path
    operator: str
    root: bytes
    gateway_authority: Authority
    merchant_authority: Authority
    signer: Signer
    server_key: bytes = field(repr=False)
    pepper: bytes = field(repr=False)
    seals: dict[str, tuple[int, SealKey]] = field(default_factory=dict)

    @property
    def seal(self) -> SealKey:
        """The current gateway-seal key."""
        return max(self.seals.values(), key=lambda item: item[0])[1]

    def seal_by_kid(self, kid: str) -> SealKey | None:
        """A gateway-seal key whose private half is still there."""
        found = self.seals.get(kid)
        return None if found is None else found[1]

    def made_at(self, kid: str) -> int:
        """When this gateway-seal key was made; 0 once it is destroyed."""
        return self.seals[kid][0] if kid in self.seals else 0

    @property
    def oldest_seal_at(self) -> int:
        """Whatever was sealed before this moment can be opened by nobody any more."""
        return min((made_at for made_at, _ in self.seals.values()), default=0)

    def seal_chain(self) -> tuple[bytes, ...]:
        """The current gateway-seal certificate with its authority, leaf first."""
        return (self.seal.certificate, *self.gateway_authority.chain)

    def issue(self, *, urn: str, purpose: str, public: EllipticCurvePublicKey, at: int) -> tuple[bytes, ...]:
        """A leaf for a party, with its chain; gateway and customers by the gateway authority, merchants by the merchant authority."""
        authority = self.merchant_authority if ":merchant:" in urn else self.gateway_authority
        leaf = certificates.make_leaf(authority, urn=urn, purpose=purpose, public=public, at=at, lifetime_s=SIGNING_LIFE_S)
        return (leaf, *authority.chain)

    def rotate_seal(self, at: int) -> Put | None:
        """A new sealing key when the current one is near its end, and the destruction of those nobody can need; the row to register."""
        for kid, (made_at, _) in list(self.seals.items()):
            if at > made_at + SEAL_KEPT_S:
                destroy(self.folder / f"seal-{made_at}.key")
                del self.seals[kid]
        if self.seals and at < max(made_at for made_at, _ in self.seals.values()) + SEAL_LIFE_S - OPENING_LIFE_S * 2:
            return None
        chain, private = _new_seal(self.folder, self.gateway_authority, self.operator, at)
        kid = certificates.kid(chain[0])
        self.seals[kid] = (at, SealKey(kid, chain[0], private))
        return certificate_put(chain, root=self.root, operator=self.operator, at=at)


def create(folder: Path, settings: Settings, at: int, *, root_key: Path, root_passphrase: bytes | None) -> list[Put]:
    """Make every key of a new operator; returns the rows that register the gateway's own certificates."""
    folder.mkdir(mode=0o700)
    operator = settings.operator
    root_private = keys.new_key()
    root = certificates.make_root(operator, root_private, at)
    keys.save_key(root_private, root_key, root_passphrase)
    write_secret(folder / "root.pem", certificates.dump_chain_pem([root]).encode("ascii"))
    root_authority = Authority.of_root(root_private, root)
    chains: dict[str, tuple[bytes, ...]] = {}
    for name in AUTHORITIES:
        private = keys.new_key()
        certificate = certificates.make_authority(root_authority, operator, name, private.public_key(), 1 if name == "merchant" else 0, at)
        chains[name] = (certificate,)
        _save(folder / f"{name}-authority", private, chains[name])
    authority = _load_authority(folder, "gateway")
    rows = []
    for purpose in ("gateway-sign", "line"):
        private = keys.new_key()
        leaf = certificates.make_leaf(
            authority, urn=settings.gateway_urn, purpose=purpose, public=private.public_key(), at=at, lifetime_s=SIGNING_LIFE_S
        )
        chain = (leaf, *authority.chain)
        _save(folder / purpose, private, chain)
        rows.append(certificate_put(chain, root=root, operator=operator, at=at))
    for name in ("server.key", "pepper"):
        write_secret(folder / name, secrets.token_bytes(32))
    chain, _ = _new_seal(folder, authority, operator, at)
    return [*rows, certificate_put(chain, root=root, operator=operator, at=at)]


def load(folder: Path, settings: Settings) -> Keyring:
    """Read the keys of a data folder; BadInput names the file that is missing or readable by others."""
    for name in ("root.pem", "server.key", "pepper", "gateway-sign.key", "gateway-sign.pem", "line.key", "line.pem"):
        path = folder / name
        if not path.exists():
            raise BadInput(f"{path} is missing")
        if path.stat().st_mode & 0o077:
            raise BadInput(f"{path} can be read by others: chmod 600 {path}")
    server_key, pepper = (folder / "server.key").read_bytes(), (folder / "pepper").read_bytes()
    if len(server_key) < 32 or len(pepper) < 32:  # noqa: PLR2004 - the 32 bytes that `create` wrote
        raise BadInput("server.key or pepper is cut short")
    Signer.load(folder / "line.pem", folder / "line.key", urn=settings.gateway_urn, purpose="line")  # the line opens them itself, later
    for path in folder.glob(f"seal-*.key{DOOMED}"):
        destroy(path.with_name(path.name.removesuffix(DOOMED)))
    seals = {}
    for path in folder.glob("seal-*.key"):
        if not path.stem.removeprefix("seal-").isdecimal():
            raise BadInput(f"{path}: not the name of a sealing key; move it elsewhere")
        leaf = certificates.load_chain_pem(path.with_suffix(".pem"))[0]
        kid = certificates.kid(leaf)
        seals[kid] = (int(path.stem.removeprefix("seal-")), SealKey(kid, leaf, keys.load_key(path)))
    return Keyring(
        folder=folder,
        operator=settings.operator,
        root=certificates.load_chain_pem(folder / "root.pem")[0],
        gateway_authority=_load_authority(folder, "gateway"),
        merchant_authority=_load_authority(folder, "merchant"),
        signer=Signer.load(folder / "gateway-sign.pem", folder / "gateway-sign.key", urn=settings.gateway_urn, purpose="gateway-sign"),
        server_key=server_key,
        pepper=pepper,
        seals=seals,
    )


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read; refuses to replace one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def destroy(path: Path) -> None:
    """Overwrite and remove a private key (the medium may still hold old blocks: keep the folder on an encrypted disk)."""
    doomed = path.with_name(path.name + DOOMED)
    if path.exists():
        path.rename(doomed)  # first, so that a stop in between leaves no key file full of noise
    if doomed.exists():
        with doomed.open("r+b") as file:
            file.write(secrets.token_bytes(doomed.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        doomed.unlink()


def _new_seal(folder: Path, authority: Authority, operator: str, at: int) -> tuple[tuple[bytes, ...], EllipticCurvePrivateKey]:
    private = keys.new_key()
    leaf = certificates.make_leaf(
        authority,
        urn=f"urn:hanbit:{operator}:gateway",
        purpose="gateway-seal",
        public=private.public_key(),
        at=at,
        lifetime_s=SEAL_LIFE_S + OPENING_LIFE_S,
    )
    chain = (leaf, *authority.chain)
    _save(folder / f"seal-{at}", private, chain)
    return chain, private


def _save(stem: Path, private: EllipticCurvePrivateKey, chain: tuple[bytes, ...]) -> None:
    # The key last: `load` goes by keys, so a stop in between leaves a certificate that nobody uses, not a key without one.
    write_secret(stem.with_suffix(".pem"), certificates.dump_chain_pem(chain).encode("ascii"))
    keys.save_key(private, stem.with_suffix(".key"))


def _load_authority(folder: Path, name: str) -> Authority:
    chain = certificates.load_chain_pem(folder / f"{name}-authority.pem")
    return Authority.below_root(keys.load_key(folder / f"{name}-authority.key"), chain)
