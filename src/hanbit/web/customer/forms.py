"""What customers' programs send: the address of an opening and the bodies of posts, each with its written grammar."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, WrongMediaType
from hanbit.protocols.fields import Amount, Currency, Tid
from hanbit.web.words import LANGUAGES

JSON: Final = "application/json"
JOSE: Final = "application/jose"
QUERY_MAX: Final = 40 * 1024
"""Characters of the query of an opening; a signed order has 1 to 2 KiB."""
_REQUIRED: Final = ("MID", "TID", "AMOUNT", "CUR")
_ALLOWED: Final = (*_REQUIRED, "ORDER", "lang")

Compact = Annotated[str, msgspec.Meta(max_length=32 * 1024, pattern=r"^[A-Za-z0-9_.-]*$(?!\n)")]
Sealed = Annotated[str, msgspec.Meta(max_length=16 * 1024, pattern=r"^[A-Za-z0-9_.-]+$(?!\n)")]
PartyId = Annotated[str, msgspec.Meta(max_length=32, pattern=r"^[a-z0-9-]*$(?!\n)")]

Form = TypeVar("Form", bound=msgspec.Struct)


class OpeningForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every post about an order brings back in clear. `mid` is needed where the order is plain, and redundant where it is signed."""

    order: Compact
    keys: Compact
    tid: Tid
    amount: Amount
    mid: PartyId = ""

    @property
    def merchant_id(self) -> str:
        """Whose order it says it is: only good for choosing the registration that decides."""
        return self.mid or _issuer(self.order)


class LoginForm(OpeningForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """R5: PBkb(SK), SK(ID, password)."""

    key: Sealed
    login: Sealed


class PayForm(OpeningForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """R7: PBkb(SK), SK(PI, TID, AMOUNT)."""

    key: Sealed
    pay: Sealed


class KeyForm(OpeningForm, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The customer's Cancel, or his wish for a grant: whoever sends it runs the payment program on this opening."""

    key: Sealed


class WindowForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """R3's address as the payment window posts it: an order in an address would be in the browser's history."""

    mid: PartyId
    tid: Tid
    amount: Amount
    currency: Currency
    order: Compact


class MerchantEnrolmentForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A merchant's one-time code and its certificate requests (base64url DER), by purpose."""

    code: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    requests: dict[str, Annotated[str, msgspec.Meta(max_length=4096)]]


class DeviceEnrolmentForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The plaintext of a sealed device enrolment."""

    code: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    request: Annotated[str, msgspec.Meta(max_length=4096)]
    secret: Annotated[str, msgspec.Meta(max_length=64)]


class _Issued(msgspec.Struct, frozen=True):
    iss: str = ""


def read_query(query: bytes) -> Mapping[str, str]:
    """R3's address: MID, TID, AMOUNT and CUR exactly once, ORDER at most once (empty when absent), perhaps lang; nothing else."""
    if len(query) > QUERY_MAX:
        raise BadInput("the address is too long")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=len(_ALLOWED), errors="strict")
    except ValueError as error:  # not ASCII, a malformed pair or escape, or too many of them
        raise BadInput("the address of a payment is …?MID=&TID=&AMOUNT=&CUR=&ORDER=") from error
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= set(_ALLOWED) or not set(_REQUIRED) <= found.keys():
        raise BadInput("MID, TID, AMOUNT and CUR once each, ORDER at most once")
    if found.get("lang", LANGUAGES[0]) not in LANGUAGES:
        raise BadInput("lang: ko or en")
    return {"ORDER": "", **found}


async def read_form(request: Request, kind: type[Form]) -> Form:
    """The JSON body as exactly one `kind`: no unknown member, no member twice."""
    return decode_form(await read_body(request, JSON), kind)


async def read_json(request: Request) -> Any:
    """A JSON body whose shape somebody else checks (the passkey library)."""
    return _decode(await read_body(request, JSON), dict[str, Any])


async def read_body(request: Request, media_type: str) -> bytes:
    """The body, if it is of this kind; its size is the guard's to limit."""
    said, _, parameters = request.headers.get("content-type", "").partition(";")
    if said.strip().lower() != media_type or parameters.strip().lower() not in {"", "charset=utf-8"}:
        raise WrongMediaType(f"send {media_type}")
    return await request.body()


def decode_form(unverified: bytes, kind: type[Form]) -> Form:
    """Exactly one `kind` of form, or BadInput that names the field."""
    form: Form = _decode(unverified, kind)
    return form


def _decode(unverified: bytes, kind: Any) -> Any:
    try:
        value = msgspec.json.decode(unverified, type=kind)
        if msgspec.json.encode(value) != unverified:  # what encodes to the very bytes that came has no member twice
            json.loads(unverified, object_pairs_hook=_once)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise BadInput(str(error)[:200] if isinstance(error, msgspec.ValidationError) else "not the JSON that is expected") from error
    return value


def _once(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member twice")


def _issuer(unverified_order: str) -> str:
    """The merchant that the order's payload names, before anything is verified; empty where there is none."""
    segments = unverified_order.split(".")
    try:
        issuer = msgspec.json.decode(ids.decode_base64url(segments[1] if len(segments) > 1 else ""), type=_Issued).iss
    except (msgspec.MsgspecError, UnicodeError, RecursionError, BadInput):
        return ""
    return issuer.rpartition(":")[2][:64]
