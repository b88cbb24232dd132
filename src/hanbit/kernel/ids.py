"""Identifiers: their grammars, how they are made, and the hash by which messages name one another."""

import hashlib
import re
import secrets
from binascii import b2a_base64
from collections.abc import Sequence

import msgspec

from hanbit.kernel.errors import BadInput

PARTY_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
"""Operators and merchants: 1 to 32 of a-z, 0-9 and inner hyphens."""
TID = re.compile(r"[A-Za-z0-9_-]{22,64}")
"""The merchant's transaction number: base64url of at least 128 bits, at most 64 characters."""
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
"""Our own 128-bit random ids: 22 base64url characters."""
DIGEST = re.compile(r"[A-Za-z0-9_-]{43}")
"""A SHA-256 in base64url."""
TEST_ENDING = "-test"
"""How the id of every test operator ends, and of no other: it stands in each of its certificates and messages."""
_REFERENCE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no letter is read as a digit on the telephone."""
_SPAN_S = 1 << 29
"""Seconds after which the times in ids begin again, 17 years; half of what five characters hold, so that none begins with a hyphen."""
_RANDOM_BITS = 98
_TID_BITS = 130
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_FROM_URL = bytes(sign if sign in _ALPHABET else ord("?") for sign in range(256)).translate(bytes.maketrans(b"-_", b"+/"))
"""To ordinary base64; what stands in no base64url, quotation marks and backslashes too, becomes a sign that no base64 has."""
_TO_URL = bytes.maketrans(b"+/", b"-_")
_END = (b'"', b'"', b'=="', b'="')
_QUOTED = msgspec.json.Decoder(bytes)
"""Strict base64 in C, twice as fast as the standard library's; it reads a JSON text."""
_LAST = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


def new_token() -> str:
    """128 random bits as 22 base64url characters, the first no hyphen: typed after a command it would look like an option."""
    while (token := encode_base64url(secrets.token_bytes(16))).startswith("-"):
        pass
    return token


def new_token_of(at: int) -> str:
    """An id like `new_token`'s of which the first five characters are the time and 98 bits are random.

    What is made in the same second stands in the same place of an index: a thousand new payments touch a few of its pages, not a thousand.
    """
    return encode_base64url(((at % _SPAN_S << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)).to_bytes(16))


def new_tid_of(at: int) -> str:
    """A transaction number: five characters of its time as in `new_token_of`, then 130 random bits, for a tid has at least 128."""
    return encode_base64url(((at % _SPAN_S << _TID_BITS) | secrets.randbits(_TID_BITS)).to_bytes(20))


def new_reference() -> str:
    """Forty random bits as `7KQ4-M2XD`: the one number under which a request stands in every log, to be read out."""
    bits = secrets.randbits(40)
    letters = "".join(_REFERENCE_ALPHABET[bits >> shift & 31] for shift in range(0, 40, 5))
    return f"{letters[:4]}-{letters[4:]}"


def encode_base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return b2a_base64(data, newline=False).translate(_TO_URL, b"=").decode("ascii")


def encode_digests(digests: Sequence[bytes]) -> list[str]:
    """The same of many values of 32 bytes each: with a byte to spare each fills 44 characters, so that all are written in one go."""
    text = encode_base64url(b"\0".join(digests) + b"\0")
    return [text[start : start + 43] for start in range(0, 44 * len(digests), 44)]


def decode_base64url(text: str) -> bytes:
    """Decode the one canonical spelling of unpadded base64url; anything else is BadInput."""
    spare = len(text) % 4
    # The last character's unused bits must be zero, so that one value has one spelling.
    if spare == 1 or (spare and text[-1] not in _LAST[spare]):
        raise BadInput("not canonical base64url")
    try:
        return _QUOTED.decode(b'"' + text.encode("ascii").translate(_FROM_URL) + _END[spare])
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadInput("not canonical base64url") from error


def digest(data: bytes) -> str:
    """base64url SHA-256; of a message's compact bytes this is *the hash of the message*."""
    return encode_base64url(hashlib.sha256(data).digest())


def urn(operator: str, role: str, name: str = "") -> str:
    """`urn:hanbit:<operator>:<role>[:<name>]`, the name of a party in certificates and messages."""
    return f"urn:hanbit:{operator}:{role}:{name}" if name else f"urn:hanbit:{operator}:{role}"


def is_test(operator: str) -> bool:
    """Whether this operator is a sandbox: no real money can ever be under its name."""
    return operator.endswith(TEST_ENDING)


def check(pattern: re.Pattern[str], text: object, what: str) -> str:
    """Return `text` if it is a string that meets the grammar, else BadInput naming `what`."""
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise BadInput(what)
    return text
