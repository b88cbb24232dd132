"""The customer's role of the redirect checkout: verify what the gateway shows, seal what only it may read, verify the receipt.

`verify_opening` trusts nothing but the pinned root and the address that the shop's redirect opened. Its checks, in this order:

 1. the opening is a JSON object of the known shape, within its size
 2. the gateway that it names is the pinned one
 3. `keys` is signed by a gateway-sign key of that gateway, certified up to the pinned root, and addressed to customers
 4. the seal certificate in `keys` is certified up to the same root, for the same gateway and the purpose gateway-seal
 5. tid, amount and currency of `keys` are those of the address
 6. the merchant shown is the one of the address, under its full name at this operator
 7. payee: the name shown is the one that the gateway signed
 8. the order shown is, byte for byte, the one in the address (or both have none: the plain form)
 9. the order is signed by a merchant-sign key of that merchant, certified up to the pinned root, and addressed to this gateway
10. tid, amount and currency of the order are those of the address
11. the order's hash (in the plain form, the hash of the address) is the one in `keys`
12. what else the opening repeats (tid, amount, currency, order hash) says the same

`verify_receipt` continues after the payment:

13. the receipt is signed by a gateway-sign key of the pinned gateway, certified up to the pinned root, and addressed to customers
14. tid, amount, currency, order hash and payee are those that were approved
15. it is about the payment that was answered

The customer's clock decides nothing: freshness is ctx and n, which the gateway checks. Certificates and issue times are allowed
24 hours on either side, and a clock that is far off leaves a note. A wallet has no revocation list: leaves live for 90 days at the
most, the seal certificate for 24 hours.
"""

import re
import secrets
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeVar
from urllib.parse import parse_qsl

import msgspec
from cryptography import x509

from hanbit.crypto import certificates
from hanbit.crypto.certificate_paths import UNREADABLE
from hanbit.crypto.certificates import VerifiedCertificate
from hanbit.kernel import ids, money
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.kernel.money import Money
from hanbit.protocols import sealed, signed
from hanbit.protocols.fields import INSTANT_MAX, VERSION, Message
from hanbit.protocols.redirect.messages import Consent, Keys, Order, Receipt, plain_order_hash
from hanbit.protocols.sealed import Auth, CodeBinding, Core, SessionKey
from hanbit.protocols.signed import RegisteredKey, SignedMessage, Signer

CLOCK_TOLERANCE_S: Final = 24 * 3600
"""How far the customer's clock may be from the dates in certificates and messages."""
CLOCK_NOTE_S: Final = 300
"""From here on the customer is told that his clock is off."""
OPENING_MAX: Final = 64 * 1024
"""Bytes of one opening."""
QUERY_MAX: Final = 36 * 1024
"""Characters of the address's query: a signed order and four short fields."""
SECRET_MAX: Final = 128
"""Characters of an ID, a password, an account or card number."""
_CHAINS_KEPT: Final = 256
_SALT_BYTES: Final = 32
_FOR_EVER: Final = 253_402_300_799
_HALF_CHARACTER: Final = re.compile(r"[\ud800-\udfff]")

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Redirect:
    """What stands in clear in the shop's redirect (12): MID, TID, AMOUNT, CUR and the signed order, empty in the plain form."""

    merchant_id: str
    tid: str
    money: Money
    order: str

    @property
    def plain_hash(self) -> str:
        """The order hash of the plain form: of the four fields as the browser sent them."""
        return plain_order_hash(self.merchant_id, self.tid, self.money.text, self.money.currency)


class Pin:
    """The operator's root that this customer accepted, and with it the one gateway; remembers the chains that it has verified."""

    def __init__(self, root: bytes, operator: str) -> None:
        self.root = root
        self.operator = operator
        self.gateway = ids.urn(operator, "gateway")
        self.audience = ids.urn(operator, "customer")
        self._verified: dict[tuple[bytes, ...], VerifiedCertificate] = {}

    def certificate(self, chain: tuple[bytes, ...], at: int) -> VerifiedCertificate:
        """The leaf of a chain that leads to the pinned root, its dates seen with 24 hours of tolerance; else ProtocolViolation."""
        known = self._verified.get(chain)
        if known is None:
            known = certificates.verify_chain(chain, root=self.root, at=_nearest_valid(chain, at), operator=self.operator)
            if len(self._verified) >= _CHAINS_KEPT:
                self._verified.clear()
            self._verified[chain] = known
        if not known.not_before - CLOCK_TOLERANCE_S <= at <= known.not_after + CLOCK_TOLERANCE_S:
            _violation("certificate_dates", "more than a day outside the certificate's life")
        return known


