"""Sealed messages, PBkb(SK) and SK(…): what the customer's payment program sends so that only the gateway can read it.

`key` carries a fresh SK to the gateway-seal key; `login` and `pay` are sealed under two keys derived from SK. Each `login` and `pay`
travels with its `key`, so that the gateway keeps no SK. Sealed bytes are not evidence: only their hash is kept.

In the dual-signature checkout the shop carries PI, so nothing was agreed before: the envelope is sealed to the gateway-seal key itself,
under the session's sid, and opens to the same {core, auth}. The shop sees how long it is, so spaces make all of them one length: otherwise
it would learn how many characters a password has, which factor was used, and whether a number was typed.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from hanbit.crypto import envelopes
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols.fields import Amount, Currency, Digest, Instant, Tid, Token, Urn
from hanbit.protocols.signed import check_strict_json

SEALED_MAX = 16 * 1024
"""Bytes of one sealed message."""
SECRET_BYTES = 32
KEY_TYP, LOGIN_TYP, PAY_TYP, ENROL_TYP = "hanbit-key", "hanbit-login", "hanbit-pay", "hanbit-enrol"
PURCHASE_TYP = "hanbit-purchase"
PURCHASE_PADDED_TO = 4096
"""Bytes of PI in an envelope, or a multiple: a device's consent with its certificates, the longest of all, has some 3,300."""


AccountName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9:_-]{1,64}$(?!\n)")]
"""An account's id, or `typed:` with the commitment to a typed number; whatever else stands there is no account's name."""


@dataclass(frozen=True, slots=True)
class SessionKey:
    """SK, bound to one opening (ctx, n) and one tid; in memory only."""

    secret: bytes = field(repr=False)
    ctx: str
    n: str
    tid: str

    @property
    def code_binding(self) -> "CodeBinding":
        """A one-time code in this session is good for this SK only."""
        return CodeBinding(salt=self.secret, info=b"hanbit1 code" + self.ctx.encode("ascii"))


@dataclass(frozen=True, slots=True)
class CodeBinding:
    """What a one-time code is bound to besides the core: salt and info of the key that is derived from the enrolled secret."""

    salt: bytes = field(repr=False)
    info: bytes


class CommonCore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the customer approves, whichever way: exactly this amount, to this merchant, for this order, from this account."""

    v: int
    gateway: Urn
    merchant: Urn
    tid: Tid
    order: Digest
    amount: Amount
    currency: Currency
    account: AccountName
    salt: Digest


class Core(CommonCore, frozen=True, kw_only=True):
    """R7: in this opening."""

    ctx: Token


class PurchaseCore(CommonCore, frozen=True, kw_only=True):
    """D5: by this grant, in this session with the shop, beside exactly this OI, signed by exactly this temporary key."""

    exp: Instant
    grant: Token
    sid: Token
    nc: Digest
    nm: Digest
    oimd: Digest
    thumbprint: Digest

    @property
    def code_binding(self) -> CodeBinding:
        """There is no SK: a one-time code is good for this grant and this session only."""
        return CodeBinding(salt=hashlib.sha256(f"{self.grant}{self.sid}".encode("ascii")).digest(), info=b"hanbit1 purchase code")


C = TypeVar("C", bound=CommonCore)
C_co = TypeVar("C_co", bound=CommonCore, covariant=True)


class Auth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the customer proves who he is: `method` is password, device, passkey or code."""

    method: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,20}$(?!\n)")]
    value: str
    salt: Digest


@dataclass(frozen=True, slots=True)
class Instruction(Generic[C_co]):
    """PI opened: R7's SK(PI, TID, AMOUNT), or D5's envelope. `core_text` are the exact bytes that a consent signs."""

    core: C_co
    core_text: str
    auth: Auth
    auth_hash: str
    number: str | None
    sealed_hash: str
    code_binding: CodeBinding

    @property
    def core_hash(self) -> str:
        """base64url SHA-256 of the core's bytes."""
        return ids.digest(self.core_text.encode("utf-8"))


class _KeyPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sk: Digest
    ctx: Token
    n: Digest
    tid: Tid


