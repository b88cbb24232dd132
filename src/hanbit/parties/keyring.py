"""The operator's own keys on disk: the authorities, the gateway's signing and sealing keys, and the two secrets that never enter the book.

keys/root.pem                    the root certificate (its private key is written where `hanbit init --root-key` says)
keys/gateway-authority.{pem,key} issues the gateway's own and customers' certificates
keys/merchant-authority.{…}      issues merchants' certificates
keys/gateway-sign[-<time>].{…}   signs notices, outcomes, receipts; renewed after 54 of its 90 days, the newest is in use
keys/line[-<time>].{…}           the gateway's end of the line, renewed likewise
keys/seal-<time>.{…}             24 hours each; the private half is destroyed an hour after the last opening made under it
keys/server.key, keys/pepper     MAC key of openings; pepper of passwords and numbers: a stolen book opens nothing

Several processes may work on one folder (`Renewing`, `refresh`), and several machines each on a copy of it (`wrap`, `receive`).

A new key is `prepared` (its files written, the private one under a name that nobody loads), then its certificate is committed to the
book, then it is `adopted`: a key is never in use before the book knows it, and a stop anywhere leaves at most a certificate without a key.
"""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from hanbit.crypto import certificates, envelopes, keys
from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import DOOMED, destroy
from hanbit.crypto.tls import LineTls
from hanbit.db.change import Put
from hanbit.kernel.errors import BadInput, ProtocolViolation, Unavailable
from hanbit.parties.registry import certificate_put
from hanbit.protocols.redirect.gateway import OPENING_LIFE_S, SealKey
from hanbit.protocols.signed import Signer
from hanbit.settings import Settings

