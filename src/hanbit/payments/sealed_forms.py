"""Sealed forms of the customer's home: what is typed there is sealed to the gateway's key, good for one act, in time, and once.

    blank     the server    ctx, n, exp and the sealing certificate; n is a MAC over act, ctx, exp and session, so nothing is stored
    sealed    the browser   {ctx, n, exp, fields} to that key, as the payment page seals a key
    opened    the server    the fields, and the row that uses ctx up, which goes into the very Change that the form brings about

A form of one session or act opens for no other; a recorded one opens once at most, because its ctx is used.
"""

from typing import Any, Final, TypeVar

import msgspec

from hanbit.crypto import envelopes
from hanbit.db.change import Put
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation, WrongState
from hanbit.payments.gateway import Gateway
from hanbit.protocols.fields import Digest, Instant, Token
from hanbit.protocols.sealed import SEALED_MAX
from hanbit.protocols.signed import check_strict_json, encode_der

FORM_TYP: Final = "hanbit-form"
LIFE_S: Final = 15 * 60
"""A page that was left open longer is loaded again."""
Form = TypeVar("Form", bound=msgspec.Struct)


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ctx: Token
    n: Digest
    exp: Instant
    fields: msgspec.Raw


def blank(gateway: Gateway, act: str, session: str = "") -> dict[str, Any]:
    """What the page's program needs to seal a form of this act; `session` is the token's hash, empty before a log-in."""
    ctx, exp = ids.new_token(), gateway.clock.now() + LIFE_S
    seal = [encode_der(der) for der in gateway.keyring.seal_chain()]
    return {"ctx": ctx, "n": _number(gateway, act, ctx, exp, session), "exp": exp, "seal": seal}


def opened(gateway: Gateway, unverified: bytes, kind: type[Form], act: str, session: str = "") -> tuple[Form, str, str, Put]:
    """The fields as exactly one `kind`, ctx and n, and the row that uses the form up.

    ProtocolViolation("sealed") where it does not open or is for something else, WrongState where it is too old or was used, BadInput
    where the fields are not those of the form.
    """
    if len(unverified) > SEALED_MAX or not unverified.isascii():
        raise ProtocolViolation("sealed")
    compact, at = unverified.decode("ascii"), gateway.clock.now()
    kid = envelopes.peek_header(compact).get("kid")
    seal = gateway.keyring.seal_by_kid(kid) if isinstance(kid, str) else None
    if seal is None:
        raise ProtocolViolation("sealed")
    data = envelopes.open_with_key(compact, seal.private, typ=FORM_TYP, expected_kid=seal.kid)
    check_strict_json(data, "sealed")
    plain = _decode(data, _Plain)
    expected = _number(gateway, act, plain.ctx, plain.exp, session)
    if not envelopes.equal(expected.encode("ascii"), plain.n.encode("ascii")):
        raise ProtocolViolation("sealed")
    if at > plain.exp or gateway.reader.one("SELECT 1 FROM openings WHERE ctx = ?", plain.ctx) is not None:
        raise WrongState("this form is too old or was sent already: load the page again")
    used: dict[str, str | int | None] = {
        "ctx": plain.ctx,
        "login_hash": ids.digest(unverified),
        "at": max(at, gateway.keyring.made_at(seal.kid)),  # never before its sealing key: purge goes by that
    }
    return _decode(bytes(plain.fields), kind), plain.ctx, plain.n, Put("openings", used, version=0)


def _decode(data: bytes, kind: type[Form]) -> Form:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput(str(error)[:200] if isinstance(error, msgspec.ValidationError) else "not the form that is expected") from error


def _number(gateway: Gateway, act: str, ctx: str, exp: int, session: str) -> str:
    bound = "\0".join(("hanbit home form", act, ctx, str(exp), session))
    return ids.encode_base64url(envelopes.mac(gateway.keyring.server_key, bound.encode("ascii")))
