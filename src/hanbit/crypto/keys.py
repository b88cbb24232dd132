"""P-256 keys: how they are made, kept in files that only their owner reads, and written as JSON (RFC 7517)."""

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation

COORDINATE_BYTES = 32
KEY_FILE_BYTES_MAX = 16_384
DOOMED = ".doomed"
"""What a key file is called from the moment when its destruction begins."""
_CURVE = ec.SECP256R1()
_JWK_MEMBERS = {"kty", "crv", "x", "y"}


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh private key on P-256, the only curve that we use."""
    return ec.generate_private_key(_CURVE)


def save_key(key: ec.EllipticCurvePrivateKey, path: Path, passphrase: bytes | None = None) -> None:
    """Write the key as PKCS#8 PEM with mode 0600: after a crash the file is whole, or as it was before.

    An empty passphrase is refused: it would look like protection and be none. Whoever keeps a key in the clear says None.
    """
    if passphrase is not None and not passphrase:
        raise BadInput("empty passphrase for a key file")
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # O_EXCL: never write a secret into a file, or through a link, that somebody else laid there.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def load_key(path: Path, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Read a key that `save_key` wrote; a file that others may read, or that is no P-256 key, is BadInput naming the file."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(f"key file {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(f"key file {path} can be read by others: run chmod 600 on it")
    if len(pem) > KEY_FILE_BYTES_MAX:
        raise BadInput(f"key file {path} is too large")
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError as error:  # encrypted without a passphrase given, or the other way round
        raise BadInput(f"key file {path}: {'needs no passphrase' if passphrase else 'needs its passphrase'}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"key file {path}: not a PEM key, or the wrong passphrase") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInput(f"key file {path}: not a P-256 key")
    return key


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


def public_point(public: ec.EllipticCurvePublicKey) -> bytes:
    """The uncompressed point: 65 bytes, 04 || x || y (SEC 1 section 2.3.3)."""
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def public_jwk(public: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The public key as a JSON Web Key with exactly kty, crv, x and y."""
    point = public_point(public)
    x, y = point[1 : 1 + COORDINATE_BYTES], point[1 + COORDINATE_BYTES :]
    return {"kty": "EC", "crv": "P-256", "x": ids.encode_base64url(x), "y": ids.encode_base64url(y)}


def thumbprint(public: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638: base64url SHA-256 over the required members in lexicographic order, without white space; the key's name on paper."""
    jwk = public_jwk(public)
    return ids.digest(f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'.encode("ascii"))


def public_from_jwk(unverified: object) -> ec.EllipticCurvePublicKey:
    """Read exactly what `public_jwk` writes; a point off the curve, a private member or any other member is a violation."""
    if not isinstance(unverified, Mapping) or set(unverified) != _JWK_MEMBERS:
        raise ProtocolViolation("jwk", "exactly kty, crv, x and y are allowed")
    if unverified["kty"] != "EC" or unverified["crv"] != "P-256":
        raise ProtocolViolation("jwk", "not a P-256 key")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, b"\x04" + _coordinate(unverified["x"]) + _coordinate(unverified["y"]))
    except ValueError as error:
        raise ProtocolViolation("jwk", "the point is not on the curve") from error


def _coordinate(unverified: object) -> bytes:
    """Exactly 32 bytes: RFC 7518 section 6.2.1.2 forbids to drop leading zeros."""
    try:
        return ids.decode_base64url(ids.check(ids.DIGEST, unverified, "coordinate"))
    except BadInput as error:
        raise ProtocolViolation("jwk", "a coordinate is 32 bytes in base64url") from error


def _sync_folder(folder: Path) -> None:
    """Make the rename durable: on Linux the folder is a file of its own."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