DAY_S = 24 * 3600
SIGNING_LIFE_S = 90 * DAY_S
SEAL_LIFE_S = DAY_S
SEAL_KEPT_S = SEAL_LIFE_S + OPENING_LIFE_S + 3600
AUTHORITIES = ("gateway", "merchant")
RENEWING_WAIT_S, RENEWING_LOOK_S = 20.0, 0.05
"""How long another process on this folder may take to make its keys."""
WRAPPED_TYP = "hanbit-ownkey"
PENDING = ".pending"
"""What a key file is called until the book knows its certificate."""
SEAL = "gateway-seal"
RENEWED: Final = ("gateway-sign", "line")
"""The gateway's own purposes whose certificates are renewed; sealing keys come and go by the day."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A new key of the gateway's own, written and not yet in use."""

    purpose: str
    made_at: int
    stem: Path
    chain: tuple[bytes, ...]
    private: EllipticCurvePrivateKey = field(repr=False)

    @property
    def signer(self) -> Signer:
        """The new key as one that can sign."""
        urn = certificates.urn_of(self.chain[0])
        return Signer(urn=urn, purpose=self.purpose, kid=certificates.kid(self.chain[0]), chain=self.chain, key=self.private)

    def discard(self) -> None:
        """The book did not take its certificate: nobody will ever use it."""
        destroy(_named(self.stem, f".key{PENDING}"))
        _named(self.stem, ".pem").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Keyring:
    """Loaded keys; `seals` by kid, the newest is the current one."""

    folder: Path
    operator: str
    root: bytes
    gateway_authority: Authority
    merchant_authority: Authority
    signer: Signer
    line: Signer
    line_tls: LineTls
    server_key: bytes = field(repr=False)
    pepper: bytes = field(repr=False)
    seals: dict[str, tuple[int, SealKey]] = field(default_factory=dict)
    in_use: dict[str, Path] = field(default_factory=dict)
    """Purpose → the files of the key with which we sign or show ourselves, without their ending."""
    ahead: Callable[[], int] = lambda: 0
    """How far a sandbox's clock is ahead of the machine's: TLS knows the machine's only, so certificates begin early enough for both."""
    renewing: "Renewing" = field(init=False)
    """Held by whoever makes the next keys: the background, or the command that has just revoked one, of all processes on this folder."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "renewing", Renewing(self))

    @property
    def seal(self) -> SealKey:
        """The current gateway-seal key."""
        return max(self.seals.values(), key=lambda item: item[0])[1]

    def seal_by_kid(self, kid: str) -> SealKey | None:
        """A gateway-seal key whose private half is still there; another process may have made it a moment ago."""
        if kid not in self.seals:
            self.refresh()
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
        leaf = certificates.make_leaf(
            authority,
            urn=urn,
            purpose=purpose,
            public=public,
            at=at,
            lifetime_s=SIGNING_LIFE_S,
            not_before_offset_s=certificates.NOT_BEFORE_OFFSET_S + self.ahead(),
        )
        return (leaf, *authority.chain)

    def issue_session_authority(self, *, merchant: str, public: EllipticCurvePublicKey, at: int) -> tuple[bytes, ...]:
        """The session authority of the merchant with this id, with the authority above it."""
        der = certificates.make_authority(self.merchant_authority, self.operator, f"session:{merchant}", public, 0, at)
        return (der, *self.merchant_authority.chain)

    def destroy_old_seals(self, at: int) -> None:
        """Sealing keys that nobody can need any more: their private halves go."""
        for kid, (made_at, _) in list(self.seals.items()):
            if at > made_at + SEAL_KEPT_S:
                destroy(self.folder / f"seal-{made_at}.key")
                del self.seals[kid]

    def due(self, at: int) -> tuple[str, ...]:
        """The purposes for which a new key is wanted now."""
        wanted = [purpose for purpose, signer in self._own.items() if self._is_due(signer.chain[0], at)]
        if not self.seals or at >= max(made_at for made_at, _ in self.seals.values()) + SEAL_LIFE_S - OPENING_LIFE_S * 2:
            wanted.append(SEAL)
        return tuple(wanted)

    def prepare(self, purpose: str, at: int) -> Prepared:
        """Make a key and its certificate and write both, the key under a name that `load` does not take."""
        chain, private = _new_own(self.gateway_authority, self.operator, purpose, at, self.ahead())
        name = "seal" if purpose == SEAL else purpose
        # A clock that was set back must not make a new key look like the older one, and no file is ever written over.
        number = at if purpose == SEAL else max(at, *(number + 1 for number, _ in _stems(self.folder, purpose)))
        while any(self.folder.glob(f"{name}-{number}.*")):
            number += 1
        stem = self.folder / f"{name}-{number}"
        prepared = Prepared(purpose, at, stem, chain, private)
        keys.save_key(private, _named(stem, f".key{PENDING}"))
        write_secret(_named(stem, ".pem"), certificates.dump_chain_pem(chain).encode("ascii"))
        return prepared

    def certificate_row(self, prepared: Prepared) -> Put:
        """The row by which the book gets to know a prepared key."""
        return certificate_put(prepared.chain, root=self.root, operator=self.operator, at=prepared.made_at)

    def adopt(self, prepared: Prepared) -> None:
        """The book knows its certificate: from now on this key is in use, and the signing key before it is destroyed."""
        _named(prepared.stem, f".key{PENDING}").rename(_named(prepared.stem, ".key"))
        _sync(self.folder)
        if prepared.purpose == SEAL:
            kid = certificates.kid(prepared.chain[0])
            self.seals[kid] = (int(prepared.stem.name.removeprefix("seal-")), SealKey(kid, prepared.chain[0], prepared.private))
            return
        self.in_use[prepared.purpose] = prepared.stem
        self._own[prepared.purpose].renew(prepared.chain, prepared.private)
        if prepared.purpose == "line":
            self.line_tls.show(_named(prepared.stem, ".pem"), _named(prepared.stem, ".key"))
        _destroy_replaced(self.folder, prepared.purpose)

    def refresh(self) -> None:
        """Take over what another process on this folder has adopted or destroyed since."""
        with suppress(BadInput, OSError):  # it goes away while we read it: the next look finds what is there then
            for purpose, signer in self._own.items():
                stem = newest(self.folder, purpose)
                if stem != self.in_use[purpose]:
                    chain = certificates.load_chain_pem(_named(stem, ".pem"))
                    signer.renew(tuple(chain), keys.load_key(_named(stem, ".key")))
                    self.in_use[purpose] = stem
                    if purpose == "line":
                        self.line_tls.show(_named(stem, ".pem"), _named(stem, ".key"))
            there = {int(path.stem.removeprefix("seal-")): path for path in self.folder.glob("seal-*.key")}
            for kid, (made_at, _) in list(self.seals.items()):
                if there.pop(made_at, None) is None:
                    del self.seals[kid]
            for made_at, path in there.items():
                key = _load_seal(path)
                self.seals[key.kid] = (made_at, key)

    # Keys on their way to this gateway's other machines

    def wrap(self, prepared: Prepared) -> str:
        """A prepared key as the book carries it: sealed under what lies in every machine's keys folder and in no book."""
        files = {ending: _named(prepared.stem, ending).read_text("ascii") for ending in (f".key{PENDING}", ".pem")}
        parcel = {"stem": prepared.stem.name, "key": files[f".key{PENDING}"], "chain": files[".pem"]}
        return envelopes.seal_with_secret(self._wrapping_key(), msgspec.json.encode(parcel), {"typ": WRAPPED_TYP})

    def lacks(self, stem: str, purpose: str, made_at: int, at: int) -> bool:
        """Whether this key of another machine's is of use here: a sealing key that still opens something, or newer than ours."""
        number = int(stem.rpartition("-")[2])
        if purpose == SEAL:
            return at <= made_at + SEAL_KEPT_S and not (self.folder / f"{stem}.key").exists()
        return number > max((known for known, _ in _stems(self.folder, purpose)), default=-1)

    def receive(self, stem: str, wrapped: str) -> None:
        """Take over what another machine has wrapped; ProtocolViolation where it is not what it says. For who holds `renewing`."""
        header, plain = envelopes.open_with_secret(wrapped, self._wrapping_key())
        parcel = msgspec.json.decode(plain, type=dict[str, str])
        if header.get("typ") != WRAPPED_TYP or parcel["stem"] != stem or "/" in stem:
            raise ProtocolViolation("sealed")
        path = self.folder / stem
        for ending in (".pem", f".key{PENDING}"):  # what a stop left half written
            _named(path, ending).unlink(missing_ok=True)
        write_secret(_named(path, ".pem"), parcel["chain"].encode("ascii"))
        write_secret(_named(path, f".key{PENDING}"), parcel["key"].encode("ascii"))
        _named(path, f".key{PENDING}").rename(_named(path, ".key"))
        _sync(self.folder)
        self.refresh()
        for purpose in RENEWED:
            _destroy_replaced(self.folder, purpose)

    def _wrapping_key(self) -> bytes:
        return envelopes.derive(self.server_key, salt=b"", info=b"hanbit keys between machines")

    def not_after(self) -> dict[str, int]:
        """When each certificate in use ends, by purpose; the authorities too."""
        ends = {purpose: certificates.validity(signer.chain[0])[1] for purpose, signer in self._own.items()}
        ends["gateway authority"] = certificates.validity(self.gateway_authority.chain[0])[1]
        ends["merchant authority"] = certificates.validity(self.merchant_authority.chain[0])[1]
        return ends

    @property
    def _own(self) -> dict[str, Signer]:
        return {"gateway-sign": self.signer, "line": self.line}

    def _is_due(self, leaf: bytes, at: int) -> bool:
        """In time, and only if a new one would outlive it by a day: near the authority's own end it would not."""
        not_before, not_after = certificates.validity(leaf)
        would_end = min(at + SIGNING_LIFE_S, certificates.validity(self.gateway_authority.chain[0])[1])
        return at >= certificates.renew_at(not_before, not_after) and would_end > not_after + DAY_S


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
    for purpose in (*RENEWED, SEAL):
        chain, private = _new_own(authority, operator, purpose, at)
        _save(folder / (f"seal-{at}" if purpose == SEAL else purpose), private, chain)
        rows.append(certificate_put(chain, root=root, operator=operator, at=at))
    for name in ("server.key", "pepper"):
        write_secret(folder / name, secrets.token_bytes(32))
    return rows


