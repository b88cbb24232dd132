r"""Bytes under a passphrase that a person remembers: scrypt makes the key, AES-256-GCM seals.

scrypt rather than PBKDF2: a guess costs 128 MiB besides a third of a second, so that graphics cards gain little over the operator's own
machine; and rather than Argon2, because every OpenSSL that `cryptography` is built on has it, and a backup must open in ten years.

    sealed = "hanbit sealed 1\n" ‖ salt (16) ‖ nonce (12) ‖ AES-256-GCM(scrypt(passphrase, salt), nonce, plaintext, what it is bound to)
"""

import os
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from hanbit.kernel.errors import BadInput

MARK = b"hanbit sealed 1\n"
SALT_BYTES, NONCE_BYTES, TAG_BYTES = 16, 12, 16
COST, BLOCK, LANES = 1 << 17, 8, 1
"""128 MiB; they belong to the mark above and change only with it."""
PASSPHRASE_MIN, PASSPHRASE_MAX = 12, 1024
"""Characters: who finds a backup may guess for years."""


def seal(plaintext: bytes, passphrase: str, *, bound_to: bytes) -> bytes:
    """Seal under the passphrase; what it is bound to must be the same when it is opened."""
    if not PASSPHRASE_MIN <= len(passphrase) <= PASSPHRASE_MAX:
        raise BadInput(f"the passphrase has {PASSPHRASE_MIN} to {PASSPHRASE_MAX} characters")
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    return MARK + salt + nonce + AESGCM(_key(passphrase, salt)).encrypt(nonce, plaintext, MARK + bound_to)


def unseal(unverified: bytes, passphrase: str, *, bound_to: bytes) -> bytes:
    """What was sealed; BadInput if the passphrase is another, or a byte has changed: the two cannot be told apart."""
    if not unverified.startswith(MARK) or len(unverified) < len(MARK) + SALT_BYTES + NONCE_BYTES + TAG_BYTES:
        raise BadInput("these bytes were not sealed under a passphrase")
    start = len(MARK) + SALT_BYTES
    salt, nonce, sealed = unverified[len(MARK) : start], unverified[start : start + NONCE_BYTES], unverified[start + NONCE_BYTES :]
    try:
        return AESGCM(_key(passphrase, salt)).decrypt(nonce, sealed, MARK + bound_to)
    except InvalidTag as error:
        raise BadInput("the passphrase is another one, or the sealed keys were changed") from error


def _key(passphrase: str, salt: bytes) -> bytes:
    text = unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogatepass")
    return Scrypt(salt=salt, length=32, n=COST, r=BLOCK, p=LANES).derive(text)
