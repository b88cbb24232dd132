"""The wallet's folder (0700, files 0600): for each operator its root, this device's enrolment and the receipts.

    FOLDER/<operator>/root.der         the root that the customer accepted
                      enrolment.json   payment server, customer, certificate chain
                      device-<kid>.pem the device key of that certificate
                      code-<kid>.secret the secret of one-time codes
                      receipts/<payment>.jose

No password, session key or cookie is ever written. `enrolment.json` is written last and names the certificate, so that a crash leaves the
old enrolment or the new one, never a mixture.
"""

import base64
import contextlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import certificate_paths, certificates, keys
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Conflict, ProtocolViolation
from hanbit.protocols import signed
from hanbit.protocols.redirect.customer import CLOCK_TOLERANCE_S, Pin
from hanbit.protocols.signed import Signer

FILE_MAX: Final = 64 * 1024
"""Bytes of one file in the folder."""
SECRET_BYTES: Final = 32
_ROOT, _ENROLMENT, _RECEIPTS = "root.der", "enrolment.json", "receipts"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What makes this computer the customer's own device at one payment server."""

    origin: str
    customer: str
    device: Signer
    not_after: int
    secret: bytes = field(repr=False)


class _Enrolment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: str
    customer: str
    chain: tuple[str, ...]
    not_after: int


class Store:
    """One wallet on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trust(self, unverified_root: bytes, at: int) -> Pin:
        """Keep a root that the customer accepted. Another root under the same operator's name is a Conflict: that is how a forger comes."""
        operator = read_root(unverified_root, at)
        known = self._read(operator, _ROOT)
        if known is not None and known != unverified_root:
            raise Conflict(
                f"another root of operator {operator!r} is trusted already ({thumbprint(known)}). "
                f"Ask the operator on paper or by telephone; if it was replaced, remove {self.folder / operator} first"
            )
        self._write(operator, _ROOT, unverified_root)
        return Pin(unverified_root, operator)

    def operators(self) -> tuple[str, ...]:
        """The operators whose roots are trusted."""
        if not self.folder.is_dir():
            return ()
        self._private(self.folder)
        return tuple(sorted(path.parent.name for path in self.folder.glob(f"*/{_ROOT}") if ids.PARTY_ID.fullmatch(path.parent.name)))

    def pin(self, operator: str) -> Pin:
        """The root and gateway of this operator, else BadInput that says how to trust it."""
        root = self._read(ids.check(ids.PARTY_ID, operator, "operator"), _ROOT)
        if root is None:
            raise BadInput(f"operator {operator!r} is not trusted yet: get its root from the operator and run `hanbit wallet trust ROOT`")
        return Pin(root, operator)

    def enrol(self, operator: str, enrolment: Enrolment, key: EllipticCurvePrivateKey) -> None:
        """Make this computer the device; an earlier enrolment's key is erased afterwards."""
        kid = enrolment.device.kid
        folder = self._folder(operator)
        keys.save_key(key, folder / f"device-{kid}.pem")
        self._write(operator, f"code-{kid}.secret", ids.encode_base64url(enrolment.secret).encode("ascii"))
        chain = tuple(signed.encode_der(der) for der in enrolment.device.chain)
        stored = _Enrolment(origin=enrolment.origin, customer=enrolment.customer, chain=chain, not_after=enrolment.not_after)
        self._write(operator, _ENROLMENT, msgspec.json.format(msgspec.json.encode(stored)))
        for old in (*folder.glob("device-*.pem"), *folder.glob("code-*.secret")):
            if kid not in old.name:
                old.unlink()

    def enrolment(self, operator: str) -> Enrolment | None:
        """This computer's enrolment at the operator, None if there is none; BadInput if its files are damaged."""
        text = self._read(operator, _ENROLMENT)
        if text is None:
            return None
        try:
            stored = msgspec.json.decode(text, type=_Enrolment)
            chain = tuple(base64.b64decode(der, validate=True) for der in stored.chain)
            kid = certificates.kid(chain[0])
            secret = ids.decode_base64url((self._read(operator, f"code-{kid}.secret") or b"").decode("ascii"))
        except (msgspec.MsgspecError, ValueError, IndexError, BadInput) as error:
            raise BadInput(f"the enrolment in {self.folder / operator} is damaged: enrol again with a new code") from error
        if len(secret) != SECRET_BYTES:
            raise BadInput(f"the enrolment in {self.folder / operator} has lost its secret: enrol again with a new code")
        key = keys.load_key(self.folder / operator / f"device-{kid}.pem")
        device = Signer(urn=stored.customer, purpose="customer-sign", kid=kid, chain=chain, key=key)
        return Enrolment(origin=stored.origin, customer=stored.customer, device=device, not_after=stored.not_after, secret=secret)

    def keep_receipt(self, operator: str, payment: str, compact: str) -> Path:
        """Store a verified receipt, and say where."""
        name = f"{ids.check(ids.TOKEN, payment, 'payment')}.jose"
        self._write(operator, f"{_RECEIPTS}/{name}", compact.encode("ascii"))
        return self.folder / operator / _RECEIPTS / name

    def receipts(self, operator: str) -> tuple[str, ...]:
        """The payments of which there is a receipt."""
        return tuple(sorted(path.stem for path in (self.folder / operator / _RECEIPTS).glob("*.jose")))

    def _folder(self, operator: str) -> Path:
        folder = self.folder / operator
        for path in (self.folder, folder, folder / _RECEIPTS):
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700, parents=path == self.folder)
            self._private(path)
        return folder

    def _private(self, path: Path) -> None:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadInput(f"others may read {path}: run chmod 700 on it")

    def _read(self, operator: str, name: str) -> bytes | None:
        path = self.folder / operator / name
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise BadInput(f"others may read {path}: run chmod 600 on it")
                data = file.read(FILE_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}") from error
        if len(data) > FILE_MAX:
            raise BadInput(f"{path} is too large")
        return data

    def _write(self, operator: str, name: str, data: bytes) -> None:
        path = self._folder(operator) / name
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        # O_EXCL: never write through a link that somebody else laid there. After a crash the file is whole, or as it was before.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the rename itself
        finally:
            os.close(folder)


def read_root_file(path: Path) -> bytes:
    """The DER in a file that holds one certificate as PEM or DER; BadInput if it holds anything else. Nothing is believed yet."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    chain = certificates.load_chain_pem(path)
    if len(chain) != 1:
        raise BadInput(f"{path} holds {len(chain)} certificates: the root alone is expected")
    return chain[0]


def read_root(unverified: bytes, at: int) -> str:
    """The operator whose root this is; BadInput unless it is a root of our profile that is valid now."""
    try:
        content = certificate_paths.read_root(unverified)
    except ProtocolViolation as error:
        raise BadInput("this is not the root certificate of a Hanbit operator: ask the operator for its root.pem") from error
    if not content.not_before - CLOCK_TOLERANCE_S <= at <= content.not_after:
        raise BadInput("this root certificate has expired, or the clock of this computer is wrong")
    return content.urn.operator


def thumbprint(root: bytes) -> str:
    """The SHA-256 of the root in groups of four, to compare on paper or by telephone."""
    text = ids.decode_base64url(certificates.kid(root)).hex()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))