def tidy_up(folder: Path) -> None:
    """Finish what a stop left: keys that the book never knew, keys that were replaced, keys half destroyed. For who holds the folder."""
    for path in folder.glob(f"*.key{PENDING}"):
        destroy(path)
        _named(path.with_name(path.name.removesuffix(f".key{PENDING}")), ".pem").unlink(missing_ok=True)
    for path in folder.glob(f"*.key*{DOOMED}"):
        destroy(path.with_name(path.name.removesuffix(DOOMED)))
    for purpose in RENEWED:
        _destroy_replaced(folder, purpose)


def load(folder: Path, settings: Settings, *, ahead: Callable[[], int] = lambda: 0) -> Keyring:
    """Read the keys of a data folder; BadInput names the file that is missing or readable by others."""
    own = {purpose: newest(folder, purpose) for purpose in RENEWED}
    files = [_named(stem, kind) for stem in own.values() for kind in (".key", ".pem")]
    for path in (folder / "root.pem", folder / "server.key", folder / "pepper", *files):
        if not path.exists():
            raise BadInput(f"{path} is missing")
        if path.stat().st_mode & 0o077:
            raise BadInput(f"{path} can be read by others: chmod 600 {path}")
    server_key, pepper = (folder / "server.key").read_bytes(), (folder / "pepper").read_bytes()
    if len(server_key) < 32 or len(pepper) < 32:  # noqa: PLR2004 - the 32 bytes that `create` wrote
        raise BadInput("server.key or pepper is cut short")
    signers = {
        purpose: Signer.load(_named(stem, ".pem"), _named(stem, ".key"), urn=settings.gateway_urn, purpose=purpose)
        for purpose, stem in own.items()
    }
    seals = {}
    for path in folder.glob("seal-*.key"):
        if not path.stem.removeprefix("seal-").isdecimal():
            raise BadInput(f"{path}: not the name of a sealing key; move it elsewhere")
        seal = _load_seal(path)
        seals[seal.kid] = (int(path.stem.removeprefix("seal-")), seal)
    return Keyring(
        folder=folder,
        operator=settings.operator,
        root=certificates.load_chain_pem(folder / "root.pem")[0],
        gateway_authority=_load_authority(folder, "gateway"),
        merchant_authority=_load_authority(folder, "merchant"),
        signer=signers["gateway-sign"],
        line=signers["line"],
        line_tls=LineTls(_named(own["line"], ".pem"), _named(own["line"], ".key"), folder / "root.pem"),
        server_key=server_key,
        pepper=pepper,
        seals=seals,
        in_use=own,
        ahead=ahead,
    )


