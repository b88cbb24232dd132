"""Six-digit codes that follow the time (RFC 6238 with SHA-1, 30 seconds): what every authenticator app can make."""

import hashlib
import hmac
import re
from base64 import b32encode
from typing import Final
from urllib.parse import quote, urlencode

SECRET_BYTES: Final = 20
"""What RFC 4226 section 4 recommends; 32 letters to type where no camera is at hand."""
STEP_S: Final = 30
DIGITS: Final = 6
DRIFT_STEPS: Final = 1
"""A telephone's clock may be so many steps off, either way."""
_CODE: Final = re.compile(r"[0-9]{6}")


def code_of(secret: bytes, step: int) -> str:
    """The code of one time step (RFC 4226 section 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_of(secret: bytes, unverified_code: str, *, at: int, after: int) -> int | None:
    """The step whose code this is, later than the step `after` that was used last; None if it is none.

    A code is good once (RFC 6238 section 5.2): whoever looked over a shoulder has nothing.
    """
    typed = unverified_code.replace(" ", "")
    if not _CODE.fullmatch(typed):
        return None
    now, found = at // STEP_S, None
    for step in range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1):
        if hmac.compare_digest(code_of(secret, step), typed) and step > after:
            found = step
    return found


def spelled(secret: bytes) -> str:
    """The secret as people type it: base32 in groups of four."""
    text = b32encode(secret).decode("ascii").rstrip("=")
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def address(secret: bytes, *, issuer: str, login: str) -> str:
    """What an authenticator app reads from a QR code."""
    plain = b32encode(secret).decode("ascii").rstrip("=")
    label = quote(f"{issuer}:{login}", safe="")
    return f"otpauth://totp/{label}?{urlencode({'secret': plain, 'issuer': issuer, 'digits': DIGITS, 'period': STEP_S}, quote_via=quote)}"
