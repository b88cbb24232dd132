r"""The digests by which OI and PI are bound to one another and hidden from one another, and the frame in which two texts travel.

    oimd = SHA-256("hanbit1 OI\0" ‖ OI)                                 the merchant has OI, the gateway only this
    pimd = SHA-256("hanbit1 PI\0" ‖ SHA-256(core) ‖ SHA-256(auth))      the gateway has core and auth, the merchant only this
    pomd = SHA-256(pimd ‖ oimd)                                         both can make it; the dual signature covers all three

Each is over exact bytes, and written in base64url. OI, core and auth each hold a salt of 256 bits, so that nobody can guess them from
their digest. The gateway keeps core and SHA-256(auth): with these it can show later what pimd stands for, without any password.
"""

import hashlib
from typing import Final

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.sealed import SEALED_MAX
from hanbit.protocols.signed import MESSAGE_MAX

FRAME_MAX: Final = MESSAGE_MAX + 1 + SEALED_MAX
"""Characters of a frame of two texts."""
_LINE_FEED: Final = "\n"


def oi_digest(oi: str) -> str:
    """`oimd` of OI's very text; ProtocolViolation where that is no text (half of a surrogate pair)."""
    try:
        return ids.digest(b"hanbit1 OI\0" + oi.encode("utf-8"))
    except UnicodeError as error:
        raise ProtocolViolation("oi", "no text") from error


def pi_digest(core_hash: str, auth_hash: str) -> str:
    """`pimd` from the hashes of core and auth; ProtocolViolation if one of them is no hash."""
    return ids.digest(b"hanbit1 PI\0" + _raw(core_hash) + _raw(auth_hash))


def joint_digest(pimd: str, oimd: str) -> str:
    """`pomd`: both halves belong together."""
    return ids.digest(_raw(pimd) + _raw(oimd))


def join_frame(message: str, beside: str) -> str:
    """D6: `authorization-request`, line feed, envelope. D7, where it is approved: `authorization`, line feed, `receipt`."""
    return f"{message}{_LINE_FEED}{beside}"


def split_frame(unverified: str) -> tuple[str, str]:
    """The message and what stands beside it (empty where nothing does); ProtocolViolation for more lines or too many characters."""
    if len(unverified) > FRAME_MAX:
        raise ProtocolViolation("size", "frame")
    message, _, beside = unverified.partition(_LINE_FEED)
    if _LINE_FEED in beside:
        raise ProtocolViolation("shape", "more than two lines")
    return message, beside


def _raw(digest: str) -> bytes:
    try:
        raw = ids.decode_base64url(digest)
    except BadInput as error:
        raise ProtocolViolation("digest") from error
    if len(raw) != hashlib.sha256().digest_size:
        raise ProtocolViolation("digest")
    return raw
