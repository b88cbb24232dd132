"""The evidence file: everything that a stranger needs to judge one payment, as one JSON text in which no byte can change unseen. Pure.

    {"format": "hanbit-evidence", "version": 1, "digest": …, "source": "gateway" or "merchant", "operator", "merchant", "tid",
     "messages": […], "keys": […], "lists": […], "certificates": […], "approval": {…}, "ledger": […],
     "leaves": […], "checkpoint": …, "continues": {…}, "lines": {…}, "order_information": …}

Members are sorted, one a line, what is empty is left out; there is one spelling of each content, and a reader refuses any other.
`digest` is the SHA-256 of the text in which it stands as "": it finds the accident, signatures find the forger. `docs/evidence.md`
describes each member.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation, TooLarge
from hanbit.protocols.dual_signature.messages import OI_MAX
from hanbit.protocols.fields import Amount, Currency, Digest, Instant, Tid

FILE_MAX: Final = 64 << 20
"""Bytes of a file; a payment with its cancellations takes some sixty thousand."""
MESSAGES_MAX: Final = 2_000
KEYS_MAX: Final = 10_000
"""Messages about keys, and lists: a merchant that renews its keys every day for years shall not be the one whose payments have no file."""
LINES_MAX: Final = 64 * 1024
_Whole = Annotated[int, Meta(ge=0, le=1 << 53)]
_Compact = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$(?!\n)", max_length=32 * 1024)]
_Der = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]+={0,2}$(?!\n)", max_length=4_096)]
_Chain = Annotated[tuple[_Der, ...], Meta(min_length=1, max_length=3)]
_Path = Annotated[tuple[Digest, ...], Meta(max_length=64)]
_Party = Annotated[str, Meta(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$(?!\n)")]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Kept(_Part, frozen=True, kw_only=True):
    """A signed message as it was kept: when, and (at the gateway) under which number its log's leaf names it."""

    typ: Annotated[str, Meta(max_length=64)]
    at: Instant
    compact: _Compact
    leaf: _Whole | None = None
    place: _Whole | None = None
    revoked_at: Instant | None = None
    """When the signer's certificate had been revoked, as known when the message was stored."""


class Attempt(_Part, frozen=True, kw_only=True):
    """The row of the attempt that was approved, whole, so that its hash can be made again."""

    payment: str
    number: _Whole
    customer: str
    account: str | None
    method: str
    result: str
    core: Annotated[str, Meta(max_length=16 * 1024)]
    auth_hash: Digest
    auth_value: Annotated[str, Meta(max_length=16 * 1024)] | None
    sealed_hash: Digest
    session: str
    at: Instant


class Passkey(_Part, frozen=True, kw_only=True):
    """A passkey as the operator has registered it: its public key as the authenticator gave it (COSE)."""

    id: Annotated[str, Meta(max_length=1_400)]
    key: Annotated[str, Meta(max_length=2_048)]
    registered_at: Instant
    leaf: _Whole
    """One that says that this passkey's row was written: its registration or a use."""


class Approval(_Part, frozen=True, kw_only=True):
    """What the customer approved and how it was checked, and the leaf that names it."""

    leaf: _Whole
    attempt: Attempt
    passkey: Passkey | None = None


class LedgerLine(_Part, frozen=True, kw_only=True):
    """One entry of the payment: no balances, no accounts."""

    number: _Whole
    id: Annotated[str, Meta(max_length=200)]
    kind: Literal["hold", "capture", "void", "refund"]
    amount: Amount
    currency: Currency
    at: Instant
    leaf: _Whole


class LeafProof(_Part, frozen=True, kw_only=True):
    """A whole leaf of the log and its path to the checkpoint's root."""

    leaf: _Whole
    data: Annotated[str, Meta(max_length=8 << 20)]
    path: _Path


class Continues(_Part, frozen=True, kw_only=True):
    """A checkpoint that somebody else holds, and what shows that this file's log begins with it."""

    checkpoint: _Compact
    path: _Path


class Lines(_Part, frozen=True, kw_only=True):
    """What was ordered: only the merchant has this, and only the merchant adds it."""

    salt: Digest
    json: Annotated[str, Meta(max_length=LINES_MAX)]


