"""JWE compact (RFC 7516) in the two forms that we speak: the strict reader and writer below the envelopes.

    ECDH-ES+A256KW   header . wrapped key . iv . ciphertext . tag   an ephemeral P-256 key agrees with the receiver's
    dir              header .             . iv . ciphertext . tag   both already hold the key

(RFC 7518 sections 4.6 and 4.5.) The content is always A256GCM.
Any other algorithm, member, length or spelling is refused before a key is touched.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from hanbit.crypto import keys
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation

TO_KEY: Final = "ECDH-ES+A256KW"
DIRECT: Final = "dir"
CONTENT: Final = "A256GCM"
KEY_BYTES: Final = 32
SEALED_CHARACTERS_MAX: Final = 65_536
HEADER_CHARACTERS_MAX: Final = 1_400
"""In base64url; the largest header that we write has some 450 bytes."""
NUMBER_MAX: Final = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly (RFC 8259 section 6)."""
_PARTS = 5
_IV_BYTES = 12
_TAG_BYTES = 16
_WRAPPED_BYTES = KEY_BYTES + 8
_ECDH = ec.ECDH()
_ROUND = (1).to_bytes(4, "big")
_OTHER_INFO = len(TO_KEY).to_bytes(4, "big") + TO_KEY.encode("ascii") + bytes(4) + bytes(4) + (8 * KEY_BYTES).to_bytes(4, "big")
"""What the Concat KDF adds to the agreed secret: algorithm, no party names, the length in bits (RFC 7518 section 4.6.2)."""

_GRAMMAR: Final[Mapping[str, re.Pattern[str]]] = {
    "alg": re.compile(r"ECDH-ES\+A256KW|dir"),
    "enc": re.compile(r"A256GCM"),
    "typ": re.compile(r"hanbit-[a-z]{1,24}"),
    "kid": ids.DIGEST,
    "ctx": ids.TOKEN,
    "tid": ids.TID,
    "sid": ids.TOKEN,
}
"""The text members that a header may have; besides these `epk` and `sequence`. A header is in clear: nothing secret is ever named in it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A sealed message taken apart; nothing is authentic yet. `protected` is the header as sent: the additional data."""

    header: dict[str, object]
    protected: bytes
    wrapped: bytes
    iv: bytes
    ciphertext: bytes
    tag: bytes


def refuse(cause: Exception | None = None) -> NoReturn:
    """The one error for everything that does not open: which check failed is nobody's business."""
    raise ProtocolViolation("sealed") from cause


def read(unverified: str) -> Parts:
    """Take a compact JWE apart; any length, member, spelling or algorithm that we do not write ourselves is refused."""
    if len(unverified) > SEALED_CHARACTERS_MAX:
        refuse()
    parts = unverified.split(".", _PARTS)
    if len(parts) != _PARTS or len(parts[0]) > HEADER_CHARACTERS_MAX:
        refuse()
    try:
        head, wrapped, iv, ciphertext, tag = map(ids.decode_base64url, parts)
        header = _read_header(head)
    except (BadInput, msgspec.MsgspecError, ValueError, RecursionError) as error:
        refuse(error)
    if not isinstance(header, dict) or len(iv) != _IV_BYTES or len(tag) != _TAG_BYTES:
        refuse()
    _check_header(header)
    to_key = header["alg"] == TO_KEY
    if ("epk" in header) is not to_key or len(wrapped) != (_WRAPPED_BYTES if to_key else 0):
        refuse()
    return Parts(header, parts[0].encode("ascii"), wrapped, iv, ciphertext, tag)


def _read_header(head: bytes) -> object:
    """The header's JSON; the strict decoder is slow, and what encodes to the very bytes that came needs no second look."""
    header = msgspec.json.decode(head)
    return header if msgspec.json.encode(header) == head else _DECODER.decode(head.decode("ascii"))


def encrypt_to_key(public: ec.EllipticCurvePublicKey, header: Mapping[str, object], plaintext: bytes) -> str:
    """Seal to the holder of a P-256 key; `header` lacks only alg, enc and epk."""
    ephemeral = keys.new_key()
    content_key = os.urandom(KEY_BYTES)
    wrapped = aes_key_wrap(_wrapping_key(ephemeral, public), content_key)
    return _write(
        {"alg": TO_KEY, "enc": CONTENT, **header, "epk": keys.public_jwk(ephemeral.public_key())}, wrapped, content_key, plaintext
    )


def decrypt_with_key(parts: Parts, private: ec.EllipticCurvePrivateKey) -> bytes:
    """Open what was sealed to this key."""
    try:
        content_key = aes_key_unwrap(_wrapping_key(private, keys.public_from_jwk(parts.header.get("epk"))), parts.wrapped)
    except (InvalidUnwrap, ProtocolViolation) as error:
        refuse(error)
    return decrypt(content_key, parts)


def encrypt_with_secret(secret: bytes, header: Mapping[str, object], plaintext: bytes) -> str:
    """Seal under a secret of 32 bytes that both sides hold; `header` lacks only alg and enc."""
    return _write({"alg": DIRECT, "enc": CONTENT, **header}, b"", secret, plaintext)


def decrypt(content_key: bytes, parts: Parts) -> bytes:
    """AES-256-GCM with the header as additional data; a content key of another length opens nothing."""
    if len(content_key) != KEY_BYTES or len(parts.iv) != _IV_BYTES or len(parts.tag) != _TAG_BYTES:
        refuse()
    try:
        return AESGCM(content_key).decrypt(parts.iv, parts.ciphertext + parts.tag, parts.protected)
    except InvalidTag as error:
        refuse(error)


def _write(header: Mapping[str, object], wrapped: bytes, content_key: bytes, plaintext: bytes) -> str:
    protected = ids.encode_base64url(msgspec.json.encode(header))
    iv = os.urandom(_IV_BYTES)
    sealed = AESGCM(content_key).encrypt(iv, plaintext, protected.encode("ascii"))
    ciphertext, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
    return ".".join([protected, *map(ids.encode_base64url, (wrapped, iv, ciphertext, tag))])


def _wrapping_key(private: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey) -> bytes:
    """The Concat KDF of NIST SP 800-56A; 256 bits need one round of SHA-256."""
    return sha256(_ROUND + private.exchange(_ECDH, public) + _OTHER_INFO).digest()


def _check_header(header: Mapping[str, object]) -> None:
    if not {"alg", "enc"} <= header.keys():
        refuse()
    for name, value in header.items():
        pattern = _GRAMMAR.get(name)
        if pattern is not None:
            if not isinstance(value, str) or not pattern.fullmatch(value):
                refuse()
        elif name == "sequence":
            if type(value) is not int or not 1 <= value <= NUMBER_MAX:
                refuse()
        elif name != "epk":  # crit, zip, apu, jwk, x5c…: no member that we do not write
            refuse()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """RFC 7515 section 4: names must be unique, so that no two readers see two different headers."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_no_number, parse_constant=_no_number)
