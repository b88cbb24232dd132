"""A shop's folder: its registration, keys and certificates as enrolment wrote them, readable by their owner only."""

import os
import secrets
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import keys
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput
from hanbit.protocols.fields import Urn
from hanbit.protocols.signed import Signer

REGISTRATION: Final = "registration.json"
ORDER_BOOK: Final = "orders.db"
ROOT: Final = "root.pem"
GENERATION: Final = "generation"
PURPOSES: Final = ("merchant-sign", "line")
_FILE_MAX: Final = 64 * 1024
_GENERATION_DIGITS: Final = 6


class LineAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the shop dials the gateway's private line, and of which kind that is."""

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    mode: Literal["vpn", "leased"] = "vpn"
    tls: bool = True
    """Only a leased line may be without; then the gateway is known by this very address, and by its signed hello."""
    post_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """Where the gateway takes frames by POST, for while no connection is up; 0: nowhere."""

    def __post_init__(self) -> None:
        if self.tls:
            return
        try:
            ip_address(self.host)
        except ValueError as error:
            raise ValueError("line: without TLS the host must be an IP address, by which the gateway is known") from error
        if self.mode != "leased":
            raise ValueError("line: only a leased line may be without TLS")


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who the shop is at its operator; written once by enrolment."""

    operator: str
    merchant: Urn
    gateway: Urn
    line: LineAddress
    pay_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s?#]{1,400}$(?!\n)")]
    orders: Literal["signed", "plain"] = "signed"
    test: bool = False
    """The operator is a sandbox: no real money, and a clock that may be moved. Its id says so too."""

    def __post_init__(self) -> None:
        if self.test != ids.is_test(self.operator):
            raise ValueError(f"test: an operator whose id ends in {ids.TEST_ENDING} is a test, and no other is")
        if self.gateway != ids.urn(self.operator, "gateway"):
            raise ValueError("gateway: of another operator")

    @property
    def merchant_id(self) -> str:
        """MID, the last part of the shop's URN."""
        return self.merchant.rpartition(":")[2]


def read_registration(directory: Path) -> Registration:
    """The registration of an enrolled folder; BadInput with what to do where there is none."""
    path = directory / REGISTRATION
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_FILE_MAX), type=Registration)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; enrol the shop first (hanbit merchant enrol)") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadInput(f"{path}: {error}") from error


def key_path(directory: Path, purpose: str) -> Path:
    """The private key of one purpose that is in use."""
    return key_file(generation_folder(directory, generation(directory)), purpose)


def chain_path(directory: Path, purpose: str) -> Path:
    """Its certificate with the authorities below the root, leaf first."""
    return chain_file(generation_folder(directory, generation(directory)), purpose)


def key_file(folder: Path, purpose: str) -> Path:
    """The private key of one purpose in the folder of one generation."""
    return folder / f"{purpose}.pem"


def chain_file(folder: Path, purpose: str) -> Path:
    """Its certificate with the authorities below the root, leaf first."""
    return folder / f"{purpose}.chain.pem"


def generation(directory: Path) -> int:
    """Which keys are in use: 1 are those of the enrolment, each renewal brings the next. One small file decides for all of them."""
    path = directory / GENERATION
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return 1
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{path}: {error}") from error
    if not text.isascii() or not text.isdecimal() or len(text) > _GENERATION_DIGITS or not generation_folder(directory, int(text)).is_dir():
        raise BadInput(f"{path}: names no folder of keys")
    return int(text)


def use_generation(directory: Path, number: int) -> None:
    """From now on these keys are in use, all of them: atomic and durable."""
    write_private(directory / GENERATION, f"{number}\n".encode("ascii"))


def generation_folder(directory: Path, number: int) -> Path:
    """Where the keys of a generation lie, or will lie."""
    return directory / ("keys" if number == 1 else f"keys-{number}")


def generation_folders(directory: Path) -> list[Path]:
    """The folder of every generation that there ever was, the one that is being asked for included, oldest first."""
    latest = generation(directory) + 1
    return [folder for number in range(1, latest + 1) if (folder := generation_folder(directory, number)).is_dir()]


def own_key(folder: Path, purpose: str) -> EllipticCurvePrivateKey:
    """The key of an attempt that did not come through, or a new one: at most one key a purpose was ever sent to the operator."""
    path = key_file(folder, purpose)
    if path.exists():
        return keys.load_key(path)
    key = keys.new_key()
    keys.save_key(key, path)
    return key


def load_signer(directory: Path, registration: Registration) -> Signer:
    """What the shop signs with."""
    purpose = "merchant-sign"
    return Signer.load(chain_path(directory, purpose), key_path(directory, purpose), urn=registration.merchant, purpose=purpose)


def line_paths(directory: Path) -> tuple[Path, Path, Path]:
    """Certificates, key and root for TLS on the line, either end of it."""
    return chain_path(directory, "line"), key_path(directory, "line"), directory / ROOT


def make_private(directory: Path) -> None:
    """A folder that only its owner can enter."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)


def write_private(path: Path, content: bytes) -> None:
    """Write a file with mode 0600 so that after a crash it is whole or as it was before."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