class Bundle(_Part, frozen=True, kw_only=True):
    """An evidence file's content."""

    format: Literal["hanbit-evidence"] = msgspec.field(default="hanbit-evidence")
    version: Literal[1] = msgspec.field(default=1)
    digest: Annotated[str, Meta(pattern=r"^([A-Za-z0-9_-]{43})?$(?!\n)")] = ""
    source: Literal["gateway", "merchant"]
    operator: _Party
    merchant: _Party
    tid: Tid
    messages: Annotated[tuple[Kept, ...], Meta(min_length=1, max_length=MESSAGES_MAX)]
    keys: Annotated[tuple[Kept, ...], Meta(max_length=KEYS_MAX)] = ()
    lists: Annotated[tuple[Kept, ...], Meta(max_length=KEYS_MAX)] = ()
    certificates: Annotated[tuple[_Chain, ...], Meta(max_length=MESSAGES_MAX)] = ()
    approval: Approval | None = None
    ledger: Annotated[tuple[LedgerLine, ...], Meta(max_length=MESSAGES_MAX)] = ()
    leaves: Annotated[tuple[LeafProof, ...], Meta(max_length=2 * MESSAGES_MAX + 2 * KEYS_MAX)] = ()
    checkpoint: _Compact | None = None
    continues: Continues | None = None
    lines: Lines | None = None
    order_information: Annotated[str, Meta(max_length=OI_MAX)] | None = None
    """OI of a purchase by dual signature, the very text: only the merchant has this too."""

    @property
    def merchant_urn(self) -> str:
        """The merchant's name in its messages."""
        return ids.urn(self.operator, "merchant", self.merchant)


def write(bundle: Bundle) -> bytes:
    """The file's bytes; TooLarge where nobody would read it."""
    empty = _text(replace(bundle, digest=""))
    text = _text(replace(bundle, digest=ids.digest(empty)))
    if len(text) > FILE_MAX or len(bundle.messages) > MESSAGES_MAX or max(len(bundle.keys), len(bundle.lists)) > KEYS_MAX:
        raise TooLarge(f"an evidence file holds at most {MESSAGES_MAX} messages, {KEYS_MAX} about keys and {FILE_MAX} bytes")
    return text


def read(unverified: bytes) -> Bundle:
    """The content of a file, in the one spelling that there is; whatever else these bytes are is ProtocolViolation.

    1. at most 64 MiB                                                                   size
    2. JSON with these members and no others, each of its type and within its limits    form
    3. written exactly as `write` writes it                                             spelling
    4. the digest                                                                       digest
    """
    if len(unverified) > FILE_MAX:
        raise ProtocolViolation("size", f"more than {FILE_MAX} bytes")
    try:
        bundle = msgspec.json.decode(unverified, type=Bundle)
        same = _text(bundle) == unverified
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise ProtocolViolation("form", printable(str(error))) from error
    if not same:
        raise ProtocolViolation("spelling", "this is not how such a file is written")
    if bundle.digest != ids.digest(_text(replace(bundle, digest=""))):
        raise ProtocolViolation("digest", "the file was altered after it was written")
    return bundle


def add_lines(bundle: Bundle, unverified: bytes) -> Bundle:
    """The same with the order's lines and OI from the merchant's own evidence file; BadInput if that is of another payment or has none."""
    try:
        own = read(unverified)
    except ProtocolViolation as error:
        raise BadInput(f"the file with the lines: {error}") from error
    if own.lines is None or (own.operator, own.merchant, own.tid) != (bundle.operator, bundle.merchant, bundle.tid):
        raise BadInput("the file with the lines has none, or is of another payment")
    return replace(bundle, lines=own.lines, order_information=own.order_information)


def printable(text: str, longest: int = 200) -> str:
    """Words of others, fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:longest])


def chains_of(compacts: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Chains in one order, each once."""
    return tuple(sorted(set(compacts)))


def _text(bundle: Bundle) -> bytes:
    content = {"format": bundle.format, "version": bundle.version, "digest": bundle.digest, **msgspec.to_builtins(bundle)}
    return (json.dumps(content, ensure_ascii=False, sort_keys=True, indent=1) + "\n").encode("utf-8")