@dataclass(frozen=True, slots=True)
class Opening:
    """R4 as this customer may believe it; only `verify_opening` makes one. `notes` are sentences for the customer."""

    redirect: Redirect
    gateway: str
    merchant: str
    payee: str
    money: Money
    text: str
    order_hash: str
    keys: SignedMessage[Keys]
    seal: VerifiedCertificate
    signed_in: bool
    oi: str
    """The salted hash of the order's lines, as the shop signed it; empty in the plain form."""
    clock_offset_s: int
    """To add to the customer's clock, so that what he signs bears the gateway's time."""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Sealing:
    """SK for one opening, the `key` message that carries it, and the running number of the messages under it."""

    opening: Opening
    session: SessionKey = field(repr=False)
    key: str
    sequence: int = 0

    def next(self) -> int:
        """The next running number, from 1."""
        self.sequence += 1
        return self.sequence


class _Merchant(msgspec.Struct, frozen=True):
    id: str
    urn: str
    name: str


class _Opening(msgspec.Struct, frozen=True):
    gateway: str
    merchant: _Merchant
    tid: str
    amount: str
    currency: str
    order: str
    order_hash: str
    keys: str
    merchant_chain: tuple[str, ...]
    signed_in: bool = False


@dataclass(frozen=True, slots=True)
class _PinnedTrust:
    """One party's keys under the pin; an order brings its certificates `beside` it, everything else in its header."""

    pin: Pin
    urn: str
    at: int
    beside: tuple[bytes, ...] = ()

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:  # noqa: ARG002 - the dates were seen with the tolerance
        """The leaf's key; its dates are not looked at a second time."""
        certificate = self.pin.certificate(chain or self.beside, self.at)
        if certificate.kid != kid or certificate.urn != self.urn:
            _violation("unknown_key", f"not a key of {self.urn}")
        return RegisteredKey(
            kid=kid, urn=certificate.urn, purpose=certificate.purpose, public=certificate.public, not_before=0, not_after=_FOR_EVER
        )


def read_redirect(query: str) -> Redirect:
    """The clear part of the address, each name once and in its grammar; anything else is BadInput."""
    if len(query) > QUERY_MAX:
        raise BadInput("the payment address is too long")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, encoding="utf-8", errors="strict", max_num_fields=8)
    except ValueError as error:
        raise BadInput("the payment address has no readable query") from error
    values = dict(pairs)
    if len(values) != len(pairs) or not {"MID", "TID", "AMOUNT", "CUR"} <= set(values) <= {"MID", "TID", "AMOUNT", "CUR", "ORDER", "lang"}:
        raise BadInput("the payment address needs MID, TID, AMOUNT and CUR, each once")
    order = values.get("ORDER", "")
    if len(order) > signed.MESSAGE_MAX:
        raise BadInput("ORDER")
    return Redirect(
        merchant_id=ids.check(ids.PARTY_ID, values["MID"], "MID"),
        tid=ids.check(ids.TID, values["TID"], "TID"),
        money=money.parse_money(values["AMOUNT"], values["CUR"]),
        order=order,
    )


def peek_operator(unverified: bytes) -> str:
    """The operator that an opening claims to come from, to choose the pin by; says nothing about its truth."""
    parts = _decode_opening(unverified).gateway.split(":")
    if len(parts) != 4 or parts[:2] != ["urn", "hanbit"] or parts[3] != "gateway":  # noqa: PLR2004 - urn:hanbit:<operator>:gateway
        _violation("gateway", "not a gateway's name")
    return parts[2]


def peek_time(unverified: bytes) -> int:
    """When an opening says that it was made; only a test operator's, whose clock may be moved, is believed that."""
    at = signed.peek_claims(_decode_opening(unverified).keys).get("iat")
    if not isinstance(at, int) or not 0 <= at <= INSTANT_MAX:
        _violation("opening", "iat")
    return at