class _PayPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    core: str
    auth: str
    number: str | None = None
    number_salt: Digest | None = None


def seal_key(public: EllipticCurvePublicKey, kid: str, *, ctx: str, n: str, tid: str) -> tuple[SessionKey, str]:
    """Customer: make SK and seal it to the gateway-seal key (PBkb(SK))."""
    secret = secrets.token_bytes(SECRET_BYTES)
    payload = msgspec.json.encode(_KeyPayload(sk=ids.encode_base64url(secret), ctx=ctx, n=n, tid=tid))
    return SessionKey(secret, ctx, n, tid), envelopes.seal_to_key(public, kid, payload, KEY_TYP)


def open_key(unverified: str, private: EllipticCurvePrivateKey, kid: str, *, ctx: str, n: str, tid: str) -> SessionKey:
    """Gateway: recover SK; whatever is wrong is one ProtocolViolation("sealed")."""
    _limit(unverified)
    payload = _decode(envelopes.open_with_key(unverified, private, typ=KEY_TYP, expected_kid=kid), _KeyPayload)
    if (payload.ctx, payload.n, payload.tid) != (ctx, n, tid):
        raise ProtocolViolation("sealed")
    return SessionKey(_secret(payload.sk), ctx, n, tid)


def seal(session: SessionKey, typ: str, plain: dict[str, Any], sequence: int) -> str:
    """Customer: SK(ID, password) or SK(PI, TID, AMOUNT) as `typ` hanbit-login or hanbit-pay."""
    header: dict[str, str | int] = {"typ": typ, "ctx": session.ctx, "sequence": sequence, "tid": session.tid}
    return envelopes.seal_with_secret(_key_for(session, typ), msgspec.json.encode(plain), header)


def open_sealed(unverified: str, session: SessionKey, typ: str) -> bytes:
    """Gateway: the plaintext of a message of this session and typ; whatever is wrong is one ProtocolViolation("sealed")."""
    _limit(unverified)
    header, plain = envelopes.open_with_secret(unverified, _key_for(session, typ))
    if (header.get("typ"), header.get("ctx"), header.get("tid")) != (typ, session.ctx, session.tid):
        raise ProtocolViolation("sealed")
    return plain


def open_login(unverified: str, session: SessionKey) -> dict[str, Any]:
    """R5: the plaintext object of a login; its members are checked by the sign-in."""
    plain: dict[str, Any] = _decode(open_sealed(unverified, session, LOGIN_TYP), dict[str, Any])
    if not isinstance(plain.get("method"), str):
        raise ProtocolViolation("sealed")
    return plain


def pay_plain(core_text: str, auth_text: str, *, number: str | None = None, number_salt: bytes | None = None) -> dict[str, Any]:
    """Customer: the plaintext of `pay`."""
    plain: dict[str, Any] = {"core": core_text, "auth": auth_text}
    if number is not None and number_salt is not None:
        plain |= {"number": number, "number_salt": ids.encode_base64url(number_salt)}
    return plain


def open_pay(unverified: str, session: SessionKey) -> Instruction[Core]:
    """R7: core and authenticator; a typed number is compared with its commitment in the core."""
    payload = _decode(open_sealed(unverified, session, PAY_TYP), _PayPayload)
    core = _read_core(payload, Core)
    if core.ctx != session.ctx or core.tid != session.tid:
        raise ProtocolViolation("sealed")
    return _instruction(payload, core, unverified, session.code_binding)


def seal_purchase(public: EllipticCurvePublicKey, kid: str, *, sid: str, plain: dict[str, Any]) -> str:
    """Customer, D5: the envelope; `plain` is what `pay_plain` makes of a purchase's core and authenticator."""
    text = msgspec.json.encode(plain)
    padded = text + b" " * (-len(text) % PURCHASE_PADDED_TO)  # a JSON text may end in spaces
    return envelopes.seal_to_key(public, kid, padded, PURCHASE_TYP, {"sid": sid})