class Renewing:
    """One after another, of this process's tasks and of the processes on this folder; whoever enters sees what those before him made."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._lock = asyncio.Lock()
        self._descriptor = -1

    @property
    def is_held(self) -> bool:
        """Whether this process makes keys at this moment."""
        return self._lock.locked()

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        try:
            self._descriptor = os.open(self._keyring.folder, os.O_RDONLY | os.O_DIRECTORY)
            async with asyncio.timeout(RENEWING_WAIT_S):
                while not self._taken():  # noqa: ASYNC110 - another process's lock rings no bell
                    await asyncio.sleep(RENEWING_LOOK_S)
            self._keyring.refresh()
        except BaseException as error:
            self._leave()
            if isinstance(error, TimeoutError):
                raise Unavailable("another process is making keys") from error
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _leave(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self._lock.release()


def newest(folder: Path, purpose: str) -> Path:
    """The files of the gateway's own key of this purpose that is in use, without their ending."""
    return max(_stems(folder, purpose), default=(0, folder / purpose))[1]


def _stems(folder: Path, purpose: str) -> list[tuple[int, Path]]:
    """Every key of a purpose whose private half is there: the first has no time in its name."""
    found = [(0, folder / purpose)] if (folder / f"{purpose}.key").exists() else []
    for path in folder.glob(f"{purpose}-*.key"):
        made_at = path.stem.removeprefix(f"{purpose}-")
        if made_at.isdecimal():
            found.append((int(made_at), path.with_suffix("")))
    return found


def _destroy_replaced(folder: Path, purpose: str) -> None:
    """Nothing is signed with a replaced key any more; its certificate stays."""
    for _, stem in sorted(_stems(folder, purpose))[:-1]:
        destroy(_named(stem, ".key"))


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read; refuses to replace one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _new_own(
    authority: Authority, operator: str, purpose: str, at: int, ahead_s: int = 0
) -> tuple[tuple[bytes, ...], EllipticCurvePrivateKey]:
    """A key of the gateway's own with its certificate."""
    private = keys.new_key()
    leaf = certificates.make_leaf(
        authority,
        urn=f"urn:hanbit:{operator}:gateway",
        purpose=purpose,
        public=private.public_key(),
        at=at,
        lifetime_s=SEAL_LIFE_S + OPENING_LIFE_S if purpose == SEAL else SIGNING_LIFE_S,
        not_before_offset_s=certificates.NOT_BEFORE_OFFSET_S + ahead_s,
    )
    return (leaf, *authority.chain), private


def _named(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save(stem: Path, private: EllipticCurvePrivateKey, chain: tuple[bytes, ...]) -> None:
    # The key last: `load` goes by keys, so a stop in between leaves a certificate that nobody uses, not a key without one.
    write_secret(stem.with_suffix(".pem"), certificates.dump_chain_pem(chain).encode("ascii"))
    keys.save_key(private, stem.with_suffix(".key"))


def _load_seal(path: Path) -> SealKey:
    leaf = certificates.load_chain_pem(path.with_suffix(".pem"))[0]
    return SealKey(certificates.kid(leaf), leaf, keys.load_key(path))


def _load_authority(folder: Path, name: str) -> Authority:
    chain = certificates.load_chain_pem(folder / f"{name}-authority.pem")
    return Authority.below_root(keys.load_key(folder / f"{name}-authority.key"), chain)