def verify_opening(unverified: bytes, *, redirect: Redirect, pin: Pin, at: int) -> Opening:
    """Checks 1 to 12; raises ProtocolViolation naming the broken rule."""
    shown = _decode_opening(unverified)
    if shown.gateway != pin.gateway:
        _violation("gateway", "not the gateway that is pinned")
    keys = verify_pinned(shown.keys, Keys, pin=pin, urn=pin.gateway, audience=pin.audience, at=at)
    seal = pin.certificate((*signed.decode_chain((keys.claims.seal,)), *signed.peek_chain(keys.compact)[1:]), at)
    if seal.urn != pin.gateway or seal.purpose != "gateway-seal":
        _violation("seal", f"a {seal.purpose} key of {seal.urn}")
    _same(keys.claims, redirect, "keys")
    merchant = ids.urn(pin.operator, "merchant", redirect.merchant_id)
    if (shown.merchant.id, shown.merchant.urn) != (redirect.merchant_id, merchant):
        _violation("merchant", "not the merchant of the address")
    if shown.merchant.name != keys.claims.payee:
        _violation("payee", "another name is shown than the gateway signed")
    if shown.order != redirect.order:
        _violation("order", "not the order of the address")
    order = _verify_order(shown, redirect, merchant, pin=pin, at=at) if redirect.order else None
    order_hash = order.hash if order else redirect.plain_hash
    if keys.claims.order != order_hash:
        _violation("order", "the gateway's keys are for another order")
    if (shown.tid, shown.amount, shown.currency, shown.order_hash) != (
        redirect.tid, redirect.money.text, redirect.money.currency, order_hash,
    ):  # fmt: skip
        _violation("shown", "the opening contradicts itself")
    return Opening(
        redirect=redirect,
        gateway=pin.gateway,
        merchant=merchant,
        payee=keys.claims.payee,
        money=redirect.money,
        text=order.claims.text if order else "",
        order_hash=order_hash,
        keys=keys,
        seal=seal,
        signed_in=shown.signed_in,
        oi=order.claims.oi if order else "",
        clock_offset_s=keys.claims.iat - at,
        notes=_clock_notes(keys.claims.iat, at),
    )


def begin(opening: Opening) -> Sealing:
    """R5, R7: a fresh SK, sealed to the key that `verify_opening` found good (PBkb(SK))."""
    claims = opening.keys.claims
    session, key = sealed.seal_key(opening.seal.public, opening.seal.kid, ctx=claims.ctx, n=claims.n, tid=claims.tid)
    return Sealing(opening, session, key)


def seal_login(sealing: Sealing, *, login_id: str, password: str) -> str:
    """R5: SK(ID, password) (18)."""
    plain = {"method": "password", "id": _secret(login_id, "the login ID"), "password": _secret(password, "the login password")}
    return sealed.seal(sealing.session, sealed.LOGIN_TYP, plain, sealing.next())


def make_core(opening: Opening, account: str) -> str:
    """R7: the text of what the customer approves: this amount, payee and order, from this account. Later checks are over these bytes."""
    core = Core(
        v=VERSION,
        gateway=opening.gateway,
        merchant=opening.merchant,
        tid=opening.redirect.tid,
        order=opening.order_hash,
        amount=opening.money.text,
        currency=opening.money.currency,
        account=account,
        salt=_salt(),
        ctx=opening.keys.claims.ctx,
    )
    return msgspec.json.encode(core).decode("utf-8")


def auth_password(password: str) -> str:
    """The account's own password (22); it proves the person to the gateway and to nobody else."""
    return _auth("password", _secret(password, "the account password"))


def auth_device(opening: Opening, core: str, signer: Signer, at: int) -> str:
    """A consent signed by the enrolled device key over the hash of the core: nobody can deny it later (A25)."""
    consent = Consent(**signed.head(signer, opening.gateway, at + opening.clock_offset_s), core=_hash(core), order=opening.order_hash)
    return _auth("device", signed.sign(consent, signer).compact)


def auth_code(binding: CodeBinding, core: str, secret: bytes) -> str:
    """The one-time code by session key (A24): good for this SK (`sealing.session.code_binding`) and this core only."""
    return _auth("code", sealed.code_value(secret, binding, _hash(core)))