def peek_purchase(unverified: str) -> tuple[str, str]:
    """The kid and the sid that an envelope names in clear: to choose the key by, and for a shop to see that it is one of this session."""
    _limit(unverified)
    header = envelopes.peek_header(unverified)
    if header.get("typ") != PURCHASE_TYP or set(header) != {"alg", "enc", "typ", "kid", "epk", "sid"}:
        raise ProtocolViolation("sealed")
    return str(header["kid"]), str(header["sid"])


def open_purchase(unverified: str, private: EllipticCurvePrivateKey, kid: str, *, sid: str) -> Instruction[PurchaseCore]:
    """Gateway, D7: PI of this session; whatever is wrong is one ProtocolViolation("sealed")."""
    _limit(unverified)
    plain = envelopes.open_with_key(unverified, private, typ=PURCHASE_TYP, expected_kid=kid, extra_header={"sid": sid})
    payload = _decode(plain, _PayPayload)
    core = _read_core(payload, PurchaseCore)
    if core.sid != sid:
        raise ProtocolViolation("sealed")
    return _instruction(payload, core, unverified, core.code_binding)


def typed_account(number: str, salt: bytes) -> str:
    """How a core names a typed account or card number without holding it: a salted commitment whose salt is not kept."""
    return "typed:" + ids.encode_base64url(hashlib.sha256(b"hanbit1 account\0" + salt + number.encode("utf-8")).digest())


def code_value(enrolled_secret: bytes, binding: CodeBinding, core_hash: str) -> str:
    """The one-time code (A24): a MAC over the core's hash, under a key from the enrolled secret and SK (in a purchase: grant and sid)."""
    key = envelopes.derive(enrolled_secret, salt=binding.salt, info=binding.info)
    return ids.encode_base64url(envelopes.mac(key, ids.decode_base64url(core_hash)))


def consent_challenge(core_hash: str) -> bytes:
    """The passkey's challenge for a payment: bound to amount, payee, order and account through the core."""
    return hashlib.sha256(b"hanbit1 consent\0" + ids.decode_base64url(core_hash)).digest()


def login_challenge(ctx: str, n: str) -> bytes:
    """The passkey's challenge for a login: bound to this opening."""
    return hashlib.sha256(b"hanbit1 login\0" + ctx.encode("ascii") + n.encode("ascii")).digest()


def _read_core(payload: _PayPayload, kind: type[C]) -> C:
    """The core as one of this kind; a typed number is compared with its commitment."""
    core: C = _decode(payload.core.encode("utf-8"), kind)
    if core.v != 1:
        raise ProtocolViolation("sealed")
    if (payload.number is None) != (not core.account.startswith("typed:")):
        raise ProtocolViolation("sealed")
    if payload.number is not None and core.account != typed_account(payload.number, _secret(payload.number_salt or "")):
        raise ProtocolViolation("sealed")
    return core


def _instruction(payload: _PayPayload, core: C, unverified: str, binding: CodeBinding) -> Instruction[C]:
    return Instruction(
        core=core,
        core_text=payload.core,
        auth=_decode(payload.auth.encode("utf-8"), Auth),
        auth_hash=ids.digest(payload.auth.encode("utf-8")),
        number=payload.number,
        sealed_hash=ids.digest(unverified.encode("ascii")),
        code_binding=binding,
    )


def _key_for(session: SessionKey, typ: str) -> bytes:
    info = {LOGIN_TYP: b"hanbit1 login", PAY_TYP: b"hanbit1 pay"}[typ]
    salt = hashlib.sha256(session.ctx.encode("ascii") + session.n.encode("ascii")).digest()
    return envelopes.derive(session.secret, salt=salt, info=info)


def _secret(text: str) -> bytes:
    try:
        return ids.decode_base64url(text)
    except BadInput as error:
        raise ProtocolViolation("sealed") from error


def _limit(unverified: str) -> None:
    if len(unverified) > SEALED_MAX or not unverified.isascii():
        raise ProtocolViolation("sealed")


def _decode(data: bytes, kind: Any) -> Any:
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise ProtocolViolation("sealed") from error
    if msgspec.json.encode(value) != data:  # what our own program writes need not be read twice
        check_strict_json(data, "sealed")
    return value