def typed_number(number: str) -> tuple[str, bytes]:
    """A typed account or card number: how the core names it, and the salt to send beside it."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return sealed.typed_account(_secret(number, "the account or card number"), salt), salt


def seal_pay(sealing: Sealing, core: str, auth: str, *, number: str | None = None, number_salt: bytes | None = None) -> str:
    """R7: SK(PI, TID, AMOUNT) (22)."""
    plain = sealed.pay_plain(core, auth, number=number, number_salt=number_salt)
    return sealed.seal(sealing.session, sealed.PAY_TYP, plain, sealing.next())


def verify_receipt(unverified: str | bytes, *, opening: Opening, payment: str | None, pin: Pin, at: int) -> SignedMessage[Receipt]:
    """Checks 13 to 15 (28); raises ProtocolViolation naming the broken rule. `payment` is None where nobody told its number before."""
    receipt = verify_pinned(unverified, Receipt, pin=pin, urn=pin.gateway, audience=pin.audience, at=at)
    _same(receipt.claims, opening.redirect, "receipt")
    if receipt.claims.order != opening.order_hash:
        _violation("receipt", "for another order")
    if receipt.claims.payee != opening.payee:
        _violation("receipt", "for another payee")
    if payment is not None and receipt.claims.payment != payment:
        _violation("receipt", "of another payment")
    return receipt


def verify_pinned(
    unverified: str | bytes, kind: type[M], *, pin: Pin, urn: str, audience: str, at: int, beside: tuple[bytes, ...] = ()
) -> SignedMessage[M]:
    """A message signed by this party, certified up to the pinned root, its dates seen with 24 hours of tolerance."""
    trust = _PinnedTrust(pin, urn, at, beside)
    # The latest time that the tolerance allows: a message from a gateway whose clock is right must not look like one from the future.
    return signed.verify(unverified, kind, trust=trust, audience=audience, at=at + CLOCK_TOLERANCE_S, sender=urn)


def _decode_opening(unverified: bytes) -> _Opening:
    if len(unverified) > OPENING_MAX:
        _violation("size", "opening")
    try:
        return msgspec.json.decode(unverified, type=_Opening)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise ProtocolViolation("opening", str(error)[:200]) from error


def _verify_order(shown: _Opening, redirect: Redirect, merchant: str, *, pin: Pin, at: int) -> SignedMessage[Order]:
    beside = signed.decode_chain(shown.merchant_chain)
    order = verify_pinned(redirect.order, Order, pin=pin, urn=merchant, audience=pin.gateway, at=at, beside=beside)
    _same(order.claims, redirect, "order")
    return order


def _same(claims: Keys | Order | Receipt, redirect: Redirect, what: str) -> None:
    if claims.tid != redirect.tid:
        _violation(what, "for another transaction number than the address")
    if (claims.amount, claims.currency) != (redirect.money.text, redirect.money.currency):
        _violation(what, "for another amount than the address")


def _nearest_valid(chain: tuple[bytes, ...], at: int) -> int:
    """Within the tolerance, the time nearest to ours at which this leaf claims to be valid; else our time, at which it will be refused."""
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        first, last = int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp())
    except (IndexError, *UNREADABLE):  # no certificate at all: verify_chain says what is wrong with it
        return at
    nearest = min(max(at, first), last)
    return nearest if abs(nearest - at) <= CLOCK_TOLERANCE_S else at


def _clock_notes(gateway_time: int, at: int) -> tuple[str, ...]:
    difference = at - gateway_time
    if abs(difference) < CLOCK_NOTE_S:
        return ()
    minutes, direction = abs(difference) // 60, "ahead of" if difference > 0 else "behind"
    return (f"The clock of this computer is {minutes} minutes {direction} the payment server's: set it right.",)


def _auth(method: str, value: str) -> str:
    return msgspec.json.encode(Auth(method=method, value=value, salt=_salt())).decode("utf-8")


def _hash(core: str) -> str:
    return ids.digest(core.encode("utf-8"))


def _salt() -> str:
    return ids.encode_base64url(secrets.token_bytes(_SALT_BYTES))


def _secret(text: str, what: str) -> str:
    if not 0 < len(text) <= SECRET_MAX or _HALF_CHARACTER.search(text):
        raise BadInput(f"{what} has 1 to {SECRET_MAX} characters")
    return text


def _violation(rule: str, detail: str) -> NoReturn:
    raise ProtocolViolation(rule, detail)
